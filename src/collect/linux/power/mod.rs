//! Power, energy, frequencies, temperatures, batteries and GPUs on Linux.

mod chip;
mod cpu;
mod dedup;
mod energy_counter;
mod energy_sources;
mod gpu;
mod hwmon;
mod perf;
mod rapl;
mod residency;
mod share;
mod supply;
mod sysfs;
mod thermal;
mod zones;

use std::path::PathBuf;

use crate::collect::{Collector, Roots};

/// The settings of these collectors.
#[derive(Clone, Debug)]
pub struct PowerSettings {
    /// The roots of /proc and /sys.
    pub roots: Roots,
    /// Split the packages' energy among processes.
    pub per_process: bool,
    /// NVIDIA's management library; by default the system's, and only for this machine's /sys.
    pub nvml: Option<PathBuf>,
}

/// All collectors, in the order in which their records are written.
pub fn collectors(settings: &PowerSettings) -> Vec<Box<dyn Collector>> {
    let PowerSettings { roots, per_process, nvml } = settings;
    let platform = zones::Platform::default();
    vec![
        Box::new(rapl::RaplCollector::new(roots, *per_process, platform.clone())),
        Box::new(cpu::CpuCollector::new(roots)),
        Box::new(gpu::GpuCollector::new(roots, nvml.as_deref(), platform)),
        Box::new(hwmon::HwmonCollector::new(roots)),
        Box::new(thermal::ThermalCollector::new(roots)),
        Box::new(supply::SupplyCollector::new(roots)),
    ]
}
