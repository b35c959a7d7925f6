//! /sys/devices/system/cpu → `cpu_power`: frequencies, time at each of them, and time in idle states (kernel
//! `drivers/cpufreq/cpufreq_stats.c`, `drivers/cpuidle/sysfs.c`).

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use super::sys;
use crate::collect::text::{lines, number, words};
use crate::collect::{Collector, Roots, Sample, micro};
use crate::emit::Emitter;
use crate::record::{CPU_POWER, CpuPower, Kind, Reason};

/// Totals of one CPU.
#[derive(Clone, Default)]
struct Times {
    /// Idle state to microseconds.
    idle: BTreeMap<String, u64>,
    /// Hertz to hundredths of a second, idle time included.
    frequency: BTreeMap<u64, u64>,
}

/// Reads every CPU.
pub struct CpuCollector {
    folder: PathBuf,
    before: HashMap<String, Times>,
}

impl CpuCollector {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        Self { folder: roots.sys.join("devices/system/cpu"), before: HashMap::new() }
    }
}

impl Collector for CpuCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&CPU_POWER]
    }

    fn method(&self) -> String {
        format!("{}: cpufreq and cpuidle", self.folder.display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let mut told = false;
        for (core, path) in sys::entries(&self.folder, "cpu") {
            if core["cpu".len()..].parse::<u32>().is_err() {
                continue;
            }
            let frequency = sys::resolve(path.join("cpufreq"));
            let times = times(&path, &frequency);
            let mut record = now(&frequency);
            let before = self.before.insert(core.clone(), times.clone());
            if let (Some(before), Some(interval)) = (before, sample.interval) {
                since(&times, &before, interval, &mut record);
            }
            if record == CpuPower::default() && times.idle.is_empty() {
                continue;
            }
            told = true;
            if sample.wants(&CPU_POWER) && record != CpuPower::default() {
                (record.component, record.core) = ("cpu", core);
                out.emit(sample.ts, &record)?;
            }
        }
        if told {
            return Ok(());
        }
        let detail = "neither cpufreq nor cpuidle: a virtual machine, most likely";
        out.status(sample.ts, &self.folder.to_string_lossy(), Reason::Absent, detail)
    }
}

fn times(cpu: &Path, frequency: &Path) -> Times {
    let states = sys::entries(&cpu.join("cpuidle"), "state").into_iter().filter_map(|(_, state)| {
        Some((sys::word(&state.join("name"))?, sys::count(&state.join("time")).ok()?))
    });
    let stats = std::fs::read(frequency.join("stats/time_in_state")).unwrap_or_default();
    let frequencies = lines(&stats).filter_map(|line| {
        let mut words = words(line);
        Some((number(words.next()?)?.checked_mul(1000)?, number(words.next()?)?))
    });
    Times { idle: states.collect(), frequency: frequencies.collect() }
}

/// What holds at this moment; files are in kHz.
fn now(frequency: &Path) -> CpuPower {
    let hertz = |name: &str| sys::count(&frequency.join(name)).ok()?.checked_mul(1000);
    CpuPower {
        frequency_hz: hertz("scaling_cur_freq").or_else(|| hertz("cpuinfo_cur_freq")),
        frequency_min_hz: hertz("scaling_min_freq"),
        frequency_max_hz: hertz("scaling_max_freq"),
        governor: sys::word(&frequency.join("scaling_governor")),
        ..CpuPower::default()
    }
}

/// What passed in the interval. An idle state's time is added when it is left, so it can be more than the interval.
fn since(now: &Times, before: &Times, interval: Duration, record: &mut CpuPower) {
    let micros = interval.as_secs_f64() * 1e6;
    let part = |passed: u64, whole: f64| micro((passed as f64 / whole).min(1.0));
    let idle: BTreeMap<String, u64> = now
        .idle
        .iter()
        .filter_map(|(state, time)| Some((state.clone(), time.checked_sub(*before.idle.get(state)?)?)))
        .collect();
    // A state that only polls is no sleep, but no work either.
    if !idle.is_empty() && micros > 0.0 {
        let ratio = part(idle.values().sum(), micros);
        (record.idle_ratio, record.active_ratio) = (Some(ratio), Some(micro(1.0 - ratio)));
        record.c_state = Some(idle.into_iter().map(|(state, time)| (state, part(time, micros))).collect());
        record.interval_s = Some(micro(interval.as_secs_f64()));
    }
    let passed: BTreeMap<u64, u64> = now
        .frequency
        .iter()
        .filter_map(|(hertz, time)| Some((*hertz, time.checked_sub(*before.frequency.get(hertz)?)?)))
        .collect();
    let whole: u64 = passed.values().sum();
    if whole > 0 {
        let parts = passed.into_iter().map(|(hertz, time)| (hertz, part(time, whole as f64)));
        record.residency = Some(parts.collect());
        record.interval_s = Some(micro(interval.as_secs_f64()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_become_parts_of_the_interval() {
        let times = |idle: u64, low: u64, high: u64| Times {
            idle: BTreeMap::from([("C1".into(), idle)]),
            frequency: BTreeMap::from([(1_000_000_000, low), (2_000_000_000, high)]),
        };
        let mut record = CpuPower::default();
        since(&times(700_000, 130, 80), &times(200_000, 100, 70), Duration::from_secs(2), &mut record);
        assert_eq!((record.idle_ratio, record.active_ratio), (Some(0.25), Some(0.75)));
        assert_eq!(record.residency, Some(BTreeMap::from([(1_000_000_000, 0.75), (2_000_000_000, 0.25)])));
        // A CPU that was taken out begins anew.
        let mut record = CpuPower::default();
        since(&times(1, 0, 0), &times(200_000, 100, 70), Duration::from_secs(2), &mut record);
        assert_eq!(record, CpuPower::default());
    }
}
