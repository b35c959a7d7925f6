//! The messages of OTLP 1.x, from the .proto files of opentelemetry-proto: `common/v1`,
//! `resource/v1`, `metrics/v1`, `logs/v1`, `trace/v1`.

use opentelemetry_proto::tonic::logs::v1::SeverityNumber;
use opentelemetry_proto::tonic::metrics::v1::AggregationTemporality;
use opentelemetry_proto::tonic::trace::v1::{span::SpanKind, status::StatusCode};

use crate::ship::line::Signal;

/// A message.
pub struct Message {
    /// True for the items that OTLP counts: points, log records and spans.
    pub item: bool,
    /// Its fields.
    pub fields: &'static [Field],
}

/// A field: its name in JSON, its number and its type.
pub struct Field(pub &'static str, pub u32, pub Type);

/// The type of a field.
#[derive(Clone, Copy)]
pub enum Type {
    /// UTF-8.
    String,
    /// A boolean.
    Bool,
    /// An id of that many bytes, hexadecimal in JSON.
    Id(usize),
    /// Bytes, base64 in JSON.
    Bytes,
    /// A double.
    Double,
    /// 8 bytes, unsigned; a string in JSON.
    Fixed64,
    /// 8 bytes, signed; a string in JSON.
    Sfixed64,
    /// 4 bytes, unsigned.
    Fixed32,
    /// A varint of 32 bits, unsigned.
    Uint32,
    /// A varint of 64 bits, signed; a string in JSON.
    Int64,
    /// A varint of 32 bits, signed, in zigzag encoding.
    Sint32,
    /// An enum; the function returns the number of a name.
    Enum(fn(&str) -> Option<i32>),
    /// Packed doubles.
    Doubles,
    /// Packed 8-byte unsigned numbers; strings in JSON.
    Fixed64s,
    /// Packed varints; strings in JSON.
    Uint64s,
    /// Several strings.
    Strings,
    /// A message.
    One(&'static Message),
    /// Several messages.
    Many(&'static Message),
}

const TEMPORALITY: Type = Enum(|name| Some(AggregationTemporality::from_str_name(name)? as i32));
const SEVERITY: Type = Enum(|name| Some(SeverityNumber::from_str_name(name)? as i32));
const SPAN_KIND: Type = Enum(|name| Some(SpanKind::from_str_name(name)? as i32));
const STATUS_CODE: Type = Enum(|name| Some(StatusCode::from_str_name(name)? as i32));

use Type::{
    Bool, Bytes, Double, Doubles, Enum, Fixed32, Fixed64, Fixed64s, Id, Int64, Many, One, Sfixed64, Sint32,
    String, Strings, Uint32, Uint64s,
};

const fn message(fields: &'static [Field]) -> Message {
    Message { item: false, fields }
}

const fn item(fields: &'static [Field]) -> Message {
    Message { item: true, fields }
}

/// Returns the request of a signal.
pub const fn request(signal: Signal) -> &'static Message {
    match signal {
        Signal::Metrics => &METRICS,
        Signal::Logs => &LOGS,
        Signal::Traces => &TRACES,
    }
}

/// `ExportMetricsServiceRequest`
static METRICS: Message = message(&[Field("resourceMetrics", 1, Many(&RESOURCE_METRICS))]);
/// `ExportLogsServiceRequest`
static LOGS: Message = message(&[Field("resourceLogs", 1, Many(&RESOURCE_LOGS))]);
/// `ExportTraceServiceRequest`
static TRACES: Message = message(&[Field("resourceSpans", 1, Many(&RESOURCE_SPANS))]);

static ANY_VALUE: Message = message(&[
    Field("stringValue", 1, String),
    Field("boolValue", 2, Bool),
    Field("intValue", 3, Int64),
    Field("doubleValue", 4, Double),
    Field("arrayValue", 5, One(&ARRAY_VALUE)),
    Field("kvlistValue", 6, One(&KEY_VALUE_LIST)),
    Field("bytesValue", 7, Bytes),
]);
static ARRAY_VALUE: Message = message(&[Field("values", 1, Many(&ANY_VALUE))]);
static KEY_VALUE_LIST: Message = message(&[Field("values", 1, Many(&KEY_VALUE))]);
static KEY_VALUE: Message = message(&[Field("key", 1, String), Field("value", 2, One(&ANY_VALUE))]);
static SCOPE: Message = message(&[
    Field("name", 1, String),
    Field("version", 2, String),
    Field("attributes", 3, Many(&KEY_VALUE)),
    Field("droppedAttributesCount", 4, Uint32),
]);
static ENTITY_REF: Message = message(&[
    Field("schemaUrl", 1, String),
    Field("type", 2, String),
    Field("idKeys", 3, Strings),
    Field("descriptionKeys", 4, Strings),
]);
static RESOURCE: Message = message(&[
    Field("attributes", 1, Many(&KEY_VALUE)),
    Field("droppedAttributesCount", 2, Uint32),
    Field("entityRefs", 3, Many(&ENTITY_REF)),
]);

static RESOURCE_METRICS: Message = message(&[
    Field("resource", 1, One(&RESOURCE)),
    Field("scopeMetrics", 2, Many(&SCOPE_METRICS)),
    Field("schemaUrl", 3, String),
]);
static SCOPE_METRICS: Message = message(&[
    Field("scope", 1, One(&SCOPE)),
    Field("metrics", 2, Many(&METRIC)),
    Field("schemaUrl", 3, String),
]);
static METRIC: Message = message(&[
    Field("name", 1, String),
    Field("description", 2, String),
    Field("unit", 3, String),
    Field("gauge", 5, One(&GAUGE)),
    Field("sum", 7, One(&SUM)),
    Field("histogram", 9, One(&HISTOGRAM)),
    Field("exponentialHistogram", 10, One(&EXPONENTIAL)),
    Field("summary", 11, One(&SUMMARY)),
    Field("metadata", 12, Many(&KEY_VALUE)),
]);
static GAUGE: Message = message(&[Field("dataPoints", 1, Many(&NUMBER_POINT))]);
static SUM: Message = message(&[
    Field("dataPoints", 1, Many(&NUMBER_POINT)),
    Field("aggregationTemporality", 2, TEMPORALITY),
    Field("isMonotonic", 3, Bool),
]);
static HISTOGRAM: Message = message(&[
    Field("dataPoints", 1, Many(&HISTOGRAM_POINT)),
    Field("aggregationTemporality", 2, TEMPORALITY),
]);
static EXPONENTIAL: Message = message(&[
    Field("dataPoints", 1, Many(&EXPONENTIAL_POINT)),
    Field("aggregationTemporality", 2, TEMPORALITY),
]);
static SUMMARY: Message = message(&[Field("dataPoints", 1, Many(&SUMMARY_POINT))]);
static NUMBER_POINT: Message = item(&[
    Field("startTimeUnixNano", 2, Fixed64),
    Field("timeUnixNano", 3, Fixed64),
    Field("asDouble", 4, Double),
    Field("exemplars", 5, Many(&EXEMPLAR)),
    Field("asInt", 6, Sfixed64),
    Field("attributes", 7, Many(&KEY_VALUE)),
    Field("flags", 8, Uint32),
]);
static HISTOGRAM_POINT: Message = item(&[
    Field("startTimeUnixNano", 2, Fixed64),
    Field("timeUnixNano", 3, Fixed64),
    Field("count", 4, Fixed64),
    Field("sum", 5, Double),
    Field("bucketCounts", 6, Fixed64s),
    Field("explicitBounds", 7, Doubles),
    Field("exemplars", 8, Many(&EXEMPLAR)),
    Field("attributes", 9, Many(&KEY_VALUE)),
    Field("flags", 10, Uint32),
    Field("min", 11, Double),
    Field("max", 12, Double),
]);
static EXPONENTIAL_POINT: Message = item(&[
    Field("attributes", 1, Many(&KEY_VALUE)),
    Field("startTimeUnixNano", 2, Fixed64),
    Field("timeUnixNano", 3, Fixed64),
    Field("count", 4, Fixed64),
    Field("sum", 5, Double),
    Field("scale", 6, Sint32),
    Field("zeroCount", 7, Fixed64),
    Field("positive", 8, One(&BUCKETS)),
    Field("negative", 9, One(&BUCKETS)),
    Field("flags", 10, Uint32),
    Field("exemplars", 11, Many(&EXEMPLAR)),
    Field("min", 12, Double),
    Field("max", 13, Double),
    Field("zeroThreshold", 14, Double),
]);
static BUCKETS: Message = message(&[Field("offset", 1, Sint32), Field("bucketCounts", 2, Uint64s)]);
static SUMMARY_POINT: Message = item(&[
    Field("startTimeUnixNano", 2, Fixed64),
    Field("timeUnixNano", 3, Fixed64),
    Field("count", 4, Fixed64),
    Field("sum", 5, Double),
    Field("quantileValues", 6, Many(&QUANTILE)),
    Field("attributes", 7, Many(&KEY_VALUE)),
    Field("flags", 8, Uint32),
]);
static QUANTILE: Message = message(&[Field("quantile", 1, Double), Field("value", 2, Double)]);
static EXEMPLAR: Message = message(&[
    Field("timeUnixNano", 2, Fixed64),
    Field("asDouble", 3, Double),
    Field("spanId", 4, Id(8)),
    Field("traceId", 5, Id(16)),
    Field("asInt", 6, Sfixed64),
    Field("filteredAttributes", 7, Many(&KEY_VALUE)),
]);

static RESOURCE_LOGS: Message = message(&[
    Field("resource", 1, One(&RESOURCE)),
    Field("scopeLogs", 2, Many(&SCOPE_LOGS)),
    Field("schemaUrl", 3, String),
]);
static SCOPE_LOGS: Message = message(&[
    Field("scope", 1, One(&SCOPE)),
    Field("logRecords", 2, Many(&LOG_RECORD)),
    Field("schemaUrl", 3, String),
]);
static LOG_RECORD: Message = item(&[
    Field("timeUnixNano", 1, Fixed64),
    Field("severityNumber", 2, SEVERITY),
    Field("severityText", 3, String),
    Field("body", 5, One(&ANY_VALUE)),
    Field("attributes", 6, Many(&KEY_VALUE)),
    Field("droppedAttributesCount", 7, Uint32),
    Field("flags", 8, Fixed32),
    Field("traceId", 9, Id(16)),
    Field("spanId", 10, Id(8)),
    Field("observedTimeUnixNano", 11, Fixed64),
    Field("eventName", 12, String),
]);

static RESOURCE_SPANS: Message = message(&[
    Field("resource", 1, One(&RESOURCE)),
    Field("scopeSpans", 2, Many(&SCOPE_SPANS)),
    Field("schemaUrl", 3, String),
]);
static SCOPE_SPANS: Message =
    message(&[Field("scope", 1, One(&SCOPE)), Field("spans", 2, Many(&SPAN)), Field("schemaUrl", 3, String)]);
static SPAN: Message = item(&[
    Field("traceId", 1, Id(16)),
    Field("spanId", 2, Id(8)),
    Field("traceState", 3, String),
    Field("parentSpanId", 4, Id(8)),
    Field("name", 5, String),
    Field("kind", 6, SPAN_KIND),
    Field("startTimeUnixNano", 7, Fixed64),
    Field("endTimeUnixNano", 8, Fixed64),
    Field("attributes", 9, Many(&KEY_VALUE)),
    Field("droppedAttributesCount", 10, Uint32),
    Field("events", 11, Many(&EVENT)),
    Field("droppedEventsCount", 12, Uint32),
    Field("links", 13, Many(&LINK)),
    Field("droppedLinksCount", 14, Uint32),
    Field("status", 15, One(&STATUS)),
    Field("flags", 16, Fixed32),
]);
static EVENT: Message = message(&[
    Field("timeUnixNano", 1, Fixed64),
    Field("name", 2, String),
    Field("attributes", 3, Many(&KEY_VALUE)),
    Field("droppedAttributesCount", 4, Uint32),
]);
static LINK: Message = message(&[
    Field("traceId", 1, Id(16)),
    Field("spanId", 2, Id(8)),
    Field("traceState", 3, String),
    Field("attributes", 4, Many(&KEY_VALUE)),
    Field("droppedAttributesCount", 5, Uint32),
    Field("flags", 6, Fixed32),
]);
static STATUS: Message = message(&[Field("message", 2, String), Field("code", 3, STATUS_CODE)]);
