//! What `tele-ship` reports about delivery, in `ship_stats` records and on a terminal, against what servers saw.

#![cfg(feature = "http")]

mod support;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use opentelemetry_proto::tonic::metrics::v1::{Metric, metric, number_data_point};
use prost::Message;
use rustix::process::Signal;
use serde_json::Value;
use support::{Answer, Capture, Ended, Request, Ship, free_port, poll, program, time};

const WAIT: Duration = Duration::from_secs(60);

fn logs(range: std::ops::Range<u32>) -> String {
    range.map(|n| format!("{{\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\"}}\n")).collect()
}

#[test]
fn bytes_batches_and_requests_are_those_of_the_server() {
    let input = "\n".to_owned() + &logs(0..95) + "\u{feff}{\"kind\":\"log\",\"body\":\"last\"}";
    let spool = tempfile::tempdir().unwrap();
    // With a spool, each signal has a thread, and they share the counts.
    let with_spool = ["gzip", "--spool", spool.path().to_str().unwrap()];
    for options in [&["gzip"][..], &["zstd"], &["none"], &with_spool] {
        let server = Capture::script([Answer::status(503), Answer::ok(), Answer::hangup()]);
        let args = ["--otlp", &server.url(), "--batch-lines", "10", "--in-flight", "1"];
        let ended = Ship::run(&[&args[..], &["--compression"], options].concat(), &input);
        assert_eq!((ended.code, ended.lines()), (Some(0), [96, 96, 0, 0, 0]), "{}", ended.stderr);
        let requests = server.requests();
        let sum = |size: fn(&Request) -> usize| requests.iter().map(size).sum::<usize>() as u64;
        assert_eq!(
            ["read_bytes", "batches", "requests", "retries", "body_bytes", "sent_bytes"]
                .map(|n| ended.count(n)),
            [
                input.len() as u64,
                10,
                requests.len() as u64,
                2,
                sum(|request| request.plain().len()),
                sum(|request| request.body.len())
            ]
        );
        assert_eq!(requests.len(), 12);
        assert_eq!(ended.count("sent_bytes") < ended.count("body_bytes"), options[0] != "none");
    }
    let ended = Ship::run(&["--stdout"], &input);
    assert_eq!(ended.count("sent_bytes"), ended.stdout.len() as u64);
    assert_eq!(ended.count("body_bytes"), ended.stdout.len() as u64);
}

#[test]
fn latencies_are_those_of_the_server() {
    const DELAY: Duration = Duration::from_millis(400);
    // Of ten requests, eight at once, then a slow success and a slow failure; then the last once more.
    let slow = [Answer::ok().after(DELAY), Answer::status(503).after(DELAY)];
    let server = Capture::script(std::iter::repeat_n(Answer::ok(), 8).chain(slow));
    let args = ["--otlp", &server.url(), "--batch-lines", "1", "--in-flight", "1"];
    let (ended, took) = time(|| Ship::run(&args, logs(0..10)));
    assert_eq!((ended.code, ended.count("requests")), (Some(0), 11), "{}", ended.stderr);
    let stats = &ended.stats[0];
    let micros = |name: &str| Duration::from_secs_f64(stats[name].as_f64().expect(name) / 1e6);
    // A bucket is 9 % wide; the percentile is its middle.
    let least = DELAY.mul_f64(0.95);
    assert!(micros("latency_p50_us") < least, "{stats}");
    for name in ["latency_p90_us", "latency_p99_us", "latency_max_us"] {
        assert!(micros(name) >= least && micros(name) <= took, "{name}: {stats}");
    }
    assert!(micros("latency_max_us") >= DELAY && micros("request_sum_us") >= 2 * DELAY, "{stats}");
    assert!(micros("request_sum_us") <= took, "one after the other: {stats}");
    // OTLP's definition of the bounds.
    let scale = stats["scale"].as_i64().unwrap() as i32;
    let upper = |index: &str| (f64::from(index.parse::<i32>().unwrap() + 1) / 2f64.powi(scale)).exp2() / 1e9;
    let buckets = stats["request_buckets"].as_object().unwrap();
    let counts = |from: f64| -> u64 {
        buckets
            .iter()
            .filter(|(index, _)| upper(index) >= from)
            .map(|(_, count)| count.as_u64().unwrap())
            .sum()
    };
    assert_eq!(counts(0.0) + stats["request_zero_count"].as_u64().unwrap(), 11, "{stats}");
    let slow = counts(DELAY.as_secs_f64());
    assert!((2..=5).contains(&slow), "{slow}: {stats}");
}

#[test]
fn percentiles_are_of_the_interval() {
    let server = Capture::script([Answer::ok().after(Duration::from_millis(300))]);
    let mut ship = Ship::start(&["--otlp", &server.url(), "--batch-age", "20ms", "--stats", "100ms"]);
    ship.feed(logs(0..1));
    ship.wait_for_count("delivered", 1);
    ship.feed(logs(1..2));
    ship.wait_for_count("delivered", 2);
    let ended = ship.end();
    let with = |records: &[Value]| -> Vec<f64> {
        records.iter().filter_map(|record| record["latency_max_us"].as_f64()).collect()
    };
    let latencies = with(&ended.records);
    assert_eq!(latencies.len(), 2, "each request is in one interval: {ended:?}");
    assert!(latencies[0] >= 300e3 && latencies[1] < latencies[0], "{latencies:?}");
}

#[test]
fn lines_that_are_given_up_have_a_reason() {
    // The destination is gone.
    let dir = tempfile::tempdir().unwrap();
    let mut child = Command::new(program!("tele-ship"))
        .args(["--stdout", "--stats", "1h"])
        .stdin(Stdio::piped())
        .stdout(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), logs(0..3).as_bytes()).unwrap();
    let stderr = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    let record = stderr.lines().find_map(|line| serde_json::from_str::<Value>(line).ok()).expect(&stderr);
    assert_eq!((&record["dropped"], &record["dropped_gone"]), (&3.into(), &3.into()));

    // The spool is full when the program has to end: what was read and did not fit is lost.
    let (spool, url) = (dir.path().join("spool"), format!("http://127.0.0.1:{}", free_port()));
    let args = ["--otlp", &url, "--spool", spool.to_str().unwrap(), "--spool-max", "16MiB"];
    let mut ship = Ship::start(&[&args[..], &["--max-line", "1MiB", "--drain", "500ms"]].concat());
    let mut stdin = ship.take_stdin();
    let feeder = std::thread::spawn(move || {
        let line = format!("{{\"kind\":\"log\",\"body\":\"{}\"}}\n", "x".repeat(10_000));
        // Ends when the program does.
        while std::io::Write::write_all(&mut stdin, line.as_bytes()).is_ok() {}
    });
    ship.wait_for("full");
    ship.signal(Signal::TERM);
    let ended = ship.wait();
    feeder.join().unwrap();
    let [read, delivered, rejected, pending, dropped] = ended.lines();
    assert_eq!((ended.code, delivered, rejected, read), (Some(1), 0, 0, pending + dropped));
    let unspooled = ended.count("dropped_unspooled");
    assert!(unspooled > 0 && dropped - unspooled <= 1, "one may be cut off: {ended:?}");
    let status = Command::new(program!("tele-ship")).args(["spool", "status"]).arg(&spool).output().unwrap();
    let status = String::from_utf8(status.stdout).unwrap();
    let lines: Vec<Value> = status.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines.iter().any(|line| line["lines"] == pending), "{pending}: {status}");
}

/// The metrics with this name in these requests.
fn metrics(requests: &[Request], name: &str) -> Vec<Metric> {
    let bodies = requests.iter().filter(|request| request.path == "/v1/metrics").map(Request::plain);
    let messages = bodies.map(|body| ExportMetricsServiceRequest::decode(&*body).expect("metrics"));
    let all = messages.flat_map(|message| message.resource_metrics).flat_map(|of| of.scope_metrics);
    all.flat_map(|scope| scope.metrics).filter(|metric| metric.name == name).collect()
}

/// The values of these metrics, which are sums, by the attribute and its value.
fn sums(metrics: &[Metric], attribute: Option<(&str, &str)>) -> Vec<i64> {
    let points = metrics.iter().flat_map(|metric| match &metric.data {
        Some(metric::Data::Sum(sum)) => sum.data_points.clone(),
        other => panic!("{other:?}"),
    });
    let has = |point: &opentelemetry_proto::tonic::metrics::v1::NumberDataPoint, name: &str, value: &str| {
        point.attributes.iter().any(|pair| {
            pair.key == name
                && pair.value.as_ref().and_then(|value| value.value.as_ref())
                    == Some(&Any::StringValue(value.to_owned()))
        })
    };
    let wanted = points.filter(|point| attribute.is_none_or(|(name, value)| has(point, name, value)));
    wanted
        .map(|point| match point.value {
            Some(number_data_point::Value::AsInt(value)) => value,
            other => panic!("{other:?}"),
        })
        .collect()
}

fn bodies(requests: &[Request]) -> Vec<String> {
    let bodies = requests.iter().filter(|request| request.path == "/v1/logs").map(Request::plain);
    let messages = bodies.map(|body| ExportLogsServiceRequest::decode(&*body).expect("logs"));
    let records =
        messages.flat_map(|m| m.resource_logs).flat_map(|r| r.scope_logs).flat_map(|s| s.log_records);
    let text = |any| if let Any::StringValue(text) = any { text } else { panic!("{any:?}") };
    records.map(|record| text(record.body.and_then(|body| body.value).expect("a body"))).collect()
}

/// Feeds lines, the last in two parts, while records are delivered; and checks that each is read and delivered once.
fn deliver_own(more: &[&str]) {
    let server = Capture::script([]);
    let args = ["--otlp", &server.url(), "--self", "--stats", "100ms", "--batch-age", "50ms"];
    let begin = Instant::now();
    let mut ship = Ship::start(&[&args[..], more].concat());
    ship.feed(logs(0..4) + "{\"kind\":\"log\",\"host\":\"h\",");
    let read = || metrics(&server.requests(), "telepipe.ship.read");
    poll(WAIT, || (sums(&read(), None).len() >= 5).then_some(())).expect("records arrive");
    ship.feed("\"body\":\"4\"}\n");
    let ended: Ended = ship.end();
    let records_at_most = begin.elapsed().as_millis() / 100;
    let requests = server.requests();
    assert_eq!(bodies(&requests), ["0", "1", "2", "3", "4"], "none is torn");
    let counts = sums(&metrics(&requests, "telepipe.ship.read"), None);
    let own = counts.len() as u64;
    assert!(own >= 5 && u128::from(own) <= records_at_most, "{own} of {records_at_most}");
    assert!(counts.is_sorted() && *counts.last().unwrap() < 5 + own as i64, "{counts:?}");
    assert_eq!((ended.code, ended.lines()), (Some(0), [5 + own, 5 + own, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(ended.records.len(), 1, "only the last goes to stderr");

    let delivered = metrics(&requests, "telepipe.ship.lines");
    let delivered = sums(&delivered, Some(("telepipe.ship.outcome", "delivered")));
    assert!(delivered.len() as u64 == own && *delivered.last().unwrap() >= 4, "{delivered:?}");
    let name = sums(&metrics(&requests, "telepipe.ship.requests"), Some(("telepipe.ship.sink", "otlp")));
    assert!(name.len() as u64 == own && *name.last().unwrap() as usize <= requests.len(), "{name:?}");
    let durations = metrics(&requests, "telepipe.ship.request.duration");
    let last = durations.iter().rev().find_map(|metric| match &metric.data {
        Some(metric::Data::ExponentialHistogram(histogram)) => histogram.data_points.last().cloned(),
        other => panic!("{other:?}"),
    });
    assert_eq!(last.expect("a point").count as i64, *name.last().unwrap(), "the time of each request");
}

#[test]
fn own_records_are_delivered_like_other_lines() {
    deliver_own(&[]);
    let dir = tempfile::tempdir().unwrap();
    deliver_own(&["--spool", dir.path().to_str().unwrap()]);
}

#[test]
fn own_records_do_not_add_up_in_an_outage() {
    let url = format!("http://127.0.0.1:{}", free_port());
    let limits = ["--queue-bytes", "64KiB", "--batch-bytes", "8KiB", "--drain", "300ms"];
    let mut ship = Ship::start(&[&["--otlp", &url, "--self", "--stats", "1ms"], &limits[..]].concat());
    let stdin = ship.take_stdin();
    std::thread::sleep(Duration::from_secs(3));
    ship.signal(Signal::TERM);
    let ended = ship.wait();
    drop(stdin);
    // Each has more than 400 bytes, and the requests made of them take memory, too.
    let [read, delivered, _, pending, _] = ended.lines();
    assert!(delivered == 0 && read == pending && (10..200).contains(&read), "{ended:?}");
}

/// Runs a command in a terminal of `script`(1), and returns what the screen got; `None` without that program.
fn screen(command: &str) -> Option<String> {
    let output = Command::new("script").args(["-qec", command, "/dev/null"]).stdin(Stdio::null()).output();
    let Ok(output) = output else {
        assert!(!support::in_ci(), "script(1) is missing");
        support::skip("script(1) is missing");
        return None;
    };
    Some(String::from_utf8(output.stdout).unwrap())
}

#[test]
fn quiet_reports_only_what_was_not_delivered() {
    let ended = Ship::run(&["--stdout", "--quiet"], "{}\n");
    assert_eq!((ended.code, &*ended.stderr, ended.count("delivered")), (Some(0), "", 1));
    let ended = Ship::run(&["--stdout", "--quiet"], "{}\nnonsense\n");
    assert!(ended.code == Some(1) && ended.stderr.contains("2 lines read"), "{}", ended.stderr);
}

const WIPE: &str = "\r\u{1b}[K";

#[test]
fn a_terminal_shows_a_status_line() {
    let (program, dir) = (program!("tele-ship").display(), tempfile::tempdir().unwrap());
    let feed = "stty cols 200; (for i in 1 2 3 4 5; do echo {}; sleep 0.6; done)";
    let to_file = format!("--stdout >{}/out", dir.path().display());
    let Some(shown) = screen(&format!("{feed} | {program} {to_file}")) else { return };
    assert!(shown.contains(" lines/s · stdout up, ") && shown.contains(" delivered, "), "{shown:?}");
    let (_, last) = shown.trim_end().rsplit_once(WIPE).expect("the status line is wiped");
    assert!(last.starts_with("tele-ship: stdout: 5 lines read"), "{shown:?}");
    assert!(!last.contains("lines/s"), "nothing is left of it: {shown:?}");
    // Redrawn about once a second.
    assert!((2..=5).contains(&shown.matches("lines/s").count()), "{shown:?}");

    // An outage begins after the line is shown: the message replaces it.
    let url = format!("http://127.0.0.1:{}", free_port());
    let shown = screen(&format!("{feed} | {program} --otlp {url} --batch-age 1500ms --drain 1s")).unwrap();
    assert!(shown.contains("otlp down for ") && shown.contains(" 0 delivered, 5 pending, "), "{shown:?}");
    let mut messages = shown.match_indices("tele-ship: ").map(|(at, _)| &shown[..at]);
    assert!(messages.all(|before| before.ends_with(WIPE) || before.ends_with('\n')), "{shown:?}");
    assert!(shown.contains(&format!("{WIPE}tele-ship: otlp: ")), "{shown:?}");

    // It is cut to the width of the terminal.
    let shown = screen(&format!("{} | {program} {to_file}", feed.replace("200", "20"))).unwrap();
    let lines: Vec<_> =
        shown.split([']', '\n', '\r', '\u{1b}']).filter(|text| text.contains("lines/s")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.chars().count() <= 22), "{lines:?}");

    for option in ["--quiet", "-q", "--stats 1h"] {
        let shown = screen(&format!("{feed} | {program} {option} {to_file}")).unwrap();
        assert!(!shown.contains('\u{1b}'), "{option}: {shown:?}");
        assert_eq!(shown.contains("5 lines read"), option == "--stats 1h", "{option}: {shown:?}");
    }
    let shown = screen(&format!("{feed} | {program} 2>{}/err {to_file}", dir.path().display())).unwrap();
    let messages = std::fs::read_to_string(dir.path().join("err")).unwrap();
    assert!(!shown.contains("lines/s") && !messages.contains(['\u{1b}', '\r']), "{messages:?}");
}
