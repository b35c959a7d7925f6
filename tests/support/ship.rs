//! A `tele-ship` that runs: feeds it lines, sends it signals, and takes its accounts apart.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::poll;

/// No run of a test lasts longer.
const LIMIT: Duration = Duration::from_secs(90);

/// A running program; killed when dropped.
pub struct Ship {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Option<JoinHandle<Vec<u8>>>,
    stderr: Option<JoinHandle<Vec<u8>>>,
}

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` if a signal killed it.
    pub code: Option<i32>,
    /// What it wrote.
    pub stdout: Vec<u8>,
    /// What it said, less the records.
    pub stderr: String,
    /// Every `ship_stats` record.
    pub records: Vec<Value>,
    /// The last one of each sink.
    pub stats: Vec<Value>,
}

impl Ship {
    /// Starts one with these arguments and, unless they have it, `--stats`, in an environment without OTEL variables and proxies.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// The same, with these variables.
    pub fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tele-ship"));
        let foreign = |name: &str| name.starts_with("OTEL_") || name.to_lowercase().ends_with("_proxy");
        for (name, _) in std::env::vars().filter(|(name, _)| foreign(name)) {
            command.env_remove(name);
        }
        command.args(args).envs(variables.iter().copied());
        if !args.contains(&"--stats") {
            command.args(["--stats", "1h"]);
        }
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("tele-ship starts");
        let (stdout, stderr) = (child.stdout.take().map(drain), child.stderr.take().map(drain));
        let stdin = child.stdin.take();
        Self { child, stdin, stdout, stderr }
    }

    /// Runs one on this input to its end.
    pub fn run(args: &[&str], input: impl AsRef<[u8]>) -> Ended {
        let mut ship = Self::start(args);
        ship.feed(input);
        ship.end()
    }

    /// Writes to its stdin, which stays open.
    ///
    /// # Panics
    /// When nobody reads there.
    pub fn feed(&mut self, input: impl AsRef<[u8]>) {
        self.stdin.as_mut().expect("an open stdin").write_all(input.as_ref()).expect("a reader on stdin");
    }

    /// Takes the writing end of its stdin.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("an open stdin")
    }

    /// SIGINT, SIGTERM.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("tele-ship takes a signal");
    }

    /// The program's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Closes its stdin and waits for its end.
    pub fn end(mut self) -> Ended {
        drop(self.stdin.take());
        self.wait()
    }

    /// Waits for its end, while stdin stays open.
    ///
    /// # Panics
    /// When it does not come, and when an account does not add up.
    pub fn wait(mut self) -> Ended {
        let status = poll(LIMIT, || self.child.try_wait().expect("a child"));
        let code = status.expect("tele-ship ends in time").code();
        let text =
            |output: Option<JoinHandle<Vec<u8>>>| output.map(|thread| thread.join().expect("its output"));
        let (stdout, stderr) = (text(self.stdout.take()), text(self.stderr.take()));
        let stderr = String::from_utf8(stderr.unwrap_or_default()).expect("stderr is UTF-8");
        let (records, words): (Vec<_>, Vec<_>) = stderr.lines().partition(|line| line.starts_with('{'));
        assert!(words.iter().all(|line| line.starts_with("tele-ship: ")), "{stderr}");
        let records: Vec<Value> =
            records.iter().map(|record| serde_json::from_str(record).expect("a record")).collect();
        let mut stats = Vec::<Value>::new();
        for record in &records {
            balanced(record);
            stats.retain(|known| known["sink"] != record["sink"]);
            stats.push(record.clone());
        }
        let (stdout, stderr) = (stdout.unwrap_or_default(), words.join("\n"));
        Ended { code, stdout, stderr, records, stats }
    }
}

/// Both identities.
fn balanced(stats: &Value) {
    let sum = |names: &[&str]| names.iter().map(|name| stats[*name].as_u64().expect("a count")).sum::<u64>();
    let fates = ["delivered", "rejected", "dead_lettered", "pending", "dropped"];
    assert_eq!(sum(&["read"]), sum(&fates), "{stats}");
    assert_eq!(sum(&["encoded_items"]), sum(&["accepted_items", "rejected_items"]), "{stats}");
    assert_eq!(sum(&["pending"]) > 0, stats["oldest_pending_s"].is_number(), "{stats}");
}

impl Ended {
    /// A count of the only sink.
    pub fn count(&self, name: &str) -> u64 {
        assert_eq!(self.stats.len(), 1, "{self:?}");
        self.stats[0][name].as_u64().expect("a count")
    }

    /// `read`, `delivered`, `rejected`, `pending` and `dropped` of the only sink.
    pub fn lines(&self) -> [u64; 5] {
        ["read", "delivered", "rejected", "pending", "dropped"].map(|name| self.count(name))
    }
}

impl Drop for Ship {
    fn drop(&mut self) {
        // Both fail only when it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn drain(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = from.read_to_end(&mut all);
        all
    })
}

/// How long `work` takes.
pub fn time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    (work(), begin.elapsed())
}
