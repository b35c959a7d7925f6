//! Processes: how many there are, and those that use the most.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};
use crate::common::time::Timestamp;

/// The body of a `processes` record: all processes, kernel threads included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Processes {
    /// How many there are.
    pub count: u64,
    /// How many threads they have.
    pub threads: u64,
    /// How many there are by state: `running`, `sleeping`, `blocked` (waiting for a device, not
    /// to be interrupted), `stopped` (by a signal or a debugger), `defunct` (ended, and not yet
    /// waited for), `idle` (kernel threads with nothing to do), `unknown`.
    pub states: BTreeMap<&'static str, u64>,
}

impl Record for Processes {
    const KIND: &'static Kind = &PROCESSES;
}

/// Each sample, with `--processes`.
pub const PROCESSES: Kind = Kind::metrics::<Processes>(
    "processes",
    "How many processes and threads there are, by state",
    Temporality::Cumulative,
    &[
        Metric::updown("states", "system.process.count", "{process}")
            .keyed("process.state")
            .hostmetrics("system.processes.count"),
        Metric::updown("threads", "telepipe.processes.threads", "{thread}")
            .prometheus("node_processes_threads", 1.0),
        Metric::gauge("count", "telepipe.processes.count", "{process}")
            .prometheus("node_processes_pids", 1.0),
    ],
);

/// The body of a `process` record: one process that is among those using most CPU or memory.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// The process id of its parent.
    pub ppid: Option<u32>,
    /// Its name: up to 15 bytes that it can choose.
    pub comm: String,
    /// The user it belongs to (real user id).
    pub uid: Option<u64>,
    /// Its control group (version 2), as a path.
    pub cgroup: Option<String>,
    /// The id of that control group.
    pub cgroup_id: Option<u64>,
    /// The container that the path names.
    pub container_id: Option<String>,
    /// Its state, as in `processes`.
    pub state: &'static str,
    /// When it was started, to the clock tick, and to the second of the boot time.
    pub start_ts: Option<Timestamp>,
    /// Its place among those using most CPU, from 1; absent if it is not among them.
    pub cpu_rank: Option<u32>,
    /// Its place among those with most memory, from 1; absent if it is not among them.
    pub memory_rank: Option<u32>,
    /// Its threads.
    pub threads: Option<u64>,
    /// CPU seconds in user mode, of all its threads, ended ones included.
    pub user_s: Option<f64>,
    /// CPU seconds in the kernel, likewise.
    pub system_s: Option<f64>,
    /// Minor page faults.
    pub minor_faults: Option<u64>,
    /// Major page faults.
    pub major_faults: Option<u64>,
    /// Memory it has in use, shared memory included.
    pub rss_bytes: Option<u64>,
    /// Memory it has in swap.
    pub swap_bytes: Option<u64>,
    /// Address space it has.
    pub virtual_bytes: Option<u64>,
    /// Length of the interval of `cpus_used`, in seconds.
    pub interval_s: Option<f64>,
    /// How many CPUs it used in the interval: more than 1 if its threads ran side by side.
    pub cpus_used: Option<f64>,
}

impl Record for Process {
    const KIND: &'static Kind = &PROCESS;
}

/// Each sample, with `--processes`, for those at the top.
pub const PROCESS: Kind = Kind::metrics::<Process>(
    "process",
    "One of the processes that use most CPU or memory",
    Temporality::Cumulative,
    &[
        Metric::counter("user_s", "process.cpu.time", "s").with(&[("cpu.mode", "user")]),
        Metric::counter("system_s", "process.cpu.time", "s").with(&[("cpu.mode", "system")]),
        Metric::updown("rss_bytes", "process.memory.usage", "By"),
        Metric::updown("virtual_bytes", "process.memory.virtual", "By"),
        Metric::updown("threads", "process.thread.count", "{thread}"),
        Metric::counter("minor_faults", "process.paging.faults", "{fault}")
            .with(&[("system.paging.fault.type", "minor")]),
        Metric::counter("major_faults", "process.paging.faults", "{fault}")
            .with(&[("system.paging.fault.type", "major")]),
    ],
)
.about(&[
    ("pid", "process.pid"),
    ("comm", "process.executable.name"),
    ("uid", "process.user.id"),
    ("container_id", "container.id"),
]);
