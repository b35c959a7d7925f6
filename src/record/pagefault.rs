//! Page faults: slow ones one by one, and all of them counted.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Distribution, Hex, Kind, Level, Metric, Record, Severity, Temporality, Times};
use crate::common::time::{Micros, Timestamp};

/// The body of a `pagefault` record: one fault; `ts` is when it was done.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Pagefault {
    /// Whether it waited for a device.
    pub major: bool,
    /// Whether it was a write.
    pub write: bool,
    /// Whether user code faulted; false: the kernel, on behalf of the thread.
    pub user: bool,
    /// Whether an instruction was to be fetched.
    pub instruction: bool,
    /// The address that was to be read or written.
    pub address: Hex,
    /// The instruction that did so; absent where the kernel does not tell.
    pub ip: Option<Hex>,
    /// From the exception until the page was there.
    pub duration_us: Micros,
    /// What it had to reach to be told if it was no major one (--min); absent where that is 0. Severity in OpenTelemetry goes by its multiples.
    pub threshold_us: Option<Micros>,
    /// When the exception happened.
    pub begin_ts: Option<Timestamp>,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: String,
    /// The thread's user.
    pub uid: u32,
    /// The CPU on which the fault was done.
    pub cpu: u32,
    /// The id of the thread's cgroup (v2).
    pub cgroup_id: Option<u64>,
    /// The path of that cgroup.
    pub cgroup: Option<String>,
    /// The container that the path names.
    pub container_id: Option<String>,
    /// The file that is mapped there (with --resolve), or the kernel's name for the memory: `[heap]`, `[stack]`.
    pub mapping: Option<String>,
    /// Where in that file the address lies, in bytes.
    pub mapping_offset: Option<u64>,
}

impl Record for Pagefault {
    const KIND: &'static Kind = &PAGEFAULT;
}

/// Whenever a fault was major, or took as long as `--min`.
pub const PAGEFAULT: Kind = Kind::log::<Pagefault>(
    "pagefault",
    "One page fault that waited for a device, or took long",
    Severity::ByMultiple(
        "duration_us",
        100.0,
        &[(0.0, Level::Info), (100.0, Level::Warn), (10_000.0, Level::Error)],
    ),
);

/// The body of a `pagefault_summary` record: faults of one kind that were done in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct PagefaultSummary {
    /// `minor`, or `major`: it waited for a device.
    pub r#type: &'static str,
    /// `read` (instructions too) or `write`.
    pub access: &'static str,
    /// Who faulted: `user`, or the `kernel` on behalf of a thread.
    pub mode: &'static str,
    /// When the interval began.
    pub start_ts: Option<Timestamp>,
    /// Its length, as measured.
    pub interval_s: f64,
    /// Faults.
    pub count: u64,
    /// How long they took.
    #[serde(flatten)]
    pub times: Times,
    /// The process of the slowest fault.
    pub max_pid: Option<u32>,
    /// The name of its thread.
    pub max_comm: Option<String>,
    /// The distribution of their times.
    #[serde(flatten)]
    pub distribution: Option<Distribution>,
}

impl Record for PagefaultSummary {
    const KIND: &'static Kind = &PAGEFAULT_SUMMARY;
}

/// Each interval, for each kind of fault that there was.
pub const PAGEFAULT_SUMMARY: Kind = Kind::metrics::<PagefaultSummary>(
    "pagefault_summary",
    "Page faults of an interval: minor and major, read and write, user and kernel",
    Temporality::Delta,
    &[Metric::histogram("buckets", "linux.page_fault.duration")],
)
.about(&[("type", "system.paging.fault.type"), ("access", "linux.page_fault.access"), ("mode", "cpu.mode")]);

/// The body of a `pagefault_process` record: what one process spent on faults in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct PagefaultProcess {
    /// The process.
    pub pid: u32,
    /// The name of its thread with the slowest fault.
    pub comm: String,
    /// The user of the thread that was seen first.
    pub uid: u32,
    /// The id of its cgroup (v2).
    pub cgroup_id: Option<u64>,
    /// The path of that cgroup.
    pub cgroup: Option<String>,
    /// The container that the path names.
    pub container_id: Option<String>,
    /// When the interval began.
    pub start_ts: Option<Timestamp>,
    /// Its length, as measured.
    pub interval_s: f64,
    /// Minor faults.
    pub minor: u64,
    /// Major faults.
    pub major: u64,
    /// Time of the minor faults.
    pub minor_us: Micros,
    /// Time of the major faults.
    pub major_us: Micros,
    /// The slowest fault.
    pub max_us: Micros,
}

impl Record for PagefaultProcess {
    const KIND: &'static Kind = &PAGEFAULT_PROCESS;
}

/// Each interval, with `--per-process`, for those that spent most time on faults.
pub const PAGEFAULT_PROCESS: Kind = Kind::metrics::<PagefaultProcess>(
    "pagefault_process",
    "One of the processes that spent most time on page faults",
    Temporality::Delta,
    &[
        Metric::counter("minor_us", "linux.page_fault.process.time", "s")
            .times(1e-6)
            .with(&[("system.paging.fault.type", "minor")]),
        Metric::counter("major_us", "linux.page_fault.process.time", "s")
            .times(1e-6)
            .with(&[("system.paging.fault.type", "major")]),
    ],
)
.about(&[
    ("pid", "process.pid"),
    ("comm", "process.executable.name"),
    ("uid", "process.user.id"),
    ("container_id", "container.id"),
]);
