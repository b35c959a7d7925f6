//! A time is reported only if both the begin and the end of the fault were seen.

use crate::counts::WAYS;
use crate::support::tracer::{lost, of, ready};
use crate::work::{Work, trace};

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
