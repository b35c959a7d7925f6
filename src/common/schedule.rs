//! When to sample: `--interval`, `--count`, `--once`, `--duration`.
//!
//! Deadlines are multiples of the interval from the start, on the monotonic clock, so that a slow sample does not
//! shift those after it. A deadline that has passed is skipped.

use std::time::{Duration, Instant};

use crate::common::stop::Stop;

/// The options for how often and how long to sample.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// The value of `--interval`.
    pub interval: Option<Duration>,
    /// Used if `interval` is `None`.
    pub default_interval: Duration,
    /// Stop after this many samples.
    pub count: Option<u64>,
    /// One sample; with an interval two, of which the second is written.
    pub once: bool,
    /// Stop after this time.
    pub duration: Option<Duration>,
}

/// One time to sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tick {
    /// From 0.
    pub index: u64,
    /// False for a sample that is only the start of the next one's rates.
    pub write: bool,
}

/// Gives the times to sample, and sleeps between them.
pub struct Ticker {
    schedule: Schedule,
    begin: Instant,
    index: u64,
    /// The next deadline, in intervals from the start.
    slot: u64,
    /// Whether a last, shorter interval is written when the end comes early.
    trailing: bool,
    done: bool,
}

impl Ticker {
    /// The first tick comes at once.
    pub fn immediate(schedule: Schedule) -> Self {
        Self { schedule, begin: Instant::now(), index: 0, slot: 0, trailing: false, done: false }
    }

    /// For records of intervals: each tick ends an interval; a signal or `--duration` ends the last one early.
    pub fn trailing(mut schedule: Schedule) -> Self {
        if schedule.once {
            schedule.count = Some(1);
            schedule.once = false;
        }
        Self { slot: 1, trailing: true, ..Self::immediate(schedule) }
    }

    /// The interval in use.
    pub fn interval(&self) -> Duration {
        self.schedule.interval.unwrap_or(self.schedule.default_interval)
    }

    /// When the next tick is due; `None` if there is none. For programs with their own event loop, which then call
    /// [`Ticker::tick`].
    pub fn deadline(&mut self) -> Option<Instant> {
        let Schedule { interval, count, once, duration, .. } = self.schedule;
        let limit = if once { Some(1 + u64::from(interval.is_some())) } else { count };
        if self.done || limit.is_some_and(|limit| self.index >= limit) {
            return None;
        }
        let step = self.interval();
        let passed = self.begin.elapsed().as_nanos() / step.as_nanos().max(1);
        self.slot = self.slot.max(u64::try_from(passed).unwrap_or(u64::MAX));
        let step = u64::try_from(step.as_nanos()).unwrap_or(u64::MAX);
        let due = Duration::from_nanos(step.saturating_mul(self.slot));
        match duration {
            Some(end) if due >= end && self.trailing => {
                self.done = true;
                Some(self.begin + end)
            }
            Some(end) if due >= end => None,
            _ => Some(self.begin + due),
        }
    }

    /// Takes the tick whose deadline has come.
    pub fn tick(&mut self) -> Tick {
        let preparing = self.schedule.once && self.schedule.interval.is_some() && self.index == 0;
        let tick = Tick { index: self.index, write: !preparing };
        self.index += 1;
        self.slot = self.slot.saturating_add(1);
        tick
    }

    /// Sleeps until the next tick; `None` when it is time to end.
    pub fn next(&mut self, stop: &Stop) -> Option<Tick> {
        let deadline = self.deadline()?;
        if stop.sleep_until(deadline) {
            if !self.trailing || stop.reader_gone() {
                return None;
            }
            self.done = true;
        }
        Some(self.tick())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn schedule() -> Schedule {
        Schedule { interval: None, default_interval: SECOND, count: None, once: false, duration: None }
    }

    /// The deadlines, in seconds from the start, and the ticks, without sleeping.
    fn ticks(mut ticker: Ticker, most: usize) -> Vec<(f64, bool)> {
        let mut seen = Vec::new();
        while seen.len() < most
            && let Some(due) = ticker.deadline()
        {
            seen.push(((due - ticker.begin).as_secs_f64(), ticker.tick().write));
        }
        seen
    }

    #[test]
    fn once_is_one_or_a_pair() {
        let once = Schedule { once: true, ..schedule() };
        assert_eq!(ticks(Ticker::immediate(once), 9), [(0.0, true)]);
        let pair = Schedule { interval: Some(SECOND / 2), ..once };
        assert_eq!(ticks(Ticker::immediate(pair), 9), [(0.0, false), (0.5, true)]);
        assert_eq!(ticks(Ticker::trailing(pair), 9), [(0.5, true)]);
    }

    #[test]
    fn count_and_duration_end_it() {
        let counted = Schedule { count: Some(2), ..schedule() };
        assert_eq!(ticks(Ticker::immediate(counted), 9), [(0.0, true), (1.0, true)]);
        let timed = Schedule { duration: Some(SECOND * 5 / 2), ..schedule() };
        assert_eq!(ticks(Ticker::immediate(timed), 9), [(0.0, true), (1.0, true), (2.0, true)]);
        assert_eq!(ticks(Ticker::trailing(timed), 9), [(1.0, true), (2.0, true), (2.5, true)]);
    }

    #[test]
    fn missed_deadlines_are_skipped() {
        let fast = Schedule { interval: Some(Duration::from_millis(10)), ..schedule() };
        let mut ticker = Ticker::immediate(fast);
        ticker.tick();
        std::thread::sleep(Duration::from_millis(55));
        let due = ticker.deadline().unwrap() - ticker.begin;
        assert!(due >= Duration::from_millis(50), "{due:?}");
    }
}
