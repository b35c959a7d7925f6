//! The workload, which reads the clock around its own calls, and the tracer beside it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use serde_json::Value;

use crate::support::tracer::{Tracer, of};
use crate::support::{program, require_root};

/// Every way to hook into this kernel, and to keep what is in a call.
pub const WAYS: [&str; 3] = ["--attach=tp_btf", "--attach=raw_tp", "--no-task-slots"];

/// Tests one after the other: those that count know the workload by its name.
static ALONE: Mutex<()> = Mutex::new(());

/// The compiled tests/kernels/calls.c; `None`, and why on stderr, if this cannot run here.
pub fn ready() -> Option<(&'static Path, MutexGuard<'static, ()>)> {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    if !require_root() {
        return None;
    }
    let built = BUILT.get_or_init(|| {
        // The name is the run's own, and the kernel keeps 15 bytes of it.
        let binary = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("calls-{}", std::process::id()));
        let mut cc = Command::new("cc");
        cc.args(["-O2", "-pthread", "-o"]).arg(&binary).arg("tests/kernels/calls.c");
        assert!(cc.status().unwrap().success());
        binary
    });
    Some((built, ALONE.lock().unwrap_or_else(PoisonError::into_inner)))
}

/// The name that its threads have.
pub fn comm(calls: &Path) -> &str {
    calls.file_name().unwrap().to_str().unwrap()
}

/// The tracer.
pub fn trace(args: &[&str]) -> Tracer {
    Tracer::start(program!("syscall-trace"), args)
}

pub fn trace_each(interval: &str, args: &[&str]) -> Tracer {
    Tracer::start_each(interval, program!("syscall-trace"), args)
}

/// One line of the workload: how long a call took by the workload's own clock, and in which thread.
#[derive(Clone, Debug)]
pub struct Told {
    pub micros: f64,
    pub tid: u64,
}

/// Starts the workload.
pub fn start(calls: &Path, args: &[&str]) -> Child {
    Command::new(calls).args(args).stdout(Stdio::piped()).stdin(Stdio::null()).spawn().unwrap()
}

/// Waits for its end: its process, and what it told.
pub fn ended(child: Child) -> (u64, Vec<Told>) {
    let pid = u64::from(child.id());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", output.status);
    let text = String::from_utf8(output.stdout).unwrap();
    let told = text.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let [_, micros, tid] = [words.next()?, words.next()?, words.next()?];
        Some(Told { micros: micros.parse().unwrap(), tid: tid.parse().unwrap() })
    });
    (pid, told.collect())
}

pub fn run(calls: &Path, args: &[&str]) -> (u64, Vec<Told>) {
    ended(start(calls, args))
}

/// The `syscall` records of a process with that name.
pub fn events<'a>(records: &'a [Value], pid: u64, call: &str) -> Vec<&'a Value> {
    let wanted = |record: &&Value| record["pid"] == pid && record["syscall"] == call;
    of(records, "syscall").into_iter().filter(wanted).collect()
}

/// Each call of the workload as it was reported: no longer than between its own readings of the clock, and at
/// least as long as it was made to take.
pub fn agree(events: &[&Value], told: &[Told], millis: &[f64]) {
    assert_eq!(events.len(), told.len(), "{events:?} for {told:?}");
    for ((event, told), millis) in events.iter().zip(told).zip(millis) {
        let micros = event["duration_us"].as_f64().unwrap();
        // 0.1 ms for the two clocks' reading; the sleep itself may begin before the writer's.
        assert!(micros <= told.micros + 100.0, "{event}: longer than {told:?}");
        assert!(micros >= millis * 1000.0 - 100.0, "{event}: shorter than {millis} ms");
        assert_eq!(event["tid"], told.tid);
    }
}
