//! Page faults: the user side of `bpf/pagefault.bpf.c`.
//!
//! Reads the arrays that the kernel programs count in, and gives how long faults took in an
//! interval, whose they were, and single faults.

use std::collections::HashMap;
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};

mod layout;
mod mapping;
mod open;
mod report;
mod session;

pub use layout::{Event, Process};
pub use open::{Settings, Way};
pub use session::{Options, run};

use super::clock::kernel_now;
use super::hist::{FINE, Histogram};
use super::load::recursion_misses;
use super::map::{DoubleBuffer, MappedArray, Ring, load, memory};
use super::own::LeftOut;
use layout::{KINDS, Slot};
use open::Loaded;
use open::skeleton::types;

/// The faults of one kind in an interval.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The kind, as the kernel programs number it.
    pub kind: usize,
    /// How many took how long.
    pub histogram: Histogram,
    /// The sum of their times.
    pub sum_ns: u64,
    /// The longest, and whose it was.
    pub longest: (u64, u32, String),
}

/// What the kernel programs could not count, since they were last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Faults for which there was no room to note when they began.
    pub begins: u64,
    /// Faults whose end was not seen.
    pub ends: u64,
    /// Faults of processes that found no slot.
    pub processes: u64,
    /// Events that found the ring buffer full.
    pub events: u64,
    /// Runs of a program that the kernel left out, because it was running on that CPU already.
    pub nested: u64,
}

/// The attached programs and their arrays.
pub struct Tracer {
    loaded: Loaded,
    shared: *mut types::bss,
    slots: MappedArray<Slot>,
    processes: Option<MappedArray<Process>>,
    double_buffer: DoubleBuffer,
    began_ns: u64,
    counted: [u64; 5],
    ring: Option<Ring<Event>>,
}

impl Tracer {
    /// Loads and attaches.
    ///
    /// # Errors
    /// If the kernel refuses, with what to do about it.
    pub fn start(settings: &Settings) -> Result<Self> {
        let mut loaded = open::load(settings)?;
        // What was counted while the hooks were being attached is in the first interval too.
        let began_ns = kernel_now();
        let shared: *mut types::bss =
            loaded.skel.maps.bss_data.as_deref_mut().context("the programs have no shared data")?;
        let maps = &loaded.skel.maps;
        let slots = MappedArray::new(&maps.slots)?;
        let processes = settings.processes.then(|| MappedArray::new(&maps.table)).transpose()?;
        let ring = settings.events.map(|_| Ring::open(&maps.ring)).transpose()?;
        // SAFETY: the memory belongs to the skeleton, which is never freed; only the kernel reads it too.
        let double_buffer = unsafe { DoubleBuffer::new(&raw mut (*shared).active_half) };
        Ok(Self { loaded, shared, slots, processes, double_buffer, began_ns, counted: [0; 5], ring })
    }

    /// When counting began, by the kernel's clock.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// Who was asked for and is left out all the same.
    pub fn left_out(&self) -> LeftOut {
        // SAFETY: valid as `shared` is, and of the same layout.
        unsafe { load((&raw const (*self.shared).own_left_out).cast()) }
    }

    /// Readable when the ring buffer is half full; `None` without events.
    pub fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        self.ring.as_ref().map(Ring::fd)
    }

    /// Gives the events that are waiting to `tell`, in their order.
    ///
    /// # Errors
    /// The first that `tell` gives.
    pub fn events(&self, tell: impl FnMut(&Event) -> Result<()>) -> Result<()> {
        self.ring.as_ref().map_or(Ok(()), |ring| ring.drain(tell))
    }

    /// Ends the interval: its faults by kind, by process, and when it ended.
    pub fn take(&mut self) -> (Vec<Faults>, Vec<Process>, u64) {
        let (half, end_ns) = self.double_buffer.switch(kernel_now);
        let faults = (0..KINDS).map(|kind| self.take_kind(half, kind));
        (faults.filter(|faults| faults.histogram.count() > 0).collect(), self.take_processes(half), end_ns)
    }

    fn take_kind(&self, half: usize, kind: usize) -> Faults {
        let mut faults =
            Faults { kind, histogram: Histogram::new(FINE), sum_ns: 0, longest: (0, 0, String::new()) };
        for cpu in 0..self.loaded.cpus {
            let slot = self.slots.take((half * self.loaded.cpus + cpu) * KINDS + kind);
            for (index, count) in slot.buckets.iter().enumerate() {
                faults.histogram.add(index, u64::from(*count));
            }
            faults.sum_ns += slot.sum_ns;
            if slot.max_ns > faults.longest.0 {
                let comm = super::task::comm(&slot.max_comm).into_owned();
                faults.longest = (slot.max_ns, slot.max_pid, comm);
            }
        }
        faults
    }

    fn take_processes(&self, half: usize) -> Vec<Process> {
        let Some(table) = &self.processes else { return Vec::new() };
        let mut found: HashMap<u32, Process> = HashMap::new();
        for index in half * table.len() / 2..(half + 1) * table.len() / 2 {
            // SAFETY: inside the mapped array.
            if unsafe { load(&raw const (*table.at(index)).pid) } == 0 {
                continue;
            }
            let part = table.take(index);
            let sum =
                found.entry(part.pid).or_insert(Process { max_ns: 0, counts: [0; 2], sums: [0; 2], ..part });
            for i in 0..2 {
                sum.counts[i] += part.counts[i];
                sum.sums[i] += part.sums[i];
            }
            if part.max_ns > sum.max_ns {
                (sum.max_ns, sum.comm) = (part.max_ns, part.comm);
            }
        }
        found.into_values().collect()
    }

    /// What was not counted since the last call.
    pub fn losses(&mut self) -> Losses {
        let progs = &self.loaded.skel.progs;
        let all = [
            &progs.user_btf,
            &progs.kernel_btf,
            &progs.user_raw,
            &progs.kernel_raw,
            &progs.end_minor,
            &progs.end_major,
            &progs.enter,
            &progs.leave,
            &progs.called,
            &progs.returned,
        ];
        let attached = all.into_iter().filter(|program| program.autoload());
        let misses = attached.map(|program| recursion_misses(program.as_fd())).sum::<Option<u64>>();
        let shared = self.shared;
        // SAFETY: the memory belongs to the skeleton, which is never freed.
        let now = unsafe {
            [
                load(&raw const (*shared).lost_begins),
                load(&raw const (*shared).lost_ends),
                load(&raw const (*shared).lost_processes),
                load(&raw const (*shared).lost_events),
                misses.unwrap_or(self.counted[4]),
            ]
        };
        let [begins, ends, processes, events, nested] =
            std::array::from_fn(|i| now[i].saturating_sub(self.counted[i]));
        self.counted = now;
        Losses { begins, ends, processes, events, nested }
    }

    /// One line: how it is attached and what memory it takes in the kernel.
    pub fn describe(&self) -> String {
        let maps = &self.loaded.skel.maps;
        let all = [&maps.slots, &maps.table, &maps.task_slots, &maps.begun_by_tid, &maps.ring]
            .map(|map| map.as_fd());
        let data = [maps.bss.as_fd(), maps.rodata.as_fd()];
        let bytes: usize = all.into_iter().chain(data).filter_map(memory).sum();
        let Loaded { way, links, .. } = &self.loaded;
        format!("{way}; {} hooks; {} KiB of maps", links.len(), bytes / 1024)
    }
}
