//! Combines the lines of one metric family: each series becomes one point.
//!
//! A gauge has one line. A counter may have a `_created` line too, a histogram has
//! one line per bucket and a summary one per quantile, and both have `_sum` and
//! `_count`. Lines are collected by their labels until the family ends.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Number, Value};

use super::line::{EXACT, Labels, Meta, Sample};
use super::units;
use crate::common::time::Timestamp;
use crate::record::{Attributes, MetricPoint, MetricType};

/// A family while its lines are read.
#[derive(Default)]
pub struct Family<'a> {
    name: Cow<'a, str>,
    shape: Shape,
    help: Cow<'a, str>,
    unit: Cow<'a, str>,
    series: Vec<Series<'a>>,
    by_labels: HashMap<Labels<'a>, usize>,
}

/// The lines that a family consists of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Shape {
    #[default]
    Gauge,
    Info,
    GaugeHistogram,
    Counter,
    Histogram,
    Summary,
}

impl<'a> Family<'a> {
    /// Makes a family of gauges; [`Family::describe`] can change the type.
    pub fn new(name: Cow<'a, str>) -> Self {
        Self { name, ..Self::default() }
    }

    /// Whether the family has this name.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Applies a comment line.
    pub fn describe(&mut self, meta: Meta, text: Cow<'a, str>) {
        match meta {
            Meta::Help => self.help = text,
            Meta::Unit => self.unit = text,
            Meta::Type => {
                self.shape = match text.trim_ascii() {
                    "counter" => Shape::Counter,
                    "histogram" => Shape::Histogram,
                    "summary" => Shape::Summary,
                    "info" => Shape::Info,
                    "gaugehistogram" => Shape::GaugeHistogram,
                    _ => Shape::Gauge,
                }
            }
        }
    }

    fn part(&self, name: &str) -> Option<Part> {
        let suffix = name.strip_prefix(self.name.as_ref())?;
        Some(match (self.shape, suffix) {
            (Shape::Gauge | Shape::Counter, "")
            | (Shape::Counter, "_total")
            | (Shape::Info, "" | "_info")
            | (Shape::GaugeHistogram, "_bucket" | "_gcount" | "_gsum") => Part::Value,
            (Shape::Histogram, "_bucket") => Part::Bucket,
            (Shape::Summary, "") => Part::Quantile,
            (Shape::Histogram | Shape::Summary, "_count") => Part::Count,
            (Shape::Histogram | Shape::Summary, "_sum") => Part::Sum,
            (Shape::Counter | Shape::Histogram | Shape::Summary, "_created") => Part::Created,
            _ => return None,
        })
    }

    /// Whether a line of this name belongs to the family.
    pub fn takes(&self, name: &str) -> bool {
        self.part(name).is_some()
    }

    /// Adds a line that belongs to the family; `None` if the line does not fit its type.
    pub fn add(&mut self, mut sample: Sample<'a>) -> Option<()> {
        let part = self.part(&sample.name)?;
        let bound = match part {
            Part::Bucket => Some(taken_label(&mut sample.labels, "le")?),
            Part::Quantile => Some(taken_label(&mut sample.labels, "quantile").filter(|q| q.is_finite())?),
            _ => None,
        };
        let count = match (part, &sample.value) {
            (Part::Count, Some(value)) => Some(whole(value)?),
            (Part::Count | Part::Bucket, None) => return None,
            _ => None,
        };
        let series = self.series_of(part, &mut sample);
        series.lines += 1;
        if bound.is_none() {
            series.seen.push(part);
        }
        if part == Part::Value {
            series.name = sample.name;
        }
        match (part, sample.value) {
            (Part::Created, Some(value)) => series.created = units::seconds(&value.to_string()),
            (Part::Created, None) => {}
            (_, None) => series.left_out += 1,
            (Part::Value, value) => series.value = value,
            (Part::Sum, value) => series.sum = value,
            (Part::Count, _) => series.count = count,
            (Part::Bucket | Part::Quantile, Some(value)) => series.points.push((bound?, value)),
        }
        Some(())
    }

    /// The series with these labels. Every gauge line, a line with another time, and a
    /// repeated line begin a new series.
    fn series_of(&mut self, part: Part, sample: &mut Sample<'a>) -> &mut Series<'a> {
        let combined = matches!(self.shape, Shape::Counter | Shape::Histogram | Shape::Summary);
        let known = if combined { self.by_labels.get(&sample.labels).copied() } else { None };
        let fits = |series: &Series<'_>| {
            let same_time = part == Part::Created || series.timestamp == sample.timestamp;
            same_time && !series.seen.contains(&part)
        };
        let index = match known {
            Some(index) if fits(&self.series[index]) => index,
            _ => {
                let name = self.name.clone();
                let labels = std::mem::take(&mut sample.labels);
                let timestamp = sample.timestamp;
                if combined {
                    self.by_labels.insert(labels.clone(), self.series.len());
                }
                self.series.push(Series { name, labels, timestamp, ..Series::default() });
                self.series.len() - 1
            }
        };
        &mut self.series[index]
    }

    /// Takes the series, in the order of their first lines.
    pub fn take_series(&mut self) -> Vec<Series<'a>> {
        self.by_labels.clear();
        std::mem::take(&mut self.series)
    }

    /// The point of a series, or why it has none. `Ok(None)` if its only number is NaN or
    /// infinite.
    pub fn point(&self, series: &mut Series<'a>) -> Result<Option<MetricPoint>, &'static str> {
        let mut point = MetricPoint {
            name: series.name.clone().into_owned(),
            unit: units::unit(Some(&self.unit), &series.name),
            description: (!self.help.is_empty()).then(|| self.help.clone().into_owned()),
            start_ts: series.created,
            attributes: series.take_attributes(),
            ..MetricPoint::default()
        };
        match self.shape {
            Shape::Histogram => series.histogram(&mut point)?,
            Shape::Summary => series.summary(&mut point),
            shape => {
                let counter = shape == Shape::Counter;
                point.metric_type = if counter { MetricType::Counter } else { MetricType::Gauge };
                point.value = series.value.take();
            }
        }
        match (&point.value, point.count, &point.sum, series.points.is_empty()) {
            (None, None, None, true) if series.left_out > 0 => Ok(None),
            (None, None, None, true) => Err("_created without a value"),
            _ => Ok(Some(point)),
        }
    }
}

/// Removes a label and parses it as a number.
fn taken_label(labels: &mut Labels<'_>, key: &str) -> Option<f64> {
    let index = labels.iter().position(|(name, _)| name == key)?;
    labels.remove(index).1.parse().ok()
}

/// The part of a series that a line holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// The value of a gauge or counter.
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

/// The lines with the same labels, except for `le` and `quantile`.
#[derive(Default)]
pub struct Series<'a> {
    /// The name of the line with the value; for histograms and summaries, that of the family.
    pub name: Cow<'a, str>,
    /// The labels.
    pub labels: Labels<'a>,
    /// The time in the lines, unparsed.
    pub timestamp: Option<&'a str>,
    /// The number of lines.
    pub lines: u64,
    /// The number of NaN and infinite values, which are left out.
    pub left_out: u64,
    /// The value of a gauge or counter.
    pub value: Option<Number>,
    /// The count of a histogram or summary.
    pub count: Option<u64>,
    /// The sum of a histogram or summary.
    pub sum: Option<Number>,
    /// The start of counting.
    pub created: Option<Timestamp>,
    /// Upper bounds and counts of buckets, or quantiles and their values.
    pub points: Vec<(f64, Number)>,
    /// The parts that have been read, except for `points`.
    seen: Vec<Part>,
}

impl Series<'_> {
    /// Takes the labels as attributes.
    pub fn take_attributes(&mut self) -> Attributes {
        let labels = std::mem::take(&mut self.labels).into_iter();
        labels.map(|(key, value)| (key.into_owned(), Value::String(value.into_owned()))).collect()
    }

    /// Turns cumulative buckets into counts per bucket; `_count` replaces a missing `+Inf`.
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
                return Err("a repeated or infinite bucket bound");
            }
            let upto = whole(value).ok_or("a bucket count that is not an integer")?;
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

    /// Leaves out quantiles that JSON cannot represent.
    pub fn summary(&mut self, point: &mut MetricPoint) {
        point.metric_type = MetricType::Summary;
        point.count = self.count;
        point.sum = self.sum.take();
        let known = self.points.iter().filter_map(|(quantile, value)| Some((*quantile, value.as_f64()?)));
        let (quantiles, values) = known.unzip();
        (point.quantiles, point.values) = (Some(quantiles), Some(values));
    }
}

/// An integer; some exporters write `3.0` or `1e+06`.
fn whole(value: &Number) -> Option<u64> {
    value.as_u64().or_else(|| {
        let float = value.as_f64().filter(|float| float.fract() == 0.0)?;
        (0.0..EXACT).contains(&float).then_some(float as u64)
    })
}
