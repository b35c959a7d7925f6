//! `tele-ship --otlp` with servers that refuse, redirect, break off, drip, or send escape sequences. `Ship` checks after
//! each run that the counts add up.

#![cfg(feature = "http")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use support::{Answer, Capture, Ship, require_long, time};

/// `log` records with these bodies.
fn logs(range: std::ops::Range<u16>) -> String {
    range.map(|n| format!("{{\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\"}}\n")).collect()
}

/// One request after the other, with a line each.
const SINGLE: [&str; 4] = ["--batch-lines", "1", "--in-flight", "1"];

#[test]
fn each_status_has_its_outcome() {
    // OTLP 1.x, "Retryable Response Codes"; 407 comes from a proxy.
    let retryable = [407, 429, 502, 503, 504];
    let is_final = |status: &u16| !retryable.contains(status) && *status != 413;
    let finals: Vec<u16> = (400..=451).chain(500..=511).filter(is_final).collect();
    let count = finals.len() as u64;
    let server = Capture::script(finals.iter().map(|status| Answer::status(*status)));
    let url = server.url();
    let args = [&["--otlp", &*url], &SINGLE[..]].concat();
    let ended = Ship::run(&args, logs(0..finals.len() as u16 + 1));
    assert_eq!((ended.code, ended.lines()), (Some(1), [count + 1, 1, count, 0, 0]), "{}", ended.stderr);
    assert_eq!((ended.count("retries"), ended.count("requests")), (0, count + 1));

    let successes = [200, 201, 202, 204];
    let server = Capture::script(successes.iter().map(|status| Answer::status(*status)));
    let ended = Ship::run(&[&["--otlp", &server.url()], &SINGLE[..]].concat(), logs(0..4));
    assert_eq!((ended.code, ended.lines(), ended.count("requests")), (Some(0), [4, 4, 0, 0, 0], 4));

    for status in retryable.into_iter().chain([301, 302, 303, 307, 308]) {
        let server =
            Capture::script([Answer::status(status).header("Location", "http://192.0.2.1/elsewhere")]);
        let ended = Ship::run(&["--otlp", &server.url()], logs(0..1));
        assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{status}: {}", ended.stderr);
        assert_eq!((ended.count("retries"), server.requests().len()), (1, 2), "{status}");
        assert!(ended.stderr.contains(&status.to_string()), "{}", ended.stderr);
    }

    // 413: in halves, down to the line that is too large.
    let server =
        Capture::with(|request| Answer::status(if request.plain().len() > 3000 { 413 } else { 200 }));
    let long = format!("{{\"kind\":\"log\",\"body\":\"{}\"}}\n", "x".repeat(5000));
    let ended = Ship::run(&["--otlp", &server.url()], logs(0..200) + &long);
    assert_eq!((ended.code, ended.lines()), (Some(1), [201, 200, 1, 0, 0]), "{}", ended.stderr);
}

#[test]
fn answers_that_break_off_or_never_end_are_retried() {
    let body = "0123456789".repeat(10);
    let server = Capture::script([
        Answer::ok().body(&*body).reset_after(50),
        Answer::ok().body(&*body).reset_after(0),
        Answer::ok().body(&*body).drip(Duration::from_millis(200)),
    ]);
    let args = ["--otlp", &server.url(), "--timeout", "1s", "--in-flight", "1"];
    let (ended, took) = time(|| Ship::run(&args, logs(0..20)));
    assert_eq!((ended.code, ended.lines()), (Some(0), [20, 20, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!((ended.count("retries"), ended.count("requests")), (3, 4));
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(20), "{took:?}");
}

#[test]
fn redirects_are_named_without_credentials_and_not_followed() {
    let elsewhere = Capture::script([]);
    let target = elsewhere.url().replace("http://", "http://me:s3cret@") + "/v1/logs?token=s3cret";
    let server = Capture::with(move |_| Answer::status(301).header("Location", &target));
    let args = ["--otlp", &server.url(), "--drain", "1s"];
    let mut ship = Ship::start_with(&args, &[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")]);
    ship.feed(logs(0..5));
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(1), [5, 0, 0, 5, 0]), "nothing is lost: {}", ended.stderr);
    assert!(ended.stderr.contains(&(elsewhere.url() + "/v1/logs")), "{}", ended.stderr);
    assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    assert!(elsewhere.requests().is_empty());
    assert!(server.requests().iter().all(|request| request.method == "POST"));
}

#[test]
fn what_servers_send_is_escaped_and_bounded() {
    let evil = "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{202e}\r\ntele-ship: otlp: 0 lines read\n".to_owned()
        + &"A".repeat(100_000);
    // Of google.rpc.Status, field 2; of the response, field 1, of it field 2.
    let text = |field: u8, text: &str| {
        let mut out = vec![field << 3 | 2];
        prost::encoding::encode_varint(text.len() as u64, &mut out);
        out.extend_from_slice(text.as_bytes());
        out
    };
    let partial = |message: &str| {
        let inner = text(2, message);
        let mut out = vec![1 << 3 | 2];
        prost::encoding::encode_varint(inner.len() as u64, &mut out);
        out.extend(inner);
        out
    };
    let short = &evil[..200];
    let json = serde_json::json!({"message": evil, "partialSuccess": {"errorMessage": short}}).to_string();
    let as_json = |answer: Answer| answer.header("Content-Type", "application/json").body(json.as_bytes());
    let server = Capture::script([
        Answer::status(400).body(evil.as_bytes()),
        Answer::status(400).body(text(2, &evil)),
        as_json(Answer::status(400)),
        as_json(Answer::ok()),
        Answer::ok().body(partial(short)),
        Answer::ok().body(evil.as_bytes()),
        Answer::status(503).body(evil.as_bytes()),
    ]);
    let url = server.url();
    let args = [&["--otlp", &*url], &SINGLE[..]].concat();
    // A rejected line is shown: it is as foreign as what the server sends.
    let ended = Ship::run(&args, logs(0..7) + "\u{1b}[31m no JSON \u{9b}2J\n");
    assert_eq!(ended.lines(), [8, 4, 4, 0, 0], "{}", ended.stderr);
    let acts = |char: char| (char.is_control() && char != '\n') || char == '\u{202e}';
    assert!(!ended.stderr.contains(acts), "{:?}", ended.stderr);
    assert!(ended.stderr.lines().all(|line| line.chars().count() < 1000), "{}", ended.stderr);
    assert!(ended.stderr.contains("owned"));
    let forged = ended.stderr.lines().filter(|line| line.starts_with("tele-ship: otlp: 0 lines read"));
    assert_eq!(forged.count(), 0);
}

#[test]
fn headers_of_the_transport_are_refused_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("headers");
    std::fs::write(&file, "Transfer-Encoding: s3cret\n").unwrap();
    let by_file = ["--header-file", file.to_str().unwrap()];
    let by_variable = ("OTEL_EXPORTER_OTLP_HEADERS", "Content-Length=5,a=s3cret");
    let by_signal = ("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "grpc-encoding=s3cret");
    for (args, variables, name) in [
        (&by_file[..], &[][..], "transfer-encoding"),
        (&[], &[by_variable], "content-length"),
        (&[], &[by_signal], "grpc-encoding"),
    ] {
        let ended = Ship::start_with(&[&["--otlp", "http://127.0.0.1:1"], args].concat(), variables).wait();
        assert_eq!(ended.code, Some(2));
        assert!(ended.stderr.contains(name) && !ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
}

#[test]
fn what_exposes_credentials_is_warned_about() {
    let dir = tempfile::tempdir().unwrap();
    let (file, server) = (dir.path().join("headers"), Capture::script([]));
    std::fs::write(&file, "authorization: s3cret-key\n").unwrap();
    let path = file.to_str().unwrap();
    for (mode, warns) in [(0o600, false), (0o640, true), (0o604, true)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let ended = Ship::run(&["--otlp", &server.url(), "--header-file", path], logs(0..1));
        assert_eq!((ended.code, ended.stderr.contains("chmod")), (Some(0), warns), "{}", ended.stderr);
        // HyperDX takes the bare key.
        assert_eq!(server.requests().last().unwrap().header("authorization"), Some("s3cret-key"));
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    // A proxy stands in for the rest of the world.
    let proxy = Capture::script([]);
    for (url, warns) in [("http://collector.invalid:4318", 1), (&*server.url(), 0)] {
        let args = ["--otlp", url, "--header-file", path];
        let mut ship = Ship::start_with(&args, &[("HTTP_PROXY", &proxy.url())]);
        ship.feed(logs(0..1));
        let ended = ship.end();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("unencrypted").count(), warns, "{}", ended.stderr);
        assert!(!ended.stderr.contains("s3cret"), "{}", ended.stderr);
    }
    assert_eq!(proxy.requests().len(), 1, "loopback never goes through a proxy");
}

#[test]
fn what_retrying_cannot_mend_is_reported_once_a_minute() {
    if !require_long() {
        return;
    }
    let server = Capture::with(|_| Answer::status(301).header("Location", "https://192.0.2.1/v1/logs"));
    let mut ship = Ship::start(&["--otlp", &server.url(), "--drain", "1s"]);
    ship.feed(logs(0..5));
    // Attempts are up to 30 s apart.
    std::thread::sleep(Duration::from_secs(160));
    let ended = ship.end();
    assert_eq!(ended.lines(), [5, 0, 0, 5, 0]);
    let reports = ended.stderr.matches("https://192.0.2.1/v1/logs").count();
    assert!((2..=3).contains(&reports), "{reports}: {}", ended.stderr);
}

/// A line of each signal.
fn mixed(range: std::ops::Range<u16>) -> String {
    let lines = |n: u16| {
        let id = format!("{:032x}", u32::from(n) + 1);
        format!(
            "{{\"kind\":\"metric\",\"host\":\"h\",\"name\":\"m\",\"value\":{n}}}\n{{\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\"}}\n\
             {{\"kind\":\"span\",\"ts\":\"2026-11-20T20:45:01Z\",\"begin_ts\":\"2026-11-20T20:45:00Z\",\"host\":\"h\",\
             \"name\":\"{n}\",\"trace_id\":\"{id}\",\"span_id\":\"{}\"}}\n",
            &id[16..]
        )
    };
    range.map(lines).collect()
}

/// The lines of a metric among them.
fn metrics(range: std::ops::Range<u16>) -> Vec<String> {
    mixed(range).lines().filter(|line| line.contains("\"metric\"")).map(str::to_owned).collect()
}

#[test]
fn what_fails_for_too_long_goes_to_the_dead_letters() {
    let dir = tempfile::tempdir().unwrap();
    let (letters, spool) = (dir.path().join("letters"), dir.path().join("spool"));
    let server = Capture::with(|request| match &*request.path {
        "/v1/metrics" => Answer::status(503),
        _ => Answer::ok(),
    });
    let url = server.url();
    let args = ["--otlp", &*url, "--max-age", "1s", "--batch-lines", "30", "--drain", "20s"];
    let kept = ["--dead-letter", letters.to_str().unwrap(), "--spool", spool.to_str().unwrap()];
    let (ended, took) = time(|| Ship::run(&[&args[..], &kept].concat(), mixed(0..100)));
    assert_eq!((ended.code, ended.lines()), (Some(1), [300, 200, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(ended.count("dead_lettered"), 100);
    assert!(took >= Duration::from_secs(1) && took < Duration::from_secs(15), "{took:?}");
    let text = std::fs::read_to_string(&letters).unwrap();
    assert_eq!(text.lines().collect::<Vec<_>>(), metrics(0..100));
    let reasons = std::fs::read_to_string(dir.path().join("letters.reasons")).unwrap();
    assert_eq!(reasons.lines().filter(|line| line.contains("503")).count(), 100, "the last error is named");
    // The spool has let go of them.
    let server = Capture::script([]);
    let ended = Ship::run(&["--otlp", &server.url(), "--spool", spool.to_str().unwrap()], "");
    assert_eq!(
        (ended.code, ended.lines(), server.requests().len()),
        (Some(0), [0; 5], 0),
        "{}",
        ended.stderr
    );

    // Without a file they are counted.
    let ended = Ship::run(&args, mixed(0..10));
    assert_eq!((ended.code, ended.lines()), (Some(1), [30, 20, 10, 0, 0]), "{}", ended.stderr);
}

#[test]
fn what_is_old_is_still_delivered_where_nothing_fails() {
    let spool = tempfile::tempdir().unwrap();
    let spool = ["--spool", spool.path().to_str().unwrap()];
    let down = Capture::with(|_| Answer::status(503));
    let ended =
        Ship::run(&[&["--otlp", &*down.url(), "--drain", "100ms"], &spool[..]].concat(), mixed(0..10));
    assert_eq!((ended.code, ended.lines()), (Some(1), [30, 0, 0, 30, 0]), "{}", ended.stderr);
    std::thread::sleep(Duration::from_millis(600));
    let server = Capture::script([]);
    let ended =
        Ship::run(&[&["--otlp", &*server.url(), "--max-age", "500ms"], &spool[..]].concat(), mixed(10..20));
    assert_eq!((ended.code, ended.lines()), (Some(0), [60, 60, 0, 0, 0]), "{}", ended.stderr);
}

/// Every destination to which credentials can go, with a URL that has some.
const DESTINATIONS: [(&str, &str); 3] =
    [("--otlp", "/base"), ("--clickhouse", "/"), ("--monitor", "/metrics")];

/// Lines that each of them sends; the second sample has rates.
fn samples() -> String {
    let cpu = |second: u8, busy: f64| {
        format!(
            "{{\"ts\":\"2026-11-20T20:45:0{second}Z\",\"kind\":\"cpu\",\"host\":\"h\",\"utilization_ratio\":{busy}}}\n"
        )
    };
    cpu(0, 0.5) + &cpu(1, 0.25) + &logs(0..2)
}

#[test]
fn no_output_repeats_credentials() {
    let refuses = Capture::with(|_| Answer::status(401).body("no"));
    let fails = Capture::with(|_| Answer::status(503));
    let dir = tempfile::tempdir().unwrap();
    let letters = dir.path().join("letters");
    for (option, path) in DESTINATIONS {
        // A server that is away, one that refuses, and one that cannot be reached at all.
        let away = format!("127.0.0.1:{}", support::free_port());
        let servers = [&refuses, &fails].map(|server| server.url().replace("http://", ""));
        for (scheme, server) in
            [("http", &away), ("http", &servers[0]), ("http", &servers[1]), ("https", &away)]
        {
            let url = format!("{scheme}://me:s3cret@{server}{path}?token=s3cret");
            let args = [
                option,
                &url,
                "--drain",
                "200ms",
                "--stats",
                "50ms",
                "--dead-letter",
                letters.to_str().unwrap(),
            ];
            let mut ship = Ship::start_with(&args, &[("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")]);
            ship.feed(samples());
            let ended = ship.end();
            assert!(!ended.stats.is_empty(), "{option}: {}", ended.stderr);
            let records = serde_json::to_string(&ended.records).unwrap();
            for text in [&ended.stderr, &records] {
                assert!(!text.contains("s3cret"), "{option} {url}: {text}");
            }
            assert!(ended.stderr.contains(&format!("see the password in {option}")), "{}", ended.stderr);
        }
        let url = format!("http://me:s3cret@{away}{path}?token=s3cret");
        let ended = Ship::run(&[option, &url, "--dry-run"], samples());
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        let shown = String::from_utf8_lossy(&ended.stdout);
        assert!(!shown.contains("s3cret") && !ended.stderr.contains("s3cret"), "{shown}{}", ended.stderr);
        for wrong in
            ["me:s3cret@h", "ftp://me:s3cret@h", "http://me:s3cret@:1", "http://me:s3cret@h:x/?s3cret"]
        {
            let ended = Ship::run(&[option, wrong], "");
            assert_eq!(ended.code, Some(2), "{option} {wrong}: {}", ended.stderr);
            assert!(!ended.stderr.contains("s3cret"), "{option} {wrong}: {}", ended.stderr);
        }
    }
    for file in [letters.clone(), letters.with_extension("reasons")] {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        assert!(!text.contains("s3cret"), "{text}");
    }
    let proxies =
        [("HTTP_PROXY", "http://me:s3cret@127.0.0.1:1"), ("ALL_PROXY", "socks5://me:s3cret@127.0.0.1:1")];
    for (option, _) in DESTINATIONS {
        for proxy in proxies {
            let mut ship =
                Ship::start_with(&[option, "http://server.invalid/", "--drain", "200ms"], &[proxy]);
            ship.feed(samples());
            let ended = ship.end();
            assert!(ended.code != Some(0) && !ended.stderr.contains("s3cret"), "{}", ended.stderr);
        }
    }
}

#[test]
fn redirects_of_every_destination_are_named_and_not_followed() {
    for (option, path) in DESTINATIONS {
        let elsewhere = Capture::script([]);
        let target = elsewhere.url().replace("http://", "http://me:s3cret@") + "/there?token=s3cret";
        let server = Capture::with(move |_| Answer::status(307).header("Location", &target));
        let url = server.url().replace("http://", "http://me:s3cret@") + path;
        let ended = Ship::run(&[option, &url, "--drain", "500ms"], samples());
        assert_eq!((ended.code, ended.count("rejected")), (Some(1), 0), "{option}: {}", ended.stderr);
        assert!(ended.count("pending") > 0, "{option}: nothing is lost: {}", ended.stderr);
        assert!(ended.stderr.contains(&(elsewhere.url() + "/there")), "{option}: {}", ended.stderr);
        assert!(!ended.stderr.contains("s3cret"), "{option}: {}", ended.stderr);
        assert!(elsewhere.requests().is_empty() && !server.requests().is_empty());
    }
}

#[test]
fn credentials_in_the_clear_are_warned_about() {
    for (option, path) in DESTINATIONS {
        // A proxy stands in for the rest of the world; its hosts have no address.
        let proxy = Capture::with(|_| Answer::status(503));
        for (host, user, warns) in [
            ("server.invalid", "me:s3cret@", true),
            ("server.invalid", "", false),
            ("127.0.0.1:1", "me:s3cret@", false),
        ] {
            let url = format!("http://{user}{host}{path}");
            let args = [option, &url, "--drain", "200ms"];
            let mut ship = Ship::start_with(&args, &[("HTTP_PROXY", &proxy.url())]);
            ship.feed(samples());
            let ended = ship.end();
            let words = ["unencrypted", "in the clear"];
            let warned = words.iter().any(|words| ended.stderr.contains(words));
            assert_eq!(warned, warns, "{option} {url}: {}", ended.stderr);
        }
    }
}
