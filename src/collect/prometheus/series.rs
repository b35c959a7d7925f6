//! One series, from its lines to its point.

use std::borrow::Cow;

use serde_json::{Number, Value};

use super::line::{EXACT, Labels};
use crate::common::time::Timestamp;
use crate::record::{Attributes, MetricPoint, MetricType};

/// What a line adds to its series.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The number of a gauge or counter.
    Value,
    /// `_bucket`, with `le`.
    Bucket,
    /// A line with `quantile`.
    Quantile,
    /// `_count`.
    Count,
    /// `_sum`.
    Sum,
    /// `_created`.
    Created,
}

/// The lines with the same labels, but for `le` and `quantile`.
#[derive(Default)]
pub struct Series<'a> {
    /// The name of its value's line; of a histogram or summary, the family's.
    pub name: Cow<'a, str>,
    /// What tells it from the others of its family.
    pub labels: Labels<'a>,
    /// When it was measured, as the lines have it.
    pub timestamp: Option<&'a str>,
    /// How many lines it is made of.
    pub lines: u64,
    /// How many numbers were left out of it, being none that JSON has.
    pub left_out: u64,
    /// Of a gauge or counter.
    pub value: Option<Number>,
    /// Of a histogram or summary.
    pub count: Option<u64>,
    /// Of a histogram or summary.
    pub sum: Option<Number>,
    /// When counting began.
    pub created: Option<Timestamp>,
    /// Upper bounds and counts of buckets, or quantiles and their values.
    pub points: Vec<(f64, Number)>,
    /// Which lines there were, but for those of `points`.
    pub seen: Vec<Part>,
}

impl Series<'_> {
    /// Its labels, as attributes.
    pub fn take_attributes(&mut self) -> Attributes {
        let labels = std::mem::take(&mut self.labels).into_iter();
        labels.map(|(key, value)| (key.into_owned(), Value::String(value.into_owned()))).collect()
    }

    /// Cumulative buckets become counts of each; `_count` stands in for a missing `+Inf`.
    pub fn histogram(&mut self, point: &mut MetricPoint) -> Result<(), &'static str> {
        point.metric_type = MetricType::Histogram;
        self.points.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let all = if self.points.last().is_some_and(|(bound, _)| *bound == f64::INFINITY) {
            self.points.pop().and_then(|(_, value)| whole(&value))
        } else {
            self.count
        };
        let all = all.ok_or("a histogram without _count and +Inf bucket")?;
        let (mut bounds, mut counts, mut below) = (Vec::new(), Vec::new(), 0);
        for (bound, value) in &self.points {
            if !bound.is_finite() || bounds.last() == Some(bound) {
                return Err("a bucket whose bound is twice there or no number");
            }
            let upto = whole(value).ok_or("a bucket whose count is no whole number")?;
            counts.push(upto.checked_sub(below).ok_or("buckets that are not cumulative")?);
            bounds.push(*bound);
            below = upto;
        }
        counts.push(all.checked_sub(below).ok_or("buckets that are not cumulative")?);
        point.count = Some(all);
        point.sum = self.sum.take();
        (point.bounds, point.bucket_counts) = (Some(bounds), Some(counts));
        Ok(())
    }

    /// Quantiles without a number are left out.
    pub fn summary(&mut self, point: &mut MetricPoint) {
        point.metric_type = MetricType::Summary;
        point.count = self.count;
        point.sum = self.sum.take();
        let known = self.points.iter().filter_map(|(quantile, value)| Some((*quantile, value.as_f64()?)));
        let (quantiles, values) = known.unzip();
        (point.quantiles, point.values) = (Some(quantiles), Some(values));
    }
}

/// A count, which some write as `3.0` or `1e+06`.
pub fn whole(value: &Number) -> Option<u64> {
    value.as_u64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0)?;
        (0.0..EXACT).contains(&float).then_some(float as u64)
    })
}
