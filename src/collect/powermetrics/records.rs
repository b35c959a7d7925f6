//! Samples → records: which power contains which, energy over all samples, and times finer than a second.

use std::collections::HashMap;

use anyhow::Result;

use super::sample::{DomainPower, Sample};
use crate::clock::Timestamp;
use crate::collect::micro;
use crate::emit::Emitter;
use crate::record::Power;

/// Samples tell their end to the second; from this difference on they do not follow each other.
const DRIFT_NS: u64 = 2_000_000_000;

/// Makes records of the samples of one stream.
#[derive(Default)]
pub struct Records {
    tasks: bool,
    start: Option<Timestamp>,
    /// The end of the sample before.
    end: Option<Timestamp>,
    energy: HashMap<(String, Option<String>), f64>,
    seen: bool,
}

impl Records {
    /// With records of tasks or without.
    pub fn new(tasks: bool) -> Self {
        Self { tasks, ..Self::default() }
    }

    /// Writes the records of a sample; false for a summary of samples that have been told one by one.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn write(&mut self, sample: &mut Sample, out: &mut Emitter) -> Result<bool> {
        if sample.summary && self.seen {
            return Ok(false);
        }
        self.seen |= !sample.summary;
        let length = sample.elapsed_s.map(|seconds| (seconds * 1e9).round() as u64);
        let ts = self.time(sample.ts, length);
        self.start = self.start.or_else(|| Some(Timestamp(ts.0.checked_sub(length?)?)));
        for power in self.powers(sample) {
            out.emit(ts, &power)?;
        }
        for cpu in &mut sample.cpus {
            cpu.interval_s = sample.elapsed_s;
            out.emit(ts, cpu)?;
        }
        for gpu in &mut sample.gpus {
            gpu.interval_s = sample.elapsed_s;
            out.emit(ts, gpu)?;
        }
        sample.temperatures.iter().try_for_each(|record| out.emit(ts, record))?;
        sample.fans.iter().try_for_each(|record| out.emit(ts, record))?;
        sample.pressure.iter().try_for_each(|record| out.emit(ts, record))?;
        sample.battery.iter().try_for_each(|record| out.emit(ts, record))?;
        if self.tasks {
            sample.tasks.iter().try_for_each(|record| out.emit(ts, record))?;
        }
        Ok(true)
    }

    /// The end of a sample: what it says, or finer, the end of the one before and its length. Where these differ, what
    /// was between is not known (a recording that was joined, a machine that slept), and energy begins anew.
    fn time(&mut self, told: Option<Timestamp>, length: Option<u64>) -> Timestamp {
        let sum = self.end.zip(length).map(|(end, length)| Timestamp(end.0.saturating_add(length)));
        let ts = match (told, sum) {
            (Some(told), Some(sum)) if sum.0.abs_diff(told.0) < DRIFT_NS => sum,
            (Some(told), Some(_)) => {
                self.start = None;
                self.energy.clear();
                told
            }
            (Some(told), None) => told,
            (None, Some(sum)) => sum,
            (None, None) => return Timestamp::now(),
        };
        self.end = Some(ts);
        ts
    }

    /// The powers of a sample, with the energy since the first one.
    pub fn powers(&mut self, sample: &Sample) -> Vec<Power> {
        let has = |domain: &str| sample.powers.iter().any(|power| power.domain == domain);
        let (package, combined) = (has("package"), has("combined"));
        let parent = |power: &DomainPower| match power.domain.as_str() {
            "cluster" => Some("cpu"),
            "package" => None,
            "dram" if sample.memory_apart => None,
            _ if package => Some("package"),
            "cpu" | "gpu" | "ane" if combined => Some("combined"),
            _ => None,
        };
        let records = sample.powers.iter().map(|power| {
            let DomainPower { domain, zone, watts } = power.clone();
            let energy = sample.elapsed_s.map(|seconds| {
                let total = self.energy.entry((domain.clone(), zone.clone())).or_default();
                *total += watts * seconds;
                micro(*total)
            });
            let parent = parent(power).map(str::to_owned);
            Power {
                start_ts: self.start.filter(|_| energy.is_some()),
                counted: parent.is_none(),
                domain,
                zone,
                parent,
                source: "powermetrics".into(),
                energy_joules: energy,
                power_watts: Some(watts),
                interval_s: sample.elapsed_s,
                suspended_s: None,
            }
        });
        records.collect()
    }
}
