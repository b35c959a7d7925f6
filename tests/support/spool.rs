//! A spool's directory, and a `tele-ship` with a spool that is killed at random moments.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ChildStdin;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;

use super::Ship;

/// A directory for a spool, which is removed when this is dropped.
pub struct Spool(tempfile::TempDir);

impl Spool {
    /// A directory that does not exist yet.
    pub fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// Its path.
    pub fn path(&self) -> PathBuf {
        self.0.path().join("spool")
    }

    /// The value of `--spool`.
    pub fn arg(&self) -> String {
        self.path().to_str().unwrap().to_owned()
    }

    /// The files with this ending, in order.
    pub fn files(&self, ending: &str) -> Vec<PathBuf> {
        files(&self.path(), ending)
    }

    /// The cursor of a sink, as written by rename; `None` if there is none yet.
    pub fn cursor(&self, sink: &str) -> Option<Value> {
        let text = fs::read(self.path().join(format!("{sink}.cursor"))).ok()?;
        Some(serde_json::from_slice::<Value>(&text).expect("a JSON line")["cursor"].clone())
    }

    /// The offset of the next line, from the index of the last segment that has one whole entry: entries of 48 bytes,
    /// with the offset of the first line at 8 and the number of lines for each signal at 24.
    fn end(&self) -> u64 {
        let end = |path: &PathBuf| {
            let index = fs::read(path).unwrap();
            let last = index.chunks_exact(48).next_back()?;
            let first = u64::from_le_bytes(last[8..16].try_into().unwrap());
            let lines =
                last[24..36].chunks_exact(4).map(|lines| u32::from_le_bytes(lines.try_into().unwrap()));
            Some(first + lines.map(u64::from).sum::<u64>())
        };
        self.files(".index").iter().rev().find_map(end).unwrap_or(0)
    }
}

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut found: Vec<_> = paths.filter(|path| path.to_str().unwrap().ends_with(ending)).collect();
    found.sort();
    found
}

/// A reproducible sequence of numbers.
pub struct Random(pub u64);

impl Random {
    /// The next number, less than `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// Writes the lines from..to until the reader is gone. Gives the bytes written, and the pipe.
fn write_lines(mut stdin: ChildStdin, line: fn(u64) -> String, from: u64, to: u64) -> (u64, ChildStdin) {
    let mut written = 0;
    for start in (from..to).step_by(500) {
        let lines: String = (start..to.min(start + 500)).map(line).collect();
        let mut rest = lines.as_bytes();
        while !rest.is_empty() {
            let Ok(length) = stdin.write(rest) else { return (written, stdin) };
            written += length as u64;
            rest = &rest[length..];
        }
    }
    (written, stdin)
}

/// The most bytes that are read and not committed: two buffers of 4 MiB, a chunk, and the start of a line.
const UNCOMMITTED: u64 = (8 << 20) + (256 << 10) + 4096;

/// Feeds numbered lines to a `tele-ship` with these arguments and the spool, kills it `kills` times at random moments,
/// and lets it end. Gives the most bytes that were read and not committed at a kill.
///
/// # Panics
/// If the last run does not deliver everything, or a kill costs more than [`UNCOMMITTED`] bytes.
pub fn kill_at_random(
    spool: &Spool,
    args: &[&str],
    kills: u64,
    lines: u64,
    line: fn(u64) -> String,
    mut after_kill: impl FnMut(),
) -> u64 {
    let dir = spool.arg();
    let whole = [args, &["--spool", &dir]].concat();
    // Many batches on their way.
    let args = [&whole[..], &["--batch-lines", "1000", "--batch-age", "20ms"]].concat();
    let (mut next, mut worst, mut random) = (0, 0, Random(20_261_128));
    for kill in 0..kills {
        let mut ship = Ship::start(&args);
        let (stdin, from, to) = (ship.take_stdin(), next, (kill + 1) * lines / kills);
        let writing = std::thread::spawn(move || write_lines(stdin, line, from, to));
        std::thread::sleep(Duration::from_millis(random.below(400)));
        ship.signal(Signal::KILL);
        assert_eq!(ship.wait().code, None);
        let (written, stdin) = writing.join().unwrap();
        let unread = rustix::io::ioctl_fionread(&stdin).unwrap();
        next = spool.end();
        assert!(next >= from && next <= to, "{from} {next} {to}");
        // What was read and is not committed is lost; a real producer would lose it too.
        let committed = (from..next).map(|n| line(n).len() as u64).sum::<u64>();
        let lost = written - unread - committed;
        assert!(lost <= UNCOMMITTED, "{lost} bytes were read and not committed");
        worst = worst.max(lost);
        after_kill();
    }
    let mut ship = Ship::start(&whole);
    for start in (next..lines).step_by(10_000) {
        ship.feed((start..lines.min(start + 10_000)).map(line).collect::<String>());
    }
    let ended = ship.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    worst
}
