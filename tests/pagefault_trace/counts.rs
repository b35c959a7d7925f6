//! Each fault is counted once, with its kind.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::emulated;
use crate::support::tracer::{of, ready};
use crate::work::{Work, cold_file, count, pagefault_trace, trace};

/// How long some faults are held, in milliseconds. Half of it is longer than any other fault takes, also in emulation,
/// where the whole machine can stand still.
fn held() -> u32 {
    if emulated() { 1000 } else { 60 }
}

pub const WAYS: [&[&str]; 4] = [
    &["--attach", "tp_btf"],
    &["--attach", "tp_btf", "--no-task-slots"],
    &["--attach", "raw_tp"],
    &["--attach", "raw_tp", "--no-task-slots"],
];

/// The number of events that were lost for one of these reasons.
fn lost(records: &[Value], reasons: &[&str]) -> u64 {
    let lost = of(records, "lost")
        .into_iter()
        .filter(|record| reasons.iter().any(|reason| record["source"].as_str().unwrap().contains(reason)));
    lost.map(|record| record["count"].as_u64().unwrap()).sum()
}

/// Traces one process for each kind of fault, all at once. `rest`: whether the rest of a fault that had begun before the
/// tracer is seen as a fault. `unseen`: the events that may be lost, because the kernel did not run a program for them.
fn every_kind(way: &[&str], rest: usize, unseen: &str) {
    let Some(_alone) = ready(&["cc"]) else { return };
    let now = Command::new(pagefault_trace()).args(way).args(["--duration", "1ms"]).output().unwrap();
    if !now.status.success() {
        crate::support::skip(String::from_utf8_lossy(&now.stderr).lines().next().unwrap());
        return;
    }
    // handle_mm_fault does not see the registers.
    let with_ip = rest == 0;
    let exe = Path::new("/proc/self/exe");
    let long = f64::from(held()) * 500.0;
    let modes = [
        ("write", 1009),
        ("read", 1009),
        ("kernel", 1009),
        ("execute", 211),
        ("populate", 1009), // of faults.c
        ("held", held()),
        ("begun", held()),
        ("killed", 60),
        ("fail", 60),
    ];
    let works = modes.map(|(mode, count)| match mode {
        "held" | "begun" | "killed" | "fail" => Work::held(mode, count),
        _ => Work::start(mode, count, exe),
    });
    let pids = works.each_ref().map(|work| work.pid().to_string()).join(",");
    let tracer = trace(&[way, &["--pid", &pids, "--min", "0", "--per-process"]].concat());
    let caused = works.map(Work::go);
    let records = tracer.finish();

    // In emulation, a kernel that preempts tasks in a program (7.x) skips it for other tasks meanwhile.
    let nested = "a hook inside itself";
    let skipped = if emulated() { lost(&records, &[nested]) } else { 0 };
    let unseen =
        if skipped > 0 { vec![unseen, nested, "the end of a fault was not seen"] } else { vec![unseen] };
    assert_eq!(lost(&records, &[""]), lost(&records, &unseen), "{way:?}: {records:?}");
    let events = of(&records, "pagefault");
    assert_eq!(count(&records, ["", "", ""]), events.len() as u64, "{way:?}: events and summary");
    for ((mode, pages), caused) in modes.iter().zip(&caused) {
        let own: Vec<_> = events.iter().filter(|event| event["pid"] == caused.pid).collect();
        let area = u64::from(if *mode == "execute" { 64 * pages } else { *pages });
        let inside: Vec<_> = own.iter().filter(|event| caused.holds(event, area)).collect();
        let longest = own.iter().map(|event| event["duration_us"].as_f64().unwrap()).fold(0.0, f64::max);
        let context = format!("{way:?} {mode}: {caused:?}, longest {longest} us");
        // Each process also has a few faults outside of what it measures, and `killed` those of its threads' stacks.
        assert!(own.len() - inside.len() < 30 || *mode == "killed", "{context}: {own:?}");
        let process =
            of(&records, "pagefault_process").into_iter().filter(|record| record["pid"] == caused.pid);
        let counted =
            process.flat_map(|record| ["minor", "major"].map(|field| record[field].as_u64().unwrap()));
        assert_eq!(counted.sum::<u64>(), own.len() as u64, "{context}");
        let is = |event: &Value| {
            ["major", "write", "user", "instruction"].map(|field| event[field].as_bool().unwrap())
        };
        let all = |wanted: [bool; 4]| {
            assert_eq!((caused.minor, caused.major), (u64::from(*pages), 0), "by getrusage: {context}");
            let seen = inside.len() as u64;
            assert!(seen <= caused.minor && caused.minor <= seen + skipped, "{context}: {skipped} skipped");
            assert!(
                inside.iter().all(|event| is(event) == wanted && event["tid"] == caused.pid),
                "{context}: {inside:?}"
            );
            let complete = |event: &&&&&Value| {
                event["ip"].is_string() == with_ip && event["duration_us"].as_f64() > Some(0.0)
            };
            assert_eq!(inside.iter().filter(complete).count(), inside.len(), "{context}: {inside:?}");
        };
        match *mode {
            "write" => all([false, true, true, false]),
            "read" => all([false, false, true, false]),
            "kernel" => all([false, true, false, false]),
            "execute" => {
                all([false, false, true, true]);
                assert!(
                    inside.iter().all(|event| !with_ip || event["ip"] == event["address"]),
                    "{context}: {inside:?}"
                );
            }
            // getrusage counts the pages that get_user_pages makes present, but there is no exception.
            "populate" => {
                assert_eq!((caused.minor, inside.len()), (1009, 0), "{context}: {inside:?}");
            }
            // The bounds are in the fields of getrusage.
            "held" => {
                assert!(inside.len() == 1 && inside[0]["tid"] != inside[0]["pid"], "{context}: {inside:?}");
                let took = inside[0]["duration_us"].as_f64().unwrap();
                assert!(took >= caused.minor as f64 && took <= caused.major as f64, "{context}: {took} us");
            }
            "begun" => {
                assert!(inside.len() <= rest && !own.is_empty() && longest < long, "{context}: {inside:?}")
            }
            "fail" => {
                assert!(inside.is_empty() && !own.is_empty() && longest < long, "{context}: {inside:?}")
            }
            _ => assert!(inside.is_empty() && !own.is_empty(), "{context}: {inside:?}"),
        }
    }
}

#[test]
fn with_task_slots() {
    every_kind(WAYS[0], 0, "nothing");
}

#[test]
fn with_a_map() {
    every_kind(WAYS[1], 0, "nothing");
}

#[test]
fn by_raw_tracepoints() {
    every_kind(WAYS[2], 0, "nothing");
}

#[test]
fn by_raw_tracepoints_with_a_map() {
    every_kind(WAYS[3], 0, "nothing");
}

/// handle_mm_fault is called again for the rest of a fault, on kernels with locks per memory area. Kernels that preempt
/// tasks in a program (7.x) skip it for other tasks meanwhile.
#[test]
fn by_fentry() {
    every_kind(&["--attach", "fentry"], 1, "a hook inside itself");
}

/// A kretprobe tracks fewer calls at a time than `killed` has.
#[test]
fn by_kprobe() {
    every_kind(&["--attach", "kprobe"], 1, "the end of a fault was not seen");
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
        let own = |event: &&&Value| event["address"].as_str().unwrap() >= caused.address.as_str();
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
