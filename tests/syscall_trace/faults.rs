//! What goes wrong: missing rights, readers that leave, wrong calls; and several at once.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::program;
use crate::support::tracer::lost;
use crate::workload::{comm, events, ready, run, trace, trace_each};

fn tracer() -> Command {
    Command::new(program!("syscall-trace"))
}

#[test]
fn only_the_rights_that_it_needs() {
    let Some((_, _alone)) = ready() else { return };
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-all,+bpf,+perfmon"]).arg(program!("syscall-trace"));
    command.args(["-n", "1", "-i", "50ms", "--stuck", "1s", "--summary"]);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""reason":"active""#));
}

#[test]
fn rights_are_given_up() {
    let Some((_, _alone)) = ready() else { return };
    let running = trace_each("50ms", &["--stuck", "1s", "--summary"]);
    std::thread::sleep(Duration::from_millis(200));
    for task in std::fs::read_dir(format!("/proc/{}/task", running.pid())).unwrap().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
        };
        // Before 5.19 CAP_BPF (39) and CAP_PERFMON (38) may have to stay.
        let needed = 1 << 38 | 1 << 39;
        assert_eq!((field("CapEff") & !needed, field("CapPrm") & !needed, field("NoNewPrivs")), (0, 0, 1));
    }
    running.finish();
}

#[test]
fn a_reader_that_leaves() {
    let Some((_, _alone)) = ready() else { return };
    let mut child = tracer().stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(first.contains(r#""kind":"status""#), "{first}");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn mistakes_in_the_call() {
    for (args, words) in [
        (&["--sys-root", "/tmp"][..], "--sys-root"),
        (&["--syscall", "opennat"], "did you mean 'openat'?"),
        (&["--except-syscall", "qqq"], "no system call is called 'qqq'"),
        (&["--no-events"], "--stuck"),
        (&["--min", "fast"], "--min"),
        (&["--cgroup", "/no/such/folder"], "--cgroup"),
    ] {
        let output = tracer().args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {said}");
        assert!(said.starts_with("syscall-trace: ") && said.contains(words), "{args:?}: {said}");
    }
}

/// The ids of the programs that a process holds, as the kernel tells of its descriptors.
fn programs(pid: u32) -> BTreeSet<u32> {
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let told = descriptors.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    told.flat_map(|told| {
        let ids = told.lines().filter_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
        ids.collect::<Vec<_>>()
    })
    .collect()
}

/// The ids of all programs in the kernel.
fn loaded() -> BTreeSet<u32> {
    libbpf_rs::query::ProgInfoIter::default().map(|info| info.id).collect()
}

/// Two at once see the same; what one that is killed had attached is gone with it.
#[test]
fn several_at_once() {
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

/// What does not fit in the ring buffer is counted: told and lost are all there were.
#[test]
fn a_flood_is_counted() {
    let Some((calls, _alone)) = ready() else { return };
    let comm = comm(calls);
    let mut child = tracer();
    // Its own group is left out; this test's is to be seen.
    std::os::unix::process::CommandExt::process_group(&mut child, 0);
    child.args(["--min", "0", "--syscall", "getppid", "--comm", comm]);
    let mut child = child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    reader.read_line(&mut line).unwrap();
    assert!(line.contains(r#""reason":"active""#), "{line}");
    // Nobody reads while more come than the buffer holds.
    run(calls, &["count", "99991"]);
    let (mut told, mut lost) = (0, 0);
    for line in reader.lines() {
        let record: serde_json::Value = serde_json::from_str(&line.unwrap()).unwrap();
        match record["kind"].as_str() {
            Some("syscall") => told += 1,
            Some("lost") => lost += record["count"].as_u64().unwrap(),
            _ => {}
        }
        if told + lost >= 99_991 {
            break;
        }
    }
    assert_eq!(told + lost, 99_991, "{told} told, {lost} lost");
    assert!(told > 0 && lost > 0, "{told} told, {lost} lost: it was no flood");
    // Its reader has left.
    assert!(child.wait().unwrap().success());
}
