//! From the mapped arrays to what happened in an interval.

use std::array;
use std::collections::HashMap;

use super::Op;
use super::layout::{Geometry, Peak, Slot, place};
use crate::bpf::hist::{FINE, Histogram, buckets};
use crate::bpf::map::{MappedArray, load, store};
use crate::bpf::task::TaskId;

const BUCKETS: usize = buckets(FINE);

/// One distribution of an interval.
#[derive(Clone, Debug)]
pub struct Latency {
    /// How many took how long.
    pub histogram: Histogram,
    /// The sum, in nanoseconds.
    pub sum_ns: u64,
    /// The longest, in nanoseconds.
    pub max_ns: u64,
}

/// What one device and operation did in an interval.
#[derive(Clone, Debug)]
pub struct Activity {
    /// The device's number; 0 if all are counted together.
    pub device: u32,
    /// What was done.
    pub op: Op,
    /// Bytes that were read, written or discarded.
    pub bytes: u64,
    /// Requests that failed.
    pub errors: u64,
    /// From submission to completion, of every request.
    pub total: Latency,
    /// From issue to completion, where the time of issue is known.
    pub on_device: Latency,
    /// From submission to issue, likewise.
    pub queue: Latency,
    /// The start of the slowest request; `None` if its CPU's record of it is missing.
    pub slowest: Option<Slowest>,
}

/// The request with the longest total time.
#[derive(Clone, Copy, Debug)]
pub struct Slowest {
    /// Where it lay, in sectors of 512 bytes; `None` for what lies nowhere, as a flush.
    pub sector: Option<u64>,
    /// How long it was.
    pub bytes: u32,
    /// Who submitted it, if that is known.
    pub task: Option<TaskId>,
}

/// What a slot held when it was last read, all shards together.
struct Held {
    sums: [u64; 5],
    buckets: Box<[u32; 3 * BUCKETS]>,
}

impl Held {
    fn nothing() -> Self {
        Self { sums: [0; 5], buckets: Box::new([0; 3 * BUCKETS]) }
    }
}

/// The arrays, and what was read of them before.
pub struct Table {
    geometry: Geometry,
    slots: MappedArray<Slot>,
    peaks: MappedArray<Peak>,
    before: HashMap<(usize, usize), Held>,
}

impl Table {
    /// Of arrays of that geometry.
    pub fn new(geometry: Geometry, slots: MappedArray<Slot>, peaks: MappedArray<Peak>) -> Self {
        Self { geometry, slots, peaks, before: HashMap::new() }
    }

    /// What a slot of the half that is now still has gained since it was last read;
    /// `None` if nothing.
    pub fn take(&mut self, half: usize, slot: usize, key: u64) -> Option<Activity> {
        let now = self.read(half, slot);
        let before = self.before.entry((half, slot)).or_insert_with(Held::nothing);
        // Counters wrap, and so does their difference.
        let gained: [u64; 5] = array::from_fn(|i| now.sums[i].wrapping_sub(before.sums[i]));
        let [mut total, mut device, mut queue] = [(); 3].map(|()| Histogram::new(FINE));
        for (kind, histogram) in [&mut total, &mut device, &mut queue].into_iter().enumerate() {
            for bucket in 0..BUCKETS {
                let at = bucket * 3 + kind;
                histogram.add(bucket, now.buckets[at].wrapping_sub(before.buckets[at]).into());
            }
        }
        *before = now;
        let [bytes, errors, device_ns, queue_ns, unsplit_ns] = gained;
        if bytes == 0 && total.count() == 0 {
            return None;
        }
        let peak = self.take_peak(half, slot);
        let latency = |histogram: Histogram, sum_ns, longest: u64| {
            let max_ns = longest.max(histogram.floor_of_max());
            Latency { histogram, sum_ns, max_ns }
        };
        let total_ns = device_ns.wrapping_add(queue_ns).wrapping_add(unsplit_ns);
        Some(Activity {
            device: (key >> 3) as u32,
            op: Op::from_kernel(key as u8 & 7)?,
            bytes,
            errors,
            slowest: (peak.longest[0] > 0).then(|| peak.slowest()),
            total: latency(total, total_ns, peak.longest[0]),
            on_device: latency(device, device_ns, peak.longest[1]),
            queue: latency(queue, queue_ns, peak.longest[2]),
        })
    }

    fn read(&self, half: usize, slot: usize) -> Held {
        let mut held = Held::nothing();
        for shard in 0..self.geometry.shards as usize {
            let at = self.slots.at(self.geometry.slot(half, shard, slot));
            for (i, sum) in held.sums.iter_mut().enumerate() {
                // SAFETY: inside the mapped array, aligned by repr(C).
                *sum = sum.wrapping_add(unsafe { load(&raw const (*at).sums[i]) });
            }
            for (i, count) in held.buckets.iter_mut().enumerate() {
                // SAFETY: likewise.
                *count = count.wrapping_add(unsafe { load(&raw const (*at).buckets[i]) });
            }
        }
        held
    }

    /// The longest times over all CPUs, which begin anew.
    fn take_peak(&self, half: usize, slot: usize) -> Peak {
        let mut highest = Peak::default();
        for cpu in 0..self.geometry.cpus as usize {
            let at = self.peaks.at(self.geometry.peak(half, cpu, slot));
            // SAFETY: inside the mapped array; the half is still, so that nobody writes it.
            let mut peak = unsafe { load(at) };
            // SAFETY: likewise.
            unsafe { store(&raw mut (*at).longest[0], 0) };
            // SAFETY: likewise.
            unsafe { store(&raw mut (*at).longest[1], 0) };
            // SAFETY: likewise.
            unsafe { store(&raw mut (*at).longest[2], 0) };
            let longest = array::from_fn(|i| highest.longest[i].max(peak.longest[i]));
            if peak.longest[0] >= highest.longest[0] {
                std::mem::swap(&mut highest, &mut peak);
            }
            highest.longest = longest;
        }
        highest
    }
}

impl Peak {
    fn slowest(&self) -> Slowest {
        let task = (self.task.known != 0).then_some(self.task);
        Slowest { sector: place(self.sector), bytes: self.bytes, task }
    }
}
