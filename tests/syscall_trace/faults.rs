//! Privileges, readers that go away, usage errors, several tracers at once, and floods.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::program;
use crate::support::tracer::{assert_without_rights, lost, needed_capabilities};
use crate::workload::{comm, events, ready, run, trace};

fn tracer() -> Command {
    Command::new(program!("syscall-trace"))
}

#[test]
fn cap_bpf_and_cap_perfmon_are_enough() {
    let Some((_, _alone)) = ready() else { return };
    let mut command = Command::new("setpriv");
    command.arg(needed_capabilities()).arg(program!("syscall-trace"));
    command.args(["-n", "1", "-i", "50ms", "--stuck", "1s", "--summary"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""reason":"active""#));
}

#[test]
fn capabilities_are_dropped() {
    let Some((_, _alone)) = ready() else { return };
    let tracer = trace(&["--stuck", "1s", "--summary"]);
    // Before 5.19 CAP_PERFMON (38) and CAP_BPF (39) may have to stay.
    assert_without_rights(tracer.pid(), 1 << 38 | 1 << 39);
    tracer.finish();
}

#[test]
fn a_reader_that_goes_away_ends_it() {
    let Some((_, _alone)) = ready() else { return };
    let mut child = tracer().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(first.contains(r#""kind":"status""#), "{first}");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn usage_errors() {
    for (args, words) in [
        (&["--sys-root", "/tmp"][..], "--sys-root"),
        (&["--syscall", "opennat"], "did you mean 'openat'?"),
        (&["--except-syscall", "qqq"], "no system call is called 'qqq'"),
        (&["--no-events"], "--stuck"),
        (&["--min", "fast"], "--min"),
        (&["--cgroup", "/no/such/folder"], "--cgroup"),
    ] {
        let output = tracer().args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.starts_with("syscall-trace: ") && stderr.contains(words), "{args:?}: {stderr}");
    }
}

/// The ids of the eBPF programs that a process has descriptors of.
fn programs(pid: u32) -> BTreeSet<u32> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let infos = descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    infos
        .flat_map(|info| {
            let ids = info.lines().filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
            ids.collect::<Vec<_>>()
        })
        .collect()
}

/// The ids of all eBPF programs in the kernel.
fn loaded() -> BTreeSet<u32> {
    libbpf_rs::query::ProgInfoIter::default().map(|info| info.id).collect()
}

/// Two see the same calls, and a third that is killed leaves no program behind.
#[test]
fn several_tracers_at_once() {
    let Some((calls, _alone)) = ready() else { return };
    let [first, second] = [0, 1].map(|_| trace(&["--min", "0", "--syscall", "getppid"]));
    let killed = trace(&["--min", "0"]);
    let programs = programs(killed.pid());
    assert!(programs.len() >= 2 && programs.is_subset(&loaded()), "{programs:?}");
    drop(killed);
    let until = Instant::now() + Duration::from_secs(10);
    while !programs.is_disjoint(&loaded()) {
        assert!(Instant::now() < until, "still loaded, of {programs:?}: {:?}", loaded());
        std::thread::sleep(Duration::from_millis(20));
    }
    let (pid, _) = run(calls, &["count", "101"]);
    for records in [first.finish(), second.finish()] {
        assert_eq!(events(&records, pid, "getppid").len() as u64 + lost(&records), 101);
    }
}

/// Events that find the ring buffer full are counted as lost.
#[test]
fn written_and_lost_events_are_all_events() {
    let Some((calls, _alone)) = ready() else { return };
    let comm = comm(calls);
    let mut child = tracer();
    child.args(["--min", "0", "--syscall", "getppid", "--comm", comm]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains(r#""reason":"active""#), "{line}");
    // Nobody reads while more events occur than the buffer holds.
    run(calls, &["count", "99991"]);
    let (mut written, mut lost) = (0, 0);
    for line in reader.lines() {
        let record: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        match record["kind"].as_str() {
            Some("syscall") => written += 1,
            Some("lost") => lost += record["count"].as_u64().unwrap(),
            _ => {}
        }
        if written + lost >= 99_991 {
            break;
        }
    }
    assert_eq!(written + lost, 99_991, "{written} written, {lost} lost");
    assert!(written > 0 && lost > 0, "{written} written, {lost} lost: it was no flood");
    // Its reader has gone away.
    assert!(child.wait().unwrap().success());
}
