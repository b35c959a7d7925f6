//! Setting the programs' switches, and loading them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use libbpf_rs::skel::OpenSkel as _;

use super::table::Geometry;
use crate::bpf::attach::{Attach, first};
use crate::bpf::kernel::{Kernel, KernelTypes};
use crate::bpf::load::{explain, switches};
use crate::bpf::task::TaskFilter;

/// What libbpf-cargo made of `bpf/schedlat.bpf.c`.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]
pub(super) mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/schedlat.skel.rs"));
}

use skeleton::{OpenSchedlatSkel, SchedlatSkel, SchedlatSkelBuilder};

/// Room for the events of half a second at some 10,000 a second.
const RING_BYTES: u32 = 1 << 20;
/// Threads that can wait while another has their place.
const ELSEWHERE: u32 = 1 << 13;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How to attach; `None` for the best that works.
    pub attach: Option<Attach>,
    /// Keep all waits in the map of those whose place another thread has.
    pub no_task_slots: bool,
    /// Only such tasks.
    pub tasks: TaskFilter,
    /// What the kernel is made of, if it does not tell.
    pub types: KernelTypes,
    /// Tell cgroups apart.
    pub by_cgroup: bool,
    /// Account each process.
    pub processes: bool,
    /// An event for each wait of at least so long.
    pub events: Option<Duration>,
}

/// What came of loading.
pub(super) struct Loaded {
    pub skel: SchedlatSkel<'static>,
    pub attach: Attach,
    pub geometry: Geometry,
}

/// Loads the programs, in the best way that the kernel takes.
pub(super) fn load(settings: &Settings) -> Result<Loaded> {
    let kernel = Kernel::read(&settings.types)?;
    let Some(arguments @ 3..=4) = kernel.arguments("sched_switch") else {
        bail!("this kernel has no tracepoint sched_switch of 3 or 4 arguments: please report its version");
    };
    let cpus = libbpf_rs::num_possible_cpus().context("cannot count the CPUs")?;
    let geometry = Geometry::choose(cpus, settings.by_cgroup, settings.processes);
    first(Attach::ALL, settings.attach, |attach| {
        let way = Way { attach, state_argument: arguments == 4 };
        Ok(Loaded { skel: load_as(settings, &kernel, way, geometry)?, attach, geometry })
    })
}

#[derive(Clone, Copy)]
struct Way {
    attach: Attach,
    state_argument: bool,
}

fn load_as(
    settings: &Settings,
    kernel: &Kernel,
    way: Way,
    geometry: Geometry,
) -> Result<SchedlatSkel<'static>> {
    let mut open = kernel.open::<SchedlatSkelBuilder>()?;
    set_switches(&mut open, settings, geometry)?;
    let data = open.maps.rodata_data.as_deref_mut().context("the programs have no switches")?;
    data.state_argument = way.state_argument;
    choose_programs(&mut open, settings, way);
    sizes(&mut open, settings, geometry).map_err(|e| explain(&e, "cannot size the maps"))?;
    open.load().map_err(|e| explain(&e, &format!("cannot load the eBPF programs ({})", way.attach)))
}

fn choose_programs(open: &mut OpenSchedlatSkel<'_>, settings: &Settings, way: Way) {
    let (btf, raw) = (way.attach == Attach::TpBtf, way.attach == Attach::RawTp);
    let progs = &mut open.progs;
    for (program, wanted) in [
        (&mut progs.switch_btf, btf),
        (&mut progs.wakeup_btf, btf),
        (&mut progs.wakeup_new_btf, btf),
        (&mut progs.migrate_btf, btf && settings.processes),
        (&mut progs.switch_raw, raw),
        (&mut progs.wakeup_raw, raw),
        (&mut progs.wakeup_new_raw, raw),
        (&mut progs.migrate_raw, raw && settings.processes),
    ] {
        program.set_autoload(wanted);
    }
}

fn set_switches(open: &mut OpenSchedlatSkel<'_>, settings: &Settings, geometry: Geometry) -> Result<()> {
    let data = open.maps.rodata_data.as_deref_mut().context("the programs have no switches")?;
    data.cpus = u32::try_from(geometry.cpus)?;
    data.only_map = settings.no_task_slots;
    data.by_cgroup = settings.by_cgroup;
    data.group_bits = geometry.group_bits.unwrap_or(0);
    data.processes = settings.processes;
    data.process_bits = geometry.process_bits.unwrap_or(0);
    data.tell_all = true;
    switches!(data, settings, RING_BYTES);
    Ok(())
}

fn sizes(open: &mut OpenSchedlatSkel<'_>, settings: &Settings, geometry: Geometry) -> libbpf_rs::Result<()> {
    let count = |n: usize| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
    let Geometry { cpus, .. } = geometry;
    let maps = &mut open.maps;
    maps.runqs.set_max_entries(count(2 * cpus))?;
    maps.groups.set_max_entries(count(2 * cpus * geometry.groups()))?;
    maps.table.set_max_entries(count(2 * cpus * geometry.processes()))?;
    maps.time_slices.set_max_entries(count(cpus))?;
    maps.waits_by_tid.set_max_entries(ELSEWHERE)?;
    if settings.events.is_some() {
        maps.ring.set_max_entries(RING_BYTES)?;
    }
    Ok(())
}
