//! A run of `schedlat`: start, give up privileges, and report until told to stop.

use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use anyhow::Result;

use super::table::{Description, Process};
use super::{Losses, Processes, Settings, Tracer, Waits, report};
use crate::bpf::pid_watch::PidWatch;
use crate::bpf::self_filter::SelfFilter;
use crate::bpf::session::{self, Interval, Output};
use crate::bpf::{load, privilege};
use crate::common::emit::Emitter;
use crate::common::options::Common;
use crate::common::time::Timestamp;
use crate::record::Reason;

const SOURCE: &str = "sched_switch";

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The options of every producer.
    pub common: Common,
    /// What the kernel programs do.
    pub settings: Settings,
    /// Whether to write `runq` records.
    pub summary: bool,
    /// One for each CPU.
    pub per_cpu: bool,
    /// Whether these carry their distributions.
    pub histogram: bool,
    /// How many processes are written; `None` for all.
    pub top: Option<usize>,
}

/// Runs until the end that the options name, or a signal.
///
/// # Errors
/// If the kernel refuses, or stdout fails.
pub fn run(options: Options) -> Result<()> {
    let mut out = options.common.emitter()?;
    let pids = PidWatch::find(&options.settings.tasks)?;
    privilege::check(crate::common::diag::program_name())?;
    load::listen();
    let tracer = Tracer::start(&options.settings)?;
    // From here on nothing is asked of the kernel: arrays and ring buffer are mapped.
    let kept = privilege::drop_all(|| tracer.self_filter.works())?;
    if options.common.verbose {
        crate::common::diag::log(format_args!(
            "{}; capabilities kept: {}",
            tracer.describe(),
            privilege::names(kept)
        ));
    }
    out.status(Timestamp::now(), SOURCE, Reason::Active, &tracer.describe())?;
    let (common, events, began_ns) = (options.common.clone(), options.settings.events, tracer.began_ns());
    let session = Session {
        options,
        tracer,
        begin_ns: began_ns,
        waits: Vec::new(),
        processes: Processes::new(),
        known: HashMap::new(),
    };
    session::run(session, &common, pids, Output::new(out, events), began_ns)
}

struct Session {
    options: Options,
    tracer: Tracer,
    /// When the interval began.
    begin_ns: u64,
    /// What the interval that was ended last held.
    waits: Vec<Waits>,
    processes: Processes,
    /// The processes of the interval before.
    known: HashMap<u32, Description>,
}

impl session::Tracer for Session {
    fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        self.tracer.ring_fd()
    }

    fn events(&mut self, output: &mut Output) -> Result<()> {
        self.tracer.events(|event| {
            let (ts, record) = report::event(event, output.threshold, output.clock, &mut output.cgroups);
            output.emitter.emit(ts, &record)
        })
    }

    fn self_filter(&mut self) -> &mut SelfFilter {
        &mut self.tracer.self_filter
    }

    fn end_interval(&mut self) -> u64 {
        let (waits, processes, end_ns) = self.tracer.take(self.begin_ns, self.options.per_cpu);
        self.begin_ns = end_ns;
        (self.waits, self.processes) = (waits, processes);
        end_ns
    }

    fn report(&mut self, output: &mut Output, interval: Interval) -> Result<()> {
        if self.options.summary {
            for waits in &self.waits {
                let record = report::runq(waits, interval, &mut output.cgroups, self.options.histogram);
                output.emitter.emit(interval.end, &record)?;
            }
        }
        for process in most(&self.processes, self.options.top) {
            let known = self.known.get(&process.pid);
            let record = report::sched(process, known, interval, &mut output.cgroups);
            output.emitter.emit(interval.end, &record)?;
        }
        self.remember();
        losses(self.tracer.losses(), &mut output.emitter, interval.end)
    }
}

impl Session {
    /// Keeps the descriptions of the processes of this interval: one that goes on running is not described again.
    fn remember(&mut self) {
        let mut before = std::mem::take(&mut self.known);
        let now = std::mem::take(&mut self.processes).into_iter();
        self.known = now
            .filter_map(|(pid, process)| Some((pid, process.description.or_else(|| before.remove(&pid))?)))
            .collect();
    }
}

/// Those that waited most, and then used most, first.
fn most(processes: &Processes, top: Option<usize>) -> Vec<&Process> {
    let mut list: Vec<_> = processes.values().collect();
    list.sort_by_key(|process| (std::cmp::Reverse((process.runq_ns, process.cpu_ns)), process.pid));
    list.truncate(top.unwrap_or(usize::MAX));
    list
}

fn losses(losses: Losses, out: &mut Emitter, now: Timestamp) -> Result<()> {
    let Losses { waits, groups, processes, events, unseen, negative, nested } = losses;
    for (source, count) in [
        ("runq: no room to note when a wait began", waits),
        ("runq: more cgroups than slots", groups),
        ("sched: more processes than slots", processes),
        ("runq_event: ring buffer full", events),
        ("sched: switches that no program was run at", unseen),
        ("runq: waits that ended before they began", negative),
        ("runq: a hook inside itself", nested),
    ] {
        out.lost(now, source, count)?;
    }
    Ok(())
}
