//! A tracer leaves out itself and the processes that read its output, and nothing else.

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use telepipe::common::time::Timestamp;

use crate::support::program;
use crate::support::tracer::{Tracer, assert_without_rights, of, ready};
use crate::tracers;
use crate::workload::{assert_seen, everything, workload_in};

/// A script and all that it starts, including the tracer, are one process group, so the group is not left out.
#[test]
fn the_process_group_of_the_tracer_is_traced() {
    let Some(_alone) = ready(&["perl"]) else { return };
    for (name, path) in tracers() {
        let comm = format!("group-{}", std::process::id());
        let tracer = Tracer::start(path, &[&["--comm", &comm], everything(name)].concat());
        let pid = workload_in(tracer.pid() as i32, &comm);
        assert_seen(name, &tracer.finish(), pid);
    }
}

/// The results of a pipeline.
struct Ran {
    /// Events that came through the pipeline.
    records: Vec<Value>,
    /// The processes of the pipeline, with the start time of each.
    stages: Vec<(u64, Timestamp)>,
    workload: u64,
}

/// Runs a pipeline in a script, next to a process that calls getppid 997 times a second for 4 s. In the pipeline,
/// `stage` runs a program and records its process ID; the pipeline must write the events to the file `events`.
fn pipeline(line: &str) -> Ran {
    let folder = tempfile::tempdir().unwrap();
    let bin = program!("syscall-trace").parent().unwrap();
    let script = format!(
        r#"stage() {{ echo "$BASHPID $(date +%FT%T.%NZ)" >>stages; exec "$@"; }}
        trace() {{ stage syscall-trace --min 0 --no-summary --waits --syscall read,write,getppid,close "$@"; }}
        perl -e 'for (1..4) {{ select(undef, undef, undef, 0.5); getppid() for 1..997; select(undef, undef, undef, 0.5) }}' &
        echo $! >workload
        events=events
        {line}
        wait"#
    );
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("bash");
    command.args(["-c", &script]).current_dir(folder.path()).env("PATH", path).env("TZ", "UTC");
    // One process group, as for any script, and a stdout that nobody reads.
    let status = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
    assert!(status.success(), "{status}");
    let text = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
    let stages = text("stages")
        .lines()
        .map(|line| {
            let (pid, began) = line.split_once(' ').unwrap();
            (pid.parse().unwrap(), began.parse().unwrap())
        })
        .collect();
    let events = text("events");
    let records = events.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    Ran { records, stages, workload: text("workload").trim().parse().unwrap() }
}

impl Ran {
    fn events_of(&self, pid: u64) -> Vec<&Value> {
        of(&self.records, "syscall").into_iter().filter(|event| event["pid"] == pid).collect()
    }
}

#[test]
fn a_pipeline_does_not_trace_itself() {
    let Some(_alone) = ready(&["perl", "jq", "bash"]) else { return };
    let ran = pipeline(
        "trace --duration 4s | stage tee events | stage jq -c . | stage tele-ship --stdout >/dev/null",
    );
    assert_eq!(ran.stages.len(), 4);
    for (pid, _) in &ran.stages {
        assert_eq!(ran.events_of(*pid), Vec::<&Value>::new());
    }
    // The workload and the tracer start together, so the tracer may miss some of the four rounds while it loads.
    let calls = ran.events_of(ran.workload).into_iter().filter(|event| event["syscall"] == "getppid").count();
    assert!(calls >= 997, "{calls} calls");
}

/// `timeout` puts itself and the tracer into a new process group.
#[test]
fn a_pipeline_of_several_groups_does_not_trace_itself() {
    let Some(_alone) = ready(&["perl", "jq", "bash"]) else { return };
    let ran = pipeline(
        "timeout 4 syscall-trace --min 0 --no-summary --waits --syscall read,write,getppid \
         | stage tee events | stage jq -c . | stage tele-ship --stdout >/dev/null",
    );
    assert_eq!(ran.stages.len(), 3);
    for (pid, _) in &ran.stages {
        assert_eq!(ran.events_of(*pid), Vec::<&Value>::new());
    }
    assert!(ran.events_of(ran.workload).len() >= 997);
}

/// A process that joins the pipeline while the tracer runs is found within a second.
#[test]
fn a_pipeline_built_late_does_not_trace_itself() {
    let Some(_alone) = ready(&["perl", "jq", "bash"]) else { return };
    let ran = pipeline(
        "trace --duration 5s | { sleep 1; stage tee >(sleep 0.5; stage jq -c . >/dev/null) events >/dev/null; }",
    );
    assert_eq!(ran.stages.len(), 3);
    let found = Duration::from_secs(2).as_nanos() as u64;
    for (pid, began) in &ran.stages {
        let late: Vec<_> = ran
            .events_of(*pid)
            .into_iter()
            .filter(|event| event["ts"].as_str().unwrap().parse::<Timestamp>().unwrap().0 > began.0 + found)
            .collect();
        assert!(late.is_empty(), "{pid} since {began:?}: {late:?}");
    }
    let pids: HashSet<_> = ran.records.iter().filter_map(|event| event["pid"].as_u64()).collect();
    assert!(pids.contains(&ran.workload), "{pids:?}");
}

/// Runs a tracer with its stdout piped to `cat`. Calls `during` with the process IDs of both once the tracer has
/// attached; returns stdout and stderr.
fn read_by_cat(
    path: &Path,
    args: impl FnOnce(u32) -> Vec<String>,
    during: impl FnOnce(u32, u32),
) -> (String, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let mut cat = Command::new("cat");
    cat.stdin(Stdio::piped()).stdout(File::create(file("stdout")).unwrap());
    let mut cat = cat.spawn().unwrap();
    let mut command = Command::new(path);
    command
        .args(args(cat.id()))
        .stdout(cat.stdin.take().unwrap())
        .stderr(File::create(file("stderr")).unwrap());
    let mut tracer = command.spawn().unwrap();
    drop(command);
    let text = |name: &str| std::fs::read_to_string(file(name)).unwrap();
    crate::support::poll(Duration::from_secs(30), || text("stdout").contains("\"active\"").then_some(()))
        .unwrap();
    during(tracer.id(), cat.id());
    let _ = kill_process(Pid::from_child(&tracer), Signal::INT);
    assert!(tracer.wait().unwrap().success(), "{}", text("stderr"));
    assert!(cat.wait().unwrap().success());
    (text("stdout"), text("stderr"))
}

/// `--pid` with a process that is left out causes one warning.
#[test]
fn pid_of_a_process_that_reads_the_output() {
    let Some(_alone) = ready(&["cat", "sleep"]) else { return };
    let mut other = Command::new("sleep").arg("60").spawn().unwrap();
    for (name, path) in tracers() {
        for (more, of_cat, warnings) in [(None, true, 1), (None, false, 0), (Some("--include-self"), true, 0)]
        {
            let args = |cat: u32| {
                let pid = if of_cat { cat } else { other.id() }.to_string();
                ["-n", "3", "-i", "400ms", "--pid", &pid].into_iter().chain(more).map(str::to_owned).collect()
            };
            let (_, stderr) = read_by_cat(path, args, |_, _| {
                std::thread::sleep(Duration::from_millis(800));
            });
            assert_eq!(stderr.matches("--pid").count(), warnings, "{name} {more:?} {of_cat}: {stderr}");
        }
    }
    other.kill().unwrap();
    other.wait().unwrap();
}

/// The tracer looks for readers of its output while it runs, but drops its privileges. Before 5.19 it keeps CAP_BPF,
/// without which these kernels refuse iterators.
#[test]
fn privileges_are_dropped_if_output_is_piped() {
    let Some(_alone) = ready(&["cat"]) else { return };
    const CAP_BPF: u64 = 1 << 39;
    for (name, path) in tracers() {
        let args = |_| everything(name).iter().map(|word| (*word).to_owned()).collect();
        read_by_cat(path, args, |tracer, _| assert_without_rights(tracer, CAP_BPF));
    }
}
