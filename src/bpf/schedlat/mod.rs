//! Run-queue latency: the user side of `bpf/schedlat.bpf.c`.
//!
//! Reads the arrays that the kernel programs count in, and gives how long tasks waited for a CPU
//! in an interval, what each process did, and the long waits one by one.

use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use libbpf_rs::{Link, ProgramMut};

mod open;
mod report;
mod session;
mod table;

pub use open::Settings;
pub use session::{Options, run};
pub use table::{Geometry, Longest, Process, Processes, Waits};
pub use types::event as Event;

use super::attach::Attach;
use super::clock::kernel_now;
use super::load::{explain, recursion_misses};
use super::map::{DoubleBuffer, MappedArray, Ring, load, memory};
use super::self_filter::SelfFilter;
use open::Loaded;
use open::skeleton::{SchedlatSkel, types};
use table::Table;

// SAFETY: generated with the layout of the C struct, and it has only integers.
unsafe impl super::map::Plain for Event {}

/// What the kernel programs could not count, since they were last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Waits for which there was no room to note when they began.
    pub waits: u64,
    /// Waits of cgroups that found no slot.
    pub groups: u64,
    /// Switches, wake-ups and migrations of processes that found no slot.
    pub processes: u64,
    /// Events that found the ring buffer full.
    pub events: u64,
    /// Switches that no program was run at.
    pub unseen: u64,
    /// Waits that seem to have ended before they began.
    pub negative: u64,
    /// Runs of a program that the kernel left out, because it was running on that CPU already.
    pub nested: u64,
}

/// The loaded and attached programs.
pub struct Tracer {
    attach: Attach,
    skel: SchedlatSkel<'static>,
    shared: *mut types::bss,
    self_filter: SelfFilter,
    table: Table,
    double_buffer: DoubleBuffer,
    links: Vec<Link>,
    began_ns: u64,
    counted: [u64; 7],
    ring: Option<Ring<Event>>,
}

impl Tracer {
    /// Loads and attaches.
    ///
    /// # Errors
    /// If the kernel refuses, with what to do about it.
    pub fn start(settings: &Settings) -> Result<Self> {
        let Loaded { mut skel, attach, geometry } = open::load(settings)?;
        let shared: *mut types::bss =
            skel.maps.bss_data.as_deref_mut().context("the programs have no shared data")?;
        // SAFETY: the memory belongs to the skeleton, which is never freed; only the kernel reads it too.
        let self_filter =
            unsafe { SelfFilter::start(&settings.tasks, &settings.types, &raw mut (*shared).own_pids) }?;
        let maps = &skel.maps;
        let table = Table::new(
            geometry,
            MappedArray::new(&maps.runqs)?,
            MappedArray::new(&maps.groups)?,
            MappedArray::new(&maps.table)?,
            MappedArray::new(&maps.time_slices)?,
        );
        let ring = settings.events.map(|_| Ring::open(&maps.ring)).transpose()?;
        // SAFETY: the memory belongs to the skeleton, which is never freed; only the kernel reads it too.
        let double_buffer = unsafe { DoubleBuffer::new(&raw mut (*shared).active_half) };
        let mut tracer = Self {
            attach,
            skel,
            shared,
            self_filter,
            table,
            double_buffer,
            links: Vec::new(),
            began_ns: 0,
            counted: [0; 7],
            ring,
        };
        tracer.attach_all()?;
        Ok(tracer)
    }

    /// The programs that are attached all the time, the one that ends waits first.
    fn hooks(&self) -> Vec<&ProgramMut<'static>> {
        let progs = &self.skel.progs;
        let all = [
            &progs.switch_btf,
            &progs.switch_raw,
            &progs.wakeup_btf,
            &progs.wakeup_raw,
            &progs.wakeup_new_btf,
            &progs.wakeup_new_raw,
            &progs.migrate_btf,
            &progs.migrate_raw,
        ];
        all.into_iter().filter(|program| program.autoload()).collect()
    }

    fn attach_all(&mut self) -> Result<()> {
        self.began_ns = kernel_now();
        let links: Result<Vec<Link>> = self
            .hooks()
            .into_iter()
            .map(|program| {
                let name = program.name().to_string_lossy().into_owned();
                program.attach().map_err(|e| explain(&e, &format!("cannot attach {name}")))
            })
            .collect();
        self.links = links?;
        Ok(())
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

    /// Ends the interval that began at `begin_ns`: its waits, all together, by CPU, by cgroup or
    /// both, what the processes did, and when it ended.
    pub fn take(&mut self, begin_ns: u64, per_cpu: bool) -> (Vec<Waits>, Processes, u64) {
        let (half, (end_ns, at_end)) = self.double_buffer.switch(|| (kernel_now(), self.table.time_slices()));
        let waits = self.table.waits(half, per_cpu);
        (waits, self.table.processes(half, &at_end, begin_ns, end_ns), end_ns)
    }

    /// What was not counted since the last call.
    pub fn losses(&mut self) -> Losses {
        let misses = self.hooks().into_iter().map(|program| recursion_misses(program.as_fd()));
        let nested = misses.sum::<Option<u64>>().unwrap_or(self.counted[6]);
        let shared = self.shared;
        // SAFETY: the memory belongs to the skeleton, which is never freed.
        let now = unsafe {
            [
                load(&raw const (*shared).lost_waits),
                load(&raw const (*shared).lost_groups),
                load(&raw const (*shared).lost_processes),
                load(&raw const (*shared).lost_events),
                load(&raw const (*shared).unseen),
                load(&raw const (*shared).negative),
                nested,
            ]
        };
        let [waits, groups, processes, events, unseen, negative, nested] =
            std::array::from_fn(|i| now[i].saturating_sub(self.counted[i]));
        self.counted = now;
        Losses { waits, groups, processes, events, unseen, negative, nested }
    }

    /// What all maps take in the kernel, in bytes.
    fn bytes(&self) -> usize {
        let maps = &self.skel.maps;
        let counts = [maps.runqs.as_fd(), maps.groups.as_fd(), maps.table.as_fd(), maps.time_slices.as_fd()];
        let waits = [maps.waits.as_fd(), maps.waits_by_tid.as_fd()];
        let rest = [maps.ring.as_fd(), maps.bss.as_fd(), maps.rodata.as_fd()];
        counts.into_iter().chain(waits).chain(rest).filter_map(memory).sum()
    }

    /// One line: how it is attached and what memory it takes in the kernel.
    pub fn describe(&self) -> String {
        format!(
            "sched_switch by {}, {} hooks; {} KiB of maps",
            self.attach,
            self.links.len(),
            self.bytes() / 1024,
        )
    }
}
