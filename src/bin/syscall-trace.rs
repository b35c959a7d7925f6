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
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

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

const OVERHEAD: &str = "\
Two hooks run at every system call of the machine, whether it is selected or not. Both together took 247 ns per call, \
256 ns with --summary (two empty programs: 98 ns), against 439 ns for syscount -L and 534 ns for a bpftrace script with \
the same threshold. A loop of getppid took 458 ns per call instead of 174 ns; with syscount 676 ns. Measured on two \
CPUs of an idle virtual machine (AMD EPYC, Linux 6.18); `scripts/bench tracers` repeats it.

With --min 0, one CPU wrote all of 800,000 calls per second that the other made. With other load on the machine, 5 % \
of as many were lost, and reported as lost.

The maps take at most 16 MiB of kernel memory; -v shows how much. 32,768 threads have a slot for their call. A hash map \
has room for 8,192 threads whose slot is in use: enough for some 26,000 threads in all. Calls for which there is no room \
are reported as lost.";

const CAVEATS: &str = "\
A call is reported when it returns. Calls that never return are seen by --stuck only: exit, exit_group, and a call in \
which its thread is killed.

The time is from the kernel's hook at entry to that at exit. It does not include the processor's switch to the kernel, \
nor signal handling and scheduling on the way back. A call that a signal interrupts ends with ERESTARTSYS or a similar \
error; restarted by the kernel, it is a new call.

Calls that began before syscall-trace are not reported when they return, because their time is unknown. --stuck reports \
them with at_least_us, from the saved registers of the sleeping thread.

Arguments are numbers as passed; the memory that they point to is not read. They are read when the call returns, except \
for execve and execveat, so a debugger can have changed them.

Since Linux 7.0 a task can be preempted while a hook runs. Calls that other tasks enter or leave on that CPU meanwhile \
are not seen, and are reported as lost.

Process and thread numbers are those of the initial PID namespace, also inside a container, where --pid is refused.

--syscall with the name of a call that waits by design implies --waits. So do the names of reads and writes, which wait \
for pipes, terminals, sockets, and devices that support poll. Which of these it is, is looked up by descriptor when the \
call returns; if another thread has closed the descriptor by then, the call counts as one that does not wait. Files of a \
file system never count as waiting, not even /proc/kmsg or trace_pipe.

Numbers that are newer than this program are named syscall_N, and have the class other.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<SyscallTrace>()
}
