//! Compares the times of requests with those that fio measures in user space.

use telepipe::bpf::hist::{FINE, Histogram};

use serde_json::Value;

use crate::machine::{LoopDisk, Measured, Percentile, fio, measured, ready};
use crate::tracer::{Iolat, of};

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

fn check(ours: &Ours, fio: &Measured) -> bool {
    assert!(ours.max <= fio.longest, "the longest took {} ns, fio saw none above {}", ours.max, fio.longest);
    // Both round to buckets. fio's total latency begins before the request does.
    assert!(ours.p50 <= fio.p50.whole * 1.03 + 2000.0, "p50 {} ns, fio {:?}", ours.p50, fio.p50);
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
#[test]
fn thirty_two_at_a_time() {
    let args = ["--rw=randread", "--bs=64k", "--ioengine=libaio", "--iodepth=32", "--size=24m", "--loops=4"];
    like_fio(&args, &["read"]);
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
