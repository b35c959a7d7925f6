//! `tele-ship --spool` while a server, or one signal of it, is down: the lines wait on disk, and nothing else waits.

#![cfg(feature = "http")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use opentelemetry_proto::tonic::metrics::v1::metric::Data;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value as Number;
use prost::Message;
use rustix::process::Signal;
use serde_json::Value;
use support::{Answer, Capture, Request, Ship, poll, program};

const WAIT: Duration = Duration::from_secs(60);

/// A `log` record with that body.
fn log(n: u64) -> String {
    format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\"}}\n")
}

/// The numbers in a request for logs.
fn numbers(request: &Request) -> Vec<u64> {
    let message = ExportLogsServiceRequest::decode(&*request.plain()).expect("a request for logs");
    let records = message.resource_logs.into_iter().flat_map(|r| r.scope_logs).flat_map(|s| s.log_records);
    let number =
        |any| if let Any::StringValue(text) = any { text.parse().unwrap() } else { panic!("{any:?}") };
    records.map(|record| number(record.body.and_then(|body| body.value).expect("a body"))).collect()
}

fn once(count: u64) -> BTreeMap<u64, u32> {
    (0..count).map(|n| (n, 1)).collect()
}

/// A directory for a spool, and its path as an argument.
fn spool() -> (tempfile::TempDir, String) {
    let dir = tempfile::tempdir().unwrap();
    let arg = dir.path().to_str().unwrap().to_owned();
    (dir, arg)
}

/// The cursor of a signal; `None` if there is none yet.
fn cursor(spool: &tempfile::TempDir, signal: &str) -> Option<Value> {
    let text = fs::read(spool.path().join(format!("otlp-{signal}.cursor"))).ok()?;
    Some(serde_json::from_slice::<Value>(&text).expect("a JSON line")["cursor"].clone())
}

/// What `tele-ship spool status` prints about each cursor.
fn status(spool: &str) -> Vec<Value> {
    let run = std::process::Command::new(program!("tele-ship")).args(["spool", "status", spool]).output();
    let text = String::from_utf8(run.unwrap().stdout).unwrap();
    text.lines().skip(1).map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// A metric, a log and a span with that number.
fn mixed(range: std::ops::Range<u64>) -> String {
    let line = |n: u64| {
        format!(
            "{{\"kind\":\"metric\",\"host\":\"h\",\"name\":\"m\",\"value\":{n}}}\n{}\
             {{\"kind\":\"span\",\"ts\":\"2026-11-20T20:45:01Z\",\"begin_ts\":\"2026-11-20T20:45:00Z\",\"host\":\"h\",\
             \"name\":\"{n}\",\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"}}\n",
            log(n),
            n + 1,
            n + 1
        )
    };
    range.map(line).collect()
}

/// How often each number of a [`mixed`] line arrived in these requests.
fn times<'a>(requests: impl IntoIterator<Item = &'a Request>) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for request in requests {
        let all = match &*request.path {
            "/v1/metrics" => {
                let message = ExportMetricsServiceRequest::decode(&*request.plain()).unwrap();
                let scopes = message.resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
                let value = |point: NumberDataPoint| match point.value.unwrap() {
                    Number::AsInt(n) => n as u64,
                    Number::AsDouble(n) => n as u64,
                };
                let points = |data| match data {
                    Some(Data::Gauge(gauge)) => gauge.data_points,
                    data => panic!("{data:?}"),
                };
                scopes.flat_map(|s| s.metrics).flat_map(|m| points(m.data)).map(value).collect()
            }
            "/v1/logs" => numbers(request),
            _ => {
                let message = ExportTraceServiceRequest::decode(&*request.plain()).unwrap();
                let scopes = message.resource_spans.into_iter().flat_map(|r| r.scope_spans);
                scopes.flat_map(|s| s.spans).map(|span| span.name.parse().unwrap()).collect::<Vec<u64>>()
            }
        };
        all.into_iter().for_each(|n| *counts.entry(n).or_default() += 1);
    }
    counts
}

#[test]
fn a_signal_that_is_down_holds_back_no_other_and_repeats_nothing_of_theirs() {
    const COUNT: u64 = 4000;
    for down in [Answer::status(429).header("Retry-After", "3600"), Answer::silence(), Answer::status(503)] {
        let (spool, arg) = spool();
        let first = Capture::with(move |request| match &*request.path {
            "/v1/metrics" => down.clone(),
            _ => Answer::ok(),
        });
        // The lines of metrics alone are ten times what may be in memory.
        let small = ["--queue-bytes", "48KiB", "--batch-bytes", "4KiB", "--batch-age", "50ms"];
        let url = first.url();
        let args = ["--otlp", &*url, "--spool", &arg, "--stats", "50ms"];
        let mut ship = Ship::start(&[&args[..], &small].concat());
        ship.feed(mixed(0..COUNT));
        ship.wait_for_count("delivered", 2 * COUNT);
        let is_saved = |signal: &str| {
            let cursor = cursor(&spool, signal)?;
            (cursor["open"].as_array()?.is_empty() && cursor["next"].as_u64()? > 3 * COUNT - 3).then_some(())
        };
        poll(WAIT, || is_saved("logs").and(is_saved("traces"))).expect("durable cursors");
        ship.signal(Signal::KILL);
        ship.wait();
        let (metrics, others): (Vec<_>, Vec<_>) =
            first.requests().into_iter().partition(|request| request.path == "/v1/metrics");
        assert!((1..=20).contains(&metrics.len()), "{} attempts", metrics.len());
        let of = |requests: &[Request], path| times(requests.iter().filter(|request| request.path == path));
        assert_eq!(of(&others, "/v1/logs"), once(COUNT));
        assert_eq!(of(&others, "/v1/traces"), once(COUNT));
        let pending =
            |row: &Value| (row["signal"].as_str().unwrap().to_owned(), row["pending"].as_u64().unwrap());
        let rows: BTreeMap<_, _> = status(&arg).iter().map(pending).collect();
        assert_eq!(
            rows,
            [("logs", 0), ("metrics", COUNT), ("traces", 0)].map(|(name, n)| (name.into(), n)).into()
        );

        let second = Capture::script([]);
        let ended = Ship::run(&["--otlp", &second.url(), "--spool", &arg], "");
        assert_eq!((ended.code, ended.lines()), (Some(0), [COUNT, COUNT, 0, 0, 0]), "{}", ended.stderr);
        let requests = second.requests();
        assert!(requests.iter().all(|request| request.path == "/v1/metrics"), "nothing comes twice");
        assert_eq!(times(&requests), once(COUNT));
    }
}

/// A server that is down while `lines` lines of 1 kB arrive at full speed, and then works.
fn outage(lines: u64) {
    let padded = |n: u64| log(n).replace("\"kind\"", &format!("\"pad\":\"{}\",\"kind\"", "x".repeat(920)));
    let (_spool, arg) = spool();
    let (up, firsts) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(Vec::new())));
    let stored = Arc::new(Mutex::new(vec![0u8; lines as usize]));
    let (is_up, into, order) = (up.clone(), stored.clone(), firsts.clone());
    let server = Capture::with(move |request| {
        if !*is_up.lock().unwrap() {
            return Answer::status(503);
        }
        let numbers = numbers(request);
        order.lock().unwrap().push((numbers[0], numbers.len() as u64, Instant::now()));
        numbers.iter().for_each(|n| into.lock().unwrap()[*n as usize] += 1);
        Answer::ok()
    });
    let args = ["--otlp", &server.url(), "--spool", &arg, "--stats", "100ms"];
    let mut ship = Ship::start(&args);
    let mut stdin = ship.take_stdin();
    let begun = Instant::now();
    for start in (0..lines).step_by(1000) {
        let chunk: String = (start..lines.min(start + 1000)).map(padded).collect();
        stdin.write_all(chunk.as_bytes()).expect("it reads on");
    }
    let written = begun.elapsed();
    ship.wait_for_count("read", lines);
    let peak = || {
        let status = fs::read_to_string(format!("/proc/{}/status", ship.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap().to_owned();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    };
    let during = peak();
    *up.lock().unwrap() = true;
    ship.wait_for_count("delivered", lines);
    let after = peak();
    drop(stdin);
    let ended = ship.wait();
    assert_eq!((ended.code, ended.lines()), (Some(0), [lines, lines, 0, 0, 0]), "{}", ended.stderr);
    assert!(stored.lock().unwrap().iter().all(|times| *times == 1), "each line once");
    assert!(during < 64 && after < 64, "{during} MiB, then {after} MiB");
    // Oldest first: a request can be overtaken by those in flight with it.
    let firsts = firsts.lock().unwrap();
    let (mut newest, most) = (0, firsts.iter().map(|(_, count, _)| *count).max().unwrap());
    for (first, ..) in firsts.iter() {
        assert!(first + 8 * most >= newest, "{first} after {newest}");
        newest = newest.max(*first);
    }
    // No pauses: but for the first few, a request follows the other at once.
    let gaps = firsts.windows(2).map(|pair| pair[1].2 - pair[0].2);
    let longest = gaps.max().unwrap();
    assert!(longest < Duration::from_secs(2), "a pause of {longest:?}");
    let took = firsts[firsts.len() - 1].2 - firsts[0].2;
    eprintln!(
        "{lines} lines of 1 kB: read in {written:?}, delivered in {took:?}, longest pause {longest:?}; \
         {during} MiB in the outage, {after} MiB after it"
    );
}

// Two hours at 50,000 records a second are 360 million. This is the 3600th part of it, and, with --long, the 360th: both
// are more than the memory that is allowed.
#[test]
fn an_outage_costs_disk_and_no_memory() {
    outage(100_000);
}

#[test]
fn a_long_outage_costs_no_more_memory() {
    if support::require_long() {
        outage(1_000_000);
    }
}
