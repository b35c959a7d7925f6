//! Setting the programs' switches, loading and attaching them.

use std::fmt;
use std::os::fd::{FromRawFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Context as _, Result};
use libbpf_rs::skel::OpenSkel as _;
use libbpf_rs::{Link, ProgramMut};
use perf_event_open_sys::bindings::{
    PERF_COUNT_SW_PAGE_FAULTS_MAJ, PERF_COUNT_SW_PAGE_FAULTS_MIN, PERF_FLAG_FD_CLOEXEC, PERF_TYPE_SOFTWARE,
    perf_event_attr,
};

use super::layout::{KINDS, process_bits};
use crate::bpf::attach::first;
use crate::bpf::kernel::{Kernel, KernelTypes};
use crate::bpf::load::{explain, switches};
use crate::bpf::self_filter::SelfFilter;
use crate::bpf::task::TaskFilter;

/// What libbpf-cargo made of `bpf/pagefault.bpf.c`.
#[expect(
    unused_qualifications,
    clippy::allow_attributes_without_reason,
    clippy::undocumented_unsafe_blocks,
    clippy::unwrap_used,
    reason = "generated"
)]
pub(super) mod skeleton {
    include!(concat!(env!("OUT_DIR"), "/pagefault.skel.rs"));
}

use skeleton::{OpenPagefaultSkel, PagefaultSkel, PagefaultSkelBuilder};

/// Room for the events of some tens of milliseconds of a flood.
const RING_BYTES: u32 = 4 << 20;
/// Threads that can be inside a fault while another has their place; by kprobes, all.
const ELSEWHERE: u32 = 1 << 13;

/// How a fault is seen to begin and to end, the cheapest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Way {
    /// From the exception (typed tracepoints) to the software event.
    TpBtf,
    /// The same by untyped tracepoints.
    RawTp,
    /// From the entry of handle_mm_fault to its end.
    Fentry,
    /// The same, where functions have no such hooks.
    Kprobe,
}

impl Way {
    /// From the exceptions to the software events.
    fn is_of_exceptions(self) -> bool {
        matches!(self, Self::TpBtf | Self::RawTp)
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::TpBtf => "page_fault_user and _kernel by tp_btf, page-faults by perf_event",
            Self::RawTp => "page_fault_user and _kernel by raw_tp, page-faults by perf_event",
            Self::Fentry => "handle_mm_fault by fentry and fexit",
            Self::Kprobe => "handle_mm_fault by kprobe and kretprobe",
        })
    }
}

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// How to attach; `None` for the best that works.
    pub attach: Option<Way>,
    /// Keep all that has begun in the map of those whose place another thread has.
    pub no_task_slots: bool,
    /// Only such tasks.
    pub tasks: TaskFilter,
    /// What the kernel is made of, if it does not tell.
    pub types: KernelTypes,
    /// Count all faults.
    pub summary: bool,
    /// By process too.
    pub processes: bool,
    /// An event for each major fault, and for each of at least so long.
    pub events: Option<Duration>,
    /// Wake the reader for each event.
    pub at_once: bool,
}

/// The loaded and attached programs.
pub(super) struct Loaded {
    pub skel: PagefaultSkel<'static>,
    pub self_filter: SelfFilter,
    pub way: Way,
    pub cpus: usize,
    pub links: Vec<Link>,
}

/// Loads and attaches the programs in the best way that the kernel takes.
pub(super) fn load(settings: &Settings) -> Result<Loaded> {
    let kernel = Kernel::read(&settings.types)?;
    let cpus = libbpf_rs::num_possible_cpus().context("cannot count the CPUs")?;
    let exceptions = kernel.arguments("page_fault_user").is_some();
    let ways = [Way::TpBtf, Way::RawTp, Way::Fentry, Way::Kprobe];
    let ways = ways.into_iter().filter(|way| exceptions || !way.is_of_exceptions());
    first(ways, settings.attach, |way| {
        let mut skel = load_as(settings, &kernel, way, cpus)?;
        let shared: *mut skeleton::types::bss =
            skel.maps.bss_data.as_deref_mut().context("the programs have no shared data")?;
        // SAFETY: the memory belongs to the skeleton, which is never freed; only the kernel reads it too.
        let self_filter =
            unsafe { SelfFilter::start(&settings.tasks, &settings.types, &raw mut (*shared).own_pids) }?;
        let links = attach(&mut skel, way)?;
        Ok(Loaded { skel, self_filter, way, cpus, links })
    })
}

fn load_as(settings: &Settings, kernel: &Kernel, way: Way, cpus: usize) -> Result<PagefaultSkel<'static>> {
    let mut open = kernel.open::<PagefaultSkelBuilder>()?;
    let data = open.maps.rodata_data.as_deref_mut().context("the programs have no switches")?;
    data.cpus = u32::try_from(cpus)?;
    data.only_map = settings.no_task_slots || way == Way::Kprobe;
    data.summary = settings.summary;
    data.processes = settings.processes;
    data.process_bits = process_bits(cpus);
    data.at_once = settings.at_once;
    data.tell_all = true;
    switches!(data, settings, RING_BYTES);
    let progs = &mut open.progs;
    for (program, wanted) in [
        (&mut progs.user_btf, way == Way::TpBtf),
        (&mut progs.kernel_btf, way == Way::TpBtf),
        (&mut progs.user_raw, way == Way::RawTp),
        (&mut progs.kernel_raw, way == Way::RawTp),
        (&mut progs.end_minor, way.is_of_exceptions()),
        (&mut progs.end_major, way.is_of_exceptions()),
        (&mut progs.enter, way == Way::Fentry),
        (&mut progs.leave, way == Way::Fentry),
        (&mut progs.called, way == Way::Kprobe),
        (&mut progs.returned, way == Way::Kprobe),
    ] {
        program.set_autoload(wanted);
    }
    sizes(&mut open, settings, cpus).map_err(|e| explain(&e, "cannot size the maps"))?;
    open.load().map_err(|e| explain(&e, &format!("cannot load the eBPF programs ({way})")))
}

fn sizes(open: &mut OpenPagefaultSkel<'_>, settings: &Settings, cpus: usize) -> libbpf_rs::Result<()> {
    let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let maps = &mut open.maps;
    maps.slots.set_max_entries(count(2 * cpus * KINDS))?;
    let processes = if settings.processes { (2 * cpus) << process_bits(cpus) } else { 1 };
    maps.table.set_max_entries(count(processes))?;
    maps.begun_by_tid.set_max_entries(ELSEWHERE)?;
    if settings.events.is_some() {
        maps.ring.set_max_entries(RING_BYTES)?;
    }
    Ok(())
}

/// The ends first: what begins before they are there is not told as long.
fn attach(skel: &mut PagefaultSkel<'static>, way: Way) -> Result<Vec<Link>> {
    let progs = &skel.progs;
    let mut links = Vec::new();
    if way.is_of_exceptions() {
        for (program, event) in [
            (&progs.end_minor, PERF_COUNT_SW_PAGE_FAULTS_MIN),
            (&progs.end_major, PERF_COUNT_SW_PAGE_FAULTS_MAJ),
        ] {
            attach_software_event(program, event.into(), &mut links)?;
        }
    }
    let rest = [
        &progs.thread_exit,
        &progs.leave,
        &progs.returned,
        &progs.user_btf,
        &progs.kernel_btf,
        &progs.user_raw,
        &progs.kernel_raw,
        &progs.enter,
        &progs.called,
    ];
    for program in rest.into_iter().filter(|program| program.autoload()) {
        let name = program.name().to_string_lossy().into_owned();
        links.push(program.attach().map_err(|e| explain(&e, &format!("cannot attach {name} ({way})")))?);
    }
    Ok(links)
}

/// On each CPU that is online.
fn attach_software_event(program: &ProgramMut<'_>, event: u64, links: &mut Vec<Link>) -> Result<()> {
    for cpu in online()? {
        let mut attr = perf_event_attr {
            type_: PERF_TYPE_SOFTWARE,
            size: u32::try_from(size_of::<perf_event_attr>())?,
            config: event,
            ..perf_event_attr::default()
        };
        attr.__bindgen_anon_1.sample_period = 1;
        // SAFETY: a valid struct of the size that it names; the call keeps no reference to it.
        let fd = unsafe {
            perf_event_open_sys::perf_event_open(&raw mut attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC.into())
        };
        if fd < 0 {
            let error = std::io::Error::last_os_error();
            return Err(error)
                .with_context(|| format!("cannot count page faults of CPU {cpu} (perf_event_open)"));
        }
        match program.attach_perf_event(fd) {
            // The link owns the descriptor from now on.
            Ok(link) => links.push(link),
            Err(error) => {
                // SAFETY: it is ours, and nobody else closes it.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
                return Err(explain(&error, "cannot attach to the software events of page faults"));
            }
        }
    }
    Ok(())
}

/// The CPUs that are online: `0-3,6`.
fn online() -> Result<Vec<i32>> {
    let path = "/sys/devices/system/cpu/online";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse::<i32>().ok()?..=last.parse().ok()?)
    };
    let ranges: Option<Vec<_>> = text.trim().split(',').map(range).collect();
    Ok(ranges.with_context(|| format!("{path} holds {text:?}"))?.into_iter().flatten().collect())
}
