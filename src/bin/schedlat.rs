//! `schedlat`: how long tasks wait for a CPU, and what each process does on the CPUs.
//!
//! Traces the scheduler's wake-ups and switches by eBPF, on Linux.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use telepipe::bpf::args::TracerArgs;
use telepipe::common::program::Program;
use telepipe::record::{Kind, LOST, RUNQ, RUNQ_EVENT, SCHED, STATUS};

const MIN: &str =
    "Write a record for each wait of at least this time, such as 5ms (a bare number is seconds); 0 for all";

/// Print run-queue latency and the scheduling of processes as JSON lines
///
/// Writes one record per interval of how long tasks that could run waited for a CPU, one for each of the processes
/// that waited most, and a record for each long wait when it ends.
#[derive(Parser)]
#[command(name = "schedlat")]
#[command(mut_arg("min", |arg| arg.default_value("10ms").help(MIN)))]
#[command(mut_arg("events", |arg| arg.help("Write a record for each wait of at least --min [the default]")))]
#[command(mut_arg("no_events", |arg| arg.help("Write no records for single waits")))]
#[command(mut_arg("summary", |arg| arg.help("Write runq records for each interval [the default]")))]
#[command(mut_arg("no_summary", |arg| arg.help("Write no runq records")))]
struct Schedlat {
    #[command(flatten)]
    tracer: TracerArgs,

    /// Write a runq record for each CPU
    #[arg(long, help_heading = "Output")]
    per_cpu: bool,

    /// Write a runq record for each cgroup (v2)
    #[arg(long, help_heading = "Output")]
    per_cgroup: bool,

    /// Write sched records for each interval [the default]
    #[arg(long, overrides_with = "no_processes", help_heading = "Output")]
    processes: bool,

    /// Write no sched records
    #[arg(long, help_heading = "Output")]
    no_processes: bool,

    /// Write sched records for the N processes that waited most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    #[arg(help_heading = "Output")]
    top: u64,

    /// Write sched records for all processes
    #[arg(long, conflicts_with = "top", help_heading = "Output")]
    all: bool,

    /// Keep all waits in the map for threads that do not own their slot
    #[arg(long, hide = true)]
    no_task_slots: bool,
}

impl Program for Schedlat {
    const KINDS: &'static [&'static Kind] = &[&RUNQ, &RUNQ_EVENT, &SCHED, &STATUS, &LOST];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Every second, how long tasks wait for a CPU, and which processes wait most", "sudo schedlat"),
        ("Who waits more than 20 ms, and for whom", "sudo schedlat --min 20ms --no-summary --no-processes"),
        (
            "Is one CPU worse than the others? The 99th percentile of each, as text",
            r#"sudo schedlat --per-cpu --no-processes -f 'select(.kind == "runq") | "\(.cpu) \(.p99_us) us"'"#,
        ),
        ("To an OpenTelemetry Collector, bucket for bucket", "sudo schedlat --per-cgroup | tele-ship --otlp"),
    ];
    const NOTES: &'static str = include_str!("schedlat.md");

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    fn run(self) -> Result<()> {
        use telepipe::bpf::{schedlat, tracer};

        let processes = self.processes || !self.no_processes;
        let args = self.tracer;
        if args.events.min().is_none() && !args.events.summary(true) && !processes {
            telepipe::bail_usage!(
                "--no-events, --no-summary and --no-processes leave nothing to print; leave one out"
            );
        }
        let options = schedlat::Options {
            per_cpu: self.per_cpu,
            per_cgroup: self.per_cgroup,
            processes,
            top: if self.all { None } else { usize::try_from(self.top).ok() },
            no_task_slots: self.no_task_slots,
        };
        tracer::run::<schedlat::Schedlat>(&args, options)
    }

    #[cfg(not(all(target_os = "linux", feature = "bpf")))]
    fn run(self) -> Result<()> {
        anyhow::bail!("this build cannot trace: schedlat needs Linux, and the feature bpf when it is built")
    }
}

fn main() -> ExitCode {
    telepipe::common::entry::main::<Schedlat>()
}
