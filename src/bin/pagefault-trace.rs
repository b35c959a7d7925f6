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
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

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

const OVERHEAD: &str = "\
Two hooks run for each fault: at the exception, and at the software event of a fault that is done. They count in \
memory shared with the program; only events are copied. Both together took 397 ns per fault, 424 ns with \
--per-process, and 972 ns for a bpftrace script with the same hooks (Linux 6.18 in a virtual machine, with the clock \
readings of kernel.bpf_stats_enabled). `scripts/bench tracers` repeats the measurement.

The maps take at most 16 MiB of kernel memory on up to 100 CPUs; -v shows how much.";

const CAVEATS: &str = "\
The time ends when the page is present, some hundred nanoseconds before the thread continues.

Pages that the kernel makes present on request are not faults by exception: MADV_POPULATE_WRITE, MAP_POPULATE, \
mlock, direct I/O and other users of get_user_pages. getrusage counts them as faults of the process; the software \
events and pagefault-trace do not.

Not reported are faults that fail (SIGSEGV, SIGBUS), faults in which the thread is killed, and faults that were in \
progress when pagefault-trace started, because their time is unknown.

A fault is major if the kernel had to wait for a device, as in getrusage. A fault that is tried again after such a \
wait is one fault, and its time includes the wait. The kernel counts it as major even if the first try ended without \
waiting.

--resolve reads /proc/PID/maps when it writes the record, soon after the fault. There is no mapping in the record if \
the process has ended, or changed its mappings, by then.

CPUs that come online later are not traced.

Where exceptions have no tracepoints (arm64), handle_mm_fault is traced instead, and records have no ip. Without \
fentry this uses a kretprobe, which tracks a limited number of calls (on some kernels as many as there are CPUs); if \
more threads wait in faults, the others are counted as lost. A fault in progress at the start can be reported with \
only the rest of its time.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<PagefaultTrace>()
}
