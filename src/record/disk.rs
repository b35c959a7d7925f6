//! Block devices.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};
use crate::common::time::Timestamp;

/// What a block device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskType {
    /// A disk, or what a virtual machine, a controller or the network offers as one.
    Disk,
    /// A part of a disk.
    Partition,
    /// The device mapper: LVM, encryption, multipath.
    Dm,
    /// Software RAID.
    Md,
    /// A file or device as a disk.
    Loop,
    /// Compressed memory as a disk.
    Zram,
    /// Memory as a disk.
    Ram,
    /// An optical drive.
    Rom,
    /// A disk of another machine, by the network block device protocol.
    Nbd,
    /// A floppy drive.
    Floppy,
    /// A cache of one device on another.
    Bcache,
    /// A disk replicated over the network.
    Drbd,
    /// A volume of ZFS.
    Zvol,
}

/// The body of a `disk` record: the seventeen counts that Linux keeps of a block
/// device (/proc/diskstats; kernel `Documentation/admin-guide/iostats.rst`).
///
/// Discards exist since Linux 4.18, flushes since 5.5. A loop, RAM, zram or network
/// device, an optical or floppy drive, is left out until it has done any I/O.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Disk<'a> {
    /// The kernel's name, such as `sda` or `nvme0n1p2`.
    pub device: &'a str,
    /// What it is.
    #[serde(rename = "type")]
    pub disk_type: DiskType,
    /// True for the devices whose sum is the machine's total. Not so for partitions, for
    /// what lies on other devices that are counted themselves (dm, md, loop, bcache,
    /// ZFS volumes, the joint device of NVMe paths), nor for memory (RAM disks, zram).
    pub whole: bool,
    /// When counting began: boot, or the last sample without the device.
    pub start_ts: Option<Timestamp>,
    /// Reads completed.
    pub reads: Option<u64>,
    /// Reads that became part of an adjacent one before they were issued.
    pub reads_merged: Option<u64>,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Sum over all reads of the time each took, queue included.
    pub read_time_s: Option<f64>,
    /// Writes completed.
    pub writes: Option<u64>,
    /// Writes that became part of an adjacent one before they were issued.
    pub writes_merged: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Sum over all writes of the time each took, queue included.
    pub write_time_s: Option<f64>,
    /// Requests issued and not completed, now.
    pub in_flight: Option<u64>,
    /// Time during which at least one request was in flight.
    pub io_time_s: Option<f64>,
    /// Requests in flight, integrated over time.
    pub weighted_io_time_s: Option<f64>,
    /// Discards (TRIM) completed.
    pub discards: Option<u64>,
    /// Discards that became part of an adjacent one before they were issued.
    pub discards_merged: Option<u64>,
    /// Bytes discarded.
    pub discard_bytes: Option<u64>,
    /// Sum over all discards of the time each took.
    pub discard_time_s: Option<f64>,
    /// Flushes completed; those of partitions are counted at their disk.
    pub flushes: Option<u64>,
    /// Sum over all flushes of the time each took.
    pub flush_time_s: Option<f64>,
    /// Time since the sample before, which the rates below are over.
    pub interval_s: Option<f64>,
    /// Bytes read per second.
    pub read_bytes_per_s: Option<f64>,
    /// Bytes written per second.
    pub write_bytes_per_s: Option<f64>,
    /// Mean time of the reads completed since then; absent if there were none.
    pub read_mean_us: Option<f64>,
    /// Mean time of the writes completed since then; absent if there were none.
    pub write_mean_us: Option<f64>,
    /// Share of the time during which at least one request was in flight. A device
    /// that serves many at a time is not at its limit when this is 1.
    pub utilization_ratio: Option<f64>,
}

impl Record for Disk<'_> {
    const KIND: &'static Kind = &DISK;
}

const READ: &[(&str, &str)] = &[("disk.io.direction", "read")];
const WRITE: &[(&str, &str)] = &[("disk.io.direction", "write")];

/// Per device and sample. OpenTelemetry's directions are read and write only, so that
/// discards and flushes, which transfer nothing, have metrics of their own.
pub const DISK: Kind = Kind::metrics::<Disk<'static>>(
    "disk",
    "A block device: reads, writes, discards and flushes since boot",
    Temporality::Cumulative,
    &[
        io("read_bytes", READ).prometheus("node_disk_read_bytes_total", 1.0),
        io("write_bytes", WRITE).prometheus("node_disk_written_bytes_total", 1.0),
        count("reads", "system.disk.operations", READ).prometheus("node_disk_reads_completed_total", 1.0),
        count("writes", "system.disk.operations", WRITE).prometheus("node_disk_writes_completed_total", 1.0),
        time("read_time_s", "system.disk.operation_time", READ)
            .prometheus("node_disk_read_time_seconds_total", 1.0),
        time("write_time_s", "system.disk.operation_time", WRITE)
            .prometheus("node_disk_write_time_seconds_total", 1.0),
        count("reads_merged", "system.disk.merged", READ).prometheus("node_disk_reads_merged_total", 1.0),
        count("writes_merged", "system.disk.merged", WRITE).prometheus("node_disk_writes_merged_total", 1.0),
        time("io_time_s", "system.disk.io_time", &[]).prometheus("node_disk_io_time_seconds_total", 1.0),
        time("weighted_io_time_s", "system.disk.weighted_io_time", &[])
            .prometheus("node_disk_io_time_weighted_seconds_total", 1.0),
        Metric::updown("in_flight", "system.disk.pending_operations", "{operation}")
            .prometheus("node_disk_io_now", 1.0),
        Metric::counter("discard_bytes", "telepipe.disk.discard.io", "By")
            .prometheus("node_disk_discarded_sectors_total", 1.0 / 512.0),
        count("discards", "telepipe.disk.discard.operations", &[])
            .prometheus("node_disk_discards_completed_total", 1.0),
        count("discards_merged", "telepipe.disk.discard.merged", &[])
            .prometheus("node_disk_discards_merged_total", 1.0),
        time("discard_time_s", "telepipe.disk.discard.operation_time", &[])
            .prometheus("node_disk_discard_time_seconds_total", 1.0),
        count("flushes", "telepipe.disk.flush.operations", &[])
            .prometheus("node_disk_flush_requests_total", 1.0),
        time("flush_time_s", "telepipe.disk.flush.operation_time", &[])
            .prometheus("node_disk_flush_requests_time_seconds_total", 1.0),
    ],
)
.about(&[("device", "system.device"), ("whole", "telepipe.disk.whole")])
.labels(&[("device", "device")]);

type Attributes = &'static [(&'static str, &'static str)];

const fn io(field: &'static str, direction: Attributes) -> Metric {
    Metric::counter(field, "system.disk.io", "By").with(direction)
}

const fn count(field: &'static str, name: &'static str, attributes: Attributes) -> Metric {
    Metric::counter(field, name, "{operation}").with(attributes)
}

const fn time(field: &'static str, name: &'static str, attributes: Attributes) -> Metric {
    Metric::counter(field, name, "s").with(attributes)
}
