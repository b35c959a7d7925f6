//! The lines of one family put together: each series becomes one point.
//!
//! A gauge is a line. A counter may have a `_created` line, a histogram has one
//! line per bucket, a summary one per quantile, and both have `_sum` and
//! `_count`; these are gathered by their labels until the family ends.

use std::borrow::Cow;
use std::collections::HashMap;

use super::line::{Labels, Meta, Sample};
use super::series::{Part, Series, whole};
use super::units;
use crate::record::{MetricPoint, MetricType};

/// A family, while its lines are read.
#[derive(Default)]
pub struct Family<'a> {
    name: Cow<'a, str>,
    shape: Shape,
    help: Cow<'a, str>,
    unit: Cow<'a, str>,
    series: Vec<Series<'a>>,
    by_labels: HashMap<Labels<'a>, usize>,
}

/// What lines a family has.
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
    /// Of that name; without more, its lines are gauges.
    pub fn new(name: Cow<'a, str>) -> Self {
        Self { name, ..Self::default() }
    }

    /// Whether it has that name.
    pub fn is(&self, name: &str) -> bool {
        self.name == name
    }

    /// Takes in what a comment line says of it.
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

    /// Whether a line of that name belongs to it.
    pub fn takes(&self, name: &str) -> bool {
        self.part(name).is_some()
    }

    /// Adds a line that it takes; `None` if the line makes no sense in it.
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

    /// The series of those labels. Gauges are not gathered, and a line of another time,
    /// or a second one of the same part, begins a new series.
    fn series_of(&mut self, part: Part, sample: &mut Sample<'a>) -> &mut Series<'a> {
        let gathered = matches!(self.shape, Shape::Counter | Shape::Histogram | Shape::Summary);
        let known = if gathered { self.by_labels.get(&sample.labels).copied() } else { None };
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
                if gathered {
                    self.by_labels.insert(labels.clone(), self.series.len());
                }
                self.series.push(Series { name, labels, timestamp, ..Series::default() });
                self.series.len() - 1
            }
        };
        &mut self.series[index]
    }

    /// Its series, as they began.
    pub fn take_series(&mut self) -> Vec<Series<'a>> {
        self.by_labels.clear();
        std::mem::take(&mut self.series)
    }

    /// The point that a series of this family is; what is wrong with it if it is none.
    /// Without an error and without a point, its number was one that JSON has not.
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
            (None, None, None, true) => Err("_created without its value"),
            _ => Ok(Some(point)),
        }
    }
}

/// Takes the label out and reads it as a number.
fn taken_label(labels: &mut Labels<'_>, key: &str) -> Option<f64> {
    let index = labels.iter().position(|(name, _)| name == key)?;
    labels.remove(index).1.parse().ok()
}
