//! Time in each state: what the kernel has counted, and the parts of an interval that follow.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::sysfs::{number, numbered, word};
use crate::collect::micro;
use crate::collect::text::{lines, number as parse, words};

/// What was counted for each state.
pub type Counts<K> = BTreeMap<K, u64>;

/// Readers of such counts.
pub struct States;

impl States {
    /// `stats/time_in_state`: a line for each frequency in kilohertz, with its time in hundredths of a second.
    pub fn frequencies(bytes: &[u8]) -> Counts<u64> {
        let line = |line| {
            let mut words = words(line).map(parse);
            Some((words.next()??.checked_mul(1000)?, words.next()??))
        };
        lines(bytes).filter_map(line).collect()
    }

    /// `cpuidle/state*/`: the time in microseconds of each state, by its name. `None` if there is no state.
    pub fn idle(folder: &Path) -> Option<Counts<String>> {
        let states = numbered(folder, "state").ok()?;
        let state = |(at, path): (u32, std::path::PathBuf)| {
            let time = number(path.join("time"))?;
            Some((word(path.join("name")).unwrap_or_else(|| format!("state{at}")), time))
        };
        let mut all = BTreeMap::new();
        for (name, time) in states.into_iter().filter_map(state) {
            // Two of one name are one to whoever reads it.
            let sum: &mut u64 = all.entry(name).or_default();
            *sum = sum.saturating_add(time);
        }
        (!all.is_empty()).then_some(all)
    }
}

/// Counts of which the sum is all time.
#[derive(Default)]
pub struct Residency<K> {
    before: Option<Counts<K>>,
}

impl<K: Ord + Clone> Residency<K> {
    /// The part of each state, of those in which any time was spent; `None` the first time, and where a count went back.
    pub fn shares(&mut self, now: Counts<K>) -> Option<BTreeMap<K, f64>> {
        let grown = grown(self.before.as_ref(), &now);
        self.before = Some(now);
        let grown = grown?;
        let all = grown.values().fold(0u64, |sum, time| sum.saturating_add(*time));
        let share = |(state, time): (K, u64)| (time > 0).then(|| (state, micro(time as f64 / all as f64)));
        (all > 0).then(|| grown.into_iter().filter_map(share).collect())
    }
}

/// Counts of idle states, whose sum is the time idle.
#[derive(Default)]
pub struct Idle {
    before: Option<Counts<String>>,
}

impl Idle {
    /// The part of the interval in each state. The kernel counts a stay when it ends: one longer than the interval
    /// is told in one piece, cut to the whole.
    pub fn ratios(
        &mut self,
        now: Counts<String>,
        interval: Option<Duration>,
    ) -> Option<BTreeMap<String, f64>> {
        let grown = grown(self.before.as_ref(), &now);
        self.before = Some(now);
        let grown = grown?;
        let passed = interval?.as_secs_f64() * 1e6;
        let whole = passed.max(grown.values().map(|&us| us as f64).sum());
        (passed > 0.0).then(|| grown.into_iter().map(|(name, us)| (name, micro(us as f64 / whole))).collect())
    }
}

fn grown<K: Ord + Clone>(before: Option<&Counts<K>>, now: &Counts<K>) -> Option<Counts<K>> {
    let before = before?;
    let since = |(state, time): (&K, &u64)| {
        Some((state.clone(), time.checked_sub(before.get(state).copied().unwrap_or(0))?))
    };
    now.iter().map(since).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hertz_to_parts_of_the_time() {
        let mut residency = Residency::default();
        let first = States::frequencies(b"3400000 100\n2400000 400\n800000 0\nbad line\n1 x\n");
        assert_eq!(first, BTreeMap::from([(3_400_000_000, 100), (2_400_000_000, 400), (800_000_000, 0)]));
        assert_eq!(residency.shares(first), None);
        let second = States::frequencies(b"3400000 175\n2400000 425\n800000 0\n");
        assert_eq!(
            residency.shares(second.clone()),
            Some(BTreeMap::from([(3_400_000_000, 0.75), (2_400_000_000, 0.25)]))
        );
        assert_eq!(residency.shares(second), None);
        // The counts were set back (`echo 1 > stats/reset`).
        assert_eq!(residency.shares(States::frequencies(b"3400000 5\n")), None);
    }

    #[test]
    fn idle_states_of_an_interval() {
        let counts = |poll, c6| BTreeMap::from([("POLL".to_owned(), poll), ("C6".to_owned(), c6)]);
        let mut idle = Idle::default();
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
