//! Filters, privileges and usage errors.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use crate::support::tracer::{Tracer, assert_without_rights, needed_capabilities, of, ready};
use crate::work::{Work, count, pagefault_trace, trace};

#[test]
fn filters_by_task() {
    let Some(_alone) = ready(&["cc"]) else { return };
    let name = format!("faults-{}", std::process::id());
    for (filter, wanted) in [
        (&["--comm", &name, "--uid", "0"][..], true),
        (&["--comm", "no-such-task"], false),
        (&["--uid", "4242"], false),
        (&["--pid", "1,1"], false),
    ] {
        for storage in [&[][..], &["--no-task-slots"]] {
            let work = Work::start("write", 500, Path::new("/proc/self/exe"));
            let tracer = trace(&[filter, storage].concat());
            work.go();
            let records = tracer.finish();
            assert_eq!(count(&records, ["minor", "write", "user"]) >= 500, wanted, "{filter:?}");
        }
    }
}

/// The processes that spent most time on faults, in that order.
#[test]
fn top_limits_the_processes() {
    let Some(_alone) = ready(&["cc"]) else { return };
    let works = [11, 4001, 331].map(|pages| Work::start("write", pages, Path::new("/proc/self/exe")));
    let [_, most, second] = [0, 1, 2].map(|i| u64::from(works[i].pid()));
    let pids = works.iter().map(|work| work.pid().to_string()).collect::<Vec<_>>().join(",");
    let tracer = trace(&["--pid", &pids, "--per-process", "--top", "2", "--no-events", "--no-summary"]);
    for work in works {
        work.go();
    }
    let records = tracer.finish();
    let reported = of(&records, "pagefault_process");
    let reported: Vec<_> = reported.into_iter().map(|record| record["pid"].as_u64().unwrap()).collect();
    assert_eq!(reported, [most, second], "{records:?}");
    assert!(of(&records, "pagefault").is_empty() && of(&records, "pagefault_summary").is_empty());
}

#[test]
fn capabilities_are_dropped() {
    let Some(_alone) = ready(&["setpriv"]) else { return };
    // With --resolve, CAP_SYS_PTRACE (19) stays.
    for (more, allowed) in [(&[][..], 0), (&["--resolve"], 1 << 19)] {
        let mut command = Command::new("setpriv");
        let needed = format!("{},+sys_ptrace", needed_capabilities());
        command.arg(needed).arg(pagefault_trace());
        command.process_group(0);
        let tracer = Tracer::start_command(command, "1h", more);
        assert_without_rights(tracer.pid(), allowed);
        tracer.finish();
    }
}

#[test]
fn usage_errors() {
    for (args, words) in [
        (&["--sys-root", "/tmp"][..], "--sys-root"),
        (&["--cgroup", "/no/such/folder"], "--cgroup"),
        (&["--top", "3"], "--per-process"),
        (&["--per-process", "--top", "0"], "--top"),
        (&["--no-events", "--no-summary"], "--per-process"),
    ] {
        let output = Command::new(pagefault_trace()).args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.starts_with("pagefault-trace: ") && stderr.contains(words), "{args:?}: {stderr}");
    }
}
