//! A time is reported only if both the begin and the end of the fault were seen.

use crate::counts::WAYS;
use crate::support::tracer::{lost, of, ready};
use crate::work::{Work, trace};

/// Another thread delays the page by userfaultfd.
#[test]
fn a_delayed_fault_takes_as_long_as_the_delay() {
    let Some(_alone) = ready(&["cc"]) else { return };
    for way in WAYS {
        let work = Work::held("held", 60);
        let pid = work.pid().to_string();
        let tracer = trace(&[way, &["--pid", &pid, "--min", "0"]].concat());
        let caused = work.go();
        let records = tracer.finish();
        let events = of(&records, "pagefault");
        let inside: Vec<_> = events.iter().filter(|event| caused.holds(event, 1)).collect();
        let [event] = inside[..] else { panic!("{way:?}: {inside:?}") };
        let took = event["duration_us"].as_f64().unwrap();
        assert!(took >= caused.minor as f64 && took <= caused.major as f64, "{way:?}: {event} {caused:?}");
        assert!(
            event["pid"] == pid.parse::<u32>().unwrap() && event["tid"] != event["pid"],
            "{way:?}: {event}"
        );
        assert_eq!(lost(&records), 0, "{way:?}: {records:?}");
    }
}

/// Faults that began before the tracer, in which the thread is killed, or that fail.
#[test]
fn faults_without_begin_or_end_are_not_reported() {
    let Some(_alone) = ready(&["cc"]) else { return };
    for way in WAYS {
        for (mode, count) in [("begun", 60), ("killed", 60), ("fail", 60)] {
            let work = Work::held(mode, count);
            let pid = work.pid().to_string();
            let tracer = trace(&[way, &["--pid", &pid, "--min", "0"]].concat());
            let caused = work.go();
            let records = tracer.finish();
            let events = of(&records, "pagefault");
            assert!(!events.is_empty(), "{way:?} {mode}: no other faults");
            let inside = events.iter().filter(|event| caused.holds(event, u64::from(count)));
            assert_eq!(inside.count(), 0, "{way:?} {mode}: {events:?}");
            let longest =
                events.iter().map(|event| event["duration_us"].as_f64().unwrap()).fold(0.0, f64::max);
            assert!(longest < 30_000.0, "{way:?} {mode}: {longest} us");
            assert_eq!(lost(&records), 0, "{way:?} {mode}: {records:?}");
        }
    }
}

/// A fault that failed does not end later, after the thread has left the filter by changing its name.
#[test]
fn a_failed_fault_before_a_change_of_name() {
    let Some(_alone) = ready(&["cc"]) else { return };
    for way in WAYS {
        let work = Work::held("rename", 100);
        let comm = std::fs::read_to_string(format!("/proc/{}/comm", work.pid())).unwrap();
        let tracer = trace(&[way, &["--comm", comm.trim_end(), "--min", "0"]].concat());
        let caused = work.go();
        let records = tracer.finish();
        let inside = of(&records, "pagefault").into_iter().filter(|event| caused.holds(event, 1)).count();
        assert_eq!(inside, 0, "{way:?}: {records:?}");
    }
}

/// The hash map does not fill up with faults that never end.
#[test]
fn exited_threads_are_removed_from_the_map() {
    let Some(_alone) = ready(&["cc"]) else { return };
    let first = Work::held("killed", 500);
    let comm = std::fs::read_to_string(format!("/proc/{}/comm", first.pid())).unwrap();
    let tracer = trace(&["--no-task-slots", "--comm", comm.trim_end(), "--min", "0"]);
    first.go();
    // More than the map has room for (8,192).
    for _ in 0..34 {
        Work::held("killed", 500).go();
    }
    assert_eq!(lost(&tracer.finish()), 0);
}
