//! System calls: slow ones, those that do not return, and all of them by interval.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Distribution, Hex, Kind, Level, Metric, Record, Severity, Temporality};
use crate::common::time::{Micros, Timestamp};

/// The body of a `syscall` record: one call that took long; `ts` is when it returned.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct Syscall<'a> {
    /// Its name, such as openat; `syscall_N` if the number N has none that is known here.
    pub syscall: Cow<'a, str>,
    /// Its number in the kernel's table.
    pub nr: i32,
    /// What it is about: file, network, memory, process, signal, time or other; or wait, if it waits by
    /// design (with --waits).
    pub class: &'static str,
    /// The table that the number is of, where that is not the machine's own: i386, x32 or arm.
    pub arch: Option<&'static str>,
    /// From entry to return.
    pub duration_us: Micros,
    /// What it had to reach to be told (--min); absent where that is 0. Severity in OpenTelemetry goes by its multiples.
    pub threshold_us: Option<Micros>,
    /// When it was entered.
    pub begin_ts: Option<Timestamp>,
    /// What it returned.
    pub ret: i64,
    /// The name of the error, such as ENOENT, if it failed; ERESTARTSYS and the like if a signal
    /// interrupted it: the kernel enters it again, or makes it fail with EINTR.
    pub error: Option<Cow<'a, str>>,
    /// The six arguments as they were passed, whether the call takes so many or not.
    pub args: [Hex; 6],
    /// What a read or write waited for, if that is no file (with --waits): pipe, socket, tty, anon for
    /// eventfd, timerfd, inotify and the like, or device for others that can be polled, such as /dev/kmsg.
    pub fd_type: Option<&'static str>,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: Cow<'a, str>,
    /// The thread's user.
    pub uid: u32,
    /// The CPU that it returned on.
    pub cpu: u32,
    /// The id of the thread's cgroup (v2).
    pub cgroup_id: u64,
    /// The path of that cgroup.
    pub cgroup: Option<Cow<'a, str>>,
    /// The container that the path names.
    pub container_id: Option<Cow<'a, str>>,
}

impl Record for Syscall<'_> {
    const KIND: &'static Kind = &SYSCALL;
}

/// Whenever a call returns that took as long as `--min`.
pub const SYSCALL: Kind = Kind::log::<Syscall<'static>>(
    "syscall",
    "One system call that took long",
    Severity::ByMultiple(
        "duration_us",
        10_000.0,
        &[(1.0, Level::Info), (10.0, Level::Warn), (100.0, Level::Error)],
    ),
);

/// The body of a `syscall_stuck` record: one call that has not returned; `ts` is when it was looked at.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct SyscallStuck<'a> {
    /// Its name.
    pub syscall: Cow<'a, str>,
    /// Its number in the kernel's table.
    pub nr: i32,
    /// What it is about, as in a `syscall` record.
    pub class: &'static str,
    /// The table that the number is of, where that is not the machine's own.
    pub arch: Option<&'static str>,
    /// How long ago it was entered.
    pub elapsed_us: Option<Micros>,
    /// Instead, of a call that was entered before this program started: how long it has been seen in it.
    pub at_least_us: Option<Micros>,
    /// When it was entered, if that is known.
    pub begin_ts: Option<Timestamp>,
    /// What its thread does, as ps(1) has it: S sleeps, D sleeps and no signal wakes it, R runs, T is stopped.
    pub state: &'static str,
    /// The six arguments as they were passed.
    pub args: [Hex; 6],
    /// What a read or write waits for, as in a `syscall` record.
    pub fd_type: Option<&'static str>,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: Cow<'a, str>,
    /// The thread's user.
    pub uid: u32,
    /// The id of the thread's cgroup (v2).
    pub cgroup_id: u64,
    /// The path of that cgroup.
    pub cgroup: Option<Cow<'a, str>>,
    /// The container that the path names.
    pub container_id: Option<Cow<'a, str>>,
}

impl Record for SyscallStuck<'_> {
    const KIND: &'static Kind = &SYSCALL_STUCK;
}

/// Each interval, for each call that is not over, with `--stuck`.
pub const SYSCALL_STUCK: Kind = Kind::log::<SyscallStuck<'static>>(
    "syscall_stuck",
    "One system call that has not returned for long",
    Severity::Is(Level::Warn),
);

/// The body of a `syscall_summary` record: the calls of one name that returned in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
pub struct SyscallSummary {
    /// Its name; `other` for all numbers of 511 and above, and those below 0, together.
    pub syscall: Cow<'static, str>,
    /// What it is about, as in a `syscall` record.
    pub class: &'static str,
    /// The table that the number is of, where that is not the machine's own.
    pub arch: Option<&'static str>,
    /// When the interval began.
    pub start_ts: Option<Timestamp>,
    /// Its length, as measured.
    pub interval_s: f64,
    /// Calls that returned, each counted once.
    pub count: u64,
    /// Calls that returned an error, those included that a signal interrupted.
    pub errors: u64,
    /// The sum of their times.
    pub sum_us: Micros,
    /// Their mean.
    pub mean_us: Option<Micros>,
    /// Half of the calls took at most this long.
    pub p50_us: Option<Micros>,
    /// 95 % of the calls took at most this long.
    pub p95_us: Option<Micros>,
    /// 99 % of the calls took at most this long.
    pub p99_us: Option<Micros>,
    /// The slowest, exactly.
    pub max_us: Option<Micros>,
    /// The distribution of their times.
    #[serde(flatten)]
    pub distribution: Option<Distribution>,
}

impl Record for SyscallSummary {
    const KIND: &'static Kind = &SYSCALL_SUMMARY;
}

/// Each interval, for each system call that returned in it, with `--summary`.
pub const SYSCALL_SUMMARY: Kind = Kind::metrics::<SyscallSummary>(
    "syscall_summary",
    "How many system calls returned in an interval, and how long they took, by name",
    Temporality::Delta,
    &[
        Metric::histogram("buckets", "linux.syscall.duration"),
        Metric::counter("errors", "linux.syscall.errors", "{error}"),
    ],
)
.about(&[
    ("syscall", "linux.syscall.name"),
    ("class", "linux.syscall.class"),
    ("arch", "linux.syscall.arch"),
]);
