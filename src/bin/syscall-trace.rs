//! `syscall-trace`: system calls that take long, that do not return, and all of them counted.
//!
//! Hooks the entry and the exit of every system call by eBPF, on Linux.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::Parser;

use telepipe::bpf::args::EventArgs;
use telepipe::common::options::Common;
use telepipe::common::program::Generate;
use telepipe::common::program::Program;
use telepipe::record::{Kind, LOST, STATUS, SYSCALL, SYSCALL_STUCK, SYSCALL_SUMMARY};

/// System calls that take long or do not return, as JSON lines
///
/// One record for each system call that took as long as --min, with its arguments, what it returned and who called.
/// Calls that wait by design (for an event, another task or a time) are left out unless --waits is given, or --syscall
/// names one of them, or one that waits on some files (read, write).
#[derive(Parser)]
#[command(name = "syscall-trace")]
#[command(mut_arg("min", |arg| arg.default_value("10ms")))]
#[command(mut_arg("summary", |arg| arg.help("Every interval, count all calls by name, those too that wait")))]
#[command(mut_arg("no_summary", |arg| arg.help("Write no record for intervals [the default]")))]
struct SyscallTrace {
    #[command(flatten)]
    common: Common,

    #[command(flatten)]
    event_args: EventArgs,

    /// Tell calls that wait by design too
    #[arg(long)]
    waits: bool,

    /// Every interval, tell the calls that have not returned for this long (a bare number is seconds)
    #[arg(long, value_name = "TIME", value_parser = telepipe::common::units::duration, allow_hyphen_values = true)]
    stuck: Option<Duration>,

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[command(flatten)]
    calls: telepipe::bpf::syscall::Calls,

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

    /// Keep calls in the map of those whose place another thread has
    #[arg(long, hide = true)]
    no_task_slots: bool,
}

impl Program for SyscallTrace {
    const KINDS: &'static [&'static Kind] = &[&SYSCALL, &SYSCALL_STUCK, &SYSCALL_SUMMARY, &STATUS, &LOST];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Calls that take longer than 10 ms", "sudo syscall-trace"),
        (
            "What opens and syncs of files wait for",
            "sudo syscall-trace --min 1ms --syscall openat,fsync,fdatasync",
        ),
        ("Calls that hang for more than five seconds", "sudo syscall-trace --no-events --stuck 5s"),
        (
            "How many calls of each name, and how long they take",
            "sudo syscall-trace --no-events --summary -f '{syscall, count, sum_us, p99_us}'",
        ),
        ("Everything one process asks of the kernel", "sudo syscall-trace --min 0 --waits --pid 1"),
        ("To an OpenTelemetry Collector", "sudo syscall-trace --summary | tele-ship --otlp"),
    ];
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

    fn generate(&self) -> Option<Generate> {
        self.common.generate.what
    }

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    fn run(self) -> Result<()> {
        use telepipe::bpf::syscall::{Options, Settings, run};

        self.common.refuse_foreign("calls are traced")?;
        let (events, summary) = (self.event_args.min(), self.event_args.summary(false));
        if events.is_none() && !summary && self.stuck.is_none() {
            return Err(telepipe::common::program::Usage(
                "--no-events: nothing is left; add --summary or --stuck".into(),
            )
            .into());
        }
        let settings = Settings {
            attach: self.attach,
            no_task_slots: self.no_task_slots,
            choice: Box::new(self.calls.choice()?),
            // Who asks for a wait by its name wants to see it.
            waits: self.waits || self.calls.names_waits(),
            tasks: self.tasks,
            types: self.types,
            events,
            summary,
            stuck: self.stuck,
        };
        run(Options { common: self.common, settings, histogram: self.event_args.histogram() })
    }

    #[cfg(not(all(target_os = "linux", feature = "bpf")))]
    fn run(self) -> Result<()> {
        anyhow::bail!(
            "this build cannot trace: syscall-trace needs Linux, and the feature bpf when it is built"
        )
    }
}

const OVERHEAD: &str = "\
Two hooks run at every system call of the machine, whether it is asked for or not. Both together cost 247 ns per call \
(256 ns with --summary; 98 of these are what two empty programs show), where syscount -L costs 439 ns and a bpftrace \
script with the same threshold 534 ns. A loop that does nothing but getppid takes 458 ns a call instead of 174 \
while that is measured; beside syscount 676 ns. `scripts/bench tracers` repeats this; measured on two CPUs of a \
virtual machine (AMD EPYC, Linux 6.18) with little else to do.

With --min 0, 800,000 calls a second on one CPU became as many lines on the other, none lost. Where others use the \
machine it is less: of as many 5 % were lost once, and told.

The maps take at most 16 MiB of kernel memory, of which 1 is for the calls that up to 32,768 threads are in, and 1 for \
those of threads that find their place taken by another: 8,192 of them, which is as many as 26,000 threads have as a \
rule; calls beyond are told as lost. -v says how much.";

const CAVEATS: &str = "\
A call is seen when it returns. One that never does is seen by --stuck only: exit and exit_group of course, and a call \
in which its thread is killed.

The time is that between the kernel's own hooks: what the processor takes to enter the kernel, and what signal \
handlers and the scheduler add on the way out, is not in it. A call that a signal interrupts ends, with ERESTARTSYS or \
the like, and is a new call when the kernel enters it again.

Calls that began before the program did are not told when they return, because nobody knows how long they took; \
--stuck tells them with at_least_us, from the registers of their sleeping threads.

Arguments are what was passed, as numbers: what they point to is not read. They are taken when the call returns, \
but for execve and execveat; a debugger that changes them in between changes what is told.

From Linux 7 on a task can be preempted while a hook runs for it; the calls that other tasks enter or leave on that \
CPU meanwhile are not seen, and are told as lost.

Process and thread numbers are those of the outermost namespace, also inside a container, where --pid is refused.

What shares this program's process group is left out, unless --include-self is given: with it, all that a shell \
without job control starts beside it, as in a script, from cron, over ssh with a command, or in CI. There, start it \
with setsid.

--syscall with the name of a call that waits stands for --waits too; so does that of a read or write, which waits on \
a pipe, a terminal, a socket or a device that can be polled. Whether one of these waits is decided by the file \
behind the descriptor when the call is over; if another thread has closed it by then, the call counts as one that \
does not wait. Of the files of a file system none counts as one that waits, not /proc/kmsg or trace_pipe either.

Numbers beyond those known when this was built are called syscall_N, and are in the class other.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<SyscallTrace>()
}
