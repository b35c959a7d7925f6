//! A run of `pagefault-trace`: start, give up privileges, and report until told to stop.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::os::fd::BorrowedFd;

use anyhow::Result;
use rustix::thread::CapabilitySet;

use super::{Faults, Losses, Process, Settings, Tracer, report};
use crate::bpf::pid_watch::PidWatch;
use crate::bpf::self_filter::SelfFilter;
use crate::bpf::session::{self, Interval, Output};
use crate::bpf::{load, privilege};
use crate::common::options::Common;
use crate::common::time::Timestamp;
use crate::record::Reason;

const SOURCE: &str = "page faults";

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The options of every producer.
    pub common: Common,
    /// What the kernel programs do.
    pub settings: Settings,
    /// Whether summaries carry their distributions.
    pub histogram: bool,
    /// So many processes are written.
    pub top: usize,
    /// Name the mapping of each fault that is told.
    pub resolve: bool,
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
    // From here on nothing is asked of the kernel but /proc/PID/maps, for which other users' processes are closed.
    let keep = if options.resolve { CapabilitySet::SYS_PTRACE } else { CapabilitySet::empty() };
    let kept = privilege::drop_but(keep, || tracer.loaded.self_filter.works())?;
    if options.common.verbose {
        let kept = privilege::names(kept);
        crate::common::diag::log(format_args!("{}; capabilities kept: {kept}", tracer.describe()));
    }
    let now = Timestamp::now();
    out.status(now, SOURCE, Reason::Active, &tracer.describe())?;
    if kept != keep {
        let detail = "CAP_SYS_PTRACE is missing: mappings are named of this user's processes only";
        out.status(now, "/proc/PID/maps", Reason::Denied, detail)?;
    }
    let (common, events, began_ns) = (options.common.clone(), options.settings.events, tracer.began_ns());
    let session = Session { options, tracer, faults: Vec::new(), processes: Vec::new() };
    session::run(session, &common, pids, Output::new(out, events), began_ns)
}

struct Session {
    options: Options,
    tracer: Tracer,
    /// What the interval that was ended last held.
    faults: Vec<Faults>,
    processes: Vec<Process>,
}

impl session::Tracer for Session {
    fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        self.tracer.ring_fd()
    }

    fn events(&mut self, output: &mut Output) -> Result<()> {
        // Of each thread once for all that came together.
        let mut maps = HashMap::new();
        self.tracer.events(|event| {
            let tid = event.task.tid;
            let read = || std::fs::read(format!("/proc/{tid}/maps")).ok();
            let maps =
                if self.options.resolve { maps.entry(tid).or_insert_with(read).as_deref() } else { None };
            let (ts, record) =
                report::event(event, output.threshold, output.clock, &mut output.cgroups, maps);
            output.emitter.emit(ts, &record)
        })
    }

    fn self_filter(&mut self) -> &mut SelfFilter {
        &mut self.tracer.loaded.self_filter
    }

    fn end_interval(&mut self) -> u64 {
        let (faults, processes, end_ns) = self.tracer.take();
        (self.faults, self.processes) = (faults, processes);
        end_ns
    }

    fn report(&mut self, output: &mut Output, interval: Interval) -> Result<()> {
        for faults in &self.faults {
            let record = report::summary(faults, interval, self.options.histogram);
            output.emitter.emit(interval.end, &record)?;
        }
        let time = |process: &Process| process.sums.iter().sum::<u64>();
        self.processes.sort_by_key(|process| (Reverse(time(process)), process.pid));
        for process in self.processes.iter().take(self.options.top) {
            let record = report::process(process, interval, &mut output.cgroups);
            output.emitter.emit(interval.end, &record)?;
        }
        let Losses { begins, ends, processes, events, nested } = self.tracer.losses();
        for (source, count) in [
            ("pagefault: no room to note when a fault began", begins),
            ("pagefault: the end of a fault was not seen", ends),
            ("pagefault_process: more processes than slots", processes),
            ("pagefault: ring buffer full", events),
            ("pagefault: a hook inside itself", nested),
        ] {
            output.emitter.lost(interval.end, source, count)?;
        }
        Ok(())
    }
}
