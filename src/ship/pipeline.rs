//! The whole way: read stdin, cut batches, hand them to every sink, and end well.
//!
//! Reading happens on the thread that calls [`Pipeline::run`]; each sink has a
//! thread of its own. When the queue of one is full, reading stops, and the
//! pipe makes whoever writes into it wait. After the first SIGINT or SIGTERM
//! reading goes on for a moment, since in a pipeline the producer got the signal
//! too and writes its last lines; then what waits has until the end of the
//! grace time to arrive.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::account::Fate;
use super::deliver::{self, Lane, SHOWN};
use super::input::{Cutter, Limits, Piece, Splitter};
use super::report::Reporter;
use super::{Batch, Sink};
use crate::common::diag::log;
use crate::common::stop::Stop;

/// How long after a signal lines may still come in: longer than a producer takes to end.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How soon a signal is noticed where a descriptor cannot be waited for.
const GLANCE: Duration = Duration::from_millis(100);
const CHUNK: usize = 256 * 1024;

/// How a pipeline works.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// When a batch is full.
    pub limits: Limits,
    /// Bytes that may wait for a sink before reading stops.
    pub queue_bytes: usize,
    /// How long after a signal what waits may still be delivered.
    pub drain: Duration,
    /// How often to write `ship_stats` records.
    pub stats: Option<Duration>,
}

/// Sinks, and what feeds them.
pub struct Pipeline {
    settings: Settings,
    lanes: Vec<Arc<Lane>>,
    splitter: Splitter,
    cutter: Cutter,
    ended: (Sender<()>, Receiver<()>),
    asked_at: Option<Instant>,
    /// Lines longer than any may be.
    too_long: u64,
}

impl Pipeline {
    /// Without a sink yet.
    pub fn new(settings: Settings) -> Self {
        let (splitter, cutter) = (Splitter::default(), Cutter::new(settings.limits));
        Self { settings, lanes: Vec::new(), splitter, cutter, ended: channel(), asked_at: None, too_long: 0 }
    }

    /// Adds a sink, and starts its thread.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn add<S: Sink + Send + 'static>(&mut self, sink: S) -> Result<()> {
        let lane = Arc::new(Lane::new(sink.name(), self.settings.queue_bytes));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start delivery")?;
        let guard = Ending(lane.clone(), self.ended.0.clone());
        std::thread::Builder::new()
            .name(lane.name.into())
            .spawn(move || deliver::run(&runtime, sink, &guard.0))
            .context("cannot start a thread")?;
        self.lanes.push(lane);
        Ok(())
    }

    /// Delivers what comes on stdin until it ends, or `stop` is asked.
    ///
    /// # Errors
    /// If stdin cannot be read, or not everything that was read arrived.
    pub fn run(mut self, stop: &Stop) -> Result<()> {
        let reporter = Arc::new(Reporter::new(self.lanes.clone(), self.settings.stats));
        let (forced, watching) = (reporter.clone(), reporter.clone());
        stop.on_forced_end(move || forced.summary());
        let (running, ended) = channel();
        let watcher = std::thread::Builder::new().name("report".into()).spawn(move || watching.run(&ended));
        let read = self.read(stop).context("cannot read stdin");
        self.finish(read.as_ref().is_ok_and(|eof| *eof));
        self.drain(stop);
        if stop.reader_gone() {
            self.lanes.iter().for_each(|lane| lane.reader_left());
        }
        drop(running);
        let _ = watcher.context("cannot start a thread")?.join();
        reporter.summary();
        read?;
        if self.lanes.iter().any(|lane| lane.failed()) {
            bail!("not everything was delivered");
        }
        Ok(())
    }

    /// Reads to the end of stdin (true), or until it is time to end (false).
    fn read(&mut self, stop: &Stop) -> rustix::io::Result<bool> {
        let mut buffer = vec![0; CHUNK];
        loop {
            let asked = self.notice(stop);
            let enough = asked.map(|at| at + LAST_LINES.min(self.settings.drain / 2));
            let passed = |time: Option<Instant>| time.is_some_and(|time| Instant::now() >= time);
            if passed(enough) || stop.reader_gone() || self.deserted() {
                return Ok(false);
            }
            let due = self.cutter.due();
            if passed(due) {
                self.push_rest();
                continue;
            }
            let room = self.lanes.iter().all(|lane| lane.queue.wait_for_room(GLANCE));
            if !room || !readable(asked.is_none().then_some(stop), [enough, due].into_iter().flatten().min())?
            {
                continue;
            }
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer[..]) {
                Ok(0) => return Ok(true),
                Ok(length) => self.take(|splitter, each| splitter.feed(&buffer[..length], each)),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// When the program was first seen to be asked to end.
    fn notice(&mut self, stop: &Stop) -> Option<Instant> {
        if stop.asked() && self.asked_at.is_none() {
            self.asked_at = Some(Instant::now());
        }
        self.asked_at
    }

    /// Whether no sink takes anything any more.
    fn deserted(&self) -> bool {
        self.lanes.iter().all(|lane| lane.queue.abandoned())
    }

    /// Counts the lines that `split` gives, then batches them: never is a line settled before it is counted.
    fn take(&mut self, split: impl FnOnce(&mut Splitter, &mut dyn FnMut(Piece<'_>))) {
        let (mut lines, mut full) = (0, Vec::new());
        let (lanes, cutter, too_long) = (&self.lanes, &mut self.cutter, &mut self.too_long);
        split(&mut self.splitter, &mut |piece| match piece {
            Piece::Line(offset, line) => {
                lines += 1;
                cutter.push(offset, line, |batch| full.push(batch));
            }
            Piece::TooLong(offset) => {
                *too_long += 1;
                if *too_long <= SHOWN {
                    log(format_args!("line {} rejected: longer than 1 MiB", offset + 1));
                }
                if *too_long == SHOWN {
                    log(format_args!("more lines that are too long are counted, not shown"));
                }
                lanes.iter().for_each(|lane| lane.account.skip(1, Fate::Rejected));
            }
        });
        // What is pending is seen to wait somewhere at any moment: in the queue, or being gathered.
        let oldest = full.first().map(|batch: &Arc<Batch>| batch.since).or_else(|| self.cutter.since());
        self.lanes.iter().for_each(|lane| lane.gather(oldest));
        self.lanes.iter().for_each(|lane| lane.account.read(lines));
        full.into_iter().for_each(|batch| self.push(batch));
        self.gathered();
    }

    fn gathered(&self) {
        self.lanes.iter().for_each(|lane| lane.gather(self.cutter.since()));
    }

    fn push(&self, batch: Arc<Batch>) {
        self.lanes.iter().for_each(|lane| lane.queue.push(batch.clone()));
    }

    fn push_rest(&mut self) {
        if let Some(batch) = self.cutter.cut() {
            self.push(batch);
            self.gathered();
        }
    }

    /// No more is read: the last lines go their way.
    fn finish(&mut self, eof: bool) {
        if eof {
            self.take(|splitter, each| splitter.end(each));
        } else if self.splitter.unfinished() {
            self.lanes.iter().for_each(|lane| lane.account.skip(1, Fate::Dropped));
        }
        self.push_rest();
        self.lanes.iter().for_each(|lane| lane.queue.close());
    }

    /// Waits until every sink is done, or it is time to end.
    fn drain(&mut self, stop: &Stop) {
        let (mut running, mut hurried) = (self.lanes.len(), false);
        while running > 0 {
            if let Some(asked) = self.notice(stop) {
                if asked.elapsed() >= self.settings.drain || stop.reader_gone() {
                    return;
                }
                if !hurried {
                    self.lanes.iter().for_each(|lane| lane.hurry());
                    hurried = true;
                }
            }
            running -= usize::from(self.ended.1.recv_timeout(GLANCE).is_ok());
        }
    }
}

/// Waits until stdin can be read; false if `stop` is asked or the time comes before.
fn readable(stop: Option<&Stop>, until: Option<Instant>) -> rustix::io::Result<bool> {
    let stdin = rustix::stdio::stdin();
    let mut fds = vec![PollFd::new(&stdin, PollFlags::IN)];
    fds.extend(stop.map(|stop| PollFd::from_borrowed_fd(stop.fd(), PollFlags::IN)));
    let wait = until.map(|until| until.saturating_duration_since(Instant::now()));
    match poll(&mut fds, wait.and_then(|wait| Timespec::try_from(wait).ok()).as_ref()) {
        Ok(_) => Ok(!fds[0].revents().is_empty()),
        Err(Errno::INTR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Tells, however the thread of a sink ends, that it has.
struct Ending(Arc<Lane>, Sender<()>);

impl Drop for Ending {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abandon();
        }
        let _ = self.1.send(());
    }
}
