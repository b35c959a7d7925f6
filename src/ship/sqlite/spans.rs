//! Converts the spans of OTLP/JSON lines to `span` records, and computes the duration of every span.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::{Value, json};

use crate::common::time::Timestamp;
use crate::record::SPAN;
use crate::ship::line::Line;
use crate::ship::otlp;

/// The column of a span's duration, which is computed from its times.
pub const DURATION: &str = "duration_ns";

/// The duration of a `span` record in nanoseconds; `None` if its times are not valid, or the line has such a field.
pub fn duration(line: &Line<'_>) -> Option<i64> {
    let (begin, end) = (line.time("begin_ts")?, line.ts()?);
    let duration = i64::try_from(end.0.checked_sub(begin.0)?).ok()?;
    line.get(DURATION).is_none().then_some(duration)
}

/// The `span` records of a line of OTLP/JSON; none if it is not valid or has no spans.
pub fn records(line: &Line<'_>) -> Vec<Value> {
    let resources = otlp::spans(line).map(|request| request.resource_spans).unwrap_or_default();
    let mut records = Vec::new();
    for resource in &resources {
        let attributes = attributes(resource.resource.as_ref().map_or(&[], |resource| &resource.attributes));
        for scope in &resource.scope_spans {
            let of_scope = scope.scope.as_ref().map(describe);
            for span in &scope.spans {
                let host = attributes.get("host.name").cloned().unwrap_or_default();
                let origin = [
                    ("host", host),
                    ("resource", attributes.clone()),
                    ("scope", of_scope.clone().unwrap_or_default()),
                ];
                records.push(object(record(span).into_iter().chain(origin)));
            }
        }
    }
    records
}

fn record(span: &Span) -> [(&'static str, Value); 14] {
    let (begin, end) = (span.start_time_unix_nano, span.end_time_unix_nano);
    let status = span.status.clone().unwrap_or_default();
    let kinds = [None, Some("internal"), Some("server"), Some("client"), Some("producer"), Some("consumer")];
    let statuses = ["unset", "ok", "error"];
    let events = span.events.iter().map(|event| {
        object([
            ("ts", time(event.time_unix_nano)),
            ("name", event.name.as_str().into()),
            ("attributes", attributes(&event.attributes)),
        ])
    });
    let links = span.links.iter().map(|link| {
        object([
            ("trace_id", text(&hex(&link.trace_id))),
            ("span_id", text(&hex(&link.span_id))),
            ("trace_state", text(&link.trace_state)),
            ("attributes", attributes(&link.attributes)),
        ])
    });
    [
        // A span that has not ended gets the time at which it began.
        ("ts", if end == 0 { time(begin) } else { time(end) }),
        ("kind", SPAN.name.into()),
        ("trace_id", text(&hex(&span.trace_id))),
        ("span_id", text(&hex(&span.span_id))),
        ("parent_span_id", text(&hex(&span.parent_span_id))),
        ("trace_state", text(&span.trace_state)),
        ("name", span.name.as_str().into()),
        ("span_kind", named(&kinds, span.kind).flatten().into()),
        ("begin_ts", time(begin)),
        ("status", named(&statuses, status.code).into()),
        ("status_message", text(&status.message)),
        ("attributes", attributes(&span.attributes)),
        ("events", list(events.collect())),
        ("links", list(links.collect())),
    ]
}

/// An object of the fields that have a value.
fn object(fields: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let known = fields.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(known.map(|(name, value)| (name.to_owned(), value)).collect())
}

/// An array; null if it is empty.
fn list(values: Vec<Value>) -> Value {
    if values.is_empty() { Value::Null } else { values.into() }
}

/// The name of an enum's value.
fn named<T: Copy>(names: &[T], value: i32) -> Option<T> {
    names.get(usize::try_from(value).ok()?).copied()
}

/// A time; null if it is not known.
fn time(nanos: u64) -> Value {
    if nanos == 0 { Value::Null } else { json!(Timestamp(nanos)) }
}

/// A string; null if it is empty.
fn text(text: &str) -> Value {
    if text.is_empty() { Value::Null } else { text.into() }
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn describe(scope: &InstrumentationScope) -> Value {
    json!({ "name": scope.name, "version": scope.version, "attributes": attributes(&scope.attributes) })
}

fn attributes(list: &[KeyValue]) -> Value {
    let pairs = list.iter().map(|pair| (pair.key.clone(), any(pair.value.as_ref())));
    Value::Object(pairs.collect())
}

/// As in OTLP/JSON, bytes become base64, and the numbers that JSON lacks become strings.
fn any(value: Option<&AnyValue>) -> Value {
    match value.and_then(|value| value.value.as_ref()) {
        None => Value::Null,
        Some(Any::StringValue(text)) => text.as_str().into(),
        Some(Any::BoolValue(value)) => (*value).into(),
        Some(Any::IntValue(value)) => (*value).into(),
        Some(Any::DoubleValue(value)) if value.is_finite() => (*value).into(),
        Some(Any::DoubleValue(value)) if value.is_nan() => "NaN".into(),
        Some(Any::DoubleValue(value)) => if *value > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Some(Any::ArrayValue(array)) => array.values.iter().map(|value| any(Some(value))).collect(),
        Some(Any::KvlistValue(list)) => attributes(&list.values),
        Some(Any::BytesValue(bytes)) => BASE64_STANDARD.encode(bytes).into(),
        Some(other) => json!(other),
    }
}
