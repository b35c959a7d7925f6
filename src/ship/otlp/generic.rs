//! `metric` records: one point of a metric that describes itself.

use super::metric::{Metrics, Shape, Time};
use super::points::{self, Histogram, Number, Span, Summary};
use super::series::Series;
use super::wire;
use crate::ship::line::{Fields, Line, Value};

/// The point of a `metric` record.
pub struct Point<'l, 'a> {
    line: &'l Line<'a>,
    name: &'l str,
    shape: Shape,
    value: Data<'l, 'a>,
    attributes: Option<&'l Fields<'a>>,
}

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
        let name = line.str("name").filter(|name| !name.is_empty()).ok_or("metric without a name")?;
        let time = match line.str("temporality") {
            None | Some("cumulative") => Time::Cumulative,
            Some("delta") => Time::Delta,
            Some(other) => return Err(format!("metric of temporality `{other}`")),
        };
        let (shape, value) = match line.str("type").unwrap_or("gauge") {
            "gauge" => (Shape::Gauge, Data::Number(number(line)?)),
            "counter" => (Shape::Sum(time, true), Data::Number(number(line)?)),
            "updowncounter" => (Shape::Sum(time, false), Data::Number(number(line)?)),
            "histogram" => (Shape::Histogram(time), Data::Histogram(Histogram::new(&line.fields)?)),
            "summary" => (Shape::Summary, Data::Summary(Summary::new(&line.fields)?)),
            other => return Err(format!("metric of type `{other}`")),
        };
        let attributes = line.get("attributes").and_then(Value::as_map);
        Ok(Self { line, name, shape, value, attributes })
    }

    /// The number of its metric.
    pub fn metric(&self, metrics: &mut Metrics) -> usize {
        let text = |field| self.line.str(field).unwrap_or("");
        metrics.id(self.name, text("description"), text("unit"), self.shape)
    }

    /// Appends it, measured on `host` at `ts` and counted since `start`.
    pub fn write(&self, out: &mut Vec<u8>, host: &str, ts: u64, start: u64, series: &mut Series) {
        let field = if matches!(self.value, Data::Histogram(_)) { 9 } else { 7 };
        let mut attributes = Vec::new();
        if let Some(given) = self.attributes {
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

fn number(line: &Line<'_>) -> Result<Number, String> {
    let value = line.get("value").ok_or("metric without a value")?;
    Number::new(value).ok_or_else(|| "metric whose value is no number".to_owned())
}
