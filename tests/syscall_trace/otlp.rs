//! `syscall-trace | tele-ship --stdout`: histograms, and log records with their severity.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::program;
use crate::support::tracer::of;
use crate::workload::{comm, ready, run, trace};

/// The records as OTLP/JSON, encoded by tele-ship.
fn shipped(records: &[Value]) -> Vec<Value> {
    let mut ship = Command::new(program!("tele-ship"));
    let mut ship = ship.arg("--stdout").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = ship.stdin.take().unwrap();
    records.iter().for_each(|record| writeln!(input, "{record}").unwrap());
    drop(input);
    let output = ship.wait_with_output().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn all<'a>(requests: &'a [Value], [resource, scope, item]: [&'a str; 3]) -> impl Iterator<Item = &'a Value> {
    let list = |value: &'a Value| value.as_array().into_iter().flatten();
    let scopes =
        requests.iter().flat_map(move |request| list(&request[resource])).flat_map(move |r| list(&r[scope]));
    scopes.flat_map(move |scope| list(&scope[item]))
}

fn attribute<'a>(item: &'a Value, key: &str) -> Option<&'a str> {
    let found = item["attributes"].as_array()?.iter().find(|attribute| attribute["key"] == key)?;
    found["value"]["stringValue"].as_str()
}

#[test]
fn summaries_are_histograms_and_slow_calls_are_log_records() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--waits", "--summary", "--min", "10ms", "--comm", comm(calls)]);
    run(calls, &["count", "211"]);
    run(calls, &["sleep", "20", "150", "1100"]);
    let records = tracer.finish();
    let requests = shipped(&records);

    let durations = all(&requests, ["resourceMetrics", "scopeMetrics", "metrics"])
        .filter(|metric| metric["name"] == "linux.syscall.duration");
    let points: Vec<_> = durations
        .inspect(|metric| assert_eq!(metric["unit"], "ns"))
        .map(|metric| &metric["exponentialHistogram"])
        .inspect(|histogram| assert_eq!(histogram["aggregationTemporality"], 1, "delta"))
        .flat_map(|histogram| histogram["dataPoints"].as_array().unwrap())
        .collect();
    assert_eq!(points.len(), of(&records, "syscall_summary").len());
    let parents =
        points.iter().find(|point| attribute(point, "linux.syscall.name") == Some("getppid")).unwrap();
    let counts = parents["positive"]["bucketCounts"].as_array().unwrap();
    let counted: u64 = counts.iter().map(|count| count.as_str().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!((&parents["count"], counted, &parents["scale"]), (&"211".into(), 211, &3.into()));

    let logs = all(&requests, ["resourceLogs", "scopeLogs", "logRecords"])
        .filter(|log| log["eventName"] == "syscall");
    let sleeps = logs.filter(|log| attribute(log, "syscall") == Some("nanosleep"));
    let severities: Vec<_> = sleeps.map(|log| log["severityText"].as_str().unwrap()).collect();
    assert_eq!(severities, ["INFO", "WARN", "ERROR"], "once, ten times, a hundred times the threshold");
}

#[test]
fn severity_depends_on_the_threshold() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--waits", "--min", "100ms", "--comm", comm(calls), "--syscall", "nanosleep"]);
    run(calls, &["sleep", "20", "150", "1100"]);
    let records = tracer.finish();
    assert!(
        of(&records, "syscall").iter().all(|event| event["threshold_us"].as_f64() == Some(100_000.0)),
        "{records:?}"
    );
    let requests = shipped(&records);
    let logs = all(&requests, ["resourceLogs", "scopeLogs", "logRecords"]);
    let sleeps = logs.filter(|log| log["eventName"] == "syscall");
    let severities: Vec<_> = sleeps.map(|log| log["severityText"].as_str().unwrap()).collect();
    assert_eq!(severities, ["INFO", "WARN"], "once and eleven times 100 ms");
}
