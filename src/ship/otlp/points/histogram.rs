//! Histograms with explicit bounds, and summaries, of `metric` records.

use super::{Number, Span};
use crate::ship::line::{Fields, Value};
use crate::ship::otlp::{said, wire};

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
        let (bounds, buckets) = (said::numbers(fields, "bounds")?, said::counts(fields, "bucket_counts")?);
        if !(bounds.is_empty() && buckets.is_empty()) && buckets.len() != bounds.len() + 1 {
            let (bounds, buckets) = (bounds.len(), buckets.len());
            return Err(format!(
                "bucket_counts has {buckets} elements where bounds has {bounds}, not one more"
            ));
        }
        if !bounds.is_sorted_by(|low, high| low.as_f64() < high.as_f64()) {
            return Err("bounds do not ascend".into());
        }
        let add = |sum: u64, bucket: &Value<'_>| sum.checked_add(bucket.as_u64()?);
        let sum_of_buckets = buckets.iter().try_fold(0, add).ok_or("bucket_counts are too large")?;
        let count = match said::count(fields, "count")? {
            Some(count) if buckets.is_empty() || count == sum_of_buckets => count,
            Some(count) => {
                return Err(format!("count is {count}, the sum of bucket_counts {sum_of_buckets}"));
            }
            None if buckets.is_empty() => return Err("count is missing".into()),
            None => sum_of_buckets,
        };
        Ok(Self { count, sum: said::number(fields, "sum")?.map(Number::as_f64), bounds, buckets })
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
        let (quantiles, values) = (said::numbers(fields, "quantiles")?, said::numbers(fields, "values")?);
        if quantiles.len() != values.len() {
            let (quantiles, values) = (quantiles.len(), values.len());
            return Err(format!("quantiles has {quantiles} elements and values {values}, not as many"));
        }
        if !quantiles.iter().all(|quantile| quantile.as_f64().is_some_and(|at| (0.0..=1.0).contains(&at))) {
            return Err("quantiles are not from 0 to 1".into());
        }
        let count = said::count(fields, "count")?.ok_or("count is missing")?;
        let sum = said::number(fields, "sum")?.map_or(0.0, Number::as_f64);
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
