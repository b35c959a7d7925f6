//! The command-line options that all tracers share.

use std::fmt;
use std::time::Duration;

use clap::Args;

use crate::common::options::Common;
use crate::common::units::duration_or_zero;

/// Options of every tracer.
#[derive(Args, Clone, Debug)]
pub struct TracerArgs {
    #[command(flatten)]
    #[expect(missing_docs, reason = "a comment here would become the help's heading")]
    pub common: Common,

    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub events: EventArgs,

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub tasks: super::task::TaskFilter,

    #[cfg(all(target_os = "linux", feature = "bpf"))]
    #[command(flatten)]
    #[expect(missing_docs, reason = "as above")]
    pub types: super::kernel::KernelTypes,

    /// Attach this way [default: the cheapest that the kernel supports]
    #[arg(long, value_name = "HOW", hide = true)]
    pub attach: Option<Attach>,
}

/// The options for the records that a tracer writes. Programs change the defaults and their help by `mut_arg`.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Output")]
pub struct EventArgs {
    /// Write a record for each event of at least this time, such as 5ms (a bare number is seconds); 0 for all
    #[arg(long, value_name = "TIME", value_parser = duration_or_zero, allow_hyphen_values = true)]
    min: Option<Duration>,

    /// Write a record for each event that took at least --min [the default]
    #[arg(long, hide_short_help = true, overrides_with = "no_events")]
    events: bool,

    /// Write no records for single events
    #[arg(long)]
    no_events: bool,

    /// Write a record for each interval [the default]
    #[arg(long, overrides_with = "no_summary")]
    summary: bool,

    /// Write no records for intervals
    #[arg(long)]
    no_summary: bool,

    /// Leave histograms out of the records
    #[arg(long, hide_short_help = true)]
    no_histogram: bool,
}

impl EventArgs {
    /// The shortest time that makes an event; `None` for no events.
    pub fn min(&self) -> Option<Duration> {
        self.min.filter(|_| !self.no_events)
    }

    /// Whether to write a record for each interval.
    pub fn summary(&self, by_default: bool) -> bool {
        self.summary || (by_default && !self.no_summary)
    }

    /// Whether records include histograms.
    pub fn histogram(&self) -> bool {
        !self.no_histogram
    }
}

/// A time as eBPF programs take it; 0 for none.
pub fn nanos(time: Option<Duration>) -> u64 {
    time.map_or(0, |time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

/// How programs are attached to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Attach {
    /// Tracepoints with typed arguments, which are read without calls of helpers.
    TpBtf,
    /// Tracepoints with untyped arguments.
    RawTp,
    /// The entry and exit of kernel functions.
    Fentry,
    /// The same by breakpoints, where functions have no such hooks.
    Kprobe,
}

impl Attach {
    /// The two ways to attach to a tracepoint, the cheaper one first.
    pub const TRACEPOINT: [Self; 2] = [Self::TpBtf, Self::RawTp];

    /// The name, as in the option and in `method` of status records.
    pub fn name(self) -> &'static str {
        match self {
            Self::TpBtf => "tp_btf",
            Self::RawTp => "raw_tp",
            Self::Fentry => "fentry",
            Self::Kprobe => "kprobe",
        }
    }
}

impl fmt::Display for Attach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    #[command(mut_arg("min", |arg| arg.default_value("10ms")))]
    struct Program {
        #[command(flatten)]
        events: EventArgs,
    }

    fn event_args(args: &str) -> EventArgs {
        Program::parse_from(std::iter::once("program").chain(args.split_whitespace())).events
    }

    #[test]
    fn the_last_of_two_opposite_options_counts() {
        let min = Some(Duration::from_millis(10));
        for (args, expected) in [
            ("", min),
            ("--events", min),
            ("--no-events", None),
            ("--no-events --events", min),
            ("--events --no-events", None),
            ("--min 0", Some(Duration::ZERO)),
        ] {
            assert_eq!(event_args(args).min(), expected, "{args}");
        }
        for (args, on, off) in
            [("", true, false), ("--summary", true, true), ("--summary --no-summary", false, false)]
        {
            assert_eq!(
                (event_args(args).summary(true), event_args(args).summary(false)),
                (on, off),
                "{args}"
            );
        }
    }
}
