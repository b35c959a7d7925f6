//! The `load` record: load averages and the number of tasks.

use super::prelude::*;

/// The body of a `load` record, from /proc/loadavg on Linux; macOS reports no tasks.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Load {
    /// Tasks running, runnable or in uninterruptible sleep: mean over 1 minute.
    pub load_1m: f64,
    /// The same over 5 minutes.
    pub load_5m: f64,
    /// The same over 15 minutes.
    pub load_15m: f64,
    /// Threads running or waiting for a CPU now.
    pub running_tasks: Option<u64>,
    /// All threads of the machine.
    pub total_tasks: Option<u64>,
    /// The process id assigned last.
    pub last_pid: Option<u64>,
}

/// One per sample.
pub const LOAD: Kind = Kind::cumulative::<Load>("load", "Load averages and the number of tasks").metrics(&[
    Metric::gauge("load_1m", "system.cpu.load_average.1m", "{thread}").prometheus("node_load1"),
    Metric::gauge("load_5m", "system.cpu.load_average.5m", "{thread}").prometheus("node_load5"),
    Metric::gauge("load_15m", "system.cpu.load_average.15m", "{thread}").prometheus("node_load15"),
]);
