//! `metric` records: one point of a metric that describes itself.

use std::borrow::Cow;

use super::metric::{Metrics, Shape, Time};
use super::points::{self, Histogram, Number, Span, Summary};
use super::series::Series;
use super::{said, wire};
use crate::ship::line::{Fields, Line};

/// The point of a `metric` record.
pub struct Point<'l, 'a> {
    name: &'l str,
    unit: &'l str,
    description: &'l str,
    shape: Shape,
    value: Data<'l, 'a>,
    attributes: Option<Cow<'l, Fields<'a>>>,
}

const TYPES: [&str; 5] = ["gauge", "counter", "updowncounter", "histogram", "summary"];
const TEMPORALITIES: [&str; 2] = ["cumulative", "delta"];

enum Data<'l, 'a> {
    Number(Number),
    Histogram(Histogram<'l, 'a>),
    Summary(Summary<'l, 'a>),
}

impl<'l, 'a> Point<'l, 'a> {
    /// Reads what the record says of itself.
    ///
    /// # Errors
    /// Which field is missing or makes no sense.
    pub fn new(line: &'l Line<'a>) -> Result<Self, String> {
        let fields = &line.fields;
        let name = said::text(fields, "name")?.filter(|name| !name.is_empty()).ok_or("name is missing")?;
        let time = [Time::Cumulative, Time::Delta][said::one_of(fields, "temporality", &TEMPORALITIES)?];
        let (shape, value) = match said::one_of(fields, "type", &TYPES)? {
            0 => (Shape::Gauge, Data::Number(number(fields)?)),
            1 => (Shape::Sum(time, true), Data::Number(number(fields)?)),
            2 => (Shape::Sum(time, false), Data::Number(number(fields)?)),
            3 => (Shape::Histogram(time), Data::Histogram(Histogram::new(fields)?)),
            _ => (Shape::Summary, Data::Summary(Summary::new(fields)?)),
        };
        let text = |field| said::text(fields, field).map(Option::unwrap_or_default);
        let (unit, description) = (text("unit")?, text("description")?);
        let attributes = said::map(fields, "attributes")?;
        Ok(Self { name, unit, description, shape, value, attributes })
    }

    /// The number of its metric.
    pub fn metric(&self, metrics: &mut Metrics) -> usize {
        metrics.id(self.name, self.description, self.unit, self.shape)
    }

    /// Appends it, measured on `host` at `ts` and counted since `start`.
    pub fn write(&self, out: &mut Vec<u8>, host: &str, ts: u64, start: u64, series: &mut Series) {
        let field = if matches!(self.value, Data::Histogram(_)) { 9 } else { 7 };
        let mut attributes = Vec::new();
        if let Some(given) = &self.attributes {
            wire::key_values(&mut attributes, field, given);
        }
        let count = match &self.value {
            Data::Number(value) => *value,
            Data::Histogram(histogram) => Number::Double(histogram.count as f64),
            Data::Summary(summary) => Number::Double(summary.count as f64),
        };
        let start = match self.shape {
            Shape::Gauge => 0,
            Shape::Sum(Time::Cumulative, true) | Shape::Histogram(Time::Cumulative) | Shape::Summary => {
                let name = [host.as_bytes(), self.name.as_bytes(), &attributes].join(&0);
                series.get(&name).turn_to(ts, start).start(0, count)
            }
            _ => start,
        };
        let span = Span { start, end: ts };
        match &self.value {
            Data::Number(value) => points::number(out, span, *value, [&attributes, &[]]),
            Data::Histogram(histogram) => histogram.write(out, span, &attributes),
            Data::Summary(summary) => summary.write(out, span, &attributes),
        }
    }
}

fn number(fields: &Fields<'_>) -> Result<Number, String> {
    said::number(fields, "value")?.ok_or_else(|| "value is missing".to_owned())
}
