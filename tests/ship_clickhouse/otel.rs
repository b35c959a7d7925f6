//! The tables of the Collector's exporter: what they hold is what OTLP would have carried.

use std::process::Command;

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::support::stored::{Name, Point, Points, expected};
use crate::support::{Ship, program};

/// The points of all tables, as `support::stored` describes those of a Collector.
fn points(engine: &Engine, tables: &[&str]) -> Points {
    let mut all = Points::new();
    for table in tables {
        let sql = format!(
            "SELECT *, toString(toUnixTimestamp64Nano(TimeUnix)) AS time, toString(toUnixTimestamp64Nano(StartTimeUnix)) AS start \
             FROM {{db}}.otel_metrics_{table}"
        );
        for row in engine.rows(&sql) {
            let map = |column: &str| row[column].as_object().expect("a map").clone();
            let mut attributes: Vec<_> = map("Attributes")
                .iter()
                .map(|(key, value)| format!("{key}={}", value.as_str().unwrap()))
                .collect();
            attributes.sort();
            let text = |column: &str| row[column].as_str().expect("a string").to_owned();
            let name = Name {
                host: map("ResourceAttributes")["host.name"].as_str().unwrap().to_owned(),
                metric: text("MetricName"),
                attributes,
                time: text("time").parse().unwrap(),
            };
            assert_eq!(row["ServiceName"], "telepipe");
            let (shape, value) = match *table {
                "exponential_histogram" => ("exponentialHistogram", distribution(&row)),
                shape => (shape, row["Value"].clone()),
            };
            all.entry(name).or_default().push(Point {
                unit: text("MetricUnit"),
                shape: shape.to_owned(),
                temporality: row["AggregationTemporality"].as_u64().unwrap_or(0),
                monotonic: row["IsMonotonic"].as_bool().unwrap_or(false),
                start: text("start").parse().unwrap(),
                value,
            });
        }
    }
    all
}

fn distribution(row: &Value) -> Value {
    let whole =
        |value: &Value| value.as_str().map_or_else(|| value.as_u64().unwrap(), |text| text.parse().unwrap());
    let counts = row["PositiveBucketCounts"].as_array().unwrap().iter().map(whole);
    let buckets = (row["PositiveOffset"].as_i64().unwrap()..).zip(counts).filter(|(_, count)| *count > 0);
    let buckets: serde_json::Map<_, _> =
        buckets.map(|(index, count)| (index.to_string(), count.into())).collect();
    json!({
        "count": whole(&row["Count"]), "scale": row["Scale"].as_f64(), "zero": whole(&row["ZeroCount"]),
        "sum": row["Sum"].as_f64(), "max": row["Max"].as_f64(), "buckets": buckets,
    })
}

/// A point without what the exporter's tables have no column for: whether a number is an integer, and the width of
/// the histogram's zero bucket.
fn comparable(mut point: Point) -> Point {
    point.value = match &point.value {
        Value::Object(distribution) => {
            let mut distribution = distribution.clone();
            if let Some(zero) = distribution["zero"].as_array() {
                distribution["zero"] = zero[0].clone();
            }
            for name in ["max", "sum"] {
                if distribution[name].is_null() {
                    distribution[name] = json!(0.0);
                }
            }
            distribution.into()
        }
        number => number.as_f64().into(),
    };
    point
}

#[test]
fn points_of_every_kind_are_those_of_otlp() {
    let Some(engine) = Engine::start() else { return };
    let output = Command::new(program!("scrape")).args(["-n", "3", "-i", "200ms"]).output().unwrap();
    let mut input = String::from_utf8(output.stdout).unwrap();
    input += &format!(
        "{}\n",
        json!({
            "ts": "2026-11-20T20:45:01.000000001Z", "kind": "io", "host": "h", "start_ts": "2026-11-20T20:45:00Z",
            "interval_s": 1.000000001, "device": "sda", "op": "read", "count": 7, "bytes": 4096, "sum_us": 1234.567,
            "max_us": 999.5, "zero_count": 1, "scale": 3, "buckets": { "-3": 1, "10": 2, "11": 3 },
        })
    );
    let ended = Ship::run(&["--clickhouse", &engine.url(), "--create", "--ttl", "90d"], &input);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let stored = points(&engine, &["gauge", "sum", "exponential_histogram"]);
    let mut count = 0;
    for line in input.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        for (name, point) in expected(&record) {
            let found = stored.get(&name).unwrap_or_else(|| panic!("{name:?} is missing"));
            let found: Vec<_> = found.iter().cloned().map(comparable).collect();
            assert!(found.contains(&comparable(point.clone())), "{name:?}: {point:?} is stored as {found:?}");
            count += 1;
        }
    }
    assert_eq!(stored.values().map(Vec::len).sum::<usize>(), count);
    assert!(count > 100);
    let created = engine.value("SHOW CREATE TABLE {db}.otel_metrics_sum");
    assert!(created.contains("toIntervalSecond(7776000)"), "{created}");
}

#[test]
fn tables_may_have_other_columns_and_types() {
    let Some(engine) = Engine::start() else { return };
    engine.run("CREATE DATABASE {db}");
    for table in [
        // JSON instead of maps, fewer columns, others with defaults, and computed ones, as HyperDX has them.
        "otel_logs (Timestamp DateTime64(9), TimestampTime DateTime DEFAULT toDateTime(Timestamp), Body String, \
         ServiceName LowCardinality(String), ResourceAttributes JSON, ResourceAttributesKeys Array(LowCardinality(String)), \
         LogAttributes JSON(n Int64), LogAttributesKeys Array(String), Extra UInt8 DEFAULT 7, \
         Host String MATERIALIZED toString(ResourceAttributes.host.name)) ENGINE = MergeTree ORDER BY Timestamp",
        // Nested without flatten_nested, numbers instead of words and times.
        "otel_traces (Timestamp DateTime64(9), TraceId FixedString(32), SpanKind Int8, StatusCode UInt8, SpanName String, \
         Events Array(Tuple(Timestamp DateTime64(9), Name LowCardinality(String), Attributes Map(LowCardinality(String), String))), \
         SpanAttributes String) ENGINE = MergeTree ORDER BY Timestamp",
        "otel_metrics_gauge (TimeUnix UInt64, MetricName String, Value Nullable(Float64), Attributes Map(String, String)) \
         ENGINE = MergeTree ORDER BY TimeUnix",
    ] {
        engine.run(&format!("CREATE TABLE {{db}}.{table}"));
    }
    let ts = "2026-11-20T20:45:00.123456789Z";
    let lines = [
        json!({ "ts": ts, "kind": "log", "host": "h", "severity": "warn", "body": "hello",
                "attributes": { "n": 5, "a.b": "x", "list": [1, 2] } }),
        json!({ "ts": ts, "kind": "span", "host": "h", "trace_id": "0102030405060708090a0b0c0d0e0f10", "span_id": "0102030405060708",
                "name": "check", "span_kind": "server", "begin_ts": "2026-11-20T20:44:59Z", "status": "error", "attributes": { "n": 1 },
                "events": [{ "ts": ts, "name": "e", "attributes": { "k": "v" } }] }),
        json!({ "ts": ts, "kind": "metric", "host": "h", "name": "m", "value": 1.5, "attributes": { "k": "v" } }),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ended = Ship::run(&["--clickhouse", &engine.url()], input);
    assert_eq!((ended.code, ended.count("delivered")), (Some(0), 3), "{}", ended.stderr);

    let log =
        &engine.rows("SELECT *, Host, toTypeName(LogAttributes.list) AS list_type FROM {db}.otel_logs")[0];
    assert_eq!(log["Timestamp"], "2026-11-20 20:45:00.123456789");
    assert_eq!((&log["TimestampTime"], &log["Extra"]), (&json!("2026-11-20 20:45:00"), &json!(7)));
    assert_eq!(
        (&log["Body"], &log["Host"], &log["ServiceName"]),
        (&json!("hello"), &json!("h"), &json!("telepipe"))
    );
    assert_eq!(log["LogAttributes"]["a"]["b"], "x");
    assert!(log["LogAttributes"]["n"] == 5 || log["LogAttributes"]["n"] == "5", "{log}");
    assert_eq!(log["LogAttributesKeys"], json!(["a.b", "list", "n"]));
    assert!(log["ResourceAttributesKeys"].as_array().unwrap().contains(&json!("host.name")));

    let span = &engine.rows("SELECT * FROM {db}.otel_traces")[0];
    assert_eq!((&span["StatusCode"], &span["SpanAttributes"]), (&json!(2), &json!("{\"n\":1}")));
    let event =
        json!([{ "Timestamp": "2026-11-20 20:45:00.123456789", "Name": "e", "Attributes": { "k": "v" } }]);
    assert_eq!(span["Events"], event);
    assert_eq!(
        engine.value("SELECT TimeUnix, Value, Attributes['k'] FROM {db}.otel_metrics_gauge"),
        "1795207500123456789\t1.5\tv"
    );
}

#[test]
fn tables_of_an_older_collector_are_filled_as_they_are() {
    let Some(engine) = Engine::start() else { return };
    engine.run("CREATE DATABASE {db}");
    let tables = ["otel_logs", "otel_metrics_sum"];
    for table in [
        // As exporters had them in 2023, with two columns of the user's: one without a default, and one with.
        "otel_logs (Timestamp DateTime64(9), TraceId String, SpanId String, TraceFlags UInt32, SeverityText String, \
         SeverityNumber Int32, ServiceName LowCardinality(String), Body String, LogAttributes Map(LowCardinality(String), String), \
         Team String, Shelf UInt8 DEFAULT 7) ENGINE = MergeTree PARTITION BY toDate(Timestamp) ORDER BY (ServiceName, Timestamp)",
        "otel_metrics_sum (MetricName String, Attributes Map(LowCardinality(String), String), TimeUnix DateTime64(9), Value Float64, \
         Exemplars Nested(FilteredAttributes Map(LowCardinality(String), String), TimeUnix DateTime64(9), Value Float64, \
         SpanId String, TraceId String), AggTemp Int32, IsMonotonic Boolean) ENGINE = MergeTree ORDER BY (MetricName, TimeUnix)",
    ] {
        engine.run(&format!("CREATE TABLE {{db}}.{table}"));
    }
    let definitions = || tables.map(|table| engine.value(&format!("SHOW CREATE TABLE {{db}}.{table}")));
    let before = definitions();
    let nanos = "1795207500123456789";
    let exemplar = json!({ "timeUnixNano": nanos, "asDouble": 2.5, "spanId": "0102030405060708" });
    let point = json!({ "timeUnixNano": nanos, "asInt": "9", "exemplars": [exemplar] });
    let metric = json!({ "name": "m", "sum": { "aggregationTemporality": 1, "isMonotonic": true, "dataPoints": [point] } });
    let log = json!({ "timeUnixNano": nanos, "severityNumber": 13, "severityText": "WARN", "flags": 1,
                      "body": { "stringValue": "b" }, "attributes": [{ "key": "k", "value": { "intValue": "5" } }] });
    let lines = [
        json!({ "resourceLogs": [{ "scopeLogs": [{ "logRecords": [log] }] }] }),
        json!({ "resourceMetrics": [{ "scopeMetrics": [{ "metrics": [metric] }] }] }),
        json!({ "ts": "2026-11-20T20:45:00Z", "kind": "metric", "host": "h", "name": "g", "value": 1.5 }),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ended = Ship::run(&["--clickhouse", &engine.url(), "--create", "--ttl", "90d"], input);
    assert_eq!((ended.code, ended.count("delivered")), (Some(0), 3), "{}", ended.stderr);

    let columns = "toUnixTimestamp64Nano(Timestamp), TraceFlags, SeverityText, SeverityNumber, Body, LogAttributes['k'], Team, Shelf";
    let stored = engine.value(&format!("SELECT {columns} FROM {{db}}.otel_logs"));
    assert_eq!(stored, format!("{nanos}\t1\tWARN\t13\tb\t5\t\t7"));
    let columns = "toUnixTimestamp64Nano(TimeUnix), MetricName, Value, AggTemp, IsMonotonic, Exemplars.Value, Exemplars.SpanId";
    let stored = engine.value(&format!("SELECT {columns} FROM {{db}}.otel_metrics_sum"));
    assert_eq!(stored, format!("{nanos}\tm\t9\t1\ttrue\t[2.5]\t['0102030405060708']"));
    // The table that was missing is created, and the others stay as they are.
    assert_eq!(definitions(), before);
    assert_eq!(engine.value("SELECT Value FROM {db}.otel_metrics_gauge"), "1.5");
    assert!(engine.value("SHOW CREATE TABLE {db}.otel_metrics_gauge").contains("toIntervalSecond(7776000)"));
}
