//! Reads /proc/diskstats, or /sys/block/*/stat where there is none, into `disk` records.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::blockdev::{self, Facts};
use super::diskstats::{self, Counts, Line, at};
use crate::collect::slots::{Slot, Slots};
use crate::collect::text::{lines, number, words};
use crate::collect::{Collector, Roots, Sample, Source, micro, rate, unreadable};
use crate::common::emit::Emitter;
use crate::record::{DISK, Disk, DiskType, Kind, Reason};

/// The unit of sectors in these files, whatever the device's own is.
const SECTOR: u64 = 512;

/// Reads one file for all devices, and sysfs once for each new device.
pub struct DiskCollector {
    path: String,
    source: Source,
    capacity: Capacity,
    sys: PathBuf,
    /// The same text assembled from sysfs, where /proc/diskstats is missing.
    gathered: Vec<u8>,
    slots: Slots<Device>,
}

/// The state of one device.
struct Device {
    facts: Facts,
    /// The counts of the previous sample.
    before: Option<Counts>,
    /// Nothing is attached to it, and it has been idle since that was found.
    detached: bool,
}

/// Finds the devices that have no capacity, such as a loop device without a backing file.
struct Capacity {
    /// The kernel lists only devices that have a capacity here (`show_partition`).
    partitions: Source,
    block: PathBuf,
}

impl DiskCollector {
    /// Reads below `roots`; opens nothing yet.
    pub fn new(roots: &Roots) -> Self {
        let path = roots.proc.join("diskstats");
        let partitions = Source::new(roots.proc.join("partitions"));
        Self {
            path: path.display().to_string(),
            source: Source::new(path),
            capacity: Capacity { partitions, block: roots.sys.join("block") },
            sys: roots.sys.clone(),
            gathered: Vec::new(),
            slots: Slots::new(),
        }
    }
}

impl Collector for DiskCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&DISK]
    }

    fn method(&self) -> String {
        let block = self.sys.join("block");
        let counts = if self.gathered.is_empty() {
            self.path.clone()
        } else {
            format!("{}/*/stat, as {} is missing", block.display(), self.path)
        };
        format!("{counts}; device types from {}", block.display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Self { path, source, capacity, sys, gathered, slots } = self;
        let text = match source.read() {
            Ok(text) => text,
            Err(error)
                if error.kind() == io::ErrorKind::NotFound
                    && diskstats::gather(&sys.join("block"), gathered).is_ok() =>
            {
                gathered
            }
            Err(error) => {
                slots.miss();
                return unreadable(out, sample.ts, path, &error);
            }
        };
        let interval = slots.begin(sample);
        let mut partitions = None;
        for (index, row) in lines(text).enumerate() {
            let Some(line) = diskstats::parse(row) else {
                let detail = format!("line {} is not that of a device", index + 1);
                out.status(sample.ts, path, Reason::Invalid, &detail)?;
                continue;
            };
            let id = u64::from(line.dev.0) << 32 | u64::from(line.dev.1);
            let slot = slots.slot(line.name, id, |name| {
                let facts = blockdev::facts(sys, name, |other| is_listed(text, other));
                Device { facts, before: None, detached: false }
            });
            let idle = slot.data.before.is_none_or(|before| before == line.counts);
            let unused = line.counts.iter().all(|count| count.unwrap_or(0) == 0);
            let node_only = unused && blockdev::is_slot(slot.data.facts.disk_type);
            let attachable =
                matches!(slot.data.facts.disk_type, DiskType::Loop | DiskType::Nbd | DiskType::Zram);
            slot.data.detached = attachable
                && idle
                && !unused
                && (slot.data.detached || capacity.is_empty(&mut partitions, &slot.name));
            let hidden = node_only || slot.data.detached;
            let record = measure(slot, &line, interval, sample);
            if !hidden {
                sample.emit(&record, out)?;
            }
        }
        slots.end();
        Ok(())
    }
}

impl Capacity {
    /// Whether the device has no capacity. `partitions` keeps the content of the file for the
    /// other devices of the sample: it is read once, and only where a device is in question.
    fn is_empty(&mut self, partitions: &mut Option<Vec<u8>>, name: &str) -> bool {
        let text = partitions.get_or_insert_with(|| self.partitions.read().unwrap_or_default().to_owned());
        if text.is_empty() {
            let size = std::fs::read(self.block.join(name).join("size"));
            return size.is_ok_and(|size| number(size.trim_ascii()) == Some(0));
        }
        !lines(text).any(|line| words(line).nth(3) == Some(name.as_bytes()))
    }
}

fn is_listed(text: &[u8], name: &str) -> bool {
    lines(text).any(|line| {
        let mut words = words(line);
        let dev = words.next().and_then(number).is_some() && words.next().and_then(number).is_some();
        dev && words.next() == Some(name.as_bytes())
    })
}

/// Makes the record of one device, and keeps its counts for the next sample.
fn measure<'a>(
    slot: &'a mut Slot<Device>,
    line: &Line<'_>,
    interval: Option<Duration>,
    sample: &Sample<'_>,
) -> Disk<'a> {
    let now = &line.counts;
    let mut before = slot.data.before.replace(*now);
    let went_back = |index: usize, before: &Counts| now[index] < before[index];
    if before.is_some_and(|before| went_back(at::READS, &before) || went_back(at::WRITES, &before)) {
        slot.restart();
        before = None;
    }
    let mut disk = totals(slot, now, sample);
    if let (Some(before), Some(interval)) = (before, interval) {
        rates(&mut disk, now, &before, interval);
    }
    disk
}

fn totals<'a>(slot: &'a Slot<Device>, counts: &Counts, sample: &Sample<'_>) -> Disk<'a> {
    let bytes = |index: usize| counts[index].map(|sectors| sectors.saturating_mul(SECTOR));
    let seconds = |index: usize| counts[index].map(|ms| ms as f64 / 1e3);
    Disk {
        device: &slot.name,
        disk_type: slot.data.facts.disk_type,
        whole: slot.data.facts.whole,
        start_ts: slot.since.or(sample.boot),
        reads: counts[at::READS],
        reads_merged: counts[at::READS_MERGED],
        read_bytes: bytes(at::READ_SECTORS),
        read_time_s: seconds(at::READ_MS),
        writes: counts[at::WRITES],
        writes_merged: counts[at::WRITES_MERGED],
        write_bytes: bytes(at::WRITE_SECTORS),
        write_time_s: seconds(at::WRITE_MS),
        // Kernels before 5.0 can print a negative number here as unsigned.
        in_flight: counts[at::IN_FLIGHT].filter(|&count| count <= i32::MAX as u64),
        io_time_s: seconds(at::IO_MS),
        weighted_io_time_s: seconds(at::WEIGHTED_MS),
        discards: counts[at::DISCARDS],
        discards_merged: counts[at::DISCARDS_MERGED],
        discard_bytes: bytes(at::DISCARD_SECTORS),
        discard_time_s: seconds(at::DISCARD_MS),
        flushes: counts[at::FLUSHES],
        flush_time_s: seconds(at::FLUSH_MS),
        ..Disk::default()
    }
}

fn rates(disk: &mut Disk<'_>, now: &Counts, before: &Counts, interval: Duration) {
    // The kernel prints times modulo 2^32 ms, which a busy device reaches in weeks.
    let elapsed_ms = |index: usize| Some((now[index]? as u32).wrapping_sub(before[index]? as u32));
    // Milliseconds per second of the interval, as a ratio.
    let share = |index: usize| {
        elapsed_ms(index).map(|ms| micro(f64::from(ms) / 1e3 / interval.as_secs_f64().max(f64::MIN_POSITIVE)))
    };
    let bytes = |counts: &Counts, index: usize| counts[index].map(|sectors| sectors.saturating_mul(SECTOR));
    let bytes_per_s = |index| rate(bytes(now, index), bytes(before, index), Some(interval));
    let per_s = |index: usize| rate(now[index], before[index], Some(interval));
    let mean_us = |count: usize, ms: usize| {
        let count = now[count]?.checked_sub(before[count]?).filter(|count| *count > 0)?;
        // The kernel counts milliseconds, so more digits mean nothing.
        Some((f64::from(elapsed_ms(ms)?) * 1e4 / count as f64).round() / 10.0)
    };
    disk.interval_s = Some(micro(interval.as_secs_f64()));
    disk.reads_per_s = per_s(at::READS);
    disk.writes_per_s = per_s(at::WRITES);
    disk.discards_per_s = per_s(at::DISCARDS);
    disk.flushes_per_s = per_s(at::FLUSHES);
    disk.read_bytes_per_s = bytes_per_s(at::READ_SECTORS);
    disk.write_bytes_per_s = bytes_per_s(at::WRITE_SECTORS);
    disk.read_mean_us = mean_us(at::READS, at::READ_MS);
    disk.write_mean_us = mean_us(at::WRITES, at::WRITE_MS);
    disk.queue_depth = share(at::WEIGHTED_MS);
    disk.utilization_ratio = share(at::IO_MS).map(|share| share.min(1.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::time::Timestamp;
    use serde_json::{Value, json};
    use std::path::Path;

    /// The records of a sample at that second; the interval is always two seconds.
    fn sample(slots: &mut Slots<Device>, second: u64, text: &str) -> Vec<Value> {
        let sample = Sample {
            ts: Timestamp::from_secs(second),
            boot: Some(Timestamp::from_secs(1)),
            interval: Some(Duration::from_secs(2)),
            write: true,
            inventory: false,
            wanted: &|_| true,
        };
        let interval = slots.begin(&sample);
        let records = text.lines().map(|row| {
            let line = diskstats::parse(row.as_bytes()).unwrap();
            let facts =
                blockdev::facts(Path::new("/nonexistent"), str::from_utf8(line.name).unwrap(), |_| true);
            let slot =
                slots.slot(line.name, line.dev.1.into(), |_| Device { facts, before: None, detached: false });
            serde_json::to_value(measure(slot, &line, interval, &sample)).unwrap()
        });
        let records = records.collect();
        slots.end();
        records
    }

    #[test]
    fn all_seventeen_in_base_units() {
        let records = sample(&mut Slots::new(), 9, "8 0 sda 1 2 3 4567 5 6 7 8 9 10 11 12 13 14 15 16 17");
        let expected = json!({
            "device": "sda", "type": "disk", "whole": true, "start_ts": "1970-01-01T00:00:01.000000000Z",
            "reads": 1, "reads_merged": 2, "read_bytes": 1536, "read_time_s": 4.567,
            "writes": 5, "writes_merged": 6, "write_bytes": 3584, "write_time_s": 0.008,
            "in_flight": 9, "io_time_s": 0.01, "weighted_io_time_s": 0.011,
            "discards": 12, "discards_merged": 13, "discard_bytes": 7168, "discard_time_s": 0.015,
            "flushes": 16, "flush_time_s": 0.017,
        });
        assert_eq!(records, [expected]);
    }

    #[test]
    fn rates_from_the_second_sample() {
        let mut slots = Slots::new();
        sample(&mut slots, 10, "8 0 sda 100 0 1000 4294967290 50 0 500 20 0 4294967000 4294967200 7 0 0 0");
        // The times wrap at 2^32 ms; 4 reads took 10 ms together, and no write completed.
        let record = &sample(&mut slots, 12, "8 0 sda 104 0 1008 4 50 0 600 20 0 204 4904 10 0 0 0")[0];
        assert_eq!((&record["reads_per_s"], &record["writes_per_s"]), (&json!(2.0), &json!(0.0)));
        assert_eq!((&record["discards_per_s"], record.get("flushes_per_s")), (&json!(1.5), None));
        assert_eq!(record["queue_depth"], 2.5);
        assert_eq!(record["interval_s"], 2.0);
        assert_eq!(record["read_bytes_per_s"], 2048.0);
        assert_eq!(record["write_bytes_per_s"], 25600.0);
        assert_eq!(record["read_mean_us"], 2500.0);
        assert_eq!(record.get("write_mean_us"), None);
        assert_eq!(record["utilization_ratio"], 0.25);
    }

    #[test]
    fn a_negative_number_in_flight_is_unknown() {
        for (printed, expected) in [("4294967295", None), ("18446744073709551614", None), ("7", Some(7))] {
            let row = format!("8 0 sda 1 2 3 4 5 6 7 8 {printed} 10 11");
            let record = &sample(&mut Slots::new(), 9, &row)[0];
            assert_eq!(record.get("in_flight").and_then(Value::as_u64), expected, "{printed}");
        }
    }

    #[test]
    fn a_device_without_capacity_is_empty() {
        let dir = tempfile::tempdir().unwrap();
        let roots = Roots { proc: dir.path().into(), sys: dir.path().into(), foreign: true };
        let size = |name: &str, sectors: &str| {
            std::fs::create_dir_all(dir.path().join("block").join(name)).unwrap();
            std::fs::write(dir.path().join("block").join(name).join("size"), sectors).unwrap();
        };
        size("loop0", "0\n");
        size("loop1", "2048\n");
        let mut capacity = DiskCollector::new(&roots).capacity;
        let mut empty = |name: &str| capacity.is_empty(&mut None, name);
        assert_eq!([empty("loop0"), empty("loop1"), empty("loop2")], [true, false, false]);
        let table = "major minor  #blocks  name\n\n   7        0       1024 loop0\n";
        std::fs::write(dir.path().join("partitions"), table).unwrap();
        assert_eq!([empty("loop0"), empty("loop1")], [false, true]);
    }

    #[test]
    fn counts_that_go_back_restart_the_device() {
        let mut slots = Slots::new();
        sample(&mut slots, 10, "8 0 sda 100 0 1000 0 50 0 500 20 0 30 0");
        let record = &sample(&mut slots, 12, "8 0 sda 3 0 24 0 50 0 500 20 0 30 0")[0];
        assert_eq!(record["start_ts"], "1970-01-01T00:00:10.000000000Z");
        assert_eq!(record.get("interval_s"), None);
        // Another device number is another device, even if it has counted more.
        let record = &sample(&mut slots, 14, "8 1 sda 9 0 99 0 99 0 999 20 0 30 0")[0];
        assert_eq!(record["start_ts"], "1970-01-01T00:00:12.000000000Z");
        assert_eq!(record.get("interval_s"), None);
        let record = &sample(&mut slots, 16, "8 1 sda 9 0 99 0 99 0 999 20 0 30 0")[0];
        assert_eq!(
            (&record["start_ts"], &record["read_bytes_per_s"]),
            (&json!("1970-01-01T00:00:12.000000000Z"), &json!(0.0))
        );
    }
}
