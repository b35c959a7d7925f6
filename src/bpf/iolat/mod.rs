//! Block I/O latency: the user side of `bpf/iolat.bpf.c`.
//!
//! Reads the arrays that the kernel program counts in, and gives what each
//! device and operation did in an interval, and the slow requests one by one.

use std::os::fd::{AsFd as _, BorrowedFd};

use anyhow::{Context as _, Result};
use libbpf_rs::{Link, ProgramMut};

mod devices;
mod layout;
mod open;
mod report;
mod session;
mod table;

pub use devices::{Devices, Found, Survey};
pub use layout::{Event, Geometry};
pub use open::Settings;
pub use session::{Options, run};
pub use table::{Activity, Latency, Slowest, Table};

use super::attach::Attach;
use super::clock::kernel_now;
use super::load::{explain, recursion_misses};
use super::map::{DoubleBuffer, MappedArray, Ring, load, memory, store};
use super::self_filter::SelfFilter;
use open::skeleton::{IolatSkel, types};

/// What is done to a device. The numbers are those of `enum op`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Op {
    /// Reads.
    Read = 0,
    /// Writes, also of zeroes.
    Write = 1,
    /// A flush of the device's cache.
    Flush = 2,
    /// Discards, also secure ones.
    Discard = 3,
}

impl Op {
    /// By the kernel program's number.
    pub fn from_kernel(number: u8) -> Option<Self> {
        [Self::Read, Self::Write, Self::Flush, Self::Discard].get(usize::from(number)).copied()
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

/// What the kernel program could not count, since it was last asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses {
    /// Requests of a device and operation that found no slot.
    pub slots: u64,
    /// Events that found the ring buffer full.
    pub events: u64,
    /// Submissions that found the map full: their requests' submitters or times are unknown.
    pub submissions: u64,
    /// Requests that carried no time at all.
    pub untimed: u64,
    /// Completions in an interrupt of another completion's count: newer kernels do not run a
    /// program inside itself.
    pub nested: u64,
}

/// The loaded and attached programs.
pub struct Tracer {
    /// How the main hook is attached.
    pub attach: Attach,
    skel: IolatSkel<'static>,
    shared: *mut types::bss,
    self_filter: SelfFilter,
    geometry: Geometry,
    table: Table,
    double_buffer: DoubleBuffer,
    links: Vec<Link>,
    submission_attached: bool,
    issue_attached: bool,
    began_ns: u64,
    counted: [u64; 6],
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
        let slots = MappedArray::new(&skel.maps.slots)?;
        let peaks = MappedArray::new(&skel.maps.peaks)?;
        // SAFETY: the memory belongs to the skeleton, which is never freed; only the kernel reads it too.
        let double_buffer = unsafe { DoubleBuffer::new(&raw mut (*shared).active_half) };
        let self_filter = if settings.with_task() {
            // SAFETY: as above.
            unsafe { SelfFilter::start(&settings.tasks, &settings.types, &raw mut (*shared).own_pids) }?
        } else {
            SelfFilter::off()
        };
        let mut tracer = Self {
            attach,
            skel,
            shared,
            self_filter,
            geometry,
            table: Table::new(geometry, slots, peaks),
            double_buffer,
            links: Vec::new(),
            submission_attached: false,
            issue_attached: false,
            began_ns: 0,
            counted: [0; 6],
            ring: None,
        };
        if settings.events.is_some() {
            tracer.ring = Some(Ring::open(&tracer.skel.maps.ring)?);
        }
        tracer.attach_all(settings)?;
        Ok(tracer)
    }

    fn attach_all(&mut self, settings: &Settings) -> Result<()> {
        // Before 6.5 submission is seen where a request is queued, and, if it never is, issued.
        let at_issue = settings.with_task() && self.skel.progs.submit_insert.autoload();
        if settings.untimed {
            self.time_submissions();
        }
        if settings.with_task() || settings.untimed {
            self.attach_submission().map_err(|e| explain(&e, "cannot attach to the submission of I/O"))?;
        }
        if at_issue || settings.untimed {
            self.attach_issue().map_err(|e| explain(&e, "cannot attach to block_rq_issue"))?;
        }
        self.began_ns = kernel_now();
        let main = self.main_program().attach();
        self.links.push(main.map_err(|e| explain(&e, "cannot attach to block_rq_complete"))?);
        Ok(())
    }

    fn main_program(&self) -> &ProgramMut<'static> {
        match self.attach {
            Attach::TpBtf => &self.skel.progs.complete_btf,
            Attach::RawTp => &self.skel.progs.complete_raw,
        }
    }

    /// When counting began, by the kernel's clock.
    pub fn began_ns(&self) -> u64 {
        self.began_ns
    }

    /// Attaches to submission and issue too, for requests that do not carry their times.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn attach_missing(&mut self) -> libbpf_rs::Result<()> {
        self.time_submissions();
        self.attach_submission()?;
        self.attach_issue()
    }

    fn time_submissions(&mut self) {
        // SAFETY: valid as `shared` is.
        unsafe { store(&raw mut (*self.shared).time_submissions, 1) };
    }

    fn attach_submission(&mut self) -> libbpf_rs::Result<()> {
        if !self.submission_attached {
            let progs = &self.skel.progs;
            let loaded = [&progs.submit_btf, &progs.submit_raw, &progs.submit_insert];
            for program in loaded.into_iter().filter(|program| program.autoload()) {
                self.links.push(program.attach()?);
            }
            self.submission_attached = true;
        }
        Ok(())
    }

    fn attach_issue(&mut self) -> libbpf_rs::Result<()> {
        if !self.issue_attached {
            self.links.push(self.skel.progs.issue.attach()?);
            self.issue_attached = true;
        }
        Ok(())
    }

    /// Whether another hook could still be attached, with the privileges of now.
    pub fn may_attach(&self) -> bool {
        self.skel.progs.issue.attach().is_ok()
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

    /// Ends the interval: what each device and operation did in it, in no order, and what
    /// `at_switch` gave at its very end.
    pub fn take<T>(&mut self, at_switch: impl FnOnce() -> T) -> (Vec<Activity>, T) {
        let (half, seen) = self.double_buffer.switch(at_switch);
        let active = (0..self.geometry.slots()).filter_map(|slot| {
            // SAFETY: valid as `shared` is.
            let key = unsafe { load(&raw const (*self.shared).keys[slot]) };
            if key == 0 { None } else { self.table.take(half, slot, key) }
        });
        (active.collect(), seen)
    }

    /// What was not counted since the last call, and whether requests came without times while
    /// nothing else measures them.
    pub fn losses(&mut self) -> (Losses, bool) {
        let shared = self.shared;
        // SAFETY: valid as `shared` is.
        let now = unsafe {
            [
                load(&raw const (*shared).lost_slots),
                load(&raw const (*shared).lost_events),
                load(&raw const (*shared).lost_tasks),
                load(&raw const (*shared).untimed),
                load(&raw const (*shared).unsplit),
                recursion_misses(self.main_program().as_fd()).unwrap_or(self.counted[5]),
            ]
        };
        let gained: [u64; 6] = std::array::from_fn(|i| now[i].saturating_sub(self.counted[i]));
        self.counted = now;
        let [slots, events, submissions, untimed, unsplit, nested] = gained;
        let complete = self.issue_attached && self.submission_attached;
        (Losses { slots, events, submissions, untimed, nested }, untimed + unsplit > 0 && !complete)
    }

    /// Counts only these devices from now on; at most [`Settings::MAX_DEVICES`].
    pub fn want(&mut self, numbers: &[u32]) {
        for (i, number) in numbers.iter().enumerate().take(Settings::MAX_DEVICES) {
            // SAFETY: valid as `shared` is, and the index is below the length.
            unsafe { store(&raw mut (*self.shared).wanted_devices[i], *number) };
        }
    }

    /// What all maps take in the kernel, as it says itself.
    fn map_bytes(&self) -> usize {
        let maps = &self.skel.maps;
        let fixed =
            [&maps.slots, &maps.peaks, &maps.owners, &maps.pending, &maps.ring].map(|map| map.as_fd());
        let data = [maps.bss.as_fd(), maps.rodata.as_fd()];
        fixed.into_iter().chain(data).filter_map(memory).sum()
    }

    /// One line: how it is attached and what memory it takes in the kernel.
    pub fn describe(&self) -> String {
        let Geometry { shards, cpus, .. } = self.geometry;
        format!(
            "block_rq_complete by {}, {} hook{}; {} KiB of maps: {} slots in {shards} shards of {cpus} CPUs, twice",
            self.attach,
            self.links.len(),
            if self.links.len() == 1 { "" } else { "s" },
            self.map_bytes() / 1024,
            self.geometry.slots(),
        )
    }
}
