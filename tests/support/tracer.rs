//! Runs a tracer: starts it, waits until it has attached, reads its records, and ends it with SIGINT.

use std::fs::File;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Tracer {
    child: Child,
    folder: TempDir,
}

impl Tracer {
    /// Starts it with an interval that does not end by itself, and waits until it has attached.
    pub fn start(program: &Path, args: &[&str]) -> Self {
        Self::start_each("1h", program, args)
    }

    /// As [`Tracer::start`], with this interval.
    pub fn start_each(interval: &str, program: &Path, args: &[&str]) -> Self {
        let mut command = Command::new(program);
        // In a new process group, so that the tracer sees what the test starts.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        Self::start_command(command, interval, args)
    }

    /// As [`Tracer::start_each`], with a command that sets the process group.
    pub fn start_command(mut command: Command, interval: &str, args: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        command.args(["--interval", interval]).args(args).stdin(Stdio::null());
        command.stdout(file("stdout")).stderr(file("stderr"));
        let mut tracer = Self { child: command.spawn().unwrap(), folder };
        tracer.wait_for(|record| record["kind"] == "status" && record["reason"] == "active");
        tracer
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The records so far.
    pub fn records(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("stdout")).unwrap();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    pub fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Waits for a record that satisfies `wanted`.
    pub fn wait_for(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            if let Some(record) = self.records().into_iter().find(&wanted) {
                return record;
            }
            assert!(self.child.try_wait().unwrap().is_none(), "it ended: {}", self.stderr());
            assert!(Instant::now() < until, "no such record in {:?}", self.records());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Sends SIGINT, as Ctrl-C does.
    pub fn interrupt(&mut self) -> ExitStatus {
        let pid = Pid::from_raw(self.child.id() as i32).unwrap();
        kill_process(pid, Signal::INT).unwrap();
        self.wait()
    }

    /// Ends it with SIGINT and returns its records. It must succeed within two seconds.
    pub fn finish(mut self) -> Vec<Value> {
        let asked = Instant::now();
        let status = self.interrupt();
        assert!(status.success(), "{status}: {}", self.stderr());
        assert!(asked.elapsed() < Duration::from_secs(2), "it took {:?} to end", asked.elapsed());
        self.records()
    }

    /// Waits for its end, and returns its exit status.
    pub fn wait(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("it does not end");
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The records of a kind.
pub fn of<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

/// The number of lost events, without those for which the kernel ran no program: some sandboxes run no eBPF programs
/// in their init.
pub fn lost(records: &[Value]) -> u64 {
    of(records, "lost").iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>() - unseen(records)
}

/// The number of switches at which the kernel ran no program.
pub fn unseen(records: &[Value]) -> u64 {
    let unseen = |record: &&&Value| record["source"].as_str().unwrap().contains("no program was run");
    let lost = of(records, "lost");
    lost.iter().filter(unseen).map(|record| record["count"].as_u64().unwrap()).sum()
}

/// Asserts that no thread of a process has a capability except those in `allowed`, or can regain one.
pub fn assert_without_rights(pid: u32, allowed: u64) {
    for task in std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
        };
        assert_eq!((field("CapEff") & !allowed, field("CapPrm") & !allowed, field("NoNewPrivs")), (0, 0, 1));
    }
}

/// The option of setpriv that leaves only the capabilities that a tracer needs. Before 5.11 one of them is
/// CAP_SYS_RESOURCE, because eBPF memory counts against RLIMIT_MEMLOCK.
pub fn needed_capabilities() -> &'static str {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    let mut numbers = release.split('.').map_while(|word| word.parse::<u32>().ok());
    let old = (numbers.next(), numbers.next()) < (Some(5), Some(11));
    if old { "--bounding-set=-all,+bpf,+perfmon,+sys_resource" } else { "--bounding-set=-all,+bpf,+perfmon" }
}

/// Serializes the tests, which count the activity of the whole machine.
static ALONE: Mutex<()> = Mutex::new(());

/// `None`, and the reason on stderr, if this cannot run here: not root, or a program is missing.
pub fn ready(programs: &[&str]) -> Option<MutexGuard<'static, ()>> {
    if !super::require_root() {
        return None;
    }
    let missing = |program: &&&str| Command::new(program).arg("--version").output().is_err();
    if let Some(program) = programs.iter().find(missing) {
        assert!(!super::in_ci(), "{program} is missing, and CI leaves no test out");
        super::skip(&format!("{program} is not installed (./scripts/setup --test)"));
        return None;
    }
    Some(ALONE.lock().unwrap_or_else(PoisonError::into_inner))
}
