//! Compares the counts of `iolat` with /proc/diskstats and the kernel's event log: each request counts once.

use serde_json::Value;

use crate::machine::{Diskstats, EventLog, LoopDisk, disk_below, fio, folder, measured, ready};
use crate::support::emulated;
use crate::tracer::{Iolat, lost, of, total};

const MIXED: [&str; 4] = ["--rw=randrw", "--bs=8k", "--ioengine=psync", "--size=24m"];

/// Compares the counts of a loop device that only this job uses with /proc/diskstats.
fn equal_to_diskstats(args: &[&str]) {
    let Some(_alone) = ready(&["fio", "losetup"]) else { return };
    let disk = LoopDisk::new();
    let iolat = Iolat::start(&["--device", &disk.name]);
    let log = EventLog::start(&disk.name);
    let before = Diskstats::read(&disk.name);
    let job = fio(&disk.path(), args);
    let kernel = Diskstats::read(&disk.name).since(before);
    let logged = log.finish();
    let records = iolat.finish();

    let (reads, writes) = (total(&records, "read", "count"), total(&records, "write", "count"));
    let (all, seen) = (kernel.reads + kernel.writes, reads + writes + logged.in_init);
    let counts = format!("{reads} reads, {writes} writes; {kernel:?}, {logged:?}");
    // In emulation, a completion that is lost inside another one can be that of another disk.
    let lost = lost(&records);
    assert!(seen + lost == all || emulated() && seen <= all && all < seen + lost, "{counts}, {lost} lost");
    let whole = |op, count, bytes: u64| {
        let size = bytes / count;
        assert_eq!(total(&records, op, "bytes"), total(&records, op, "count") * size, "{op}");
    };
    whole("read", kernel.reads, kernel.read_bytes);
    whole("write", kernel.writes, kernel.written_bytes);
    assert_eq!(measured(&job, "read").bytes, kernel.read_bytes);
    assert!(records.iter().all(|record| record["errors"].as_u64().unwrap_or(0) == 0));
}

#[test]
fn one_request_at_a_time() {
    equal_to_diskstats(&MIXED);
}

#[test]
fn thirty_two_at_a_time() {
    equal_to_diskstats(&["--rw=randrw", "--bs=4k", "--ioengine=libaio", "--iodepth=32", "--size=24m"]);
}

#[test]
fn requests_are_counted_once_issued_and_flush_phases_are_not() {
    let Some(_alone) = ready(&["fio", "losetup"]) else { return };
    let disk = LoopDisk::new();
    let iolat = Iolat::start(&["--device", &disk.name, "--events", "--min", "0"]);
    let log = EventLog::start(&disk.name);
    fio(&disk.path(), &["--rw=randwrite", "--bs=4k", "--ioengine=sync", "--fdatasync=1", "--size=4m"]);
    let logged = log.finish();
    let records = iolat.finish();

    let (writes, flushes) = (total(&records, "write", "count"), total(&records, "flush", "count"));
    assert_eq!(logged.issued + logged.flushes_issued - logged.requeued, logged.completed, "{logged:?}");
    assert_eq!(writes + flushes + logged.in_init + lost(&records), logged.completed, "{logged:?}");
    assert!((1024 - logged.in_init.min(1024)..=1024).contains(&writes), "{writes} of 1024: {logged:?}");
    assert!(logged.phases > 1000, "the job made no flush phases: {logged:?}");
    assert_eq!(total(&records, "flush", "bytes"), 0);
    // A flush has no sector.
    let flush = of(&records, "flush")[0];
    assert!(flush["max_us"].as_f64() > Some(0.0), "{flush}");
    assert!(flush.get("max_sector").is_none() && flush.get("max_bytes").is_none(), "{flush}");
    let events = records.iter().filter(|record| record["kind"] == "io_event");
    let (flushed, written): (Vec<_>, Vec<_>) = events.partition(|event| event["op"] == "flush");
    assert_eq!((flushed.len() as u64, written.len() as u64), (flushes, writes), "--min 0: every request");
    assert!(flushed.iter().all(|event| event.get("sector").is_none()), "{}", flushed[0]);
    assert!(written.iter().all(|event| event["sector"].is_u64()), "{}", written[0]);
}

/// The disk of the build folder, which other programs use too. The counts must lie between the kernel's counts over a
/// shorter and a longer time.
#[test]
fn counts_of_a_shared_disk_are_within_bounds() {
    let Some(_alone) = ready(&["fio"]) else { return };
    let folder = folder();
    let Some(disk) = disk_below(folder.path()) else {
        crate::support::skip(&format!("{} is not on a disk with block requests", folder.path().display()));
        return;
    };
    let file = folder.path().join("file");
    let around = Diskstats::read(&disk);
    let iolat = Iolat::start(&["--device", &disk]);
    let log = EventLog::start(&disk);
    let inside = Diskstats::read(&disk);
    let job = fio(file.to_str().unwrap(), &MIXED);
    let inside = Diskstats::read(&disk).since(inside);
    let logged = log.finish();
    let records = iolat.finish();
    let around = Diskstats::read(&disk).since(around);

    let unseen = logged.in_init + lost(&records);
    for (op, low, high, job) in [
        ("read", inside.reads, around.reads, measured(&job, "read").requests),
        // /proc/diskstats counts the flush phases of a write as writes.
        (
            "write",
            inside.writes.saturating_sub(logged.phases),
            around.writes,
            measured(&job, "write").requests,
        ),
    ] {
        let count = total(&records, op, "count");
        assert!(count + unseen >= low.max(job), "{op}: {count} of {low}, {unseen} unseen");
        assert!(count <= high, "{op}: {count}, the kernel counts {high}");
    }
    let bytes = total(&records, "read", "bytes");
    assert!(bytes <= around.read_bytes, "{bytes} bytes read of {}", around.read_bytes);
}

/// In every record, the buckets, sums and percentiles are of the same requests.
#[test]
fn records_are_consistent_under_load() {
    let Some(_alone) = ready(&["fio", "losetup"]) else { return };
    let disk = LoopDisk::new();
    let iolat = Iolat::start_each("50ms", &["--device", &disk.name]);
    let log = EventLog::start(&disk.name);
    let before = Diskstats::read(&disk.name);
    fio(
        &disk.path(),
        &[
            "--rw=randread",
            "--bs=4k",
            "--ioengine=libaio",
            "--iodepth=8",
            "--runtime=2",
            "--time_based",
            "--size=16m",
            "--rate_iops=12000", // more would overflow the event log
        ],
    );
    let kernel = Diskstats::read(&disk.name).since(before);
    let logged = log.finish();
    let records = iolat.finish();

    let reads = of(&records, "read");
    assert!(reads.len() > 15, "{} records", reads.len());
    let number = |record: &Value, field: &str| record[field].as_f64().unwrap();
    for record in &reads {
        for prefix in ["", "device_", "queue_"] {
            let buckets = record[format!("{prefix}buckets")].as_object().unwrap();
            let zero = record[format!("{prefix}zero_count")].as_u64().unwrap();
            let sum = zero + buckets.values().map(|count| count.as_u64().unwrap()).sum::<u64>();
            assert_eq!(sum, record["count"].as_u64().unwrap(), "{prefix}: {record}");
            let field = |name: &str| number(record, &format!("{prefix}{name}"));
            let ascending = ["p50_us", "p90_us", "p95_us", "p99_us", "p999_us", "max_us"].map(field);
            assert!(ascending.is_sorted(), "{prefix}: {record}");
            assert!(field("mean_us") <= field("max_us"), "{prefix}: {record}");
        }
        let parts = number(record, "device_sum_us") + number(record, "queue_sum_us");
        assert!((parts - number(record, "sum_us")).abs() < 0.01, "{record}");
        assert_eq!(record["bytes"].as_u64().unwrap(), record["count"].as_u64().unwrap() * 4096);
        assert!(number(record, "max_sector") < (LoopDisk::BYTES / 512) as f64 && record["max_bytes"] == 4096);
    }
    for pair in reads.windows(2) {
        assert!(pair[0]["ts"].as_str() <= pair[1]["start_ts"].as_str(), "{} then {}", pair[0], pair[1]);
    }
    let seen = total(&records, "read", "count") + logged.in_init + lost(&records);
    assert_eq!(seen, kernel.reads, "over {} intervals; {logged:?}", reads.len());
}
