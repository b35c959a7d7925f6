//! The packages' energy, split among processes by their CPU time → `process_power`.

use std::cmp::Reverse;

use anyhow::Result;

use crate::collect::linux::processes::{Found, Walker};
use crate::collect::linux::stat::Snapshot;
use crate::collect::{Roots, Sample, Source};
use crate::common::emit::Emitter;
use crate::record::{ProcessPower, Reason};

/// Remembers the CPU time of every process and of all CPUs.
pub struct Share {
    stat: Source,
    walker: Walker,
    before: Option<Snapshot>,
}

impl Share {
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        Self { stat: Source::new(roots.proc.join("stat")), walker: Walker::new(roots), before: None }
    }

    /// Splits the packages' energy. `whole` is the energy in joules, and the seconds that it covers.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn collect(
        &mut self,
        whole: Option<(f64, f64)>,
        sample: &Sample<'_>,
        out: &mut Emitter,
    ) -> Result<()> {
        let Some(bytes) = self.stat.read_or_report(sample.ts, out)? else { return Ok(()) };
        let now = Snapshot::parse(bytes, false);
        let mut used = self.walker.walk().unwrap_or_default().found;
        used.sort_unstable_by_key(|one| (Reverse(one.used), one.pid));
        let before = std::mem::replace(&mut self.before, now.clone());
        let (Some(now), Some(before)) = (now, before) else { return Ok(()) };
        let Some((joules, seconds)) = whole else {
            let detail = "no package energy could be read, so there is none to split";
            return out.status(sample.ts, "--per-process", Reason::Absent, detail);
        };
        if seconds > 0.0
            && let Some((busy, idle)) = now.busy_and_idle(&before)
        {
            for part in split(joules, seconds, &used, busy, idle) {
                sample.emit(&part, out)?;
            }
        }
        Ok(())
    }
}

/// The parts, largest first. Busy time that belongs to none of these processes (interrupts, processes that ended) is
/// `others`, and the rest is `idle`, so that the parts add up to the whole.
fn split(joules: f64, seconds: f64, used: &[Found], busy: u64, idle: u64) -> Vec<ProcessPower> {
    let known = used.iter().fold(0u64, |sum, one| sum.saturating_add(one.used));
    let others = busy.saturating_sub(known);
    // Ticks of processes and of CPUs are counted separately and can differ a little.
    let all = busy.max(known).saturating_add(idle);
    if all == 0 {
        return Vec::new();
    }
    let part = |pid: Option<u32>, comm: &str, ratio: f64, joules: f64| ProcessPower {
        pid: pid.map(u64::from),
        comm: comm.to_owned(),
        energy_joules: joules,
        power_watts: joules / seconds,
        cpu_ratio: ratio,
        method: "cpu_time",
        interval_s: seconds,
    };
    let ratio = |ticks: u64| ticks as f64 / all as f64;
    let running = used.iter().filter(|one| one.used > 0);
    let mut parts: Vec<_> = running
        .map(|one| part(Some(one.pid), &one.stat.comm, ratio(one.used), joules * ratio(one.used)))
        .collect();
    if others > 0 {
        parts.push(part(None, "others", ratio(others), joules * ratio(others)));
    }
    let split: f64 = parts.iter().map(|part| part.energy_joules).sum();
    parts.push(part(None, "idle", ratio(idle), (joules - split).max(0.0)));
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::linux::pidstat::PidStat;
    use proptest::prelude::*;

    fn used(pid: u32, used: u64) -> Found {
        let line = format!("{pid} (c{pid}) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 5 0 9");
        Found { pid, stat: PidStat::parse(line.as_bytes()).unwrap(), used, rated: true }
    }

    #[test]
    fn splits_by_cpu_time_and_leaves_the_rest_to_idle() {
        let parts = split(100.0, 2.0, &[used(7, 50), used(8, 30), used(9, 0)], 100, 100);
        let shares: Vec<_> =
            parts.iter().map(|it| (it.comm.as_str(), it.energy_joules, it.power_watts)).collect();
        assert_eq!(
            shares,
            [("c7", 25.0, 12.5), ("c8", 15.0, 7.5), ("others", 10.0, 5.0), ("idle", 50.0, 25.0)]
        );
        assert_eq!((parts[0].pid, parts[3].pid, parts[0].cpu_ratio), (Some(7), None, 0.25));
        assert!(split(1.0, 1.0, &[], 0, 0).is_empty());
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole(
            joules in 0.0..1e6f64,
            ticks in prop::collection::vec(0u64..10_000, 0..40),
            busy in 0u64..100_000,
            idle in 0u64..100_000,
        ) {
            let used: Vec<_> = (1..).zip(&ticks).map(|(pid, ticks)| used(pid, *ticks)).collect();
            let parts = split(joules, 1.0, &used, busy, idle);
            let sum: f64 = parts.iter().map(|part| part.energy_joules).sum();
            let ratios: f64 = parts.iter().map(|part| part.cpu_ratio).sum();
            prop_assert!(parts.is_empty() || (sum - joules).abs() <= 1e-9 * joules.max(1e-9));
            prop_assert!(parts.is_empty() || (ratios - 1.0).abs() < 1e-9);
            prop_assert!(parts.iter().all(|part| part.energy_joules >= 0.0));
        }
    }
}
