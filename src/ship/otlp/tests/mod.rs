//! All requests are decoded with the generated types of opentelemetry-proto.

mod generic;
mod json;
mod logs;
mod metrics;
mod random;
mod shapes;
mod spans;
mod state;

use std::collections::BTreeMap;

use opentelemetry_proto::tonic::collector::{
    logs::v1::ExportLogsServiceRequest, metrics::v1::ExportMetricsServiceRequest,
    trace::v1::ExportTraceServiceRequest,
};
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use prost::Message;
use serde_json::{Value, json};

use super::{Body, Encoder, Names, Options, Signal};
use crate::ship::{Batch, Encoded};

pub fn options(names: Names) -> Options {
    Options {
        names,
        service: "telepipe".into(),
        pipeline: String::new(),
        host: "here".into(),
        default_host: "here".into(),
        host_id: Some("0123".into()),
        attributes: Vec::new(),
    }
}

pub fn batch(lines: &[impl AsRef<[u8]>]) -> Batch {
    let mut batch = Batch::new();
    for (offset, line) in (0..).zip(lines) {
        batch.push(offset, line.as_ref());
    }
    batch
}

pub fn encode(lines: &[impl AsRef<[u8]>]) -> Encoded<Body> {
    Encoder::new(options(Names::Semconv)).encode(&batch(lines))
}

pub enum Request {
    Metrics(ExportMetricsServiceRequest),
    Logs(ExportLogsServiceRequest),
    Traces(ExportTraceServiceRequest),
}

pub fn decode(body: &Body) -> Request {
    let bytes = &body.bytes[..];
    match body.signal {
        Signal::Metrics => Request::Metrics(Message::decode(bytes).unwrap()),
        Signal::Logs => Request::Logs(Message::decode(bytes).unwrap()),
        Signal::Traces => Request::Traces(Message::decode(bytes).unwrap()),
    }
}

/// Encodes lines that give one request, of metrics.
pub fn metrics_of(lines: &[impl AsRef<[u8]>]) -> ExportMetricsServiceRequest {
    let encoded = encode(lines);
    assert_eq!(encoded.rejected, []);
    let [request] = &encoded.requests[..] else { panic!("{} requests", encoded.requests.len()) };
    let Request::Metrics(metrics) = decode(&request.body) else { panic!("not metrics") };
    metrics
}

/// Converts attributes to a JSON object. Each key must occur once.
pub fn attributes(all: &[KeyValue]) -> Value {
    let map: BTreeMap<_, _> = all.iter().map(|pair| (pair.key.clone(), plain(pair.value.as_ref()))).collect();
    assert_eq!(map.len(), all.len(), "{all:?}");
    json!(map)
}

pub fn plain(value: Option<&AnyValue>) -> Value {
    use any_value::Value as V;
    match value.and_then(|value| value.value.as_ref()) {
        None => Value::Null,
        Some(V::StringValue(text)) => json!(text),
        Some(V::BoolValue(value)) => json!(value),
        Some(V::IntValue(value)) => json!(value),
        Some(V::DoubleValue(value)) => json!(value),
        Some(V::ArrayValue(array)) => array.values.iter().map(|value| plain(Some(value))).collect(),
        Some(V::KvlistValue(list)) => attributes(&list.values),
        Some(other) => panic!("{other:?}"),
    }
}
