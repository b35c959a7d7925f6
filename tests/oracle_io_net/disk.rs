//! `disk` against /proc/diskstats and psutil.

use std::io::Write as _;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use super::support::{self, program, records};
use super::{assert_between, python_table, read, rows, scrape};

/// The seventeen fields in the order of the file, and what a unit of the file is in theirs; `None` for no total.
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

/// Checks a record against its numbers in two readings of diskstats.
pub fn assert_counts(record: &Value, before: &[f64], after: &[f64]) {
    for (place, (field, unit)) in FIELDS.iter().enumerate().take(before.len()) {
        if let Some(unit) = unit {
            let value = records::number(record, field);
            assert_between(before[place] * unit, value, after[place] * unit, &format!("{field} of {record}"));
        }
    }
    let absent = &FIELDS[before.len().min(FIELDS.len())..];
    assert!(absent.iter().all(|(field, _)| record[field].is_null()), "{record}");
}

/// Gives a disk something to count.
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
    let missing: Vec<_> =
        used.filter(|(name, _)| !found.iter().any(|record| record["device"] == **name)).collect();
    assert!(missing.is_empty(), "{missing:?}");
    assert!(
        found.iter().any(|record| record["type"] == "disk" || record["type"] == "partition"),
        "{found:?}"
    );
}

/// psutil's totals leave partitions out, and count what lies on other devices twice: loop devices and the device
/// mapper are therefore subtracted, by its own numbers.
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
            names.map(|name| table.get(name).map_or(0.0, |row| row[theirs])).sum()
        };
        let low = before[""][theirs] - stacked(&after);
        let high = after[""][theirs] - stacked(&before);
        assert!(high > 0.0, "nothing was counted: {field}");
        assert_between(low * unit, sum, high * unit, field);
    }
}

/// A loop device appears in the middle of a run, is read, and goes.
#[test]
fn a_loop_device_comes_and_goes() {
    if !support::require_root() {
        return;
    }
    let image = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    image.as_file().set_len(8 << 20).unwrap();
    let child = Command::new(program!("scrape"))
        .args(["-i", "200ms", "-n", "12", "--only", "disk"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let attached = Command::new("losetup").args(["--find", "--show"]).arg(image.path()).output().unwrap();
    if !attached.status.success() {
        let _ = child.wait_with_output();
        return support::skip("there is no free loop device");
    }
    let device = String::from_utf8(attached.stdout).unwrap().trim().to_owned();
    let name = device.strip_prefix("/dev/").unwrap();
    let counted = rows(&read("/proc/diskstats"), 0, 2).get(name).map_or(0.0, |counts| counts[2]);
    let copied = Command::new("dd")
        .args(["of=/dev/null", "bs=1M", "count=3", "iflag=direct"])
        .arg(format!("if={device}"))
        .output();
    std::thread::sleep(Duration::from_millis(500));
    let detached = Command::new("losetup").args(["--detach", &device]).status();
    let output = child.wait_with_output().unwrap();
    let after = rows(&read("/proc/diskstats"), 0, 2)[name][2] * 512.0;
    assert!(copied.unwrap().status.success() && detached.unwrap().success());
    assert!(output.status.success());
    let records = records::parse(&output.stdout);
    let seen: Vec<_> = records.iter().filter(|record| record["device"] == name).collect();
    let last = seen.last().expect("the loop device is in no sample");
    assert_eq!((last["type"].as_str(), last["whole"].as_bool()), (Some("loop"), Some(false)));
    // What looks at new devices by itself (udev) may have read a little more.
    let copied = counted * 512.0 + f64::from(3 << 20);
    assert_between(copied, records::number(last, "read_bytes"), after, &format!("read_bytes of {last}"));
    let samples: std::collections::BTreeSet<_> =
        records.iter().map(|record| record["ts"].to_string()).collect();
    assert_eq!(samples.len(), 12, "it went on to the end");
}
