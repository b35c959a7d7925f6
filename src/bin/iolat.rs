//! `iolat`: prints the latency of block I/O by device and operation, which it traces with eBPF.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use clap::builder::ArgPredicate;

use telepipe::bpf::args::TracerArgs;
use telepipe::common::program::Program;
use telepipe::record::{IO, IO_EVENT, Kind, LOST, STATUS};

const MIN: &str = "Write a record for each request that took at least this time, such as 5ms (a bare number is \
    seconds); 0 for all; implies --events [default: 10ms]";

/// Print the latency of block I/O by device and operation as JSON lines
///
/// Writes one record per interval for each device and operation (read, write, flush, discard) that was used: how
/// many requests completed, how many bytes they transferred, and how long they took, in total, on the device, and in
/// the queue.
#[derive(Parser)]
#[command(name = "iolat")]
#[command(mut_arg("min", |arg| arg.default_value_if("events", ArgPredicate::IsPresent, "10ms").help(MIN)))]
#[command(mut_arg("events", |arg| arg.help("Write a record for each request that took at least --min [default: only with --min]")))]
#[command(mut_arg("no_events", |arg| arg.help("Write no records for single requests [default without --min]")))]
struct Iolat {
    #[command(flatten)]
    tracer: TracerArgs,

    /// Trace only this device, such as vda or nvme0n1p2; can be repeated
    #[arg(long, value_name = "NAME", value_delimiter = ',', help_heading = "Filters")]
    device: Vec<String>,

    /// Count all devices as one
    #[arg(long, help_heading = "Output")]
    aggregate: bool,

    /// Count each partition as a device
    #[arg(long, help_heading = "Output")]
    partitions: bool,

    /// Add who submitted the slowest request, and each event (attaches one more hook)
    #[arg(long, help_heading = "Output")]
    who: bool,
}

impl Program for Iolat {
    const KINDS: &'static [&'static Kind] = &[&IO, &IO_EVENT, &STATUS, &LOST];
    const EXAMPLES: &'static [(&'static str, &'static str)] = &[
        ("Latency of each device and operation, every second", "sudo iolat"),
        (
            "Requests that take more than 20 ms, and who submitted them",
            "sudo iolat --min 20ms --who --no-summary",
        ),
        (
            "The 99th percentile of reads as text",
            r#"sudo iolat -r -f 'select(.op == "read") | "\(.device) \(.p99_us) us"'"#,
        ),
        ("Send all histograms to an OpenTelemetry Collector", "sudo iolat | tele-ship --otlp"),
    ];
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    fn run(self) -> Result<()> {
        use telepipe::bpf::{iolat, tracer};

        let Self { tracer: args, device: devices, aggregate, partitions, who } = self;
        if !args.events.summary(true) && args.events.min().is_none() {
            telepipe::bail_usage!("--no-summary leaves nothing to print; add --events");
        }
        tracer::run::<iolat::Iolat>(&args, iolat::Options { devices, aggregate, partitions, who })
    }

    #[cfg(not(all(target_os = "linux", feature = "bpf")))]
    fn run(self) -> Result<()> {
        anyhow::bail!("this build cannot trace: iolat needs Linux and the build feature bpf")
    }
}

const OVERHEAD: &str = "\
One hook runs per request and counts in memory that is shared with iolat: nothing is copied and no process is woken \
for a request. On a virtual machine (two CPUs of an AMD EPYC, Linux 6.18) the hook takes 201 ns per request. In the same \
run an empty hook took 70 ns, one that only reads the clock 135 ns, and biolatency 756 ns, so iolat costs 0.27 of it. \
--who adds a hook and a hash map: 548 ns, 0.72 of biolatency. `scripts/bench iolat` repeats these measurements.

The maps take at most 16 MiB of kernel memory, less with few disks; -v prints how much.";

const CAVEATS: &str = "\
The times are those that the kernel keeps in each request. Since Linux 6.9 a task that submits several requests at once \
reads the clock only once for all of them: later requests then seem to have begun, and to have been issued, when the \
first was submitted. The time that these wait before they are issued counts in device_*, not in queue_*.

The queue time of a write that must follow a flush includes the flush. If the device flushes after such a write, that \
flush is an operation of its own and is not part of the write's time.

The submitter is the task that submits in the kernel: for buffered writes, the kernel thread that writes pages back. \
Before Linux 6.5 iolat records the task that queues or issues the request, which can be another thread.

With --who, --pid, --comm, --uid or --cgroup, requests of iolat itself and of the processes that read its output are \
left out, unless --include-self is given. Without these options the submitter is unknown and all requests count.

Flushes, and requests that were made without a bio, belong to no partition. With --partitions they count for the whole \
disk.

As in /proc/diskstats, passthrough commands (SG_IO, NVMe administration) and zone management are not counted. I/O of \
devices without requests of their own (device mapper, md, zram) counts for the disks below them; a status record names \
these devices at the start. I/O to a loop device, or to another device that has requests and is stored on a disk, counts \
twice: for that device and for the disk below, also with --aggregate.

A request that completes in parts is timed when its last part completes.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<Iolat>()
}
