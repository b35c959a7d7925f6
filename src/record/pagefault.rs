//! Records of `pagefault-trace`: slow and major faults, and all faults of an interval.

use super::prelude::*;

/// The body of a `pagefault` record: one fault; `ts` is when it was done.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Pagefault {
    /// Whether it waited for a device.
    pub major: bool,
    /// Whether the access was a write.
    pub write: bool,
    /// Whether user code faulted; else it was the kernel, for the thread.
    pub user: bool,
    /// Whether the access was an instruction fetch.
    pub instruction: bool,
    /// The address of the access.
    pub address: Hex,
    /// The address of the instruction that faulted; absent where the kernel does not report it.
    pub ip: Option<Hex>,
    /// The time from the exception until the page was present.
    pub duration_us: Micros,
    /// The shortest time of minor faults that is reported (--min); absent if 0. In OpenTelemetry an event is WARN from
    /// 100 times this, ERROR from 10,000 times.
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
    /// The id of the thread's cgroup (version 2).
    pub cgroup_id: Option<u64>,
    /// The path of that cgroup.
    pub cgroup: Option<String>,
    /// The container id in that path.
    pub container_id: Option<String>,
    /// The file that is mapped at the address (with --resolve), or the kernel's name for the memory: `[heap]`, `[stack]`.
    pub mapping: Option<String>,
    /// The offset of the address in that file, in bytes.
    pub mapping_offset: Option<u64>,
}

/// Written for each fault that was major or took at least `--min`.
pub const PAGEFAULT: Kind = Kind::log::<Pagefault>(
    "pagefault",
    "One page fault that was major or slow",
    Severity::ByMultiple(
        "duration_us",
        100.0,
        &[(0.0, Level::Info), (100.0, Level::Warn), (10_000.0, Level::Error)],
    ),
);

/// The body of a `pagefault_summary` record: the faults of one kind that ended in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct PagefaultSummary {
    /// `minor`, or `major` for faults that waited for a device.
    pub r#type: &'static str,
    /// `read` (also of instructions) or `write`.
    pub access: &'static str,
    /// `user` for faults of user code, `kernel` for faults of the kernel for a thread.
    pub mode: &'static str,
    /// The start of the interval.
    pub start_ts: Option<Timestamp>,
    /// The measured length of the interval.
    pub interval_s: f64,
    /// The number of faults.
    pub count: u64,
    /// The times of the faults.
    #[serde(flatten)]
    pub times: Times,
    /// The process with the slowest fault.
    pub max_pid: Option<u32>,
    /// The name of its thread.
    pub max_comm: Option<String>,
    /// The distribution of their times.
    #[serde(flatten)]
    pub distribution: Option<Distribution>,
}

/// Written each interval for each kind of fault that occurred.
pub const PAGEFAULT_SUMMARY: Kind = Kind::delta::<PagefaultSummary>(
    "pagefault_summary",
    "Page faults of an interval: minor and major, read and write, user and kernel",
)
.about(&[("type", "system.paging.fault.type"), ("access", "linux.page_fault.access"), ("mode", "cpu.mode")])
.metrics(&[Metric::histogram("buckets", "linux.page_fault.duration")]);

/// The body of a `pagefault_process` record: the faults of one process in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct PagefaultProcess {
    /// The process.
    pub pid: u32,
    /// The name of the thread with the slowest fault.
    pub comm: String,
    /// The user of the thread that faulted first.
    pub uid: u32,
    /// The id of its cgroup (version 2).
    pub cgroup_id: Option<u64>,
    /// The path of that cgroup.
    pub cgroup: Option<String>,
    /// The container id in that path.
    pub container_id: Option<String>,
    /// The start of the interval.
    pub start_ts: Option<Timestamp>,
    /// The measured length of the interval.
    pub interval_s: f64,
    /// Minor faults.
    pub minor: u64,
    /// Major faults.
    pub major: u64,
    /// The time spent on minor faults.
    pub minor_us: Micros,
    /// The time spent on major faults.
    pub major_us: Micros,
    /// The time of the slowest fault.
    pub max_us: Micros,
}

/// Written each interval for the processes that spent most time on faults, with `--per-process`.
pub const PAGEFAULT_PROCESS: Kind = Kind::delta::<PagefaultProcess>(
    "pagefault_process",
    "One of the processes that spent most time on page faults",
)
.about(PROCESS_ATTRIBUTES)
.metrics(&[
    Metric::counter("minor_us", "linux.page_fault.process.time", "s")
        .times(1e-6)
        .with(&[("system.paging.fault.type", "minor")]),
    Metric::counter("major_us", "linux.page_fault.process.time", "s")
        .times(1e-6)
        .with(&[("system.paging.fault.type", "major")]),
]);
