//! Histograms with explicit bounds, and summaries, of `metric` records.

use super::Span;
use crate::ship::line::{Fields, Value, get};
use crate::ship::otlp::wire;

/// A `HistogramDataPoint`.
pub struct Histogram<'f, 'a> {
    /// How many were observed.
    pub count: u64,
    sum: Option<f64>,
    bounds: &'f [Value<'a>],
    buckets: &'f [Value<'a>],
}

impl<'f, 'a> Histogram<'f, 'a> {
    /// Reads `bounds` and `bucket_counts`, or `count` alone, and `sum`.
    ///
    /// # Errors
    /// Which of them is missing or makes no sense.
    pub fn new(fields: &'f Fields<'a>) -> Result<Self, String> {
        let (bounds, buckets) = (array(fields, "bounds")?, array(fields, "bucket_counts")?);
        if !(bounds.is_empty() && buckets.is_empty()) && buckets.len() != bounds.len() + 1 {
            let (bounds, buckets) = (bounds.len(), buckets.len());
            return Err(format!("histogram of {bounds} bounds and {buckets} bucket counts, not one more"));
        }
        let bounds_of = bounds.iter().map(|bound| bound.as_f64().ok_or("histogram bound that is no number"));
        let numbers = bounds_of.collect::<Result<Vec<_>, _>>()?;
        if !numbers.is_sorted_by(|low, high| low < high) {
            return Err("histogram whose bounds do not ascend".into());
        }
        let mut sum_of_buckets = 0u64;
        for bucket in buckets {
            let count = bucket.as_u64().ok_or("histogram bucket count that is no count")?;
            sum_of_buckets = sum_of_buckets.checked_add(count).ok_or("histogram of too large counts")?;
        }
        let said = get(fields, "count").and_then(Value::as_u64);
        // OTLP wants the count to be the sum of the buckets, if there are any.
        let count =
            if buckets.is_empty() { said.ok_or("histogram without a count")? } else { sum_of_buckets };
        Ok(Self { count, sum: get(fields, "sum").and_then(Value::as_f64), bounds, buckets })
    }

    /// Appends it; the attributes are complete fields 9.
    pub fn write(&self, out: &mut Vec<u8>, span: Span, attributes: &[u8]) {
        wire::message(out, 1, |out| {
            span.write(out);
            wire::fixed64(out, 4, self.count);
            if let Some(sum) = self.sum {
                wire::double(out, 5, sum);
            }
            wire::packed(out, 6, self.buckets, |bucket| bucket.as_u64().unwrap_or(0));
            wire::packed(out, 7, self.bounds, |bound| bound.as_f64().unwrap_or(0.0).to_bits());
            out.extend_from_slice(attributes);
        });
    }
}

/// A `SummaryDataPoint`.
pub struct Summary<'f, 'a> {
    /// How many were observed.
    pub count: u64,
    sum: f64,
    quantiles: &'f [Value<'a>],
    values: &'f [Value<'a>],
}

impl<'f, 'a> Summary<'f, 'a> {
    /// Reads `count`, `sum`, `quantiles` and `values`.
    ///
    /// # Errors
    /// Which of them is missing or makes no sense.
    pub fn new(fields: &'f Fields<'a>) -> Result<Self, String> {
        let (quantiles, values) = (array(fields, "quantiles")?, array(fields, "values")?);
        if quantiles.len() != values.len() {
            let (quantiles, values) = (quantiles.len(), values.len());
            return Err(format!("summary of {quantiles} quantiles and {values} values, not as many"));
        }
        if quantiles.iter().chain(values).any(|number| number.as_f64().is_none()) {
            return Err("summary of what are no numbers".into());
        }
        let count = get(fields, "count").and_then(Value::as_u64).ok_or("summary without a count")?;
        let sum = get(fields, "sum").and_then(Value::as_f64).unwrap_or(0.0);
        Ok(Self { count, sum, quantiles, values })
    }

    /// Appends it; the attributes are complete fields 7.
    pub fn write(&self, out: &mut Vec<u8>, span: Span, attributes: &[u8]) {
        wire::message(out, 1, |out| {
            span.write(out);
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

/// The array of that name, or an empty one.
fn array<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<&'f [Value<'a>], String> {
    match get(fields, name) {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(_) => Err(format!("{name} is not an array")),
    }
}
