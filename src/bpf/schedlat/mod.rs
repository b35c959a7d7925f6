//! Run-queue latency and scheduling of processes: the user side of `bpf/schedlat.bpf.c`.

use std::cmp::Reverse;
use std::collections::HashMap;

use anyhow::{Result, bail};
use libbpf_rs::ProgramMut;

mod report;
mod table;

pub use table::{Description, Geometry, Longest, Process, Processes, Waits};

use super::args::{Attach, TracerArgs};
use super::clock::kernel_now;
use super::kernel::Kernel;
use super::load::explain;
use super::map::MappedArray;
use super::skeleton::{Skeleton as _, shared_load};
use super::tracer::{Context, Interval, Output, Programs, Tracer};
use crate::common::emit::Emitter;
use table::{Event, OpenSchedlatSkel, SchedlatSkel, Table};

/// Threads that can wait while another thread owns their slot.
const WAITS_IN_MAP: u32 = 1 << 13;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Count the waits of each CPU separately.
    pub per_cpu: bool,
    /// Count the waits of each cgroup separately.
    pub per_cgroup: bool,
    /// Count what each process does.
    pub processes: bool,
    /// How many processes have a record; `None` for all.
    pub top: Option<usize>,
    /// Keep all waits in the map for threads that do not own their slot: to test that map.
    pub no_task_slots: bool,
}

/// `schedlat` while it runs.
pub struct Schedlat {
    options: Options,
    summary: bool,
    histogram: bool,
    table: Table,
    /// When the interval began.
    begin_ns: u64,
    /// What the last interval counted.
    waits: Vec<Waits>,
    processes: Processes,
    /// The processes of the interval before.
    known: HashMap<u32, Description>,
}

impl Tracer for Schedlat {
    type Skeleton = SchedlatSkel<'static>;
    type Event = Event;
    type Options = Options;
    type Setup = Options;

    const SOURCE: &'static str = "sched_switch";

    fn prepare(options: Options, _: &TracerArgs, _: &mut Emitter) -> Result<Options> {
        Ok(options)
    }

    fn ways(_: &Options, kernel: &Kernel) -> Result<Vec<Attach>> {
        match kernel.arguments("sched_switch") {
            Some(3 | 4) => Ok(Attach::TRACEPOINT.into()),
            Some(arguments) => bail!(
                "sched_switch has {arguments} arguments in this kernel, not 3 or 4: please report its version"
            ),
            None => bail!("this kernel has no tracepoint sched_switch"),
        }
    }

    fn configure(context: &Context<'_, Self>, open: &mut OpenSchedlatSkel<'static>) -> Result<()> {
        let Context { setup: options, kernel, cpus, .. } = *context;
        let geometry = Geometry::choose(cpus, options.per_cgroup, options.processes);
        let constants = SchedlatSkel::constants(open)?;
        // Since 5.18 the state is an argument.
        constants.state_argument = kernel.arguments("sched_switch") == Some(4);
        constants.only_map = options.no_task_slots;
        constants.by_cgroup = options.per_cgroup;
        constants.group_bits = geometry.group_bits.unwrap_or(0);
        constants.processes = options.processes;
        constants.process_bits = geometry.process_bits.unwrap_or(0);
        if !options.processes {
            open.progs.migrate_btf.set_autoload(false);
            open.progs.migrate_raw.set_autoload(false);
        }
        let count = |n: usize| u32::try_from(n.max(1)).unwrap_or(u32::MAX);
        let maps = &mut open.maps;
        let sized = maps
            .runqs
            .set_max_entries(count(2 * cpus))
            .and_then(|()| maps.groups.set_max_entries(count(2 * cpus * geometry.groups())))
            .and_then(|()| maps.table.set_max_entries(count(2 * cpus * geometry.processes())))
            .and_then(|()| maps.time_slices.set_max_entries(count(cpus)))
            .and_then(|()| maps.waits_by_tid.set_max_entries(WAITS_IN_MAP));
        sized.map_err(|e| explain(&e, "cannot size the maps"))
    }

    /// The hook that ends waits comes first, so that no wait seems endless.
    fn hooks<'a>(_: &Options, skeleton: &'a SchedlatSkel<'static>) -> Vec<&'a ProgramMut<'static>> {
        let progs = &skeleton.progs;
        vec![
            &progs.switch_btf,
            &progs.switch_raw,
            &progs.wakeup_btf,
            &progs.wakeup_raw,
            &progs.wakeup_new_btf,
            &progs.wakeup_new_raw,
            &progs.migrate_btf,
            &progs.migrate_raw,
        ]
    }

    fn start(options: Options, args: &TracerArgs, programs: &mut Programs<Self>) -> Result<Self> {
        let geometry = Geometry::choose(programs.cpus, options.per_cgroup, options.processes);
        let maps = &programs.skeleton.maps;
        let table = Table::new(
            geometry,
            MappedArray::new(&maps.runqs)?,
            MappedArray::new(&maps.groups)?,
            MappedArray::new(&maps.table)?,
            MappedArray::new(&maps.time_slices)?,
        );
        Ok(Self {
            options,
            summary: args.events.summary(true),
            histogram: args.events.histogram(),
            table,
            begin_ns: programs.began_ns(),
            waits: Vec::new(),
            processes: Processes::new(),
            known: HashMap::new(),
        })
    }

    fn event(&mut self, event: &Event, output: &mut Output) -> Result<()> {
        let (ts, record) = report::event(event, output.threshold, output.clock, &mut output.cgroups);
        output.emitter.emit(ts, &record)
    }

    fn end_interval(&mut self, programs: &mut Programs<Self>) -> u64 {
        let (half, (end_ns, slices)) = programs.end_interval(|| (kernel_now(), self.table.time_slices()));
        self.waits = self.table.waits(half, self.options.per_cpu);
        self.processes = self.table.processes(half, &slices, self.begin_ns, end_ns);
        self.begin_ns = end_ns;
        end_ns
    }

    fn report(&mut self, _: &mut Programs<Self>, output: &mut Output, interval: Interval) -> Result<()> {
        if self.summary {
            for waits in &self.waits {
                let record = report::runq(waits, interval, &mut output.cgroups, self.histogram);
                output.emitter.emit(interval.end, &record)?;
            }
        }
        for process in most(&self.processes, self.options.top) {
            let record = report::sched(process, self.known.get(&process.pid), interval, &mut output.cgroups);
            output.emitter.emit(interval.end, &record)?;
        }
        self.remember();
        Ok(())
    }

    fn losses(&self, programs: &Programs<Self>) -> Vec<(&'static str, u64)> {
        vec![
            ("runq: no room for the begin of a wait", shared_load!(programs, lost_waits)),
            ("runq: more cgroups than slots", shared_load!(programs, lost_groups)),
            ("sched: more processes than slots", shared_load!(programs, lost_processes)),
            ("runq_event: ring buffer full", programs.lost_events()),
            ("sched: switches at which no program was run", shared_load!(programs, unseen)),
            ("runq: waits that ended before they began", shared_load!(programs, negative)),
            ("runq: hooks inside a hook", programs.nested()),
        ]
    }
}

impl Schedlat {
    /// Keeps the descriptions of the processes of this interval: one that goes on running is not described again.
    fn remember(&mut self) {
        let mut before = std::mem::take(&mut self.known);
        let now = std::mem::take(&mut self.processes).into_iter();
        self.known = now
            .filter_map(|(pid, process)| Some((pid, process.description.or_else(|| before.remove(&pid))?)))
            .collect();
    }
}

/// The processes that waited most, and of these that used most CPU time, first.
fn most(processes: &Processes, top: Option<usize>) -> Vec<&Process> {
    let mut list: Vec<_> = processes.values().collect();
    list.sort_by_key(|process| (Reverse((process.runq_ns, process.cpu_ns)), process.pid));
    list.truncate(top.unwrap_or(usize::MAX));
    list
}
