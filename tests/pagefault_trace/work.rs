//! Processes that cause a known number of faults of a known kind.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::tracer::{Tracer, of};

/// The compiled `tests/kernels/NAME.c`.
fn program(name: &str) -> PathBuf {
    static BUILT: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
    if !built.contains(&path) {
        let source = format!("{}/tests/kernels/{name}.c", env!("CARGO_MANIFEST_DIR"));
        let mut cc = Command::new("cc");
        assert!(cc.args(["-O2", "-pthread", "-o"]).arg(&path).arg(source).status().unwrap().success());
        built.push(path.clone());
    }
    path
}

/// A process that waits for [`Work::go`].
pub struct Work(Child);

/// The faults that it caused, by getrusage.
#[derive(Debug)]
pub struct Caused {
    pub minor: u64,
    pub major: u64,
    pub pid: u64,
    pub address: String,
}

impl Caused {
    /// Whether a fault is in its memory area, of that many pages.
    pub fn holds(&self, event: &Value, pages: u64) -> bool {
        let at = |text: &str| u64::from_str_radix(&text[2..], 16).unwrap();
        let first = at(&self.address);
        (first..first + pages * 4096).contains(&at(event["address"].as_str().unwrap()))
    }
}

impl Work {
    /// Starts it, and returns after the faults of its own start.
    pub fn start(mode: &str, count: u32, file: &Path) -> Self {
        Self::start_program("faults", mode, count, file)
    }

    /// Faults that are delayed, or fail (`held.c`). Its minor and major are the shortest and longest possible time,
    /// in microseconds.
    pub fn held(mode: &str, count: u32) -> Self {
        Self::start_program("held", mode, count, Path::new("-"))
    }

    fn start_program(name: &str, mode: &str, count: u32, file: &Path) -> Self {
        let mut command = Command::new(program(name));
        command.arg("1").arg(file).arg(mode).arg(count.to_string());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let work = Self(command.spawn().unwrap());
        let asleep = || {
            let text = std::fs::read_to_string(format!("/proc/{}/syscall", work.pid())).unwrap_or_default();
            text.starts_with("0 0x0 ")
        };
        while !asleep() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        work
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    pub fn go(mut self) -> Caused {
        self.0.stdin.take().unwrap().write_all(b"\n").unwrap();
        let output = self.0.wait_with_output().unwrap();
        assert!(output.status.success(), "{:?}", output.status);
        let text = String::from_utf8(output.stdout).unwrap();
        let words: Vec<_> = text.split_whitespace().collect();
        let number = |i: usize| words[i].parse().unwrap();
        Caused { minor: number(1), major: number(2), pid: number(3), address: words[4].to_owned() }
    }
}

/// A file on a disk with no page in memory, and this many blocks of 64 pages.
pub fn cold_file(blocks: usize) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = folder.path().join("file with spaces");
    std::fs::write(&path, vec![7; blocks * 64 * 4096]).unwrap();
    rustix::fs::sync();
    let file = std::fs::File::open(&path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
    std::fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    (folder, path)
}

pub fn pagefault_trace() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_pagefault-trace"))
}

pub fn trace(args: &[&str]) -> Tracer {
    Tracer::start(pagefault_trace(), args)
}

/// The sum of the counts of that type, access and mode; an empty word stands for any.
pub fn count(records: &[Value], kind: [&str; 3]) -> u64 {
    let fits = |record: &&&Value| {
        kind.iter()
            .zip(["type", "access", "mode"])
            .all(|(word, field)| word.is_empty() || record[field] == *word)
    };
    of(records, "pagefault_summary").iter().filter(fits).map(|record| record["count"].as_u64().unwrap()).sum()
}
