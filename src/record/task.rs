//! What single processes do to power.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};

/// The body of a `task` record: a row of the tasks sampler of `powermetrics`, all of the interval.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Task {
    /// The process; absent for those that have ended, for all together, and for a coalition, which is told only
    /// where its tasks are not.
    pub pid: Option<u64>,
    /// Its name; `ALL_TASKS` is the sum, `DEAD_TASKS` are those that ended.
    pub comm: String,
    /// CPU time, as a part of one CPU: 1.5 is one and a half CPUs.
    pub cpu_ratio: Option<f64>,
    /// Of the CPU time, the part outside the kernel.
    pub user_ratio: Option<f64>,
    /// Time on the graphics processor, as a part of it.
    pub gpu_ratio: Option<f64>,
    /// Interrupts a second that woke the processor for it.
    pub interrupt_wakeups_per_s: Option<f64>,
    /// Those a second that woke the whole package.
    pub package_wakeups_per_s: Option<f64>,
    /// What macOS makes of all of these, in its own unit.
    pub energy_impact: Option<f64>,
    /// Length of the interval, in seconds.
    pub interval_s: Option<f64>,
}

impl Record for Task {
    const KIND: &'static Kind = &TASK;
}

/// Each sample, for each process, with `--tasks`.
pub const TASK: Kind = Kind::metrics::<Task>(
    "task",
    "A process as powermetrics sees it: CPU time, wake-ups, energy impact",
    Temporality::Delta,
    &[
        Metric::gauge("cpu_ratio", "telepipe.task.cpu", "1"),
        Metric::gauge("gpu_ratio", "telepipe.task.gpu", "1"),
        Metric::gauge("energy_impact", "telepipe.task.energy_impact", "1"),
        Metric::gauge("interrupt_wakeups_per_s", "telepipe.task.wakeups", "{wakeup}/s")
            .with(&[("telepipe.wakeup.type", "interrupt")]),
        Metric::gauge("package_wakeups_per_s", "telepipe.task.wakeups", "{wakeup}/s")
            .with(&[("telepipe.wakeup.type", "package")]),
    ],
)
.about(&[("pid", "process.pid"), ("comm", "process.executable.name")]);

/// The body of a `process_power` record: a part of the packages' energy (Linux).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ProcessPower {
    /// The process; absent for what no process used.
    pub pid: Option<u64>,
    /// Its name; `idle` is what was used while no process ran, `others` by processes that ended
    /// in the interval and by interrupts.
    pub comm: String,
    /// Its part of the energy of all packages in the interval. All parts together are the whole.
    pub energy_joules: f64,
    /// The same, per second.
    pub power_watts: f64,
    /// Its CPU time in the interval, as a part of all CPUs' time.
    pub cpu_ratio: f64,
    /// How it was split: `cpu_time`, in proportion to the time on CPUs.
    pub method: &'static str,
    /// Length of the interval, in seconds.
    pub interval_s: f64,
}

impl Record for ProcessPower {
    const KIND: &'static Kind = &PROCESS_POWER;
}

/// Each interval, for each process that ran, with `--per-process`.
pub const PROCESS_POWER: Kind = Kind::metrics::<ProcessPower>(
    "process_power",
    "The part of the packages' energy that a process used, by its CPU time",
    Temporality::Delta,
    &[
        Metric::gauge("power_watts", "telepipe.process.power", "W"),
        Metric::gauge("cpu_ratio", "telepipe.process.cpu", "1"),
    ],
)
.about(&[("pid", "process.pid"), ("comm", "process.executable.name"), ("method", "telepipe.method")]);
