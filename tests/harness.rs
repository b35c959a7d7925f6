//! Tests of the test tools: the Collector and the capture server do what the other tests rely on.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::{Answer, Capture, Collector, program};

/// Posts JSON over a plain socket and returns the whole answer.
fn post(url: &str, path: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(url.trim_start_matches("http://"))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let length = body.len();
    let head = "Host: localhost\r\nContent-Type: application/json\r\nConnection: close";
    write!(stream, "POST {path} HTTP/1.1\r\n{head}\r\nContent-Length: {length}\r\n\r\n{body}")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn gauge(value: i64) -> Value {
    let point = json!({ "asInt": value.to_string(), "timeUnixNano": "1790000000000000001" });
    let metric = json!({ "name": "test.gauge", "unit": "By", "gauge": { "dataPoints": [point] } });
    json!({ "resourceMetrics": [{ "resource": {}, "scopeMetrics": [{ "scope": {}, "metrics": [metric] }] }] })
}

fn values(stored: &[Value]) -> Vec<&str> {
    let value = "/resourceMetrics/0/scopeMetrics/0/metrics/0/gauge/dataPoints/0/asInt";
    stored.iter().filter_map(|line| line.pointer(value)?.as_str()).collect()
}

#[test]
fn the_collector_stores_what_it_is_sent_across_restarts() {
    let Some(mut collector) = Collector::start() else { return };
    let url = collector.http_url();
    let big = i64::MAX;
    assert!(post(&url, "/v1/metrics", &gauge(big).to_string()).unwrap().starts_with("HTTP/1.1 200"));
    let stored = collector.wait(Duration::from_secs(10), |stored| stored.len() == 1);
    assert_eq!(values(&stored), ["9223372036854775807"]);

    assert!(post(&url, "/v1/metrics", &gauge(2).to_string()).unwrap().starts_with("HTTP/1.1 200"));
    collector.down();
    assert!(post(&url, "/v1/metrics", "{}").is_err(), "a Collector that is down refuses");
    collector.up();
    assert!(post(&url, "/v1/metrics", &gauge(3).to_string()).unwrap().starts_with("HTTP/1.1 200"));
    assert_eq!(values(&collector.stop()), ["9223372036854775807", "2", "3"]);
}

#[test]
fn the_capture_server_follows_its_script() {
    let partial = r#"{"partialSuccess":{"rejectedDataPoints":"1"}}"#;
    let server = Capture::script([
        Answer::status(429).header("Retry-After", "2"),
        Answer::hangup(),
        Answer::ok().body(partial).cut_after(5),
        Answer::ok().body(partial).after(Duration::from_millis(200)),
    ]);
    let send = |body: &str| post(&server.url(), "/v1/logs?x=1", body).unwrap();
    assert!(send("a").contains("Retry-After: 2\r\n"));
    assert_eq!(send("b"), "");
    assert!(send("c").ends_with("\r\n\r\n{\"par"));
    let begin = Instant::now();
    assert!(send("d").ends_with(partial));
    assert!(begin.elapsed() >= Duration::from_millis(200));
    assert!(send("e").starts_with("HTTP/1.1 200"));

    let requests = server.wait(5, Duration::from_secs(1));
    assert_eq!(requests.iter().map(|request| request.body[0]).collect::<Vec<_>>(), b"abcde");
    assert_eq!((&*requests[0].method, &*requests[0].path), ("POST", "/v1/logs?x=1"));
    assert_eq!(requests[0].header("content-type"), Some("application/json"));
}

#[test]
fn the_capture_server_can_stay_silent_and_still_stops() {
    let server = Capture::script([Answer::silence()]);
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://")).unwrap();
    let chunks = "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n";
    write!(stream, "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").unwrap();
    assert_eq!(server.wait(1, Duration::from_secs(5))[0].body, b"abcde");
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let silence = stream.read(&mut [0]).unwrap_err().kind();
    assert!(matches!(silence, std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut), "{silence}");
    drop(server);
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

/// If file descriptors run out, a program ends with one line that names the remedy, whichever call fails.
#[test]
fn too_few_file_descriptors() {
    let runs = [
        (program!("scrape"), ["--once", "-f", "."]),
        (program!("vmstat-json"), ["--once", "-f", "."]),
        (program!("pmstat"), ["--once", "-f", "."]),
        (program!("tele-ship"), ["--otlp", "--stats", "1h"]),
    ];
    for (path, args) in runs {
        for limit in 5..16 {
            let script = format!("ulimit -n {limit}; exec \"$0\" \"$@\"");
            let output = Command::new("sh")
                .args(["-c", &script])
                .arg(path)
                .args(args)
                .stdin(std::process::Stdio::null())
                .output()
                .unwrap();
            let stderr = String::from_utf8_lossy(&output.stderr);
            if output.status.success() {
                continue;
            }
            assert_eq!(output.status.code(), Some(1), "{}: {stderr}", path.display());
            assert!(stderr.contains("`ulimit -n "), "{} with {limit}: {stderr}", path.display());
            assert_eq!(stderr.lines().count(), 1, "{} with {limit}: {stderr}", path.display());
        }
    }
}
