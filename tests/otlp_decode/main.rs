//! Compares what `tele-ship --otlp` sends with its input, line by line. A plain HTTP server keeps the requests, and
//! Python's opentelemetry-proto decodes them.

#![cfg(feature = "http")]

mod json;
#[path = "../support/mod.rs"]
mod support;
#[cfg(all(target_os = "linux", feature = "bpf"))]
mod tracers;

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Map, Value, json};
use support::stored::{expected, integer, points};
use support::{Capture, Request, Ship, program, python, records};
use telepipe::common::time::Timestamp;

/// Decodes requests to OTLP/JSON; `None` without that Python.
fn decoded(requests: &[Request]) -> Option<Vec<Value>> {
    let file = |request: &Request| {
        let end = match request.header("content-type") {
            Some("application/x-protobuf") => "",
            Some("application/json") => ".json",
            other => panic!("{other:?}"),
        };
        let signal = request.path.strip_prefix("/v1/").expect("a path of OTLP/HTTP");
        (format!("{signal}{end}"), request.plain().to_vec())
    };
    decoded_files(&requests.iter().map(file).collect::<Vec<_>>())
}

/// Decodes files, given as the end of the name and the contents.
fn decoded_files(files: &[(String, Vec<u8>)]) -> Option<Vec<Value>> {
    let mut python = python()?;
    let folder = tempfile::tempdir().unwrap();
    python.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/decode_otlp.py"));
    for (number, (end, content)) in files.iter().enumerate() {
        let path = folder.path().join(format!("{number}-{end}"));
        fs::write(&path, content).unwrap();
        python.arg(path);
    }
    let output = python.output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let decoded = records::parse(&output.stdout);
    assert_eq!(decoded.len(), files.len());
    Some(decoded)
}

/// Sends lines, all of which must be accepted, and decodes the requests.
fn shipped(lines: &[Value], options: &[&str]) -> Option<Vec<Value>> {
    let server = Capture::script([]);
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let url = server.url();
    let ended = Ship::run(&[&["--otlp", &url], options].concat(), input);
    let read = lines.len() as u64;
    // Totals are empty: their parts are records of their own.
    let delivered = read - ended.count("empty");
    assert_eq!((ended.code, ended.lines()), (Some(0), [read, delivered, 0, 0, 0]), "{}", ended.stderr);
    let requests = decoded(&server.requests())?;
    assert_eq!(ended.count("accepted_items"), requests.iter().map(items).sum::<u64>());
    Some(requests)
}

/// The number of points, log records and spans in a request.
fn items(request: &Value) -> u64 {
    match request {
        Value::Array(values) => values.iter().map(items).sum(),
        Value::Object(fields) => {
            let of = |(name, value): (&String, &Value)| match (name.as_str(), value) {
                ("dataPoints" | "logRecords" | "spans", Value::Array(all)) => all.len() as u64,
                (_, value) => items(value),
            };
            fields.iter().map(of).sum()
        }
        _ => 0,
    }
}

/// The log records or spans of each host, by time: several requests may be on their way at once.
fn by_host(requests: &[Value], signal: [&str; 3]) -> BTreeMap<String, Vec<Value>> {
    let mut hosts = BTreeMap::<_, Vec<Value>>::new();
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    for resource in requests.iter().flat_map(|request| list(request, signal[0])) {
        let host = attributes(&resource["resource"])["host.name"].as_str().unwrap().to_owned();
        for scope in list(&resource, signal[1]) {
            assert_eq!(scope["scope"]["name"], "telepipe");
            hosts.entry(host.clone()).or_default().extend(list(&scope, signal[2]));
        }
    }
    let time = |item: &Value| integer(&item["timeUnixNano"]).max(integer(&item["endTimeUnixNano"]));
    hosts.values_mut().for_each(|items| items.sort_by_key(time));
    hosts
}

fn attributes(of: &Value) -> Value {
    fields(of, "attributes")
}

fn fields(of: &Value, name: &str) -> Value {
    let pairs = of[name].as_array().map_or(&[][..], Vec::as_slice).iter();
    pairs
        .map(|pair| (pair["key"].as_str().unwrap().to_owned(), plain(&pair["value"])))
        .collect::<Map<_, _>>()
        .into()
}

/// Converts an `AnyValue` to plain JSON.
fn plain(value: &Value) -> Value {
    let Some((kind, value)) = value.as_object().and_then(|value| value.iter().next()) else {
        return Value::Null;
    };
    match kind.as_str() {
        "stringValue" | "boolValue" | "doubleValue" => value.clone(),
        "intValue" => value.as_str().unwrap().parse::<i64>().unwrap().into(),
        "arrayValue" => value["values"].as_array().into_iter().flatten().map(plain).collect(),
        "kvlistValue" => fields(value, "values"),
        other => panic!("{other}"),
    }
}

fn nanos(ts: &Value) -> u64 {
    ts.as_str().unwrap().parse::<Timestamp>().unwrap().0
}

/// Random `io` records, with different buckets in each.
fn io_records() -> Vec<Value> {
    let mut random = 0x2545_f491_4f6c_dd1d_u64; // xorshift64
    let mut next = |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let mut record = |second: u32| {
        let mut buckets = BTreeMap::new();
        for _ in 0..=next(40) {
            buckets.insert((224 + next(900)).to_string(), 1 + next(1 << 33));
        }
        let zero_count = next(2) * next(1 << 33);
        let count = zero_count + buckets.values().sum::<u64>();
        let (sum_us, max_us) = (next(1 << 50) as f64 / 1000.0, next(1 << 36) as f64 / 1000.0);
        json!({
            "ts": format!("2026-11-20T20:45:{second:02}.000000001Z"), "kind": "io", "host": "disks",
            "device": "nvme0n1", "op": "read", "start_ts": format!("2026-11-20T20:44:{second:02}.5Z"),
            "interval_s": 1.0, "count": count, "bytes": next(1 << 63), "errors": next(3), "sum_us": sum_us,
            "max_us": max_us, "scale": 5, "zero_count": zero_count, "buckets": buckets, "device_sum_us": 7.001,
            "device_buckets": {"-5": 1, "5": 2}, "queue_zero_count": count, "queue_buckets": {},
        })
    };
    (0..60).map(&mut record).collect()
}

#[test]
fn metrics_have_the_values_of_the_records() {
    let scrape = program!("scrape");
    let mut lines = records::records(scrape, &["--per-cpu", "-n", "4", "-i", "200ms"]);
    lines.extend(io_records());
    for options in [&["--compression", "none", "--batch-lines", "50"][..], &["--compression", "gzip"]] {
        let Some(requests) = shipped(&lines, options) else { return };
        let (mut found, mut count) = (points(&requests), 0);
        for (name, expected) in lines.iter().flat_map(expected) {
            assert_eq!(found.remove(&name).as_deref(), Some(&[expected][..]), "{name:?}");
            count += 1;
        }
        assert!(found.is_empty(), "unexpected points: {found:?}");
        assert!(count > 300, "only {count} points");
        let logs = by_host(&requests, ["resourceLogs", "scopeLogs", "logRecords"]);
        let mut names: Vec<_> =
            logs.values().flatten().map(|log| log["eventName"].as_str().unwrap()).collect();
        let kinds = lines.iter().filter_map(|line| line["kind"].as_str());
        let mut wanted: Vec<_> =
            kinds.filter(|kind| ["host", "interface", "status"].contains(kind)).collect();
        names.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(names, wanted);
    }
}

/// Values of every type, and strings with every kind of character.
fn values(n: u64) -> Value {
    json!({
        "n": n, "min": i64::MIN, "third": 1.0 / 3.0, "tiny": 5e-324, "yes": true, "none": null,
        "text": "\"\\\u{0}\n\u{7f}\u{2028}é😀", "list": [1, "two", [3.5], {}], "map": {"a": {"b": {"c": [null]}}},
    })
}

#[test]
fn log_records_have_the_fields_of_the_records() {
    let host = |n: u64| format!("host{}", n % 3);
    let line = |n: u64| {
        let ts = format!("2026-11-20T20:45:{:02}.{n:09}Z", n % 60);
        match n % 4 {
            0 => {
                json!({"ts": ts, "kind": "log", "host": host(n), "severity": "warn", "body": values(n), "attributes": values(n)})
            }
            1 => {
                json!({"ts": ts, "kind": "status", "host": host(n), "source": format!("/proc/{n}"), "reason": "denied", "detail": "é"})
            }
            2 => json!({"ts": ts, "host": host(n), "level": "fatal", "other": values(n)}),
            _ => {
                json!({"ts": ts, "kind": "snapshot", "host": host(n), "url": "http://h/x", "data": values(n)})
            }
        }
    };
    let lines: Vec<_> = (0..200).map(line).collect();
    let Some(requests) = shipped(&lines, &["--batch-lines", "64"]) else { return };
    let hosts = by_host(&requests, ["resourceLogs", "scopeLogs", "logRecords"]);
    assert_eq!(hosts.len(), 3);
    for (host, logs) in hosts {
        let mut lines: Vec<_> = lines.iter().filter(|line| line["host"] == host).collect();
        lines.sort_by_key(|line| nanos(&line["ts"]));
        assert_eq!(lines.len(), logs.len());
        for (line, log) in lines.into_iter().zip(logs) {
            assert_eq!(integer(&log["timeUnixNano"]), nanos(&line["ts"]));
            let (severity, event, body, about) = match line["kind"].as_str() {
                Some("log") => (13, None, line["body"].clone(), line["attributes"].clone()),
                Some("status") => {
                    let about = json!({"source": line["source"], "reason": "denied", "detail": "é"});
                    (9, Some("status"), Value::Null, about)
                }
                Some(_) => (0, Some("snapshot"), line["data"].clone(), json!({"url.full": "http://h/x"})),
                None => (21, None, line.clone(), json!({})),
            };
            assert_eq!((plain(&log["body"]), attributes(&log)), (body, about));
            assert_eq!((integer(&log["severityNumber"]), log["eventName"].as_str()), (severity, event));
        }
    }
}

const SPAN_KINDS: [&str; 5] = ["internal", "server", "client", "producer", "consumer"];

#[test]
fn spans_and_metric_records_keep_all_fields() {
    for options in
        [&[][..], &["--compression", "zstd"], &["--protocol", "http/json", "--compression", "none"]]
    {
        assert_spans_and_metrics(options);
    }
}

fn assert_spans_and_metrics(options: &[&str]) {
    let span = |n: u64| {
        let (second, status) = (n % 60, ["unset", "ok", "error"][n as usize % 3]);
        json!({
            "ts": format!("2026-11-20T20:46:{second:02}Z"), "kind": "span", "host": "h", "name": format!("check {n}"),
            "trace_id": format!("{:032x}", u128::from(n + 1) << 64 | 7), "span_id": format!("{:016x}", n + 1),
            "parent_span_id": format!("{:016x}", n + 2), "trace_state": format!("k={n}"), "begin_ts": format!("2026-11-20T20:45:{second:02}.25Z"),
            "status": status, "status_message": "what", "attributes": values(n),
            "span_kind": SPAN_KINDS[n as usize % 5],
            "resource": {"service.name": format!("service{}", n % 2)},
            "events": [{"ts": format!("2026-11-20T20:45:{second:02}.5Z"), "name": "event", "attributes": values(n)}],
            "links": [{"trace_id": format!("{:032x}", n + 9), "span_id": format!("{:016x}", n + 8), "attributes": {"n": n}}],
        })
    };
    let metric = |n: u64| {
        json!({
            "ts": "2026-11-20T20:46:00Z", "kind": "metric", "host": "h", "name": format!("m{}", n % 7), "type": "counter",
            "unit": "By", "value": n, "start_ts": "2026-11-20T20:00:00Z", "attributes": {"n": n.to_string()},
        })
    };
    let lines: Vec<_> = (0..90).flat_map(|n| [span(n), metric(n)]).collect();
    let Some(requests) = shipped(&lines, &[&["--batch-lines", "100"], options].concat()) else { return };
    let mut services = [0, 0];
    for resource in
        requests.iter().flat_map(|request| request["resourceSpans"].as_array().into_iter().flatten())
    {
        let service = attributes(&resource["resource"])["service.name"].as_str().unwrap().to_owned();
        services[usize::from(service == "service1")] += items(resource);
    }
    assert_eq!(services, [45, 45]);
    let mut spans = by_host(&requests, ["resourceSpans", "scopeSpans", "spans"]).remove("h").unwrap();
    spans.sort_by_key(|span| span["spanId"].as_str().unwrap().to_owned());
    let (mut lines, metrics): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["kind"] == "span");
    assert_eq!(spans.len(), lines.len());
    for (line, span) in lines.drain(..).zip(spans) {
        for (ours, theirs) in [
            ("trace_id", "traceId"),
            ("span_id", "spanId"),
            ("parent_span_id", "parentSpanId"),
            ("trace_state", "traceState"),
            ("name", "name"),
        ] {
            assert_eq!(line[ours], span[theirs]);
        }
        let times = [&span["startTimeUnixNano"], &span["endTimeUnixNano"]].map(integer);
        assert_eq!(times, [nanos(&line["begin_ts"]), nanos(&line["ts"])]);
        let code = ["unset", "ok", "error"][integer(&span["status"]["code"]) as usize];
        assert_eq!((code, &span["status"]["message"]), (line["status"].as_str().unwrap(), &json!("what")));
        assert_eq!(SPAN_KINDS[integer(&span["kind"]) as usize - 1], line["span_kind"]);
        assert_eq!(attributes(&span), line["attributes"]);
        let (event, link) = (&span["events"][0], &span["links"][0]);
        let (ours, theirs) = (&line["events"][0], (&event["name"], integer(&event["timeUnixNano"])));
        assert_eq!(
            (theirs, attributes(event)),
            ((&ours["name"], nanos(&ours["ts"])), ours["attributes"].clone())
        );
        let ours = &line["links"][0];
        assert_eq!((&link["traceId"], &link["spanId"]), (&ours["trace_id"], &ours["span_id"]));
        assert_eq!(attributes(link), ours["attributes"]);
    }
    let found = points(&requests);
    assert_eq!(found.len(), metrics.len());
    for line in metrics {
        let about = format!("n={}", line["attributes"]["n"].as_str().unwrap());
        let (_, point) = found.iter().find(|(name, _)| name.attributes == [about.as_str()]).unwrap();
        let [point] = &point[..] else { panic!("{point:?}") };
        assert_eq!((&*point.unit, &*point.shape, point.temporality, point.monotonic), ("By", "sum", 2, true));
        assert_eq!((&point.value, point.start), (&line["value"], nanos(&line["start_ts"])));
    }
}

#[test]
fn otlp_json_is_sent_unchanged() {
    let request = json!({"resourceMetrics": [{
        "resource": {"attributes": [{"key": "host.name", "value": {"stringValue": "far"}}]},
        "scopeMetrics": [{"scope": {"name": "other", "version": "1"}, "metrics": [{
            "name": "h", "unit": "ms", "histogram": {"aggregationTemporality": 1, "dataPoints": [{
                "startTimeUnixNano": "5", "timeUnixNano": "18446744073709551615", "count": "3", "sum": 2.5,
                "bucketCounts": ["1", "0", "2"], "explicitBounds": [0.5, 1.5], "flags": 1,
                "exemplars": [{"timeUnixNano": "6", "traceId": "0102030405060708090a0b0c0d0e0f10",
                    "spanId": "0102030405060708", "asInt": "-9"}],
            }]},
        }]}],
        "schemaUrl": "https://opentelemetry.io/schemas/1.27.0",
    }]});
    let own = json!({"ts": "2026-11-20T20:46:00Z", "kind": "load", "host": "near", "load_1m": 0.5});
    let Some(requests) = shipped(&[request.clone(), own], &[]) else { return };
    let [one] = &requests[..] else { panic!("{} requests", requests.len()) };
    let resources = one["resourceMetrics"].as_array().unwrap();
    assert_eq!((resources.len(), &resources[1]), (2, &request["resourceMetrics"][0]));
}
