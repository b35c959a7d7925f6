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

/// A metric with that value, a log record with that body, and a span with that name.
fn line(n: u64, signal: u64, pad: &str) -> String {
    match signal {
        0 => format!(
            "{{\"kind\":\"metric\",\"host\":\"h\",\"name\":\"m\",\"value\":{n},\"attributes\":{{\"a\":\"{pad}\"}}}}\n"
        ),
        1 => format!(
            "{{\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\",\"attributes\":{{\"a\":\"{pad}\"}}}}\n"
        ),
        _ => format!(
            "{{\"kind\":\"span\",\"ts\":\"2026-11-20T20:45:01Z\",\"begin_ts\":\"2026-11-20T20:45:00Z\",\"host\":\"h\",\
             \"name\":\"{n}\",\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\",\"attributes\":{{\"a\":\"{pad}\"}}}}\n",
            n + 1,
            n + 1
        ),
    }
}

/// The numbers in a request.
fn numbers(request: &Request) -> Vec<u64> {
    let body = request.plain();
    match &*request.path {
        "/v1/metrics" => {
            let message = ExportMetricsServiceRequest::decode(&*body).expect("metrics");
            let scopes = message.resource_metrics.into_iter().flat_map(|r| r.scope_metrics);
            let value = |point: NumberDataPoint| match point.value.expect("a value") {
                Number::AsInt(n) => n as u64,
                Number::AsDouble(n) => n as u64,
            };
            let points = |data| match data {
                Some(Data::Gauge(gauge)) => gauge.data_points,
                data => panic!("{data:?}"),
            };
            scopes.flat_map(|s| s.metrics).flat_map(|m| points(m.data)).map(value).collect()
        }
        "/v1/logs" => {
            let message = ExportLogsServiceRequest::decode(&*body).expect("logs");
            let scopes = message.resource_logs.into_iter().flat_map(|r| r.scope_logs);
            let number = |any| match any {
                Any::StringValue(text) => text.parse().unwrap(),
                any => panic!("{any:?}"),
            };
            let records = scopes.flat_map(|s| s.log_records);
            records.map(|record| number(record.body.and_then(|body| body.value).expect("a body"))).collect()
        }
        _ => {
            let message = ExportTraceServiceRequest::decode(&*body).expect("traces");
            let scopes = message.resource_spans.into_iter().flat_map(|r| r.scope_spans);
            scopes.flat_map(|s| s.spans).map(|span| span.name.parse().unwrap()).collect()
        }
    }
}

/// How often each number arrived.
fn times<'a>(requests: impl IntoIterator<Item = &'a Request>) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    requests.into_iter().flat_map(numbers).for_each(|n| *counts.entry(n).or_default() += 1);
    counts
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
        ship.feed((0..3 * COUNT).map(|n| line(n / 3, n % 3, "")).collect::<String>());
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
    let pad = "x".repeat(920);
    let (_spool, arg) = spool();
    let (up, firsts) = (Arc::new(Mutex::new(false)), Arc::new(Mutex::new(Vec::new())));
    let stored = Arc::new(Mutex::new(vec![0u8; lines as usize]));
    let (is_up, into, order) = (up.clone(), stored.clone(), firsts.clone());
    let server = Capture::with(move |request| {
        if !*is_up.lock().unwrap() {
            return Answer::status(503);
        }
        let numbers = numbers(request);
        order.lock().unwrap().push((numbers[0], numbers[numbers.len() - 1], Instant::now()));
        numbers.iter().for_each(|n| into.lock().unwrap()[*n as usize] += 1);
        Answer::ok()
    });
    let args = ["--otlp", &server.url(), "--spool", &arg, "--stats", "100ms"];
    let mut ship = Ship::start(&args);
    let mut stdin = ship.take_stdin();
    let begun = Instant::now();
    for start in (0..lines).step_by(1000) {
        let chunk: String = (start..lines.min(start + 1000)).map(|n| line(n, n % 3, &pad)).collect();
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
    // Oldest first, each signal: a request can only be overtaken by those in flight with it.
    let firsts = firsts.lock().unwrap();
    let mut pauses = Duration::ZERO;
    for signal in 0..3 {
        let of_signal: Vec<_> = firsts.iter().filter(|(first, ..)| first % 3 == signal).collect();
        let longest = of_signal.iter().map(|(first, last, _)| last - first + 3).max().unwrap();
        let mut newest = 0;
        for (first, ..) in &of_signal {
            assert!(first + 8 * longest >= newest, "{first} after {newest}");
            newest = newest.max(*first);
        }
        // At full speed: once it works, there are no pauses.
        let pause = of_signal.windows(2).map(|pair| pair[1].2 - pair[0].2).max().unwrap();
        assert!(pause < Duration::from_secs(2), "a pause of {pause:?}");
        pauses = pauses.max(pause);
    }
    let took = firsts[firsts.len() - 1].2 - firsts[0].2;
    eprintln!(
        "{lines} lines of 1 kB: read in {written:?}, delivered in {took:?}, longest pause {pauses:?}; \
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
