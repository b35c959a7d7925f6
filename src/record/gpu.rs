//! Graphics processors.

use std::collections::BTreeMap;

use super::prelude::*;

/// The body of a `gpu` record: `powermetrics` of macOS; on Linux NVML, and amdgpu, i915 and xe in sysfs.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Gpu {
    /// The ID: `gpu0`, or the PCI address.
    pub gpu: String,
    /// The name of the model.
    pub name: Option<String>,
    /// The source: `powermetrics`, `nvml`, `amdgpu`, `i915`, `xe`.
    pub source: String,
    /// `suspended` for a sleeping GPU, which is not read because that would wake it.
    pub runtime_status: Option<String>,
    /// Frequency while active.
    pub frequency_hz: Option<u64>,
    /// Frequency of the memory.
    pub memory_frequency_hz: Option<u64>,
    /// Part of the time that it was active.
    pub active_ratio: Option<f64>,
    /// Part of the time that it was idle.
    pub idle_ratio: Option<f64>,
    /// Part of the time that it was busy, as counted by the driver.
    pub utilization_ratio: Option<f64>,
    /// Part of the time that its memory was read or written.
    pub memory_utilization_ratio: Option<f64>,
    /// Used memory of its own.
    pub memory_used_bytes: Option<u64>,
    /// Memory of its own.
    pub memory_total_bytes: Option<u64>,
    /// Part of the time at each frequency in hertz. The parts sum to `active_ratio`.
    pub residency: Option<BTreeMap<u64, f64>>,
    /// Part of the active time that software requested each state, or each frequency in hertz.
    pub requested: Option<BTreeMap<String, f64>>,
    /// Part of the time in each software state.
    pub states: Option<BTreeMap<String, f64>>,
    /// Part of the time in idle states (Intel).
    pub c_state_ratio: Option<f64>,
    /// Why the frequency was limited, as the hardware reports it (Intel on macOS).
    pub limit_reasons: Option<Vec<String>>,
    /// Length of the interval, in seconds. It is longer for a GPU that was not read for a while, so that it could sleep.
    pub interval_s: Option<f64>,
}

/// Each sample, for each one.
pub const GPU: Kind =
    Kind::delta::<Gpu>("gpu", "A graphics processor: frequency, residency, utilization, memory")
        .about(&[("gpu", "hw.id"), ("name", "hw.name"), ("source", "telepipe.source")])
        .labels(&[("gpu", "gpu")])
        .metrics(&[
            Metric::gauge("frequency_hz", "telepipe.gpu.frequency", "Hz"),
            Metric::gauge("active_ratio", "telepipe.gpu.residency", "1")
                .with(&[("telepipe.gpu.state", "active")])
                .prometheus_times("powermetrics_gpu_active_residency_percent", 100.0),
            Metric::gauge("idle_ratio", "telepipe.gpu.residency", "1")
                .with(&[("telepipe.gpu.state", "idle")])
                .prometheus_times("powermetrics_gpu_idle_residency_percent", 100.0),
            Metric::gauge("utilization_ratio", "hw.gpu.utilization", "1"),
            Metric::gauge("memory_utilization_ratio", "hw.gpu.memory.utilization", "1"),
            Metric::updown("memory_used_bytes", "hw.gpu.memory.usage", "By"),
            Metric::updown("memory_total_bytes", "hw.gpu.memory.limit", "By"),
            Metric::gauge("residency", "telepipe.gpu.frequency.residency", "1")
                .keyed("telepipe.gpu.frequency"),
        ]);
