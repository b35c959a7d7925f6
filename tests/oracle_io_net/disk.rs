//! Compares `disk` records with /proc/diskstats and psutil.

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use super::support::{self, program, records};
use super::{assert_between, python_table, read, rows, scrape};

/// The seventeen fields in the order of the file, with the factor from the file; `None` for a value that is no total.
const FIELDS: [(&str, Option<f64>); 17] = [
    ("reads", Some(1.0)),
    ("reads_merged", Some(1.0)),
    ("read_bytes", Some(512.0)),
    ("read_time_s", Some(1e-3)),
    ("writes", Some(1.0)),
    ("writes_merged", Some(1.0)),
    ("write_bytes", Some(512.0)),
    ("write_time_s", Some(1e-3)),
    ("in_flight", None),
    ("io_time_s", Some(1e-3)),
    ("weighted_io_time_s", Some(1e-3)),
    ("discards", Some(1.0)),
    ("discards_merged", Some(1.0)),
    ("discard_bytes", Some(512.0)),
    ("discard_time_s", Some(1e-3)),
    ("flushes", Some(1.0)),
    ("flush_time_s", Some(1e-3)),
];

/// Asserts that a record lies between two readings of diskstats.
pub fn assert_counts(record: &Value, before: &[f64], after: &[f64]) {
    for (index, (field, unit)) in FIELDS.iter().enumerate().take(before.len()) {
        if let Some(unit) = unit {
            let value = records::number(record, field);
            assert_between(before[index] * unit, value, after[index] * unit, &format!("{field} of {record}"));
        }
    }
    let absent = &FIELDS[before.len().min(FIELDS.len())..];
    assert!(absent.iter().all(|(field, _)| record[field].is_null()), "{record}");
}

/// Writes to a disk, so that it counts something.
fn write_a_little() {
    let mut file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    file.write_all(&vec![b'x'; 1 << 20]).unwrap();
    file.as_file().sync_all().unwrap();
}

#[test]
fn between_two_readings_of_diskstats() {
    let before = rows(&read("/proc/diskstats"), 0, 2);
    write_a_little();
    let found = scrape(&["--once", "--only", "disk"]);
    write_a_little();
    let after = rows(&read("/proc/diskstats"), 0, 2);
    for record in &found {
        let name = record["device"].as_str().unwrap();
        let (Some(before), Some(after)) = (before.get(name), after.get(name)) else { continue };
        assert_counts(record, before, after);
    }
    let used = before.iter().filter(|(_, counts)| counts.iter().any(|count| *count > 0.0));
    let attached = |name: &str| read(format!("/sys/block/{name}/size")).trim() != "0";
    let is_found = |name: &str| found.iter().any(|record| record["device"] == *name);
    let missing: Vec<_> =
        used.filter(|(name, _)| !is_found(name) && (!name.starts_with("loop") || attached(name))).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(
        found.iter().any(|record| record["type"] == "disk" || record["type"] == "partition"),
        "{found:?}"
    );
}

/// psutil's totals leave out partitions, but count loop devices and the device mapper in addition to the disks below
/// them. The test subtracts these, by psutil's numbers. Loop devices without a file have no record.
#[test]
fn the_sum_over_whole_devices_is_psutils_total() {
    const CODE: &str = "
import json, psutil
table = {'': psutil.disk_io_counters(perdisk=False, nowrap=False)}
table.update(psutil.disk_io_counters(perdisk=True, nowrap=False))
print(json.dumps({name: row._asdict() for name, row in table.items()}))";
    let Some(before) = python_table(CODE) else { return };
    write_a_little();
    let found = scrape(&["--once", "--only", "disk"]);
    write_a_little();
    let after = python_table(CODE).unwrap();
    let twice = |record: &&Value| record["whole"] == false && record["type"] != "partition";
    for (field, theirs, unit) in [
        ("reads", "read_count", 1.0),
        ("writes", "write_count", 1.0),
        ("read_bytes", "read_bytes", 1.0),
        ("write_bytes", "write_bytes", 1.0),
        ("read_time_s", "read_time", 1e-3),
        ("write_time_s", "write_time", 1e-3),
        ("io_time_s", "busy_time", 1e-3),
    ] {
        let whole = found.iter().filter(|record| record["whole"] == true);
        let sum: f64 = whole.map(|record| records::number(record, field)).sum();
        let stacked = |table: &super::Table| -> f64 {
            let names = found.iter().filter(twice).map(|record| record["device"].as_str().unwrap());
            let detached = table.keys().map(String::as_str).filter(|name| {
                name.starts_with("loop") && !found.iter().any(|record| record["device"] == **name)
            });
            names.chain(detached).map(|name| table.get(name).map_or(0.0, |row| row[theirs])).sum()
        };
        let low = before[""][theirs] - stacked(&after);
        let high = after[""][theirs] - stacked(&before);
        assert!(high > 0.0, "nothing was counted: {field}");
        assert_between(low * unit, sum, high * unit, field);
    }
}

/// Only one test at a time has a loop device: another would get the one that was just detached.
static LOOP: Mutex<()> = Mutex::new(());

/// A loop device with a file of 8 MiB, detached when dropped.
struct Loop {
    _only: MutexGuard<'static, ()>,
    device: String,
    attached: bool,
    _image: tempfile::NamedTempFile,
}

impl Loop {
    /// `None`, with a note, where there is no free loop device.
    fn attach() -> Option<Self> {
        let only = LOOP.lock().unwrap_or_else(PoisonError::into_inner);
        let image = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        image.as_file().set_len(8 << 20).unwrap();
        let attached = Command::new("losetup").args(["--find", "--show"]).arg(image.path()).output().unwrap();
        if !attached.status.success() {
            support::skip("there is no free loop device");
            return None;
        }
        let device = String::from_utf8(attached.stdout).unwrap().trim().to_owned();
        Some(Self { _only: only, device, attached: true, _image: image })
    }

    fn name(&self) -> String {
        self.device.strip_prefix("/dev/").unwrap().to_owned()
    }

    fn read_mebibytes(&self, count: u32) {
        let mut dd = Command::new("dd");
        dd.args(["of=/dev/null", "bs=1M", "iflag=direct"]).arg(format!("count={count}"));
        assert!(dd.arg(format!("if={}", self.device)).output().unwrap().status.success());
    }

    fn detach(&mut self) {
        self.attached = false;
        assert!(Command::new("losetup").args(["--detach", &self.device]).status().unwrap().success());
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        if self.attached {
            self.detach();
        }
    }
}

/// A loop device appears during a run, is read, and is detached: then its records end.
#[test]
fn a_loop_device_comes_and_goes() {
    if !support::require_root() {
        return;
    }
    let mut child = Command::new(program!("scrape"))
        .args(["-i", "50ms", "--only", "disk"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut records = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    records.next().unwrap();
    if let Some(mut device) = Loop::attach() {
        let name = device.name();
        // The kernel keeps the counts of earlier uses.
        let counted = || rows(&read("/proc/diskstats"), 0, 2)[&name][2] * 512.0;
        let before = counted();
        device.read_mebibytes(3);
        let expected = before + f64::from(3 << 20);
        let used =
            |record: &Value| record["device"] == *name && records::number(record, "read_bytes") >= expected;
        let record = records.find(used).unwrap();
        assert_eq!((&record["type"], &record["whole"]), (&"loop".into(), &false.into()));
        // udev may have read a little more.
        assert_between(expected, records::number(&record, "read_bytes"), counted(), "read_bytes");
        device.detach();
        let mut without = BTreeSet::new();
        while without.len() < 4 {
            let record = records.next().unwrap();
            without.insert(record["ts"].to_string());
            if record["device"] == *name {
                without.clear();
            }
        }
    }
    drop(records);
    assert!(child.wait().unwrap().success());
}

/// A run that starts after the device was detached does not report it, with or without an interval.
#[test]
fn a_detached_loop_device_is_left_out() {
    if !support::require_root() {
        return;
    }
    let Some(mut device) = Loop::attach() else { return };
    device.read_mebibytes(1);
    let reported = |args: &[&str]| {
        let found = scrape(&[args, &["--only", "disk"]].concat());
        found.iter().filter(|record| record["device"] == *device.name()).count()
    };
    assert_eq!((reported(&["--once"]), reported(&["-n", "2", "-i", "20ms"])), (1, 2));
    device.detach();
    let reported = |args: &[&str]| {
        let found = scrape(&[args, &["--only", "disk"]].concat());
        found.iter().filter(|record| record["device"] == *device.name()).count()
    };
    assert_eq!((reported(&["--once"]), reported(&["-n", "2", "-i", "20ms"])), (0, 0));
}

/// Known numbers of reads and writes: the rates times the interval are these numbers.
#[test]
fn operations_per_second_of_a_known_workload() {
    if !support::require_root() {
        return;
    }
    let Some(device) = Loop::attach() else { return };
    let mut child = Command::new(program!("scrape"))
        .args(["-i", "100ms", "--only", "disk"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let lines = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let mut records = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    let name = device.name();
    let counts = || rows(&read("/proc/diskstats"), 0, 2)[&name].clone();
    records.next().unwrap();
    let start = counts();
    device.read_mebibytes(5);
    let (mut reads, mut bytes, mut busy, mut rounding) = (0.0, 0.0, 0.0, 0.0);
    let end = counts();
    loop {
        let record = records.next().unwrap();
        if record["device"] != *name {
            continue;
        }
        if let Some(interval) = record["interval_s"].as_f64() {
            reads += records::number(&record, "reads_per_s") * interval;
            bytes += records::number(&record, "read_bytes_per_s") * interval;
            busy += records::number(&record, "queue_depth") * interval;
            // Both are rounded to six decimals.
            rounding += 0.5e-6 * (records::number(&record, "read_bytes_per_s") + interval);
            assert_eq!(record["writes_per_s"], 0.0);
        }
        if records::number(&record, "reads") >= end[0] {
            break;
        }
    }
    drop(records);
    assert!(child.wait().unwrap().success());
    assert_between(reads - 0.1, end[0] - start[0], reads + 0.1, "reads");
    assert_between(bytes - rounding, (end[2] - start[2]) * 512.0, bytes + rounding, "bytes");
    assert_between(busy - 0.002, (end[10] - start[10]) / 1e3, busy + 0.002, "time in the queue");
}
