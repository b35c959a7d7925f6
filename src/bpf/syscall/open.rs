//! Setting the programs' switches, and loading them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::skel::OpenSkel as _;

use super::class::Choice;
use super::layout::Geometry;
use super::shared::WAITING_CALLS;
use crate::bpf::attach::{Attach, first};
use crate::bpf::kernel::{Kernel, KernelTypes};
use crate::bpf::load::{explain, nanos, switches};
use crate::bpf::task::TaskFilter;

/// What libbpf-cargo made of `bpf/syscall.bpf.c`.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]
pub(super) mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/syscall.skel.rs"));
}

use skeleton::{OpenSyscallSkel, SyscallSkel, SyscallSkelBuilder};

/// Room for the events of some tens of milliseconds of a flood; twice as much where nothing else is kept.
const RING_BYTES: u32 = 4 << 20;
/// Threads that can be followed while another has their place.
const ELSEWHERE: u32 = 1 << 13;

/// What to trace.
#[derive(Clone, Debug)]
pub struct Settings {
    /// How to attach; `None` for the best that works.
    pub attach: Option<Attach>,
    /// Keep all calls in the map of those whose place another thread has.
    pub no_task_slots: bool,
    /// Only calls of such tasks.
    pub tasks: TaskFilter,
    /// What the kernel is made of, if it does not tell.
    pub types: KernelTypes,
    /// Which calls.
    pub choice: Box<Choice>,
    /// An event for each call that took at least so long.
    pub events: Option<Duration>,
    /// Also for those that wait by design.
    pub waits: bool,
    /// Count all.
    pub summary: bool,
    /// Look for calls that have not returned for so long.
    pub stuck: Option<Duration>,
}

/// Loads the programs, in the best way that the kernel takes.
pub(super) fn load(settings: &Settings) -> Result<(SyscallSkel<'static>, Attach, Geometry)> {
    let kernel = Kernel::read(&settings.types)?;
    ensure!(
        settings.stuck.is_none() || kernel.tells(),
        "--stuck looks at all tasks by an iterator, which needs the kernel's own /sys/kernel/btf/vmlinux; \
         --btf cannot stand in for it"
    );
    let cpus = libbpf_rs::num_possible_cpus().context("cannot count the CPUs")?;
    let geometry = Geometry::choose(u32::try_from(cpus)?);
    first(Attach::ALL, settings.attach, |attach| {
        Ok((load_as(settings, &kernel, attach, geometry)?, attach, geometry))
    })
}

fn load_as(
    settings: &Settings,
    kernel: &Kernel,
    attach: Attach,
    geometry: Geometry,
) -> Result<SyscallSkel<'static>> {
    let mut open = kernel.open::<SyscallSkelBuilder>()?;
    set_switches(&mut open, settings, geometry)?;
    let (btf, raw) = (attach == Attach::TpBtf, attach == Attach::RawTp);
    let progs = &mut open.progs;
    for (program, wanted) in [
        (&mut progs.enter_btf, btf),
        (&mut progs.exit_btf, btf),
        (&mut progs.enter_raw, raw),
        (&mut progs.exit_raw, raw),
        (&mut progs.each_task, settings.stuck.is_some()),
    ] {
        program.set_autoload(wanted);
    }
    sizes(&mut open, settings, geometry).map_err(|e| explain(&e, "cannot size the maps"))?;
    open.load().map_err(|e| explain(&e, &format!("cannot load the eBPF programs ({attach})")))
}

fn set_switches(open: &mut OpenSyscallSkel<'_>, settings: &Settings, geometry: Geometry) -> Result<()> {
    let data = open.maps.rodata_data.as_deref_mut().context("the programs have no switches")?;
    data.choice = *settings.choice;
    data.only_map = settings.no_task_slots;
    data.waits = settings.waits;
    data.summary = settings.summary;
    data.waiting_calls = WAITING_CALLS;
    data.stuck_ns = nanos(settings.stuck);
    data.shards = geometry.shards;
    data.cpus = geometry.cpus;
    data.tell_all = true;
    switches!(data, settings, ring_bytes(settings));
    Ok(())
}

fn ring_bytes(settings: &Settings) -> u32 {
    match (settings.events, settings.summary) {
        (None, _) => 4096,
        (Some(_), true) => RING_BYTES,
        (Some(_), false) => 2 * RING_BYTES,
    }
}

fn sizes(open: &mut OpenSyscallSkel<'_>, settings: &Settings, geometry: Geometry) -> libbpf_rs::Result<()> {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    if settings.summary {
        open.maps.slots.set_max_entries(count(geometry.all_slots()))?;
        open.maps.peaks.set_max_entries(count(geometry.all_peaks()))?;
    }
    open.maps.ring.set_max_entries(ring_bytes(settings))?;
    open.maps.calls_by_task.set_max_entries(ELSEWHERE)?;
    Ok(())
}
