//! Records of `iolat`: block I/O of an interval, and slow requests.

use std::collections::BTreeMap;

use super::prelude::*;

/// The body of an `io` record: the requests of one device and operation that completed in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Io {
    /// The disk, or the partition with --partitions; absent with --aggregate.
    pub device: Option<String>,
    /// The operation: read, write, flush or discard.
    pub op: &'static str,
    /// The start of the interval.
    pub start_ts: Option<Timestamp>,
    /// The measured length of the interval.
    pub interval_s: f64,
    /// Requests that completed. The times that follow are from submission to completion.
    pub count: u64,
    /// Bytes that were read, written or discarded.
    pub bytes: u64,
    /// Requests that failed; `count` includes them.
    pub errors: u64,
    /// The times from submission to completion.
    #[serde(flatten)]
    pub times: Times,
    /// The first sector of the slowest request, in units of 512 bytes; absent for a flush.
    pub max_sector: Option<u64>,
    /// The size of the slowest request, or of its last part if it completed in parts; absent for a flush.
    pub max_bytes: Option<u64>,
    /// The process that submitted the slowest request (with --who).
    pub max_pid: Option<u32>,
    /// The name of the thread that submitted the slowest request (with --who).
    pub max_comm: Option<String>,
    /// The number of requests in `device_*` and `queue_*`; absent if it equals `count`.
    pub device_count: Option<u64>,
    /// The sum of device times, from issue to completion.
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
    /// Longest device time, exact.
    pub device_max_us: Option<Micros>,
    /// The sum of queue times, from submission to issue.
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
    /// Longest queue time, exact.
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

/// Written each interval for each device and operation with requests.
///
/// The metrics are not named `system.disk.*`: those are the kernel's totals, which `scrape` writes,
/// and the sum of both would count the same bytes twice.
pub const IO: Kind = Kind::delta::<Io>(
    "io",
    "Latency of the block I/O that completed in an interval, by device and operation",
)
.about(&[("device", "system.device"), ("op", "disk.io.direction")])
.metrics(&[
    Metric::histogram("buckets", "linux.block.duration"),
    Metric::histogram("device_buckets", "linux.block.device.duration"),
    Metric::histogram("queue_buckets", "linux.block.queue.duration"),
    Metric::counter("bytes", "linux.block.io", "By"),
    Metric::counter("errors", "linux.block.errors", "{error}"),
]);

/// The body of an `io_event` record: one slow request; `ts` is when it completed.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct IoEvent {
    /// When it was submitted.
    pub begin_ts: Option<Timestamp>,
    /// The block device.
    pub device: String,
    /// The operation: read, write, flush or discard.
    pub op: &'static str,
    /// The first sector, in units of 512 bytes; absent for a flush.
    pub sector: Option<u64>,
    /// The size, or that of the last part if it completed in parts.
    pub bytes: u64,
    /// The name of the error, such as EIO; absent if the request succeeded.
    pub error: Option<String>,
    /// The time from submission to completion.
    pub total_us: Micros,
    /// The shortest time that is reported (--min); absent if 0. In OpenTelemetry an event is WARN from 10 times this, ERROR
    /// from 100 times.
    pub threshold_us: Option<Micros>,
    /// The time from issue to completion.
    pub device_us: Option<Micros>,
    /// The time from submission to issue.
    pub queue_us: Option<Micros>,
    /// The process that submitted it (this and all fields below with --who).
    pub pid: Option<u32>,
    /// The thread that submitted it.
    pub tid: Option<u32>,
    /// The thread's name.
    pub comm: Option<String>,
    /// The thread's user.
    pub uid: Option<u32>,
    /// The id of the thread's cgroup (version 2).
    pub cgroup_id: Option<u64>,
    /// The path of that cgroup.
    pub cgroup: Option<String>,
    /// The container id in that path.
    pub container_id: Option<String>,
}

/// Written for each request that took at least `--min`, with `--events`.
pub const IO_EVENT: Kind = Kind::log::<IoEvent>(
    "io_event",
    "One slow block I/O request",
    Severity::ByMultiple("total_us", 10_000.0, SLOW),
);
