//! System calls: the user side of `bpf/syscall.bpf.c`.
//!
//! Reads the events that it leaves in a ring buffer, the arrays that it counts in,
//! and, through an iterator, the calls that have not returned.

use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use libbpf_rs::{Iter, Link, ProgramMut};

mod choice;
mod class;
mod errors;
mod layout;
mod names;
mod open;
mod report;
mod session;
mod shared;
mod table;

pub use choice::Calls;
pub use class::{Choice, Class};
pub use layout::{Event, Geometry, Slot, Stuck};
pub use names::Abi;
pub use open::Settings;
pub use session::{Options, run};
pub use table::{Activity, Table};

use super::attach::Attach;
use super::clock::kernel_now;
use super::load::{explain, recursion_misses};
use super::map::{DoubleBuffer, MappedArray, Ring, load, memory, read, store};
use super::self_filter::SelfFilter;
use open::skeleton::{SyscallSkel, types};

/// What the kernel program could not tell or count, since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Events that found the ring buffer full.
    pub events: u64,
    /// Calls of which the time of entry found no room.
    pub calls: u64,
    /// Entries or exits in the middle of another one, on the same CPU.
    pub nested: u64,
}

/// The loaded and attached programs.
pub struct Tracer {
    attach: Attach,
    skel: SyscallSkel<'static>,
    shared: *mut types::bss,
    self_filter: SelfFilter,
    table: Option<Table>,
    double_buffer: DoubleBuffer,
    links: Vec<Link>,
    iterator: Option<Link>,
    began_ns: u64,
    counted: [u64; 3],
    ring: Option<Ring<Event>>,
}

impl Tracer {
    /// Loads and attaches.
    ///
    /// # Errors
    /// If the kernel refuses, with what to do about it.
    pub fn start(settings: &Settings) -> Result<Self> {
        let (mut skel, attach, geometry) = open::load(settings)?;
        let shared: *mut types::bss =
            skel.maps.bss_data.as_deref_mut().context("the programs have no shared data")?;
        let table = if settings.summary {
            let (slots, peaks) = (MappedArray::new(&skel.maps.slots)?, MappedArray::new(&skel.maps.peaks)?);
            Some(Table::new(geometry, slots, peaks))
        } else {
            None
        };
        let ring = settings.events.map(|_| Ring::open(&skel.maps.ring)).transpose()?;
        // SAFETY: the memory belongs to the skeleton, which is never freed; only the kernel reads it too.
        let double_buffer = unsafe { DoubleBuffer::new(&raw mut (*shared).active_half) };
        // SAFETY: as above.
        let self_filter =
            unsafe { SelfFilter::start(&settings.tasks, &settings.types, &raw mut (*shared).own_pids) }?;
        let (links, iterator, began_ns, counted) = (Vec::new(), None, 0, [0; 3]);
        let mut tracer = Self {
            attach,
            skel,
            shared,
            self_filter,
            table,
            double_buffer,
            links,
            iterator,
            began_ns,
            counted,
            ring,
        };
        tracer.attach()?;
        Ok(tracer)
    }

    fn attach(&mut self) -> Result<()> {
        // The exit first: an entry whose exit is not seen would look like a call that does not return.
        let [enter, exit] = self.main_programs();
        let mut links = Vec::new();
        let progs = &self.skel.progs;
        for program in [&progs.forget, exit, enter] {
            if program.autoload() {
                let link = program.attach();
                links.push(link.map_err(|e| explain(&e, "cannot attach to system calls"))?);
            }
        }
        self.links = links;
        self.began_ns = kernel_now();
        // SAFETY: valid as `shared` is.
        unsafe { store(&raw mut (*self.shared).watched_since, self.began_ns) };
        let each_task = &self.skel.progs.each_task;
        if each_task.autoload() {
            let link = each_task.attach();
            self.iterator = Some(link.map_err(|e| explain(&e, "cannot iterate over tasks"))?);
        }
        Ok(())
    }

    fn main_programs(&self) -> [&ProgramMut<'static>; 2] {
        let progs = &self.skel.progs;
        match self.attach {
            Attach::TpBtf => [&progs.enter_btf, &progs.exit_btf],
            _ => [&progs.enter_raw, &progs.exit_raw],
        }
    }

    /// When counting began, by the kernel's clock.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// Whether everything that is still to be done can be, with the privileges of now.
    pub fn works(&self) -> bool {
        self.iterator.as_ref().is_none_or(|link| Iter::new(link).is_ok())
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

    /// Ends the interval: the calls that returned in it, and when it ended.
    pub fn take(&mut self) -> (Vec<Activity>, u64) {
        let Some(table) = &mut self.table else { return (Vec::new(), kernel_now()) };
        let (half, end_ns) = self.double_buffer.switch(kernel_now);
        (table.take(half), end_ns)
    }

    /// The calls that have not returned for as long as was asked for.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn stuck(&self) -> Result<Vec<Stuck>> {
        let Some(link) = &self.iterator else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        let mut iterator = Iter::new(link).map_err(|e| explain(&e, "cannot iterate over tasks"))?;
        iterator.read_to_end(&mut bytes).context("cannot iterate over tasks")?;
        Ok(bytes.chunks(size_of::<Stuck>()).filter_map(read).collect())
    }

    /// What was lost since the last call.
    pub fn losses(&mut self) -> Losses {
        let shared = self.shared;
        let [enter, exit] = self.main_programs();
        let nested = [enter, exit].map(|program| recursion_misses(program.as_fd()));
        let nested = nested.into_iter().flatten().sum::<u64>().max(self.counted[2]);
        // SAFETY: valid as `shared` is.
        let events = unsafe { load(&raw const (*shared).lost_events) };
        // SAFETY: likewise.
        let calls = unsafe { load(&raw const (*shared).lost_calls) };
        let now = [events, calls, nested];
        let gained: [u64; 3] = std::array::from_fn(|i| now[i].saturating_sub(self.counted[i]));
        self.counted = now;
        let [events, calls, nested] = gained;
        Losses { events, calls, nested }
    }

    /// One line: how it is attached and what memory it takes in the kernel.
    pub fn describe(&self) -> String {
        let maps = &self.skel.maps;
        let all = [&maps.slots, &maps.peaks, &maps.ring, &maps.calls_by_task, &maps.task_slots];
        let bytes: usize = all.into_iter().filter_map(|map| memory(map.as_fd())).sum();
        format!("sys_enter and sys_exit by {}; {} KiB of maps", self.attach, bytes / 1024)
    }
}
