//! The packages' energy by process → `process_power`: in proportion to CPU time, the rest is `idle`.

use std::collections::HashMap;

use anyhow::Result;

use crate::collect::pidstat::PidStat;
use crate::collect::text::{lines, number, words};
use crate::collect::{Roots, Sample, micro};
use crate::emit::Emitter;
use crate::record::{PROCESS_POWER, ProcessPower};

/// Idle and iowait, of a `cpu` line.
const IDLE: [usize; 2] = [3, 4];
/// user, nice, system, idle, iowait, irq, softirq, steal: those that do not overlap.
const MODES: usize = 8;

/// Ticks of one look.
#[derive(Default)]
struct Look {
    /// Ticks of all CPUs, and of those the ones with work.
    all: u64,
    busy: u64,
    /// By process and its start, as pids come again.
    processes: HashMap<(u32, u64), (String, u64)>,
}

/// Splits what packages used.
pub struct ProcessSplit {
    proc: std::path::PathBuf,
    before: Option<Look>,
}

impl ProcessSplit {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        Self { proc: roots.proc.clone(), before: None }
    }

    /// Writes the parts of `joules`, which together are `joules`.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn split(&mut self, joules: Option<f64>, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Some(now) = self.look() else { return Ok(()) };
        let before = self.before.replace(now);
        let (Some(before), Some(now), Some(joules), Some(interval)) =
            (before, &self.before, joules, sample.interval)
        else {
            return Ok(());
        };
        if sample.wants(&PROCESS_POWER) {
            for part in parts(&before, now, joules, interval.as_secs_f64()) {
                out.emit(sample.ts, &part)?;
            }
        }
        Ok(())
    }

    fn look(&self) -> Option<Look> {
        let stat = std::fs::read(self.proc.join("stat")).ok()?;
        let line = lines(&stat).find_map(|line| line.strip_prefix(b"cpu "))?;
        let ticks: Vec<u64> = words(line).take(MODES).map_while(number).collect();
        let all = ticks.iter().sum();
        let idle: u64 = IDLE.iter().filter_map(|mode| ticks.get(*mode)).sum();
        let processes = std::fs::read_dir(&self.proc).ok()?.flatten().filter_map(|entry| {
            let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
            let stat = PidStat::parse(&std::fs::read(entry.path().join("stat")).ok()?)?;
            Some(((pid, stat.begin_ticks), (stat.comm.clone(), stat.ticks())))
        });
        Some(Look { all, busy: all - idle, processes: processes.collect() })
    }
}

fn parts(before: &Look, now: &Look, joules: f64, seconds: f64) -> Vec<ProcessPower> {
    let all = now.all.saturating_sub(before.all);
    if all == 0 || seconds <= 0.0 {
        return Vec::new();
    }
    let mut used: Vec<(Option<u64>, String, u64)> = now
        .processes
        .iter()
        .filter_map(|(key, (comm, ticks))| {
            let since = ticks.saturating_sub(before.processes.get(key).map_or(0, |(_, ticks)| *ticks));
            (since > 0).then(|| (Some(u64::from(key.0)), comm.clone(), since))
        })
        .collect();
    used.sort_by(|one, other| other.2.cmp(&one.2).then(one.0.cmp(&other.0)));
    let known: u64 = used.iter().map(|(_, _, ticks)| ticks).sum();
    // Processes and CPUs are not counted at the same moment, so either can be more.
    let busy = now.busy.saturating_sub(before.busy).min(all).max(known.min(all));
    if busy > known {
        used.push((None, "others".into(), busy - known));
    }
    let whole = all.max(known) as f64;
    let mut left = joules;
    let mut list: Vec<_> = used
        .into_iter()
        .map(|(pid, comm, ticks)| {
            let ratio = ticks as f64 / whole;
            left -= joules * ratio;
            part(pid, comm, joules * ratio, ratio, seconds)
        })
        .collect();
    let idle = ((all.max(known) - busy.max(known)) as f64 / whole).max(0.0);
    list.push(part(None, "idle".into(), left.max(0.0), idle, seconds));
    list
}

fn part(pid: Option<u64>, comm: String, joules: f64, cpu_ratio: f64, seconds: f64) -> ProcessPower {
    ProcessPower {
        pid,
        comm,
        energy_joules: joules,
        power_watts: micro(joules / seconds),
        cpu_ratio: micro(cpu_ratio),
        method: "cpu_time",
        interval_s: micro(seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn look(all: u64, busy: u64, processes: &[(u32, u64)]) -> Look {
        let processes = processes.iter().map(|(pid, ticks)| ((*pid, 1), (format!("p{pid}"), *ticks)));
        Look { all, busy, processes: processes.collect() }
    }

    #[test]
    fn energy_goes_by_time_and_the_rest_is_idle() {
        let parts = parts(&look(0, 0, &[(1, 100)]), &look(400, 100, &[(1, 140), (2, 40)]), 40.0, 2.0);
        let told: Vec<_> = parts.iter().map(|part| (part.comm.as_str(), part.energy_joules)).collect();
        assert_eq!(told, [("p1", 4.0), ("p2", 4.0), ("others", 2.0), ("idle", 30.0)]);
        assert_eq!((parts[3].cpu_ratio, parts[0].power_watts), (0.75, 2.0));
    }

    proptest! {
        #[test]
        fn the_parts_sum_to_the_whole(all in 1u64..10_000, busy in 0u64..10_000, ticks in prop::collection::vec(0u64..5000, 0..9), joules in 0.0..1e4f64) {
            let processes: Vec<_> = ticks.iter().enumerate().map(|(pid, ticks)| (pid as u32, *ticks)).collect();
            let parts = parts(&look(0, 0, &[]), &look(all, busy, &processes), joules, 1.0);
            let sum: f64 = parts.iter().map(|part| part.energy_joules).sum();
            prop_assert!((sum - joules).abs() <= 1e-9 * joules.max(1.0), "{} {}", sum, joules);
        }
    }
}
