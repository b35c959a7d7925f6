//! Setting the programs' switches, and loading them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use libbpf_rs::skel::OpenSkel as _;

use super::layout::{BUDGET, Geometry};
use crate::bpf::attach::{Attach, first};
use crate::bpf::kernel::{Kernel, KernelTypes};
use crate::bpf::load::{explain, switches};
use crate::bpf::task::TaskFilter;

/// What libbpf-cargo made of `bpf/iolat.bpf.c`.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]
pub(super) mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/iolat.skel.rs"));
}

use skeleton::{IolatSkel, IolatSkelBuilder, OpenIolatSkel, types};

/// Room for the events of half a second at some 10,000 a second.
const RING_BYTES: u32 = 1 << 20;
/// The most requests that are kept track of at a time.
const MOST_REQUESTS: u32 = 1 << 16;
/// Room for disks that appear later.
const LEAST_REQUESTS: u32 = 1 << 12;
/// What the kernel takes for one of them, in bytes, above the key and the value: at most.
const ENTRY_BYTES: usize = 80;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How to attach; `None` for the best that works.
    pub attach: Option<Attach>,
    /// All devices in one.
    pub aggregate: bool,
    /// A partition is a device of its own.
    pub by_partition: bool,
    /// Only devices that [`super::Tracer::want`] names.
    pub filter_devices: bool,
    /// Only requests that such tasks submitted.
    pub tasks: TaskFilter,
    /// What the kernel is made of, if it does not tell.
    pub types: KernelTypes,
    /// Who submitted.
    pub who: bool,
    /// An event for each request that took at least so long.
    pub events: Option<Duration>,
    /// Disks with requests.
    pub disks: usize,
    /// The most requests that can exist.
    pub requests: u64,
    /// Whether some requests are known to carry no times.
    pub untimed: bool,
}

impl Settings {
    /// How many devices can be asked for.
    pub const MAX_DEVICES: usize = 16;

    /// How many requests are kept track of: twice as many as exist, for there may be more disks later.
    fn tracked(&self) -> u32 {
        u32::try_from(self.requests * 2).unwrap_or(u32::MAX).clamp(LEAST_REQUESTS, MOST_REQUESTS)
    }

    /// What is left of the budget for the arrays that are counted in.
    fn budget(&self) -> usize {
        let entry = ENTRY_BYTES + size_of::<u64>() + size_of::<types::pending>();
        let ring = if self.events.is_some() { RING_BYTES as usize } else { 0 };
        BUDGET - self.tracked() as usize * entry - ring
    }

    /// Whether a hook at submission says who did it.
    pub fn with_task(&self) -> bool {
        self.who || self.tasks.is_on()
    }
}

/// Loads the programs, attached in the best way that the kernel takes.
pub(super) fn load(settings: &Settings) -> Result<(IolatSkel<'static>, Attach, Geometry)> {
    let kernel = Kernel::read(&settings.types)?;
    let Some(arguments) = kernel.arguments("block_rq_complete") else {
        bail!("this kernel has no tracepoint block_rq_complete");
    };
    if arguments != 3 {
        bail!("block_rq_complete has {arguments} arguments in this kernel, not 3: please report its version");
    }
    let cpus = libbpf_rs::num_possible_cpus().context("cannot count the CPUs")?;
    let disks = if settings.aggregate { 1 } else { settings.disks };
    let geometry = Geometry::choose(disks, u32::try_from(cpus)?, settings.budget());
    first(Attach::ALL, settings.attach, |attach| {
        Ok((load_as(settings, &kernel, attach, geometry)?, attach, geometry))
    })
}

fn load_as(
    settings: &Settings,
    kernel: &Kernel,
    attach: Attach,
    geometry: Geometry,
) -> Result<IolatSkel<'static>> {
    let mut open = kernel.open::<IolatSkelBuilder>()?;
    let io_start = kernel.arguments("block_io_start").is_some();
    // The queue was the first argument until 5.10, and in kernels that took the change back.
    let queue_first = kernel.arguments("block_rq_issue").context("this kernel has no block_rq_issue")? == 2;
    let keep = settings.requests <= u64::from(settings.tracked());
    set_switches(&mut open, settings, geometry)?;
    let data = open.maps.rodata_data.as_deref_mut().context("the programs have no switches")?;
    data.task_at_issue = settings.with_task() && !io_start;
    data.request_argument = u32::from(queue_first);
    data.keep_pending = keep;
    open.progs.complete_btf.set_autoload(attach == Attach::TpBtf);
    open.progs.complete_raw.set_autoload(attach == Attach::RawTp);
    open.progs.submit_btf.set_autoload(io_start && attach == Attach::TpBtf);
    open.progs.submit_raw.set_autoload(io_start && attach == Attach::RawTp);
    open.progs.submit_insert.set_autoload(!io_start);
    sizes(&mut open, settings, geometry).map_err(|e| explain(&e, "cannot size the maps"))?;
    open.load().map_err(|e| explain(&e, &format!("cannot load the eBPF programs ({attach})")))
}

fn set_switches(open: &mut OpenIolatSkel<'_>, settings: &Settings, geometry: Geometry) -> Result<()> {
    let data = open.maps.rodata_data.as_deref_mut().context("the programs have no switches")?;
    data.slot_bits = geometry.slot_bits;
    data.shard_mask = geometry.shards - 1;
    data.cpus = geometry.cpus;
    data.aggregate = settings.aggregate;
    data.by_partition = settings.by_partition;
    data.filter_devices = settings.filter_devices;
    data.with_task = settings.with_task();
    data.filter_task = settings.tasks.is_on();
    data.tell_all = settings.events.is_some();
    switches!(data, settings, RING_BYTES);
    Ok(())
}

fn sizes(open: &mut OpenIolatSkel<'_>, settings: &Settings, geometry: Geometry) -> libbpf_rs::Result<()> {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    open.maps.slots.set_max_entries(count(geometry.all_slots()))?;
    open.maps.peaks.set_max_entries(count(geometry.all_peaks()))?;
    open.maps.owners.set_max_entries(count(geometry.slots()))?;
    open.maps.pending.set_max_entries(settings.tracked())?;
    if settings.events.is_some() {
        open.maps.ring.set_max_entries(RING_BYTES)?;
    }
    Ok(())
}
