//! Runs a producer and parses its records.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// Runs a program to its end.
pub fn run(program: &Path, args: &[&str]) -> Output {
    Command::new(program).args(args).output().unwrap()
}

/// The records of a run that must succeed.
pub fn records(program: &Path, args: &[&str]) -> Vec<Value> {
    let output = run(program, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    parse(&output.stdout)
}

/// Every line is a record.
pub fn parse(stdout: &[u8]) -> Vec<Value> {
    let lines = stdout.strip_suffix(b"\n").unwrap_or(stdout).split(|&byte| byte == b'\n');
    let lines = lines.filter(|line| !line.is_empty());
    lines.map(|line| serde_json::from_slice(line).unwrap_or_else(|e| panic!("{e}: {line:?}"))).collect()
}

/// The records of one kind.
pub fn of<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

/// The one record of a kind.
pub fn one<'a>(records: &'a [Value], kind: &str) -> &'a Value {
    match of(records, kind)[..] {
        [record] => record,
        ref list => panic!("{} records of kind {kind}", list.len()),
    }
}

/// A number of a record, which must be there.
pub fn number(record: &Value, field: &str) -> f64 {
    record[field].as_f64().unwrap_or_else(|| panic!("no number {field} in {record}"))
}
