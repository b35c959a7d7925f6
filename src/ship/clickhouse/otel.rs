//! The rows of the Collector's ClickHouse exporter: one for each data point, log record and span of an OTLP request.
//!
//! Columns are filled by name, in the type that the table gives them; a column with another name keeps its default.

mod points;
mod schema;
mod values;

use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::{DecodeError, Message as _};

use self::points::{POINT, Point};
use self::values::{Form, Out};
use super::parts::Parts;
use super::server::Failure;
use super::tables::{self, Table, Tables};
use crate::ship::line::Signal;
use crate::ship::otlp;

/// A table of the exporter. Its discriminant is its number among [`Kind::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `otel_logs`
    Logs,
    /// `otel_traces`
    Traces,
    /// `otel_metrics_gauge`
    Gauge,
    /// `otel_metrics_sum`
    Sum,
    /// `otel_metrics_histogram`
    Histogram,
    /// `otel_metrics_exponential_histogram`
    ExponentialHistogram,
    /// `otel_metrics_summary`
    Summary,
}

impl Kind {
    /// Every table.
    pub const ALL: [Self; 7] = [
        Self::Logs,
        Self::Traces,
        Self::Gauge,
        Self::Sum,
        Self::Histogram,
        Self::ExponentialHistogram,
        Self::Summary,
    ];

    /// The table's name.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Logs => "otel_logs",
            Self::Traces => "otel_traces",
            Self::Gauge => "otel_metrics_gauge",
            Self::Sum => "otel_metrics_sum",
            Self::Histogram => "otel_metrics_histogram",
            Self::ExponentialHistogram => "otel_metrics_exponential_histogram",
            Self::Summary => "otel_metrics_summary",
        }
    }

    fn of(data: &Data) -> Self {
        match data {
            Data::Gauge(_) => Self::Gauge,
            Data::Sum(_) => Self::Sum,
            Data::Histogram(_) => Self::Histogram,
            Data::ExponentialHistogram(_) => Self::ExponentialHistogram,
            Data::Summary(_) => Self::Summary,
        }
    }
}

/// An OTLP request.
pub enum Message {
    /// Data points.
    Metrics(ExportMetricsServiceRequest),
    /// Log records.
    Logs(ExportLogsServiceRequest),
    /// Spans.
    Traces(ExportTraceServiceRequest),
}

impl Message {
    /// Reads what the encoder made.
    ///
    /// # Errors
    /// Never for bytes of the encoder.
    pub fn decode(body: &otlp::Body) -> Result<Self, DecodeError> {
        let bytes = &body.bytes[..];
        Ok(match body.signal {
            Signal::Metrics => Self::Metrics(ExportMetricsServiceRequest::decode(bytes)?),
            Signal::Logs => Self::Logs(ExportLogsServiceRequest::decode(bytes)?),
            Signal::Traces => Self::Traces(ExportTraceServiceRequest::decode(bytes)?),
        })
    }

    /// The tables that it has rows for, and their columns; creates them if that is allowed.
    ///
    /// # Errors
    /// If a table is missing, or the server cannot be asked.
    pub async fn layouts(&self, tables: &Tables) -> Result<Layouts, Failure> {
        let mut layouts = Layouts::default();
        for kind in Kind::ALL.into_iter().filter(|kind| self.has(*kind)) {
            let statements = |creation: &_| schema::statements(kind, creation, &tables.server);
            layouts.0[kind as usize] = Some(Layout::new(kind, &tables.get(kind.table(), statements).await?));
        }
        Ok(layouts)
    }

    fn has(&self, kind: Kind) -> bool {
        match self {
            Self::Metrics(request) => {
                let scopes = request.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
                scopes
                    .flat_map(|scope| &scope.metrics)
                    .any(|metric| metric.data.as_ref().map(Kind::of) == Some(kind))
            }
            Self::Logs(_) => kind == Kind::Logs,
            Self::Traces(_) => kind == Kind::Traces,
        }
    }

    /// Writes the rows.
    pub fn write(&self, layouts: &Layouts, parts: &mut Parts) {
        match self {
            Self::Metrics(request) => {
                for resource in &request.resource_metrics {
                    for scope in &resource.scope_metrics {
                        let origin = Origin::new(
                            resource.resource.as_ref(),
                            &resource.schema_url,
                            scope.scope.as_ref(),
                            &scope.schema_url,
                        );
                        for metric in &scope.metrics {
                            write_metric(&origin, metric, layouts, parts);
                        }
                    }
                }
            }
            Self::Logs(request) => {
                let Some(layout) = layouts.get(Kind::Logs) else { return };
                for resource in &request.resource_logs {
                    for scope in &resource.scope_logs {
                        let origin = Origin::new(
                            resource.resource.as_ref(),
                            &resource.schema_url,
                            scope.scope.as_ref(),
                            &scope.schema_url,
                        );
                        let start = layout.start(|out, column| origin.write(out, column));
                        for log in &scope.log_records {
                            let row = parts.row(Kind::Logs as usize, log_time(log));
                            layout.row(row, &start, |out, column| write_log(out, column, log));
                        }
                    }
                }
            }
            Self::Traces(request) => {
                let Some(layout) = layouts.get(Kind::Traces) else { return };
                for resource in &request.resource_spans {
                    for scope in &resource.scope_spans {
                        let origin = Origin::new(
                            resource.resource.as_ref(),
                            &resource.schema_url,
                            scope.scope.as_ref(),
                            &scope.schema_url,
                        );
                        let start = layout.start(|out, column| origin.write(out, column));
                        for span in &scope.spans {
                            let row = parts.row(Kind::Traces as usize, span.start_time_unix_nano);
                            layout.row(row, &start, |out, column| write_span(out, column, span));
                        }
                    }
                }
            }
        }
    }
}

/// A column that an insert fills.
struct Column {
    name: String,
    /// The name in JSON, and a colon.
    key: Vec<u8>,
    form: Form,
}

/// The columns of a table that have a value.
struct Layout {
    /// Those with the same value in many rows, by resource, scope and metric.
    common: Vec<Column>,
    /// Those of each row.
    own: Vec<Column>,
}

/// The tables of a request, by number.
#[derive(Default)]
pub struct Layouts([Option<Layout>; Kind::ALL.len()]);

impl Layouts {
    /// Those of the tables that `--create` makes.
    pub fn created() -> Self {
        let column =
            |(name, sql_type): (&str, &str)| tables::Column { name: name.into(), sql_type: sql_type.into() };
        Self(Kind::ALL.map(|kind| {
            let columns = schema::columns(kind).into_iter().map(column).collect();
            Some(Layout::new(kind, &Arc::new(Table { columns })))
        }))
    }

    fn get(&self, kind: Kind) -> Option<&Layout> {
        self.0[kind as usize].as_ref()
    }
}

impl Layout {
    fn new(kind: Kind, table: &Arc<Table>) -> Self {
        let (mut common, mut own) = (Vec::new(), Vec::new());
        for column in &table.columns {
            let is = |names: &[&str]| names.contains(&column.name.as_str());
            let list = match kind {
                _ if is(&ORIGIN) => &mut common,
                Kind::Logs if is(&LOG) => &mut own,
                Kind::Traces if is(&SPAN) => &mut own,
                Kind::Logs | Kind::Traces => continue,
                _ if is(&METRIC) => &mut common,
                _ if is(&POINT) => &mut own,
                _ => continue,
            };
            let mut key = Vec::new();
            key.text(&column.name);
            key.push(b':');
            list.push(Column { name: column.name.clone(), key, form: Form::of(&column.sql_type) });
        }
        Self { common, own }
    }

    /// The start of rows that have these columns in common.
    fn start(&self, write: impl Fn(&mut Vec<u8>, &Column)) -> Vec<u8> {
        let mut start = vec![b'{'];
        fill(&mut start, &self.common, write);
        start
    }

    fn row(&self, out: &mut Vec<u8>, start: &[u8], write: impl Fn(&mut Vec<u8>, &Column)) {
        out.extend_from_slice(start);
        fill(out, &self.own, write);
        if out.last() == Some(&b',') {
            out.pop();
        }
        out.extend_from_slice(b"}\n");
    }
}

fn fill(out: &mut Vec<u8>, columns: &[Column], write: impl Fn(&mut Vec<u8>, &Column)) {
    for column in columns {
        out.extend_from_slice(&column.key);
        write(out, column);
        out.push(b',');
    }
}

/// The resource and the scope of rows.
struct Origin<'a> {
    resource: &'a [KeyValue],
    resource_url: &'a str,
    scope: Option<&'a InstrumentationScope>,
    scope_url: &'a str,
}

/// The columns that [`Origin`] fills.
const ORIGIN: [&str; 10] = [
    "ResourceAttributes",
    "ResourceAttributesKeys",
    "ResourceSchemaUrl",
    "ServiceName",
    "ScopeName",
    "ScopeVersion",
    "ScopeAttributes",
    "ScopeAttributesKeys",
    "ScopeDroppedAttrCount",
    "ScopeSchemaUrl",
];

impl<'a> Origin<'a> {
    fn new(
        resource: Option<&'a Resource>,
        resource_url: &'a str,
        scope: Option<&'a InstrumentationScope>,
        scope_url: &'a str,
    ) -> Self {
        Self {
            resource: resource.map_or(&[], |resource| &resource.attributes),
            resource_url,
            scope,
            scope_url,
        }
    }

    fn write(&self, out: &mut Vec<u8>, column: &Column) {
        let scope = self.scope.map_or(&[][..], |scope| &scope.attributes);
        match column.name.as_str() {
            "ResourceAttributes" => out.attributes(column.form, self.resource),
            "ResourceAttributesKeys" => out.keys(self.resource),
            "ResourceSchemaUrl" => out.text(self.resource_url),
            "ServiceName" => {
                let name = self.resource.iter().find(|attribute| attribute.key == "service.name");
                out.text(&name.map_or("".into(), |attribute| values::text(attribute.value.as_ref())));
            }
            "ScopeName" => out.text(self.scope.map_or("", |scope| &scope.name)),
            "ScopeVersion" => out.text(self.scope.map_or("", |scope| &scope.version)),
            "ScopeAttributes" => out.attributes(column.form, scope),
            "ScopeAttributesKeys" => out.keys(scope),
            "ScopeDroppedAttrCount" => {
                out.number(self.scope.map_or(0, |scope| scope.dropped_attributes_count))
            }
            _ => out.text(self.scope_url),
        }
    }
}

/// The columns that [`write_log`] fills.
const LOG: [&str; 11] = [
    "Timestamp",
    "ObservedTimestamp",
    "TraceId",
    "SpanId",
    "TraceFlags",
    "SeverityText",
    "SeverityNumber",
    "Body",
    "LogAttributes",
    "LogAttributesKeys",
    "EventName",
];

fn log_time(log: &LogRecord) -> u64 {
    if log.time_unix_nano == 0 { log.observed_time_unix_nano } else { log.time_unix_nano }
}

fn write_log(out: &mut Vec<u8>, column: &Column, log: &LogRecord) {
    match column.name.as_str() {
        "Timestamp" => out.time(column.form, log_time(log)),
        "ObservedTimestamp" => out.time(column.form, log.observed_time_unix_nano),
        "TraceId" => out.id(&log.trace_id),
        "SpanId" => out.id(&log.span_id),
        // Of the 32 bits, 8 are the W3C trace flags; the exporter's column has those.
        "TraceFlags" => out.number(log.flags & 0xff),
        "SeverityText" => out.text(&log.severity_text),
        "SeverityNumber" => out.number(log.severity_number),
        "Body" => out.body(column.form, log.body.as_ref()),
        "LogAttributes" => out.attributes(column.form, &log.attributes),
        "LogAttributesKeys" => out.keys(&log.attributes),
        _ => out.text(&log.event_name),
    }
}

/// The columns that [`write_span`] fills. `Events` and `Links` are one column each, or one for each of their fields.
const SPAN: [&str; 22] = [
    "Timestamp",
    "TraceId",
    "SpanId",
    "ParentSpanId",
    "TraceState",
    "SpanName",
    "SpanKind",
    "SpanAttributes",
    "SpanAttributesKeys",
    "Duration",
    "StatusCode",
    "StatusMessage",
    "Events",
    "Events.Timestamp",
    "Events.Name",
    "Events.Attributes",
    "Links",
    "Links.TraceId",
    "Links.SpanId",
    "Links.TraceState",
    "Links.Attributes",
    "TraceFlags",
];

fn write_span(out: &mut Vec<u8>, column: &Column, span: &Span) {
    let form = column.form;
    let (events, links) = (&span.events, &span.links);
    match column.name.as_str() {
        "Timestamp" => out.time(form, span.start_time_unix_nano),
        "TraceId" => out.id(&span.trace_id),
        "SpanId" => out.id(&span.span_id),
        "ParentSpanId" => out.id(&span.parent_span_id),
        "TraceState" => out.text(&span.trace_state),
        "TraceFlags" => out.number(span.flags & 0xff),
        "SpanName" => out.text(&span.name),
        "SpanKind" if form == Form::Number => out.number(span.kind),
        "SpanKind" => {
            let names = ["Unspecified", "Internal", "Server", "Client", "Producer", "Consumer"];
            out.text(usize::try_from(span.kind).ok().and_then(|kind| names.get(kind)).unwrap_or(&""));
        }
        "SpanAttributes" => out.attributes(form, &span.attributes),
        "SpanAttributesKeys" => out.keys(&span.attributes),
        "Duration" => out.number(span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano)),
        "StatusCode" => {
            let code = span.status.as_ref().map_or(0, |status| status.code);
            let names = ["Unset", "Ok", "Error"];
            match form {
                Form::Number => out.number(code),
                _ => out.text(usize::try_from(code).ok().and_then(|code| names.get(code)).unwrap_or(&"")),
            }
        }
        "StatusMessage" => out.text(span.status.as_ref().map_or("", |status| &status.message)),
        "Events.Timestamp" => out.list(events, |out, event| out.time(form, event.time_unix_nano)),
        "Events.Name" => out.list(events, |out, event| out.text(&event.name)),
        "Events.Attributes" => out.list(events, |out, event| out.attributes(form, &event.attributes)),
        "Events" => out.list(events, |out, event| {
            out.extend_from_slice(b"{\"Timestamp\":");
            out.time(form, event.time_unix_nano);
            out.extend_from_slice(b",\"Name\":");
            out.text(&event.name);
            out.extend_from_slice(b",\"Attributes\":");
            out.attributes(form, &event.attributes);
            out.push(b'}');
        }),
        "Links.TraceId" => out.list(links, |out, link| out.id(&link.trace_id)),
        "Links.SpanId" => out.list(links, |out, link| out.id(&link.span_id)),
        "Links.TraceState" => out.list(links, |out, link| out.text(&link.trace_state)),
        "Links.Attributes" => out.list(links, |out, link| out.attributes(form, &link.attributes)),
        _ => out.list(links, |out, link| {
            out.extend_from_slice(b"{\"TraceId\":");
            out.id(&link.trace_id);
            out.extend_from_slice(b",\"SpanId\":");
            out.id(&link.span_id);
            out.extend_from_slice(b",\"TraceState\":");
            out.text(&link.trace_state);
            out.extend_from_slice(b",\"Attributes\":");
            out.attributes(form, &link.attributes);
            out.push(b'}');
        }),
    }
}

/// The columns that the metric itself fills.
const METRIC: [&str; 6] =
    ["MetricName", "MetricDescription", "MetricUnit", "AggregationTemporality", "AggTemp", "IsMonotonic"];

fn write_metric(origin: &Origin<'_>, metric: &Metric, layouts: &Layouts, parts: &mut Parts) {
    let Some(data) = &metric.data else { return };
    let kind = Kind::of(data);
    let Some(layout) = layouts.get(kind) else { return };
    let (temporality, is_monotonic) = match data {
        Data::Gauge(_) | Data::Summary(_) => (0, false),
        Data::Sum(sum) => (sum.aggregation_temporality, sum.is_monotonic),
        Data::Histogram(histogram) => (histogram.aggregation_temporality, false),
        Data::ExponentialHistogram(histogram) => (histogram.aggregation_temporality, false),
    };
    let start = layout.start(|out, column| match column.name.as_str() {
        "MetricName" => out.text(&metric.name),
        "MetricDescription" => out.text(&metric.description),
        "MetricUnit" => out.text(&metric.unit),
        // The second is its name in tables of exporters before 2024.
        "AggregationTemporality" | "AggTemp" => out.number(temporality),
        "IsMonotonic" => out.extend_from_slice(if is_monotonic { b"true" } else { b"false" }),
        _ => origin.write(out, column),
    });
    let mut add = |point: &dyn Point| {
        let row = parts.row(kind as usize, point.common().time);
        layout.row(row, &start, |out, column| points::write(out, &column.name, column.form, point));
    };
    match data {
        Data::Gauge(gauge) => gauge.data_points.iter().for_each(|point| add(point)),
        Data::Sum(sum) => sum.data_points.iter().for_each(|point| add(point)),
        Data::Histogram(histogram) => histogram.data_points.iter().for_each(|point| add(point)),
        Data::ExponentialHistogram(histogram) => histogram.data_points.iter().for_each(|point| add(point)),
        Data::Summary(summary) => summary.data_points.iter().for_each(|point| add(point)),
    }
}
