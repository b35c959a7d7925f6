//! Reads the arrays that the eBPF programs of `syscall-trace` count in: the calls of an interval by
//! number.

use std::collections::HashMap;

use crate::bpf::map::{MappedArray, Plain, load, store};
use crate::bpf::skeleton::{array_len, skeleton};
use crate::common::hist::{Histogram, Totals};

skeleton!("syscall", SyscallSkelBuilder, OpenSyscallSkel, SyscallSkel);

pub use types::{call_flags as CallFlags, event as Event, fd_type as FdType, stuck as Stuck};

// SAFETY: generated with the layout of the C struct, and it has only integers.
unsafe impl Plain for types::event {}
// SAFETY: as above.
unsafe impl Plain for types::stuck {}
// SAFETY: as above.
unsafe impl Plain for types::call_counters {}

/// Numbers per table of calls; the last stands for every number from there on.
pub const NUMBERS: usize = array_len(|data: &types::rodata| &data.flags_of_calls) / 2;

/// The budget for the arrays of counters, in bytes. Together with the ring buffer and the state of
/// tasks, all maps stay below 16 MiB.
const BUDGET: usize = 9 << 20;

/// The dimensions of the arrays: two halves, each of shards or CPUs, each of call numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Copies of the counters of native calls. The CPUs are divided between them, to avoid contention.
    pub shards: u32,
    /// Possible CPUs.
    pub cpus: u32,
}

impl Geometry {
    /// A shard for each CPU, as far as the budget goes.
    pub fn choose(cpus: u32) -> Self {
        let mut choice = Self { shards: cpus, cpus };
        while choice.bytes() > BUDGET && choice.shards > 1 {
            choice.shards -= 1;
        }
        choice
    }

    /// The counters of a call. Its index is the number, plus [`NUMBERS`] for 32-bit calls, which have one shard.
    fn counters(self, half: usize, shard: usize, index: usize) -> usize {
        let shards = self.shards as usize;
        match index.checked_sub(NUMBERS) {
            None => (half * shards + shard) * NUMBERS + index,
            Some(index) => (2 * shards + half) * NUMBERS + index,
        }
    }

    fn shards_of(self, index: usize) -> usize {
        if index < NUMBERS { self.shards as usize } else { 1 }
    }

    fn longest(self, half: usize, cpu: usize, index: usize) -> usize {
        (half * self.cpus as usize + cpu) * 2 * NUMBERS + index
    }

    /// The length of the array of counters.
    pub fn all_counters(self) -> u32 {
        (2 * self.shards + 2) * NUMBERS as u32
    }

    /// The length of the array of the longest calls.
    pub fn all_longest(self) -> u32 {
        4 * self.cpus * NUMBERS as u32
    }

    fn bytes(self) -> usize {
        self.all_counters() as usize * size_of::<types::call_counters>()
            + self.all_longest() as usize * size_of::<u64>()
    }
}

/// The calls with one number in an interval.
#[derive(Clone, Debug)]
pub struct Activity {
    /// The number, plus [`NUMBERS`] for a 32-bit call.
    pub index: usize,
    /// How many failed.
    pub errors: u64,
    /// The sum of their times, in nanoseconds.
    pub sum_ns: u64,
    /// The longest time.
    pub max_ns: u64,
    /// The distribution of their times.
    pub histogram: Histogram,
}

/// The arrays, and the snapshots from which an interval is the difference.
pub struct Table {
    geometry: Geometry,
    counters: MappedArray<types::call_counters>,
    longest: MappedArray<u64>,
    /// The errors and times of each half and call number.
    snapshots: HashMap<(usize, usize), (u64, Totals)>,
}

impl Table {
    /// Takes arrays of that geometry.
    pub fn new(
        geometry: Geometry,
        counters: MappedArray<types::call_counters>,
        longest: MappedArray<u64>,
    ) -> Self {
        Self { geometry, counters, longest, snapshots: HashMap::new() }
    }

    /// The increase of a half that no longer changes since it was last read, by call number.
    pub fn take(&mut self, half: usize) -> Vec<Activity> {
        (0..2 * NUMBERS).filter_map(|index| self.take_index(half, index)).collect()
    }

    fn take_index(&mut self, half: usize, index: usize) -> Option<Activity> {
        let max_ns = self.take_longest(half, index);
        // Most numbers never occur. A longest time of 0 can also be that of a call that took no time.
        if max_ns == 0 && !self.snapshots.contains_key(&(half, index)) && !self.used(half, index) {
            return None;
        }
        let (errors_now, times) = self.read(half, index);
        let (errors_before, before) = self.snapshots.entry((half, index)).or_default();
        let errors = errors_now.wrapping_sub(std::mem::replace(errors_before, errors_now));
        let (histogram, sum_ns) = before.advance(times);
        let max_ns = max_ns.max(histogram.floor_of_max());
        (histogram.count() > 0).then_some(Activity { index, errors, sum_ns, max_ns, histogram })
    }

    fn shards(&self, half: usize, index: usize) -> impl Iterator<Item = *mut types::call_counters> {
        let shards = 0..self.geometry.shards_of(index);
        shards.map(move |shard| self.counters.at(self.geometry.counters(half, shard, index)))
    }

    fn used(&self, half: usize, index: usize) -> bool {
        // SAFETY: inside the mapped array.
        self.shards(half, index).any(|at| unsafe { load(&raw const (*at).sum_ns) } > 0)
    }

    fn read(&self, half: usize, index: usize) -> (u64, Totals) {
        let (mut errors, mut times) = (0u64, Totals::default());
        for at in self.shards(half, index) {
            // SAFETY: inside the mapped array.
            let counters = unsafe { load(at) };
            errors = errors.wrapping_add(counters.errors);
            times.add(counters.sum_ns, counters.buckets.iter().copied());
        }
        (errors, times)
    }

    /// The longest call on all CPUs. Starts again from 0.
    fn take_longest(&self, half: usize, index: usize) -> u64 {
        let longest = (0..self.geometry.cpus as usize).map(|cpu| {
            let at = self.longest.at(self.geometry.longest(half, cpu, index));
            // SAFETY: inside the mapped array.
            let max_ns = unsafe { load(at) };
            if max_ns > 0 {
                // SAFETY: as above.
                unsafe { store(at, 0) };
            }
            max_ns
        });
        longest.max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arrays_stay_within_the_budget() {
        for cpus in [1, 2, 3, 8, 64, 512] {
            let choice = Geometry::choose(cpus);
            assert!(choice.bytes() <= BUDGET.max(10 << 20), "{cpus} CPUs: {choice:?}");
        }
        assert_eq!(Geometry::choose(2), Geometry { shards: 2, cpus: 2 });
    }

    #[test]
    fn each_element_has_one_use() {
        let geometry = Geometry { shards: 2, cpus: 3 };
        let (mut counters, mut longest) = (Vec::new(), Vec::new());
        for half in 0..2 {
            for index in 0..2 * NUMBERS {
                let shards = 0..geometry.shards_of(index);
                counters.extend(shards.map(|shard| geometry.counters(half, shard, index)));
                longest.extend((0..3).map(|cpu| geometry.longest(half, cpu, index)));
            }
        }
        counters.sort_unstable();
        longest.sort_unstable();
        assert!(counters.into_iter().eq(0..geometry.all_counters() as usize));
        assert!(longest.into_iter().eq(0..geometry.all_longest() as usize));
    }

    #[test]
    fn late_calls_belong_to_a_later_interval() {
        let geometry = Geometry { shards: 1, cpus: 1 };
        let counters = MappedArray::in_memory(geometry.all_counters() as usize).unwrap();
        let longest = MappedArray::in_memory(geometry.all_longest() as usize).unwrap();
        let (first, max): (*mut types::call_counters, *mut u64) = (counters.at(0), longest.at(0));
        let mut table = Table::new(geometry, counters, longest);
        let count = |half: usize, index: usize, ns: u64| {
            // SAFETY: inside the arrays, which the table keeps.
            let (counters, max) = unsafe {
                let at = (geometry.counters(half, 0, index), geometry.longest(half, 0, index));
                (&mut *first.add(at.0), &mut *max.add(at.1))
            };
            counters.sum_ns += ns;
            counters.errors += 1;
            // The second bucket of 8 per octave, after the counter for zero.
            counters.buckets[2] = counters.buckets[2].wrapping_add(1);
            *max = ns.max(*max);
        };
        let mut taken = |half| {
            let activities = table.take(half);
            activities
                .iter()
                .map(|a| (a.index, a.histogram.count(), a.errors, a.sum_ns, a.max_ns))
                .collect::<Vec<_>>()
        };
        count(0, 39, 150);
        count(0, 39, 145);
        count(1, NUMBERS + 20, 140);
        assert_eq!(taken(0), [(39, 2, 2, 295, 150)]);
        count(0, 39, 141);
        assert_eq!(taken(1), [(NUMBERS + 20, 1, 1, 140, 140)]);
        assert_eq!(taken(0), [(39, 1, 1, 141, 141)]);
        assert_eq!(taken(0), []);
    }
}
