//! `iolat`: how long block I/O takes, by device and operation.
//!
//! Reads the completions of block requests by eBPF, on Linux.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use clap::builder::ArgPredicate;

use telepipe::bpf::args::TracerArgs;
use telepipe::common::program::Generate;
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
        ("Every second, what each device did", "sudo iolat"),
        ("Who waits more than 20 ms for a disk", "sudo iolat --min 20ms --who --no-summary"),
        (
            "The 99th percentile of reads, as text",
            r#"sudo iolat -f 'select(.op == "read") | "\(.device) \(.p99_us) us"'"#,
        ),
        ("To an OpenTelemetry Collector, bucket for bucket", "sudo iolat | tele-ship --otlp"),
    ];
    const NOTES: &'static [(&'static str, &'static str)] = &[("OVERHEAD", OVERHEAD), ("CAVEATS", CAVEATS)];

    fn generate(&self) -> Option<Generate> {
        self.tracer.common.generate.what
    }

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    fn run(self) -> Result<()> {
        use telepipe::bpf::{iolat, tracer};

        let Self { tracer: args, device: devices, aggregate, partitions, who } = self;
        if !args.events.summary(true) && args.events.min().is_none() {
            let text = "--no-summary leaves nothing to print; add --events";
            return Err(telepipe::common::program::Usage(text.into()).into());
        }
        tracer::run::<iolat::Iolat>(&args, iolat::Options { devices, aggregate, partitions, who })
    }

    #[cfg(not(all(target_os = "linux", feature = "bpf")))]
    fn run(self) -> Result<()> {
        anyhow::bail!("this build cannot trace: iolat needs Linux, and the feature bpf when it is built")
    }
}

const OVERHEAD: &str = "\
One hook per request, which counts in memory that is shared with the program: nothing is copied, and no process is \
woken, for a request. On a virtual machine (two CPUs of an AMD EPYC, Linux 6.18) that hook took 209 ns per request, \
of which 64 are a hook that does nothing and 90 the reading of the clock; biolatency took 823 ns in the same run \
(0.25 times). With --who, a second hook and a hash map, it was 791 ns. Where the machine has nothing else to do, sleeps \
between two requests and finds its caches cold, it was 316 ns, biolatency 970 ns (0.31 times). `scripts/bench iolat` \
measures it again.

The maps take at most 16 MiB of kernel memory, less where there are few disks; -v says how much.";

const CAVEATS: &str = "\
Times are those that the kernel keeps in each request. Since Linux 6.9 a task that submits several requests in one \
go reads the clock once for all of them, and once more for none: the later ones then seem to have begun, and to have \
been issued, when the first was submitted. What they waited before that issue shows in device_*, not in queue_*.

The queue time of a write that must follow a flush includes the flush. Where the device flushes after such a write, \
that flush is an operation of its own, and not in the time of the write.

Who submitted is the task that did so in the kernel: for writes that were buffered, the one that writes pages back. \
Before Linux 6.5 it is seen only where the request is queued or issued, which another thread may do.

What a pipeline with iolat in it does itself (its process group) is left out where iolat knows who submits: with \
--who, --pid, --comm, --uid or --cgroup, and without --include-self. Without any of these all requests count.

Flushes, and requests that came about without a bio, belong to no partition, and are counted for the whole disk \
with --partitions too.

Not counted, as in /proc/diskstats: commands that are passed through (SG_IO, NVMe administration), and the \
management of zones. Devices without requests of their own (device mapper, md, zram) show in the disks below them; \
a status record names them at the start. What a loop device, or another that lies on disks and has requests, does is \
counted for it and again for the disks below, with --aggregate too.

A request that ends in parts has its time taken when the last part ends.";

fn main() -> ExitCode {
    telepipe::common::entry::main::<Iolat>()
}
