//! Reads the arrays that the eBPF programs of `iolat` count in: what each device and operation did
//! in an interval.

use std::collections::HashMap;

use crate::bpf::map::{MappedArray, Plain, load, store};
use crate::bpf::skeleton::{array_len, skeleton};
use crate::bpf::task::TaskId;
use crate::common::hist::{Histogram, Totals};
use types::{longest, peak, slot};

skeleton!("iolat", IolatSkelBuilder, OpenIolatSkel, IolatSkel);

pub use types::event as Event;

// SAFETY: generated with the layout of the C struct, and it has only integers.
unsafe impl Plain for types::event {}
// SAFETY: as above.
unsafe impl Plain for slot {}
// SAFETY: as above.
unsafe impl Plain for peak {}
// SAFETY: as above.
unsafe impl Plain for longest {}

/// The operation of a request: `enum op` of `bpf/iolat.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Reads.
    Read = types::op::OP_READ.0 as isize,
    /// Writes, also of zeroes.
    Write = types::op::OP_WRITE.0 as isize,
    /// Flushes of the device's cache.
    Flush = types::op::OP_FLUSH.0 as isize,
    /// Discards, also secure ones.
    Discard = types::op::OP_DISCARD.0 as isize,
}

impl Op {
    /// By the number in the kernel.
    pub fn from_kernel(number: u8) -> Option<Self> {
        [Self::Read, Self::Write, Self::Flush, Self::Discard].into_iter().find(|op| *op as u8 == number)
    }

    /// The value of the field `op`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
            Self::Discard => "discard",
        }
    }
}

/// A sector of the kernel; all bits are set for requests that have none, such as flushes.
pub fn sector(number: u64) -> Option<u64> {
    (number != u64::MAX).then_some(number)
}

/// The most shards.
const MAX_SHARDS: u32 = 16;
/// Slots for eight disks that read, write, flush and discard: more disks may appear.
const MIN_SLOT_BITS: u32 = 5;
/// The most slots, as a power of two.
const MAX_SLOT_BITS: u32 = array_len(|shared: &types::bss| &shared.keys).ilog2();
/// How many devices can be asked for.
pub const MAX_DEVICES: usize = array_len(|shared: &types::bss| &shared.wanted_devices);

/// The dimensions of the arrays: two halves, each of shards or CPUs, each of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// A shard has 2 to this power slots, one for each device and operation.
    pub slot_bits: u32,
    /// Copies of the slots. The CPUs are divided between them, to avoid contention.
    pub shards: u32,
    /// Possible CPUs.
    pub cpus: u32,
}

impl Geometry {
    /// Twice as many slots as `disks` that read and write need, and then as many shards as `cpus` and `budget`,
    /// in bytes, allow.
    pub fn choose(disks: usize, cpus: usize, budget: usize) -> Self {
        let wanted = (disks * 4 + 8).next_power_of_two();
        let slot_bits = wanted.ilog2().clamp(MIN_SLOT_BITS, MAX_SLOT_BITS);
        let cpus = u32::try_from(cpus).unwrap_or(u32::MAX);
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

    fn slot(self, half: usize, shard: u32, slot: usize) -> usize {
        ((half * self.shards as usize + shard as usize) << self.slot_bits) + slot
    }

    fn peak(self, half: usize, cpu: u32, slot: usize) -> usize {
        ((half * self.cpus as usize + cpu as usize) << self.slot_bits) + slot
    }

    /// The length of the array of slots.
    pub fn all_slots(self) -> u32 {
        (2 * self.shards) << self.slot_bits
    }

    /// The length of the array of peaks.
    pub fn all_peaks(self) -> u32 {
        (2 * self.cpus) << self.slot_bits
    }

    /// The size of both arrays.
    pub fn bytes(self) -> usize {
        self.all_slots() as usize * size_of::<slot>() + self.all_peaks() as usize * size_of::<peak>()
    }
}

/// One of the three times of requests in an interval.
#[derive(Clone, Debug)]
pub struct Latency {
    /// The distribution.
    pub histogram: Histogram,
    /// The sum, in nanoseconds.
    pub sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

/// The counts and times of one device and operation in an interval.
#[derive(Clone, Debug)]
pub struct Activity {
    /// The device's number; 0 if all devices are counted as one.
    pub device: u32,
    /// The operation.
    pub op: Op,
    /// Bytes that were read, written or discarded.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// From submission to completion, of every request.
    pub total: Latency,
    /// From issue to completion, where the time of issue is known.
    pub on_device: Latency,
    /// From submission to issue, where the time of issue is known.
    pub queue: Latency,
    /// The request with the longest total time, if it is known.
    pub slowest: Option<Slowest>,
}

/// The request with the longest total time.
#[derive(Clone, Copy, Debug)]
pub struct Slowest {
    /// The first sector, of 512 bytes; `None` for a flush.
    pub sector: Option<u64>,
    /// The size; of a request that completed in parts, that of the last part.
    pub bytes: u32,
    /// The submitter, if recorded.
    pub task: Option<TaskId>,
}

/// The counters of a device and operation when they were last read, summed over the shards.
#[derive(Default)]
struct Snapshot {
    bytes: u64,
    errors: u64,
    total: Totals,
    on_device: Totals,
    queue: Totals,
}

impl Snapshot {
    fn add(&mut self, slot: &slot) {
        self.bytes = self.bytes.wrapping_add(slot.bytes);
        self.errors = self.errors.wrapping_add(slot.errors);
        let total_ns = slot.device_ns.wrapping_add(slot.queue_ns).wrapping_add(slot.unsplit_ns);
        self.total.add(total_ns, slot.buckets.iter().map(|bucket| bucket.total));
        self.on_device.add(slot.device_ns, slot.buckets.iter().map(|bucket| bucket.device));
        self.queue.add(slot.queue_ns, slot.buckets.iter().map(|bucket| bucket.queue));
    }
}

/// The mapped arrays, and what was read from them before.
pub struct Table {
    geometry: Geometry,
    /// The longest times are in the slots, not in the peaks.
    exclusive: bool,
    slots: MappedArray<slot>,
    peaks: MappedArray<peak>,
    before: HashMap<(usize, usize), Snapshot>,
}

impl Table {
    /// For arrays of these dimensions; `exclusive` is the constant of `bpf/map.h`.
    pub fn new(
        geometry: Geometry,
        exclusive: bool,
        slots: MappedArray<slot>,
        peaks: MappedArray<peak>,
    ) -> Self {
        Self { geometry, exclusive, slots, peaks, before: HashMap::new() }
    }

    /// The number of slots in a shard.
    pub fn slots(&self) -> usize {
        1 << self.geometry.slot_bits
    }

    /// What a slot has counted in `half` since it was last read; `None` if nothing. The programs must not
    /// write to that half.
    pub fn take(&mut self, half: usize, slot: usize, key: u64) -> Option<Activity> {
        let now = self.read(half, slot);
        let before = self.before.entry((half, slot)).or_default();
        let bytes = now.bytes.wrapping_sub(std::mem::replace(&mut before.bytes, now.bytes));
        let errors = now.errors.wrapping_sub(std::mem::replace(&mut before.errors, now.errors));
        let total = before.total.advance(now.total);
        let on_device = before.on_device.advance(now.on_device);
        let queue = before.queue.advance(now.queue);
        if bytes == 0 && total.0.count() == 0 {
            return None;
        }
        let (longest, peak) = self.take_longest(half, slot);
        let latency = |(histogram, sum_ns): (Histogram, u64), longest: u64| {
            let max_ns = longest.max(histogram.floor_of_max());
            Latency { histogram, sum_ns, max_ns }
        };
        let slowest = (longest.total_ns > 0).then(|| Slowest {
            sector: sector(peak.sector),
            bytes: peak.bytes,
            task: (peak.task.known != 0).then(|| peak.task.into()),
        });
        Some(Activity {
            device: (key >> 3) as u32,
            op: Op::from_kernel(key as u8 & 7)?,
            bytes,
            errors,
            total: latency(total, longest.total_ns),
            on_device: latency(on_device, longest.device_ns),
            queue: latency(queue, longest.queue_ns),
            slowest,
        })
    }

    fn read(&self, half: usize, slot: usize) -> Snapshot {
        let mut sum = Snapshot::default();
        for shard in 0..self.geometry.shards {
            // SAFETY: inside the mapped array, and aligned like the C struct.
            sum.add(&unsafe { load(self.slots.at(self.geometry.slot(half, shard, slot))) });
        }
        sum
    }

    /// The longest times over all CPUs, which are set to zero, and the request with the longest total time.
    fn take_longest(&self, half: usize, slot: usize) -> (longest, peak) {
        let (mut longest, mut slowest) = (longest::default(), peak::default());
        for cpu in 0..self.geometry.cpus {
            let at = self.peaks.at(self.geometry.peak(half, cpu, slot));
            let longest_at = if self.exclusive {
                // SAFETY: a field of an element of the mapped array.
                unsafe { &raw mut (*self.slots.at(self.geometry.slot(half, cpu, slot))).longest }
            } else {
                // SAFETY: as above.
                unsafe { &raw mut (*at).longest }
            };
            // SAFETY: as above, in the half that the programs do not write.
            let found = unsafe { load(longest_at) };
            // SAFETY: as above.
            unsafe { store(longest_at, longest::default()) };
            if found.total_ns >= longest.total_ns {
                // SAFETY: as above.
                slowest = unsafe { load(at) };
            }
            longest.total_ns = longest.total_ns.max(found.total_ns);
            longest.device_ns = longest.device_ns.max(found.device_ns);
            longest.queue_ns = longest.queue_ns.max(found.queue_ns);
        }
        (longest, slowest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: usize = 16 << 20;

    #[test]
    fn the_budget_holds() {
        for (disks, budget) in
            [0, 1, 9, 40, 300, 5000].into_iter().flat_map(|disks| [(disks, BUDGET), (disks, BUDGET / 3)])
        {
            for cpus in [1, 2, 3, 8, 64, 512] {
                let choice = Geometry::choose(disks, cpus, budget);
                assert!(choice.bytes() <= budget, "{disks} disks, {cpus} CPUs: {choice:?}");
                assert!(choice.shards.is_power_of_two() && choice.shards < choice.cpus * 2, "{choice:?}");
            }
        }
        assert_eq!(Geometry::choose(9, 2, BUDGET), Geometry { slot_bits: 6, shards: 2, cpus: 2 });
    }

    #[test]
    fn every_element_has_one_index() {
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
        assert!(slots.into_iter().eq(0..geometry.all_slots() as usize));
        assert!(peaks.into_iter().eq(0..geometry.all_peaks() as usize));
    }
}
