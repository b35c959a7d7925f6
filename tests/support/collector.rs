//! Runs a real OpenTelemetry Collector, built by `scripts/otelcol`, with `scripts/stack/otelcol.yaml`, on free ports of
//! loopback, and reads what it stored.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use super::{free_port, poll, require_env};

const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/stack/otelcol.yaml");
/// The Collector logs this once every receiver listens.
const READY: &str = "Everything is ready";

/// A Collector that stores what it gets. It ends when this is dropped.
pub struct Collector {
    program: PathBuf,
    child: Option<Child>,
    dir: TempDir,
    http: u16,
    grpc: u16,
}

impl Collector {
    /// Starts a Collector and waits until it listens; `None`, and a message, if none was built.
    ///
    /// # Panics
    /// If it does not start; the message contains its log.
    pub fn start() -> Option<Self> {
        let program = require_env("TELEPIPE_OTELCOL")?;
        let dir = tempfile::tempdir().expect("a temporary folder");
        let mut collector = Self { program, child: None, dir, http: 0, grpc: 0 };
        // A free port can be taken by another test before the Collector binds it: then try others.
        for _ in 0..5 {
            (collector.http, collector.grpc) = (free_port(), free_port());
            if collector.launch() {
                return Some(collector);
            }
        }
        panic!("the Collector does not start:\n{}", collector.log());
    }

    /// Its OTLP/HTTP endpoint, without a path: `http://127.0.0.1:PORT`.
    pub fn http_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http)
    }

    /// Its OTLP/gRPC endpoint: `http://127.0.0.1:PORT`.
    pub fn grpc_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.grpc)
    }

    /// What it has stored so far: an OTLP/JSON object per request (`resourceMetrics`, `resourceLogs` or
    /// `resourceSpans`). It writes every 50 ms; an incomplete line is left out.
    pub fn stored(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.file()).unwrap_or_default();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let parse =
            |line| serde_json::from_str(line).expect("the Collector's file holds a JSON object per line");
        whole.lines().map(parse).collect()
    }

    /// Waits until what is stored satisfies `enough`, and returns it.
    ///
    /// # Panics
    /// After `limit`, with the log.
    pub fn wait(&self, limit: Duration, enough: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let found = poll(limit, || Some(self.stored()).filter(|stored| enough(stored)));
        found.unwrap_or_else(|| panic!("not stored within {limit:?}; the Collector's log:\n{}", self.log()))
    }

    /// Ends it with SIGTERM; it stores what it received. Its ports refuse connections until [`Self::up`].
    ///
    /// # Panics
    /// If it does not end within 20 s.
    pub fn down(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        // It writes every 50 ms; what it got just before the signal was once missing.
        std::thread::sleep(Duration::from_millis(200));
        kill_process(Pid::from_child(&child), Signal::TERM).expect("the Collector takes a signal");
        if poll(Duration::from_secs(20), || child.try_wait().ok().flatten()).is_none() {
            self.child = Some(child); // ended by drop
            panic!("the Collector does not end; its log:\n{}", self.log());
        }
    }

    /// Starts it again on the same ports and the same file.
    ///
    /// # Panics
    /// If it does not start.
    pub fn up(&mut self) {
        assert!(self.child.is_none() && self.launch(), "the Collector does not come back:\n{}", self.log());
    }

    /// Ends it and returns what it stored.
    pub fn stop(mut self) -> Vec<Value> {
        self.down();
        self.stored()
    }

    /// Its log since the last start.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("stored.jsonl")
    }

    /// False if it ended at once, as it does when a port is in use.
    fn launch(&mut self) -> bool {
        let log = File::create(self.dir.path().join("log")).expect("a log file");
        let child = Command::new(&self.program)
            .args(["--config", CONFIG])
            .env("TELEPIPE_OTLP_HTTP", format!("127.0.0.1:{}", self.http))
            .env("TELEPIPE_OTLP_GRPC", format!("127.0.0.1:{}", self.grpc))
            .env("TELEPIPE_OTLP_FILE", self.file())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("TELEPIPE_OTELCOL names a program");
        let child = self.child.insert(child);
        let ready = poll(Duration::from_secs(60), || {
            if !matches!(child.try_wait(), Ok(None)) {
                return Some(false);
            }
            let log = fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
            log.contains(READY).then_some(true)
        });
        if ready == Some(true) {
            return true;
        }
        self.kill();
        false
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Both fail only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.kill();
    }
}
