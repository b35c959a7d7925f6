//! Shared by the black-box tests: the built programs, what the machine has (root, Python, samples), an OpenTelemetry
//! Collector, and an HTTP server that answers by a script.
//!
//! Use it with `mod support;`. `scripts/test` sets `TELEPIPE_PYTHON`, a Python with psutil and opentelemetry-proto;
//! `TELEPIPE_OTELCOL`, the Collector; and `TELEPIPE_LONG=1` for the long tier. Without these, in a plain `cargo test`,
//! the tests that need them are skipped with a message; if `CI` is set they fail. Tests that need what only some
//! machines have (root, a device, permission to mount) are skipped in CI too, and counted.
#![allow(
    dead_code,
    unused_imports,
    unused_macros,
    reason = "each test file uses its own part of this module"
)]

mod capture;
mod collector;
mod grpc;
pub mod records;
mod ship;
pub mod spool;
pub mod stored;
pub mod tables;
#[cfg(target_os = "linux")]
pub mod tracer;

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

pub use capture::{Answer, Capture, Request, http_date};
pub use collector::Collector;
pub use grpc::GrpcServer;
pub use ship::{Checked, Ended, Ship, time};

/// The path of a built program: `program!("scrape")`.
macro_rules! program {
    ($name:literal) => {
        std::path::Path::new(env!(concat!("CARGO_BIN_EXE_", $name)))
    };
}
pub(crate) use program;

/// True in a machine of `scripts/kernels`, which is emulated and slow: a bound of time may be wider there.
pub fn emulated() -> bool {
    env::var_os("TELEPIPE_EMULATED").is_some()
}

/// Reports why a test is skipped, past libtest's capture of stderr, and counts it for `scripts/test`.
pub fn skip(why: &str) {
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    // A failure here only means that nobody reads stderr.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {why}");
    if let Some(list) = env::var_os("TELEPIPE_SKIPPED") {
        let list = std::fs::OpenOptions::new().append(true).create(true).open(list);
        list.and_then(|mut list| list.write_all(format!("{test}: {why}\n").as_bytes())).unwrap();
    }
}

/// True for root; otherwise reports that the test is skipped: `if !require_root() { return; }`.
pub fn require_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        skip("it needs root (sudo ./scripts/test)");
    }
    root
}

/// True in the long tier (`scripts/test --long`); otherwise reports that the test is skipped.
pub fn require_long() -> bool {
    let long = env::var("TELEPIPE_LONG").is_ok_and(|value| value == "1");
    if !long {
        skip("it takes long (./scripts/test --long)");
    }
    long
}

/// The path in an environment variable that `scripts/test` sets.
///
/// # Panics
/// If `CI` is set and the variable is not, so that no test is skipped there by mistake.
pub fn require_env(name: &str) -> Option<PathBuf> {
    if let Some(value) = env::var_os(name).filter(|value| !value.is_empty()) {
        return Some(value.into());
    }
    assert!(!in_ci(), "{name} is unset, and CI leaves no test out: run it through ./scripts/test");
    skip(&format!("{name} is unset (./scripts/test sets it)"));
    None
}

/// True where a test that cannot run must fail instead of being skipped.
pub fn in_ci() -> bool {
    env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "false")
}

/// A Python with psutil and opentelemetry-proto, ready for arguments.
pub fn python() -> Option<Command> {
    require_env("TELEPIPE_PYTHON").map(Command::new)
}

/// The recorded /proc and /sys trees in `../shared/samples`, next to the repository, if they are there.
pub fn samples() -> Option<PathBuf> {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).parent()?.join("shared/samples");
    if samples.is_dir() {
        return Some(samples);
    }
    skip("there is no ../shared/samples");
    None
}

/// Calls `done` every 10 ms until it returns something, for at most `limit`.
pub fn poll<T>(limit: Duration, mut done: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = done() {
            return Some(value);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A port of 127.0.0.1 that was free a moment ago.
pub fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port on loopback");
    listener.local_addr().expect("the bound address").port()
}

/// A file system in memory of a fixed size; unmounted when dropped.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Mounts one, of a size such as `1m`; `None` if the test must be skipped.
    pub fn mount(size: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        if !require_root() {
            return None;
        }
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "none"]).arg(dir.path());
        if !mount.status().expect("mount runs").success() {
            skip("it needs to mount a tmpfs");
            return None;
        }
        Some(Self(dir))
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A failure leaves a mount behind, and nothing else.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
