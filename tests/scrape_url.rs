//! `scrape --url` with real endpoints (node exporter, the Prometheus client library for Python, which is also the
//! oracle) and with a server that misbehaves.

#[path = "support/exposition.rs"]
mod exposition;
mod support;

use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::time::Duration;

use exposition::{Ended, assert_same, get, library_samples, node_exporter, of_kind, oracle, record_samples};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use support::{Answer, Capture, free_port, poll, program, skip};

const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The records and stderr of a run that must succeed.
fn scrape(args: &[&str]) -> (Vec<Value>, String) {
    scrape_with(args, &[], 0)
}

/// The records and stderr of a run with these variables that must end with that exit code.
fn scrape_with(args: &[&str], env: &[(&str, &str)], code: i32) -> (Vec<Value>, String) {
    let mut command = Command::new(program!("scrape"));
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"] {
        command.env_remove(name).env_remove(name.to_lowercase());
    }
    let run = command.args(args).envs(env.iter().copied()).output().unwrap();
    let stderr = String::from_utf8(run.stderr).unwrap();
    assert_eq!(run.status.code(), Some(code), "{args:?}: {stderr}");
    let lines = run.stdout.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
    (lines.map(|line| serde_json::from_slice(line).unwrap()).collect(), stderr)
}

/// `(reason, source)` of each status record.
fn statuses(records: &[Value]) -> Vec<(&str, &str)> {
    of_kind(records, "status")
        .into_iter()
        .map(|record| (record["reason"].as_str().unwrap(), record["source"].as_str().unwrap()))
        .collect()
}

#[test]
fn every_series_of_node_exporter_becomes_a_record() {
    let Some((_exporter, address)) = node_exporter() else { return };
    let url = format!("http://{address}/metrics");
    let before = get(&address, "/metrics");
    let (records, _) = scrape(&["--once", "--host", "h", "--url", &url]);
    let after = get(&address, "/metrics");
    let parsed = |body| oracle(&["parse", "text"], body).map(|lines| library_samples(&lines));
    let (Some(before), Some(after)) = (parsed(&before), parsed(&after)) else { return };
    let ours = record_samples(&records, &address);
    assert!(before.len() > 300, "{}", before.len());
    for (key, values) in &before {
        let Some(last) = after.get(key) else { continue };
        let own = ours.get(key).unwrap_or_else(|| panic!("{key} is missing"));
        assert_eq!((own.len(), &own[0].1), (values.len(), &values[0].1), "{key}");
        // Counters lie between the two readings.
        if own[0].1.starts_with("counter") {
            assert!(values[0].0 <= own[0].0 && own[0].0 <= last[0].0, "{key}: {values:?} {own:?} {last:?}");
        }
    }
    let known = |key: &String| before.contains_key(key) || after.contains_key(key);
    assert!(ours.keys().all(known), "{:?}", ours.keys().find(|key| !known(key)));
    assert!(statuses(&records).iter().all(|(_, source)| source.ends_with(": values")), "{records:?}");
    assert!(records.iter().all(|record| record["host"] == "h"));
}

#[test]
fn every_number_of_node_exporter_is_kept() {
    let Some((_exporter, address)) = node_exporter() else { return };
    let body = get(&address, "/metrics");
    let Some(lines) = oracle(&["parse", "text"], &body) else { return };
    let server = Capture::script([Answer::ok().header("Content-Type", TEXT).body(body)]);
    let (records, _) = scrape(&["--once", "--url", &format!("{}/metrics", server.url())]);
    let instance = server.url().replace("http://", "");
    let mut theirs = library_samples(&lines);
    theirs.retain(|_, values| values.iter().all(|(value, _)| value.is_finite()));
    assert_same(&record_samples(&records, &instance), &theirs);
}

#[test]
fn openmetrics_of_the_client_library() {
    let Some(body) = oracle(&["write"], b"") else { return };
    let Some(lines) = oracle(&["parse", "openmetrics"], &body) else { return };
    let mut theirs = library_samples(&lines);
    let server = Capture::script([Answer::ok().header("Content-Type", OPENMETRICS).body(body)]);
    let (records, _) = scrape(&["--once", "--url", &server.url()]);
    let instance = server.url().replace("http://", "");

    // `_created` lines become `start_ts`, and NaN is left out.
    let mut starts: Vec<f64> = Vec::new();
    theirs.retain(|key, values| {
        let created = key.contains("_created ");
        starts.extend(values.iter().filter(|_| created).map(|(value, _)| *value));
        !created && values.iter().all(|(value, _)| value.is_finite())
    });
    assert_same(&record_samples(&records, &instance), &theirs);
    let mut found: Vec<f64> = of_kind(&records, "metric")
        .iter()
        .filter_map(|record| record["start_ts"].as_str())
        .map(|text| text.parse::<jiff::Timestamp>().unwrap().as_nanosecond() as f64 / 1e9)
        .collect();
    starts.sort_by(f64::total_cmp);
    found.sort_by(f64::total_cmp);
    assert_eq!(found.len(), 6);
    assert!(starts.iter().zip(&found).all(|(a, b)| (a - b).abs() < 2e-6), "{starts:?} {found:?}");
    assert_eq!(starts.len(), found.len());
    let celsius = of_kind(&records, "metric").into_iter().find(|record| record["unit"] == "Cel").unwrap();
    assert_eq!(celsius["value"], -4.25);
    let lost = of_kind(&records, "lost");
    assert_eq!((lost.len(), lost[0]["count"].as_u64()), (1, Some(1)));
}

#[test]
fn json_becomes_a_snapshot() {
    let data =
        json!({"cpu": {"temp_c": 51.25, "cores": [{"id": 0}, {"id": 1}]}, "big": u64::MAX, "é": " \" "});
    let pretty = serde_json::to_string_pretty(&data).unwrap();
    let server = Capture::script([
        Answer::ok().header("Content-Type", "application/json").body(pretty.clone()),
        Answer::ok().body("[1.10, 123456789012345678901234567890]"),
    ]);
    let url = format!("{}/system?x=1", server.url());
    let (records, _) = scrape(&["-n", "2", "-i", "500ms", "--url", &url]);
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0]["kind"], &records[0]["url"]), (&json!("snapshot"), &json!(url)));
    assert_eq!(records[0]["data"], data);
    let digits = Capture::script([Answer::ok().body("[1.10, 123456789012345678901234567890]")]);
    let run = Command::new(program!("scrape")).args(["--once", "--url", &digits.url()]).output().unwrap();
    let line = String::from_utf8(run.stdout).unwrap();
    assert!(line.ends_with("\"data\":[1.10,123456789012345678901234567890]}\n"), "{line}");
}

#[test]
fn the_request() {
    let server = Capture::script([Answer::ok().body("a 1\n")]);
    let url = server.url().replace("http://", "http://me:secret@");
    let (records, stderr) = scrape(&["--once", "--url", &format!("{url}/metrics?x=1")]);
    assert_eq!(records[0]["value"], 1);
    let request = &server.requests()[0];
    assert_eq!((&*request.method, &*request.path), ("GET", "/metrics?x=1"));
    assert!(request.header("accept").unwrap().starts_with("application/openmetrics-text"));
    assert_eq!(request.header("accept-encoding"), None);
    assert_eq!(request.header("authorization"), Some("Basic bWU6c2VjcmV0"));
    assert!(request.header("user-agent").unwrap().starts_with("telepipe/"));
    assert!(!format!("{records:?}{stderr}").contains("secret"));
}

#[test]
fn a_failing_endpoint_is_reported_until_it_recovers() {
    let down = Capture::script([
        Answer::status(404),
        Answer::status(503),
        Answer::ok().body("a 1\n"),
        Answer::status(401),
        Answer::status(401),
    ]);
    let up = Capture::with(|_| Answer::ok().body("b 2\n"));
    let (records, _) = scrape(&["-n", "5", "-i", "500ms", "--url", &down.url(), "--url", &up.url()]);
    let source = format!("{}/", down.url());
    assert_eq!(statuses(&records), [("absent", &*source), ("active", &*source), ("denied", &*source)]);
    let names: Vec<_> = of_kind(&records, "metric").iter().map(|record| record["name"].clone()).collect();
    assert_eq!(names.iter().filter(|name| *name == "a").count(), 1);
    assert_eq!(names.iter().filter(|name| *name == "b").count(), 5);
}

#[test]
fn unusable_answers() {
    let garbage: Vec<u8> =
        (0..5000u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let cases = [
        ("slow", Answer::ok().body("a 1\n").after(Duration::from_secs(4)), "absent", "in time"),
        ("silent", Answer::silence(), "absent", "in time"),
        ("closed", Answer::hangup(), "invalid", ""),
        ("cut", Answer::ok().body("a 1\nb 2\n").cut_after(5), "invalid", ""),
        ("garbage", Answer::ok().body(garbage), "invalid", "neither"),
        ("html", Answer::ok().body("<html>\n<p>Node Exporter</p>\n"), "invalid", "neither"),
        ("half JSON", Answer::ok().body("{\"a\": 1"), "invalid", "not JSON"),
        (
            "two JSON",
            Answer::ok().header("Content-Type", "application/json").body("1 2"),
            "invalid",
            "not JSON",
        ),
        ("deep JSON", Answer::ok().body("[".repeat(100_000)), "invalid", "not JSON"),
        ("half a pair", Answer::ok().body("[\"\\ud800\"]"), "invalid", "not JSON"),
        ("gzip", Answer::ok().header("Content-Encoding", "gzip").body("x"), "unsupported", "gzip"),
        ("no content", Answer::status(204), "invalid", "204"),
        ("error", Answer::status(500), "invalid", "500"),
        (
            "https",
            Answer::status(301).header("Location", "https://localhost:1/"),
            "invalid",
            "https://localhost:1/",
        ),
        ("loop", Answer::status(302).header("Location", "/"), "invalid", "redirect"),
    ];
    let servers = cases
        .map(|(name, answer, reason, part)| (name, Capture::with(move |_| answer.clone()), reason, part));
    let up = Capture::with(|_| Answer::ok().body("b 2\n"));
    let mut args = vec!["-n".to_owned(), "2".into(), "-i".into(), "2s".into(), "--url".into(), up.url()];
    args.extend(servers.iter().flat_map(|(_, server, ..)| ["--url".to_owned(), server.url()]));
    let (records, _) = scrape(&args.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(of_kind(&records, "metric").len(), 2, "the endpoint that answers is read all the same");
    assert_eq!(records.len(), 2 + servers.len(), "{records:#?}");
    for (name, server, reason, part) in &servers {
        let source = format!("{}/", server.url());
        let record = records.iter().find(|record| record["source"] == source);
        let record = record.unwrap_or_else(|| panic!("{name}: no status"));
        let detail = record["detail"].as_str().unwrap();
        assert!(record["reason"] == *reason && detail.contains(part), "{name}: {record}");
    }
}

#[test]
fn an_endpoint_that_is_down() {
    let url = format!("http://127.0.0.1:{}/", free_port());
    let (records, stderr) = scrape_with(&["--once", "--url", &url], &[], 1);
    assert_eq!(statuses(&records), [("absent", &*url)]);
    assert!(stderr.contains(&url), "{stderr}");
    // With --once every endpoint must answer; the records of those that do are written all the same.
    let up = Capture::with(|_| Answer::ok().body("a 1\n"));
    for order in [[&*url, &*up.url()], [&*up.url(), &*url]] {
        let (records, _) = scrape_with(&["--once", "--url", order[0], "--url", order[1]], &[], 1);
        assert_eq!((of_kind(&records, "metric").len(), statuses(&records)), (1, vec![("absent", &*url)]));
    }
    // A longer run fails only if no endpoint ever answers.
    let run = ["-n", "2", "-i", "50ms", "--url", &url];
    assert_eq!(statuses(&scrape_with(&run, &[], 1).0).len(), 1);
    assert_eq!(of_kind(&scrape(&[&run[..], &["--url", &up.url()]].concat()).0, "metric").len(), 2);
    let late = Capture::script([Answer::status(503), Answer::ok().body("a 1\n")]);
    scrape(&["-n", "2", "-i", "500ms", "--url", &late.url()]);
    let useless = Capture::with(|_| Answer::ok().body("<html>\n"));
    scrape_with(&["--once", "--url", &useless.url()], &[], 1);
}

/// An endpoint that is not on this machine is requested through the proxy, unless NO_PROXY names it.
#[test]
fn proxies_of_the_environment() {
    let proxy = Capture::with(|_| Answer::ok().body("proxied 1\n"));
    let args = ["--once", "--url", "http://192.0.2.1:9100/metrics"];
    let (records, _) = scrape_with(&args, &[("HTTP_PROXY", &proxy.url())], 0);
    assert_eq!(
        (&records[0]["name"], &records[0]["attributes"]["instance"]),
        (&json!("proxied"), &json!("192.0.2.1:9100"))
    );
    assert_eq!(proxy.requests()[0].path, "http://192.0.2.1:9100/metrics");
    // Loopback addresses are reached directly, with this variable or with none.
    let here = Capture::with(|_| Answer::ok().body("here 1\n"));
    let (records, _) = scrape_with(&["--once", "--url", &here.url()], &[("HTTP_PROXY", &proxy.url())], 0);
    assert_eq!(records[0]["name"], "here");
    assert_eq!(proxy.requests().len(), 1);
    // The address belongs to no network that answers, so a direct request fails or is cut short.
    for list in ["*", "192.0.2.1", "192.0.2.1:9100", "192.0.2.0/24"] {
        let args = ["-n", "1", "-i", "200ms", "--url", "http://192.0.2.1:9100/metrics"];
        scrape_with(&args, &[("HTTP_PROXY", &proxy.url()), ("NO_PROXY", list)], 1);
        assert_eq!(proxy.requests().len(), 1, "NO_PROXY={list}");
    }
    let down = format!("http://127.0.0.1:{}", free_port());
    let (records, _) = scrape_with(&args, &[("HTTP_PROXY", &down)], 1);
    let detail = records[0]["detail"].as_str().unwrap();
    assert!(detail.contains(&down), "the detail does not name the proxy: {detail}");
}

#[test]
fn a_redirect_is_followed() {
    let server =
        Capture::script([Answer::status(302).header("Location", "/metrics"), Answer::ok().body("a 1\n")]);
    let (records, _) = scrape(&["--once", "--url", &server.url()]);
    assert_eq!(records[0]["name"], "a");
    assert_eq!(server.requests()[1].path, "/metrics");
}

#[test]
fn a_redirect_to_https_is_refused_without_repeating_its_password() {
    let location = "https://me:secret@127.0.0.1:1/metrics?all=1";
    let server = Capture::script([Answer::status(302).header("Location", location)]);
    let (records, stderr) = scrape_with(&["--once", "--url", &server.url()], &[], 1);
    let detail = of_kind(&records, "status")[0]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("https://127.0.0.1:1/metrics?all=1"), "{detail}");
    assert!(!format!("{records:?}{stderr}").contains("secret"), "{records:?} {stderr}");
}

#[test]
fn malformed_lines_are_lost_and_reported_once() {
    let server = Capture::with(|_| Answer::ok().body("a 1\nb{\nc NaN\r\nd +Inf\ne 2\r\n\u{fffd} 1\n"));
    let (records, stderr) = scrape(&["-n", "3", "-i", "2s", "--url", &server.url()]);
    let names: Vec<_> = of_kind(&records, "metric").iter().map(|record| record["name"].clone()).collect();
    assert_eq!(names, ["a", "e", "a", "e", "a", "e"]);
    let lines = format!("{}/: lines", server.url());
    let values = format!("{}/: values", server.url());
    assert_eq!(statuses(&records), [("invalid", &*lines), ("unsupported", &*values)]);
    let lost: Vec<_> = of_kind(&records, "lost")
        .into_iter()
        .map(|record| (record["source"].as_str().unwrap(), record["count"].as_u64().unwrap()))
        .collect();
    assert_eq!(lost, [(&*lines, 2), (&*values, 2)].repeat(3));
    assert!(stderr.contains("12 lost"), "{stderr}");
}

#[test]
fn oversized_input_is_counted() {
    let large = format!("{{\"a\": \"{}\"}}", "x".repeat(2 << 20));
    let flood = "a 1\n".repeat(17 << 20);
    let server = Capture::script([
        Answer::ok().body(large),
        Answer::ok().body(format!("a{{b=\"{}\"}} 1\nc 2\n", "x".repeat(2 << 20))),
        Answer::ok().body(format!("[{}\"{}\"]", " ".repeat(2 << 20), "x".repeat(1000))),
        Answer::ok().body(flood),
    ]);
    let scrape = |args: &[&str]| scrape(&[args, &["--url", &server.url()]].concat()).0;
    let records = scrape(&["--once"]);
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds, ["status", "lost"]);
    assert_eq!(records[1]["count"], 1);
    let records = scrape(&["--once"]);
    assert_eq!((&records[0]["kind"], &records[1]["name"], records.len()), (&json!("lost"), &json!("c"), 2));
    // White space does not count.
    assert_eq!(scrape(&["--once"])[0]["data"][0].as_str().unwrap().len(), 1000);
    let (records, _) = scrape_with(&["--once", "--url", &server.url()], &[], 1);
    assert_eq!((records.len(), &records[0]["reason"]), (1, &json!("unsupported")));
}

#[test]
fn the_end_does_not_wait_for_an_answer() {
    let server = Capture::with(|_| Answer::silence());
    let child = Command::new(program!("scrape"))
        .args(["-v", "-i", "10s", "--url", &server.url()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    server.wait(1, Duration::from_secs(10));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let output = child.wait_with_output().unwrap();
    // A forced end prints no summary.
    assert!(String::from_utf8_lossy(&output.stderr).contains("0 records written"), "{output:?}");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn kinds_in_addition_to_the_endpoint() {
    let server = Capture::with(|_| Answer::ok().body("a 1\n"));
    let (records, _) = scrape(&["--once", "--url", &server.url()]);
    assert_eq!(records.len(), 1);
    let (records, _) = scrape(&["--once", "--only", "load,metric", "--url", &server.url()]);
    let kinds: Vec<_> = records.iter().map(|record| record["kind"].clone()).collect();
    assert_eq!(kinds, ["load", "metric"]);
    for args in [
        &["--url", "http://127.0.0.1:1/", "--only", "load"][..],
        &["--url", "http://127.0.0.1:1/", "--except", "metric,snapshot"],
        &["--url", "127.0.0.1:9100"],
        &["--url", "ftp://127.0.0.1/"],
        &["--url", ""],
    ] {
        let run = Command::new(program!("scrape")).arg("--once").args(args).output().unwrap();
        assert_eq!(run.status.code(), Some(2), "{args:?}");
        let stderr = String::from_utf8(run.stderr).unwrap();
        assert!(stderr.starts_with("scrape: --"), "{stderr}");
        assert!(run.stdout.is_empty());
    }
}

/// `openssl` makes a certificate, and Python serves with it.
#[test]
fn https_trusts_the_given_certificates() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=DNS:localhost", "-addext", "basicConstraints=critical,CA:FALSE"])
        .args(["-keyout", &path("key"), "-out", &path("cert")])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        return skip("openssl makes no certificate");
    }
    std::fs::write(path("metrics"), "a 1\n").unwrap();
    let port = free_port();
    let server = format!(
        "import http.server as h, ssl\n\
         s = h.HTTPServer(('127.0.0.1', {port}), h.SimpleHTTPRequestHandler)\n\
         c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)\n\
         c.load_cert_chain('cert', 'key')\n\
         s.socket = c.wrap_socket(s.socket, server_side=True)\n\
         s.serve_forever()"
    );
    let child =
        Command::new("python3").args(["-c", &server]).current_dir(dir.path()).stderr(Stdio::null()).spawn();
    let Ok(child) = child else { return skip("there is no python3") };
    let _server = Ended(child);
    poll(Duration::from_secs(20), || TcpStream::connect(("127.0.0.1", port)).ok()).expect("it listens");
    let request = |roots: &str, code: i32| {
        let url = format!("https://localhost:{port}/metrics");
        let env = [("SSL_CERT_FILE", roots), ("SSL_CERT_DIR", "/nonexistent")];
        scrape_with(&["--once", "--url", &url], &env, code).0.remove(0)
    };
    let trusted = request(&path("cert"), 0);
    assert_eq!((&trusted["name"], &trusted["value"]), (&json!("a"), &json!(1)));
    let refused = if std::path::Path::new("/etc/ssl/certs/ca-certificates.crt").exists() {
        request("/etc/ssl/certs/ca-certificates.crt", 1)
    } else {
        return skip("there are no system certificates");
    };
    assert_eq!(refused["kind"], "status");
    assert!(refused["detail"].as_str().unwrap().contains("certificate"), "{refused}");
}
