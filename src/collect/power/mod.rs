//! Power, frequency, temperature and batteries of Linux.

mod counter;
mod cpu;
mod drm;
mod hwmon;
mod nvml;
mod process;
mod rapl;
mod supply;
mod suspend;
mod sys;

use anyhow::Result;

use super::{Collector, Roots, Sample};
use crate::emit::Emitter;

/// All of it, in the order in which records are written.
pub struct PowerCollectors {
    rapl: rapl::RaplCollector,
    others: Vec<Box<dyn Collector>>,
    processes: Option<process::ProcessSplit>,
}

impl PowerCollectors {
    /// Of that tree, with the energy split by process or not.
    pub fn new(roots: &Roots, per_process: bool) -> Self {
        Self {
            rapl: rapl::RaplCollector::new(roots),
            others: vec![
                Box::new(cpu::CpuCollector::new(roots)),
                Box::new(drm::DrmCollector::new(roots)),
                Box::new(nvml::NvmlCollector::new(roots)),
                Box::new(hwmon::HwmonCollector::new(roots)),
                Box::new(supply::SupplyCollector::new(roots)),
            ],
            processes: per_process.then(|| process::ProcessSplit::new(roots)),
        }
    }

    /// What is read, and how.
    pub fn methods(&self) -> Vec<String> {
        let others = self.others.iter().map(|collector| collector.method());
        std::iter::once(self.rapl.method()).chain(others).collect()
    }

    /// Reads and emits.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        self.rapl.collect(sample, out)?;
        if let Some(processes) = &mut self.processes {
            processes.split(self.rapl.packages_joules(), sample, out)?;
        }
        self.others.iter_mut().try_for_each(|collector| collector.collect(sample, out))
    }
}
