//! What a tracer writes: the options for its events and summaries, which all four have.

use std::time::Duration;

use clap::Args;

/// Whether there are events and summaries, and what makes an event. The program says what is done where an option is
/// not given: by `mut_arg` in the help, and here in the calls.
#[derive(Args, Clone, Debug)]
pub struct EventArgs {
    /// The shortest time that makes an event, such as 5ms (a bare number is seconds); 0 for all
    #[arg(long, value_name = "TIME", value_parser = crate::common::units::duration_or_zero, allow_hyphen_values = true)]
    min: Option<Duration>,

    /// Write a record for each that took as long as --min [the default]
    #[arg(long, overrides_with = "no_events")]
    events: bool,

    /// Write no record for single ones
    #[arg(long)]
    no_events: bool,

    /// Write a record for each interval [the default]
    #[arg(long, overrides_with = "no_summary")]
    summary: bool,

    /// Write no record for intervals
    #[arg(long)]
    no_summary: bool,

    /// Leave the distributions out of the records
    #[arg(long)]
    no_histogram: bool,
}

impl EventArgs {
    /// What makes an event; `None` if there are none.
    pub fn events(&self, unless_said: bool) -> Option<Duration> {
        self.min.filter(|_| self.events || (unless_said && !self.no_events))
    }

    /// Whether `--min` has a value, given or from another option.
    pub fn has_min(&self) -> bool {
        self.min.is_some()
    }

    /// Whether there are summaries.
    pub fn summary(&self, unless_said: bool) -> bool {
        self.summary || (unless_said && !self.no_summary)
    }

    /// Whether these carry their distributions.
    pub fn histogram(&self) -> bool {
        !self.no_histogram
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
    fn the_last_word_counts() {
        let min = Some(Duration::from_millis(10));
        for (args, on, off) in [
            ("", min, None),
            ("--events", min, min),
            ("--no-events", None, None),
            ("--no-events --events", min, min),
            ("--events --no-events", None, None),
            ("--min 0", Some(Duration::ZERO), None),
        ] {
            assert_eq!((event_args(args).events(true), event_args(args).events(false)), (on, off), "{args}");
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
