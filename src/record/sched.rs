//! Records of `schedlat`: waits for a CPU, and the scheduling of processes.

use super::prelude::*;

/// The body of a `runq` record: the waits for a CPU that ended in the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Runq {
    /// The CPU on which the waits ended (with --per-cpu).
    pub cpu: Option<u32>,
    /// The id of the tasks' cgroup (version 2; this and the next two fields with --per-cgroup).
    pub cgroup_id: Option<u64>,
    /// The path of that cgroup.
    pub cgroup: Option<String>,
    /// The container id in that path.
    pub container_id: Option<String>,
    /// The start of the interval.
    pub start_ts: Option<Timestamp>,
    /// The measured length of the interval.
    pub interval_s: f64,
    /// Waits that ended: from a wake-up or a preemption until the task runs.
    pub count: u64,
    /// The times of the waits.
    #[serde(flatten)]
    pub times: Times,
    /// The process with the longest wait.
    pub max_pid: Option<u32>,
    /// The name of its thread.
    pub max_comm: Option<String>,
    /// The name of the thread that ran before it on that CPU.
    pub max_prev_comm: Option<String>,
    /// The distribution of the waits.
    #[serde(flatten)]
    pub distribution: Option<Distribution>,
}

/// Written each interval; with `--per-cpu` or `--per-cgroup` for each CPU or cgroup with a wait.
pub const RUNQ: Kind =
    Kind::delta::<Runq>("runq", "Run-queue latency: how long tasks that could run waited for a CPU")
        .about(&[
            ("cpu", "cpu.logical_number"),
            ("cgroup", "linux.cgroup.path"),
            ("container_id", "container.id"),
        ])
        .metrics(&[Metric::histogram("buckets", "linux.sched.run_queue.duration")]);

/// The body of a `runq_event` record: one long wait; `ts` is when it ended.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct RunqEvent {
    /// When the wait began.
    pub begin_ts: Option<Timestamp>,
    /// How long the task waited.
    pub duration_us: Micros,
    /// The shortest time that is reported (--min); absent if 0. In OpenTelemetry an event is WARN from 10 times this, ERROR
    /// from 100 times.
    pub threshold_us: Option<Micros>,
    /// The CPU on which it then ran.
    pub cpu: u32,
    /// The process that waited.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The thread's name.
    pub comm: String,
    /// The thread's user.
    pub uid: u32,
    /// The process that ran before it on that CPU; 0 if the CPU was idle.
    pub prev_pid: u32,
    /// The name of its thread.
    pub prev_comm: String,
    /// The id of the thread's cgroup (version 2).
    pub cgroup_id: Option<u64>,
    /// The path of that cgroup.
    pub cgroup: Option<String>,
    /// The container id in that path.
    pub container_id: Option<String>,
}

/// Written for each wait of at least `--min`.
pub const RUNQ_EVENT: Kind = Kind::log::<RunqEvent>(
    "runq_event",
    "One long wait for a CPU",
    Severity::ByMultiple("duration_us", 10_000.0, SLOW),
);

/// The body of a `sched` record: what one process did in the interval, all its threads together.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Sched {
    /// The process.
    pub pid: u32,
    /// The name of its first thread.
    pub comm: Option<String>,
    /// Its user.
    pub uid: Option<u32>,
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
    /// Times its threads left a CPU.
    pub context_switches: u64,
    /// Switches because a thread slept, waited or ended.
    pub voluntary_switches: u64,
    /// Switches because the scheduler ran another task.
    pub involuntary_switches: u64,
    /// Times its threads were woken from sleep.
    pub wakeups: u64,
    /// Times its threads were moved to another CPU.
    pub migrations: u64,
    /// CPU time, including that of threads still running.
    pub cpu_time_us: Micros,
    /// Mean CPU time until a thread leaves its CPU.
    pub mean_timeslice_us: Option<Micros>,
    /// Time waited for CPUs: waits that ended in the interval.
    pub runq_us: Micros,
    /// The longest of these waits.
    pub max_runq_us: Micros,
}

/// Written each interval for the processes that waited most.
pub const SCHED: Kind = Kind::delta::<Sched>(
    "sched",
    "Scheduling of one process: switches, wake-ups, time on CPUs and waiting for them",
)
.about(PROCESS_ATTRIBUTES)
.metrics(&[
    Metric::counter("voluntary_switches", "process.context_switches", "{context_switch}")
        .with(&[("process.context_switch.type", "voluntary")]),
    Metric::counter("involuntary_switches", "process.context_switches", "{context_switch}")
        .with(&[("process.context_switch.type", "involuntary")]),
    Metric::counter("wakeups", "linux.sched.process.wakeups", "{wakeup}"),
    Metric::counter("migrations", "linux.sched.process.migrations", "{migration}"),
    Metric::counter("cpu_time_us", "linux.sched.process.cpu.time", "s").times(1e-6),
    Metric::counter("runq_us", "linux.sched.process.run_queue.time", "s").times(1e-6),
]);
