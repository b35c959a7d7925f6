//! A /sys tree unpacked from a fixture, which a test can change while `pmstat` reads it.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::support::program;
use super::support::records::parse;

/// A /sys and a /proc.
pub struct Tree {
    dir: tempfile::TempDir,
}

impl Tree {
    /// Makes an empty tree.
    pub fn empty() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for name in ["sys", "proc"] {
            fs::create_dir(dir.path().join(name)).unwrap();
        }
        Self { dir }
    }

    /// Unpacks a file of `tests/fixtures/power`.
    pub fn of(name: &str) -> Self {
        let tree = Self::empty();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/power").join(name);
        let text = fs::read_to_string(path).unwrap();
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
            if let Some((path, content)) = line.split_once(" = ") {
                tree.set(path, &format!("{}\n", content.replace("\\n", "\n")));
            } else {
                let (path, target) = line.split_once(" -> ").unwrap();
                let path = tree.parent(path);
                symlink(target, path).unwrap();
            }
        }
        tree
    }

    /// The folder with both.
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a file in /sys.
    pub fn sys(&self, path: &str) -> PathBuf {
        self.dir.path().join("sys").join(path)
    }

    /// The same, after creating its folder.
    fn parent(&self, path: &str) -> PathBuf {
        let path = self.sys(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        path
    }

    /// Writes a file of /sys, or of /proc as `../proc/…`.
    pub fn set(&self, path: &str, content: &str) {
        fs::write(self.parent(path), content).unwrap();
    }

    /// Makes a file that blocks whoever opens it.
    pub fn trap(&self, path: &str) {
        let made = Command::new("mkfifo").arg(self.parent(path)).status().unwrap();
        assert!(made.success());
    }

    /// `pmstat` with this tree.
    pub fn command(&self, args: &[&str]) -> Command {
        // In case it hangs, as in a trap.
        let mut command = Command::new("timeout");
        command.args(["--kill-after=1", "20"]).arg(program!("pmstat"));
        command
            .arg("--sys-root")
            .arg(self.sys(""))
            .arg("--proc-root")
            .arg(self.path().join("proc"))
            .args(args);
        command
    }

    /// The records of one sample.
    pub fn once(&self) -> Vec<Value> {
        self.records(&["--once"])
    }

    /// The records of a successful run.
    pub fn records(&self, args: &[&str]) -> Vec<Value> {
        ended(&mut self.command(args))
    }

    /// The records of two samples with a change of the tree in between.
    pub fn twice(&self, args: &[&str], change: impl FnOnce()) -> [Vec<Value>; 2] {
        let mut change = Some(change);
        let samples = self.times(2, args, |_| {
            if let Some(change) = change.take() {
                change();
            }
        });
        samples.try_into().unwrap()
    }

    /// The records of `count` samples; `change` is called after each. A sample is written after all of it was read.
    pub fn times(&self, count: usize, args: &[&str], mut change: impl FnMut(usize)) -> Vec<Vec<Value>> {
        let mut command = self.command(args);
        command.args(["-i", "1s", "-n", &count.to_string()]).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut samples: Vec<Vec<Value>> = Vec::new();
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
            match samples.last_mut().filter(|sample| sample[0]["ts"] == record["ts"]) {
                Some(sample) => sample.push(record),
                None => {
                    change(samples.len());
                    samples.push(vec![record]);
                }
            }
        }
        assert!(child.wait().unwrap().success());
        assert_eq!(samples.len(), count, "{samples:#?}");
        samples
    }
}

/// The records of a successful command.
pub fn ended(command: &mut Command) -> Vec<Value> {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{:?}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    parse(&output.stdout)
}
