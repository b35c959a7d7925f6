//! A run of a tracer after it has attached: events as they come, a report per interval, until told to stop.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::clock::KernelClock;
use super::pid_watch::PidWatch;
use super::self_filter::SelfFilter;
use crate::common::diag::log;
use crate::common::options::Common;
use crate::common::schedule::Ticker;
use crate::common::stop::Stop;
use crate::common::time::Timestamp;

/// Events are looked for this often; sooner when half of their buffer is full.
const EVENTS_EVERY: Duration = Duration::from_millis(100);

/// What tells one tracer from another while it runs.
pub trait Tracer {
    /// Readable when the ring buffer fills; `None` without events.
    fn ring_fd(&self) -> Option<BorrowedFd<'_>>;

    /// Writes the events that are waiting.
    ///
    /// # Errors
    /// If stdout fails.
    fn events(&mut self, output: &mut Output) -> Result<()>;

    /// Leaves out the tracer itself and the processes that read its output.
    fn self_filter(&mut self) -> &mut SelfFilter;

    /// Ends the interval: what happens from now on counts in the next. Returns when that was,
    /// by the kernel's clock.
    fn end_interval(&mut self) -> u64;

    /// Writes the records of the interval that was ended last.
    ///
    /// # Errors
    /// If stdout fails.
    fn report(&mut self, output: &mut Output, interval: Interval) -> Result<()>;

    /// After the last interval: writes what is still waiting.
    ///
    /// # Errors
    /// If stdout fails.
    fn end(&mut self, _output: &mut Output, _now: Timestamp) -> Result<()> {
        Ok(())
    }
}

pub use super::tracer::{Interval, Output};

/// Runs until the end that the options name, a signal, or that of the processes that were named. `began_ns` is
/// when the tracer began to count, by the kernel's clock.
///
/// # Errors
/// If stdout fails.
pub fn run(
    mut tracer: impl Tracer,
    common: &Common,
    mut pids: PidWatch,
    mut output: Output,
    mut began_ns: u64,
) -> Result<()> {
    let stop = common.stop()?;
    // Only now: who reads that we are active may send a signal at once.
    output.emitter.flush()?;
    let mut ticker = Ticker::trailing(common.schedule(Duration::from_secs(1)));
    let mut start = output.clock.wall(began_ns);
    while let Some(deadline) = ticker.deadline() {
        while !stop.asked() && !pids.ended() && Instant::now() < deadline {
            let wake = tracer.self_filter().due().map_or(deadline, |due| due.min(deadline));
            wait(&stop, tracer.ring_fd(), &pids, wake)?;
            tracer.self_filter().look_if_due();
            tracer.events(&mut output)?;
            output.emitter.flush()?;
        }
        if stop.reader_gone() {
            break;
        }
        // Who asks while the report is written has a last interval still to come.
        let ended = pids.ended();
        let last = stop.asked() || ended;
        ticker.tick();
        let end_ns = tracer.end_interval();
        tracer.events(&mut output)?;
        output.clock = KernelClock::measure();
        let end = output.clock.wall(end_ns);
        let seconds = end_ns.saturating_sub(began_ns) as f64 / 1e9;
        tracer.report(&mut output, Interval { start, end, seconds: (seconds * 1e6).round() / 1e6 })?;
        output.emitter.flush()?;
        (start, began_ns) = (end, end_ns);
        if last {
            if ended {
                log(format_args!("--pid: no such process is left"));
            }
            break;
        }
    }
    if !stop.reader_gone() {
        tracer.end(&mut output, start)?;
    }
    output.emitter.finish(common.verbose)
}

/// Sleeps until `deadline`, a stop, the end of a process, or, with a ring buffer, until events may be waiting.
fn wait(stop: &Stop, ring: Option<BorrowedFd<'_>>, pids: &PidWatch, deadline: Instant) -> Result<()> {
    let mut left = deadline.saturating_duration_since(Instant::now());
    let mut fds = vec![PollFd::from_borrowed_fd(stop.fd(), PollFlags::IN)];
    if let Some(ring) = ring {
        left = left.min(EVENTS_EVERY);
        fds.push(PollFd::from_borrowed_fd(ring, PollFlags::IN));
    }
    fds.extend(pids.fds().map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
    let timeout = Timespec::try_from(left).context("an interval too long to wait for")?;
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait"),
    }
}
