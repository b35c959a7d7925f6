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
    const NOTES: &'static str = include_str!("iolat.md");

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

fn main() -> ExitCode {
    telepipe::common::entry::main::<Iolat>()
}
