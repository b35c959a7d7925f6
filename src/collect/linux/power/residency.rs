//! Time in each frequency and idle state: the kernel's counts, and shares of an interval.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::sysfs::{number, numbered, word};
use crate::collect::linux::stat::Snapshot;
use crate::collect::text::{lines, number as parse, words};
use crate::collect::{Roots, Source, micro};

/// The time counted for each state.
pub type Counts<K> = BTreeMap<K, u64>;

/// Parses `stats/time_in_state`: a line per frequency in kilohertz, with its time in hundredths of a second. The
/// keys of the result are hertz.
pub fn frequencies(bytes: &[u8]) -> Counts<u64> {
    let line = |line| {
        let mut words = words(line).map(parse);
        Some((words.next()??.checked_mul(1000)?, words.next()??))
    };
    lines(bytes).filter_map(line).collect()
}

/// Reads `cpuidle/state*/`: the microseconds in each state, by its name. `None` without states.
pub fn idle_states(folder: &Path) -> Option<Counts<String>> {
    let states = numbered(folder, "state").ok()?;
    let state = |(at, path): (u32, std::path::PathBuf)| {
        let time = number(path.join("time"))?;
        Some((word(path.join("name")).unwrap_or_else(|| format!("state{at}")), time))
    };
    let mut all = BTreeMap::new();
    for (name, time) in states.into_iter().filter_map(state) {
        // Two states of one name are added up: the record's map has one key for both.
        let sum: &mut u64 = all.entry(name).or_default();
        *sum = sum.saturating_add(time);
    }
    (!all.is_empty()).then_some(all)
}

/// The increase of counts from one sample to the next.
#[derive(Default)]
pub struct Residency<K> {
    before: Option<Counts<K>>,
}

impl<K: Ord + Clone> Residency<K> {
    /// The share of each state that was used since the previous call, for counts that add up to all time; `None` the
    /// first time, and if a count went back.
    pub fn shares(&mut self, now: Counts<K>) -> Option<BTreeMap<K, f64>> {
        let grown = self.grown(now)?;
        let all = grown.values().fold(0u64, |sum, time| sum.saturating_add(*time));
        let share = |(state, time): (K, u64)| (time > 0).then(|| (state, micro(time as f64 / all as f64)));
        (all > 0).then(|| grown.into_iter().filter_map(share).collect())
    }

    /// The share of the interval in each idle state. The kernel counts a stay when it ends, so one that is longer than
    /// the interval arrives all at once and is cut to the interval.
    pub fn ratios(&mut self, now: Counts<K>, interval: Option<Duration>) -> Option<BTreeMap<K, f64>> {
        let grown = self.grown(now)?;
        let passed = interval?.as_secs_f64() * 1e6;
        let whole = passed.max(grown.values().map(|&us| us as f64).sum());
        (passed > 0.0).then(|| grown.into_iter().map(|(name, us)| (name, micro(us as f64 / whole))).collect())
    }

    fn grown(&mut self, now: Counts<K>) -> Option<Counts<K>> {
        let grown = self.before.as_ref().and_then(|before| {
            let since = |(state, time): (&K, &u64)| {
                Some((state.clone(), time.checked_sub(before.get(state).copied().unwrap_or(0))?))
            };
            now.iter().map(since).collect()
        });
        self.before = Some(now);
        grown
    }
}

/// Which CPUs ran during the interval, from /proc/stat. cpuidle counts a stay when it ends, so a CPU that slept all
/// the time and one that ran all the time have the same counts there.
pub struct BusyCpus {
    stat: Source,
    now: Snapshot,
    before: Snapshot,
}

/// From this share of the time on, a CPU counts as having run all the time: ticks are coarse.
const ALL: f64 = 0.9;

impl BusyCpus {
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        let stat = Source::new(roots.proc.join("stat"));
        Self { stat, now: Snapshot::default(), before: Snapshot::default() }
    }

    /// Takes a sample. If /proc/stat cannot be read, nothing is known of any CPU.
    pub fn read(&mut self) {
        let now = self.stat.read().ok().and_then(|bytes| Snapshot::parse(bytes, true));
        self.before = std::mem::replace(&mut self.now, now.unwrap_or_default());
    }

    /// Whether a CPU ran all the time since the previous sample.
    pub fn ran_throughout(&self, cpu: u32) -> bool {
        let Some(now) = self.now.cpus.get(&cpu) else { return false };
        now.record(self.before.cpus.get(&cpu), 1.0).utilization_ratio.is_some_and(|ratio| ratio >= ALL)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frequencies_become_shares() {
        let mut residency = Residency::default();
        let first = frequencies(b"3400000 100\n2400000 400\n800000 0\nbad line\n1 x\n");
        assert_eq!(first, BTreeMap::from([(3_400_000_000, 100), (2_400_000_000, 400), (800_000_000, 0)]));
        assert_eq!(residency.shares(first), None);
        let second = frequencies(b"3400000 175\n2400000 425\n800000 0\n");
        assert_eq!(
            residency.shares(second.clone()),
            Some(BTreeMap::from([(3_400_000_000, 0.75), (2_400_000_000, 0.25)]))
        );
        assert_eq!(residency.shares(second), None);
        // The counts were reset (`echo 1 > stats/reset`).
        assert_eq!(residency.shares(frequencies(b"3400000 5\n")), None);
    }

    #[test]
    fn idle_states_of_an_interval() {
        let counts = |poll, c6| BTreeMap::from([("POLL".to_owned(), poll), ("C6".to_owned(), c6)]);
        let mut idle = Residency::default();
        let second = Some(Duration::from_secs(1));
        assert_eq!(idle.ratios(counts(10, 1_000_000), second), None);
        assert_eq!(
            idle.ratios(counts(10, 1_250_000), second),
            Some(BTreeMap::from([("POLL".into(), 0.0), ("C6".into(), 0.25)]))
        );
        // A stay of four seconds that has just ended.
        assert_eq!(idle.ratios(counts(10, 5_250_000), second).unwrap()["C6"], 1.0);
        assert_eq!(idle.ratios(counts(0, 5_250_000), second), None);
    }
}
