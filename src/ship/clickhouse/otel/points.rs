//! The columns of data points.

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::exponential_histogram_data_point::Buckets;
use opentelemetry_proto::tonic::metrics::v1::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, NumberDataPoint, SummaryDataPoint, exemplar,
    number_data_point,
};

use super::values::{Form, Out};

/// What all data points have.
pub struct Common<'a> {
    attributes: &'a [KeyValue],
    start: u64,
    /// `time_unix_nano`
    pub time: u64,
    flags: u32,
    exemplars: &'a [Exemplar],
}

/// A data point.
pub trait Point {
    /// What all of them have.
    fn common(&self) -> Common<'_>;

    /// Fills a column that only this type of point has.
    fn write(&self, out: &mut Vec<u8>, name: &str);
}

/// The columns that [`write`] and [`Point::write`] fill.
pub const POINT: [&str; 28] = [
    "Attributes",
    "AttributesKeys",
    "StartTimeUnix",
    "TimeUnix",
    "Flags",
    "Exemplars",
    "Exemplars.FilteredAttributes",
    "Exemplars.TimeUnix",
    "Exemplars.Value",
    "Exemplars.SpanId",
    "Exemplars.TraceId",
    "Value",
    "Count",
    "Sum",
    "Min",
    "Max",
    "BucketCounts",
    "ExplicitBounds",
    "Scale",
    "ZeroCount",
    "ZeroThreshold",
    "PositiveOffset",
    "PositiveBucketCounts",
    "NegativeOffset",
    "NegativeBucketCounts",
    "ValueAtQuantiles",
    "ValueAtQuantiles.Quantile",
    "ValueAtQuantiles.Value",
];

/// Fills a column of a data point.
pub fn write(out: &mut Vec<u8>, name: &str, form: Form, point: &dyn Point) {
    let common = point.common();
    let exemplars = common.exemplars;
    match name {
        "Attributes" => out.attributes(form, common.attributes),
        "AttributesKeys" => out.keys(common.attributes),
        "StartTimeUnix" => out.time(form, common.start),
        "TimeUnix" => out.time(form, common.time),
        "Flags" => out.number(common.flags),
        "Exemplars.FilteredAttributes" => {
            out.list(exemplars, |out, exemplar| out.attributes(form, &exemplar.filtered_attributes));
        }
        "Exemplars.TimeUnix" => out.list(exemplars, |out, exemplar| out.time(form, exemplar.time_unix_nano)),
        "Exemplars.Value" => out.list(exemplars, write_exemplar_value),
        "Exemplars.SpanId" => out.list(exemplars, |out, exemplar| out.id(&exemplar.span_id)),
        "Exemplars.TraceId" => out.list(exemplars, |out, exemplar| out.id(&exemplar.trace_id)),
        "Exemplars" => out.list(exemplars, |out, exemplar| {
            out.extend_from_slice(b"{\"FilteredAttributes\":");
            out.attributes(form, &exemplar.filtered_attributes);
            out.extend_from_slice(b",\"TimeUnix\":");
            out.time(form, exemplar.time_unix_nano);
            out.extend_from_slice(b",\"Value\":");
            write_exemplar_value(out, exemplar);
            out.extend_from_slice(b",\"SpanId\":");
            out.id(&exemplar.span_id);
            out.extend_from_slice(b",\"TraceId\":");
            out.id(&exemplar.trace_id);
            out.push(b'}');
        }),
        name => point.write(out, name),
    }
}

fn write_exemplar_value(out: &mut Vec<u8>, exemplar: &Exemplar) {
    match exemplar.value {
        Some(exemplar::Value::AsDouble(value)) => out.double(value),
        Some(exemplar::Value::AsInt(value)) => out.number(value),
        None => out.number(0),
    }
}

macro_rules! common {
    ($exemplars:expr) => {
        fn common(&self) -> Common<'_> {
            let exemplars: fn(&Self) -> &[Exemplar] = $exemplars;
            Common {
                attributes: &self.attributes,
                start: self.start_time_unix_nano,
                time: self.time_unix_nano,
                flags: self.flags,
                exemplars: exemplars(self),
            }
        }
    };
}

impl Point for NumberDataPoint {
    common!(|point| &point.exemplars);

    fn write(&self, out: &mut Vec<u8>, _: &str) {
        match self.value {
            Some(number_data_point::Value::AsDouble(value)) => out.double(value),
            Some(number_data_point::Value::AsInt(value)) => out.number(value),
            None => out.number(0),
        }
    }
}

impl Point for HistogramDataPoint {
    common!(|point| &point.exemplars);

    fn write(&self, out: &mut Vec<u8>, name: &str) {
        match name {
            "Count" => out.number(self.count),
            "Sum" => out.optional(self.sum),
            "Min" => out.optional(self.min),
            "Max" => out.optional(self.max),
            "BucketCounts" => out.list(&self.bucket_counts, |out, count| out.number(*count)),
            "ExplicitBounds" => out.list(&self.explicit_bounds, |out, bound| out.double(*bound)),
            _ => out.null(),
        }
    }
}

impl Point for ExponentialHistogramDataPoint {
    common!(|point| &point.exemplars);

    fn write(&self, out: &mut Vec<u8>, name: &str) {
        let offset = |buckets: &Option<Buckets>| buckets.as_ref().map_or(0, |buckets| buckets.offset);
        let counts = |out: &mut Vec<u8>, buckets: &Option<Buckets>| {
            let counts = buckets.as_ref().map_or(&[][..], |buckets| &buckets.bucket_counts);
            out.list(counts, |out, count| out.number(*count));
        };
        match name {
            "Count" => out.number(self.count),
            "Sum" => out.optional(self.sum),
            "Min" => out.optional(self.min),
            "Max" => out.optional(self.max),
            "Scale" => out.number(self.scale),
            "ZeroCount" => out.number(self.zero_count),
            "ZeroThreshold" => out.double(self.zero_threshold),
            "PositiveOffset" => out.number(offset(&self.positive)),
            "PositiveBucketCounts" => counts(out, &self.positive),
            "NegativeOffset" => out.number(offset(&self.negative)),
            "NegativeBucketCounts" => counts(out, &self.negative),
            _ => out.null(),
        }
    }
}

impl Point for SummaryDataPoint {
    common!(|_| &[]);

    fn write(&self, out: &mut Vec<u8>, name: &str) {
        let quantiles = &self.quantile_values;
        match name {
            "Count" => out.number(self.count),
            "Sum" => out.double(self.sum),
            "ValueAtQuantiles.Quantile" => out.list(quantiles, |out, quantile| out.double(quantile.quantile)),
            "ValueAtQuantiles.Value" => out.list(quantiles, |out, quantile| out.double(quantile.value)),
            "ValueAtQuantiles" => out.list(quantiles, |out, quantile| {
                out.extend_from_slice(b"{\"Quantile\":");
                out.double(quantile.quantile);
                out.extend_from_slice(b",\"Value\":");
                out.double(quantile.value);
                out.push(b'}');
            }),
            _ => out.null(),
        }
    }
}
