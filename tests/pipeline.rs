//! Whole pipelines into a real OpenTelemetry Collector: it stores what the programs wrote.

#![cfg(feature = "http")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::stored::{Points, events, expected, points};
use support::{Collector, Ship, poll, program, records};
use telepipe::common::time::Timestamp;
use telepipe::record::{Mapping, kind};
use tempfile::TempDir;

/// `PRODUCER | tee FILE | tele-ship --otlp` in a shell.
struct Pipeline {
    child: Child,
    dir: TempDir,
}

impl Pipeline {
    fn start(producer: &str, collector: &Collector, options: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let line = format!("{producer} | tee \"$LINES\" | tele-ship --otlp \"$URL\" {options}");
        let bin = program!("tele-ship").parent().map(Path::display).unwrap();
        let mut command = Command::new("bash");
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("OTEL_")) {
            command.env_remove(name);
        }
        let child = command
            .args(["-o", "pipefail", "-c", &line])
            .env("PATH", format!("{bin}:{}", std::env::var("PATH").unwrap()))
            .envs([("URL", collector.http_url()), ("NO_PROXY", "127.0.0.1".into())])
            .env("LINES", dir.path().join("lines"))
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, dir }
    }

    /// Waits for its successful end and returns the records.
    fn records(mut self) -> Vec<Value> {
        let status = poll(Duration::from_secs(60), || self.child.try_wait().unwrap());
        if status.is_none() {
            let _ = self.child.kill();
        }
        assert!(status.expect("the pipeline ends").success(), "{status:?}");
        records::parse(&std::fs::read(self.dir.path().join("lines")).unwrap())
    }
}

/// Checks that every field that is a metric is stored as a point, each at most `most` times, and every other record as a
/// log record, and that nothing else is stored. Returns the number of points.
fn assert_stored(records: &[Value], stored: &[Value], most: usize) -> usize {
    let all = points(stored);
    let mut count = 0;
    for (name, expected) in records.iter().flat_map(expected) {
        let found = all.get(&name).unwrap_or_else(|| panic!("{name:?} is not stored"));
        assert!((1..=most).contains(&found.len()), "{name:?} is stored {} times", found.len());
        for point in found {
            // The last digit of a double may differ where a factor was applied.
            let same = match (&expected.value, &point.value) {
                (Value::Number(a), Value::Number(b)) if a.is_f64() => {
                    let (a, b) = (a.as_f64().unwrap(), b.as_f64().unwrap());
                    (a - b).abs() <= a.abs() * 1e-15
                }
                (a, b) => a == b,
            };
            assert!(same, "{name:?}: {} became {}", expected.value, point.value);
            let rest = |point: &support::stored::Point| support::stored::Point {
                value: Value::Null,
                ..point.clone()
            };
            assert_eq!(rest(&expected), rest(point), "{name:?}");
        }
        count += 1;
    }
    assert_eq!(all.len(), count, "there are points without a record");
    let names: BTreeSet<_> = records.iter().filter_map(|record| record["kind"].as_str()).collect();
    for name in names {
        if matches!(kind(name).unwrap().mapping, Mapping::Log { .. }) {
            let lines = records.iter().filter(|record| record["kind"] == name).count();
            assert!((lines..=lines * most).contains(&events(stored, name)), "{name}");
        }
    }
    count
}

/// The integer values of the points of a metric that have all of these attributes.
fn integers(all: &Points, metric: &str, unit: &str, with: &[&str]) -> Vec<i64> {
    let fits = |attributes: &[String]| with.iter().all(|pair| attributes.iter().any(|own| own == pair));
    let of = all.iter().filter(|(name, _)| name.metric == metric && fits(&name.attributes));
    let mut values: Vec<_> = of
        .flat_map(|(_, points)| points)
        .map(|point| {
            assert_eq!(point.unit, unit, "{metric}");
            point
                .value
                .as_i64()
                .unwrap_or_else(|| panic!("{metric} {with:?} is {}, not an integer", point.value))
        })
        .collect();
    values.sort_unstable();
    values
}

fn field(records: &[Value], kind: &str, field: &str) -> Vec<i64> {
    let of = records.iter().filter(|record| record["kind"] == kind);
    let mut values: Vec<_> = of.filter_map(|record| record[field].as_i64()).collect();
    values.sort_unstable();
    values
}

/// The schemas of all resources and scopes with metrics.
fn schemas(stored: &[Value]) -> BTreeSet<&str> {
    let resources = || stored.iter().filter_map(|line| line["resourceMetrics"].as_array()).flatten();
    let scopes = resources().flat_map(|resource| resource["scopeMetrics"].as_array().unwrap());
    scopes.chain(resources()).map(|of| of["schemaUrl"].as_str().unwrap_or_default()).collect()
}

#[test]
fn scrape_arrives_complete_with_semantic_convention_names() {
    let Some(collector) = Collector::start() else { return };
    let pipeline = Pipeline::start("scrape --per-cpu -n 5 -i 200ms", &collector, "--batch-age 300ms");
    let records = pipeline.records();
    let stored = collector.stop();
    let count = assert_stored(&records, &stored, 1);
    assert!(count > 200, "only {count} points");

    assert_eq!(schemas(&stored), BTreeSet::from([opentelemetry_semantic_conventions::SCHEMA_URL]));
    let metrics = stored
        .iter()
        .filter_map(|line| line["resourceMetrics"].as_array())
        .flatten()
        .flat_map(|resource| resource["scopeMetrics"].as_array().unwrap())
        .flat_map(|scope| scope["metrics"].as_array().unwrap());
    for metric in metrics {
        assert!(metric["description"].as_str().is_some_and(|text| !text.is_empty()), "{}", metric["name"]);
    }

    // The names, units and attributes of the semantic conventions, written out here as an oracle.
    let all = points(&stored);
    for (kind, own, metric, unit, with) in [
        ("memory", "cached_bytes", "system.memory.usage", "By", &["system.memory.state=cached"][..]),
        ("memory", "free_bytes", "system.memory.usage", "By", &["system.memory.state=free"]),
        ("paging", "major_faults", "system.paging.faults", "{fault}", &["system.paging.fault.type=major"]),
        ("disk", "read_bytes", "system.disk.io", "By", &["disk.io.direction=read"]),
        ("disk", "writes", "system.disk.operations", "{operation}", &["disk.io.direction=write"]),
        ("netdev", "rx_bytes", "system.network.io", "By", &["network.io.direction=receive"]),
        (
            "netdev",
            "tx_packets",
            "system.network.packet.count",
            "{packet}",
            &["network.io.direction=transmit"],
        ),
    ] {
        let lines = field(&records, kind, own);
        assert!(!lines.is_empty(), "{kind}.{own}");
        assert_eq!(integers(&all, metric, unit, with), lines, "{metric} {with:?} of {kind}.{own}");
    }
    let boot = std::fs::read_to_string("/proc/stat").unwrap();
    let boot: u64 = boot.lines().find_map(|line| line.strip_prefix("btime ")).unwrap().parse().unwrap();
    let counters = all.iter().filter(|(name, _)| name.metric == "system.cpu.time");
    let starts: Vec<_> = counters.flat_map(|(_, points)| points).map(|point| point.start).collect();
    assert!(!starts.is_empty() && starts.iter().all(|start| *start == boot * 1_000_000_000), "{starts:?}");
}

/// Reads a file with direct I/O: 128 requests to the disk.
fn read_directly(file: &Path) {
    let mut dd = Command::new("dd");
    dd.arg(format!("if={}", file.display())).args(["of=/dev/null", "bs=64k", "iflag=direct"]);
    assert!(dd.stderr(Stdio::null()).status().unwrap().success());
}

#[test]
fn iolat_arrives_complete_bucket_by_bucket() {
    if !support::require_root() {
        return;
    }
    let Some(collector) = Collector::start() else { return };
    // On a disk: the temporary directory can be in memory.
    let work = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let mut pipeline = Pipeline::start("iolat -i 500ms --duration 3s --events --min 1us", &collector, "");
    let file = work.path().join("data");
    std::fs::write(&file, vec![7; 8 << 20]).unwrap();
    while pipeline.child.try_wait().unwrap().is_none() {
        read_directly(&file);
    }
    let records = pipeline.records();
    let stored = collector.stop();
    let count = assert_stored(&records, &stored, 1);

    let all = points(&stored);
    let reads =
        |name: &&support::stored::Name| name.attributes.iter().any(|pair| pair == "disk.io.direction=read");
    let total = all.keys().filter(reads).filter(|name| name.metric == "linux.block.duration");
    assert!(total.count() >= 3 && count > 15, "{count} points");
    let histogram = |points: &Vec<support::stored::Point>| points[0].shape == "exponentialHistogram";
    assert!(all.values().filter(|points| histogram(points)).all(|points| points[0].unit == "ns"));
    assert!(events(&stored, "io_event") > 100);
}

#[test]
fn hostmetrics_names_are_those_of_the_receiver() {
    let Some(collector) = Collector::start() else { return };
    let records = Pipeline::start("scrape --once", &collector, "--names hostmetrics").records();
    let stored = collector.stop();
    assert_eq!(schemas(&stored), BTreeSet::from([""]));
    let all = points(&stored);
    for (kind, own, metric, unit, with) in [
        ("memory", "cached_bytes", "system.memory.usage", "By", &["state=cached"][..]),
        ("disk", "read_bytes", "system.disk.io", "By", &["direction=read"]),
        ("netdev", "rx_bytes", "system.network.io", "By", &["direction=receive"]),
    ] {
        assert_eq!(integers(&all, metric, unit, with), field(&records, kind, own), "{metric} {with:?}");
    }
}

#[test]
fn a_collector_that_is_down_for_twenty_seconds_gets_everything() {
    let Some(mut collector) = Collector::start() else { return };
    let pipeline = Pipeline::start("scrape -i 500ms --duration 24s", &collector, "--batch-age 500ms");
    std::thread::sleep(Duration::from_secs(2));
    collector.down();
    std::thread::sleep(Duration::from_secs(20));
    collector.up();
    let records = pipeline.records();
    let stored = collector.stop();
    // A request whose answer was lost is sent again.
    let count = assert_stored(&records, &stored, 2);
    assert!(count > 2000, "only {count} points");
}

/// A metric, a log record and a span, all of this number.
fn of_each_signal(host: &str, n: u64) -> [Value; 3] {
    let time = |nanos: u64| format!("2026-11-20T20:45:{:02}.{nanos:09}Z", n % 60);
    let types = ["gauge", "counter", "updowncounter"];
    let value = if n.is_multiple_of(2) { json!(n << 40 | 1) } else { json!(n as f64 + 0.1) };
    let (trace, span) = (format!("{:032x}", u128::from(n + 1) << 64 | 7), format!("{:016x}", n + 1));
    [
        json!({"ts": time(n), "kind": "metric", "host": host, "name": format!("m{n}"), "unit": "By", "value": value,
            "type": types[n as usize % 3], "start_ts": "2026-11-20T20:00:00Z", "attributes": {"n": n}}),
        json!({"ts": time(n + 1), "kind": "log", "host": host, "severity": "warn", "body": format!("log {n}"),
            "attributes": {"n": n, "half": n as f64 + 0.5, "even": n.is_multiple_of(2)}, "trace_id": trace, "span_id": span}),
        json!({"ts": time(900_000_000 + n), "kind": "span", "host": host, "name": format!("span {n}"),
            "begin_ts": time(n), "trace_id": trace, "span_id": span, "parent_span_id": format!("{:016x}", n + 9),
            "span_kind": "client", "status": "error", "status_message": "what", "attributes": {"n": n},
            "events": [{"ts": time(n + 5), "name": "event", "attributes": {"n": n}}],
            "links": [{"trace_id": trace, "span_id": format!("{:016x}", n + 2)}]}),
    ]
}

/// The elements of nested lists of a stored request whose resource has this host.
fn nested(stored: &[Value], host: &str, names: [&str; 3]) -> Vec<Value> {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let own = |resource: &Value| {
        let mut pairs = list(&resource["resource"], "attributes").into_iter();
        pairs.any(|pair| pair["key"] == "host.name" && pair["value"]["stringValue"] == host)
    };
    let resources = stored.iter().flat_map(|line| list(line, names[0])).filter(own);
    resources
        .flat_map(|resource| list(&resource, names[1]))
        .flat_map(|scope| list(&scope, names[2]))
        .collect()
}

fn nanos(ts: &Value) -> String {
    ts.as_str().unwrap().parse::<Timestamp>().unwrap().0.to_string()
}

#[test]
fn each_protocol_and_compression_stores_what_was_sent() {
    const COUNT: u64 = 200;
    let Some(collector) = Collector::start() else { return };
    for (protocol, compression) in [
        ("http/protobuf", "gzip"),
        ("http/protobuf", "zstd"),
        ("http/protobuf", "none"),
        ("http/json", "gzip"),
        ("grpc", "gzip"),
        ("grpc", "zstd"),
        ("grpc", "none"),
    ] {
        let host = format!("{protocol} {compression}");
        let url = if protocol == "grpc" { collector.grpc_url() } else { collector.http_url() };
        let lines: Vec<_> = (0..COUNT).map(|n| of_each_signal(&host, n)).collect();
        let input: String = lines.iter().flatten().map(|line| format!("{line}\n")).collect();
        let args =
            ["--otlp", &url, "--protocol", protocol, "--compression", compression, "--batch-lines", "150"];
        let ended = Ship::run(&args, input);
        let all = 3 * COUNT;
        assert_eq!((ended.code, ended.lines()), (Some(0), [all, all, 0, 0, 0]), "{host}: {}", ended.stderr);
        assert_eq!((ended.count("accepted_items"), ended.count("retries")), (all, 0), "{host}");

        let logs = ["resourceLogs", "scopeLogs", "logRecords"];
        let spans = ["resourceSpans", "scopeSpans", "spans"];
        let whole = |stored: &[Value]| {
            let metrics = points(stored).keys().filter(|name| name.host == host).count();
            metrics + nested(stored, &host, logs).len() + nested(stored, &host, spans).len() >= all as usize
        };
        let stored = collector.wait(Duration::from_secs(30), whole);
        let (logs, spans, points) =
            (nested(&stored, &host, logs), nested(&stored, &host, spans), points(&stored));
        assert_eq!((logs.len() as u64, spans.len() as u64), (COUNT, COUNT), "{host}");
        for (n, [metric, log, span]) in lines.iter().enumerate() {
            let named = |name: &&support::stored::Name| name.host == host && name.metric == format!("m{n}");
            let name = points.keys().find(named).expect("the metric");
            assert_eq!(
                (&name.attributes[..], name.time.to_string()),
                (&[format!("n={n}")][..], nanos(&metric["ts"]))
            );
            let [point] = &points[name][..] else { panic!("{host} m{n}") };
            assert_eq!((&point.value, &*point.unit), (&metric["value"], "By"), "{host} m{n}");
            assert_eq!((&*point.shape, point.monotonic), (["gauge", "sum", "sum"][n % 3], n % 3 == 1));

            let stored = logs
                .iter()
                .find(|found| found["body"]["stringValue"] == log["body"])
                .expect("the log record");
            assert_eq!(stored["timeUnixNano"], nanos(&log["ts"]));
            assert_eq!((&stored["severityText"], &stored["severityNumber"]), (&log["severity"], &json!(13)));
            assert_eq!((&stored["traceId"], &stored["spanId"]), (&log["trace_id"], &log["span_id"]));
            let n_is = json!({"key": "n", "value": {"intValue": n.to_string()}});
            let half = json!({"key": "half", "value": {"doubleValue": log["attributes"]["half"]}});
            let even = json!({"key": "even", "value": {"boolValue": n.is_multiple_of(2)}});
            assert_eq!(stored["attributes"], json!([n_is, half, even]), "{host}");

            let stored = spans.iter().find(|found| found["spanId"] == span["span_id"]).expect("the span");
            for (ours, theirs) in
                [("name", "name"), ("trace_id", "traceId"), ("parent_span_id", "parentSpanId")]
            {
                assert_eq!(span[ours], stored[theirs], "{host}");
            }
            let times = [nanos(&span["begin_ts"]), nanos(&span["ts"])];
            assert_eq!([&stored["startTimeUnixNano"], &stored["endTimeUnixNano"]], [&*times[0], &times[1]]);
            assert_eq!((&stored["kind"], &stored["attributes"]), (&json!(3), &json!([n_is])));
            assert_eq!(stored["status"], json!({"code": 2, "message": "what"}));
            let event = json!({"timeUnixNano": nanos(&span["events"][0]["ts"]), "name": "event", "attributes": [n_is]});
            assert_eq!(stored["events"], json!([event]), "{host}");
            let link = &span["links"][0];
            assert_eq!(
                (&stored["links"][0]["traceId"], &stored["links"][0]["spanId"]),
                (&link["trace_id"], &link["span_id"])
            );
        }
    }
}
