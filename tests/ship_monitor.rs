//! `tele-ship --monitor`, with a Flask server that compares with psutil, and with a server that fails.

mod support;

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use support::{Answer, Capture, Ship, http_date, program, python};

/// The Flask server.
struct Server {
    child: Child,
    output: BufReader<ChildStdout>,
    port: u16,
}

impl Server {
    fn start() -> Option<Self> {
        let mut command = python()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/monitoring_server.py");
        let mut child = command.arg(script).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        Some(Self { child, output, port: line.trim().parse().expect("the server prints its port") })
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/metrics", self.port)
    }

    /// Everything that was posted until now.
    fn posts(mut self) -> Vec<Value> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.output.by_ref().lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The records of `scrape` with these arguments.
fn scrape(args: &[&str]) -> String {
    let output = Command::new(program!("scrape")).args(args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn close(ours: &Value, theirs: &Value, tolerance: f64, what: &str) {
    let (a, b) = (ours.as_f64(), theirs.as_f64());
    let near = a.zip(b).is_some_and(|(a, b)| (a - b).abs() <= tolerance);
    assert!(near, "{what}: {ours}, psutil: {theirs}");
}

#[test]
fn what_is_posted_is_what_psutil_sees() {
    let Some(server) = Server::start() else { return };
    let records = scrape(&["-n", "3", "-i", "300ms"]);
    let ended = Ship::run(&["--monitor", &server.url()], &records);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let posts = server.posts();
    // The first sample has no rates.
    assert_eq!(posts.len(), 2, "{posts:?}");
    let of_kind = |kind: &str| -> Vec<Value> {
        let records = records.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        records.filter(|record| record["kind"] == kind).collect()
    };
    for (post, cpu) in posts.iter().zip(&of_kind("cpu")[1..]) {
        let (posted, psutil) = (&post["posted"], &post["psutil"]);
        assert_eq!(post["wrong"], json!([]), "{post}");
        let details = &posted["details"];
        close(&posted["cpu"], &json!(cpu["utilization_ratio"].as_f64().unwrap() * 100.0), 0.051, "cpu");
        close(&posted["timestamp"], &psutil["time"], 20.0, "timestamp");
        assert_eq!(posted["hostname"], psutil["system"]["hostname"]);
        assert_eq!(
            (&posted["ram"], &posted["disk"]),
            (&details["memory"]["percent"], &details["disk"]["percent"])
        );

        // What moves between the two readings: memory by some percent, counters only upwards.
        let memory = [
            "total",
            "available",
            "used",
            "free",
            "active",
            "inactive",
            "buffers",
            "cached",
            "shared",
            "slab",
        ];
        let total = psutil["memory"]["total"].as_f64().unwrap();
        for field in memory {
            let tolerance = if field == "total" { 0.0 } else { total / 10.0 };
            close(&details["memory"][field], &psutil["memory"][field], tolerance, field);
        }
        close(&details["memory"]["percent"], &psutil["memory"]["percent"], 10.0, "memory.percent");
        for field in ["total", "used", "free", "percent", "sin", "sout"] {
            close(&details["swap"][field], &psutil["swap"][field], total / 100.0, field);
        }
        for field in ["total", "used", "free"] {
            let tolerance =
                if field == "total" { 0.0 } else { psutil["disk"]["total"].as_f64().unwrap() / 50.0 };
            close(&details["disk"][field], &psutil["disk"][field], tolerance, field);
        }
        close(&details["disk"]["percent"], &psutil["disk"]["percent"], 2.0, "disk.percent");
        assert_eq!(details["disk"]["mount"], "/");
        let grows = |section: &Value, peer: &Value, fields: &[&str]| {
            for field in fields {
                let (ours, theirs) = (section[field].as_u64(), peer[field].as_u64());
                let (Some(ours), Some(theirs)) = (ours, theirs) else { panic!("{field}: {section} {peer}") };
                assert!(
                    ours <= theirs && ours as f64 >= theirs as f64 * 0.8 - 1e9,
                    "{field}: {ours} {theirs}"
                );
            }
        };
        let io = ["read_count", "write_count", "read_bytes", "write_bytes", "read_time", "write_time"];
        grows(&details["disk_io"], &psutil["disk_io"], &io);
        let net = [
            "bytes_sent",
            "bytes_recv",
            "packets_sent",
            "packets_recv",
            "errin",
            "errout",
            "dropin",
            "dropout",
        ];
        grows(&details["network"]["io_counters"], &psutil["network"], &net);

        assert_eq!(details["uptime"]["boot_time"].as_f64(), psutil["boot_time"].as_f64());
        let up = psutil["time"].as_f64().unwrap() - psutil["boot_time"].as_f64().unwrap();
        close(&details["uptime"]["seconds"], &json!(up), 20.0, "uptime");
        assert_eq!(details["cpu"]["logical_cores"], psutil["logical_cores"]);
        if !psutil["physical_cores"].is_null() {
            assert_eq!(details["cpu"]["physical_cores"], psutil["physical_cores"]);
        }
        for (field, expected) in psutil["system"].as_object().unwrap() {
            assert_eq!(&details["system"][field], expected, "{field}");
        }
        primary_interface(&details["network"]["primary_interface"], psutil);
    }
    // Rates: the differences of the disk records, in MB/s.
    let rates = of_kind("disk");
    let last = rates.last().unwrap()["ts"].clone();
    let sum = |field: &str| -> f64 {
        let whole = rates.iter().filter(|disk| disk["ts"] == last && disk["whole"] == true);
        whole.filter_map(|disk| disk[field].as_f64()).sum()
    };
    close(&posts[1]["posted"]["disk_read"], &json!(sum("read_bytes_per_s") / 1e6), 1e-9, "disk_read");
    close(&posts[1]["posted"]["disk_write"], &json!(sum("write_bytes_per_s") / 1e6), 1e-9, "disk_write");
}

fn primary_interface(ours: &Value, psutil: &Value) {
    let Some(name) = ours["name"].as_str() else {
        assert!(ours.is_null(), "{ours}");
        return;
    };
    let address = |family: &str| {
        let mut all = psutil["addresses"][name].as_array().unwrap().iter();
        all.find(|address| address[0] == family).cloned()
    };
    assert_eq!(ours["mtu"], psutil["mtu"][name]);
    let four = address("AF_INET").unwrap_or_default();
    assert_eq!((&ours["ipv4"], &ours["netmask"]), (&four[1], &four[2]), "{ours}");
    if !four[3].is_null() {
        assert_eq!(ours["broadcast"], four[3], "{ours}");
    }
    if let Some(six) = address("AF_INET6") {
        let without_zone = six[1].as_str().unwrap().split('%').next();
        assert_eq!(ours["ipv6"].as_str(), without_zone);
    }
}

#[test]
fn the_answer_of_another_service_is_passed_on() {
    let object = json!({
        "cpu": { "percent": 12.5 }, "memory": { "percent": 40.25 }, "disk": { "percent": 71.0 },
        "system": { "hostname": "other" }, "throughput": { "disk_read_bytes_per_sec": 2e6, "disk_write_bytes_per_sec": 0 },
        "extra": [1, null]
    });
    let source = Capture::script([Answer::ok()
        .header("Content-Type", "application/json")
        .body(object.to_string().into_bytes())]);
    let records = scrape(&["--once", "--url", &format!("{}/system", source.url())]);
    let server = Capture::script([]);
    let ended = Ship::run(&["--monitor", &server.url()], records);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let posted: Value = serde_json::from_slice(&server.requests()[0].body).unwrap();
    let picked =
        ["hostname", "cpu", "ram", "disk", "disk_read", "disk_write", "details"].map(|name| &posted[name]);
    assert_eq!(json!(picked), json!(["other", 12.5, 40.25, 71.0, 2.0, 0.0, object]));
}

/// A sample: use of the CPU and of memory.
fn sample(host: &str, second: u32, ratio: f64) -> String {
    let ts = format!("2026-11-20T20:45:{second:02}.000000000Z");
    format!(
        "{{\"ts\":\"{ts}\",\"kind\":\"cpu\",\"host\":\"{host}\",\"utilization_ratio\":{ratio}}}\n\
         {{\"ts\":\"{ts}\",\"kind\":\"memory\",\"host\":\"{host}\",\"total_bytes\":200,\"available_bytes\":50}}\n"
    )
}

#[test]
fn samples_of_each_host_are_posted_once() {
    let server = Capture::script([]);
    let mut lines = String::new();
    for second in 0..5 {
        lines += &sample("a", second, 0.25);
        lines += &sample("b", second, 0.5);
        lines += "{\"kind\":\"log\",\"body\":\"not for this server\"}\n";
    }
    lines += "not JSON\n";
    let ended = Ship::run(&["--monitor", &server.url()], lines);
    assert_eq!((ended.code, ended.lines(), ended.count("empty")), (Some(1), [26, 20, 1, 0, 0], 5));
    let posts: Vec<Value> =
        server.requests().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    let facts = |post: &Value| {
        json!([post["hostname"], post["timestamp"], post["cpu"], post["ram"], post["disk_read"]])
    };
    let start = 1_795_207_500;
    let expected: Vec<_> = (0..5)
        .flat_map(|n| [json!(["a", start + n, 25.0, 75.0, null]), json!(["b", start + n, 50.0, 75.0, null])])
        .collect();
    let mut seen: Vec<_> = posts.iter().map(facts).collect();
    seen.sort_by_key(|post| (post[1].as_u64(), post[0].to_string()));
    assert_eq!(seen, expected);
}

#[test]
fn errors_of_the_server_are_retried_and_refusals_are_final() {
    let server = Capture::script([
        Answer::status(503).header("Retry-After", "1"),
        Answer::hangup(),
        Answer::ok(),
        Answer::status(400).body(b"no such host".to_vec()),
    ]);
    let lines = sample("a", 0, 0.25) + &sample("a", 1, 0.5);
    let ended = Ship::run(&["--monitor", &server.url()], lines);
    assert_eq!((ended.code, ended.lines(), ended.count("retries")), (Some(1), [4, 2, 2, 0, 0], 2));
    let requests = server.requests();
    assert!(requests[1].at - requests[0].at >= Duration::from_secs(1));
    assert!(ended.stderr.contains("no such host"), "{}", ended.stderr);
}

#[test]
fn what_is_no_fault_of_the_lines_is_retried() {
    let mut sent = 0;
    let server = Capture::with(move |_| {
        sent += 1;
        match sent {
            1 => Answer::ok().body(" <!DOCTYPE html><title>Log in</title>"),
            2 => Answer::status(401).body("no"),
            3 => Answer::status(403),
            4 => Answer::status(503).header("Retry-After", &http_date(3)),
            _ => Answer::ok().body("{}"),
        }
    });
    let lines = sample("a", 0, 0.25) + &sample("a", 1, 0.5);
    let ended = Ship::run(&["--monitor", &server.url()], lines);
    assert_eq!((ended.code, ended.count("retries")), (Some(0), 4), "{}", ended.stderr);
    let requests = server.requests();
    assert_eq!(ended.count("rejected"), 0);
    // The date has whole seconds.
    assert!(requests[4].at - requests[3].at >= Duration::from_millis(1900));
}
