//! Parses Prometheus text format 0.0.4 and OpenMetrics 1.0 text into `metric` records, one
//! per series.
//!
//! Counters have a `start_ts` if the endpoint reports `_created`. The cumulative buckets of
//! a histogram become counts per bucket. Summaries keep their quantiles. Untyped, unknown,
//! info and stateset series are gauges, and so is each line of a gauge histogram.
//! Exemplars are skipped. Malformed lines are counted.
//!
//! `process_start_time_seconds` is not used as the start of counters: an exporter can start
//! later than the counts that it exports.

mod family;
mod line;
mod units;

use anyhow::Result;

use crate::common::time::Timestamp;
use crate::record::MetricPoint;
use family::{Family, Series};
use line::{Line, Sample};

/// Counts the lines and points of one answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Lines with a number.
    pub samples: u64,
    /// Malformed lines, and lines that do not fit their series.
    pub bad: u64,
    /// The number and the beginning of the first bad line, or the error of its series.
    pub first_bad: Option<String>,
    /// NaN and infinite values, which are left out.
    pub not_finite: u64,
    /// Points passed to the sink.
    pub points: u64,
    /// True if an OpenMetrics text has no `# EOF` at its end.
    pub cut_short: bool,
}

/// Receives points, with their time if the endpoint reports one.
pub type Sink<'s> = dyn FnMut(Option<Timestamp>, MetricPoint) -> Result<()> + 's;

/// Parses `text`, as OpenMetrics if `openmetrics`, else as the Prometheus format.
///
/// # Errors
/// The errors of `sink`.
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
            self.bad(1, || format!("line {}: {name}: does not fit the type of its family", index + 1));
        }
        Ok(())
    }

    /// Finishes the series of the current family, and begins another.
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

/// The number and the beginning of a line.
fn excerpt(index: usize, text: &str) -> String {
    let start: String = text.chars().take(80).collect();
    format!("line {}: {start}", index + 1)
}

#[cfg(test)]
mod tests;
