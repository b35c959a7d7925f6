//! `tele-ship --stdout` with readers that leave, stop reading or are full.

mod support;

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::{Ship, poll, program};

fn lines(count: usize) -> String {
    (0..count)
        .map(|n| format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"log\",\"body\":\"{n}\"}}\n"))
        .collect()
}

fn start(args: &[&str], stdout: impl Into<Stdio>) -> Child {
    let mut command = Command::new(program!("tele-ship"));
    command.args(["--stdout", "--batch-age", "50ms"]).args(args);
    command.stdin(Stdio::piped()).stdout(stdout).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the end, and returns how long it took.
fn end(mut child: Child) -> (Output, Duration) {
    let begin = Instant::now();
    let ended = poll(Duration::from_secs(20), || child.try_wait().unwrap());
    if ended.is_none() {
        let _ = child.kill();
    }
    assert!(ended.is_some(), "tele-ship did not end");
    let took = begin.elapsed();
    (child.wait_with_output().unwrap(), took)
}

/// Reads stderr up to a line with `text`.
fn wait_for(stderr: &mut impl BufRead, text: &str) -> String {
    let mut all = String::new();
    while !all.contains(text) {
        assert!(stderr.read_line(&mut all).unwrap() > 0, "no {text}: {all}");
    }
    all
}

#[test]
fn each_batch_is_a_line_of_otlp_json() {
    let ended = Ship::run(&["--stdout", "--batch-lines", "40"], lines(100));
    assert_eq!((ended.code, ended.lines()), (Some(0), [100, 100, 0, 0, 0]));
    let written: Vec<Value> =
        ended.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let records =
        |line: &Value| line["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap().clone();
    assert_eq!(written.iter().map(|line| records(line).len()).collect::<Vec<_>>(), [40, 40, 20]);
    let bodies = written
        .iter()
        .flat_map(records)
        .map(|record| record["body"]["stringValue"].as_str().unwrap().to_owned());
    assert!(bodies.eq((0..100).map(|n| n.to_string())));
    // The output can be read again.
    let again = Ship::run(&["--stdout"], &ended.stdout);
    assert_eq!((again.code, again.lines(), again.count("accepted_items")), (Some(0), [3, 3, 0, 0, 0], 100));
}

/// The bodies of all log records in lines of OTLP/JSON.
fn bodies(lines: &[u8]) -> Vec<String> {
    let mut bodies = Vec::new();
    for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        assert!(line.len() <= 1 << 20, "{} bytes", line.len());
        let line: Value = serde_json::from_slice(line).unwrap();
        let list = |value: &Value| value.as_array().unwrap().clone();
        let scopes = list(&line["resourceLogs"]).into_iter().flat_map(|outer| list(&outer["scopeLogs"]));
        let records = scopes.flat_map(|scope| list(&scope["logRecords"]));
        bodies.extend(records.map(|record| record["body"]["stringValue"].as_str().unwrap().to_owned()));
    }
    bodies
}

#[test]
fn what_it_writes_it_can_read() {
    let first = Ship::run(&["--stdout", "--batch-bytes", "8MiB"], lines(30_000));
    assert_eq!((first.code, first.lines()), (Some(0), [30_000, 30_000, 0, 0, 0]));
    assert!(first.stdout.len() > 3 << 20, "{} bytes", first.stdout.len());
    let sent: Vec<_> = (0..30_000).map(|n| n.to_string()).collect();
    assert!(bodies(&first.stdout) == sent);
    let second = Ship::run(&["--stdout"], &first.stdout);
    assert_eq!((second.code, second.count("accepted_items")), (Some(0), 30_000));
    assert!(bodies(&second.stdout) == sent);
}

/// The Collector's files have lines as long as its batches.
#[test]
fn a_line_may_be_as_long_as_the_option_says() {
    let long = |length: usize| format!("{{\"kind\":\"log\",\"body\":\"{}\"}}\n", "x".repeat(length));
    let input = long(3 << 20) + &long(17 << 20) + &long(1);
    let ended = Ship::run(&["--stdout"], &input);
    assert_eq!((ended.code, ended.lines()), (Some(1), [3, 2, 1, 0, 0]));
    let ended = Ship::run(&["--stdout", "--max-line", "1KiB"], &input);
    assert_eq!((ended.code, ended.lines()), (Some(1), [3, 1, 2, 0, 0]));
}

#[test]
fn a_reader_that_leaves_ends_it_with_success() {
    let mut child = start(&[], Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(10).as_bytes()).unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with("{\"resourceLogs\""));
    // The reader is gone, and nothing more is written; stdin stays open.
    let (output, took) = end(child);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(took < Duration::from_secs(10), "{took:?}");
    drop(stdin);

    let mut child = start(&[], Stdio::piped());
    drop(child.stdout.take());
    let _ = child.stdin.take().unwrap().write_all(lines(100_000).as_bytes());
    assert_eq!(end(child).0.status.code(), Some(0));
}

#[test]
fn a_full_device_is_a_failure() {
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut child = start(&[], full);
    child.stdin.take().unwrap().write_all(lines(3).as_bytes()).unwrap();
    let (output, _) = end(child);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("No space left") && stderr.contains("3 dropped"), "{stderr}");
}

#[test]
fn a_closed_stdout_is_a_failure() {
    for command in ["tele-ship --stdout", "scrape --once", "scrape --generate schema"] {
        let (name, args) = command.split_once(' ').unwrap();
        let program = assert_cmd::cargo::cargo_bin(name);
        let mut shell = Command::new("sh");
        shell.args(["-c", &format!("exec \"$0\" {args} >&-"), program.to_str().unwrap()]);
        let mut child = shell.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It may have ended before it reads.
        let _ = child.stdin.take().unwrap().write_all(lines(3).as_bytes());
        let (output, _) = end(child);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{command}: {stderr}");
        assert!(stderr.contains("cannot write to stdout: it was closed"), "{command}: {stderr}");
    }
    // /dev/null is fine, however it was opened.
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").unwrap();
    let mut child = start(&[], null);
    child.stdin.take().unwrap().write_all(lines(3).as_bytes()).unwrap();
    assert_eq!(end(child).0.status.code(), Some(0));
}

#[test]
fn a_reader_that_has_stopped_does_not_delay_the_end() {
    let mut child = start(&["--drain", "500ms", "--stats", "50ms"], Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(20_000).as_bytes()).unwrap();
    let mut messages = BufReader::new(child.stderr.take().unwrap());
    wait_for(&mut messages, "\"read\":20000,");
    let mut stdout = child.stdout.take().unwrap();
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let (output, took) = end(child);
    let mut stderr = String::new();
    messages.read_to_string(&mut stderr).unwrap();
    assert!(took < Duration::from_secs(10) && output.status.code() == Some(1), "{took:?} {stderr}");
    let summary = stderr.lines().find(|line| line.contains("lines read")).unwrap();
    let pending: u64 =
        summary.split(" + ").find_map(|part| part.strip_suffix(" pending")?.parse().ok()).unwrap();
    let mut written = String::new();
    stdout.read_to_string(&mut written).unwrap();
    assert!(pending > 0 && summary.contains("20000 lines read") && written.len() < 1 << 20, "{stderr}");
    drop(stdin);
}

#[test]
fn a_slow_reader_is_waited_for_after_the_end_of_input() {
    let mut child = start(&["--drain", "300ms"], Stdio::piped());
    child.stdin.take().unwrap().write_all(lines(20_000).as_bytes()).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    let mut written = String::new();
    child.stdout.take().unwrap().read_to_string(&mut written).unwrap();
    assert_eq!(end(child).0.status.code(), Some(0));
    assert_eq!(written.matches("\"body\"").count(), 20_000);
}

#[cfg(feature = "sqlite")]
#[test]
fn a_reader_that_leaves_does_not_stop_other_destinations() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let mut child = start(&["--sqlite", db.to_str().unwrap()], Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(1).as_bytes()).unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    for _ in 0..10 {
        stdin.write_all(lines(10).as_bytes()).unwrap();
        std::thread::sleep(Duration::from_millis(60));
    }
    drop(stdin);
    let (output, _) = end(child);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("sqlite: 101 lines read = 101 delivered"), "{stderr}");
}

#[test]
fn ship_stats_records_match_their_schema_and_add_up() {
    let mut child = start(&["--stats", "200ms"], Stdio::piped());
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines(50).as_bytes()).unwrap();
    let mut messages = BufReader::new(child.stderr.take().unwrap());
    let mut stderr = wait_for(&mut messages, "\"delivered\":50,") + &wait_for(&mut messages, "\"read\":50,");
    stdin.write_all(b"nonsense\n").unwrap();
    drop(stdin);
    end(child);
    messages.read_to_string(&mut stderr).unwrap();
    let schema = Command::new(program!("tele-ship")).args(["--generate", "schema"]).output().unwrap();
    let mut schema: Value = serde_json::from_slice(&schema.stdout).unwrap();
    let mut schema = schema["$defs"]["ship_stats"].take();
    schema["additionalProperties"] = false.into();
    let schema = jsonschema::validator_for(&schema).unwrap();
    let records: Vec<Value> = stderr.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    assert!(records.len() >= 3, "{stderr}");
    for record in &records {
        assert!(schema.is_valid(record), "{record}");
        let sum = |names: [&str; 6]| names.iter().map(|name| record[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!(
            record["read"],
            sum(["delivered", "empty", "rejected", "dead_lettered", "pending", "dropped"])
        );
    }
    let last = records.last().unwrap();
    assert_eq!((&last["read"], &last["delivered"], &last["rejected"]), (&51.into(), &50.into(), &1.into()));
}
