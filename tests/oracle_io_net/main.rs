//! Compares `scrape` with psutil, `ss` and the raw files of the kernel. A value that can change is read before and
//! after, and must lie between; in a network namespace, a tmpfs or a loop device of the test, it must be exact.
#![cfg(target_os = "linux")]

#[path = "../support/mod.rs"]
mod support;

mod disk;
mod filesystem;
mod net;
mod tcp;
mod trees;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use support::{program, records};

/// The records of a run that must succeed.
fn scrape(args: &[&str]) -> Vec<Value> {
    records::records(program!("scrape"), args)
}

/// Counts by name, by device.
type Table = BTreeMap<String, BTreeMap<String, f64>>;

/// Runs Python code and parses the JSON that it prints; `None` without a Python for tests.
fn python(code: &str) -> Option<Value> {
    let output = support::python()?.args(["-c", code]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

/// Like [`python`], for a table.
fn python_table(code: &str) -> Option<Table> {
    python(code).map(|value| serde_json::from_value(value).unwrap())
}

/// Runs a shell command in new namespaces (flags of unshare(1)); `None` where that is not allowed.
fn unshared(flags: &str, command: &str, args: &[&OsStr]) -> Option<Vec<u8>> {
    let may = Command::new("unshare").args([flags, "true"]).output();
    if !may.is_ok_and(|output| output.status.success()) {
        support::skip(&format!("unshare {flags} is not allowed here"));
        return None;
    }
    let output =
        Command::new("unshare").args([flags, "sh", "-euc", command, "sh"]).args(args).output().unwrap();
    assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
    Some(output.stdout)
}

/// Asserts `low <= value <= high`.
fn assert_between(low: f64, value: f64, high: f64, about: &str) {
    // Milliseconds converted to seconds are not exact in binary.
    let slack = 1e-6 * (1.0 + high.abs());
    assert!(low - slack <= value && value <= high + slack, "{about}: {value} is not in {low} ..= {high}");
}

/// The rows of /proc/net/dev or /proc/diskstats: the numbers after each name.
fn rows(text: &str, header: usize, name_at: usize) -> BTreeMap<String, Vec<f64>> {
    let row = |line: &str| {
        let words: Vec<String> = line.replace(':', " ").split_whitespace().map(str::to_owned).collect();
        let numbers = words[name_at + 1..].iter().map(|word| word.parse().unwrap()).collect();
        (words[name_at].clone(), numbers)
    };
    text.lines().skip(header).map(row).collect()
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.as_ref().display()))
}
