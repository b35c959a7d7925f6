//! Generic kinds, which describe themselves: `metric`, `log`, `span` and `snapshot`.
//!
//! Any program can write them for `tele-ship`; `scrape --url` writes `metric` and `snapshot`. They
//! can be deserialized too: absent fields have defaults, and unknown fields are ignored.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};
use serde_with::skip_serializing_none;

use super::{Generic, Kind};
use crate::common::time::Timestamp;

/// Attributes: each value is a string, a number, a boolean, or an array of one of these.
pub type Attributes = Map<String, Value>;

/// The type of a `metric` record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum MetricType {
    /// A current value, in `value`.
    #[default]
    Gauge,
    /// A sum that only increases, in `value`.
    Counter,
    /// A sum that can go down, in `value`.
    UpDownCounter,
    /// A distribution in buckets, in `count`, `sum`, `min`, `max`, `bounds`, `bucket_counts`.
    Histogram,
    /// Quantiles computed by the source, in `count`, `sum`, `quantiles`, `values`.
    Summary,
}

/// What the value of a counter, histogram or summary is relative to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Counting {
    /// `start_ts`, or an unknown time.
    #[default]
    Cumulative,
    /// `start_ts`, the end of the previous record.
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
    /// The unit, in UCUM: `By`, `s`, `1`, `{fault}`.
    pub unit: Option<String>,
    /// What the metric measures.
    pub description: Option<String>,
    /// delta or cumulative, for a counter, histogram or summary; cumulative if absent.
    pub temporality: Option<Counting>,
    /// When counting began.
    pub start_ts: Option<Timestamp>,
    /// The value of a gauge, counter or updowncounter. Integers stay integers.
    pub value: Option<Number>,
    /// The number of observations of a histogram or summary.
    pub count: Option<u64>,
    /// The sum of the observations, in the metric's unit.
    pub sum: Option<Number>,
    /// The smallest observation of a histogram since `start_ts`, in the metric's unit.
    pub min: Option<Number>,
    /// The largest observation of a histogram since `start_ts`, in the metric's unit.
    pub max: Option<Number>,
    /// The inclusive upper bounds of a histogram's buckets, ascending. One more bucket follows the last.
    pub bounds: Option<Vec<f64>>,
    /// The number of observations in each bucket of a histogram: one more than `bounds`.
    pub bucket_counts: Option<Vec<u64>>,
    /// The quantiles of a summary, from 0 to 1.
    pub quantiles: Option<Vec<f64>>,
    /// The values of `quantiles`, in the metric's unit and the same order.
    pub values: Option<Vec<f64>>,
    /// Attributes, which distinguish the series of a metric.
    pub attributes: Attributes,
    /// Resource attributes, which override those that `tele-ship` sets, such as `service.name`.
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    pub resource: Attributes,
}

/// One data point of any metric.
pub const METRIC: Kind = Kind::generic::<MetricPoint>(
    "metric",
    "One data point of any metric, with its name, type, unit and attributes",
    Generic::Metric,
);

/// The body of a `log` record.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct LogEntry {
    /// The severity, in any common spelling: TRACE, DEBUG, INFO, WARN, ERROR, FATAL.
    pub severity: Option<String>,
    /// The message: a string, or any other JSON value.
    pub body: Value,
    /// Attributes.
    pub attributes: Attributes,
    /// Resource attributes, which override those that `tele-ship` sets, such as `service.name`.
    #[serde(skip_serializing_if = "Attributes::is_empty")]
    pub resource: Attributes,
}

/// One log message; `ts` is when it happened.
pub const LOG: Kind = Kind::generic::<LogEntry>("log", "One log message", Generic::Log);

/// The relation of a span to other services.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SpanKind {
    /// An operation within a program.
    #[default]
    Internal,
    /// Handles a request.
    Server,
    /// Makes a request.
    Client,
    /// Sends a message.
    Producer,
    /// Handles a message.
    Consumer,
}

/// Something that happened during a span.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpanEvent {
    /// When it happened.
    pub ts: Timestamp,
    /// What happened.
    pub name: String,
    /// Attributes.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
}

/// A reference from a span to another, which may be in another trace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct SpanLink {
    /// The trace of the other span: 32 hexadecimal digits.
    pub trace_id: String,
    /// The other span: 16 hexadecimal digits.
    pub span_id: String,
    /// The W3C `tracestate` of the other span.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_state: Option<String>,
    /// Attributes.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub attributes: Attributes,
}

/// How a span ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SpanStatus {
    /// Not known.
    #[default]
    Unset,
    /// Successfully.
    Ok,
    /// With an error.
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
    /// The id of the parent span, absent for the root of a trace.
    pub parent_span_id: Option<String>,
    /// The W3C `tracestate`.
    pub trace_state: Option<String>,
    /// The operation.
    pub name: String,
    /// internal, server, client, producer or consumer; internal if absent.
    pub span_kind: Option<SpanKind>,
    /// When it began.
    pub begin_ts: Timestamp,
    /// unset, ok or error.
    #[serde(default)]
    pub status: SpanStatus,
    /// What went wrong, where `status` is error.
    pub status_message: Option<String>,
    /// Attributes.
    #[serde(default)]
    pub attributes: Attributes,
    /// What happened during it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub events: Vec<SpanEvent>,
    /// Other spans that it refers to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub links: Vec<SpanLink>,
    /// Resource attributes, which override those that `tele-ship` sets, such as `service.name`.
    #[serde(default, skip_serializing_if = "Attributes::is_empty")]
    pub resource: Attributes,
}

/// One operation of a trace.
pub const SPAN: Kind =
    Kind::generic::<Span>("span", "One operation of a trace; `ts` is its end", Generic::Span);

/// The body of a `snapshot` record.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Snapshot {
    /// The URL, without user name and password.
    pub url: String,
    /// The answer: any JSON value, unchanged.
    pub data: Box<RawValue>,
}

/// The whole answer of a JSON endpoint.
pub const SNAPSHOT: Kind =
    Kind::generic::<Snapshot>("snapshot", "The answer of a JSON endpoint", Generic::Snapshot);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn integers_and_doubles_stay_distinct() {
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
    fn absent_fields_have_defaults() {
        let log: LogEntry = serde_json::from_str(r#"{"body":"up"}"#).unwrap();
        assert_eq!(serde_json::to_value(&log).unwrap(), json!({"body": "up", "attributes": {}}));
        let span = r#"{"trace_id":"0af7651916cd43dd8448eb211c80319c","span_id":"b7ad6b7169203331",
            "name":"check","begin_ts":"2026-11-20T20:45:00Z"}"#;
        assert_eq!(serde_json::from_str::<Span>(span).unwrap().status, SpanStatus::Unset);
        assert!(serde_json::from_str::<Span>(r#"{"name":"check"}"#).is_err());
    }
}
