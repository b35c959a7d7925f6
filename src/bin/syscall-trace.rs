//! `syscall-trace`: traces system calls that take long or do not return, and counts all of them.
//!
//! Hooks the entry and the exit of every system call by eBPF, on Linux.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use telepipe::bpf::args::TracerArgs;
use telepipe::common::program::Program;
use telepipe::record::{Kind, LOST, STATUS, SYSCALL, SYSCALL_STUCK, SYSCALL_SUMMARY};

/// Print slow and stuck system calls, and the latency of all, as JSON lines
///
/// Writes one record for each system call that took at least --min, with its arguments, its return value and its
/// caller. Calls that wait by design, for an event, another task or a time, are left out unless --waits is given or
/// --syscall names one of them.
#[derive(Parser)]
#[command(name = "syscall-trace")]
#[command(mut_arg("min", |arg| arg.default_value("10ms")))]
#[command(mut_arg("summary", |arg| arg.help("Write counts and latency of all calls by name, every interval")))]
#[command(mut_arg("no_summary", |arg| arg.help("Write no records for intervals [the default]")))]
struct SyscallTrace {
    #[command(flatten)]
    tracer: TracerArgs,

    /// Every interval, write the calls in progress for at least this time
    #[arg(long, value_name = "TIME", value_parser = telepipe::common::units::duration, allow_hyphen_values = true, help_heading = "Output")]
    stuck: Option<Duration>,

    /// Trace calls that wait by design too, such as poll and futex
    #[arg(long, help_heading = "Filters")]
    waits: bool,

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[command(flatten)]
    calls: telepipe::bpf::syscall::Calls,

    /// Use only the hash map for the state of tasks
    #[arg(long, hide = true)]
    no_task_slots: bool,
}

impl Program for SyscallTrace {
    const KINDS: &'static [&'static Kind] = &[&SYSCALL, &SYSCALL_STUCK, &SYSCALL_SUMMARY, &STATUS, &LOST];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Calls that take at least 10 ms", "sudo syscall-trace"),
        ("Slow opens and syncs of files", "sudo syscall-trace --min 1ms --syscall openat,fsync,fdatasync"),
        ("Calls that have hung for five seconds", "sudo syscall-trace --no-events --stuck 5s"),
        (
            "Count and latency of all calls by name",
            "sudo syscall-trace --no-events --summary -f '{syscall, count, sum_us, p99_us}'",
        ),
        ("Every call of one process", "sudo syscall-trace --min 0 --waits --pid 1"),
        (
            "Send calls and histograms to an OpenTelemetry Collector",
            "sudo syscall-trace --summary | tele-ship --otlp",
        ),
    ];
    const NOTES: &'static str = include_str!("syscall-trace.md");

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    fn run(self) -> Result<()> {
        use telepipe::bpf::{syscall, tracer};

        let Self { tracer: args, waits, stuck, calls, no_task_slots } = self;
        if args.events.min().is_none() && !args.events.summary(false) && stuck.is_none() {
            telepipe::bail_usage!("--no-events leaves nothing to print; add --summary or --stuck");
        }
        tracer::run::<syscall::SyscallTrace>(&args, syscall::Options { calls, waits, stuck, no_task_slots })
    }

    #[cfg(not(all(target_os = "linux", feature = "bpf")))]
    fn run(self) -> Result<()> {
        anyhow::bail!("this build cannot trace: syscall-trace needs Linux, and a build with the feature bpf")
    }
}

fn main() -> ExitCode {
    telepipe::common::entry::main::<SyscallTrace>()
}
