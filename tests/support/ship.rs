//! Runs `tele-ship`: feeds it lines, sends it signals, and parses its statistics.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::poll;

/// How long a test waits for anything.
const LIMIT: Duration = Duration::from_secs(90);

/// Output that is collected as it comes.
type Output = Arc<Mutex<Vec<u8>>>;

/// A running program, which is killed when dropped.
pub struct Ship {
    child: Child,
    stdin: Option<ChildStdin>,
    stdout: Output,
    stderr: Output,
    readers: Vec<JoinHandle<()>>,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; `None` if a signal killed it.
    pub code: Option<i32>,
    /// Its output.
    pub stdout: Vec<u8>,
    /// Its messages.
    pub stderr: String,
    /// Every `ship_stats` record.
    pub records: Vec<Value>,
    /// The last record of each sink.
    pub stats: Vec<Value>,
}

impl Ship {
    /// Starts it with these arguments, and with `--stats` unless they have it. OTEL variables and proxies are unset.
    pub fn start(args: &[&str]) -> Self {
        Self::start_with(args, &[])
    }

    /// As [`Ship::start`], with these environment variables.
    pub fn start_with(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let stats = if args.contains(&"--stats") { &[][..] } else { &["--stats", "1h"] };
        Self::start_bare(&[args, stats].concat(), variables)
    }

    /// As [`Ship::start_with`], with no other arguments.
    fn start_bare(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tele-ship"));
        let foreign = |name: &str| name.starts_with("OTEL_") || name.to_lowercase().ends_with("_proxy");
        for (name, _) in std::env::vars().filter(|(name, _)| foreign(name)) {
            command.env_remove(name);
        }
        command.args(args).envs(variables.iter().copied());
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = pipes.spawn().expect("tele-ship starts");
        let (stdout, stderr) = (Output::default(), Output::default());
        let readers = vec![
            collect(child.stdout.take().expect("a pipe"), stdout.clone()),
            collect(child.stderr.take().expect("a pipe"), stderr.clone()),
        ];
        let stdin = child.stdin.take();
        Self { child, stdin, stdout, stderr, readers }
    }

    /// Runs it on this input to its end.
    pub fn run(args: &[&str], input: impl AsRef<[u8]>) -> Ended {
        let mut ship = Self::start(args);
        ship.feed(input);
        ship.end()
    }

    /// Writes to its stdin, which stays open.
    ///
    /// # Panics
    /// If nothing reads it.
    pub fn feed(&mut self, input: impl AsRef<[u8]>) {
        self.stdin.as_mut().expect("an open stdin").write_all(input.as_ref()).expect("a reader on stdin");
    }

    /// The writing end of its stdin.
    pub fn take_stdin(&mut self) -> ChildStdin {
        self.stdin.take().expect("an open stdin")
    }

    /// Waits until stderr contains `text`.
    ///
    /// # Panics
    /// If it does not within the time limit.
    pub fn wait_for(&self, text: &str) {
        let found = poll(LIMIT, || self.stderr().contains(text).then_some(()));
        assert!(found.is_some(), "no {text}: {}", self.stderr());
    }

    /// Its messages so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.stderr.lock().unwrap()).into_owned()
    }

    /// The `ship_stats` records written so far.
    pub fn records(&self) -> Vec<Value> {
        let stderr = self.stderr();
        let whole = stderr.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Waits until a `ship_stats` record has this count. Needs a short `--stats`.
    pub fn wait_for_count(&self, name: &str, count: u64) {
        self.wait_for(&format!("\"{name}\":{count},"));
    }

    /// Sends a signal.
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
    /// If it does not end in time, or the counts of a record do not add up.
    pub fn wait(mut self) -> Ended {
        let status = poll(LIMIT, || self.child.try_wait().expect("a child"));
        let code = status.expect("tele-ship ends in time").code();
        self.readers.drain(..).for_each(|reader| reader.join().expect("its output"));
        let take = |output: &Output| std::mem::take(&mut *output.lock().unwrap());
        let (stdout, stderr) = (take(&self.stdout), take(&self.stderr));
        let stderr = String::from_utf8(stderr).expect("stderr is UTF-8");
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
        Ended { code, stdout, stderr: words.join("\n"), records, stats }
    }
}

/// Checks both identities.
fn balanced(stats: &Value) {
    let sum = |names: &[&str]| names.iter().map(|name| stats[*name].as_u64().expect("a count")).sum::<u64>();
    let outcomes = ["delivered", "empty", "rejected", "dead_lettered", "pending", "dropped"];
    assert_eq!(sum(&["read"]), sum(&outcomes), "{stats}");
    let reasons = ["dropped_gone", "dropped_cut_off", "dropped_damaged", "dropped_unspooled"];
    assert_eq!(sum(&["dropped"]), sum(&reasons), "{stats}");
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
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn collect(mut from: impl Read + Send + 'static, into: Output) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut chunk = [0; 65536];
        while let Ok(length @ 1..) = from.read(&mut chunk) {
            into.lock().unwrap().extend_from_slice(&chunk[..length]);
        }
    })
}

/// How long `work` takes.
pub fn time<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begin = Instant::now();
    (work(), begin.elapsed())
}

/// The outcome of `tele-ship check`.
pub struct Checked {
    /// The exit code.
    pub code: Option<i32>,
    /// What it printed: a line for each step.
    pub lines: Vec<String>,
}

impl Checked {
    /// Runs it with these options and environment variables.
    pub fn run(args: &[&str], variables: &[(&str, &str)]) -> Self {
        let ship = Ship::start_bare(&[&["check"], args].concat(), variables);
        let Ended { code, stdout, stderr, .. } = ship.end();
        let text = String::from_utf8(stdout).expect("UTF-8");
        assert!(!stderr.contains("s3cret") && !text.contains("s3cret"), "{text}{stderr}");
        Self { code, lines: text.lines().map(str::to_owned).collect() }
    }

    /// The steps in order, and whether each went well.
    pub fn steps(&self) -> Vec<(&str, bool)> {
        self.lines.iter().map(|line| step(line)).collect()
    }
}

/// `DESTINATION: STEP ok…` or `DESTINATION: STEP failed: …`.
fn step(line: &str) -> (&str, bool) {
    let (_, rest) = line.split_once(": ").expect("a destination");
    match rest.split_once(" failed: ") {
        Some((name, _)) => (name, false),
        None => (rest.rsplit_once(" ok").expect("an outcome").0, true),
    }
}
