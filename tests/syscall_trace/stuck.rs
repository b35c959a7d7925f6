//! Calls that do not return.

use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, FileType, Mode, mknodat};
use serde_json::Value;
use telepipe::common::time::Timestamp;

use crate::support::tracer::of;
use crate::workload::{WAYS, comm, events, ready, run, start, trace_each};

fn fifo(folder: &Path) -> String {
    let path = folder.join("fifo");
    mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    path.to_str().unwrap().to_owned()
}

fn opened(record: &Value, pid: u32) -> bool {
    record["kind"] == "syscall_stuck" && record["pid"] == pid && record["syscall"] == "openat"
}

/// The number and arguments of the call that a process is in, from /proc.
fn in_proc(pid: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap();
    text.split_whitespace().take(7).map(str::to_owned).collect()
}

fn called(record: &Value) -> Vec<String> {
    let args = record["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap().to_owned());
    std::iter::once(record["nr"].to_string()).chain(args).collect()
}

#[test]
fn an_open_that_never_returns_is_stuck() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let folder = tempfile::tempdir().unwrap();
        let path = fifo(folder.path());
        let mut tracer = trace_each("100ms", &["--stuck", "300ms", "--min", "0", way, "--comm", comm(calls)]);
        let mut workload = start(calls, &["fifo", &path]);
        let pid = workload.id();
        let first = tracer.wait_for(|record| opened(record, pid));
        tracer.wait_for(|record| opened(record, pid) && record["ts"] != first["ts"]);
        // For this tracer the call began before the start.
        let mut later = trace_each("100ms", &["--stuck", "300ms", way]);
        let known = later.wait_for(|record| opened(record, pid));
        let elapsed = first["elapsed_us"].as_f64().unwrap();
        assert!((300_000.0..5e6).contains(&elapsed) && first["begin_ts"].is_string(), "{first}");
        assert_eq!((&first["state"], &first["class"]), (&"S".into(), &"file".into()), "{first}");
        let seen = known["at_least_us"].as_f64().unwrap();
        assert!((300_000.0..5e6).contains(&seen), "{known}");
        assert!(known.get("begin_ts").is_none() && known.get("elapsed_us").is_none(), "{known}");
        for record in [&first, &known] {
            assert_eq!(called(record), in_proc(pid), "{way}: {record}");
        }
        workload.kill().unwrap();
        workload.wait().unwrap();
        let killed = Timestamp::now().to_string();
        std::thread::sleep(Duration::from_millis(300));
        for records in [tracer.finish(), later.finish()] {
            // It never returned. The openat calls of the dynamic loader did.
            let finished = events(&records, pid.into(), "openat");
            let slow = finished.iter().filter(|event| event["duration_us"].as_f64().unwrap() >= 300_000.0);
            assert_eq!(
                slow.filter(|event| event["ret"].as_i64().unwrap() >= 0).count(),
                0,
                "{way}: {finished:?}"
            );
            let stuck = records.iter().rfind(|record| opened(record, pid)).unwrap();
            assert!(stuck["ts"].as_str().unwrap() < killed.as_str(), "after its end: {stuck}");
        }
    }
}

/// A shell that waits for its child is not stuck.
#[test]
fn waits_are_not_stuck_without_an_option() {
    let Some((calls, _alone)) = ready() else { return };
    let mut quiet = trace_each("100ms", &["--stuck", "200ms", "--no-events"]);
    let mut all = trace_each("100ms", &["--stuck", "200ms", "--no-events", "--waits"]);
    let mut workload = start(calls, &["sleep", "60000"]);
    let pid = workload.id();
    let sleeps = |record: &Value| record["kind"] == "syscall_stuck" && record["pid"] == pid;
    let record = all.wait_for(sleeps);
    assert_eq!((&record["syscall"], &record["class"]), (&"nanosleep".into(), &"wait".into()), "{record}");
    workload.kill().unwrap();
    workload.wait().unwrap();
    let stderr_of_all = all.stderr();
    assert!(all.finish().iter().all(|record| record["kind"] != "syscall"));
    quiet.wait_for(|record| record["kind"] == "status");
    assert!(quiet.stderr().contains("--waits") && !stderr_of_all.contains("--waits"), "{}", quiet.stderr());
    assert!(!quiet.finish().iter().any(sleeps));
}

/// Such a call neither returns nor is it reported as stuck.
#[test]
fn a_call_ends_with_its_thread() {
    let Some((calls, _alone)) = ready() else { return };
    for way in WAYS {
        let tracer = trace_each("50ms", &["--stuck", "400ms", "--waits", "--min", "1ms", way]);
        let (pid, _) = run(calls, &["leave", "100"]);
        std::thread::sleep(Duration::from_millis(700));
        let records = tracer.finish();
        for record in records.iter().filter(|record| record["pid"] == pid) {
            assert_eq!(record["kind"], "syscall", "{way}: {record}");
            // The sleep of 100 s may return early when its thread is killed.
            assert!(record["duration_us"].as_f64().unwrap() < 5e6, "{way}: {record}");
        }
        // The main thread's sleep of 100 ms was seen.
        assert!(!of(&records, "syscall").is_empty());
    }
}
