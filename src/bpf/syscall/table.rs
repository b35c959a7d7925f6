//! From the mapped arrays to what happened in an interval.

use std::collections::HashMap;

use super::layout::{BUCKETS, Geometry, SCALE, Slot};
use super::names::NUMBERS;
use crate::bpf::hist::Histogram;
use crate::bpf::map::{MappedArray, load, store};

/// The calls of one number in an interval.
#[derive(Clone, Debug)]
pub struct Activity {
    /// The number; [`NUMBERS`] more for a 32-bit call.
    pub index: usize,
    /// How many failed.
    pub errors: u64,
    /// The sum of their times, in nanoseconds.
    pub sum_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// How many took how long.
    pub histogram: Histogram,
}

/// What a number's slots held when they were last read, all shards together.
struct Held {
    sum_ns: u64,
    errors: u64,
    buckets: Box<[u32; BUCKETS]>,
}

impl Held {
    fn nothing() -> Self {
        Self { sum_ns: 0, errors: 0, buckets: Box::new([0; BUCKETS]) }
    }
}

/// The arrays, and what was read of them before.
pub struct Table {
    geometry: Geometry,
    slots: MappedArray<Slot>,
    peaks: MappedArray<u64>,
    before: HashMap<(usize, usize), Held>,
}

impl Table {
    /// Of arrays of that geometry.
    pub fn new(geometry: Geometry, slots: MappedArray<Slot>, peaks: MappedArray<u64>) -> Self {
        Self { geometry, slots, peaks, before: HashMap::new() }
    }

    /// What the half that is now still has gained since it was last read, by number.
    pub fn take(&mut self, half: usize) -> Vec<Activity> {
        (0..2 * NUMBERS).filter_map(|index| self.take_index(half, index)).collect()
    }

    fn take_index(&mut self, half: usize, index: usize) -> Option<Activity> {
        let max_ns = self.take_peak(half, index);
        let known = self.before.contains_key(&(half, index));
        // Most numbers never occur: without a longest call there was none, or its time was 0.
        if max_ns == 0 && !known && !self.any(half, index) {
            return None;
        }
        let now = self.read(half, index);
        let before = self.before.entry((half, index)).or_insert_with(Held::nothing);
        let mut histogram = Histogram::new(SCALE);
        for (bucket, (now, before)) in now.buckets.iter().zip(before.buckets.iter()).enumerate() {
            // Counters wrap, and so does their difference.
            histogram.add(bucket, now.wrapping_sub(*before).into());
        }
        let sum_ns = now.sum_ns.wrapping_sub(before.sum_ns);
        let errors = now.errors.wrapping_sub(before.errors);
        *before = now;
        let max_ns = max_ns.max(histogram.floor_of_max());
        (histogram.count() > 0).then_some(Activity { index, errors, sum_ns, max_ns, histogram })
    }

    fn shards(&self, half: usize, index: usize) -> impl Iterator<Item = *mut Slot> {
        let shards = 0..self.geometry.shards_of(index);
        shards.map(move |shard| self.slots.at(self.geometry.slot(half, shard, index)))
    }

    fn any(&self, half: usize, index: usize) -> bool {
        // SAFETY: inside the mapped array, aligned by repr(C).
        self.shards(half, index).any(|at| unsafe { load(&raw const (*at).sum_ns) } > 0)
    }

    fn read(&self, half: usize, index: usize) -> Held {
        let mut held = Held::nothing();
        for at in self.shards(half, index) {
            // SAFETY: inside the mapped array, aligned by repr(C).
            held.sum_ns = held.sum_ns.wrapping_add(unsafe { load(&raw const (*at).sum_ns) });
            // SAFETY: likewise.
            held.errors = held.errors.wrapping_add(unsafe { load(&raw const (*at).errors) });
            for (i, count) in held.buckets.iter_mut().enumerate() {
                // SAFETY: likewise.
                *count = count.wrapping_add(unsafe { load(&raw const (*at).buckets[i]) });
            }
        }
        held
    }

    /// The longest call over all CPUs, which begins anew.
    fn take_peak(&self, half: usize, index: usize) -> u64 {
        let peaks = (0..self.geometry.cpus as usize).map(|cpu| {
            let at = self.peaks.at(self.geometry.peak(half, cpu, index));
            // SAFETY: inside the mapped array; the half is still, so that nobody writes it.
            let peak = unsafe { load(at) };
            if peak > 0 {
                // SAFETY: likewise.
                unsafe { store(at, 0) };
            }
            peak
        });
        peaks.max().unwrap_or(0)
    }
}
