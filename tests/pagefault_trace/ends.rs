//! Faults whose end is known, and those that have none: a time is told of the former only.

use crate::counts::WAYS;
use crate::support::tracer::{lost, of, ready};
use crate::work::{Work, trace};

/// Of a thread that waited for its page as long as another process let it wait.
#[test]
fn a_fault_takes_as_long_as_it_is_held_up() {
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

/// One that was under way when the tracer began; those of threads that are killed in it; those that fail.
#[test]
fn without_both_ends_no_time_is_told() {
    let Some(_alone) = ready(&["cc"]) else { return };
    for way in WAYS {
        for (mode, count) in [("begun", 60), ("killed", 60), ("fail", 60)] {
            let work = Work::held(mode, count);
            let pid = work.pid().to_string();
            let tracer = trace(&[way, &["--pid", &pid, "--min", "0"]].concat());
            let caused = work.go();
            let records = tracer.finish();
            let events = of(&records, "pagefault");
            assert!(!events.is_empty(), "{way:?} {mode}: it makes others");
            let inside = events.iter().filter(|event| caused.holds(event, u64::from(count)));
            assert_eq!(inside.count(), 0, "{way:?} {mode}: {events:?}");
            let longest =
                events.iter().map(|event| event["duration_us"].as_f64().unwrap()).fold(0.0, f64::max);
            assert!(longest < 30_000.0, "{way:?} {mode}: {longest} us");
            assert_eq!(lost(&records), 0, "{way:?} {mode}: {records:?}");
        }
    }
}

/// A thread that is no longer asked for when its next fault begins does not end the one that failed before.
#[test]
fn a_thread_that_takes_another_name() {
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

/// Where what has begun is kept in a map, it does not fill with what will never end.
#[test]
fn dead_threads_leave_nothing_behind() {
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
