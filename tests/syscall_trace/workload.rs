//! The workload, which measures its own calls, and the tracer that runs with it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;

use crate::support::tracer::{Tracer, of};
use crate::support::{program, require_root};

/// The ways to attach to this kernel, and to store the calls in progress.
pub const WAYS: [&str; 3] = ["--attach=tp_btf", "--attach=raw_tp", "--no-task-slots"];

/// Runs one test at a time: tests that count find the workload by its name.
static ALONE: Mutex<()> = Mutex::new(());

/// The compiled tests/kernels/calls.c; `None`, with the reason on stderr, if the test cannot run here.
pub fn ready() -> Option<(&'static Path, MutexGuard<'static, ()>)> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if !require_root() {
        return None;
    }
    let built = BUILT.get_or_init(|| {
        // Unique for this run, within the 15 bytes that the kernel keeps.
        let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("calls-{}", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-pthread", "-o"]).arg(&binary).arg("tests/kernels/calls.c");
        assert!(cc.status().unwrap().success());
        binary
    });
    Some((built, ALONE.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The name of its threads.
pub fn comm(calls: &Path) -> &str {
    calls.file_name().unwrap().to_str().unwrap()
}

/// Starts the tracer with one interval that does not end.
pub fn trace(args: &[&str]) -> Tracer {
    Tracer::start(program!("syscall-trace"), args)
}

/// Starts the tracer with intervals of that length.
pub fn trace_each(interval: &str, args: &[&str]) -> Tracer {
    Tracer::start_each(interval, program!("syscall-trace"), args)
}

/// A line of the workload's output: the time of a call, and its thread.
#[derive(Clone, Debug)]
pub struct Measured {
    pub micros: f64,
    pub tid: u64,
}

/// Starts the workload.
pub fn start(calls: &Path, args: &[&str]) -> Child {
    Command::new(calls).args(args).stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

/// Waits for the workload to end; returns its process and what it measured.
pub fn ended(child: Child) -> (u64, Vec<Measured>) {
    let pid = u64::from(child.id());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let measured = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let [_, micros, tid] = [words.next()?, words.next()?, words.next()?];
        Some(Measured { micros: micros.parse().unwrap(), tid: tid.parse().unwrap() })
    });
    (pid, measured.collect())
}

pub fn run(calls: &Path, args: &[&str]) -> (u64, Vec<Measured>) {
    ended(start(calls, args))
}

/// The `syscall` records of a process and a call.
pub fn events<'a>(records: &'a [Value], pid: u64, call: &str) -> Vec<&'a Value> {
    let wanted = |record: &&Value| record["pid"] == pid && record["syscall"] == call;
    of(records, "syscall").into_iter().filter(wanted).collect()
}

/// Asserts that each call was reported with a time no longer than the workload measured around it, and no
/// shorter than the workload made it take.
pub fn agree(events: &[&Value], measured: &[Measured], millis: &[f64]) {
    assert_eq!(events.len(), measured.len(), "{events:?} for {measured:?}");
    for ((event, measured), millis) in events.iter().zip(measured).zip(millis) {
        let micros = event["duration_us"].as_f64().unwrap();
        // 0.1 ms because a sleep may begin before the other process's.
        assert!(micros <= measured.micros + 100.0, "{event}: longer than {measured:?}");
        assert!(micros >= millis * 1000.0 - 100.0, "{event}: shorter than {millis} ms");
        assert_eq!(event["tid"], measured.tid);
    }
}
