//! A tracer and its reader, which counts lines and does not keep them.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread::{JoinHandle, sleep};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::support::poll;

/// The kinds of records that a tracer writes.
#[derive(Clone, Copy)]
pub struct Names {
    pub event: &'static str,
    pub summary: &'static str,
    /// The prefix of the sources of `lost` records about events.
    pub lost: &'static str,
}

/// The counts of the reader.
#[derive(Debug, Default)]
struct Counts {
    events: AtomicU64,
    lost: AtomicU64,
    /// The sum of the counts of summaries.
    counted: AtomicU64,
    lines: AtomicU64,
    active: AtomicBool,
    stopped: AtomicBool,
}

/// A running tracer.
pub struct Tracer {
    child: Child,
    folder: tempfile::TempDir,
    reader: Option<JoinHandle<()>>,
    counts: Arc<Counts>,
}

impl Tracer {
    /// Starts the tracer, and waits until it has attached.
    pub fn start(program: &Path, args: &[&str], names: Names) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let stderr = File::create(folder.path().join("stderr")).unwrap();
        let mut command = Command::new(program);
        command
            .args(args)
            .arg("--verbose")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        let mut child = command.spawn().unwrap();
        let counts = Arc::new(Counts::default());
        let (stdout, into) = (child.stdout.take().unwrap(), Arc::clone(&counts));
        let reader = Some(std::thread::spawn(move || into.read(stdout, names)));
        let tracer = Self { child, folder, reader, counts };
        let active = poll(Duration::from_secs(30), || tracer.counts.active.load(SeqCst).then_some(()));
        active.unwrap_or_else(|| panic!("{} does not attach: {}", names.event, tracer.stderr()));
        tracer
    }

    /// Lets the reader continue, or stops it.
    pub fn let_read(&self, whether: bool) {
        self.counts.stopped.store(!whether, SeqCst);
    }

    /// Written events, lost events, and the events that summaries count.
    pub fn counts(&self) -> [u64; 3] {
        let Counts { events, lost, counted, .. } = &*self.counts;
        [events, lost, counted].map(|count| count.load(SeqCst))
    }

    /// The resident memory of the tracer, in KiB.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_end_matches("kB").trim().parse().unwrap()
    }

    fn stderr(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("stderr")).unwrap()
    }

    /// Ends the tracer once there are no more events. It must succeed, and count as many records as were read.
    pub fn finish(&mut self) {
        let events = || self.counts.events.load(SeqCst);
        let mut before = events();
        let quiet = poll(Duration::from_secs(20), || {
            sleep(Duration::from_millis(500));
            let now = events();
            (now == std::mem::replace(&mut before, now)).then_some(())
        });
        assert!(quiet.is_some(), "events continue after the load");
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        self.reader.take().unwrap().join().unwrap();
        let stderr = self.stderr();
        assert!(status.success(), "{status}: {stderr}");
        // How it attached, and at the end "N records written, M lost, 0 failed in the filter".
        let written = format!(": {} records written, ", self.counts.lines.load(SeqCst));
        let last = stderr.lines().last().unwrap();
        assert!(last.contains(&written) && stderr.lines().count() == 2, "read{written}but: {stderr}");
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.let_read(true);
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Counts {
    fn read(&self, stdout: ChildStdout, names: Names) {
        let mut lines = BufReader::with_capacity(1 << 16, stdout);
        let mut line = Vec::new();
        let event = format!("\"kind\":\"{}\",", names.event);
        while lines.read_until(b'\n', &mut line).unwrap() > 0 {
            // `kind` is the second field of every line.
            if memchr::memmem::find(&line[..line.len().min(80)], event.as_bytes()).is_some() {
                self.events.fetch_add(1, SeqCst);
            } else {
                self.other(&serde_json::from_slice(&line).unwrap(), names);
            }
            self.lines.fetch_add(1, SeqCst);
            line.clear();
            while self.stopped.load(SeqCst) {
                sleep(Duration::from_millis(10));
            }
        }
    }

    fn other(&self, record: &Value, names: Names) {
        let count = || record["count"].as_u64().unwrap();
        match record["kind"].as_str().unwrap() {
            "lost" if record["source"].as_str().unwrap().starts_with(names.lost) => {
                self.lost.fetch_add(count(), SeqCst);
            }
            "status" if record["reason"] == "active" => self.active.store(true, SeqCst),
            kind if kind == names.summary => {
                self.counted.fetch_add(count(), SeqCst);
            }
            _ => {}
        }
    }
}
