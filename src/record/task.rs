//! CPU time, wake-ups and power of single processes.

use super::prelude::*;

/// The body of a `task` record: a row of the tasks sampler of `powermetrics`, over the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Task {
    /// The process ID. Absent for ended tasks, for the sum of all tasks, and for coalitions, which are reported only
    /// if their tasks are not.
    pub pid: Option<u64>,
    /// The name of the process. `ALL_TASKS` is the sum of all, `DEAD_TASKS` that of the ended ones.
    pub comm: String,
    /// CPU time per time: 1.5 is one and a half CPUs.
    pub cpu_ratio: Option<f64>,
    /// The part of the CPU time in user mode.
    pub user_ratio: Option<f64>,
    /// GPU time per time.
    pub gpu_ratio: Option<f64>,
    /// Wake-ups of a CPU by interrupts, per second.
    pub interrupt_wakeups_per_s: Option<f64>,
    /// Wake-ups of the package from idle, per second.
    pub package_wakeups_per_s: Option<f64>,
    /// The energy impact that macOS computes from all of these, without a unit.
    pub energy_impact: Option<f64>,
    /// Length of the interval, in seconds.
    pub interval_s: Option<f64>,
}

/// Each sample, for each process, with `--tasks`.
pub const TASK: Kind =
    Kind::delta::<Task>("task", "A process as powermetrics sees it: CPU time, wake-ups, energy impact")
        .about(&[("pid", "process.pid"), ("comm", "process.executable.name")])
        .metrics(&[
            Metric::gauge("cpu_ratio", "telepipe.task.cpu", "1"),
            Metric::gauge("gpu_ratio", "telepipe.task.gpu", "1"),
            Metric::gauge("energy_impact", "telepipe.task.energy_impact", "1"),
            Metric::gauge("interrupt_wakeups_per_s", "telepipe.task.wakeups", "{wakeup}/s")
                .with(&[("telepipe.wakeup.type", "interrupt")]),
            Metric::gauge("package_wakeups_per_s", "telepipe.task.wakeups", "{wakeup}/s")
                .with(&[("telepipe.wakeup.type", "package")]),
        ]);

/// The body of a `process_power` record: a process's part of the packages' energy (Linux).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ProcessPower {
    /// The process ID. Absent for energy that belongs to no process.
    pub pid: Option<u64>,
    /// The name of the process. `idle` is the energy while no process ran, `others` that of processes that ended in
    /// the interval and of interrupts.
    pub comm: String,
    /// Its part of the energy of all packages in the interval. All parts together are that energy.
    pub energy_joules: f64,
    /// The mean power: this energy per second.
    pub power_watts: f64,
    /// Its CPU time as a part of the time of all CPUs.
    pub cpu_ratio: f64,
    /// How the energy was split: `cpu_time`, in proportion to CPU time.
    pub method: &'static str,
    /// Length of the interval, in seconds.
    pub interval_s: f64,
}

/// Each interval, for each process that ran, with `--per-process`.
pub const PROCESS_POWER: Kind = Kind::delta::<ProcessPower>(
    "process_power",
    "The part of the packages' energy that a process used, by its CPU time",
)
.about(&[("pid", "process.pid"), ("comm", "process.executable.name"), ("method", "telepipe.method")])
.metrics(&[
    Metric::gauge("power_watts", "telepipe.process.power", "W"),
    Metric::gauge("cpu_ratio", "telepipe.process.cpu", "1"),
]);
