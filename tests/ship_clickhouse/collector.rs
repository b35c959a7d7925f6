//! The same input through the Collector's ClickHouse exporter: its tables, and the rows that it stores, are the model
//! of ours.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::support::{Ship, free_port, poll, require_env};

const WAIT: Duration = Duration::from_secs(60);
const TABLES: [&str; 7] = [
    "otel_logs",
    "otel_traces",
    "otel_metrics_gauge",
    "otel_metrics_sum",
    "otel_metrics_histogram",
    "otel_metrics_exponential_histogram",
    "otel_metrics_summary",
];

/// Lines of every kind of OTLP data, with unusual values.
fn input() -> String {
    let ts = "2026-11-20T20:45:00.123456789Z";
    let nanos = "1795207500123456789";
    let attributes = json!([
        { "key": "s", "value": { "stringValue": "it's \"é\"\n\u{1}\\" } },
        { "key": "i", "value": { "intValue": "-9007199254740993" } },
        { "key": "d", "value": { "doubleValue": 1e21 } },
        { "key": "small", "value": { "doubleValue": 1.5e-7 } },
        { "key": "whole", "value": { "doubleValue": 3.0 } },
        { "key": "b", "value": { "boolValue": true } },
        { "key": "empty", "value": {} },
        { "key": "bytes", "value": { "bytesValue": "AAEC" } },
        { "key": "array", "value": { "arrayValue": { "values": [{ "intValue": "1" }, { "stringValue": "x" }] } } },
        { "key": "map", "value": { "kvlistValue": { "values": [{ "key": "k", "value": { "doubleValue": 0.5 } }] } } },
    ]);
    let resource = json!({ "attributes": [
        { "key": "service.name", "value": { "stringValue": "svc" } },
        { "key": "host.name", "value": { "stringValue": "h" } },
    ] });
    let scope =
        json!({ "name": "sc", "version": "1", "attributes": attributes, "droppedAttributesCount": 3 });
    let exemplars = json!([
        { "filteredAttributes": attributes, "timeUnixNano": nanos, "asDouble": 2.5, "spanId": "0102030405060708",
          "traceId": "0102030405060708090a0b0c0d0e0f10" },
        { "timeUnixNano": nanos, "asInt": "7", "spanId": "0102030405060708", "traceId": "0102030405060708090a0b0c0d0e0f11" },
    ]);
    let point = |own: Value| {
        let mut point = json!({
            "attributes": attributes, "startTimeUnixNano": "1795207000000000001", "timeUnixNano": nanos, "flags": 1,
        });
        point.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        json!([point])
    };
    let metric = |shape: &str, name: &str, data: Value| json!({ "name": name, "description": "what", "unit": "By", shape: data });
    let number = |own: Value| point(own);
    let metrics = json!([
        metric(
            "gauge",
            "g1",
            json!({ "dataPoints": number(json!({ "asDouble": 0.1, "exemplars": exemplars })) })
        ),
        metric("gauge", "g2", json!({ "dataPoints": number(json!({ "asInt": "42" })) })),
        metric(
            "sum",
            "s1",
            json!({ "aggregationTemporality": 2, "isMonotonic": true, "dataPoints": number(json!({ "asInt": "9007199254740992", "exemplars": exemplars })) })
        ),
        metric(
            "sum",
            "s2",
            json!({ "aggregationTemporality": 1, "dataPoints": number(json!({ "asDouble": -1e300 })) })
        ),
        metric(
            "histogram",
            "h1",
            json!({ "aggregationTemporality": 1, "dataPoints": point(json!({
            "count": "6", "sum": 12.5, "min": 0.5, "max": 9.0, "bucketCounts": ["1", "2", "3"], "explicitBounds": [1.0, 2.5], "exemplars": exemplars })) })
        ),
        metric(
            "histogram",
            "h2",
            json!({ "aggregationTemporality": 2, "dataPoints": point(json!({ "count": "0" })) })
        ),
        metric(
            "exponentialHistogram",
            "e1",
            json!({ "aggregationTemporality": 1, "dataPoints": point(json!({
            "count": "10", "sum": 99.5, "min": -4.0, "max": 50.0, "scale": 3, "zeroCount": "2", "zeroThreshold": 0.5,
            "positive": { "offset": -2, "bucketCounts": ["1", "0", "4"] }, "negative": { "offset": 5, "bucketCounts": ["3"] },
            "exemplars": exemplars })) })
        ),
        metric(
            "summary",
            "q1",
            json!({ "dataPoints": point(json!({
            "count": "5", "sum": 20.0, "quantileValues": [{ "quantile": 0.5, "value": 3.0 }, { "quantile": 0.99, "value": 9.5 }] })) })
        ),
    ]);
    let span = |id: &str, own: Value| {
        let mut span = json!({
            "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": id, "name": "op", "kind": 2,
            "startTimeUnixNano": nanos, "endTimeUnixNano": "1795207501123456788",
        });
        span.as_object_mut().unwrap().extend(own.as_object().unwrap().clone());
        span
    };
    let spans = json!([
        span(
            "0102030405060708",
            json!({
                "traceState": "a=b", "attributes": attributes, "status": { "code": 2, "message": "no" },
                "events": [{ "timeUnixNano": nanos, "name": "e1", "attributes": attributes }, { "timeUnixNano": nanos, "name": "e2" }],
                "links": [{ "traceId": "0f0e0d0c0b0a09080706050403020100", "spanId": "0807060504030201", "traceState": "x=y", "attributes": attributes }],
            })
        ),
        span(
            "0102030405060709",
            json!({ "parentSpanId": "0102030405060708", "kind": 1, "status": { "code": 1 } })
        ),
        span("010203040506070a", json!({ "kind": 0 })),
    ]);
    let logs = json!([
        { "timeUnixNano": nanos, "observedTimeUnixNano": nanos, "severityNumber": 17, "severityText": "ERROR", "body": { "stringValue": "b\u{0}ody" },
          "attributes": attributes, "flags": 1, "traceId": "0102030405060708090a0b0c0d0e0f10", "spanId": "0102030405060708", "eventName": "ev" },
        { "observedTimeUnixNano": nanos, "body": { "doubleValue": 5e-324 } },
    ]);
    let url = "https://opentelemetry.io/schemas/1.30.0";
    let lines = [
        json!({ "resourceMetrics": [{ "resource": resource, "schemaUrl": url, "scopeMetrics": [{ "scope": scope, "schemaUrl": url, "metrics": metrics }] }] }),
        json!({ "resourceSpans": [{ "resource": resource, "schemaUrl": url, "scopeSpans": [{ "scope": scope, "schemaUrl": url, "spans": spans }] }] }),
        json!({ "resourceLogs": [{ "resource": resource, "schemaUrl": url, "scopeLogs": [{ "scope": scope, "schemaUrl": url, "logRecords": logs }] }] }),
        json!({ "ts": ts, "kind": "metric", "host": "a", "name": "own", "type": "counter", "unit": "By", "value": 5, "attributes": { "x": "y" } }),
        json!({ "ts": ts, "kind": "log", "host": "a", "severity": "warn", "body": "hello", "attributes": { "n": 5 } }),
        json!({ "ts": ts, "kind": "span", "host": "a", "trace_id": "0102030405060708090a0b0c0d0e0f12", "span_id": "0102030405060708",
                "name": "check", "begin_ts": "2026-11-20T20:44:59.000000001Z", "status": "error", "attributes": { "a": "b" } }),
        json!({ "ts": ts, "kind": "load", "host": "a", "load_1m": 0.5, "load_5m": 1.25, "load_15m": 2.0, "running_tasks": 3 }),
        json!({ "ts": ts, "kind": "lost", "host": "a", "source": "ring", "count": 3 }),
    ];
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Sends the input by OTLP through a Collector that inserts into the database.
fn by_collector(engine: &Engine, input: &str) -> bool {
    let Some(program) = require_env("TELEPIPE_OTELCOL") else { return false };
    let dir = tempfile::tempdir().unwrap();
    let (config, log, port) = (dir.path().join("config.yaml"), dir.path().join("log"), free_port());
    let pipelines: String = ["metrics", "logs", "traces"]
        .map(|signal| format!("    {signal}: {{ receivers: [otlp], exporters: [clickhouse] }}\n"))
        .concat();
    let text = format!(
        "receivers:\n  otlp:\n    protocols:\n      http: {{ endpoint: '127.0.0.1:{port}' }}\n\
         exporters:\n  clickhouse:\n    endpoint: '{}'\n    database: {}\n    compress: none\n    async_insert: false\n    sending_queue: {{ enabled: false }}\n\
         service:\n  telemetry: {{ metrics: {{ level: none }} }}\n  pipelines:\n{pipelines}",
        engine.server(),
        engine.database
    );
    std::fs::write(&config, text).unwrap();
    let mut collector = Command::new(program)
        .arg("--config")
        .arg(&config)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .spawn()
        .unwrap();
    let read = || std::fs::read_to_string(&log).unwrap();
    let ready = poll(WAIT, || read().contains("Everything is ready").then_some(()));
    let url = format!("http://127.0.0.1:{port}");
    // The queue is off: what was accepted is stored.
    let ended = ready.map(|()| Ship::run(&["--otlp", &url], input));
    kill_process(Pid::from_child(&collector), Signal::TERM).unwrap();
    collector.wait().unwrap();
    let ended = ended.unwrap_or_else(|| panic!("the Collector does not start: {}", read()));
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.stderr, read());
    true
}

/// The rows of a table, in an order that does not depend on who stored them. Values that the two may write in
/// different ways are brought to one.
fn rows(engine: &Engine, table: &str, columns: &str) -> Vec<String> {
    let mut rows: Vec<String> = engine
        .rows(&format!("SELECT {columns} FROM {{db}}.{table}"))
        .into_iter()
        .map(|row| normal(row).to_string())
        .collect();
    rows.sort();
    rows
}

fn normal(value: Value) -> Value {
    match value {
        // The exporter writes an absent id of an exemplar as zeros.
        Value::String(text) if text.len() >= 16 && text.bytes().all(|byte| byte == b'0') => "".into(),
        Value::Array(values) => values.into_iter().map(normal).collect(),
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.into_iter().map(|(name, value)| (name, normal(value))).collect();
            fields.sort_by(|a, b| a.0.cmp(&b.0));
            Value::Object(fields.into_iter().collect())
        }
        value => value,
    }
}

#[test]
fn rows_are_those_of_the_collectors_exporter() {
    let (Some(model), Some(theirs), Some(ours)) = (Engine::start(), Engine::start(), Engine::start()) else {
        return;
    };
    let input = input();
    if !by_collector(&model, &input) {
        return;
    }
    // Into tables as the exporter creates them, and into our own.
    theirs.run("CREATE DATABASE {db}");
    for table in TABLES {
        theirs.run(&format!("CREATE TABLE {{db}}.{table} AS {}.{table}", model.database));
    }
    for (engine, create) in [(&theirs, None), (&ours, Some("--create"))] {
        let url = engine.url();
        let args: Vec<_> = ["--clickhouse", &url].into_iter().chain(create).collect();
        let ended = Ship::run(&args, &input);
        assert_eq!((ended.code, ended.count("delivered")), (Some(0), 8), "{}", ended.stderr);
    }
    for table in TABLES {
        let stored = rows(&theirs, table, "*");
        assert!(!stored.is_empty(), "{table}");
        assert_eq!(stored, rows(&model, table, "*"), "{table}");

        // Ours have the same columns and values, except that data points keep their nanoseconds.
        let columns = ours.rows(&format!("DESCRIBE TABLE {{db}}.{table}"));
        let names = |engine: &Engine| {
            let columns = engine.rows(&format!("DESCRIBE TABLE {{db}}.{table}")).into_iter();
            let columns = columns.filter(|column| column["default_type"] == "");
            let mut names: Vec<_> =
                columns.map(|column| column["name"].as_str().unwrap().to_owned()).collect();
            names.sort();
            names
        };
        assert_eq!(names(&ours), names(&model), "{table}");
        let seconds = |column: &Value| {
            let (name, sql_type) = (column["name"].as_str().unwrap(), column["type"].as_str().unwrap());
            match sql_type {
                "DateTime64(9)" if name != "Timestamp" => format!("toDateTime({name}) AS {name}"),
                "Array(DateTime64(9))" if name.starts_with("Exemplars") => {
                    format!("arrayMap(time -> toDateTime(time), {name}) AS `{name}`")
                }
                _ => format!("`{name}`"),
            }
        };
        let columns = columns.iter().map(seconds).collect::<Vec<_>>().join(", ");
        let plain: Vec<_> = names(&ours).iter().map(|name| format!("`{name}`")).collect();
        assert_eq!(rows(&ours, table, &columns), rows(&model, table, &plain.join(", ")), "{table}");
    }
    assert_eq!(
        ours.value(
            "SELECT toUnixTimestamp64Nano(TimeUnix) FROM {db}.otel_metrics_gauge WHERE MetricName = 'g1'"
        ),
        "1795207500123456789"
    );
    assert_eq!(ours.value("SELECT count() FROM {db}.otel_traces_trace_id_ts"), "2");
}
