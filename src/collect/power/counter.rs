//! A counter of energy that wraps.

/// Adds up what a counter counts.
#[derive(Clone, Debug, Default)]
pub struct Counter {
    /// What the counter reaches before it begins anew; `None` for one that does not.
    range: Option<u64>,
    last: Option<u64>,
    total: u64,
}

impl Counter {
    /// A counter with that range.
    pub fn new(range: Option<u64>) -> Self {
        Self { range: range.filter(|range| *range > 0), ..Self::default() }
    }

    /// Takes a reading, and gives what was added since the one before. One that is lower has begun anew: once, so
    /// readings must be closer together than the counter takes. `None` for the first, and where nobody can tell.
    pub fn read(&mut self, now: u64) -> Option<u64> {
        let before = self.last.replace(now)?;
        let added = if now >= before {
            now - before
        } else {
            self.range.filter(|range| before <= *range)? - before + now
        };
        self.total = self.total.saturating_add(added);
        Some(added)
    }

    /// The counter was away: what it counted meanwhile is not known.
    pub fn forget(&mut self) {
        self.last = None;
    }

    /// All that was added.
    pub fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn wraps_add_the_range_once() {
        let mut counter = Counter::new(Some(1000));
        assert_eq!([900, 950, 50, 50].map(|now| counter.read(now)), [None, Some(50), Some(100), Some(0)]);
        assert_eq!(counter.total(), 150);
        counter.forget();
        assert_eq!((counter.read(10), counter.total()), (None, 150));
        let mut endless = Counter::new(None);
        assert_eq!([5, 3, 4].map(|now| endless.read(now)), [None, None, Some(1)]);
        assert_eq!((Counter::new(Some(10)).range, Counter::new(Some(0)).range), (Some(10), None));
    }

    #[test]
    fn a_day_with_a_wrap_every_eighteen_minutes_sums_to_the_truth() {
        // 2^32 steps of 61 µJ, as RAPL has them, used up in 18 minutes: 242 W.
        let range = 262_143_328_850u64;
        let watts = range as f64 / 1e6 / (18.0 * 60.0);
        let (mut counter, mut wraps, mut before) = (Counter::new(Some(range)), 0, 0);
        let (start, day) = (200_000_000_000u64, 86_400u64);
        let mut truth = 0;
        for second in 0..=day {
            truth = (second as f64 * watts * 1e6) as u64;
            let now = (start + truth) % range;
            wraps += u32::from(now < before);
            before = now;
            counter.read(now);
        }
        assert_eq!(wraps, 80);
        assert!((counter.total() as f64 / truth as f64 - 1.0).abs() < 1e-9, "{} {truth}", counter.total());
    }

    proptest! {
        #[test]
        fn any_steps_below_the_range_are_summed(range in 1u64..1 << 40, steps in prop::collection::vec(0.0..0.99f64, 1..50)) {
            let (mut counter, mut truth, mut now) = (Counter::new(Some(range)), 0, 0);
            counter.read(0);
            for step in steps {
                let step = (range as f64 * step) as u64;
                truth += step;
                now = (now + step) % range;
                counter.read(now);
            }
            prop_assert_eq!(counter.total(), truth);
        }
    }
}
