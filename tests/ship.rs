//! `tele-ship --otlp` with servers that are slow, away or refuse: nothing is lost or counted wrong.

#![cfg(feature = "http")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message;
use rustix::process::Signal;
use serde_json::Value;
use support::{Answer, Capture, Request, Ship, free_port, poll, program, time};

const WAIT: Duration = Duration::from_secs(20);

/// `log` records with the bodies from..to.
fn logs(range: std::ops::Range<u32>) -> String {
    let line =
        |n| format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\"}}\n");
    range.map(line).collect()
}

/// The bodies of the log records of a request.
fn bodies(request: &Request) -> Vec<String> {
    assert_eq!((&*request.method, &*request.path), ("POST", "/v1/logs"));
    assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
    let message = ExportLogsServiceRequest::decode(&*request.plain()).expect("a request for logs");
    let records = message.resource_logs.into_iter().flat_map(|r| r.scope_logs).flat_map(|s| s.log_records);
    let text = |any| if let Any::StringValue(text) = any { text } else { panic!("{any:?}") };
    records.map(|record| text(record.body.and_then(|body| body.value).expect("a body"))).collect()
}

/// How often each body is in these requests.
fn arrived(requests: &[Request]) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for body in requests.iter().flat_map(bodies) {
        *counts.entry(body).or_default() += 1;
    }
    counts
}

/// Each of 0..n, `times` times.
fn each(n: u32, times: u32) -> BTreeMap<String, u32> {
    (0..n).map(|n| (n.to_string(), times)).collect()
}

#[test]
fn every_line_arrives_once() {
    let server = Capture::script([]);
    let args = ["--otlp", &server.url(), "--batch-lines", "300", "--in-flight", "1"];
    let ended = Ship::run(&args, logs(0..1000));
    assert_eq!((ended.code, ended.lines()), (Some(0), [1000, 1000, 0, 0, 0]));
    assert_eq!((ended.count("accepted_items"), ended.count("requests")), (1000, 4));
    let requests = server.requests();
    assert_eq!(arrived(&requests), each(1000, 1));
    assert_eq!(requests[0].header("content-encoding"), Some("gzip"));
    assert!(requests[0].header("user-agent").unwrap().starts_with("telepipe/"));
    assert_eq!(server.connections(), 1, "connections stay open");
}

#[test]
fn a_batch_is_sent_when_it_is_old_enough() {
    let server = Capture::script([]);
    let mut ship = Ship::start(&["--otlp", &server.url(), "--batch-age", "300ms"]);
    ship.feed(logs(0..1));
    assert_eq!(bodies(&server.wait(1, WAIT)[0]), ["0"]);
    ship.feed(logs(1..2));
    ship.feed("{\"kind\":\"log\",\"body\":\"2\"}"); // unfinished: stays until the end
    assert_eq!(bodies(&server.wait(2, WAIT)[1]), ["1"]);
    assert_eq!(ship.end().lines(), [3, 3, 0, 0, 0]);
    assert_eq!(bodies(&server.requests()[2]), ["2"]);
}

#[test]
fn an_unreachable_server_is_waited_for() {
    let port = free_port();
    let mut ship = Ship::start(&["--otlp", &format!("http://127.0.0.1:{port}"), "--batch-age", "100ms"]);
    for n in 0..30 {
        ship.feed(logs(n..n + 1));
        std::thread::sleep(Duration::from_millis(100));
    }
    let server = Capture::on(port, |_| Answer::ok());
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(0), [30, 30, 0, 0, 0]));
    assert_eq!(arrived(&server.requests()), each(30, 1));
    assert!(ended.count("retries") > 0);
    assert!(
        ended.stderr.contains("refused") && ended.stderr.contains("works again after"),
        "{}",
        ended.stderr
    );
    assert_eq!(ended.stderr.matches("refused").count(), 1, "an outage is logged once: {}", ended.stderr);
}

#[test]
fn retry_after_is_honoured_in_both_forms() {
    // The date has whole seconds: two to three from now.
    let date = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(6);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&date).unwrap();
    let answers =
        [Answer::status(429).header("Retry-After", "2"), Answer::status(503).header("Retry-After", &date)];
    let server = Capture::script(answers);
    let ended = Ship::run(&["--otlp", &server.url()], logs(0..10));
    assert_eq!((ended.code, ended.lines(), ended.count("retries")), (Some(0), [10, 10, 0, 0, 0], 2));
    let requests = server.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(2));
    assert!(jiff::Timestamp::now() >= jiff::fmt::rfc2822::parse(&date).unwrap().timestamp());
    assert!(requests.iter().all(|request| request.body == requests[0].body));
}

#[test]
fn temporary_errors_resets_and_truncated_answers_are_retried() {
    let server = Capture::script([
        Answer::status(503),
        Answer::status(502),
        Answer::status(504),
        Answer::hangup(),
        Answer::ok().body("0123456789").cut_after(5),
    ]);
    let ended = Ship::run(&["--otlp", &server.url()], logs(0..50));
    assert_eq!((ended.code, ended.lines()), (Some(0), [50, 50, 0, 0, 0]));
    assert_eq!((ended.count("requests"), ended.count("retries"), ended.count("accepted_items")), (6, 5, 50));
    assert_eq!(arrived(&server.requests()), each(50, 6));
}

#[test]
fn a_request_without_an_answer_is_retried() {
    let server = Capture::script([Answer::silence()]);
    let (ended, took) = time(|| Ship::run(&["--otlp", &server.url(), "--timeout", "1s"], logs(0..5)));
    assert_eq!((ended.code, ended.lines(), ended.count("retries")), (Some(0), [5, 5, 0, 0, 0], 1));
    assert!(took >= Duration::from_secs(1) && ended.stderr.contains("no answer in time"), "{}", ended.stderr);
}

#[test]
fn a_refusal_is_final() {
    // google.rpc.Status with message "no such tenant"
    let body = b"\x08\x03\x12\x0eno such tenant".to_vec();
    let server =
        Capture::script([Answer::status(400).header("Content-Type", "application/x-protobuf").body(body)]);
    let args = ["--otlp", &server.url(), "--batch-lines", "20", "--in-flight", "1"];
    let ended = Ship::run(&args, logs(0..30));
    assert_eq!((ended.code, ended.lines()), (Some(1), [30, 10, 20, 0, 0]));
    assert_eq!((ended.count("rejected_items"), ended.count("accepted_items")), (20, 10));
    assert!(ended.stderr.contains("line 1 rejected: ") && ended.stderr.contains("no such tenant"));
    assert!(!ended.stderr.contains("line 6 rejected"), "only the first few are shown: {}", ended.stderr);
}

#[test]
fn a_request_that_is_too_large_is_split() {
    let server = Capture::with(|request| match bodies(request).len() {
        0..=10 => Answer::ok(),
        _ => Answer::status(413),
    });
    let ended = Ship::run(&["--otlp", &server.url(), "--in-flight", "1"], logs(0..100));
    assert_eq!(
        (ended.code, ended.lines(), ended.count("encoded_items")),
        (Some(0), [100, 100, 0, 0, 0], 100)
    );
    let taken: Vec<_> = server.requests().into_iter().filter(|request| bodies(request).len() <= 10).collect();
    assert_eq!(arrived(&taken), each(100, 1));
    let order: Vec<u32> = taken.iter().flat_map(bodies).map(|body| body.parse().unwrap()).collect();
    assert!(order.is_sorted(), "{order:?}");
}

#[test]
fn a_line_that_is_too_large_alone_is_rejected_alone() {
    let poisoned = |request: &Request| bodies(request).contains(&"37".to_owned());
    let server = Capture::with(move |request| Answer::status(if poisoned(request) { 413 } else { 200 }));
    let ended = Ship::run(&["--otlp", &server.url()], logs(0..100));
    assert_eq!((ended.code, ended.lines()), (Some(1), [100, 99, 1, 0, 0]));
    assert!(ended.stderr.contains("line 38 rejected"), "{}", ended.stderr);
    let taken: Vec<_> = server.requests().into_iter().filter(|request| !poisoned(request)).collect();
    let mut expected = each(100, 1);
    expected.remove("37");
    assert_eq!(arrived(&taken), expected);
}

#[test]
fn partial_success_is_counted_logged_once_and_not_sent_again() {
    let partial = || {
        Answer::ok()
            .header("Content-Type", "application/x-protobuf")
            .body(*b"\x0a\x0b\x08\x03\x12\x07too old")
    };
    let json = r#"{"partialSuccess":{"rejectedLogRecords":"2","errorMessage":"too new"}}"#;
    let json = Answer::ok().header("Content-Type", "application/json").body(json);
    let server = Capture::script([partial(), partial(), json]);
    let args = ["--otlp", &server.url(), "--batch-lines", "10", "--in-flight", "1"];
    let ended = Ship::run(&args, logs(0..40));
    assert_eq!((ended.code, ended.lines()), (Some(1), [40, 40, 0, 0, 0]));
    assert_eq!(["encoded_items", "accepted_items", "rejected_items"].map(|n| ended.count(n)), [40, 32, 8]);
    assert_eq!((ended.stderr.matches("too old").count(), ended.stderr.matches("too new").count()), (1, 1));
    assert_eq!(arrived(&server.requests()), each(40, 1));
}

#[test]
fn strange_input_is_accounted_for() {
    let server = Capture::script([]);
    let url = server.url();
    let ended = Ship::run(&["--otlp", &url], "");
    assert_eq!((ended.code, ended.lines(), ended.count("requests")), (Some(0), [0; 5], 0));
    let ended = Ship::run(&["--otlp", &url], "\n \r\n\t\n");
    assert_eq!((ended.code, ended.lines()), (Some(0), [0; 5]));
    let ended = Ship::run(&["--otlp", &url], "\u{feff}{}\r\n\u{feff}\n");
    assert_eq!(
        (ended.code, ended.lines()),
        (Some(0), [1, 1, 0, 0, 0]),
        "a byte order mark alone is a blank line"
    );
    let ended = Ship::run(&["--otlp", &url], "{}");
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]));

    let mut input = logs(0..1).into_bytes();
    input.extend_from_slice(b"{\"body\":\"\xff\xfe\"}\n[1]\n");
    input.resize(input.len() + (2 << 20), b'x');
    input.extend_from_slice(b"\nnot JSON\n{\"kind\":\"log\",\"body\":\"\\ud800\"}\n");
    input.extend_from_slice(logs(1..2).as_bytes());
    let ended = Ship::run(&["--otlp", &url], input);
    assert_eq!((ended.code, ended.lines()), (Some(1), [7, 2, 5, 0, 0]));
    for line in 2..=6 {
        assert!(ended.stderr.contains(&format!("line {line} rejected")), "{line}: {}", ended.stderr);
    }
    assert!(ended.stderr.len() < 4096, "{}", ended.stderr.len());
}

#[test]
fn a_signal_while_the_server_is_unreachable_leaves_pending_lines() {
    for (signals, drain, code) in [(1, "1s", 1), (2, "30s", 130)] {
        let url = format!("http://127.0.0.1:{}", free_port());
        let args = ["--otlp", &url, "--drain", drain, "--batch-age", "100ms", "--stats", "50ms"];
        let mut ship = Ship::start(&args);
        ship.feed(logs(0..7));
        ship.feed("{\"unfinished\":");
        ship.wait_for_count("pending", 7);
        let begin = Instant::now();
        let stdin = ship.take_stdin(); // stays open
        for _ in 0..signals {
            ship.signal(Signal::TERM);
            std::thread::sleep(Duration::from_millis(300));
        }
        let ended = ship.wait();
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        assert_eq!(
            (ended.code, ended.count("pending"), ended.count("delivered")),
            (Some(code), 7, 0),
            "{ended:?}"
        );
        assert_eq!(ended.count("dropped_cut_off"), u64::from(signals == 1));
        drop(stdin);
    }
}

/// `| tele-ship --otlp` from cron, with the server down.
#[test]
fn the_end_of_input_bounds_the_wait_for_an_unreachable_server() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let args = ["--otlp", &url, "--drain", "1s", "--batch-lines", "2"];
    let (ended, took) = time(|| Ship::run(&args, logs(0..7)));
    assert_eq!((ended.code, ended.lines()), (Some(1), [7, 0, 0, 7, 0]), "{}", ended.stderr);
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(20), "{took:?}");

    // A slow server is not away: each request takes longer than --drain leaves for all of them.
    let server = Capture::with(|_| Answer::ok().after(Duration::from_millis(400)));
    let args = ["--otlp", &server.url(), "--drain", "2s", "--batch-lines", "1", "--in-flight", "1"];
    let (ended, took) = time(|| Ship::run(&args, logs(0..8)));
    assert_eq!((ended.code, ended.lines()), (Some(0), [8, 8, 0, 0, 0]), "{}", ended.stderr);
    assert!(took >= Duration::from_secs(3), "{took:?}");
}

#[test]
fn requests_to_a_slow_server_overlap() {
    let server = Capture::with(|_| Answer::ok().after(Duration::from_millis(100)));
    let args = ["--otlp", &server.url(), "--batch-lines", "50"];
    let (ended, took) = time(|| Ship::run(&args, logs(0..3000)));
    assert_eq!((ended.code, ended.lines()), (Some(0), [3000, 3000, 0, 0, 0]));
    assert_eq!(arrived(&server.requests()), each(3000, 1));
    // HTTP/1.1: a connection carries one request at a time.
    assert!((4..=8).contains(&server.connections()), "{} connections", server.connections());
    assert!(took < Duration::from_millis(60 * 100), "as long as one after the other: {took:?}");
}

/// A line of metrics and a line of logs, so many times.
fn both(count: u32) -> String {
    let load = "{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"load\",\"host\":\"h\",\"load_1m\":0.5}\n";
    (0..count).map(|n| load.to_owned() + &logs(n..n + 1)).collect()
}

#[test]
fn an_outage_of_one_signal_does_not_stop_the_others() {
    for answer in [Answer::status(429).header("Retry-After", "3600"), Answer::status(503), Answer::silence()]
    {
        let server = Capture::with(move |request| match &*request.path {
            "/v1/logs" => Answer::ok(),
            _ => answer.clone(),
        });
        let args = ["--otlp", &server.url(), "--batch-lines", "10", "--drain", "1s", "--stats", "50ms"];
        let mut ship = Ship::start(&args);
        ship.feed(both(200));
        ship.wait_for_count("delivered", 200);
        let ended = ship.end();
        assert_eq!((ended.code, ended.lines()), (Some(1), [400, 200, 0, 200, 0]), "{}", ended.stderr);
        let requests = server.requests();
        let (logs, metrics): (Vec<_>, Vec<_>) =
            requests.into_iter().partition(|request| request.path == "/v1/logs");
        assert_eq!(arrived(&logs), each(200, 1));
        assert!((1..=40).contains(&metrics.len()), "{} attempts", metrics.len());
    }
}

#[test]
fn an_unreachable_destination_does_not_stop_another() {
    let dir = tempfile::tempdir().unwrap();
    let (url, db) = (format!("http://127.0.0.1:{}", free_port()), dir.path().join("a.db"));
    let args = ["--otlp", &url, "--sqlite", db.to_str().unwrap(), "--drain", "1s", "--batch-lines", "10"];
    let ended = Ship::run(&args, logs(0..300));
    let of = |sink: &str| ended.stats.iter().find(|stats| stats["sink"] == sink).unwrap();
    assert_eq!(ended.code, Some(1));
    assert_eq!((&of("sqlite")["delivered"], &of("otlp")["pending"]), (&300.into(), &300.into()));
}

#[test]
fn proxies_are_used_and_named() {
    // No name server knows it, so that only a proxy can.
    let url = "http://collector.invalid:4318";
    let run = |variables: &[(&str, &str)]| {
        let mut ship = Ship::start_with(&["--otlp", url, "--drain", "300ms"], variables);
        ship.feed(logs(0..1));
        ship.end()
    };
    let proxy = Capture::script([]);
    let ended = run(&[("HTTP_PROXY", &proxy.url())]);
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(proxy.requests()[0].path, "http://collector.invalid:4318/v1/logs");

    let proxy = Capture::script([]);
    for list in ["*", "collector.invalid:4318", "other.invalid, .invalid"] {
        let ended = run(&[("HTTP_PROXY", &proxy.url()), ("NO_PROXY", list)]);
        assert_eq!((ended.code, ended.lines()), (Some(1), [1, 0, 0, 1, 0]), "{list}: {}", ended.stderr);
    }
    assert_eq!(proxy.requests().len(), 0);

    let dead = format!("127.0.0.1:{}", free_port());
    let ended = run(&[("HTTP_PROXY", &dead)]);
    assert!(ended.code == Some(1) && ended.stderr.contains(&dead), "{}", ended.stderr);
    let refuses = Capture::with(|_| Answer::status(407));
    let ended = run(&[("HTTP_PROXY", &refuses.url())]);
    assert_eq!((ended.code, ended.lines()), (Some(1), [1, 0, 0, 1, 0]), "{}", ended.stderr);
    assert!(ended.stderr.contains(&refuses.url()), "{}", ended.stderr);
    let ended = run(&[("ALL_PROXY", "socks5://127.0.0.1:1")]);
    assert!(ended.code == Some(2) && ended.stderr.contains("ALL_PROXY"), "{}", ended.stderr);

    // Loopback is never reached through a proxy.
    let server = Capture::script([]);
    let mut ship = Ship::start_with(&["--otlp", &server.url()], &[("HTTP_PROXY", &dead)]);
    ship.feed(logs(0..1));
    assert_eq!(ship.end().code, Some(0));
}

#[test]
fn the_last_lines_of_a_pipeline_arrive_after_the_signal() {
    let server = Capture::script([]);
    let mut ship = Ship::start(&["--otlp", &server.url(), "--batch-age", "100ms"]);
    ship.feed(logs(0..5));
    server.wait(1, WAIT);
    ship.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(700));
    ship.feed(logs(5..9));
    let (ended, took) = time(|| ship.end());
    assert_eq!((ended.code, ended.lines()), (Some(0), [9, 9, 0, 0, 0]));
    assert!(took < WAIT, "{took:?}");
    assert_eq!(arrived(&server.requests()), each(9, 1));
}

#[test]
fn a_producer_that_continues_after_the_signal_is_not_waited_for() {
    let server = Capture::script([]);
    let mut ship = Ship::start(&["--otlp", &server.url(), "--batch-age", "100ms"]);
    ship.feed(logs(0..5));
    server.wait(1, WAIT);
    ship.signal(Signal::TERM);
    let stdin = ship.take_stdin();
    let (ended, took) = time(|| ship.wait());
    assert_eq!((ended.code, ended.lines()), (Some(0), [5, 5, 0, 0, 0]));
    assert!(took < WAIT, "{took:?}");
    drop(stdin);
}

#[test]
fn reading_stops_when_the_queue_is_full() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let limits = ["--queue-bytes", "1MiB", "--batch-bytes", "64KiB", "--drain", "500ms", "--stats", "20ms"];
    let mut ship = Ship::start(&[&["--otlp", &url], &limits[..]].concat());
    let mut stdin = ship.take_stdin();
    let writer = std::thread::spawn(move || {
        let chunk = logs(0..10_000);
        let mut written = 0;
        while written < 100 << 20 && std::io::Write::write_all(&mut stdin, chunk.as_bytes()).is_ok() {
            written += chunk.len();
        }
        written
    });
    // Full: ten records in a row have the same count.
    let read = |record: &Value| record["read"].as_u64().unwrap();
    let is_full = |records: &[Value]| {
        let last = &records[records.len().saturating_sub(10)..];
        last.len() == 10 && read(&last[0]) > 1000 && last.iter().all(|record| read(record) == read(&last[0]))
    };
    poll(WAIT, || is_full(&ship.records()).then_some(())).expect("reading stops");
    ship.signal(Signal::TERM);
    let ended = ship.wait();
    let written = writer.join().unwrap();
    assert!(written < 3 << 20, "{written}");
    let [read, delivered, _, pending, _] = ended.lines();
    assert!(delivered == 0 && pending > 1000 && read <= pending + 1, "{ended:?}");
    let length = logs(10..11).len() as u64;
    assert!(read * length > 1 << 19 && read * length < 2 << 20, "{read} lines");
}

#[test]
fn the_counts_add_up_at_every_moment() {
    // Lines that are gathered are pending, and age.
    let server = Capture::with(|_| Answer::ok().after(Duration::from_millis(10)));
    let mut ship = Ship::start(&["--otlp", &server.url(), "--batch-age", "1m", "--stats", "100ms"]);
    let begin = Instant::now();
    ship.feed(logs(0..5));
    let ages = |records: Vec<Value>| -> Vec<f64> {
        let waiting = records.into_iter().filter(|record| record["pending"] == 5);
        waiting.map(|record| record["oldest_pending_s"].as_f64().expect("an age")).collect()
    };
    let ages =
        poll(WAIT, || Some(ages(ship.records())).filter(|ages| ages.len() >= 5)).expect("five records");
    assert!(ages.is_sorted() && ages[4] > 0.3 && ages[4] < begin.elapsed().as_secs_f64(), "{ages:?}");
    let ended = ship.end();
    assert_eq!(ended.lines(), [5, 5, 0, 0, 0]);

    // Under load every record adds up (`Ship` checks each), and counts only grow.
    let args = ["--otlp", &server.url(), "--batch-lines", "100", "--batch-age", "5ms", "--stats", "2ms"];
    let mut ship = Ship::start(&args);
    for n in 0..400 {
        ship.feed(logs(50 * n..50 * n + 50));
        ship.feed("nonsense\n{\"kind\":\"log\",");
        std::thread::sleep(Duration::from_millis(3));
        ship.feed("\"body\":\"torn\"}\n");
    }
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(1), [20_800, 20_400, 400, 0, 0]));
    assert!(ended.records.len() > 50, "{}", ended.records.len());
    for name in ["read", "delivered", "rejected", "requests"] {
        assert!(ended.records.is_sorted_by_key(|record| record[name].as_u64()), "{name}");
    }
    assert!(ended.records.iter().any(|record| record["pending"].as_u64() > Some(100)));
}

#[test]
fn the_variables_of_the_exporter_specification_apply() {
    let server = Capture::script([]);
    let endpoint = server.url() + "/base/";
    let mut ship = Ship::start_with(
        &["--otlp"],
        &[
            ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
            ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=Bearer%20s3cret,x-scope=a"),
            ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ],
    );
    ship.feed(logs(0..1));
    let ended = ship.end();
    assert_eq!(ended.code, Some(0));
    let request = &server.requests()[0];
    assert_eq!(request.path, "/base/v1/logs");
    assert_eq!(
        (request.header("authorization"), request.header("x-scope")),
        (Some("Bearer s3cret"), Some("a"))
    );
    assert_eq!(request.header("content-encoding"), None);
    assert!(!ended.stderr.contains("s3cret"));

    let unknown = [("OTEL_EXPORTER_OTLP_PROTOCOL", "avro"), ("OTEL_EXPORTER_OTLP_HEADERS", "a=s3cret")];
    let ended = Ship::start_with(&["--otlp"], &unknown).end();
    assert_eq!(ended.code, Some(2));
    assert!(ended.stderr.contains("OTEL_EXPORTER_OTLP_PROTOCOL"), "{}", ended.stderr);
    let help = Ship::start_with(&["--help"], &unknown).end();
    assert!(!String::from_utf8_lossy(&help.stdout).contains("s3cret"));
}

#[test]
fn mistakes_on_the_command_line_are_usage_errors() {
    for (args, words) in [
        (&["--otlp="][..], "--otlp= is empty: write --otlp http://HOST:PORT"),
        (&["--otlp", "localhost"], "--otlp localhost: not a URL; write http://HOST:PORT"),
        (
            &["--otlp", "--compression", "GZIP"],
            "'GZIP' for '--compression <METHOD>'\n  [possible values: gzip, zstd, none]",
        ),
        (&["--names", "Semconv"], "[possible values: semconv, hostmetrics]"),
        (&["--otlp", "--timeout", "0"], "'--timeout <TIME>': must be greater than zero"),
        (&["--sqlite="], "a value is required for '--sqlite <FILE>'"),
        (&["--queue-bytes", "1.5X"], "1.5X"),
        (&["--keep", "7"], "7d"),
        (&["--otlp", "--max-age", "0.5"], "0.5s"),
        (&["--clickhouse", "http://127.0.0.1:1", "--create", "--ttl", "90"], "90d"),
        (&["--follow", "--input", "-"], "--input -"),
        (&["--stdout", "--spool-max", "1GiB"], "--spool"),
    ] {
        let output = std::process::Command::new(program!("tele-ship")).args(args).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}: {stderr}");
        assert!(stderr.starts_with("tele-ship: ") && stderr.contains(words), "{args:?}: {stderr}");
    }
}

#[test]
fn the_environment_does_not_merge_hosts() {
    let server = Capture::script([]);
    let variables =
        [("OTEL_RESOURCE_ATTRIBUTES", "host.name=gateway,host.id=1,deployment.environment.name=x")];
    let mut ship = Ship::start_with(&["--otlp", &server.url()], &variables);
    for host in [r#","host":"web1""#, r#","host":"web2""#, ""] {
        ship.feed(format!("{{\"kind\":\"log\",\"body\":\"b\"{host}}}\n"));
    }
    assert_eq!(ship.end().lines(), [3, 3, 0, 0, 0]);
    let message = ExportLogsServiceRequest::decode(&*server.requests()[0].plain()).unwrap();
    let attribute = |name: &str| -> Vec<Option<Any>> {
        let resources = message.resource_logs.iter().filter_map(|of| of.resource.as_ref());
        let find = |of: &opentelemetry_proto::tonic::resource::v1::Resource| {
            of.attributes.iter().find(|pair| pair.key == name)?.value.clone()?.value
        };
        resources.map(find).collect()
    };
    let text = |text: &str| Some(Any::StringValue(text.into()));
    assert_eq!(attribute("host.name"), [text("web1"), text("web2"), text("gateway")]);
    assert_eq!(attribute("host.id"), [None, None, text("1")]);
    assert_eq!(attribute("deployment.environment.name"), [text("x"), text("x"), text("x")]);
}
