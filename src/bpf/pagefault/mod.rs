//! Page faults: the user side of `bpf/pagefault.bpf.c`.
//!
//! Reads the arrays that the kernel programs count in, and gives how long faults took in an
//! interval, whose they were, and single faults.

use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};

mod layout;
mod mapping;
mod open;
mod report;
mod session;
mod table;

pub use layout::{Event, Process};
pub use open::{Settings, Way};
pub use session::{Options, run};
pub use table::Faults;

use super::clock::kernel_now;
use super::load::recursion_misses;
use super::map::{DoubleBuffer, MappedArray, Ring, load, memory};
use open::Loaded;
use open::skeleton::types;
use table::Table;

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
    table: Table,
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
        let table = Table::new(loaded.cpus, slots, processes);
        Ok(Self { loaded, shared, table, double_buffer, began_ns, counted: [0; 5], ring })
    }

    /// When counting began, by the kernel's clock.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
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
        (self.table.kinds(half), self.table.processes(half), end_ns)
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
