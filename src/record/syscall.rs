//! Records of `syscall-trace`: slow calls, calls that do not return, and all calls of an interval.

use std::borrow::Cow;

use super::prelude::*;

/// The body of a `syscall` record: one slow call; `ts` is when it returned.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Syscall<'a> {
    /// The name of the call, such as openat; `syscall_N` if the number N is unknown.
    pub syscall: Cow<'a, str>,
    /// The number of the call in the kernel's table.
    pub nr: i32,
    /// The class of the call: file, network, memory, process, signal, time, other, or wait for calls that
    /// wait by design (with --waits).
    pub class: &'static str,
    /// The architecture of the kernel's table, if it is not the native one: i386, x32 or arm.
    pub arch: Option<&'static str>,
    /// The time from entry to return.
    pub duration_us: Micros,
    /// The shortest time that is reported (--min); absent if 0. In OpenTelemetry an event is WARN from 10 times this, ERROR
    /// from 100 times.
    pub threshold_us: Option<Micros>,
    /// When it began.
    pub begin_ts: Option<Timestamp>,
    /// The return value.
    pub ret: i64,
    /// The name of the error, such as ENOENT, if the call failed; ERESTARTSYS or similar if a signal
    /// interrupted it, and the kernel restarts it or returns EINTR.
    pub error: Option<Cow<'a, str>>,
    /// The six arguments as passed, whether the call has that many or not.
    pub args: [Hex; 6],
    /// The type of file that a read or write waited for (with --waits): pipe, socket, tty, anon (eventfd,
    /// timerfd, inotify and similar), or device (others that support poll, such as /dev/kmsg).
    pub fd_type: Option<&'static str>,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: Cow<'a, str>,
    /// The thread's user.
    pub uid: u32,
    /// The CPU on which it returned.
    pub cpu: u32,
    /// The id of the thread's cgroup (version 2).
    pub cgroup_id: u64,
    /// The path of that cgroup.
    pub cgroup: Option<Cow<'a, str>>,
    /// The container id in that path.
    pub container_id: Option<Cow<'a, str>>,
}

/// Written when a call returns that took at least `--min`.
pub const SYSCALL: Kind = Kind::log::<Syscall<'static>>(
    "syscall",
    "One slow system call",
    Severity::ByMultiple(
        "duration_us",
        10_000.0,
        &[(1.0, Level::Info), (10.0, Level::Warn), (100.0, Level::Error)],
    ),
);

/// The body of a `syscall_stuck` record: one call that has not returned; `ts` is when it was seen.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct SyscallStuck<'a> {
    /// The name of the call.
    pub syscall: Cow<'a, str>,
    /// The number of the call in the kernel's table.
    pub nr: i32,
    /// The class of the call, as in `syscall` records.
    pub class: &'static str,
    /// The architecture of the kernel's table, if it is not the native one.
    pub arch: Option<&'static str>,
    /// The time since it began.
    pub elapsed_us: Option<Micros>,
    /// The time since the tracer started, for a call that began before.
    pub at_least_us: Option<Micros>,
    /// When it began, if known.
    pub begin_ts: Option<Timestamp>,
    /// The state of the thread, as in ps(1): S (sleeping), D (uninterruptible), R (running) or T (stopped).
    pub state: &'static str,
    /// The six arguments as passed.
    pub args: [Hex; 6],
    /// The type of file that a read or write waits for, as in `syscall` records.
    pub fd_type: Option<&'static str>,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: Cow<'a, str>,
    /// The thread's user.
    pub uid: u32,
    /// The id of the thread's cgroup (version 2).
    pub cgroup_id: u64,
    /// The path of that cgroup.
    pub cgroup: Option<Cow<'a, str>>,
    /// The container id in that path.
    pub container_id: Option<Cow<'a, str>>,
}

/// Written each interval for each call in progress, with `--stuck`.
pub const SYSCALL_STUCK: Kind = Kind::log::<SyscallStuck<'static>>(
    "syscall_stuck",
    "One system call that has not returned for a long time",
    Severity::Is(Level::Warn),
);

/// The body of a `syscall_summary` record: the calls with one name that returned in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct SyscallSummary {
    /// The name of the call; `other` for all numbers from 511 on and below 0 together.
    pub syscall: Cow<'static, str>,
    /// The class of the call, as in `syscall` records.
    pub class: &'static str,
    /// The architecture of the kernel's table, if it is not the native one.
    pub arch: Option<&'static str>,
    /// The start of the interval.
    pub start_ts: Option<Timestamp>,
    /// The measured length of the interval.
    pub interval_s: f64,
    /// Calls that returned.
    pub count: u64,
    /// Calls that returned an error, including those that a signal interrupted.
    pub errors: u64,
    /// The sum of their times.
    pub sum_us: Micros,
    /// The mean.
    pub mean_us: Option<Micros>,
    /// The median.
    pub p50_us: Option<Micros>,
    /// The 95th percentile.
    pub p95_us: Option<Micros>,
    /// The 99th percentile.
    pub p99_us: Option<Micros>,
    /// The longest time, exact.
    pub max_us: Option<Micros>,
    /// The distribution of their times.
    #[serde(flatten)]
    pub distribution: Option<Distribution>,
}

/// Written each interval for each system call that returned in it, with `--summary`.
pub const SYSCALL_SUMMARY: Kind = Kind::delta::<SyscallSummary>(
    "syscall_summary",
    "Count and latency of the system calls that returned in an interval, by name",
)
.about(&[("syscall", "linux.syscall.name"), ("class", "linux.syscall.class"), ("arch", "linux.syscall.arch")])
.metrics(&[
    Metric::histogram("buckets", "linux.syscall.duration"),
    Metric::counter("errors", "linux.syscall.errors", "{error}"),
]);
