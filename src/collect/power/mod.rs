//! Power, energy, frequencies, temperatures, batteries and graphics processors of Linux.

mod chip;
mod cpu;
mod energy_chips;
mod gpu;
mod hwmon;
mod meter;
mod perf;
mod places;
mod powercap;
mod ran;
mod rapl;
mod residency;
mod share;
mod supply;
mod sysfs;
mod thermal;
mod zone;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;

use super::{Collector, Roots};

/// What the command line says to these collectors.
#[derive(Clone, Debug)]
pub struct PowerSettings {
    /// Where to read.
    pub roots: Roots,
    /// Split the packages' energy over processes.
    pub per_process: bool,
    /// Where NVML is; by default the system's, for this machine.
    pub nvml: Option<PathBuf>,
}

/// Whether there is a counter of the whole machine, which contains what others count.
#[derive(Clone, Default)]
struct Platform(Rc<Cell<bool>>);

impl Platform {
    fn contains_all(&self) -> bool {
        self.0.get()
    }

    fn set(&self, contains_all: bool) {
        self.0.set(contains_all);
    }
}

/// Every collector, in the order in which their records are written.
pub fn collectors(settings: &PowerSettings) -> Vec<Box<dyn Collector>> {
    let PowerSettings { roots, per_process, nvml } = settings;
    let platform = Platform::default();
    vec![
        Box::new(rapl::RaplCollector::new(roots, *per_process, platform.clone())),
        Box::new(cpu::CpuCollector::new(roots)),
        Box::new(gpu::GpuCollector::new(roots, nvml.as_deref(), platform)),
        Box::new(hwmon::HwmonCollector::new(roots)),
        Box::new(thermal::ThermalCollector::new(roots)),
        Box::new(supply::SupplyCollector::new(roots)),
    ]
}
