//! Kinds that describe themselves: what they are in OpenTelemetry stands in the
//! record, not in a table. Any program, of any language, may write them for
//! `tele-ship`; `scrape --url` writes `metric` and `snapshot`.
//!
//! They are read as well as written: what a line leaves out has a default, and
//! fields that are not known here are passed over.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use serde_with::skip_serializing_none;

use super::{Generic, Kind, Record};
use crate::common::time::Timestamp;

/// Attribute keys and their values: strings, numbers, booleans, or arrays of one of them.
pub type Attributes = Map<String, Value>;

/// What kind of number a `metric` record holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricType {
    /// A value of now: `value`.
    #[default]
    Gauge,
    /// A sum that only grows: `value`.
    Counter,
    /// A sum that can go down: `value`.
    UpDownCounter,
    /// A distribution in buckets: `count`, `sum`, `bounds`, `bucket_counts`.
    Histogram,
    /// Quantiles that the source itself reckoned: `count`, `sum`, `quantiles`, `values`.
    Summary,
}

/// What a counter, histogram or summary of a `metric` record counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    /// From `start_ts`, or from a time that is not known.
    #[default]
    Cumulative,
    /// From `start_ts`, the end of the record before.
    Delta,
}

/// The body of a `metric` record: one point of one series.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct MetricPoint {
    /// The metric's name.
    pub name: String,
    /// gauge, counter, updowncounter, histogram or summary.
    #[serde(rename = "type")]
    pub metric_type: MetricType,
    /// UCUM: `By`, `s`, `1`, `{fault}`.
    pub unit: Option<String>,
    /// What it measures, for people.
    pub description: Option<String>,
    /// delta or cumulative, of a counter, histogram or summary; cumulative if absent.
    pub temporality: Option<Counting>,
    /// When counting began.
    pub start_ts: Option<Timestamp>,
    /// The number, of a gauge, counter or updowncounter; an integer is one.
    pub value: Option<Number>,
    /// How many were observed, of a histogram or summary.
    pub count: Option<u64>,
    /// Their sum, in the metric's unit.
    pub sum: Option<Number>,
    /// The upper bounds of a histogram's buckets, inclusive and ascending; above the last is one more bucket.
    pub bounds: Option<Vec<f64>>,
    /// How many were observed in each bucket of a histogram: one number more than `bounds` has.
    pub bucket_counts: Option<Vec<u64>>,
    /// Which quantiles of a summary are known, from 0 to 1.
    pub quantiles: Option<Vec<f64>>,
    /// Their values, in the metric's unit, in the same order.
    pub values: Option<Vec<f64>>,
    /// What tells this series from the others of the name.
    pub attributes: Attributes,
}

impl Record for MetricPoint {
    const KIND: &'static Kind = &METRIC;
}

/// One point of any metric.
pub const METRIC: Kind = Kind::generic::<MetricPoint>(
    "metric",
    "One point of a metric that describes itself: name, type, unit and attributes are its own",
    Generic::Metric,
);

/// The body of a `log` record.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogEntry {
    /// How severe, in any common spelling: TRACE, DEBUG, INFO, WARN, ERROR, FATAL.
    pub severity: Option<String>,
    /// What happened; text as a rule, but any JSON value may stand here.
    pub body: Value,
    /// What is known about it.
    pub attributes: Attributes,
}

impl Record for LogEntry {
    const KIND: &'static Kind = &LOG;
}

/// One log message; `ts` is when it happened.
pub const LOG: Kind = Kind::generic::<LogEntry>("log", "One log message", Generic::Log);

/// How a span ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SpanStatus {
    /// Nobody said.
    #[default]
    Unset,
    /// Well.
    Ok,
    /// Not well.
    Error,
}

/// The body of a `span` record; `ts` is its end.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Span {
    /// The trace it belongs to: 32 hexadecimal digits.
    pub trace_id: String,
    /// Its own id: 16 hexadecimal digits.
    pub span_id: String,
    /// The id of the span it is a part of; the root of a trace has none.
    pub parent_span_id: Option<String>,
    /// The operation.
    pub name: String,
    /// When it began.
    pub begin_ts: Timestamp,
    /// unset, ok or error.
    #[serde(default)]
    pub status: SpanStatus,
    /// What went wrong, where `status` is error.
    pub status_message: Option<String>,
    /// What is known about it.
    #[serde(default)]
    pub attributes: Attributes,
}

impl Record for Span {
    const KIND: &'static Kind = &SPAN;
}

/// One operation of a trace.
pub const SPAN: Kind =
    Kind::generic::<Span>("span", "One operation of a trace; `ts` is its end", Generic::Span);

/// The body of a `snapshot` record.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// Where it was read, without user name and password.
    pub url: String,
    /// What was answered: any JSON value, as it came. The one field of all kinds that nests.
    pub data: Box<RawValue>,
}

impl Record for Snapshot {
    const KIND: &'static Kind = &SNAPSHOT;
}

/// The whole answer of a JSON endpoint.
pub const SNAPSHOT: Kind =
    Kind::generic::<Snapshot>("snapshot", "What a JSON endpoint answered", Generic::Snapshot);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_stay_what_they_are() {
        let line = r#"{"ts":"2026-11-20T20:45:00Z","kind":"metric","host":"h","name":"a","type":"counter",
            "value":18446744073709551615,"start_ts":"2026-11-20T20:00:00Z","attributes":{"k":[1,2]}}"#;
        let point: MetricPoint = serde_json::from_str(line).unwrap();
        assert_eq!(point.start_ts, Some("2026-11-20T20:00:00Z".parse().unwrap()));
        let expected = json!({
            "name": "a", "type": "counter", "start_ts": "2026-11-20T20:00:00.000000000Z",
            "value": 18446744073709551615u64, "attributes": {"k": [1, 2]}
        });
        assert_eq!(serde_json::to_value(&point).unwrap(), expected);
        let half: MetricPoint = serde_json::from_str(r#"{"name":"a","value":1.0}"#).unwrap();
        assert_eq!(serde_json::to_string(&half.value).unwrap(), "1.0");
    }

    #[test]
    fn what_a_line_leaves_out_has_a_default() {
        let log: LogEntry = serde_json::from_str(r#"{"body":"up"}"#).unwrap();
        assert_eq!(serde_json::to_value(&log).unwrap(), json!({"body": "up", "attributes": {}}));
        let span = r#"{"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331",
            "name":"check","begin_ts":"2026-11-20T20:45:00Z"}"#;
        assert_eq!(serde_json::from_str::<Span>(span).unwrap().status, SpanStatus::Unset);
        assert!(serde_json::from_str::<Span>(r#"{"name":"check"}"#).is_err());
    }
}
