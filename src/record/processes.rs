//! The `processes` and `process` records: how many processes there are, and the top ones.

use std::collections::BTreeMap;

use super::prelude::*;

/// The body of a `processes` record: all processes of the PID namespace, including kernel
/// threads. There is none where the caller may not see all processes (`hidepid`, proc(5)).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Processes {
    /// The number of processes.
    pub count: u64,
    /// The number of their threads.
    pub threads: u64,
    /// The number by state: `running`, `sleeping`, `blocked` (uninterruptible, usually waiting
    /// for a device), `stopped` (by a signal or a debugger), `defunct` (a zombie), `idle` (a
    /// kernel thread without work), `unknown`.
    pub states: BTreeMap<&'static str, u64>,
}

/// One per sample, with `--processes`.
pub const PROCESSES: Kind = Kind::cumulative::<Processes>(
    "processes",
    "The number of processes by state, and of threads",
)
.metrics(&[
    Metric::updown("states", "system.process.count", "{process}")
        .keyed("process.state")
        .hostmetrics("system.processes.count"),
    Metric::updown("threads", "telepipe.processes.threads", "{thread}").prometheus("node_processes_threads"),
    Metric::gauge("count", "telepipe.processes.count", "{process}").prometheus("node_processes_pids"),
]);

/// The body of a `process` record: one of the visible processes that use most CPU or memory.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Process {
    /// The process id.
    pub pid: u32,
    /// The process id of its parent.
    pub ppid: Option<u32>,
    /// Its name: up to 15 bytes, which the process can set.
    pub comm: String,
    /// Its command line: the arguments joined by blanks, up to 4096 bytes. Absent for kernel
    /// threads, for zombies, and with `--no-cmdline`. Arguments can contain secrets.
    pub cmdline: Option<String>,
    /// Its real user id.
    pub uid: Option<u64>,
    /// Its control group (version 2), as a path.
    pub cgroup: Option<String>,
    /// The id of that control group.
    pub cgroup_id: Option<u64>,
    /// The container id in that path.
    pub container_id: Option<String>,
    /// Its state, as in `processes`.
    pub state: &'static str,
    /// When it started: exact to a clock tick, plus the boot time, which is exact to a second.
    pub start_ts: Option<Timestamp>,
    /// Its rank by CPU, from 1; absent if it is not among the top ones.
    pub cpu_rank: Option<u32>,
    /// Its rank by memory, from 1; absent if it is not among the top ones.
    pub memory_rank: Option<u32>,
    /// The number of its threads.
    pub threads: Option<u64>,
    /// CPU seconds in user mode of all its threads, including ended ones.
    pub user_s: Option<f64>,
    /// CPU seconds in the kernel of all its threads, including ended ones.
    pub system_s: Option<f64>,
    /// Minor page faults.
    pub minor_faults: Option<u64>,
    /// Major page faults.
    pub major_faults: Option<u64>,
    /// Resident memory, including shared memory.
    pub rss_bytes: Option<u64>,
    /// Memory in swap.
    pub swap_bytes: Option<u64>,
    /// Size of the address space.
    pub virtual_bytes: Option<u64>,
    /// Length of the interval of `cpus_used`, in seconds.
    pub interval_s: Option<f64>,
    /// CPU time divided by the interval: more than 1 if threads ran in parallel.
    pub cpus_used: Option<f64>,
}

/// One per top process and sample, with `--processes`.
pub const PROCESS: Kind =
    Kind::cumulative::<Process>("process", "One of the processes that use most CPU or memory")
        .about(PROCESS_ATTRIBUTES)
        .metrics(&[
            Metric::counter("user_s", "process.cpu.time", "s").with(&[("cpu.mode", "user")]),
            Metric::counter("system_s", "process.cpu.time", "s").with(&[("cpu.mode", "system")]),
            Metric::updown("rss_bytes", "process.memory.usage", "By"),
            Metric::updown("virtual_bytes", "process.memory.virtual", "By"),
            Metric::updown("threads", "process.thread.count", "{thread}"),
            Metric::counter("minor_faults", "process.paging.faults", "{fault}")
                .with(&[("system.paging.fault.type", "minor")]),
            Metric::counter("major_faults", "process.paging.faults", "{fault}")
                .with(&[("system.paging.fault.type", "major")]),
        ]);
