//! A run of `syscall-trace`: start, give up privileges, and report until told to stop.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::report;
use super::{Activity, Event, Losses, Settings, Tracer};
use crate::bpf::clock::kernel_now;
use crate::bpf::pid_watch::PidWatch;
use crate::bpf::self_filter::SelfFilter;
use crate::bpf::session::{self, Interval, Output};
use crate::bpf::{load, privilege};
use crate::common::diag::log;
use crate::common::options::Common;
use crate::common::time::Timestamp;
use crate::record::Reason;

const SOURCE: &str = "sys_exit";
/// For events that are still to be written when the program is to end, well below `stop::GRACE`.
const LAST_WORDS: Duration = Duration::from_millis(800);

/// What the command line says.
#[derive(Clone, Debug)]
pub struct Options {
    /// The options of every producer.
    pub common: Common,
    /// What the kernel program does.
    pub settings: Settings,
    /// Whether summaries carry their distributions.
    pub histogram: bool,
}

/// Runs until the end that the options name, or a signal.
///
/// # Errors
/// If the kernel refuses, or stdout fails.
pub fn run(options: Options) -> Result<()> {
    let Options { common, settings, histogram } = options;
    let mut out = common.emitter()?;
    let pids = PidWatch::find(&settings.tasks)?;
    privilege::check(crate::common::diag::program_name())?;
    load::listen();
    report::prepare();
    let tracer = Tracer::start(&settings)?;
    let kept = privilege::drop_all(|| tracer.works() && tracer.self_filter.works())?;
    if common.verbose {
        log(format_args!("{}; capabilities kept: {}", tracer.describe(), privilege::names(kept)));
    }
    if (settings.events.is_some() || settings.stuck.is_some()) && !settings.waits {
        log(format_args!("calls that wait by design are left out (futex, poll, reads of a pipe …): --waits"));
    }
    out.status(Timestamp::now(), SOURCE, Reason::Active, &tracer.describe())?;
    let (began_ns, events) = (tracer.began_ns(), settings.events);
    let session = Session { tracer, histogram, active: Vec::new() };
    session::run(session, &common, pids, Output::new(out, events), began_ns)
}

struct Session {
    tracer: Tracer,
    histogram: bool,
    /// What the interval that was ended last held.
    active: Vec<Activity>,
}

impl session::Tracer for Session {
    fn ring_fd(&self) -> Option<BorrowedFd<'_>> {
        self.tracer.ring_fd()
    }

    fn events(&mut self, output: &mut Output) -> Result<()> {
        self.tracer.events(|event| tell(event, output))
    }

    fn self_filter(&mut self) -> &mut SelfFilter {
        &mut self.tracer.self_filter
    }

    fn end_interval(&mut self) -> u64 {
        let (active, end_ns) = self.tracer.take();
        self.active = active;
        end_ns
    }

    fn report(&mut self, output: &mut Output, interval: Interval) -> Result<()> {
        for activity in &self.active {
            let record = report::summary(activity, interval, self.histogram);
            output.emitter.emit(interval.end, &record)?;
        }
        for stuck in self.tracer.stuck()? {
            let since = self.tracer.began_ns();
            let (ts, record) = report::stuck(&stuck, since, output.clock, &mut output.cgroups);
            output.emitter.emit(ts, &record)?;
        }
        self.losses(output, interval.end)
    }

    /// What was in the ring buffer in the end belongs to the run as well. Who was asked to stop has not for ever:
    /// what cannot be written in time is counted.
    fn end(&mut self, output: &mut Output, now: Timestamp) -> Result<()> {
        let (end_ns, until) = (kernel_now(), Instant::now() + LAST_WORDS);
        let (mut late, mut more) = (0, true);
        // Detaching would take longer than all the rest: what returns from now on is left alone.
        while std::mem::take(&mut more) {
            self.tracer.events(|event| {
                more = event.end_ns <= end_ns;
                if Instant::now() < until {
                    return tell(event, output);
                }
                late += 1;
                Ok(())
            })?;
        }
        output.emitter.lost(now, "syscall: not written before the end", late)?;
        self.losses(output, now)
    }
}

impl Session {
    fn losses(&mut self, output: &mut Output, now: Timestamp) -> Result<()> {
        let Losses { events, calls, nested } = self.tracer.losses();
        for (source, count) in [
            ("syscall: ring buffer full", events),
            ("syscall: no room for the time of entry", calls),
            ("syscall: entries and exits inside another", nested),
        ] {
            output.emitter.lost(now, source, count)?;
        }
        Ok(())
    }
}

fn tell(event: &Event, output: &mut Output) -> Result<()> {
    let (ts, record) = report::event(event, output.threshold, output.clock, &mut output.cgroups);
    output.emitter.emit(ts, &record)
}
