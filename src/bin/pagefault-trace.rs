//! `pagefault-trace`: page faults that wait for a device or take long, and all of them counted.
//!
//! Follows exceptions and the kernel's own events of page faults by eBPF, on Linux.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;

use telepipe::bpf::args::EventArgs;
use telepipe::common::options::Common;
use telepipe::common::program::Generate;
use telepipe::common::program::Program;
use telepipe::record::{Kind, LOST, PAGEFAULT, PAGEFAULT_PROCESS, PAGEFAULT_SUMMARY, STATUS};

const MIN: &str = "The shortest time that makes a record of a minor fault, such as 50us (a bare number is seconds); 0 for all";

/// Page faults with their latency, as JSON lines
///
/// One record for each major fault and for each that took as long as --min, and every interval the count and the
/// latency of all of them: minor and major, read and write, user and kernel.
#[derive(Parser)]
#[command(name = "pagefault-trace")]
#[command(mut_arg("min", |arg| arg.default_value("100us").help(MIN)))]
#[command(mut_arg("events", |arg| arg.help("Write a record for each major fault, and each slow one [the default]")))]
struct PagefaultTrace {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    event_args: EventArgs,

    /// Name the file that is mapped at the address (keeps CAP_SYS_PTRACE)
    #[arg(long)]
    resolve: bool,

    /// Every interval, the processes that spent most time on faults
    #[arg(long)]
    per_process: bool,

    /// So many of them
    #[arg(long, value_name = "N", default_value_t = 10, requires = "per_process")]
    top: usize,

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[command(flatten)]
    tasks: telepipe::bpf::task::TaskFilter,

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[command(flatten)]
    types: telepipe::bpf::kernel::KernelTypes,

    /// How to hook into the kernel [default: the cheapest way that it takes]
    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[arg(long, value_name = "HOW", hide = true)]
    attach: Option<telepipe::bpf::pagefault::Way>,

    /// Keep what has begun in the map of those whose place another thread has
    #[arg(long, hide = true)]
    no_task_slots: bool,
}

impl Program for PagefaultTrace {
    const KINDS: &'static [&'static Kind] =
        &[&PAGEFAULT, &PAGEFAULT_SUMMARY, &PAGEFAULT_PROCESS, &STATUS, &LOST];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        (
            "Faults that wait for a disk or take long, and every second the count of all",
            "sudo pagefault-trace",
        ),
        (
            "Which files are read in by faults",
            "sudo pagefault-trace --resolve --no-summary -f 'select(.major)'",
        ),
        (
            "Who spends most time on page faults",
            "sudo pagefault-trace --per-process --no-events --no-summary",
        ),
        ("To an OpenTelemetry Collector, bucket for bucket", "sudo pagefault-trace | tele-ship --otlp"),
    ];
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

    fn generate(&self) -> Option<Generate> {
        self.common.generate.what
    }

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    fn run(self) -> Result<()> {
        use telepipe::bpf::pagefault::{Options, Settings, run};

        self.common.refuse_foreign("page faults are measured")?;
        let events = self.event_args.min();
        let settings = Settings {
            attach: self.attach,
            no_task_slots: self.no_task_slots,
            tasks: self.tasks,
            types: self.types,
            summary: self.event_args.summary(true),
            processes: self.per_process,
            events,
            at_once: self.resolve,
        };
        if !settings.summary && !settings.processes && events.is_none() {
            let text = "--no-events, --no-summary: nothing is left to write without --per-process";
            return Err(telepipe::common::program::Usage(text.into()).into());
        }
        let (common, histogram, top) = (self.common, self.event_args.histogram(), self.top);
        run(Options { common, settings, histogram, top, resolve: self.resolve && events.is_some() })
    }

    #[cfg(not(all(target_os = "linux", feature = "bpf")))]
    fn run(self) -> Result<()> {
        anyhow::bail!(
            "this build cannot trace: pagefault-trace needs Linux, and the feature bpf when it is built"
        )
    }
}

const OVERHEAD: &str = "\
Two hooks per fault: at the exception, and where the kernel raises its software event of a fault that is done. They \
count in memory that is shared with the program: nothing is copied, and no process is woken, but for events. \
Linux 6.18 in a virtual machine, both together: 397 ns, 424 ns with --per-process, 972 ns for a bpftrace script with \
the same hooks (`scripts/bench tracers`; all with the clock readings of kernel.bpf_stats_enabled in it).

The maps take at most 16 MiB of kernel memory up to 100 CPUs; -v says how much.";

const CAVEATS: &str = "\
The time ends when the page is there, some hundred nanoseconds before the thread goes on.

Pages that the kernel itself makes present on request (MADV_POPULATE_WRITE, MAP_POPULATE, mlock, direct I/O and \
others that get_user_pages serves) are no exceptions: getrusage counts them as faults of the process, the software \
events and pagefault-trace do not. In no record is a fault that fails (SIGSEGV, SIGBUS), one in which its thread is \
killed, and one that was under way when pagefault-trace began: nobody knows how long these took.

A fault is major if the kernel had to wait for a device, as getrusage counts. The second try of a fault, after such a \
wait, belongs to the first: its time is in the record. Where it ended without, the kernel calls it major all the same.

What shares this program's process group is left out, unless --include-self is given: with it, all that a shell \
without job control starts beside it, as in a script, from cron, over ssh with a command, or in CI. There, start it \
with setsid.

--resolve looks into /proc/PID/maps when the record is written, soon after the fault: a process that has ended or \
changed its mappings by then has none to tell.

CPUs that come online later are not seen. Where the exceptions have no tracepoints (arm64), handle_mm_fault is \
followed instead, which knows no instruction (ip): by fentry and fexit, or, where functions have no such hooks, by a \
kprobe and a kretprobe. Of such calls the kernel keeps track of a few at a time (some kernels of as many as there are \
CPUs); if more threads than that wait in faults, the end of the others is not seen, and they are told as lost. Of a fault that \
was under way at the start, what is left may be told as one of its own.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<PagefaultTrace>()
}
