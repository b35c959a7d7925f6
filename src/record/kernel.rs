//! The `kernel` record: context switches, interrupts and tasks.

use super::prelude::*;

/// The body of a `kernel` record, from /proc/stat (kernel `fs/proc/stat.c`) and /proc/uptime.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Kernel {
    /// Boot.
    pub start_ts: Option<Timestamp>,
    /// Context switches of all CPUs.
    pub context_switches: Option<u64>,
    /// Interrupts served, including those without a number.
    pub interrupts: Option<u64>,
    /// Soft interrupts served.
    pub softirqs: Option<u64>,
    /// Tasks created: processes and threads.
    pub forks: Option<u64>,
    /// Threads running or waiting for a CPU now.
    pub running: Option<u64>,
    /// Threads waiting for I/O now.
    pub blocked: Option<u64>,
    /// Seconds since boot, including suspend.
    pub uptime_s: Option<f64>,
    /// Length of the interval of the rates, in seconds.
    pub interval_s: Option<f64>,
    /// Context switches per second.
    pub context_switches_per_s: Option<f64>,
    /// Interrupts per second.
    pub interrupts_per_s: Option<f64>,
    /// Soft interrupts per second.
    pub softirqs_per_s: Option<f64>,
    /// Tasks created per second.
    pub forks_per_s: Option<f64>,
}

/// One per sample.
pub const KERNEL: Kind = Kind::cumulative::<Kernel>(
    "kernel",
    "Context switches, interrupts, tasks created, running and blocked, uptime",
)
.metrics(&[
    Metric::counter("context_switches", "telepipe.kernel.context_switches", "{context_switch}")
        .prometheus("node_context_switches_total"),
    Metric::counter("interrupts", "telepipe.kernel.interrupts", "{interrupt}").prometheus("node_intr_total"),
    Metric::counter("softirqs", "telepipe.kernel.softirqs", "{interrupt}"),
    Metric::counter("forks", "system.process.created", "{process}")
        .hostmetrics("system.processes.created")
        .prometheus("node_forks_total"),
    Metric::gauge("running", "telepipe.kernel.tasks.running", "{thread}").prometheus("node_procs_running"),
    Metric::gauge("blocked", "telepipe.kernel.tasks.blocked", "{thread}").prometheus("node_procs_blocked"),
    Metric::gauge("uptime_s", "system.uptime", "s"),
]);
