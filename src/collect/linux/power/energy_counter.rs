//! An energy counter that wraps: its unwrapped total, and the power between two readings.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::collect::micro;
use crate::common::time::Timestamp;

/// The clocks at one reading. Their difference is the time that the machine was suspended.
#[derive(Clone, Copy, Debug)]
pub struct Moment {
    /// The wall clock.
    pub ts: Timestamp,
    /// CLOCK_MONOTONIC, which stops while the machine is suspended.
    pub monotonic: Duration,
    /// CLOCK_BOOTTIME, which does not.
    pub boottime: Duration,
}

/// The time between two moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Passed {
    /// Without the suspended time.
    pub awake: Duration,
    /// Zero if the machine was not suspended.
    pub suspended: Duration,
}

/// Shorter differences come from reading the two clocks one after the other.
const SUSPENDED: Duration = Duration::from_millis(10);

impl Moment {
    /// Reads the clocks.
    pub fn now() -> Self {
        let read = |clock| {
            let time = clock_gettime(clock);
            Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
        };
        Self { ts: Timestamp::now(), monotonic: read(ClockId::Monotonic), boottime: read(ClockId::Boottime) }
    }

    /// The time since an earlier moment.
    pub fn since(&self, before: &Self) -> Passed {
        let awake = self.monotonic.saturating_sub(before.monotonic);
        let suspended = self.boottime.saturating_sub(before.boottime).saturating_sub(awake);
        Passed { awake, suspended: if suspended < SUSPENDED { Duration::ZERO } else { suspended } }
    }
}

/// The state of one counter.
#[derive(Clone, Debug)]
pub struct EnergyCounter {
    raw: u64,
    /// The value at which it wraps to 0, if known.
    range: Option<u64>,
    total: u128,
    per_joule: f64,
    start: Option<Timestamp>,
    at: Moment,
}

/// The values at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Reading {
    /// When counting began.
    pub start_ts: Option<Timestamp>,
    /// The energy since then.
    pub energy_joules: f64,
    /// The energy since the previous reading; `None` in the first one, and after the counter restarted.
    pub used_joules: Option<f64>,
    /// The mean power over that time; `None` also if the machine was suspended in between.
    pub power_watts: Option<f64>,
    /// Seconds between the readings, without suspended time.
    pub interval_s: Option<f64>,
    /// Suspended seconds, if any.
    pub suspended_s: Option<f64>,
}

impl EnergyCounter {
    /// Starts with a first value. `start` is when the counter was 0.
    pub fn new(raw: u64, range: Option<u64>, per_joule: f64, start: Option<Timestamp>, at: Moment) -> Self {
        Self { raw, range, total: u128::from(raw), per_joule, start, at }
    }

    /// The first reading.
    pub fn first(&self) -> Reading {
        Reading { start_ts: self.start, energy_joules: self.energy(), ..Reading::default() }
    }

    /// The reading for another value.
    pub fn advance(&mut self, raw: u64, at: Moment) -> Reading {
        let passed = at.since(&self.at);
        let used = self.used(raw, passed.suspended > Duration::ZERO);
        match used {
            Some(used) => self.total += u128::from(used),
            None => {
                self.total = u128::from(raw);
                self.start = Some(self.at.ts);
            }
        }
        (self.raw, self.at) = (raw, at);
        let used_joules = used.map(|used| used as f64 / self.per_joule);
        let seconds = passed.awake.as_secs_f64();
        // A mean over time in which the machine was off would mean nothing.
        let fair = seconds > 0.0 && passed.suspended.is_zero();
        let suspended_s = passed.suspended.as_secs_f64();
        Reading {
            power_watts: used_joules.filter(|_| fair).map(|joules| micro(joules / seconds)),
            interval_s: Some(micro(seconds)),
            suspended_s: (suspended_s > 0.0).then(|| micro(suspended_s)),
            used_joules,
            ..self.first()
        }
    }

    /// The increase since the previous reading; `None` if it cannot be known.
    fn used(&self, raw: u64, suspended: bool) -> Option<u64> {
        match (raw.checked_sub(self.raw), self.range) {
            (Some(used), _) => Some(used),
            // The processor was off, and its counter restarted at 0.
            (None, Some(_)) if suspended => Some(raw),
            (None, Some(range)) => range.checked_sub(self.raw)?.checked_add(raw),
            (None, None) => None,
        }
    }

    fn energy(&self) -> f64 {
        self.total as f64 / self.per_joule
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A moment this many awake and this many suspended seconds after the start.
    pub fn moment(awake: f64, suspended: f64) -> Moment {
        let nanos = ((awake + suspended) * 1e9) as u64;
        Moment {
            ts: Timestamp(1_800_000_000_000_000_000 + nanos),
            monotonic: Duration::from_secs_f64(awake),
            boottime: Duration::from_secs_f64(awake + suspended),
        }
    }

    const RANGE: u64 = 262_143_328_850;

    fn energy(raw: u64, range: Option<u64>) -> EnergyCounter {
        EnergyCounter::new(raw, range, 1e6, None, moment(0.0, 0.0))
    }

    #[test]
    fn a_wrap_adds_the_range_once() {
        let mut energy = energy(RANGE - 1_000_000, Some(RANGE));
        let first = energy.first();
        assert_eq!((first.energy_joules, first.power_watts), (262_142.328_85, None));
        let after = energy.advance(9_000_000, moment(2.0, 0.0));
        assert_eq!((after.used_joules, after.power_watts), (Some(10.0), Some(5.0)));
        assert_eq!(after.energy_joules, 262_152.328_85);
        assert_eq!((after.interval_s, after.suspended_s), (Some(2.0), None));
        let next = energy.advance(10_000_000, moment(3.0, 0.0));
        assert_eq!((next.energy_joules, next.power_watts), (262_153.328_85, Some(1.0)));
    }

    #[test]
    fn suspended_time_is_marked_and_not_averaged_over() {
        let mut one = energy(5_000_000, Some(RANGE));
        let reading = one.advance(8_000_000, moment(1.0, 3600.0));
        assert_eq!((reading.used_joules, reading.power_watts), (Some(3.0), None));
        assert_eq!((reading.interval_s, reading.suspended_s), (Some(1.0), Some(3600.0)));
        let next = one.advance(9_000_000, moment(2.0, 3600.0));
        assert_eq!((next.power_watts, next.suspended_s, next.energy_joules), (Some(1.0), None, 9.0));
        // The counter lost its state, which is not a wrap.
        let reset = one.advance(1_000_000, moment(3.0, 9000.0));
        assert_eq!((reset.energy_joules, reset.used_joules, reset.power_watts), (10.0, Some(1.0), None));
    }

    #[test]
    fn a_counter_without_a_range_that_goes_back_restarts() {
        for range in [None, Some(100)] {
            let mut energy = energy(5_000_000, range);
            let reading = energy.advance(2_000_000, moment(1.0, 0.0));
            assert_eq!((reading.energy_joules, reading.used_joules, reading.power_watts), (2.0, None, None));
            assert_eq!(reading.start_ts, Some(moment(0.0, 0.0).ts));
            assert_eq!(energy.advance(3_000_000, moment(2.0, 0.0)).power_watts, Some(1.0));
        }
    }

    /// 24 hours of seconds for a package at about 243 W, which wraps every 18 minutes, and its memory, which has
    /// another range and wraps at other times.
    #[test]
    fn a_day_with_a_wrap_every_eighteen_minutes_adds_up() {
        let day = [(RANGE, RANGE / 1080), (65_712_999_613, 21_700_123)];
        let wraps = day.map(|(range, per_s)| {
            let mut counter = range / 3;
            let mut energy = energy(counter, Some(range));
            let (mut truth, mut wraps) = (u128::from(counter), 0);
            let mut state = 88_172_645_463_325_252u64;
            for second in 1..=86_400u32 {
                // A load that varies (xorshift).
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let used = per_s / 2 + state % per_s;
                truth += u128::from(used);
                counter += used;
                if counter >= range {
                    counter -= range;
                    wraps += 1;
                }
                let reading = energy.advance(counter, moment(f64::from(second), 0.0));
                let used = used as f64 / 1e6;
                assert!((reading.used_joules.unwrap() - used).abs() < 1e-9 * used);
            }
            let truth = truth as f64 / 1e6;
            let total = energy.first().energy_joules;
            assert!(((total - truth) / truth).abs() < 1e-9, "{total} {truth}");
            wraps
        });
        assert_eq!(wraps, [80, 28]);
    }
}
