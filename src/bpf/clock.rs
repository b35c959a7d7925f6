//! Converts the kernel's clock to the time of day.

use rustix::time::{ClockId, clock_gettime};

use crate::common::time::Timestamp;

/// The offset from `bpf_ktime_get_ns` (CLOCK_MONOTONIC) to the time of day. It changes when the
/// clock is set, and with every suspend: measure it again regularly.
#[derive(Clone, Copy, Debug)]
pub struct KernelClock {
    offset: i128,
}

impl KernelClock {
    /// Measures the offset, by the try with the shortest time between two readings.
    pub fn measure() -> Self {
        let tries = (0..3).map(|_| {
            let before = now(ClockId::Monotonic);
            let wall = now(ClockId::Realtime);
            let after = now(ClockId::Monotonic);
            (after - before, wall - (before + after) / 2)
        });
        Self { offset: tries.min().map_or(0, |(_, offset)| offset) }
    }

    /// The time of day of `ns` of the kernel's clock.
    pub fn wall(self, ns: u64) -> Timestamp {
        Timestamp(u64::try_from(i128::from(ns) + self.offset).unwrap_or(0))
    }
}

/// The kernel's clock, now, in nanoseconds.
pub fn kernel_now() -> u64 {
    u64::try_from(now(ClockId::Monotonic)).unwrap_or(0)
}

fn now(clock: ClockId) -> i128 {
    let time = clock_gettime(clock);
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_wall_clock() {
        let before = Timestamp::now();
        let here = KernelClock::measure().wall(kernel_now());
        let after = Timestamp::now();
        let slack = 1_000_000;
        assert!(before.0 <= here.0 + slack && here.0 <= after.0 + slack, "{before} {here} {after}");
    }
}
