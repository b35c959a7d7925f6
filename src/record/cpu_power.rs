//! Frequency and residency of CPUs, cores, clusters and packages.

use std::collections::BTreeMap;

use super::prelude::*;

/// The body of a `cpu_power` record: `powermetrics` of macOS; cpufreq and cpuidle of Linux
/// (kernel `drivers/cpufreq`, `drivers/cpuidle/sysfs.c`). Values are means over the interval, except that the frequency
/// on Linux is the current one.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct CpuPower {
    /// The kind of component: `cpu` (a hardware thread), `core`, `cluster`, `package` or `system`.
    pub component: &'static str,
    /// The name of the component: `cpu0`, `core1`, `E-Cluster`, `package0`, `policy4`.
    pub core: String,
    /// The cluster of a CPU, or the name of this cluster.
    pub cluster: Option<String>,
    /// The kind of cluster, as reported, without its number: `E`, `P`, `M`, `S`.
    pub cluster_kind: Option<String>,
    /// Frequency while active.
    pub frequency_hz: Option<u64>,
    /// The lowest frequency allowed.
    pub frequency_min_hz: Option<u64>,
    /// The highest frequency allowed.
    pub frequency_max_hz: Option<u64>,
    /// Frequency as a ratio of the nominal one (Intel).
    pub nominal_ratio: Option<f64>,
    /// The governor of the frequency (Linux): `schedutil`, `powersave` …
    pub governor: Option<String>,
    /// Part of the time that it was active. A cluster is active while any of its cores, or what they share, is on.
    pub active_ratio: Option<f64>,
    /// How much of a cluster was used: the mean of `active_ratio` over its cores.
    pub core_active_ratio: Option<f64>,
    /// Part of the time that it was idle.
    pub idle_ratio: Option<f64>,
    /// Part of the time that it was switched off.
    pub down_ratio: Option<f64>,
    /// Part of the time that it was online.
    pub online_ratio: Option<f64>,
    /// Part of the time at each frequency in hertz. The parts sum to `active_ratio`; on Linux, which counts idle time
    /// too, to 1.
    pub residency: Option<BTreeMap<u64, f64>>,
    /// Part of the time in any idle state, if the source has it as one number.
    pub c_state_ratio: Option<f64>,
    /// Part of the time in each idle state.
    pub c_state: Option<BTreeMap<String, f64>>,
    /// Part of the time that the last-level cache was flushed (Intel).
    pub llc_flushed_ratio: Option<f64>,
    /// Why the frequency was limited, as the hardware reports it (Intel): `PL2_PL3`, `MAX_TURBO_LIMIT`, `PROCHOT`;
    /// `RING ICCMAX` if not the CPU but another part was limited.
    pub limit_reasons: Option<Vec<String>>,
    /// Instructions retired in the interval.
    pub instructions: Option<f64>,
    /// Instructions per clock cycle.
    pub instructions_per_cycle: Option<f64>,
    /// Length of the interval, in seconds.
    pub interval_s: Option<f64>,
}

/// Each sample, for each CPU and cluster.
pub const CPU_POWER: Kind = Kind::delta::<CpuPower>(
    "cpu_power",
    "Frequency, residency and idle states of a CPU, a core, a cluster or a package",
)
.about(&[("core", "hw.id"), ("component", "hw.type"), ("cluster", "hw.parent")])
.labels(&[("core", "core")])
.metrics(&[
    Metric::gauge("frequency_hz", "telepipe.cpu.frequency", "Hz")
        .prometheus("powermetrics_{component}_frequency_hertz"),
    Metric::gauge("active_ratio", "telepipe.cpu.residency", "1")
        .with(&[("telepipe.cpu.state", "active")])
        .prometheus_times("powermetrics_{component}_active_residency_percent", 100.0),
    Metric::gauge("idle_ratio", "telepipe.cpu.residency", "1")
        .with(&[("telepipe.cpu.state", "idle")])
        .prometheus_times("powermetrics_{component}_idle_residency_percent", 100.0),
    Metric::gauge("down_ratio", "telepipe.cpu.residency", "1").with(&[("telepipe.cpu.state", "down")]),
    Metric::gauge("core_active_ratio", "telepipe.cpu.cluster.utilization", "1"),
    Metric::gauge("instructions_per_cycle", "telepipe.cpu.instructions_per_cycle", "1"),
    Metric::gauge("residency", "telepipe.cpu.frequency.residency", "1").keyed("telepipe.cpu.frequency"),
    Metric::gauge("c_state", "telepipe.cpu.idle_state.residency", "1").keyed("telepipe.cpu.idle_state"),
]);
