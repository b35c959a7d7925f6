//! Compares the times of requests with those that fio measures in user space.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;
use telepipe::common::hist::{FINE, Histogram};

use crate::machine::{
    Diskstats, EventLog, LoopDisk, Measured, Module, Percentile, fio, measured, ready, run,
};
use crate::support::poll;
use crate::tracer::{Iolat, of, total};

/// fio's times include the way from and to user space, which can take long on a busy machine. So one run in which both
/// agree is enough, but in no run may ours be longer.
const RUNS: usize = 6;

/// Makes fio poll for completions instead of sleeping. In a virtual machine, waking up on an idle CPU takes tens of
/// microseconds, which are not part of the request.
const AWAKE: [&str; 3] = ["--ioengine=libaio", "--iodepth=1", "--iodepth_batch_complete_min=0"];

struct Ours {
    p50: f64,
    p99: f64,
    max: f64,
}

fn ours(records: &[Value], op: &str) -> Ours {
    let records = of(records, op);
    assert_eq!(records.len(), 1, "one interval");
    let nanos = |field: &str| (records[0][field].as_f64().unwrap() * 1000.0).round();
    Ours { p50: nanos("p50_us"), p99: nanos("p99_us"), max: nanos("max_us") }
}

/// Whether a time is within 10 % or 10 µs of fio's completion latency.
fn close(ours: f64, fio: Percentile) -> bool {
    (ours - fio.completion).abs() <= (fio.completion * 0.1).max(10_000.0)
}

fn not_above(ours: &Ours, fio: &Measured) {
    assert!(ours.max <= fio.longest, "the longest took {} ns, fio saw none above {}", ours.max, fio.longest);
    // Both round to buckets. fio's total latency begins before the request does.
    assert!(ours.p50 <= fio.p50.whole * 1.03 + 2000.0, "p50 {} ns, fio {:?}", ours.p50, fio.p50);
}

fn check(ours: &Ours, fio: &Measured) -> bool {
    not_above(ours, fio);
    close(ours.p50, fio.p50) && close(ours.p99, fio.p99)
}

fn like_fio(args: &[&str], ops: &[&str]) {
    let Some(_alone) = ready(&["fio", "losetup", "chrt"]) else { return };
    let disk = LoopDisk::new();
    let mut seen = Vec::new();
    for _ in 0..RUNS {
        let iolat = Iolat::start(&["--device", &disk.name]);
        let job = fio(&disk.path(), args);
        let records = iolat.finish();
        let pairs = ops.iter().map(|op| (ours(&records, op), measured(&job, op)));
        let pairs: Vec<_> = pairs.collect();
        let close: Vec<bool> = pairs.iter().map(|(ours, fio)| check(ours, fio)).collect();
        if close.iter().all(|close| *close) {
            return;
        }
        seen.extend(
            pairs.iter().map(|(a, b)| format!("p50 {} / {:?}, p99 {} / {:?}", a.p50, b.p50, a.p99, b.p99)),
        );
    }
    panic!("never within 10 % or 10 us of fio, ours / fio in ns: {seen:#?}");
}

#[test]
fn reads_one_at_a_time() {
    like_fio(&[&["--rw=randread", "--bs=64k", "--size=24m", "--loops=4"], &AWAKE[..]].concat(), &["read"]);
}

#[test]
fn writes_one_at_a_time() {
    like_fio(&[&["--rw=randwrite", "--bs=64k", "--size=24m", "--loops=4"], &AWAKE[..]].concat(), &["write"]);
}

/// The kernel reads the clock once for a batch of requests. libaio submits them one by one, so each has its own time.
/// fio submits what is due before it looks for completions again, which can take longer than a request: its times are
/// an upper bound, and the kernel's event log has the times of the driver.
#[test]
fn thirty_two_at_a_time() {
    let Some(_alone) = ready(&["fio", "losetup", "chrt"]) else { return };
    let disk = LoopDisk::new();
    let iolat = Iolat::start(&["--device", &disk.name]);
    let log = EventLog::start(&disk.name);
    let args = ["--rw=randread", "--bs=64k", "--ioengine=libaio", "--iodepth=32", "--size=24m", "--loops=4"];
    let fio = measured(&fio(&disk.path(), &args), "read");
    let mut device = log.finish().device;
    let records = iolat.finish();

    not_above(&ours(&records, "read"), &fio);
    device.sort_by(f64::total_cmp);
    assert_eq!(device.len() as u64, fio.requests);
    for (field, rank) in [("device_p50_us", 0.5), ("device_p99_us", 0.99)] {
        let kernel = device[(device.len() as f64 * rank) as usize];
        let ours = of(&records, "read")[0][field].as_f64().unwrap() * 1000.0;
        // Ours is that of a bucket, the log's is in microseconds and begins before the request is handed over.
        assert!(
            (ours - kernel).abs() <= kernel * 0.03 + 2000.0,
            "{field}: {ours} ns, by the event log {kernel}"
        );
    }
}

#[test]
fn the_summary_is_that_of_its_events() {
    let Some(_alone) = ready(&["fio", "losetup"]) else { return };
    let disk = LoopDisk::new();
    let iolat = Iolat::start(&["--device", &disk.name, "--events", "--min", "1us", "--who"]);
    fio(&disk.path(), &["--rw=randread", "--bs=4k", "--ioengine=psync", "--size=4m"]);
    let records = iolat.finish();

    let summary = of(&records, "read")[0];
    let events: Vec<_> = records.iter().filter(|record| record["kind"] == "io_event").collect();
    assert_eq!(events.len() as u64, summary["count"].as_u64().unwrap());
    let nanos = |record: &Value, field: &str| (record[field].as_f64().unwrap() * 1000.0).round() as u64;
    for event in &events {
        assert_eq!(nanos(event, "device_us") + nanos(event, "queue_us"), nanos(event, "total_us"), "{event}");
        assert_eq!((&event["comm"], &event["bytes"]), (&"fio".into(), &4096.into()), "{event}");
        assert!(event["begin_ts"].as_str() < event["ts"].as_str(), "{event}");
    }
    for (prefix, field) in [("", "total_us"), ("device_", "device_us"), ("queue_", "queue_us")] {
        let mut histogram = Histogram::new(FINE);
        events.iter().for_each(|event| histogram.record(nanos(event, field)));
        let of_prefix = |name: &str| &summary[format!("{prefix}{name}")];
        assert_eq!(*of_prefix("buckets"), serde_json::to_value(histogram.sparse()).unwrap(), "{field}");
        let zeros = events.iter().filter(|event| nanos(event, field) <= 128).count();
        assert_eq!(*of_prefix("zero_count"), zeros, "{field}");
        let median_is_zero = zeros * 2 >= events.len();
        assert_eq!(of_prefix("p50_us").as_f64() == Some(0.0), median_is_zero, "{field}: {summary}");
    }
    let sum: u64 = events.iter().map(|event| nanos(event, "total_us")).sum();
    assert_eq!(sum, nanos(summary, "sum_us"));
    let slowest = events.iter().max_by_key(|event| nanos(event, "total_us")).unwrap();
    for (field, of_event) in [("max_us", "total_us"), ("max_sector", "sector"), ("max_pid", "pid")] {
        assert_eq!(summary[field], slowest[of_event], "{field}");
    }
}

/// A disk that takes 10 ms for each request, which is a lower bound. The upper bound is what fio waits.
#[test]
fn a_disk_of_known_latency() {
    let Some(_alone) = ready(&["fio", "chrt"]) else { return };
    let parameters = ["nr_devices=1", "irqmode=2", "completion_nsec=10000000"];
    let Some(_disk) = Module::load("null_blk", &parameters) else { return };
    for way in ["tp_btf", "raw_tp"] {
        let iolat = Iolat::start(&["--device", "nullb0", "--attach", way]);
        let before = Diskstats::read("nullb0");
        let jobs = [("read", "--size=244k"), ("write", "--size=92k")].map(|(op, size)| {
            let rw = format!("--rw={op}");
            (op, measured(&fio("/dev/nullb0", &[&rw, "--bs=4k", "--ioengine=psync", size]), op))
        });
        let kernel = Diskstats::read("nullb0").since(before);
        let records = iolat.finish();
        let counts = |op| (total(&records, op, "count"), total(&records, op, "bytes"));
        assert_eq!(counts("read"), (kernel.reads, kernel.read_bytes), "{way}: {records:?}");
        assert_eq!(counts("write"), (kernel.writes, kernel.written_bytes), "{way}: {records:?}");
        for (op, fio) in jobs {
            let summary = of(&records, op)[0];
            let nanos = |field: &str| summary[field].as_f64().unwrap() * 1000.0;
            check(&ours(&records, op), &fio);
            // The buckets of percentiles are 2.2 % wide.
            assert!(nanos("p50_us") >= 9.89e6 && nanos("device_p50_us") >= 9.89e6, "{way}: {summary}");
            assert!(nanos("sum_us") >= 10e6 * summary["count"].as_f64().unwrap(), "{way}: {summary}");
        }
    }
}

/// A disk that appears after the start, with all operations.
#[test]
fn a_new_disk_with_discards_and_flushes() {
    let Some(_alone) = ready(&["blkdiscard", "dd"]) else { return };
    let iolat = Iolat::start(&[]);
    let parameters = ["dev_size_mb=16", "ndelay=5000000", "lbpu=1", "lbpws=1"];
    let Some(_module) = Module::load("scsi_debug", &parameters) else { return };
    let model = |disk: &PathBuf| fs::read_to_string(disk.join("device/model")).unwrap_or_default();
    let is_new = |disk: &PathBuf| model(disk).trim() == "scsi_debug" && name(disk).1.exists();
    let disks = || fs::read_dir("/sys/block").unwrap().flatten().map(|disk| disk.path()).find(is_new);
    let disk = poll(Duration::from_secs(30), disks).unwrap();
    let (name, path) = name(&disk);
    let path = path.to_str().unwrap();
    run("dd", &["if=/dev/zero", &format!("of={path}"), "bs=64k", "count=8", "conv=fsync"]);
    run("dd", &[&format!("if={path}"), "of=/dev/null", "bs=4k", "count=29", "iflag=direct"]);
    run("blkdiscard", &["-o", "0", "-l", "1048576", path]);
    let stat = fs::read_to_string(disk.join("stat")).unwrap();
    let stat: Vec<u64> = stat.split_whitespace().map(|word| word.parse().unwrap()).collect();
    let mut records = iolat.finish();
    records.retain(|record| record["device"] == name.as_str());
    // Documentation/block/stat.rst. The kernel counts a flush also as a write of no bytes.
    let [reads, read_sectors, writes, write_sectors, discards, flushes] =
        [0, 2, 4, 6, 11, 15].map(|i| stat[i]);
    let counts = |op| (total(&records, op, "count"), total(&records, op, "bytes") / 512);
    assert_eq!(counts("read"), (reads, read_sectors), "{records:?}");
    assert_eq!(counts("write"), (writes - flushes, write_sectors), "{records:?}");
    assert_eq!((counts("discard").0, counts("flush").0), (discards, flushes), "{records:?}");
    assert!(discards > 0 && flushes > 0 && ours(&records, "read").p50 >= 4.945e6, "{stat:?} {records:?}");
}

/// The name and the device node of a disk in /sys/block.
fn name(disk: &Path) -> (String, PathBuf) {
    let name = disk.file_name().unwrap().to_str().unwrap().to_owned();
    let node = Path::new("/dev").join(&name);
    (name, node)
}
