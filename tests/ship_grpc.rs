//! `tele-ship --otlp grpc://…` into a server of grpcio, a gRPC implementation that shares no code with ours.

#![cfg(feature = "http")]

mod support;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};
use support::{Answer, Capture, GrpcServer, Ship, time};

/// `log` records with these bodies.
fn logs(range: std::ops::Range<u32>) -> String {
    let line =
        |n| format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\"}}\n");
    range.map(line).collect()
}

/// How often each body arrived.
fn arrived(requests: &[Value]) -> BTreeMap<String, u32> {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let resources = requests.iter().flat_map(|request| list(&request["message"], "resourceLogs"));
    let scopes = resources.flat_map(|resource| list(&resource, "scopeLogs"));
    let mut counts = BTreeMap::new();
    for record in scopes.flat_map(|scope| list(&scope, "logRecords")) {
        *counts.entry(record["body"]["stringValue"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    counts
}

fn each(n: u32, times: u32) -> BTreeMap<String, u32> {
    (0..n).map(|n| (n.to_string(), times)).collect()
}

#[test]
fn every_line_arrives_once_with_its_metadata() {
    let Some(server) = GrpcServer::script(&[]) else { return };
    for (compression, encoding) in [("gzip", Some("gzip")), ("none", None)] {
        let before = server.requests().len();
        let mut ship = Ship::start_with(
            &["--otlp", "--batch-lines", "300", "--compression", compression, "--timeout", "50s"],
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &server.url()),
                ("OTEL_EXPORTER_OTLP_HEADERS", "authorization=bare%2Bkey,x-Scope=a"),
            ],
        );
        ship.feed(logs(0..1000));
        let ended = ship.end();
        assert_eq!((ended.code, ended.lines()), (Some(0), [1000, 1000, 0, 0, 0]), "{}", ended.stderr);
        assert_eq!((ended.count("accepted_items"), ended.count("requests")), (1000, 4));
        let requests = &server.requests()[before..];
        assert_eq!(arrived(requests), each(1000, 1));
        // Five bytes are the frame.
        let sizes = requests.iter().map(|request| request["bytes"].as_u64().unwrap() + 5);
        assert_eq!(ended.count("body_bytes"), sizes.sum::<u64>());
        for request in requests {
            let metadata = &request["metadata"];
            assert_eq!((&metadata["authorization"], &metadata["x-scope"]), (&json!("bare+key"), &json!("a")));
            assert!(metadata["user-agent"].as_str().unwrap().starts_with("telepipe/"));
            let left = request["left_s"].as_f64().expect("a deadline");
            assert!(left > 5.0 && left <= 50.0, "{left}");
        }
        // grpcio removes grpc-encoding, and decompresses; a server that took it knew the method.
        assert!(encoding.is_none() || ended.count("retries") == 0);
    }
}

#[test]
fn codes_are_retried_as_the_specification_says() {
    // OTLP 1.x, "Failures": of the codes without RetryInfo.
    let retryable = [1, 4, 10, 11, 14, 15];
    let mut answers = vec![];
    for code in 1..=16 {
        answers.push(json!({"code": code, "message": format!("code {code}")}));
        if retryable.contains(&code) {
            answers.push(json!({}));
        }
    }
    let Some(server) = GrpcServer::script(&answers) else { return };
    for code in 1..=16 {
        let ended = Ship::run(&["--otlp", &server.url()], logs(0..1));
        let expected = if retryable.contains(&code) { [1, 1, 0, 0, 0] } else { [1, 0, 1, 0, 0] };
        assert_eq!(ended.lines(), expected, "code {code}: {}", ended.stderr);
        assert_eq!(ended.count("retries"), expected[1], "code {code}");
        assert!(ended.stderr.contains(&format!("code {code}")), "{}", ended.stderr);
    }
    assert_eq!(server.requests().len(), answers.len());
}

#[test]
fn the_delay_of_retry_info_is_honoured() {
    for code in [8, 14] {
        let answers = [json!({"code": code, "message": "slow down", "retry_s": 1.5})];
        let Some(server) = GrpcServer::script(&answers) else { return };
        let (ended, took) = time(|| Ship::run(&["--otlp", &server.url()], logs(0..10)));
        assert_eq!((ended.code, ended.lines(), ended.count("retries")), (Some(0), [10, 10, 0, 0, 0], 1));
        assert!(took >= Duration::from_millis(1500), "{took:?}");
        assert_eq!(arrived(&server.requests()), each(10, 2));
    }
}

#[test]
fn partial_success_is_counted_and_shown_without_escapes() {
    let answers = [json!({"rejected": 3, "message": "no\u{1b}[31m\u{7} room"})];
    let Some(server) = GrpcServer::script(&answers) else { return };
    let ended = Ship::run(&["--otlp", &server.url()], logs(0..10));
    assert_eq!((ended.code, ended.lines()), (Some(1), [10, 10, 0, 0, 0]));
    assert_eq!((ended.count("accepted_items"), ended.count("rejected_items")), (7, 3));
    assert!(ended.stderr.contains("room") && !ended.stderr.contains(['\u{1b}', '\u{7}']), "{}", ended.stderr);
    assert_eq!(server.requests().len(), 1, "partial success is never retried");
}

#[test]
fn messages_stay_below_the_limit_of_servers() {
    let body =
        |n: u32, length: usize| format!("{{\"kind\":\"log\",\"body\":\"{n:08}{}\"}}\n", "x".repeat(length));
    // 12 MB in one batch, to a server that takes 4 MiB a message.
    let Some(server) = GrpcServer::script(&[]) else { return };
    let args = ["--batch-lines", "100000", "--batch-bytes", "64MiB", "--batch-age", "1m"];
    let input: String = (0..120).map(|n| body(n, 100_000)).collect();
    let ended = Ship::run(&[&["--otlp", &server.url()], &args[..]].concat(), input);
    assert_eq!((ended.code, ended.lines()), (Some(0), [120, 120, 0, 0, 0]), "{}", ended.stderr);
    let counts = arrived(&server.requests());
    assert!(counts.len() == 120 && counts.values().all(|count| *count == 1));

    // A server with a lower limit refuses: the request is split until only the line that is too large is refused.
    let Some(server) = GrpcServer::start(&json!({"max_bytes": 100_000}), &[]) else { return };
    let input: String = (0..50).map(|n| body(n, if n == 20 { 200_000 } else { 10_000 })).collect();
    let ended = Ship::run(&[&["--otlp", &server.url()], &args[..]].concat(), input);
    assert_eq!((ended.code, ended.lines()), (Some(1), [50, 49, 1, 0, 0]), "{}", ended.stderr);
    assert_eq!(arrived(&server.requests()).len(), 49);
}

#[test]
fn each_signal_can_have_its_own_protocol_and_server() {
    let Some(grpc) = GrpcServer::script(&[]) else { return };
    let http = Capture::script([]);
    let own = http.url() + "/as/it/is";
    let variables = [
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*grpc.url().replace("grpc://", "http://")),
        ("OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", &own),
        ("OTEL_EXPORTER_OTLP_LOGS_HEADERS", "api-key=a%20b"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "none"),
    ];
    let mut ship = Ship::start_with(&["--otlp"], &variables);
    let ids = format!("\"trace_id\":\"{:032x}\",\"span_id\":\"{:016x}\"", 7, 8);
    let (begin, end) = ("2026-11-20T20:45:00Z", "2026-11-20T20:45:01Z");
    ship.feed(format!(
        "{{\"ts\":\"{end}\",\"kind\":\"span\",{ids},\"name\":\"s\",\"begin_ts\":\"{begin}\"}}\n"
    ));
    ship.feed(format!("{{\"ts\":\"{end}\",\"kind\":\"load\",\"host\":\"h\",\"load_1m\":0.5}}\n"));
    ship.feed(logs(0..3));
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(0), [5, 5, 0, 0, 0]), "{}", ended.stderr);
    let mut signals: Vec<_> = grpc.requests().iter().map(|request| request["signal"].clone()).collect();
    signals.sort_by_key(Value::to_string);
    assert_eq!(signals, ["metrics", "traces"]);
    let [request] = &http.requests()[..] else { panic!("{} requests", http.requests().len()) };
    assert_eq!((&*request.path, request.header("api-key")), ("/as/it/is", Some("a b")));
    assert_eq!(
        (request.header("content-type"), request.header("content-encoding")),
        (Some("application/json"), None)
    );
    let message: Value = serde_json::from_slice(&request.body).expect("JSON");
    assert_eq!(arrived(&[json!({"message": message})]), each(3, 1));
}

#[test]
fn servers_that_do_not_speak_grpc_are_waited_for_and_named() {
    // An HTTP/1.1 server where gRPC should be.
    let http = Capture::script([]);
    let url = http.url().replace("http://", "grpc://");
    let ended = Ship::run(&["--otlp", &url, "--drain", "1s"], logs(0..5));
    assert_eq!((ended.code, ended.lines()), (Some(1), [5, 0, 0, 5, 0]), "{}", ended.stderr);
    assert!(ended.stderr.contains("is that a gRPC server?"), "{}", ended.stderr);

    // gRPC where an HTTP server should be.
    let Some(grpc) = GrpcServer::script(&[]) else { return };
    let url = format!("http://{}", grpc.address());
    let ended = Ship::run(&["--otlp", &url, "--drain", "1s"], logs(0..5));
    assert_eq!((ended.code, ended.lines()), (Some(1), [5, 0, 0, 5, 0]), "{}", ended.stderr);
    assert!(ended.stderr.contains(&url), "{}", ended.stderr);
}

#[test]
fn a_server_that_accepts_and_never_answers_is_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("grpc://{}", listener.local_addr().unwrap());
    // The connections stay open until the test ends.
    let connections = std::thread::spawn(move || listener.incoming().take(1).collect::<Vec<_>>());
    let args = ["--otlp", &url, "--timeout", "500ms", "--drain", "3s"];
    let (ended, took) = time(|| Ship::run(&args, logs(0..5)));
    assert_eq!((ended.code, ended.lines()), (Some(1), [5, 0, 0, 5, 0]), "{}", ended.stderr);
    assert!(ended.count("retries") >= 1 && took < Duration::from_secs(20), "{took:?}");
    assert!(ended.stderr.contains("no answer in time"), "{}", ended.stderr);
    drop(connections);
}

/// grpcio has no zstd.
#[test]
fn a_server_without_the_compression_gets_another() {
    let Some(server) = GrpcServer::script(&[]) else { return };
    let args = ["--otlp", &server.url(), "--batch-lines", "100", "--compression", "zstd"];
    let ended = Ship::run(&args, logs(0..1000));
    assert_eq!((ended.code, ended.lines()), (Some(0), [1000, 1000, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!((arrived(&server.requests()), ended.count("retries")), (each(1000, 1), 0));
    assert_eq!(ended.stderr.matches("zstd").count(), 1, "{}", ended.stderr);
}

#[test]
fn an_unknown_method_is_not_blamed_on_compression() {
    let Some(server) = GrpcServer::script(&[json!({"code": 12, "message": "no such method"})]) else {
        return;
    };
    let ended = Ship::run(&["--otlp", &server.url()], logs(0..5));
    assert_eq!((ended.code, ended.lines()), (Some(1), [5, 0, 5, 0, 0]), "{}", ended.stderr);
    assert_eq!(server.requests().len(), 1);
}

/// RFC 9110, section 15.5.16; and as the Collector refuses one.
#[test]
fn http_servers_without_the_compression_get_another() {
    for (given, answer, used) in [
        ("zstd", Answer::status(415).header("Accept-Encoding", "gzip, deflate"), Some("gzip")),
        ("zstd", Answer::status(415).header("Accept-Encoding", ""), None),
        ("gzip", Answer::status(415).header("Accept-Encoding", "identity"), None),
        ("zstd", Answer::status(400).body("unsupported Content-Encoding: zstd"), None),
    ] {
        let server = Capture::with(move |request| match request.header("content-encoding") {
            encoding if encoding == used => Answer::ok(),
            _ => answer.clone(),
        });
        let args =
            ["--otlp", &server.url(), "--batch-lines", "100", "--in-flight", "1", "--compression", given];
        let ended = Ship::run(&args, logs(0..500));
        assert_eq!((ended.code, ended.lines()), (Some(0), [500, 500, 0, 0, 0]), "{given}: {}", ended.stderr);
        let requests = server.requests();
        assert_eq!((requests.len(), ended.count("retries")), (6, 0), "only the first is refused");
        assert_eq!(requests[0].plain(), requests[1].plain());
        assert_eq!(ended.stderr.matches(given).count(), 1, "{}", ended.stderr);
    }
    // Not the fault of the compression.
    for accepted in [Some("gzip"), None] {
        let answer =
            accepted.map_or(Answer::status(415), |name| Answer::status(415).header("Accept-Encoding", name));
        let server = Capture::with(move |_| answer.clone());
        let ended = Ship::run(&["--otlp", &server.url()], logs(0..5));
        assert_eq!((ended.lines(), server.requests().len()), ([5, 0, 5, 0, 0], 1), "{}", ended.stderr);
    }
}
