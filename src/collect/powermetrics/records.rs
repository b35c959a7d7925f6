//! Samples → records: which power contains which, energy over all samples, and times finer than a second.

use std::collections::HashMap;

use anyhow::Result;

use super::sample::{DomainPower, Sample};
use crate::collect::micro;
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::Power;

/// Samples tell their end to the second; from this difference on they do not follow each other, or the wall clock and
/// the one that the lengths are measured with have gone apart.
const APART_NS: i64 = 2_000_000_000;

/// Makes records of the samples of one stream.
#[derive(Default)]
pub struct Records {
    tasks: bool,
    start: Option<Timestamp>,
    /// The end of the sample before.
    end: Option<Timestamp>,
    /// By how much what it told of its end was later than that.
    apart_ns: i64,
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
    /// was between is not known (a recording that was joined, a machine that slept), and energy begins anew; clocks
    /// that go apart little by little are brought together again within the samples.
    fn time(&mut self, told: Option<Timestamp>, length: Option<u64>) -> Timestamp {
        let length = length.and_then(|length| i64::try_from(length).ok());
        let sum = self.end.zip(length).and_then(|(end, length)| end.0.checked_add_signed(length));
        let ts = match (told, sum) {
            (Some(told), Some(sum)) => {
                let apart = i64::try_from(i128::from(told.0) - i128::from(sum)).unwrap_or(i64::MAX);
                if apart.saturating_sub(self.apart_ns).saturating_abs() >= APART_NS {
                    self.start = None;
                    self.energy.clear();
                    self.apart_ns = 0;
                    told
                } else {
                    let most = length.unwrap_or(0) / 2;
                    let moved = if apart.abs() < APART_NS { 0 } else { apart.clamp(-most, most) };
                    self.apart_ns = apart - moved;
                    Timestamp(sum.saturating_add_signed(moved))
                }
            }
            (Some(told), None) => told,
            (None, Some(sum)) => Timestamp(sum),
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The wall clock goes a tenth of a second too fast or too slow in an hour, for two days and a half.
    #[test]
    fn clocks_that_go_apart_are_no_gap() {
        for wrong_ns in [27_000i64, -27_000] {
            let mut records = Records::default();
            let begin = 1_800_000_000_000_000_000u64;
            let powers = vec![DomainPower { domain: "cpu".into(), zone: None, watts: 2.0 }];
            let sample = Sample { elapsed_s: Some(1.0), powers, ..Sample::default() };
            let (mut before, mut energy) = (Timestamp(0), None);
            let count = 216_000u64;
            for at in 1..=count {
                let wall = begin.saturating_add_signed(at as i64 * (1_000_000_000 + wrong_ns));
                let told = Timestamp(wall - wall % 1_000_000_000);
                let ts = records.time(Some(told), Some(1_000_000_000));
                assert!(ts.0.abs_diff(wall) <= 3_000_000_000 && ts > before, "{at}: {ts:?}, not {wall}");
                (before, energy) = (ts, records.powers(&sample)[0].energy_joules);
            }
            assert_eq!(energy, Some(2.0 * count as f64));
        }
        // As against a jump of as much.
        let mut records = Records::default();
        records.energy.insert(("cpu".into(), None), 5.0);
        for (told, left) in [(100, 1), (101, 1), (104, 0)] {
            records.time(Some(Timestamp(told * 1_000_000_000)), Some(1_000_000_000));
            assert_eq!(records.energy.len(), left, "{told}");
        }
    }
}
