//! /proc/diskstats, or /sys/block/*/stat where there is none → `disk`.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::blockdev::{self, Facts};
use super::diskstats::{self, Counts, Line, at};
use super::slots::{Slot, Slots};
use super::text::{lines, number, words};
use super::{Collector, Roots, Sample, Source, micro, rate, unreadable};
use crate::common::emit::Emitter;
use crate::record::{DISK, Disk, Kind, Reason};

/// The unit of sectors in these files, whatever the device's own is.
const SECTOR: u64 = 512;

/// One read for all devices; sysfs is asked about a device when it appears.
pub struct DiskCollector {
    path: String,
    source: Source,
    sys: PathBuf,
    /// Text put together from sysfs, if that is how it goes.
    gathered: Vec<u8>,
    slots: Slots<Memory>,
}

/// What is known of a device.
struct Memory {
    facts: Facts,
    /// Of the sample before.
    before: Option<Counts>,
}

impl DiskCollector {
    /// Of these trees.
    pub fn new(roots: &Roots) -> Self {
        let path = roots.proc.join("diskstats");
        let source = Source::new(&path);
        Self {
            path: path.display().to_string(),
            source,
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
        let way = if self.gathered.is_empty() { "" } else { ", which is missing: the stat files of sysfs" };
        format!("{}{way}; what a device is from {}", self.path, self.sys.join("block").display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Self { path, source, sys, gathered, slots } = self;
        let text = match source.read() {
            Ok(text) => text,
            Err(error) if absent(&error) && diskstats::gather(&sys.join("block"), gathered).is_ok() => {
                gathered
            }
            Err(error) => {
                slots.miss();
                return unreadable(out, sample.ts, path, &error);
            }
        };
        let interval = slots.begin(sample);
        for (index, row) in lines(text).enumerate() {
            let Some(line) = diskstats::parse(row) else {
                let detail = format!("line {} is not that of a device", index + 1);
                out.status(sample.ts, path, Reason::Invalid, &detail)?;
                continue;
            };
            let id = u64::from(line.dev.0) << 32 | u64::from(line.dev.1);
            let slot = slots.slot(line.name, id, |name| {
                let facts = blockdev::facts(sys, name, |other| is_listed(text, other));
                Memory { facts, before: None }
            });
            let unused = line.counts.iter().all(|count| count.unwrap_or(0) == 0);
            let silent = unused && blockdev::is_slot(slot.data.facts.disk_type);
            let record = measure(slot, &line, interval, sample);
            if sample.wants(&DISK) && !silent {
                out.emit(sample.ts, &record)?;
            }
        }
        slots.end();
        Ok(())
    }
}

fn absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn is_listed(text: &[u8], name: &str) -> bool {
    lines(text).any(|line| {
        let mut words = words(line);
        let dev = words.next().and_then(number).is_some() && words.next().and_then(number).is_some();
        dev && words.next() == Some(name.as_bytes())
    })
}

/// The record of one device, and the memory of it for the next sample.
fn measure<'a>(
    slot: &'a mut Slot<Memory>,
    line: &Line<'_>,
    interval: Option<Duration>,
    sample: &Sample<'_>,
) -> Disk<'a> {
    let now = &line.counts;
    let mut before = slot.data.before.replace(*now);
    let went_back = |place: usize, before: &Counts| now[place] < before[place];
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

fn totals<'a>(slot: &'a Slot<Memory>, counts: &Counts, sample: &Sample<'_>) -> Disk<'a> {
    let bytes = |place: usize| counts[place].map(|sectors| sectors.saturating_mul(SECTOR));
    let seconds = |place: usize| counts[place].map(|ms| ms as f64 / 1e3);
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
        in_flight: counts[at::IN_FLIGHT],
        io_time_s: seconds(at::IO_MS),
        weighted_io_time_s: seconds(at::WEIGHTED_MS),
        discards: counts[at::DISCARDS],
        discards_merged: counts[at::DISCARDS_MERGED],
        discard_bytes: bytes(at::DISCARD_SECTORS),
        discard_time_s: seconds(at::DISCARD_MS),
        flushes: counts[at::FLUSHES],
        flush_time_s: seconds(at::FLUSH_MS),
        interval_s: None,
        read_bytes_per_s: None,
        write_bytes_per_s: None,
        read_mean_us: None,
        write_mean_us: None,
        utilization_ratio: None,
    }
}

fn rates(disk: &mut Disk<'_>, now: &Counts, before: &Counts, interval: Duration) {
    // The kernel prints times modulo 2^32 ms, which a busy device reaches in weeks.
    let elapsed_ms = |place: usize| Some((now[place]? as u32).wrapping_sub(before[place]? as u32));
    let bytes = |counts: &Counts, place: usize| counts[place].map(|sectors| sectors.saturating_mul(SECTOR));
    let per_s = |place| rate(bytes(now, place), bytes(before, place), Some(interval));
    let mean_us = |count: usize, ms: usize| {
        let count = now[count]?.checked_sub(before[count]?).filter(|count| *count > 0)?;
        // The times have a resolution of 1 ms, which leaves no more digits than these.
        Some((f64::from(elapsed_ms(ms)?) * 1e4 / count as f64).round() / 10.0)
    };
    disk.interval_s = Some(micro(interval.as_secs_f64()));
    disk.read_bytes_per_s = per_s(at::READ_SECTORS);
    disk.write_bytes_per_s = per_s(at::WRITE_SECTORS);
    disk.read_mean_us = mean_us(at::READS, at::READ_MS);
    disk.write_mean_us = mean_us(at::WRITES, at::WRITE_MS);
    disk.utilization_ratio =
        elapsed_ms(at::IO_MS).map(|ms| micro(f64::from(ms) / 1e3 / interval.as_secs_f64()).min(1.0));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::time::Timestamp;
    use serde_json::{Value, json};
    use std::path::Path;

    /// The records of one sample at that second, two seconds after the one before.
    fn sample(slots: &mut Slots<Memory>, second: u64, text: &str) -> Vec<Value> {
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
            let slot = slots.slot(line.name, line.dev.1.into(), |_| Memory { facts, before: None });
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
        sample(&mut slots, 10, "8 0 sda 100 0 1000 4294967290 50 0 500 20 0 4294967000 0");
        // The times pass 2^32 ms; 4 reads took 10 ms together, no write was completed.
        let record = &sample(&mut slots, 12, "8 0 sda 104 0 1008 4 50 0 600 20 0 204 0")[0];
        assert_eq!(record["interval_s"], 2.0);
        assert_eq!(record["read_bytes_per_s"], 2048.0);
        assert_eq!(record["write_bytes_per_s"], 25600.0);
        assert_eq!(record["read_mean_us"], 2500.0);
        assert_eq!(record.get("write_mean_us"), None);
        assert_eq!(record["utilization_ratio"], 0.25);
        assert_eq!(record.get("discards"), None);
    }

    #[test]
    fn counts_that_go_back_begin_anew() {
        let mut slots = Slots::new();
        sample(&mut slots, 10, "8 0 sda 100 0 1000 0 50 0 500 20 0 30 0");
        let record = &sample(&mut slots, 12, "8 0 sda 3 0 24 0 50 0 500 20 0 30 0")[0];
        assert_eq!(record["start_ts"], "1970-01-01T00:00:10.000000000Z");
        assert_eq!(record.get("interval_s"), None);
        // Another device under the same name is known by its number, even if it counts more.
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
