//! The C structs of `bpf/syscall/`, and how many of them there are.

use super::names::NUMBERS;
use crate::bpf::hist::buckets;
use crate::bpf::map::Plain;
use crate::bpf::task::TaskId;

/// The scale of the histograms.
pub const SCALE: u32 = 3;
/// The number of buckets in each.
pub const BUCKETS: usize = buckets(SCALE);

/// `struct event`: a call that is over.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Event {
    /// When it ended, by the kernel's clock.
    pub end_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// What it returned.
    pub ret: i64,
    /// Its number.
    pub nr: i32,
    /// The CPU that it ended on.
    pub cpu: u32,
    /// Whether it is a 32-bit call.
    pub compat: u8,
    /// An index of [`FD_TYPES`].
    pub fd_type: u8,
    pad: [u8; 6],
    /// Who called.
    pub task: TaskId,
}

/// `struct stuck`: a call that is not over.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Stuck {
    /// When it began, by the kernel's clock; 0 if before we looked.
    pub begin_ns: u64,
    /// When it was looked at.
    pub now_ns: u64,
    /// Its arguments.
    pub args: [u64; 6],
    /// Its number.
    pub nr: i32,
    /// The state of the task, as in include/linux/sched.h.
    pub state: u32,
    /// Whether it is a 32-bit call.
    pub compat: u8,
    /// An index of [`FD_TYPES`].
    pub fd_type: u8,
    pad: [u8; 6],
    /// Who called.
    pub task: TaskId,
}

/// The values of the field `fd_type`, in the order of `enum fd_type`.
pub const FD_TYPES: [Option<&str>; 6] =
    [None, Some("pipe"), Some("socket"), Some("tty"), Some("anon"), Some("device")];

/// `struct slot`: the calls of one number.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// The sum of their times.
    pub sum_ns: u64,
    /// How many failed.
    pub errors: u64,
    /// How many took how long.
    pub buckets: [u32; BUCKETS],
}

// SAFETY: repr(C), only integers, and sizes are compared where bytes become one.
unsafe impl Plain for Event {}
// SAFETY: likewise.
unsafe impl Plain for Stuck {}
// SAFETY: likewise.
unsafe impl Plain for Slot {}

/// For the arrays of counts, in bytes; the ring buffer and what is kept of each task come on top, and together
/// they stay below 16 MiB.
const BUDGET: usize = 9 << 20;

/// How many of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Copies between which the CPUs are divided, so that they do not wait for one another.
    pub shards: u32,
    /// CPUs that can exist.
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

    /// Where the slot of an index (below twice [`NUMBERS`]) is in its array; 32-bit calls have one for all CPUs.
    pub fn slot(self, half: usize, shard: usize, index: usize) -> usize {
        let shards = self.shards as usize;
        match index.checked_sub(NUMBERS) {
            None => (half * shards + shard) * NUMBERS + index,
            Some(index) => (2 * shards + half) * NUMBERS + index,
        }
    }

    /// In how many shards an index is counted.
    pub fn shards_of(self, index: usize) -> usize {
        if index < NUMBERS { self.shards as usize } else { 1 }
    }

    /// Where the longest call of a CPU is in its array.
    pub fn peak(self, half: usize, cpu: usize, index: usize) -> usize {
        (half * self.cpus as usize + cpu) * 2 * NUMBERS + index
    }

    /// The length of the array of slots.
    pub fn all_slots(self) -> usize {
        (2 * self.shards as usize + 2) * NUMBERS
    }

    /// The length of the array of peaks.
    pub fn all_peaks(self) -> usize {
        self.peak(2, 0, 0)
    }

    /// The size of both.
    pub fn bytes(self) -> usize {
        self.all_slots() * size_of::<Slot>() + self.all_peaks() * size_of::<u64>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds() {
        for cpus in [1, 2, 3, 8, 64, 512] {
            let choice = Geometry::choose(cpus);
            assert!(choice.bytes() <= BUDGET.max(10 << 20), "{cpus} CPUs: {choice:?}");
        }
        assert_eq!(Geometry::choose(2), Geometry { shards: 2, cpus: 2 });
    }

    #[test]
    fn places_do_not_overlap() {
        let geometry = Geometry { shards: 2, cpus: 3 };
        let (mut slots, mut peaks) = (Vec::new(), Vec::new());
        for half in 0..2 {
            for index in 0..2 * NUMBERS {
                slots.extend((0..geometry.shards_of(index)).map(|shard| geometry.slot(half, shard, index)));
                peaks.extend((0..3).map(|cpu| geometry.peak(half, cpu, index)));
            }
        }
        slots.sort_unstable();
        peaks.sort_unstable();
        assert!(slots.into_iter().eq(0..geometry.all_slots()));
        assert!(peaks.into_iter().eq(0..geometry.all_peaks()));
    }
}
