//! Creates the tables of the Collector's ClickHouse exporter: its names, columns and order. Times of data points are
//! kept to the nanosecond, where the exporter's own tables have seconds.

use super::super::server::Server;
use super::super::tables::Creation;
use super::Kind;

const MAP: &str = "Map(LowCardinality(String), String)";
const TEXT: &str = "String";
const WORD: &str = "LowCardinality(String)";
const TIME: &str = "DateTime64(9)";

/// Name and type.
type Columns = &'static [(&'static str, &'static str)];

const LOG: Columns = &[
    ("Timestamp", TIME),
    ("TraceId", TEXT),
    ("SpanId", TEXT),
    ("TraceFlags", "UInt8"),
    ("SeverityText", WORD),
    ("SeverityNumber", "UInt8"),
    ("ServiceName", WORD),
    ("Body", TEXT),
    ("ResourceSchemaUrl", WORD),
    ("ResourceAttributes", MAP),
    ("ScopeSchemaUrl", WORD),
    ("ScopeName", TEXT),
    ("ScopeVersion", WORD),
    ("ScopeAttributes", MAP),
    ("LogAttributes", MAP),
    ("EventName", TEXT),
];

const SPAN: Columns = &[
    ("Timestamp", TIME),
    ("TraceId", TEXT),
    ("SpanId", TEXT),
    ("ParentSpanId", TEXT),
    ("TraceState", TEXT),
    ("SpanName", WORD),
    ("SpanKind", WORD),
    ("ServiceName", WORD),
    ("ResourceAttributes", MAP),
    ("ScopeName", TEXT),
    ("ScopeVersion", TEXT),
    ("SpanAttributes", MAP),
    ("Duration", "UInt64"),
    ("StatusCode", WORD),
    ("StatusMessage", TEXT),
    (
        "Events",
        "Nested(Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String))",
    ),
    (
        "Links",
        "Nested(TraceId String, SpanId String, TraceState String, Attributes Map(LowCardinality(String), String))",
    ),
];

const METRIC: Columns = &[
    ("ResourceAttributes", MAP),
    ("ResourceSchemaUrl", TEXT),
    ("ScopeName", TEXT),
    ("ScopeVersion", TEXT),
    ("ScopeAttributes", MAP),
    ("ScopeDroppedAttrCount", "UInt32"),
    ("ScopeSchemaUrl", TEXT),
    ("ServiceName", WORD),
    ("MetricName", WORD),
    ("MetricDescription", TEXT),
    ("MetricUnit", TEXT),
    ("Attributes", MAP),
    ("StartTimeUnix", TIME),
    ("TimeUnix", TIME),
    ("Flags", "UInt32"),
];

const EXEMPLARS: (&str, &str) = (
    "Exemplars",
    "Nested(FilteredAttributes Map(LowCardinality(String), String), TimeUnix DateTime64(9), Value Float64, SpanId String, TraceId String)",
);

const GAUGE: Columns = &[("Value", "Float64"), EXEMPLARS];

const SUM: Columns =
    &[("Value", "Float64"), ("AggregationTemporality", "Int32"), ("IsMonotonic", "Bool"), EXEMPLARS];

const HISTOGRAM: Columns = &[
    ("Count", "UInt64"),
    ("Sum", "Float64"),
    ("BucketCounts", "Array(UInt64)"),
    ("ExplicitBounds", "Array(Float64)"),
    ("Min", "Float64"),
    ("Max", "Float64"),
    ("AggregationTemporality", "Int32"),
    EXEMPLARS,
];

const EXPONENTIAL_HISTOGRAM: Columns = &[
    ("Count", "UInt64"),
    ("Sum", "Float64"),
    ("Scale", "Int32"),
    ("ZeroCount", "UInt64"),
    ("PositiveOffset", "Int32"),
    ("PositiveBucketCounts", "Array(UInt64)"),
    ("NegativeOffset", "Int32"),
    ("NegativeBucketCounts", "Array(UInt64)"),
    ("Min", "Float64"),
    ("Max", "Float64"),
    ("AggregationTemporality", "Int32"),
    EXEMPLARS,
];

const SUMMARY: Columns = &[
    ("Count", "UInt64"),
    ("Sum", "Float64"),
    ("ValueAtQuantiles", "Nested(Quantile Float64, Value Float64)"),
];

const POINT_ORDER: &str =
    "ServiceName, MetricName, toStartOfHour(TimeUnix), cityHash64(Attributes), TimeUnix";

/// The columns of a table: names and types.
pub fn columns(kind: Kind) -> Vec<(&'static str, &'static str)> {
    match kind {
        Kind::Logs => LOG.to_vec(),
        Kind::Traces => SPAN.to_vec(),
        Kind::Gauge => [METRIC, GAUGE].concat(),
        Kind::Sum => [METRIC, SUM].concat(),
        Kind::Histogram => [METRIC, HISTOGRAM].concat(),
        Kind::ExponentialHistogram => [METRIC, EXPONENTIAL_HISTOGRAM].concat(),
        Kind::Summary => [METRIC, SUMMARY].concat(),
    }
}

/// The statements that create a table and what belongs to it.
pub fn statements(kind: Kind, creation: &Creation, server: &Server) -> Vec<String> {
    let columns = columns(kind);
    let (time, order) = match kind {
        Kind::Logs => ("Timestamp", "toStartOfFiveMinutes(Timestamp), ServiceName, Timestamp"),
        Kind::Traces => ("Timestamp", "ServiceName, SpanName, toDateTime(Timestamp)"),
        _ => ("TimeUnix", POINT_ORDER),
    };
    let mut parts: Vec<_> = columns.iter().map(|(name, sql_type)| column(name, sql_type)).collect();
    parts.extend(columns.iter().flat_map(|(name, sql_type)| indexes(name, sql_type)));
    let table = server.table(kind.table());
    let mut statements = vec![format!(
        "CREATE TABLE IF NOT EXISTS {table} ({}) {}",
        parts.join(", "),
        creation.engine(time, order)
    )];
    if kind == Kind::Traces {
        // Finds the time of a trace by its id; Grafana and HyperDX ask it first.
        let lookup = server.table("otel_traces_trace_id_ts");
        statements.push(format!(
            "CREATE TABLE IF NOT EXISTS {lookup} (TraceId String CODEC(ZSTD(1)), Start DateTime CODEC(Delta, ZSTD(1)), \
             End DateTime CODEC(Delta, ZSTD(1)), INDEX idx_trace_id TraceId TYPE bloom_filter(0.01) GRANULARITY 1) {}",
            creation.engine("Start", "TraceId, Start")
        ));
        statements.push(format!(
            "CREATE MATERIALIZED VIEW IF NOT EXISTS {} TO {lookup} AS SELECT TraceId, min(Timestamp) AS Start, \
             max(Timestamp) AS End FROM {table} WHERE TraceId != '' GROUP BY TraceId",
            server.table("otel_traces_trace_id_ts_mv")
        ));
    }
    statements
}

fn column(name: &str, sql_type: &str) -> String {
    let codec = match sql_type {
        TIME => "Delta(8), ZSTD(1)",
        "UInt64" if name == "Count" => "Delta(8), ZSTD(1)",
        _ => "ZSTD(1)",
    };
    format!("{name} {sql_type} CODEC({codec})")
}

/// Indexes that skip blocks without a trace, attribute or word.
fn indexes(name: &str, sql_type: &str) -> Vec<String> {
    let index = |suffix: &str, expression: String, kind: &str| {
        format!("INDEX idx_{}{suffix} {expression} TYPE {kind} GRANULARITY 1", name.to_lowercase())
    };
    match name {
        "TraceId" => vec![index("", name.into(), "bloom_filter(0.001)")],
        "Duration" | "TimeUnix" => vec![index("", name.into(), "minmax")],
        "Body" => vec![index("", format!("lower({name})"), "tokenbf_v1(32768, 3, 0)")],
        _ if sql_type == MAP => vec![
            index("_key", format!("mapKeys({name})"), "bloom_filter(0.01)"),
            index("_value", format!("mapValues({name})"), "bloom_filter(0.01)"),
        ],
        _ => Vec::new(),
    }
}
