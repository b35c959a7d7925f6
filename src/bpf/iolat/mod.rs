//! Block I/O latency: the user side of `bpf/iolat.bpf.c`.

use anyhow::{Context as _, Result, bail};
use libbpf_rs::ProgramMut;
use rustix::thread::CapabilitySet;

mod devices;
mod report;
mod table;

pub use devices::{Devices, Found, Survey, Wanted};
pub use table::{Activity, Geometry, Latency, Op, Table};

use super::args::{Attach, TracerArgs};
use super::clock::kernel_now;
use super::kernel::Kernel;
use super::load::explain;
use super::map::MappedArray;
use super::skeleton::{Skeleton as _, shared_load, shared_store};
use super::tracer::{Context, Interval, Output, Programs, Tracer, attach_all};
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::Reason;
use table::{Event, IolatSkel, OpenIolatSkel, types};

/// The budget for all maps, in bytes.
const BUDGET: usize = 16 << 20;
/// Room for the events of half a second, at some 10,000 a second.
const RING_BYTES: u32 = 1 << 20;
/// The most requests that are tracked at a time.
const MAX_TRACKED: u32 = 1 << 16;
/// The fewest: disks may appear later.
const MIN_TRACKED: u32 = 1 << 12;
/// Kernel memory for an entry of a hash map besides key and value, in bytes: an upper bound.
const ENTRY_BYTES: usize = 80;

/// What to measure.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Only these devices; all if empty.
    pub devices: Vec<String>,
    /// Count all devices as one.
    pub aggregate: bool,
    /// Count partitions as devices.
    pub partitions: bool,
    /// Record who submitted requests.
    pub who: bool,
}

/// What is known before the programs are loaded.
pub struct Setup {
    options: Options,
    devices: Devices,
    wanted: Wanted,
    survey: Survey,
    /// The submitter is needed, so there is a hook at submission.
    with_task: bool,
    /// Events are written.
    events: bool,
}

impl Setup {
    /// How many requests to track: twice as many as there can be, because more disks may appear.
    fn tracked(&self) -> u32 {
        u32::try_from(self.survey.requests * 2).unwrap_or(u32::MAX).clamp(MIN_TRACKED, MAX_TRACKED)
    }

    /// What the budget leaves for the arrays of counters.
    fn budget(&self) -> usize {
        let entry = ENTRY_BYTES + size_of::<u64>() + size_of::<types::pending>();
        let ring = if self.events { RING_BYTES as usize } else { 0 };
        BUDGET - self.tracked() as usize * entry - ring
    }

    fn geometry(&self, cpus: usize) -> Geometry {
        let disks = if self.options.aggregate { 1 } else { self.survey.disks };
        Geometry::choose(disks, cpus, self.budget())
    }

    /// The hooks at submission and issue.
    fn at_submission<'a>(skeleton: &'a IolatSkel<'static>) -> [&'a ProgramMut<'static>; 3] {
        let progs = &skeleton.progs;
        [&progs.submit_btf, &progs.submit_raw, &progs.submit_insert]
    }
}

/// `iolat` while it runs.
pub struct Iolat {
    devices: Devices,
    wanted: Wanted,
    table: Table,
    summary: bool,
    histogram: bool,
    /// The hooks for requests without times are attached, or cannot be.
    complete: Complete,
    /// What the last interval counted.
    active: Vec<Activity>,
}

/// Whether requests that do not carry their times are measured all the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Complete {
    /// Two more hooks are needed for that.
    No { submission_attached: bool },
    /// They are attached.
    Yes,
    /// They cannot be attached.
    Never,
}

impl Tracer for Iolat {
    type Skeleton = IolatSkel<'static>;
    type Event = Event;
    type Options = Options;
    type Setup = Setup;

    const SOURCE: &'static str = "block_rq_complete";

    fn prepare(mut options: Options, args: &TracerArgs, emitter: &mut Emitter) -> Result<Setup> {
        let devices = Devices::new(std::path::Path::new("/sys"));
        let wanted = Wanted::find(&options.devices, options.partitions, &devices)?;
        options.partitions |= wanted.partitions();
        if !wanted.report(emitter, Timestamp::now())? {
            emitter.flush()?;
            bail!("--device: none of these devices has requests, which are what iolat measures");
        }
        let survey = devices.survey();
        let with_task = options.who || args.tasks.is_on();
        let events = args.events.min().is_some();
        Ok(Setup { options, devices, wanted, survey, with_task, events })
    }

    fn ways(_: &Setup, kernel: &Kernel) -> Result<Vec<Attach>> {
        match kernel.arguments("block_rq_complete") {
            Some(3) => Ok(Attach::TRACEPOINT.into()),
            Some(arguments) => bail!(
                "block_rq_complete has {arguments} arguments in this kernel, not 3: please report its version"
            ),
            None => bail!("this kernel has no tracepoint block_rq_complete"),
        }
    }

    fn ring_bytes(_: &Setup) -> u32 {
        RING_BYTES
    }

    fn leaves_out_self(setup: &Setup, args: &TracerArgs) -> bool {
        setup.with_task && !args.tasks.include_self
    }

    fn configure(context: &Context<'_, Self>, open: &mut OpenIolatSkel<'static>) -> Result<()> {
        let Context { setup, args, kernel, cpus, .. } = *context;
        let geometry = setup.geometry(cpus);
        let io_start = kernel.arguments("block_io_start").is_some();
        // The queue was the first argument until 5.10, and in kernels that reverted that change.
        let queue_first =
            kernel.arguments("block_rq_issue").context("this kernel has no tracepoint block_rq_issue")? == 2;
        let constants = IolatSkel::constants(open)?;
        constants.slot_bits = geometry.slot_bits;
        constants.shard_mask = geometry.shards - 1;
        constants.exclusive = geometry.shards as usize >= cpus && kernel.guards_against_recursion();
        constants.aggregate = setup.options.aggregate;
        constants.by_partition = setup.options.partitions;
        constants.filter_devices = !setup.options.devices.is_empty();
        constants.with_task = setup.with_task;
        constants.filter_task = args.tasks.is_on();
        constants.describe_all = setup.events;
        constants.task_at_issue = setup.with_task && !io_start;
        constants.request_argument = u32::from(queue_first);
        constants.keep_pending = setup.survey.requests <= u64::from(setup.tracked());
        let variables = open.maps.bss_data.as_deref_mut().context("the eBPF programs have no variables")?;
        variables.time_submissions = setup.survey.untimed.into();
        for (wanted, number) in variables.wanted_devices.iter_mut().zip(setup.wanted.numbers()) {
            *wanted = *number;
        }
        let progs = &mut open.progs;
        if io_start {
            progs.submit_insert.set_autoload(false);
        } else {
            progs.submit_btf.set_autoload(false);
            progs.submit_raw.set_autoload(false);
        }
        let maps = &mut open.maps;
        let tracked = setup.tracked();
        let sized = maps
            .slots
            .set_max_entries(geometry.all_slots())
            .and_then(|()| maps.peaks.set_max_entries(geometry.all_peaks()))
            .and_then(|()| maps.owners.set_max_entries(1 << geometry.slot_bits))
            .and_then(|()| maps.pending.set_max_entries(tracked));
        sized.map_err(|e| explain(&e, "cannot size the maps"))
    }

    fn hooks<'a>(setup: &Setup, skeleton: &'a IolatSkel<'static>) -> Vec<&'a ProgramMut<'static>> {
        let progs = &skeleton.progs;
        let mut hooks = Vec::new();
        if setup.with_task || setup.survey.untimed {
            hooks.extend(Setup::at_submission(skeleton));
        }
        // Before 6.5 submission is seen where a request is queued or, if it never is, issued.
        if setup.survey.untimed || (setup.with_task && progs.submit_insert.autoload()) {
            hooks.push(&progs.issue);
        }
        hooks.extend([&progs.complete_btf, &progs.complete_raw]);
        hooks
    }

    fn start(setup: Setup, args: &TracerArgs, programs: &mut Programs<Self>) -> Result<Self> {
        let geometry = setup.geometry(programs.cpus);
        let maps = &programs.skeleton.maps;
        let exclusive = maps.rodata_data.is_some_and(|constants| constants.exclusive);
        let table =
            Table::new(geometry, exclusive, MappedArray::new(&maps.slots)?, MappedArray::new(&maps.peaks)?);
        let complete = if setup.survey.untimed {
            Complete::Yes
        } else {
            Complete::No { submission_attached: setup.with_task }
        };
        Ok(Self {
            devices: setup.devices,
            wanted: setup.wanted,
            table,
            summary: args.events.summary(true),
            histogram: args.events.histogram(),
            complete,
            active: Vec::new(),
        })
    }

    /// Whether another hook could still be attached.
    fn works(&self, programs: &Programs<Self>) -> bool {
        programs.skeleton.progs.issue.attach().is_ok()
    }

    fn started(&mut self, output: &mut Output, _: CapabilitySet) -> Result<()> {
        let unseen = self.devices.without_requests().join(", ");
        if self.wanted.all() && !unseen.is_empty() {
            let detail =
                "these devices have no requests of their own; their I/O is counted for the disks below them";
            output.emitter.status(Timestamp::now(), &unseen, Reason::Unsupported, detail)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Event, output: &mut Output) -> Result<()> {
        match report::event(event, &mut self.devices, output) {
            Some((ts, record)) => output.emitter.emit(ts, &record),
            None => Ok(()),
        }
    }

    fn end_interval(&mut self, programs: &mut Programs<Self>) -> u64 {
        let (half, end_ns) = programs.end_interval(kernel_now);
        self.active.clear();
        for slot in 0..self.table.slots() {
            let key = shared_load!(programs, keys[slot]);
            self.active.extend((key != 0).then(|| self.table.take(half, slot, key)).flatten());
        }
        end_ns
    }

    fn report(
        &mut self,
        programs: &mut Programs<Self>,
        output: &mut Output,
        interval: Interval,
    ) -> Result<()> {
        if self.summary {
            let mut records: Vec<_> = self
                .active
                .iter()
                .map(|activity| report::summary(activity, interval, &mut self.devices, self.histogram))
                .collect();
            records.sort_by(|a, b| (&a.device, a.op).cmp(&(&b.device, b.op)));
            for record in &records {
                output.emitter.emit(interval.end, record)?;
            }
        }
        self.complete(programs, &mut output.emitter, interval.end)?;
        let (found, unsupported) = self.wanted.look_again(&self.devices);
        if found {
            for (i, number) in self.wanted.numbers().iter().enumerate() {
                shared_store!(programs, wanted_devices[i], *number);
            }
        }
        for (name, why) in unsupported {
            output.emitter.status(interval.end, &name, Reason::Unsupported, why)?;
        }
        Ok(())
    }

    fn losses(&self, programs: &Programs<Self>) -> Vec<(&'static str, u64)> {
        vec![
            ("io: more devices and operations than slots", shared_load!(programs, lost_slots)),
            ("io_event: ring buffer full", programs.lost_events()),
            ("io: map of submissions full", shared_load!(programs, lost_tasks)),
            ("io: requests without any time", shared_load!(programs, untimed)),
            ("io: completions inside a completion", programs.nested()),
        ]
    }
}

impl Iolat {
    /// Attaches to submission and issue once requests do not carry their times.
    fn complete(
        &mut self,
        programs: &mut Programs<Self>,
        emitter: &mut Emitter,
        now: Timestamp,
    ) -> Result<()> {
        let Complete::No { submission_attached } = self.complete else { return Ok(()) };
        if shared_load!(programs, untimed) + shared_load!(programs, unsplit) == 0 {
            return Ok(());
        }
        shared_store!(programs, time_submissions, 1);
        let mut hooks = Vec::new();
        if !submission_attached {
            hooks.extend(Setup::at_submission(&programs.skeleton));
        }
        hooks.push(&programs.skeleton.progs.issue);
        let source = "block_rq_issue";
        match attach_all(hooks) {
            Ok(links) => {
                programs.links.extend(links);
                self.complete = Complete::Yes;
                let detail =
                    "requests of a device do not carry their times: more hooks measure them from now on";
                emitter.active(now, source, Attach::RawTp.name(), detail)
            }
            Err(error) => {
                self.complete = Complete::Never;
                let detail = format!("requests of a device do not carry their times: {error}");
                emitter.status(now, source, Reason::Denied, &detail)
            }
        }
    }
}
