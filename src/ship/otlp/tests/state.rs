//! What the encoder keeps from one batch to the next: series, which can be restored, and caches.

use serde_json::json;

use super::*;
use crate::ship::otlp::Series;

fn counter(second: usize, host: &str, name: &str, value: u64) -> String {
    format!(
        r#"{{"ts":"2026-11-20T20:45:{second:02}Z","kind":"metric","host":"{host}","name":"{name}","type":"counter","value":{value}}}"#
    )
}

fn bytes(encoded: Encoded<Body>) -> Vec<Vec<u8>> {
    encoded.requests.into_iter().map(|request| request.body.bytes.to_vec()).collect()
}

#[test]
fn a_restored_encoder_makes_the_same_bytes() {
    let load =
        |second| format!(r#"{{"ts":"2026-11-20T20:45:{second:02}Z","kind":"load","host":"h","load_1m":1}}"#);
    let cpu = |second: usize, user: f64| {
        format!(
            r#"{{"ts":"2026-11-20T20:45:{second:02}Z","kind":"cpu","host":"h","start_ts":"2026-11-20T20:00:00Z","user_s":{user}}}"#
        )
    };
    // Values go back in each batch, so that start times depend on the batches before.
    let lines = |n: usize| {
        vec![
            counter(n, "a", "x", 9 - n as u64),
            cpu(n, 0.1 + 1.0 / (n + 1) as f64),
            load(n),
            counter(n, "b", "x", 5 + n as u64 % 2),
        ]
    };
    let mut encoder = Encoder::new(options(Names::Semconv));
    let mut seen = std::collections::BTreeSet::new();
    for n in 0..9 {
        let state = serde_json::to_string(encoder.series()).unwrap();
        let expected = bytes(encoder.encode(&batch(&lines(n))));
        let mut restored = Encoder::new(options(Names::Semconv));
        restored.restore(serde_json::from_str::<Series>(&state).unwrap());
        assert_eq!(bytes(restored.encode(&batch(&lines(n)))), expected, "batch {n}");
        let fresh = bytes(Encoder::new(options(Names::Semconv)).encode(&batch(&lines(n))));
        seen.insert(fresh == expected);
    }
    assert!(seen.contains(&false), "the state makes no difference");
}

#[test]
fn hosts_are_bounded_from_batch_to_batch() {
    let mut encoder = Encoder::new(options(Names::Semconv));
    for n in 0..20 {
        let lines: Vec<_> =
            (0..100).map(|host| counter(1, &format!("host{}", 100 * n + host), "x", 1)).collect();
        let encoded = encoder.encode(&batch(&lines));
        let Request::Metrics(request) = decode(&encoded.requests[0].body) else { panic!() };
        assert_eq!(request.resource_metrics.len(), 100);
        assert!(encoder.groups.kept() <= 256 + 100, "{}", encoder.groups.kept());
    }
}

#[test]
fn a_record_may_have_its_own_resource() {
    let line = |fields: &str| format!(r#"{{"ts":"2026-11-20T20:45:00Z","host":"here",{fields}}}"#);
    let encoded = encode(&[
        line(r#""kind":"log","body":"a","resource":{"service.name":"db","k":null}"#),
        line(r#""kind":"log","body":"b""#),
        line(r#""kind":"log","body":"c","resource":{"service.name":"db","k":null}"#),
        line(r#""kind":"metric","name":"m","value":1,"resource":{"service.name":"db"}"#),
    ]);
    let [metrics, logs] = &encoded.requests[..] else { panic!("{:?}", encoded.rejected) };
    let Request::Logs(logs) = decode(&logs.body) else { panic!() };
    let found: Vec<_> = logs
        .resource_logs
        .iter()
        .map(|resource| {
            let about = attributes(&resource.resource.as_ref().unwrap().attributes);
            (
                about["service.name"].clone(),
                about["host.id"].clone(),
                resource.scope_logs[0].log_records.len(),
            )
        })
        .collect();
    assert_eq!(found, [(json!("db"), json!("0123"), 2), (json!("telepipe"), json!("0123"), 1)]);
    assert_eq!(attributes(&logs.resource_logs[0].scope_logs[0].log_records[0].attributes), json!({}));
    let Request::Metrics(metrics) = decode(&metrics.body) else { panic!() };
    let about = attributes(&metrics.resource_metrics[0].resource.as_ref().unwrap().attributes);
    assert_eq!((&about["service.name"], &about["host.name"]), (&json!("db"), &json!("here")));
}

#[test]
fn every_metric_has_a_description() {
    let line = |kind: &str, fields: &str| {
        format!(r#"{{"ts":"2026-11-20T20:45:00Z","kind":"{kind}","host":"h",{fields}}}"#)
    };
    let request = metrics_of(&[line("cpu", r#""user_s":1,"system_s":2"#), line("load", r#""load_1m":1"#)]);
    let metrics = &request.resource_metrics[0].scope_metrics[0].metrics;
    assert_eq!(metrics.len(), 2);
    assert!(metrics.iter().all(|metric| !metric.description.is_empty()), "{metrics:?}");
}

#[test]
fn the_schema_of_the_conventions_is_named_and_none_for_other_names() {
    let line = |kind: &str, fields: &str| {
        format!(r#"{{"ts":"2026-11-20T20:45:00Z","kind":"{kind}","host":"h",{fields}}}"#)
    };
    let span = r#""name":"s","trace_id":"00000000000000000000000000000001","span_id":"0000000000000001","begin_ts":"2026-11-20T20:45:00Z""#;
    let lines = [line("load", r#""load_1m":1"#), line("log", r#""body":"b""#), line("span", span)];
    for (names, url) in
        [(Names::Semconv, opentelemetry_semantic_conventions::SCHEMA_URL), (Names::Hostmetrics, "")]
    {
        let encoded = Encoder::new(options(names)).encode(&batch(&lines));
        assert_eq!((encoded.requests.len(), encoded.rejected), (3, vec![]));
        for request in &encoded.requests {
            let urls = match decode(&request.body) {
                Request::Metrics(all) => {
                    let resource = &all.resource_metrics[0];
                    [resource.schema_url.clone(), resource.scope_metrics[0].schema_url.clone()]
                }
                Request::Logs(all) => {
                    let resource = &all.resource_logs[0];
                    [resource.schema_url.clone(), resource.scope_logs[0].schema_url.clone()]
                }
                Request::Traces(all) => {
                    let resource = &all.resource_spans[0];
                    [resource.schema_url.clone(), resource.scope_spans[0].schema_url.clone()]
                }
            };
            assert_eq!(urls, [url; 2]);
        }
    }
}

#[test]
fn series_are_bounded_and_evictions_are_counted() {
    let mut encoder = Encoder::new(options(Names::Semconv));
    encoder.restore(Series::with_max_weight(100_000));
    for n in 0..10 {
        let lines: Vec<_> = (0..200).map(|name| counter(n, "h", &format!("name{name}.{n}"), 1)).collect();
        let encoded = encoder.encode(&batch(&lines));
        assert_eq!((encoded.requests[0].items, encoded.rejected.len()), (200, 0));
    }
    assert!(encoder.series().kept() < 1000, "{}", encoder.series().kept());
    assert_eq!(encoder.series().evicted(), 2000 - encoder.series().kept() as u64);
}
