//! A `cpu` line of /proc/stat → the times and ratios of a `cpu` record.

use super::ratio;
use super::text::{number, words};
use crate::record::Cpu;

/// One `cpu` line: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ticks([Option<u64>; 10]);

/// The modes that do not overlap: all but the last two.
const DISJOINT: usize = 8;
const IDLE: usize = 3;
const IOWAIT: usize = 4;

impl Ticks {
    /// Of what follows the name of the CPU.
    pub fn parse(line: &[u8]) -> Self {
        let mut ticks = Self::default();
        for (slot, word) in ticks.0.iter_mut().zip(words(line)) {
            *slot = number(word);
        }
        ticks
    }

    /// What passed since `before`, by mode. A count that went back (idle and iowait do, by a
    /// tick, and all do when a CPU is unplugged) stood still.
    fn since(&self, before: &Self) -> [Option<u64>; 10] {
        std::array::from_fn(|mode| Some(self.0[mode]?.saturating_sub(before.0[mode]?)))
    }

    /// The record, with ratios if there is a sample to compare with. Boot and the CPU's number are not known here.
    pub fn record(&self, before: Option<&Self>, ticks_per_s: f64) -> Cpu {
        let seconds = self.0.map(|ticks| Some(ticks? as f64 / ticks_per_s));
        let [user_s, nice_s, system_s, idle_s, iowait_s, irq_s, softirq_s, steal_s, guest_s, guest_nice_s] =
            seconds;
        let passed = before.map(|before| self.since(before)).unwrap_or_default();
        let total = passed[..DISJOINT].iter().flatten().fold(0, |sum: u64, &ticks| sum.saturating_add(ticks));
        let ratios = passed.map(|ticks| ratio(ticks?, total));
        let [user_ratio, nice_ratio, system_ratio, idle_ratio, iowait_ratio, ..] = ratios;
        let [.., irq_ratio, softirq_ratio, steal_ratio, guest_ratio, guest_nice_ratio] = ratios;
        let idle = passed[IDLE].map(|idle| idle.saturating_add(passed[IOWAIT].unwrap_or(0)));
        Cpu {
            user_s,
            nice_s,
            system_s,
            idle_s,
            iowait_s,
            irq_s,
            softirq_s,
            steal_s,
            guest_s,
            guest_nice_s,
            utilization_ratio: idle.and_then(|idle| ratio(total.saturating_sub(idle), total)),
            user_ratio,
            nice_ratio,
            system_ratio,
            idle_ratio,
            iowait_ratio,
            irq_ratio,
            softirq_ratio,
            steal_ratio,
            guest_ratio,
            guest_nice_ratio,
            ..Cpu::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ratios_of_the_disjoint_modes_add_up() {
        let before = Ticks::parse(b" 100 10 50 1000 20 1 2 3 40 5");
        let after = Ticks::parse(b" 130 11 60 1040 25 2 5 13 60 6");
        let cpu = after.record(Some(&before), 100.0);
        // 100 ticks: 30 user (20 of them a guest), 1 nice, 10 system, 40 idle, 5 iowait, 1, 3, 10.
        assert_eq!((cpu.user_s, cpu.guest_nice_s), (Some(1.3), Some(0.06)));
        assert_eq!((cpu.user_ratio, cpu.guest_ratio, cpu.nice_ratio), (Some(0.3), Some(0.2), Some(0.01)));
        assert_eq!((cpu.irq_ratio, cpu.softirq_ratio, cpu.steal_ratio), (Some(0.01), Some(0.03), Some(0.1)));
        assert_eq!((cpu.idle_ratio, cpu.iowait_ratio), (Some(0.4), Some(0.05)));
        assert_eq!((cpu.utilization_ratio, cpu.guest_nice_ratio), (Some(0.55), Some(0.01)));
    }

    #[test]
    fn what_an_old_kernel_or_a_torn_line_lacks_is_absent() {
        let cpu = Ticks::parse(b" 100 10 50 1000").record(None, 100.0);
        assert_eq!((cpu.user_s, cpu.idle_s, cpu.iowait_s, cpu.steal_s), (Some(1.0), Some(10.0), None, None));
        assert_eq!((cpu.utilization_ratio, cpu.user_ratio), (None, None));
        let cpu = Ticks::parse(b" 100 x -5").record(Some(&Ticks::default()), 100.0);
        assert_eq!((cpu.user_s, cpu.nice_s, cpu.system_s, cpu.user_ratio), (Some(1.0), None, None, None));
    }

    #[test]
    fn a_count_that_goes_back_stands_still() {
        let (before, after) = (Ticks::parse(b" 10 0 0 100 50"), Ticks::parse(b" 20 0 0 130 40"));
        let cpu = after.record(Some(&before), 100.0);
        assert_eq!((cpu.user_ratio, cpu.idle_ratio, cpu.iowait_ratio), (Some(0.25), Some(0.75), Some(0.0)));
        let same = after.record(Some(&after), 100.0);
        assert_eq!((same.utilization_ratio, same.user_ratio), (None, None));
    }

    proptest! {
        #[test]
        fn ratios_stay_between_0_and_1(a: [u64; 10], b: [u64; 10]) {
            let cpu = Ticks(a.map(Some)).record(Some(&Ticks(b.map(Some))), 100.0);
            for ratio in [cpu.user_ratio, cpu.idle_ratio, cpu.steal_ratio, cpu.utilization_ratio] {
                prop_assert!(ratio.is_none_or(|ratio| (0.0..=1.0).contains(&ratio)));
            }
        }

        #[test]
        fn no_bytes_break_it(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            Ticks::parse(&line).record(Some(&Ticks::default()), 100.0);
        }
    }
}
