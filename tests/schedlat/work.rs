//! Processes of known behaviour on one CPU, and the kernel's counts for them.

use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{CpuSet, sched_setaffinity};
use serde_json::Value;

use crate::support::tracer::Tracer;

/// Uses all the CPU time that it gets.
pub const SPIN: &str = "1 while 1";
/// Sleeps for 2 ms at a time.
pub const SLEEP: &str = "select(undef, undef, undef, 0.002) while 1";

/// A Perl program that is pinned to a CPU from its start.
pub struct Work(Child);

impl Work {
    pub fn start(cpu: usize, program: &str) -> Self {
        let mut command = Command::new("taskset");
        command.args(["-c", &cpu.to_string(), "perl", "-MTime::HiRes", "-e", program]).process_group(0);
        Self(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap())
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.0), signal).unwrap();
    }

    /// Stops it, so that its counts no longer change.
    pub fn stop(&self) {
        self.signal(Signal::STOP);
        self.stopped();
    }

    /// Waits until it has stopped, by itself or as asked.
    pub fn stopped(&self) {
        let stopped = || self.status("State").starts_with('T').then_some(());
        crate::support::poll(Duration::from_secs(30), stopped).unwrap();
        // It has that state before it leaves the CPU.
        std::thread::sleep(Duration::from_millis(50));
    }

    /// Its output until it ends.
    pub fn output(mut self) -> String {
        std::io::read_to_string(self.0.stdout.take().unwrap()).unwrap()
    }

    fn status(&self, field: &str) -> String {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap().trim().to_owned()
    }

    /// Voluntary and involuntary switches, as the kernel counts them.
    pub fn switches(&self) -> [u64; 2] {
        ["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"]
            .map(|name| self.status(name).parse().unwrap())
    }

    /// Waits until it has slept so many times more.
    pub fn goes_on(&self, times: u64) {
        let until = self.switches()[0] + times;
        let there = || (self.switches()[0] >= until).then_some(());
        crate::support::poll(Duration::from_secs(30), there).unwrap();
    }

    /// The kernel's count of moves to another CPU; `None` if this kernel has none.
    pub fn migrations(&self) -> Option<u64> {
        let text = std::fs::read_to_string(format!("/proc/{}/sched", self.pid())).ok()?;
        let line = text.lines().find(|line| line.starts_with("se.nr_migrations"))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Pins it to that CPU.
    pub fn pin(&self, cpu: usize) {
        let mut only = CpuSet::new();
        only.set(cpu);
        sched_setaffinity(Some(Pid::from_child(&self.0)), &only).unwrap();
    }

    /// CPU time and time waited for a CPU in nanoseconds, and the number of time slices, as the kernel counts them.
    pub fn schedstat(&self) -> [u64; 3] {
        let text = std::fs::read_to_string(format!("/proc/{}/schedstat", self.pid())).unwrap();
        let fields: Vec<_> = text.split_whitespace().map(|word| word.parse().unwrap()).collect();
        [fields[0], fields[1], fields[2]]
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The last CPU that this process may use.
pub fn last_cpu() -> usize {
    let may = rustix::thread::sched_getaffinity(None).unwrap();
    (0..CpuSet::MAX_CPU).rev().find(|cpu| may.is_set(*cpu)).unwrap()
}

pub fn schedlat() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_schedlat"))
}

pub fn trace(interval: &str, args: &[&str]) -> Tracer {
    Tracer::start_each(interval, schedlat(), args)
}

/// A field of the `sched` records of a process, summed.
pub fn total(records: &[Value], pid: u32, field: &str) -> f64 {
    let own = records.iter().filter(|record| record["kind"] == "sched" && record["pid"] == pid);
    own.map(|record| record[field].as_f64().unwrap()).sum()
}
