//! `metric` records: one data point that names its own metric.

use std::borrow::Cow;

use super::accessors::{self, Number};
use super::metric::{Metrics, Shape};
use super::points::{self, TimeRange};
use super::series::Series;
use super::wire;
use crate::record::Temporality;
use crate::ship::line::{Fields, Value};

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
    /// Reads a record.
    ///
    /// # Errors
    /// Which field is missing or invalid.
    pub fn new(fields: &'l Fields<'a>) -> Result<Self, String> {
        let name =
            accessors::text(fields, "name")?.filter(|name| !name.is_empty()).ok_or("name is missing")?;
        let time = [Temporality::Cumulative, Temporality::Delta]
            [accessors::one_of(fields, "temporality", &TEMPORALITIES)?];
        let (shape, value) = match accessors::one_of(fields, "type", &TYPES)? {
            0 => (Shape::Gauge, Data::Number(number(fields)?)),
            1 => (Shape::Sum(time, true), Data::Number(number(fields)?)),
            2 => (Shape::Sum(time, false), Data::Number(number(fields)?)),
            3 => (Shape::Histogram(time), Data::Histogram(Histogram::new(fields)?)),
            _ => (Shape::Summary, Data::Summary(Summary::new(fields)?)),
        };
        let text = |field| accessors::text(fields, field).map(Option::unwrap_or_default);
        let (unit, description) = (text("unit")?, text("description")?);
        let attributes = accessors::map(fields, "attributes")?;
        Ok(Self { name, unit, description, shape, value, attributes })
    }

    /// Returns the id of its metric.
    pub fn metric(&self, metrics: &mut Metrics) -> usize {
        metrics.id(self.name, self.description, self.unit, self.shape)
    }

    /// Appends the point, measured by `source` (host and resource) at `ts` and counted from `start`.
    pub fn write(&self, out: &mut Vec<u8>, source: &[u8], ts: u64, start: u64, series: &mut Series) {
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
            Shape::Sum(Temporality::Cumulative, true)
            | Shape::Histogram(Temporality::Cumulative)
            | Shape::Summary => {
                let name = [source, self.name.as_bytes(), &attributes].join(&0);
                series.get(&name, 1).turn_to(ts, start).start(0, count)
            }
            _ => start,
        };
        let time = TimeRange { start, end: ts };
        match &self.value {
            Data::Number(value) => points::number(out, time, *value, [&attributes, &[]]),
            Data::Histogram(histogram) => histogram.write(out, time, &attributes),
            Data::Summary(summary) => summary.write(out, time, &attributes),
        }
    }
}

fn number(fields: &Fields<'_>) -> Result<Number, String> {
    accessors::number(fields, "value")?.ok_or_else(|| "value is missing".to_owned())
}

/// A `HistogramDataPoint`.
struct Histogram<'f, 'a> {
    count: u64,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    bounds: &'f [Value<'a>],
    buckets: &'f [Value<'a>],
}

impl<'f, 'a> Histogram<'f, 'a> {
    /// Reads `bounds` and `bucket_counts`, or `count` alone, and `sum`, `min` and `max`.
    fn new(fields: &'f Fields<'a>) -> Result<Self, String> {
        let (bounds, buckets) =
            (accessors::numbers(fields, "bounds")?, accessors::counts(fields, "bucket_counts")?);
        if !(bounds.is_empty() && buckets.is_empty()) && buckets.len() != bounds.len() + 1 {
            let (bounds, buckets) = (bounds.len(), buckets.len());
            return Err(format!(
                "bucket_counts has {buckets} elements and bounds has {bounds}; it must have one more"
            ));
        }
        if !bounds.is_sorted_by(|low, high| low.as_f64() < high.as_f64()) {
            return Err("bounds are not in ascending order".into());
        }
        let add = |sum: u64, bucket: &Value<'_>| sum.checked_add(bucket.as_u64()?);
        let sum_of_buckets = buckets.iter().try_fold(0, add).ok_or("bucket_counts are too large")?;
        let count = match accessors::count(fields, "count")? {
            Some(count) if buckets.is_empty() || count == sum_of_buckets => count,
            Some(count) => {
                return Err(format!("count is {count}, but bucket_counts add up to {sum_of_buckets}"));
            }
            None if buckets.is_empty() => return Err("count is missing".into()),
            None => sum_of_buckets,
        };
        let double = |name| accessors::number(fields, name).map(|value| value.map(Number::as_f64));
        let (sum, min, max) = (double("sum")?, double("min")?, double("max")?);
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return Err(format!("min is {min}, which is above max, {max}"));
        }
        Ok(Self { count, sum, min, max, bounds, buckets })
    }

    /// Appends the point. The attributes are encoded as fields 9.
    fn write(&self, out: &mut Vec<u8>, time: TimeRange, attributes: &[u8]) {
        wire::message(out, 1, |out| {
            time.write(out);
            wire::fixed64(out, 4, self.count);
            if let Some(sum) = self.sum {
                wire::double(out, 5, sum);
            }
            wire::packed(out, 6, self.buckets, |bucket| bucket.as_u64().unwrap_or(0));
            wire::packed(out, 7, self.bounds, |bound| bound.as_f64().unwrap_or(0.0).to_bits());
            out.extend_from_slice(attributes);
            for (field, value) in [(11, self.min), (12, self.max)] {
                if let Some(value) = value {
                    wire::double(out, field, value);
                }
            }
        });
    }
}

/// A `SummaryDataPoint`.
struct Summary<'f, 'a> {
    count: u64,
    sum: f64,
    quantiles: &'f [Value<'a>],
    values: &'f [Value<'a>],
}

impl<'f, 'a> Summary<'f, 'a> {
    /// Reads `count`, `sum`, `quantiles` and `values`.
    fn new(fields: &'f Fields<'a>) -> Result<Self, String> {
        let (quantiles, values) =
            (accessors::numbers(fields, "quantiles")?, accessors::numbers(fields, "values")?);
        if quantiles.len() != values.len() {
            let (quantiles, values) = (quantiles.len(), values.len());
            return Err(format!("quantiles has {quantiles} elements and values has {values}"));
        }
        if !quantiles.iter().all(|quantile| quantile.as_f64().is_some_and(|at| (0.0..=1.0).contains(&at))) {
            return Err("quantiles are not between 0 and 1".into());
        }
        let count = accessors::count(fields, "count")?.ok_or("count is missing")?;
        let sum = accessors::number(fields, "sum")?.map_or(0.0, Number::as_f64);
        Ok(Self { count, sum, quantiles, values })
    }

    /// Appends the point. The attributes are encoded as fields 7.
    fn write(&self, out: &mut Vec<u8>, time: TimeRange, attributes: &[u8]) {
        wire::message(out, 1, |out| {
            time.write(out);
            wire::fixed64(out, 4, self.count);
            wire::double(out, 5, self.sum);
            for (quantile, value) in self.quantiles.iter().zip(self.values) {
                wire::message(out, 6, |out| {
                    wire::double(out, 1, quantile.as_f64().unwrap_or(0.0));
                    wire::double(out, 2, value.as_f64().unwrap_or(0.0));
                });
            }
            out.extend_from_slice(attributes);
        });
    }
}
