//! The C structs of `bpf/iolat/`, and how many of them there are.

use crate::bpf::hist::{FINE, buckets};
use crate::bpf::map::Plain;
use crate::bpf::task::TaskId;

const BUCKETS: usize = buckets(FINE);

/// `struct slot`: one device and operation, in one half and shard.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// Bytes, errors, device, queue and unsplit time.
    pub sums: [u64; 5],
    pad: [u64; 3],
    /// Of each bucket the counts of total, device and queue time.
    pub buckets: [u32; 3 * BUCKETS],
}

// SAFETY: repr(C), only integers, and the sizes are compared when it is mapped.
unsafe impl Plain for Slot {}

/// `struct peak`: the longest times of one CPU.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct Peak {
    /// Longest total, device and queue time, in nanoseconds.
    pub longest: [u64; 3],
    /// Of the request with the longest total time, as all below.
    pub sector: u64,
    /// Its size; of one that ended in parts, the last part's.
    pub bytes: u32,
    pad: u32,
    /// Who submitted it, if that is known.
    pub task: TaskId,
}

// SAFETY: as above.
unsafe impl Plain for Peak {}

/// `struct event`: one slow request.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Event {
    /// When it ended, by the kernel's clock.
    pub end_ns: u64,
    /// Total, device and queue time.
    pub times: [u64; 3],
    /// Where it lay.
    pub sector: u64,
    /// How long it was.
    pub bytes: u32,
    /// The device's number.
    pub device: u32,
    /// 0, a negative errno (before 5.16) or a `blk_status_t`.
    pub error: i32,
    /// The operation, as [`super::Op`].
    pub op: u8,
    /// Whether device and queue time are known.
    pub split: u8,
    pad: [u8; 2],
    /// Who submitted it, if that is known.
    pub task: TaskId,
}

// SAFETY: as above.
unsafe impl Plain for Event {}

/// The kernel's sector; it has all bits set where the request lies nowhere.
pub fn place(sector: u64) -> Option<u64> {
    (sector != u64::MAX).then_some(sector)
}

/// The budget for all maps, in bytes.
pub const BUDGET: usize = 16 << 20;
const MAX_SHARDS: u32 = 16;
/// Eight disks that read, write, flush and discard: there may be more later than at the start.
const MIN_SLOT_BITS: u32 = 5;
const MAX_SLOT_BITS: u32 = 10;

/// How many of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// There are 2 to this power slots in a shard.
    pub slot_bits: u32,
    /// Copies between which the CPUs are divided, so that they do not wait for one another.
    pub shards: u32,
    /// CPUs that can exist.
    pub cpus: u32,
}

impl Geometry {
    /// Room for twice as many pairs of device and operation as `disks` that read and write
    /// make, and then as many shards as the CPUs ask for and `budget`, in bytes, allows.
    pub fn choose(disks: usize, cpus: u32, budget: usize) -> Self {
        let wanted = (disks * 4 + 8).next_power_of_two();
        let slot_bits = wanted.ilog2().clamp(MIN_SLOT_BITS, MAX_SLOT_BITS);
        let mut choice = Self { slot_bits, shards: 1, cpus };
        while choice.bytes() > budget && choice.slot_bits > 4 {
            choice.slot_bits -= 1;
        }
        while choice.shards < cpus.min(MAX_SHARDS)
            && let more = (Self { shards: choice.shards * 2, ..choice })
            && more.bytes() <= budget
        {
            choice = more;
        }
        choice
    }

    /// Slots in a shard.
    pub fn slots(self) -> usize {
        1 << self.slot_bits
    }

    /// Where a slot of a half and shard is in the array.
    pub fn slot(self, half: usize, shard: usize, slot: usize) -> usize {
        (half * self.shards as usize + shard) * self.slots() + slot
    }

    /// Where the peak of a half, CPU and slot is in its array.
    pub fn peak(self, half: usize, cpu: usize, slot: usize) -> usize {
        (half * self.cpus as usize + cpu) * self.slots() + slot
    }

    /// The number of slots in both halves.
    pub fn all_slots(self) -> usize {
        self.slot(2, 0, 0)
    }

    /// The number of peaks in both halves.
    pub fn all_peaks(self) -> usize {
        self.peak(2, 0, 0)
    }

    /// The size of both arrays.
    pub fn bytes(self) -> usize {
        self.all_slots() * size_of::<Slot>() + self.all_peaks() * size_of::<Peak>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds() {
        for (disks, budget) in
            [0, 1, 9, 40, 300, 5000].into_iter().flat_map(|disks| [(disks, BUDGET), (disks, BUDGET / 3)])
        {
            for cpus in [1, 2, 3, 8, 64, 512] {
                let choice = Geometry::choose(disks, cpus, budget);
                assert!(choice.bytes() <= budget, "{disks} disks, {cpus} CPUs: {choice:?}");
                assert!(choice.shards.is_power_of_two() && choice.shards < cpus * 2, "{choice:?}");
            }
        }
        assert_eq!(Geometry::choose(9, 2, BUDGET), Geometry { slot_bits: 6, shards: 2, cpus: 2 });
    }

    #[test]
    fn places_do_not_overlap() {
        let geometry = Geometry { slot_bits: 3, shards: 2, cpus: 3 };
        let mut slots = Vec::new();
        let mut peaks = Vec::new();
        for half in 0..2 {
            for slot in 0..8 {
                slots.extend((0..2).map(|shard| geometry.slot(half, shard, slot)));
                peaks.extend((0..3).map(|cpu| geometry.peak(half, cpu, slot)));
            }
        }
        slots.sort_unstable();
        peaks.sort_unstable();
        assert!(slots.into_iter().eq(0..geometry.all_slots()));
        assert!(peaks.into_iter().eq(0..geometry.all_peaks()));
    }
}
