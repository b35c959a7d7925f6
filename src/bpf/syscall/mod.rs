//! System calls: the user side of `bpf/syscall.bpf.c`.

use std::io::Read as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use libbpf_rs::{Iter, Link, ProgramMut};

mod class;
mod names;
mod report;
mod table;

pub use class::Calls;

use super::args::{Attach, TracerArgs, nanos};
use super::clock::kernel_now;
use super::kernel::Kernel;
use super::load::explain;
use super::map::{MappedArray, read};
use super::skeleton::{Skeleton as _, shared_load, shared_store};
use super::task::TaskId;
use super::tracer::{Context, Interval, Output, Programs, Tracer};
use crate::common::diag::log;
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use class::{FlagsOfCalls, WAITING_ARGS};
use table::{Activity, Event, Geometry, OpenSyscallSkel, Stuck, SyscallSkel, Table};

/// Room for the events of some tens of milliseconds with a call every microsecond. Doubled without summaries.
const RING_BYTES: u32 = 4 << 20;
/// Tasks that can be in the hash map, because another owns their slot.
const HASHED: u32 = 1 << 13;
/// How long to write waiting events after a stop was asked for: less than `stop::GRACE`.
const LAST_EVENTS: Duration = Duration::from_millis(800);

/// What to trace.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Which calls.
    pub calls: Calls,
    /// Report calls that wait by design too.
    pub waits: bool,
    /// Report calls in progress for at least this time.
    pub stuck: Option<Duration>,
    /// Use only the hash map, to test it.
    pub no_task_slots: bool,
}

/// What is known before the programs are loaded.
pub struct Setup {
    options: Options,
    flags_of_calls: Box<FlagsOfCalls>,
    summary: bool,
}

/// `syscall-trace` while it runs.
pub struct SyscallTrace {
    table: Option<Table>,
    histogram: bool,
    /// Runs the iterator over all tasks; `None` without `--stuck`.
    iterator: Option<Link>,
    /// Entries of all later calls were seen, by the kernel's clock.
    watched_since: u64,
    /// What the last interval counted.
    active: Vec<Activity>,
}

impl Tracer for SyscallTrace {
    type Skeleton = SyscallSkel<'static>;
    type Event = Event;
    type Options = Options;
    type Setup = Setup;

    const SOURCE: &'static str = "sys_exit";

    fn prepare(mut options: Options, args: &TracerArgs, _: &mut Emitter) -> Result<Setup> {
        let flags_of_calls = Box::new(options.calls.flags()?);
        options.waits |= options.calls.names_waits();
        report::prepare();
        let (events, summary) = (args.events.min().is_some(), args.events.summary(false));
        if (events || options.stuck.is_some()) && !options.waits {
            log(format_args!(
                "leaving out calls that wait by design (futex, poll, reads from a pipe …); see --waits"
            ));
        }
        Ok(Setup { options, flags_of_calls, summary })
    }

    fn ways(setup: &Setup, kernel: &Kernel) -> Result<Vec<Attach>> {
        ensure!(
            setup.options.stuck.is_none() || kernel.has_btf(),
            "--stuck needs the kernel's own type information, /sys/kernel/btf/vmlinux; --btf does not replace it"
        );
        Ok(Attach::TRACEPOINT.into())
    }

    fn ring_bytes(setup: &Setup) -> u32 {
        if setup.summary { RING_BYTES } else { 2 * RING_BYTES }
    }

    fn configure(context: &Context<'_, Self>, open: &mut OpenSyscallSkel<'static>) -> Result<()> {
        let Context { setup, cpus, .. } = *context;
        let geometry = Geometry::choose(u32::try_from(cpus)?);
        let constants = SyscallSkel::constants(open)?;
        constants.flags_of_calls = *setup.flags_of_calls;
        constants.waiting_args = WAITING_ARGS;
        constants.no_task_slots = setup.options.no_task_slots;
        constants.waits = setup.options.waits;
        constants.stuck_ns = nanos(setup.options.stuck);
        constants.summary = setup.summary;
        constants.shards = geometry.shards;
        open.progs.each_task.set_autoload(setup.options.stuck.is_some());
        let maps = &mut open.maps;
        let mut sized = maps.calls_by_task.set_max_entries(HASHED);
        if setup.summary {
            sized = sized
                .and(maps.counters.set_max_entries(geometry.all_counters()))
                .and(maps.longest.set_max_entries(geometry.all_longest()));
        }
        sized.map_err(|e| explain(&e, "cannot size the maps"))
    }

    /// Attaches the exit before the entry: a call with a missed exit would look stuck.
    fn hooks<'a>(_: &Setup, skeleton: &'a SyscallSkel<'static>) -> Vec<&'a ProgramMut<'static>> {
        let progs = &skeleton.progs;
        vec![&progs.thread_exit, &progs.exit_btf, &progs.exit_raw, &progs.enter_btf, &progs.enter_raw]
    }

    fn start(setup: Setup, args: &TracerArgs, programs: &mut Programs<Self>) -> Result<Self> {
        let watched_since = kernel_now();
        shared_store!(programs, watched_since, watched_since);
        let skeleton = &programs.skeleton;
        let geometry = Geometry::choose(u32::try_from(programs.cpus)?);
        let table = if setup.summary {
            let counters = MappedArray::new(&skeleton.maps.counters)?;
            Some(Table::new(geometry, counters, MappedArray::new(&skeleton.maps.longest)?))
        } else {
            None
        };
        let iterator = setup.options.stuck.map(|_| skeleton.progs.each_task.attach()).transpose();
        let iterator = iterator.map_err(|e| explain(&e, "cannot iterate over tasks"))?;
        Ok(Self { table, histogram: args.events.histogram(), iterator, watched_since, active: Vec::new() })
    }

    /// Whether the iterator still runs.
    fn works(&self, _: &Programs<Self>) -> bool {
        self.iterator.as_ref().is_none_or(|link| Iter::new(link).is_ok())
    }

    fn event(&mut self, event: &Event, output: &mut Output) -> Result<()> {
        let task = TaskId::from(event.task);
        let (ts, record) = report::event(event, &task, output.threshold, output.clock, &mut output.cgroups);
        output.emitter.emit(ts, &record)
    }

    fn end_interval(&mut self, programs: &mut Programs<Self>) -> u64 {
        let Some(table) = &mut self.table else { return kernel_now() };
        let (half, end_ns) = programs.end_interval(kernel_now);
        self.active = table.take(half);
        end_ns
    }

    fn report(&mut self, _: &mut Programs<Self>, output: &mut Output, interval: Interval) -> Result<()> {
        for activity in &self.active {
            let record = report::summary(activity, interval, self.histogram);
            output.emitter.emit(interval.end, &record)?;
        }
        for stuck in self.stuck()? {
            let task = TaskId::from(stuck.task);
            let (ts, record) =
                report::stuck(&stuck, &task, self.watched_since, output.clock, &mut output.cgroups);
            output.emitter.emit(ts, &record)?;
        }
        Ok(())
    }

    fn losses(&self, programs: &Programs<Self>) -> Vec<(&'static str, u64)> {
        vec![
            ("syscall: ring buffer full", programs.lost_events()),
            ("syscall: no room for the time of entry", shared_load!(programs, lost_calls)),
            ("syscall: entries and exits inside another", programs.nested()),
        ]
    }

    /// Writes the events of calls that returned before now, as far as there is time; counts the others.
    fn end(&mut self, programs: &mut Programs<Self>, output: &mut Output, now: Timestamp) -> Result<()> {
        let Some(ring) = programs.ring() else { return Ok(()) };
        let (end_ns, until) = (kernel_now(), Instant::now() + LAST_EVENTS);
        let (mut late, mut more) = (0, true);
        // Detaching takes longer than all of this, so calls still return meanwhile.
        while std::mem::take(&mut more) {
            ring.drain(|event| {
                more = event.end_ns <= end_ns;
                if Instant::now() < until {
                    return self.event(event, output);
                }
                late += 1;
                Ok(())
            })?;
        }
        output.emitter.lost(now, "syscall: not written before the end", late)
    }
}

impl SyscallTrace {
    /// The calls in progress for at least the time of `--stuck`.
    fn stuck(&self) -> Result<Vec<Stuck>> {
        let Some(link) = &self.iterator else { return Ok(Vec::new()) };
        let mut bytes = Vec::new();
        let mut iterator = Iter::new(link).map_err(|e| explain(&e, "cannot iterate over tasks"))?;
        iterator.read_to_end(&mut bytes).context("cannot iterate over tasks")?;
        Ok(bytes.chunks(size_of::<Stuck>()).filter_map(read).collect())
    }
}
