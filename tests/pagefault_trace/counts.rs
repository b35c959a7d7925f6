//! Each fault is counted once, with its kind.

use std::path::Path;

use crate::support::tracer::{lost, of, ready};
use crate::work::{Work, cold_file, count, trace};

pub const WAYS: [&[&str]; 4] = [
    &["--attach", "tp_btf"],
    &["--attach", "tp_btf", "--no-task-slots"],
    &["--attach", "raw_tp"],
    &["--attach", "raw_tp", "--no-task-slots"],
];

/// Asserts that as many minor faults of a kind are reported as getrusage counts.
fn minor(mode: &str, access: &str, by: &str) {
    let Some(_alone) = ready(&["cc"]) else { return };
    for way in WAYS {
        let work = Work::start(mode, 1009, Path::new("/proc/self/exe"));
        let pid = work.pid().to_string();
        let tracer = trace(&[way, &["--pid", &pid, "--min", "0", "--per-process"]].concat());
        let caused = work.go();
        let records = tracer.finish();
        assert_eq!((caused.minor, caused.major), (1009, 0), "{mode}: {caused:?}");
        assert_eq!(lost(&records), 0, "{records:?}");
        // The process also has a few faults outside of what it measures.
        let events = of(&records, "pagefault");
        let inside: Vec<_> = events.iter().filter(|event| caused.holds(event, 1009)).collect();
        assert_eq!(inside.len() as u64, caused.minor, "{mode} {way:?}");
        for event in &inside {
            let is = ["major", "write", "user", "instruction"].map(|field| event[field].as_bool().unwrap());
            assert_eq!(is, [false, access == "write", by == "user", false], "{mode} {way:?}: {event}");
            assert!(
                event["pid"] == caused.pid && event["tid"] == caused.pid && event["ip"].is_string(),
                "{event}"
            );
            assert!(event["duration_us"].as_f64().unwrap() > 0.0, "{event}");
        }
        let rest = events.len() as u64 - caused.minor;
        assert!(rest < 30, "{mode} {way:?}: {rest} others");
        let summed = count(&records, ["", "", ""]);
        assert_eq!(summed, events.len() as u64, "{mode} {way:?}: events and summary");
        let kind = count(&records, ["minor", access, by]);
        assert!(kind >= caused.minor && kind <= caused.minor + rest, "{mode} {way:?}: {kind}");
        let process = of(&records, "pagefault_process");
        assert_eq!((process.len(), &process[0]["pid"]), (1, &caused.pid.into()), "{process:?}");
        assert_eq!(process[0]["minor"].as_u64().unwrap() + process[0]["major"].as_u64().unwrap(), summed);
    }
}

#[test]
fn writes_by_user_code() {
    minor("write", "write", "user");
}

#[test]
fn reads_by_user_code() {
    minor("read", "read", "user");
}

#[test]
fn writes_by_the_kernel() {
    minor("kernel", "write", "kernel");
}

/// Such a fault has the instruction's own address.
#[test]
fn instruction_fetches() {
    let Some(_alone) = ready(&["cc"]) else { return };
    for way in WAYS {
        let work = Work::start("execute", 211, Path::new("/proc/self/exe"));
        let pid = work.pid().to_string();
        let tracer = trace(&[way, &["--pid", &pid, "--min", "0"]].concat());
        let caused = work.go();
        let records = tracer.finish();
        assert_eq!((caused.minor, caused.major), (211, 0), "{caused:?}");
        let events = of(&records, "pagefault");
        let inside: Vec<_> = events.iter().filter(|event| caused.holds(event, 64 * 211)).collect();
        assert_eq!(inside.len(), 211, "{way:?}");
        for event in inside {
            let is = ["major", "write", "user", "instruction"].map(|field| event[field].as_bool().unwrap());
            assert_eq!((is, &event["ip"]), ([false, false, true, true], &event["address"]), "{event}");
        }
    }
}

#[test]
fn major_faults_with_file_and_offset() {
    let Some(_alone) = ready(&["cc"]) else { return };
    for way in WAYS {
        let (_folder, file) = cold_file(101);
        let work = Work::start("file", 101, &file);
        let pid = work.pid().to_string();
        let tracer = trace(&[way, &["--pid", &pid, "--resolve", "--min", "10s"]].concat());
        let caused = work.go();
        let records = tracer.finish();
        let events = of(&records, "pagefault");
        let own = |event: &&&serde_json::Value| event["address"].as_str().unwrap() >= caused.address.as_str();
        let inside: Vec<_> = events.iter().filter(own).collect();
        // Pages that the file system read ahead are minor faults for both.
        assert_eq!(inside.len() as u64, caused.major, "{way:?}: {caused:?}");
        assert!(caused.major > 50, "the file was in memory: {caused:?}");
        assert_eq!(caused.minor + caused.major, 101, "{caused:?}");
        assert_eq!(count(&records, ["major", "read", "user"]), events.len() as u64, "{way:?}");
        for event in &inside {
            assert_eq!(
                (&event["major"], &event["write"], &event["user"]),
                (&true.into(), &false.into(), &true.into())
            );
            assert_eq!(event["mapping"], file.to_str().unwrap(), "{event}");
            let at = |text: &str| u64::from_str_radix(&text[2..], 16).unwrap();
            let offset = at(event["address"].as_str().unwrap()) - at(&caused.address);
            assert_eq!(event["mapping_offset"], offset, "{event}");
        }
    }
}

/// getrusage counts the pages that get_user_pages makes present, but there is no exception.
#[test]
fn populated_pages_are_not_faults() {
    let Some(_alone) = ready(&["cc"]) else { return };
    let work = Work::start("populate", 1009, Path::new("/proc/self/exe"));
    let pid = work.pid().to_string();
    let tracer = trace(&["--pid", &pid, "--min", "0"]);
    let caused = work.go();
    let records = tracer.finish();
    assert_eq!(caused.minor, 1009, "getrusage counts them: {caused:?}");
    let events = of(&records, "pagefault").len() as u64;
    assert!(events < 30 && count(&records, ["", "", ""]) == events, "{events} events");
}
