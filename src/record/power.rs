//! Power and energy by domain.

use super::prelude::*;

/// The body of a `power` record: `powermetrics` of macOS; on Linux RAPL (kernel `drivers/powercap/intel_rapl_*.c`,
/// `arch/x86/events/rapl.c`), hwmon and batteries.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Power {
    /// When the energy began to count: on macOS at the first sample, or the first after a gap; with perf when its
    /// counter was opened; with other counters of Linux at boot.
    pub start_ts: Option<Timestamp>,
    /// The consumer: `package`, `cpu` (all cores), `core` (a single one, on AMD), `gpu`, `ane`, `dram`, `cluster`,
    /// `combined`, `psys`, `uncore`, or as the source names it.
    pub domain: String,
    /// The zone, if there are several, as the source names it: `E-Cluster`, `package-0/core`.
    pub zone: Option<String>,
    /// The domain or zone that contains it.
    pub parent: Option<String>,
    /// The source: `powermetrics`, `perf`, `powercap`, `hwmon`, `nvml`, `amdgpu`, `i915`.
    pub source: String,
    /// Whether it is part of the machine's sum: false if another counted domain contains or repeats it.
    pub counted: bool,
    /// Energy since `start_ts`, with every wrap of the counter that was noticed.
    pub energy_joules: Option<f64>,
    /// Mean power in the interval; on Linux from the second sample on.
    pub power_watts: Option<f64>,
    /// Length of the interval, in seconds.
    pub interval_s: Option<f64>,
    /// How long the machine was suspended in the interval, in seconds. `power_watts` is then absent, because the energy
    /// is that of both parts.
    pub suspended_s: Option<f64>,
}

/// Each sample, for each domain.
pub const POWER: Kind = Kind::cumulative::<Power>(
    "power",
    "Power and energy of a domain: package, cores, memory, graphics, the whole machine",
)
.about(&[
    ("domain", "hw.type"),
    ("zone", "hw.id"),
    ("parent", "hw.parent"),
    ("source", "telepipe.source"),
    ("counted", "telepipe.power.counted"),
])
.labels(&[("zone", "zone")])
.metrics(&[
    Metric::counter("energy_joules", "hw.energy", "J"),
    Metric::gauge("power_watts", "hw.power", "W")
        .prometheus_times("powermetrics_{domain}_power_milliwatts", 1000.0),
]);
