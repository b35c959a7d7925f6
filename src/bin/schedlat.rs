//! `schedlat`: how long tasks wait for a CPU, and what each process made of the scheduler.
//!
//! Follows the scheduler's wake-ups and switches by eBPF, on Linux.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use telepipe::bpf::args::EventArgs;
use telepipe::common::options::Common;
use telepipe::common::program::Generate;
use telepipe::common::program::Program;
use telepipe::record::{Kind, LOST, RUNQ, RUNQ_EVENT, SCHED, STATUS};

const MIN: &str = "The shortest wait that makes an event, such as 5ms (a bare number is seconds); 0 for all";

/// Run-queue latency and scheduling of processes, as JSON lines
///
/// Every interval one record of how long tasks that could run waited for a CPU, one for each of the processes that
/// waited most, and at once a record for each long wait.
#[derive(Parser)]
#[command(name = "schedlat")]
#[command(mut_arg("min", |arg| arg.default_value("10ms").help(MIN)))]
#[command(mut_arg("summary", |arg| arg.help("Write runq records for each interval [the default]")))]
#[command(mut_arg("no_summary", |arg| arg.help("Write no runq records")))]
struct Schedlat {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    event_args: EventArgs,

    /// A runq record for each CPU
    #[arg(long)]
    per_cpu: bool,

    /// A runq record for each cgroup (v2)
    #[arg(long)]
    per_cgroup: bool,

    /// Write sched records for each interval [the default]
    #[arg(long, overrides_with = "no_processes")]
    processes: bool,

    /// Write no sched records; a tenth less cost
    #[arg(long)]
    no_processes: bool,

    /// Of so many processes, those that waited most
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
    top: u64,

    /// Of all processes
    #[arg(long, conflicts_with = "top")]
    all: bool,

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[command(flatten)]
    tasks: telepipe::bpf::task::TaskFilter,

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[command(flatten)]
    types: telepipe::bpf::kernel::KernelTypes,

    /// How to hook into the kernel [default: the cheapest way that it takes]
    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[arg(long, value_name = "HOW", hide = true)]
    attach: Option<telepipe::bpf::attach::Attach>,

    /// Keep waits in the map of those whose place another thread has
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

    fn generate(&self) -> Option<Generate> {
        self.common.generate.what
    }

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    fn run(self) -> Result<()> {
        use telepipe::bpf::schedlat::{Options, Settings, run};

        self.common.refuse_foreign("scheduling is measured")?;
        let (events, summary) = (self.event_args.min(), self.event_args.summary(true));
        let processes = self.processes || !self.no_processes;
        if events.is_none() && !summary && !processes {
            let text = "--no-events, --no-summary, --no-processes: nothing is left to write";
            return Err(telepipe::common::program::Usage(text.into()).into());
        }
        let settings = Settings {
            attach: self.attach,
            no_task_slots: self.no_task_slots,
            tasks: self.tasks,
            types: self.types,
            by_cgroup: self.per_cgroup,
            processes,
            events,
        };
        run(Options {
            common: self.common,
            settings,
            summary,
            per_cpu: self.per_cpu,
            histogram: self.event_args.histogram(),
            top: if self.all { None } else { usize::try_from(self.top).ok() },
        })
    }

    #[cfg(not(all(target_os = "linux", feature = "bpf")))]
    fn run(self) -> Result<()> {
        anyhow::bail!("this build cannot trace: schedlat needs Linux, and the feature bpf when it is built")
    }
}

const OVERHEAD: &str = "\
One hook at each wake-up, one at each switch. They count in memory that is shared with the program: nothing is \
copied, and no process is woken, but for events. Linux 6.18 in a virtual machine, a wake-up and a switch together: 311 ns \
for runq records alone (--no-events), 323 ns with sched records, 740 ns for runqlat of libbpf-tools (`scripts/bench tracers`; all \
with the clock readings of kernel.bpf_stats_enabled in it).

The maps take at most 16 MiB of kernel memory, less where there are few CPUs; -v says how much. What waits is noted \
in an array of 32,768 places, by the thread's number, and in a map where another that waits has the place.";

const CAVEATS: &str = "\
A wait is counted when it ends. One that goes on is in no record yet; a task that was waiting already when schedlat \
began is counted from its next wait on.

A wait begins with the wake-up: that the task is moved to another CPU while it waits is part of it. The time in \
which a hypervisor runs somebody else is not seen by this kernel: a task that is on a CPU is taken to run.

The idle task is nobody: a CPU without work waits for nothing. The name in max_prev_comm and prev_comm is that of \
the task that left the CPU last, which may be the idle task (swapper): the wait was then that for the CPU to wake up.

In sched records the time on a CPU is split between intervals; waits and switches count where they end. \
The switches of one process are those of all its threads, as the sum of /proc/PID/task/*/status has them.

What shares this program's process group is left out, unless --include-self is given: with it, all that a shell \
without job control starts beside it, as in a script, from cron, over ssh with a command, or in CI. There, start it \
with setsid.

Processes that ran on none of the CPUs in an interval are not in it. Numbers of processes are those of the host, \
also when schedlat runs in a container, where --pid is refused.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<Schedlat>()
}
