//! The `disk` record: I/O of block devices.

use super::prelude::*;

/// The type of a block device.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DiskType {
    /// A disk, physical or virtual.
    #[default]
    Disk,
    /// A partition of a disk.
    Partition,
    /// The device mapper: LVM, encryption, multipath.
    Dm,
    /// Software RAID.
    Md,
    /// A loop device: a file as a block device.
    Loop,
    /// Compressed memory (zram).
    Zram,
    /// A RAM disk.
    Ram,
    /// An optical drive.
    Rom,
    /// A network block device.
    Nbd,
    /// A floppy drive.
    Floppy,
    /// A bcache device: one device cached on another.
    Bcache,
    /// A DRBD device: a disk replicated over the network.
    Drbd,
    /// A ZFS volume.
    Zvol,
}

/// The body of a `disk` record: the seventeen counts that Linux keeps for a block
/// device (/proc/diskstats; kernel `Documentation/admin-guide/iostats.rst`).
///
/// Discards exist since Linux 4.18, flushes since 5.5. Loop, RAM, zram and network
/// block devices, optical and floppy drives are left out until they have done I/O;
/// loop, zram and network block devices also while nothing is attached to them.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Disk<'a> {
    /// The kernel's name, such as `sda` or `nvme0n1p2`.
    pub device: &'a str,
    /// The type of device.
    #[serde(rename = "type")]
    pub disk_type: DiskType,
    /// True for the devices that add up to the machine's total. False for partitions, for
    /// devices on top of others (dm, md, loop, bcache, ZFS volumes, the multipath device of
    /// NVMe), and for memory (RAM disks, zram).
    pub whole: bool,
    /// When counting began: boot, or the last sample without the device.
    pub start_ts: Option<Timestamp>,
    /// Reads completed.
    pub reads: Option<u64>,
    /// Reads merged with an adjacent one before they were issued.
    pub reads_merged: Option<u64>,
    /// Bytes read.
    pub read_bytes: Option<u64>,
    /// Total time of all reads, including time in the queue.
    pub read_time_s: Option<f64>,
    /// Writes completed.
    pub writes: Option<u64>,
    /// Writes merged with an adjacent one before they were issued.
    pub writes_merged: Option<u64>,
    /// Bytes written.
    pub write_bytes: Option<u64>,
    /// Total time of all writes, including time in the queue.
    pub write_time_s: Option<f64>,
    /// Requests in flight now.
    pub in_flight: Option<u64>,
    /// Time with at least one request in flight.
    pub io_time_s: Option<f64>,
    /// Requests in flight, integrated over time.
    pub weighted_io_time_s: Option<f64>,
    /// Discards (TRIM) completed.
    pub discards: Option<u64>,
    /// Discards merged with an adjacent one before they were issued.
    pub discards_merged: Option<u64>,
    /// Bytes discarded.
    pub discard_bytes: Option<u64>,
    /// Total time of all discards.
    pub discard_time_s: Option<f64>,
    /// Flushes completed; the kernel counts those of a partition at its disk.
    pub flushes: Option<u64>,
    /// Total time of all flushes.
    pub flush_time_s: Option<f64>,
    /// Length of the interval of the fields below, in seconds.
    pub interval_s: Option<f64>,
    /// Reads completed per second.
    pub reads_per_s: Option<f64>,
    /// Writes completed per second.
    pub writes_per_s: Option<f64>,
    /// Discards completed per second.
    pub discards_per_s: Option<f64>,
    /// Flushes completed per second.
    pub flushes_per_s: Option<f64>,
    /// Bytes read per second.
    pub read_bytes_per_s: Option<f64>,
    /// Bytes written per second.
    pub write_bytes_per_s: Option<f64>,
    /// Mean time of the reads that completed in the interval; absent if none did.
    pub read_mean_us: Option<f64>,
    /// Mean time of the writes that completed in the interval; absent if none did.
    pub write_mean_us: Option<f64>,
    /// Mean number of requests in flight: `aqu-sz` of iostat(1).
    pub queue_depth: Option<f64>,
    /// Share of the interval with at least one request in flight. A device that serves
    /// many requests in parallel is not saturated at 1.
    pub utilization_ratio: Option<f64>,
}

const READ: &[(&str, &str)] = &[("disk.io.direction", "read")];
const WRITE: &[(&str, &str)] = &[("disk.io.direction", "write")];

/// One per device and sample. OpenTelemetry knows only the directions read and write;
/// discards and flushes transfer no data and have metrics of their own.
pub const DISK: Kind = Kind::cumulative::<Disk<'static>>(
    "disk",
    "A block device: reads, writes, discards and flushes since boot",
)
.about(&[("device", "system.device"), ("whole", "telepipe.disk.whole")])
.labels(&[("device", "device")])
.metrics(&[
    io("read_bytes", READ).prometheus("node_disk_read_bytes_total"),
    io("write_bytes", WRITE).prometheus("node_disk_written_bytes_total"),
    count("reads", "system.disk.operations", READ).prometheus("node_disk_reads_completed_total"),
    count("writes", "system.disk.operations", WRITE).prometheus("node_disk_writes_completed_total"),
    time("read_time_s", "system.disk.operation_time", READ).prometheus("node_disk_read_time_seconds_total"),
    time("write_time_s", "system.disk.operation_time", WRITE)
        .prometheus("node_disk_write_time_seconds_total"),
    count("reads_merged", "system.disk.merged", READ).prometheus("node_disk_reads_merged_total"),
    count("writes_merged", "system.disk.merged", WRITE).prometheus("node_disk_writes_merged_total"),
    time("io_time_s", "system.disk.io_time", &[]).prometheus("node_disk_io_time_seconds_total"),
    time("weighted_io_time_s", "system.disk.weighted_io_time", &[])
        .prometheus("node_disk_io_time_weighted_seconds_total"),
    Metric::updown("in_flight", "system.disk.pending_operations", "{operation}")
        .prometheus("node_disk_io_now"),
    Metric::counter("discard_bytes", "telepipe.disk.discard.io", "By")
        .prometheus_times("node_disk_discarded_sectors_total", 1.0 / 512.0),
    count("discards", "telepipe.disk.discard.operations", &[])
        .prometheus("node_disk_discards_completed_total"),
    count("discards_merged", "telepipe.disk.discard.merged", &[])
        .prometheus("node_disk_discards_merged_total"),
    time("discard_time_s", "telepipe.disk.discard.operation_time", &[])
        .prometheus("node_disk_discard_time_seconds_total"),
    count("flushes", "telepipe.disk.flush.operations", &[]).prometheus("node_disk_flush_requests_total"),
    time("flush_time_s", "telepipe.disk.flush.operation_time", &[])
        .prometheus("node_disk_flush_requests_time_seconds_total"),
]);

const fn io(field: &'static str, direction: Pairs) -> Metric {
    Metric::counter(field, "system.disk.io", "By").with(direction)
}

const fn count(field: &'static str, name: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, name, "{operation}").with(attributes)
}

const fn time(field: &'static str, name: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, name, "s").with(attributes)
}
