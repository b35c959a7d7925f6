//! `pagefault-trace`: traces page faults that wait for a device or take long, and counts all of them.
//!
//! Reads the page-fault tracepoints and software events by eBPF, on Linux.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use clap::builder::RangedU64ValueParser;

use telepipe::bpf::args::TracerArgs;
use telepipe::common::program::Program;
use telepipe::record::{Kind, LOST, PAGEFAULT, PAGEFAULT_PROCESS, PAGEFAULT_SUMMARY, STATUS};

const MIN: &str = "Write a record for each minor fault of at least this time, such as 50us (a bare number is \
    seconds); 0 for all";

/// Print slow and major page faults, and the latency of all, as JSON lines
///
/// Writes one record for each major fault and for each fault that took at least --min, and every interval the count
/// and the latency of all faults by type (minor, major), access (read, write) and mode (user, kernel).
#[derive(Parser)]
#[command(name = "pagefault-trace")]
#[command(mut_arg("min", |arg| arg.default_value("100us").help(MIN)))]
#[command(mut_arg("events", |arg| arg.help("Write a record for each slow or major fault [the default]")))]
#[command(mut_arg("no_events", |arg| arg.help("Write no records for single faults")))]
struct PagefaultTrace {
    #[command(flatten)]
    tracer: TracerArgs,

    /// Add the file that is mapped at the address (keeps CAP_SYS_PTRACE)
    #[arg(long, help_heading = "Output")]
    resolve: bool,

    /// Write the processes that spent most time on faults, every interval
    #[arg(long, help_heading = "Output")]
    per_process: bool,

    /// How many processes to write
    #[arg(long, value_name = "N", default_value_t = 10, requires = "per_process", help_heading = "Output")]
    #[arg(value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    top: usize,

    /// Use only the hash map for the state of threads
    #[arg(long, hide = true)]
    no_task_slots: bool,
}

impl Program for PagefaultTrace {
    const KINDS: &'static [&'static Kind] =
        &[&PAGEFAULT, &PAGEFAULT_SUMMARY, &PAGEFAULT_PROCESS, &STATUS, &LOST];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Slow and major faults, and the latency of all faults every second", "sudo pagefault-trace"),
        (
            "The files that major faults read from",
            "sudo pagefault-trace --resolve --no-summary -f 'select(.major)'",
        ),
        (
            "The processes that spend most time on page faults",
            "sudo pagefault-trace --per-process --no-events --no-summary",
        ),
        ("Send the histograms to an OpenTelemetry Collector", "sudo pagefault-trace | tele-ship --otlp"),
    ];
    const NOTES: &'static str = include_str!("pagefault-trace.md");

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    fn run(self) -> Result<()> {
        use telepipe::bpf::{pagefault, tracer};

        let Self { tracer: args, resolve, per_process, top, no_task_slots } = self;
        if !args.events.summary(true) && args.events.min().is_none() && !per_process {
            telepipe::bail_usage!("--no-events and --no-summary leave nothing to print; add --per-process");
        }
        let options = pagefault::Options { processes: per_process.then_some(top), resolve, no_task_slots };
        tracer::run::<pagefault::PagefaultTrace>(&args, options)
    }

    #[cfg(not(all(target_os = "linux", feature = "bpf")))]
    fn run(self) -> Result<()> {
        anyhow::bail!(
            "this build cannot trace: pagefault-trace needs Linux, and a build with the feature bpf"
        )
    }
}

fn main() -> ExitCode {
    telepipe::common::entry::main::<PagefaultTrace>()
}
