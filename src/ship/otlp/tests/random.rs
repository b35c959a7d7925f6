//! Random lines: nothing panics, each line has exactly one outcome, the counts are right, and the
//! same lines give the same bytes.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::Number;

use super::*;

fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(|value| Number::from_f64(value).map_or(Value::Null, Value::Number)),
        ".{0,8}".prop_map(Value::from),
        "(2026-11-20T20:45:0[0-9]Z|[0-9a-f]{16}|[0-9a-f]{32}|gauge|histogram|error)".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("(-?[0-9]{1,3}|[a-z]{1,4})", inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

/// Objects that resemble records.
fn record() -> impl Strategy<Value = Value> {
    let kinds: Vec<_> = crate::record::KINDS.iter().map(|kind| kind.name).collect();
    let fields = crate::record::KINDS.iter().flat_map(|kind| {
        let properties = crate::record::body_schema(kind)["properties"].take();
        properties.as_object().into_iter().flatten().map(|(name, _)| name.clone()).collect::<Vec<_>>()
    });
    let mut fields: Vec<_> = fields.collect();
    fields.extend(["resourceMetrics", "resourceLogs", "resourceSpans", "host", "ts"].map(str::to_owned));
    let kind = prop_oneof![4 => proptest::sample::select(kinds).prop_map(str::to_owned), 1 => "[a-z]{0,3}"];
    let body = btree_map(proptest::sample::select(fields), json(), 0..12);
    let ts = prop_oneof![3 => Just(json!("2026-11-20T20:45:00Z")), 1 => json()];
    (kind, body, ts).prop_map(|(kind, mut body, ts)| {
        body.insert("kind".into(), json!(kind));
        body.insert("ts".into(), ts);
        json!(body)
    })
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => record().prop_map(|value| value.to_string().into_bytes()),
        2 => json().prop_map(|value| value.to_string().into_bytes()),
        1 => vec(any::<u8>(), 0..20),
    ]
}

fn items(body: &Body) -> usize {
    use opentelemetry_proto::tonic::metrics::v1::metric::Data;
    match decode(body) {
        Request::Metrics(all) => {
            let scopes = all.resource_metrics.iter().flat_map(|resource| &resource.scope_metrics);
            let data = scopes.flat_map(|scope| &scope.metrics).filter_map(|metric| metric.data.as_ref());
            let points = data.map(|data| match data {
                Data::Gauge(of) => of.data_points.len(),
                Data::Sum(of) => of.data_points.len(),
                Data::Histogram(of) => of.data_points.len(),
                Data::ExponentialHistogram(of) => of.data_points.len(),
                Data::Summary(of) => of.data_points.len(),
            });
            points.sum()
        }
        Request::Logs(all) => {
            let scopes = all.resource_logs.iter().flat_map(|resource| &resource.scope_logs);
            scopes.map(|scope| scope.log_records.len()).sum()
        }
        Request::Traces(all) => {
            let scopes = all.resource_spans.iter().flat_map(|resource| &resource.scope_spans);
            scopes.map(|scope| scope.spans.len()).sum()
        }
    }
}

/// Every item with what surrounds it.
fn flat(signal: Signal, bytes: Vec<u8>) -> Vec<String> {
    use opentelemetry_proto::tonic::metrics::v1::{Metric, metric::Data};
    let mut flat = Vec::new();
    match decode(&Body { signal, bytes: bytes.into() }) {
        Request::Metrics(all) => {
            for outer in &all.resource_metrics {
                for inner in &outer.scope_metrics {
                    for metric in &inner.metrics {
                        let head = Metric { data: None, ..metric.clone() };
                        let mut add = |point: &dyn std::fmt::Debug| {
                            flat.push(format!("{:?} {:?} {head:?} {point:?}", outer.resource, inner.scope));
                        };
                        match metric.data.as_ref().unwrap() {
                            Data::Gauge(of) => of.data_points.iter().for_each(|point| add(point)),
                            Data::Sum(of) => of
                                .data_points
                                .iter()
                                .for_each(|point| add(&(of.is_monotonic, of.aggregation_temporality, point))),
                            Data::Histogram(of) => {
                                of.data_points
                                    .iter()
                                    .for_each(|point| add(&(of.aggregation_temporality, point)));
                            }
                            Data::ExponentialHistogram(of) => {
                                of.data_points
                                    .iter()
                                    .for_each(|point| add(&(of.aggregation_temporality, point)));
                            }
                            Data::Summary(of) => of.data_points.iter().for_each(|point| add(point)),
                        }
                    }
                }
            }
        }
        Request::Logs(all) => {
            for outer in &all.resource_logs {
                for inner in &outer.scope_logs {
                    let head = format!("{:?} {:?}", outer.resource, inner.scope);
                    flat.extend(inner.log_records.iter().map(|item| format!("{head} {item:?}")));
                }
            }
        }
        Request::Traces(all) => {
            for outer in &all.resource_spans {
                for inner in &outer.scope_spans {
                    let head = format!("{:?} {:?}", outer.resource, inner.scope);
                    flat.extend(inner.spans.iter().map(|item| format!("{head} {item:?}")));
                }
            }
        }
    }
    flat
}

proptest! {
    #[test]
    fn requests_that_are_cut_have_the_same_items(lines in vec(line(), 0..40), most in 1..2000usize) {
        for request in encode(&lines).requests {
            let Body { signal, bytes } = request.body;
            let parts = crate::ship::otlp::cut::cut(signal, &bytes, most).unwrap();
            for part in &parts {
                let items = items(&Body { signal, bytes: part.clone().into() });
                // Resource and scope come to the size of the items.
                prop_assert!(items == 1 || part.len() <= most + 1000 * items, "{} bytes", part.len());
                prop_assert!(items > 0);
            }
            let cut: Vec<_> = parts.into_iter().flat_map(|part| flat(signal, part)).collect();
            prop_assert_eq!(cut, flat(signal, bytes.to_vec()));
        }
    }

    #[test]
    fn each_line_has_one_outcome(lines in vec(line(), 0..12)) {
        let batch = batch(&lines);
        let mut encoder = Encoder::new(options(Names::Semconv));
        let encoded = encoder.encode(&batch);
        let mut seen: Vec<_> = encoded.rejected.iter().map(|(index, _)| *index).collect();
        for request in &encoded.requests {
            prop_assert_eq!(items(&request.body) as u64, request.items);
            prop_assert!(request.items >= request.lines.len() as u64);
            prop_assert!(!request.lines.is_empty());
            seen.extend(&request.lines);
            let json = request.body.to_json();
            let lines: Vec<_> = json.split(|byte| *byte == b'\n').collect();
            prop_assert_eq!(lines.len(), 2);
            let _: serde_json::Map<String, Value> = serde_json::from_slice(lines[0]).unwrap();
        }
        seen.extend(&encoded.empty);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        prop_assert_eq!((seen.len(), count), (lines.len(), lines.len()), "each line has one outcome");

        let again = encoder.encode(&batch);
        prop_assert_eq!(&again.rejected, &encoded.rejected);
        let bodies = |encoded: &Encoded<Body>| encoded.requests.iter().map(|request| request.body.clone()).collect::<Vec<_>>();
        prop_assert!(bodies(&again) == bodies(&encoded), "the second time differs");
    }

    #[test]
    fn values_survive(value in json()) {
        let line = json!({"kind": "log", "ts": "2026-11-20T20:45:00Z", "body": value}).to_string();
        let encoded = encode(&[line]);
        let Request::Logs(logs) = decode(&encoded.requests[0].body) else { panic!() };
        let body = plain(logs.resource_logs[0].scope_logs[0].log_records[0].body.as_ref());
        prop_assert_eq!(body, strings_beyond_i64(value));
    }
}

/// Converts integers outside `i64` to strings, as the specification requires.
fn strings_beyond_i64(value: Value) -> Value {
    match value {
        Value::Number(number) if number.is_u64() && !number.is_i64() => json!(number.to_string()),
        Value::Array(values) => values.into_iter().map(strings_beyond_i64).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, strings_beyond_i64(value))).collect(),
        other => other,
    }
}
