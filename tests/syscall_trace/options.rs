//! Filters by task and by call.

use crate::support::tracer::of;
use crate::workload::{comm, events, ready, run, start, trace};

#[test]
fn filters_by_task() {
    let Some((calls, _alone)) = ready() else { return };
    let comm = comm(calls);
    for (filter, seen) in [
        (["--comm", comm], true),
        (["--comm", "no-such-task"], false),
        (["--uid", "0"], true),
        (["--uid", "root"], true),
        (["--uid", "nobody"], false),
        (["--uid", "4242"], false),
        (["--pid", "1"], false),
    ] {
        let tracer = trace(&["--min", "0", "--syscall", "getppid", filter[0], filter[1]]);
        let (pid, _) = run(calls, &["count", "3"]);
        let records = tracer.finish();
        assert_eq!(events(&records, pid, "getppid").len(), if seen { 3 } else { 0 }, "{filter:?}");
        let own = of(&records, "syscall").iter().all(|event| event["uid"] == 0);
        assert!(own || seen, "{filter:?}");
    }
}

#[test]
fn a_process_includes_its_threads() {
    let Some((calls, _alone)) = ready() else { return };
    let mut one = start(calls, &["exec", "10"]);
    let tracer = trace(&["--waits", "--min", "0", "--pid", &one.id().to_string(), "--pid", "1"]);
    let (other, _) = run(calls, &["count", "3"]);
    one.wait().unwrap();
    let records = tracer.finish();
    let pids: Vec<_> = of(&records, "syscall").iter().map(|event| event["pid"].as_u64().unwrap()).collect();
    assert!(
        !pids.contains(&other) && pids.iter().all(|pid| *pid == u64::from(one.id()) || *pid == 1),
        "{pids:?}"
    );
}

/// By the directory and by the path in records, with a workload in a cgroup below.
#[test]
fn a_cgroup_includes_those_below() {
    let Some((calls, _alone)) = ready() else { return };
    let mounts = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
    let Some(mount) =
        mounts.into_iter().find(|at| std::path::Path::new(at).join("cgroup.controllers").exists())
    else {
        crate::support::skip("no cgroup v2 here");
        return;
    };
    let name = format!("telepipe-{}", std::process::id());
    let (upper, lower) = (format!("{mount}/{name}"), format!("{mount}/{name}/below"));
    std::fs::create_dir_all(&lower).unwrap();
    let tracers = [&upper, &format!("/{name}")].map(|path| trace(&["--min", "0", "--cgroup", path]));
    let script = format!("echo $$ > {lower}/cgroup.procs && exec {} count 5", calls.display());
    let inside =
        std::process::Command::new("sh").args(["-c", &script]).stdout(std::process::Stdio::null()).spawn();
    let mut inside = inside.unwrap();
    let pid = u64::from(inside.id());
    assert!(inside.wait().unwrap().success());
    let (outside, _) = run(calls, &["count", "5"]);
    for records in tracers.map(|tracer| tracer.finish()) {
        let seen = events(&records, pid, "getppid");
        assert_eq!((seen.len(), events(&records, outside, "getppid").len()), (5, 0));
        assert_eq!(seen[0]["cgroup"], format!("/{name}/below"), "{}", seen[0]);
    }
    let _ = std::fs::remove_dir(&lower);
    let _ = std::fs::remove_dir(&upper);
}

#[test]
fn filters_by_call() {
    let Some((calls, _alone)) = ready() else { return };
    let tracer = trace(&["--min", "0", "--syscall", "getppid,close"]);
    let (pid, _) = run(calls, &["count", "3"]);
    let records = tracer.finish();
    assert_eq!(events(&records, pid, "getppid").len(), 3);
    let failed: Vec<_> =
        events(&records, pid, "close").into_iter().filter(|event| event["ret"] == -9).collect();
    assert_eq!(failed.len(), 3);
    assert!(failed.iter().all(|event| event["error"] == "EBADF"));
    let all = of(&records, "syscall");
    assert!(all.iter().all(|event| event["syscall"] == "getppid" || event["syscall"] == "close"));

    let tracer = trace(&["--min", "0", "--except-syscall", "getppid", "--comm", comm(calls)]);
    let (pid, _) = run(calls, &["count", "3"]);
    let records = tracer.finish();
    assert_eq!(events(&records, pid, "getppid").len(), 0);
    assert!(events(&records, pid, "close").len() >= 3);
}
