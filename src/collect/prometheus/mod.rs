//! What an endpoint for Prometheus answers → `metric` records, one per series.
//!
//! Reads the Prometheus text format 0.0.4 and OpenMetrics 1.0 text. Counters
//! stay counters, with `start_ts` where the endpoint gives `_created`; the
//! cumulative buckets of a histogram become counts per bucket; summaries keep
//! their quantiles; untyped, unknown, info and stateset series are gauges, and so
//! is each line of a gauge histogram. Exemplars are passed over. A line that is none
//! of the format is counted, and the others go on.
//!
//! `process_start_time_seconds` is not taken for the start of counters: an
//! exporter's start is not when the counts of what it exports began.

mod family;
mod line;
mod series;
mod units;

use anyhow::Result;

use crate::common::time::Timestamp;
use crate::record::MetricPoint;
use family::Family;
use line::{Line, Sample};
use series::Series;

/// What became of the lines of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines with a number.
    pub samples: u64,
    /// Those that could not be understood, and other lines that are none of the format.
    pub bad: u64,
    /// The first of them: its number and its beginning, or what is wrong with its series.
    pub first_bad: Option<String>,
    /// Samples that are NaN or infinite, which JSON has not, and so were left out.
    pub not_finite: u64,
    /// Points that were handed on.
    pub points: u64,
    /// True if an OpenMetrics text ended without `# EOF`: the rest of it is missing.
    pub cut_short: bool,
}

/// Where points go: when they were measured, if the endpoint says so, and what.
pub type Sink<'s> = dyn FnMut(Option<Timestamp>, MetricPoint) -> Result<()> + 's;

/// Reads `text`; `openmetrics` says which of the two formats the endpoint named.
///
/// # Errors
/// Those of `sink`.
pub fn read(text: &str, openmetrics: bool, sink: &mut Sink<'_>) -> Result<Tally> {
    let mut reader = Reader { openmetrics, tally: Tally::default(), family: Family::default(), sink };
    let mut ended = false;
    for (index, text) in text.split('\n').enumerate() {
        match line::line(text) {
            Some(Line::Comment) => {}
            Some(Line::Eof) => {
                ended = true;
                break;
            }
            Some(Line::Meta(meta, name, about)) => {
                if !reader.family.is(&name) {
                    reader.begin(Family::new(name))?;
                }
                reader.family.describe(meta, about);
            }
            Some(Line::Sample(sample)) => reader.sample(index, sample)?,
            None => reader.bad(1, || excerpt(index, text)),
        }
    }
    reader.begin(Family::default())?;
    reader.tally.cut_short = openmetrics && !ended;
    Ok(reader.tally)
}

struct Reader<'a, 's, 't> {
    openmetrics: bool,
    tally: Tally,
    family: Family<'a>,
    sink: &'t mut Sink<'s>,
}

impl<'a> Reader<'a, '_, '_> {
    fn bad(&mut self, lines: u64, what: impl FnOnce() -> String) {
        self.tally.bad += lines;
        self.tally.first_bad.get_or_insert_with(what);
    }

    fn sample(&mut self, index: usize, sample: Sample<'a>) -> Result<()> {
        self.tally.samples += 1;
        if sample.timestamp.is_some_and(|text| units::timestamp(text, self.openmetrics).is_none()) {
            self.bad(1, || format!("line {}: {}: not a time", index + 1, sample.name));
            return Ok(());
        }
        if !self.family.takes(&sample.name) {
            self.begin(Family::new(sample.name.clone()))?;
        }
        let name = sample.name.clone();
        if self.family.add(sample).is_none() {
            self.bad(1, || format!("line {}: {name}: not of its family's type", index + 1));
        }
        Ok(())
    }

    /// Hands on the series of the family so far, and begins another.
    fn begin(&mut self, next: Family<'a>) -> Result<()> {
        let mut family = std::mem::replace(&mut self.family, next);
        for mut series in family.take_series() {
            self.finish(&family, &mut series)?;
        }
        Ok(())
    }

    fn finish(&mut self, family: &Family<'a>, series: &mut Series<'a>) -> Result<()> {
        match family.point(series) {
            Err(why) => self.bad(series.lines, || format!("{}: {why}", series.name)),
            Ok(point) => {
                self.tally.not_finite += series.left_out;
                if let Some(point) = point {
                    self.tally.points += 1;
                    let ts = series.timestamp.and_then(|text| units::timestamp(text, self.openmetrics));
                    (self.sink)(ts, point)?;
                }
            }
        }
        Ok(())
    }
}

/// Enough of a line to find it by.
fn excerpt(index: usize, text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    format!("line {}: {start}", index + 1)
}

#[cfg(test)]
mod tests;
