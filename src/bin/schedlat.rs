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
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

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

const OVERHEAD: &str = "\
One hook at each wake-up and one at each switch. They count in memory that is shared with the program: nothing is \
copied, and no process is woken, except for events. Linux 6.18 in a virtual machine, for a wake-up and a switch together: \
311 ns for runq records alone (--no-events), 323 ns with sched records, 740 ns for runqlat of libbpf-tools \
(`scripts/bench tracers`; all include the clock readings of kernel.bpf_stats_enabled).

The maps take at most 16 MiB of kernel memory, less on machines with few CPUs; -v prints how much. The begin of a wait \
is kept in an array with 32,768 slots, chosen by the thread's number, or in a hash map if another waiting thread owns \
that slot.";

const CAVEATS: &str = "\
A wait is counted when it ends. One that goes on is in no record yet, and a task that was already waiting when \
schedlat started is counted from its next wait on.

A wait begins with the wake-up, and includes the move to another CPU. Time in which a hypervisor runs another \
machine is not visible to this kernel: a task that is on a CPU counts as running.

The idle task is not counted. The name in max_prev_comm and prev_comm is that of the task that left the CPU last; \
if it is the idle task (swapper), the wait was for the CPU to wake up.

In sched records, cpu_time_us and runq_us are the kernel's own totals, those of /proc/PID/schedstat. For a task that is on a \
CPU when an interval ends, its time so far is counted by the clock, and corrected when it leaves the CPU. A wait in \
runq records is measured from hook to hook, and is some microseconds longer than the kernel's. Kernels without \
CONFIG_SCHED_INFO keep no total of waits; there, runq_us is measured as well.

Switches and other counts of a process are sums over all its threads. Processes that ran on no CPU in an interval \
have no record.

Some sandboxes run no eBPF program while a thread of PID 1 runs. A switch from such a thread is not seen: the wait of the \
thread that follows is not counted, and is reported as lost (\"switches at which no program was run\"). The CPU time of \
that thread is counted all the same, and its run delay too unless its wake-up was not seen either. The CPU time and the \
switches of PID 1 itself are incomplete there.

schedlat leaves out itself and the processes that read its output through pipes, unless --include-self is given. A \
process that joins the pipeline later is found within a second, or, on machines with so many open files that a look \
takes longer than 10 ms, within a hundred times as long as that look.

Process numbers are those of the host, also when schedlat runs in a container, where --pid is refused.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<Schedlat>()
}
