//! Page fault latency: the user side of `bpf/pagefault.bpf.c`.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::os::fd::{FromRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use libbpf_rs::{Link, ProgramMut};
use perf_event_open_sys::bindings::{
    PERF_COUNT_SW_PAGE_FAULTS_MAJ, PERF_COUNT_SW_PAGE_FAULTS_MIN, PERF_FLAG_FD_CLOEXEC, PERF_TYPE_SOFTWARE,
    perf_event_attr,
};
use rustix::thread::CapabilitySet;

mod report;
mod table;

use super::args::{Attach, TracerArgs};
use super::clock::kernel_now;
use super::kernel::Kernel;
use super::load::explain;
use super::map::{MappedArray, Ring};
use super::skeleton::{Skeleton as _, shared_load};
use super::tracer::{Context, Interval, Output, Programs, Tracer, attach_all};
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::Reason;
use table::{Event, Faults, KINDS, OpenPagefaultSkel, PagefaultSkel, Process, Table, process_bits};

/// Room for the events of some tens of milliseconds with a fault every microsecond.
const RING_BYTES: u32 = 4 << 20;
/// Threads that can be in the hash map: those whose slot another thread owns; with kprobes all.
const HASHED: u32 = 1 << 13;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Count by process, and report this many.
    pub processes: Option<usize>,
    /// Report the mapping that each event's address is in.
    pub resolve: bool,
    /// Use only the hash map, to test it.
    pub no_task_slots: bool,
}

/// `pagefault-trace` while it runs.
pub struct PagefaultTrace {
    options: Options,
    summary: bool,
    histogram: bool,
    table: Table,
    /// What the last interval counted.
    faults: Vec<Faults>,
    processes: Vec<Process>,
    /// /proc/TID/maps of the threads with events, read once for all that wait.
    maps: HashMap<u32, Option<Vec<u8>>>,
}

/// Whether a fault is followed from the exception to the software event.
fn by_exceptions(attach: Attach) -> bool {
    matches!(attach, Attach::TpBtf | Attach::RawTp)
}

impl Tracer for PagefaultTrace {
    type Skeleton = PagefaultSkel<'static>;
    type Event = Event;
    type Options = Options;
    type Setup = Options;

    const SOURCE: &'static str = "page faults";

    fn prepare(options: Options, args: &TracerArgs, _: &mut Emitter) -> Result<Options> {
        let resolve = options.resolve && args.events.min().is_some();
        Ok(Options { resolve, ..options })
    }

    fn ways(_: &Options, kernel: &Kernel) -> Result<Vec<Attach>> {
        let exceptions = kernel.arguments("page_fault_user").is_some();
        let ways = [Attach::TpBtf, Attach::RawTp, Attach::Fentry, Attach::Kprobe];
        Ok(ways.into_iter().filter(|way| exceptions || !by_exceptions(*way)).collect())
    }

    fn ring_bytes(_: &Options) -> u32 {
        RING_BYTES
    }

    fn configure(context: &Context<'_, Self>, open: &mut OpenPagefaultSkel<'static>) -> Result<()> {
        let Context { setup, args, attach, cpus, .. } = *context;
        let processes = setup.processes.is_some();
        let constants = PagefaultSkel::constants(open)?;
        constants.no_task_slots = setup.no_task_slots || attach == Attach::Kprobe;
        constants.summary = args.events.summary(true);
        constants.processes = processes;
        constants.process_bits = process_bits(cpus);
        constants.wake_at_once = setup.resolve;
        open.progs.end_minor.set_autoload(by_exceptions(attach));
        open.progs.end_major.set_autoload(by_exceptions(attach));
        let in_table = if processes { (2 * cpus) << process_bits(cpus) } else { 1 };
        let maps = &mut open.maps;
        let sized = maps
            .kinds
            .set_max_entries(u32::try_from(2 * cpus * KINDS)?)
            .and(maps.process_table.set_max_entries(u32::try_from(in_table)?))
            .and(maps.faults_by_tid.set_max_entries(HASHED));
        sized.map_err(|e| explain(&e, "cannot size the maps"))
    }

    fn hooks<'a>(_: &Options, skeleton: &'a PagefaultSkel<'static>) -> Vec<&'a ProgramMut<'static>> {
        let progs = &skeleton.progs;
        vec![
            &progs.thread_exit,
            &progs.leave,
            &progs.returned,
            &progs.user_btf,
            &progs.kernel_btf,
            &progs.user_raw,
            &progs.kernel_raw,
            &progs.enter,
            &progs.called,
        ]
    }

    /// Attaches the ends first: a fault with a missed end would seem to take long.
    fn attach(context: &Context<'_, Self>, skeleton: &PagefaultSkel<'static>) -> Result<Vec<Link>> {
        let progs = &skeleton.progs;
        let mut links = Vec::new();
        for (program, event) in [
            (&progs.end_minor, PERF_COUNT_SW_PAGE_FAULTS_MIN),
            (&progs.end_major, PERF_COUNT_SW_PAGE_FAULTS_MAJ),
        ] {
            if program.autoload() {
                attach_software_event(program, event.into(), &mut links)?;
            }
        }
        links.extend(attach_all(Self::hooks(context.setup, skeleton))?);
        Ok(links)
    }

    fn start(options: Options, args: &TracerArgs, programs: &mut Programs<Self>) -> Result<Self> {
        let maps = &programs.skeleton.maps;
        let processes = options.processes.map(|_| MappedArray::new(&maps.process_table)).transpose()?;
        Ok(Self {
            options,
            summary: args.events.summary(true),
            histogram: args.events.histogram(),
            table: Table::new(programs.cpus, MappedArray::new(&maps.kinds)?, processes),
            faults: Vec::new(),
            processes: Vec::new(),
            maps: HashMap::new(),
        })
    }

    /// To read /proc/PID/maps of other users' processes.
    fn keep(&self) -> CapabilitySet {
        if self.options.resolve { CapabilitySet::SYS_PTRACE } else { CapabilitySet::empty() }
    }

    fn started(&mut self, output: &mut Output, kept: CapabilitySet) -> Result<()> {
        if kept.contains(self.keep()) {
            return Ok(());
        }
        let detail = "without CAP_SYS_PTRACE, --resolve works only for processes of this user";
        output.emitter.status(Timestamp::now(), "/proc/PID/maps", Reason::Denied, detail)
    }

    fn drain(&mut self, ring: &Ring<Event>, output: &mut Output) -> Result<()> {
        self.maps.clear();
        ring.drain(|event| self.event(event, output))
    }

    fn event(&mut self, event: &Event, output: &mut Output) -> Result<()> {
        let tid = event.task.tid;
        let maps = self
            .options
            .resolve
            .then(|| self.maps.entry(tid).or_insert_with(|| std::fs::read(format!("/proc/{tid}/maps")).ok()));
        let maps = maps.and_then(|maps| maps.as_deref());
        let (ts, record) = report::event(event, output.threshold, output.clock, &mut output.cgroups, maps);
        output.emitter.emit(ts, &record)
    }

    fn end_interval(&mut self, programs: &mut Programs<Self>) -> u64 {
        let (half, end_ns) = programs.end_interval(kernel_now);
        self.faults = self.table.kinds(half);
        self.processes = self.table.processes(half);
        end_ns
    }

    fn report(&mut self, _: &mut Programs<Self>, output: &mut Output, interval: Interval) -> Result<()> {
        for faults in self.faults.iter().filter(|_| self.summary) {
            let record = report::summary(faults, interval, self.histogram);
            output.emitter.emit(interval.end, &record)?;
        }
        self.processes.sort_by_key(|process| (Reverse(process.minor_ns + process.major_ns), process.pid));
        for process in self.processes.iter().take(self.options.processes.unwrap_or(0)) {
            let record = report::process(process, interval, &mut output.cgroups);
            output.emitter.emit(interval.end, &record)?;
        }
        Ok(())
    }

    fn losses(&self, programs: &Programs<Self>) -> Vec<(&'static str, u64)> {
        vec![
            ("pagefault: no room to note when a fault began", shared_load!(programs, lost_begins)),
            ("pagefault: the end of a fault was not seen", shared_load!(programs, lost_ends)),
            ("pagefault_process: more processes than slots", shared_load!(programs, lost_processes)),
            ("pagefault: ring buffer full", programs.lost_events()),
            ("pagefault: a hook inside itself", programs.nested()),
        ]
    }
}

/// Attaches a program to a software event on each CPU that is online.
fn attach_software_event(program: &ProgramMut<'_>, event: u64, links: &mut Vec<Link>) -> Result<()> {
    for cpu in online()? {
        let mut attr = perf_event_attr {
            type_: PERF_TYPE_SOFTWARE,
            size: u32::try_from(size_of::<perf_event_attr>())?,
            config: event,
            ..perf_event_attr::default()
        };
        attr.__bindgen_anon_1.sample_period = 1;
        // SAFETY: a valid struct, with its size in it; the call keeps no reference to it.
        let fd = unsafe {
            perf_event_open_sys::perf_event_open(&raw mut attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC.into())
        };
        if fd < 0 {
            let error = std::io::Error::last_os_error();
            return Err(error).with_context(|| format!("cannot open the page-fault events of CPU {cpu}"));
        }
        match program.attach_perf_event(fd) {
            // The link owns the descriptor from now on.
            Ok(link) => links.push(link),
            Err(error) => {
                // SAFETY: it was opened above, and nothing else owns it.
                drop(unsafe { OwnedFd::from_raw_fd(fd) });
                return Err(explain(&error, "cannot attach to the page-fault events"));
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
    let ranges = ranges.with_context(|| format!("{path} is not a list of CPUs: {text:?}"))?;
    Ok(ranges.into_iter().flatten().collect())
}
