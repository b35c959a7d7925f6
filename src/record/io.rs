//! Block I/O: latency distributions by interval, and slow requests one by one.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Distribution, Kind, Level, Metric, Record, Severity, Temporality, Times};
use crate::common::time::{Micros, Timestamp};

/// The body of an `io` record: requests of one device and operation that ended in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Io {
    /// The block device: a whole disk, or a partition with --partitions; absent with --aggregate.
    pub device: Option<String>,
    /// read, write, flush or discard.
    pub op: &'static str,
    /// When the interval began.
    pub start_ts: Option<Timestamp>,
    /// Its length, as measured.
    pub interval_s: f64,
    /// Requests that ended, each counted once. The times that follow are from submission to completion.
    pub count: u64,
    /// Bytes that were read, written or discarded.
    pub bytes: u64,
    /// Requests that failed; they are among `count`.
    pub errors: u64,
    /// Their total times, from submission to completion.
    #[serde(flatten)]
    pub times: Times,
    /// Where the slowest request lay on the device, in sectors of 512 bytes; absent for a flush.
    pub max_sector: Option<u64>,
    /// The length of the slowest request; of one that ended in parts, of its last part; absent for a flush.
    pub max_bytes: Option<u64>,
    /// The process that submitted the slowest request (with --who).
    pub max_pid: Option<u32>,
    /// The name of the thread that submitted the slowest request (with --who).
    pub max_comm: Option<String>,
    /// Requests whose time of issue is known, where that is not all of them: only they are in
    /// `device_*` and `queue_*`.
    pub device_count: Option<u64>,
    /// Device time, from issue to completion: the sum.
    pub device_sum_us: Option<Micros>,
    /// Mean device time.
    pub device_mean_us: Option<Micros>,
    /// Median device time.
    pub device_p50_us: Option<Micros>,
    /// 90th percentile of device time.
    pub device_p90_us: Option<Micros>,
    /// 95th percentile of device time.
    pub device_p95_us: Option<Micros>,
    /// 99th percentile of device time.
    pub device_p99_us: Option<Micros>,
    /// 99.9th percentile of device time.
    pub device_p999_us: Option<Micros>,
    /// Longest device time, exactly.
    pub device_max_us: Option<Micros>,
    /// Queue time, from submission to issue: the sum.
    pub queue_sum_us: Option<Micros>,
    /// Mean queue time.
    pub queue_mean_us: Option<Micros>,
    /// Median queue time.
    pub queue_p50_us: Option<Micros>,
    /// 90th percentile of queue time.
    pub queue_p90_us: Option<Micros>,
    /// 95th percentile of queue time.
    pub queue_p95_us: Option<Micros>,
    /// 99th percentile of queue time.
    pub queue_p99_us: Option<Micros>,
    /// 99.9th percentile of queue time.
    pub queue_p999_us: Option<Micros>,
    /// Longest queue time, exactly.
    pub queue_max_us: Option<Micros>,
    /// The distribution of total time. Those of device and queue time have the same scale.
    #[serde(flatten)]
    pub distribution: Option<Distribution>,
    /// Device times of at most 128 ns.
    pub device_zero_count: Option<u64>,
    /// The distribution of device time, as `buckets`.
    pub device_buckets: Option<BTreeMap<i32, u64>>,
    /// Queue times of at most 128 ns.
    pub queue_zero_count: Option<u64>,
    /// The distribution of queue time, as `buckets`.
    pub queue_buckets: Option<BTreeMap<i32, u64>>,
}

impl Record for Io {
    const KIND: &'static Kind = &IO;
}

/// Each interval, for each device and operation that saw traffic.
///
/// The metrics are not named `system.disk.*`: those are the kernel's own totals, which
/// `scrape` gives, and a consumer of both would add up the same bytes twice.
pub const IO: Kind = Kind::metrics::<Io>(
    "io",
    "Latency of the block I/O that ended in an interval, by device and operation",
    Temporality::Delta,
    &[
        Metric::histogram("buckets", "linux.block.duration"),
        Metric::histogram("device_buckets", "linux.block.device.duration"),
        Metric::histogram("queue_buckets", "linux.block.queue.duration"),
        Metric::counter("bytes", "linux.block.io", "By"),
        Metric::counter("errors", "linux.block.errors", "{error}"),
    ],
)
.about(&[("device", "system.device"), ("op", "disk.io.direction")]);

/// The body of an `io_event` record: one slow request; `ts` is when it ended.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct IoEvent {
    /// When it was submitted.
    pub begin_ts: Option<Timestamp>,
    /// The block device.
    pub device: String,
    /// read, write, flush or discard.
    pub op: &'static str,
    /// Where it lay on the device, in sectors of 512 bytes; absent for a flush.
    pub sector: Option<u64>,
    /// How long it was; of one that ended in parts, the last part.
    pub bytes: u64,
    /// The name of the error with which it ended, such as EIO; absent if it ended well.
    pub error: Option<String>,
    /// From submission to completion.
    pub total_us: Micros,
    /// What it had to reach to be told (--min); absent where that is 0. Severity in OpenTelemetry goes by its multiples.
    pub threshold_us: Option<Micros>,
    /// From issue to completion.
    pub device_us: Option<Micros>,
    /// From submission to issue.
    pub queue_us: Option<Micros>,
    /// The process that submitted it (this and all below: with --who).
    pub pid: Option<u32>,
    /// The thread that submitted it.
    pub tid: Option<u32>,
    /// The thread's name.
    pub comm: Option<String>,
    /// The thread's user.
    pub uid: Option<u32>,
    /// The id of the thread's cgroup (v2).
    pub cgroup_id: Option<u64>,
    /// The path of that cgroup.
    pub cgroup: Option<String>,
    /// The container that the path names.
    pub container_id: Option<String>,
}

impl Record for IoEvent {
    const KIND: &'static Kind = &IO_EVENT;
}

/// Whenever a request took as long as `--min`, with `--events`.
pub const IO_EVENT: Kind = Kind::log::<IoEvent>(
    "io_event",
    "One block I/O request that took long",
    Severity::ByMultiple(
        "total_us",
        10_000.0,
        &[(0.0, Level::Info), (10.0, Level::Warn), (100.0, Level::Error)],
    ),
);
