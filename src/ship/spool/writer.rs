//! The thread that appends to the spool what the reading thread read: at once, and then at most every 25 ms.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::store::{Appender, Lines, Spool};
use crate::common::diag::log;
use crate::common::time::Timestamp;
use crate::ship::line::{BySignal, Signal};

/// The shortest time from one commit to the next.
pub const COMMIT_INTERVAL: Duration = Duration::from_millis(25);
/// A block is complete at this size.
const BLOCK: usize = 256 * 1024;
/// The most that is read and not committed, with as much again on its way to the disk.
const BUFFER: usize = 4 << 20;
/// How often to try again after a failure.
const RETRY: Duration = Duration::from_millis(200);
/// How often a failure that lasts is reported.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// Passes lines to the thread.
pub struct Writer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<u64>>,
}

#[derive(Default)]
struct Shared {
    buffer: Mutex<Buffer>,
    changed: Condvar,
}

#[derive(Default)]
struct Buffer {
    blocks: Vec<Lines>,
    bytes: usize,
    since: Option<Instant>,
    closed: bool,
    given_up: bool,
}

impl Writer {
    /// Starts the thread. `committed` gets the number of lines in each commit, and when the first was read, before a
    /// sink can see them; `ended` is called at the end of the thread.
    ///
    /// # Errors
    /// If the system refuses a thread.
    pub fn start(
        spool: Arc<Spool>,
        committed: impl Fn(Instant, BySignal<u64>) + Send + 'static,
        ended: impl FnOnce() + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let seen = shared.clone();
        let run = move || {
            let lost = seen.run(Appender::new(spool), &committed);
            ended();
            lost
        };
        let thread = std::thread::Builder::new().name("spool".into()).spawn(run)?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Adds the lines of one read.
    pub fn intake(&self) -> WriterIntake<'_> {
        WriterIntake { shared: &self.shared, buffer: self.shared.lock(), received: Timestamp::now() }
    }

    /// Waits up to `patience` for room in the buffer; false if there is none.
    pub fn wait(&self, patience: Duration) -> bool {
        let full = |buffer: &mut Buffer| buffer.bytes >= BUFFER;
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), patience, full);
        waited.unwrap_or_else(PoisonError::into_inner).0.bytes < BUFFER
    }

    /// Declares that no more lines follow. What is left is still committed.
    pub fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.changed.notify_all();
    }

    /// Whether everything is committed, after [`Writer::close`].
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Ends the thread. Gives the number of lines that could not be committed.
    pub fn end(&mut self) -> u64 {
        {
            let mut buffer = self.shared.lock();
            (buffer.closed, buffer.given_up) = (true, true);
        }
        self.shared.changed.notify_all();
        self.thread.take().and_then(|thread| thread.join().ok()).unwrap_or(0)
    }
}

/// Adds lines to the buffer, which stays locked meanwhile.
pub struct WriterIntake<'a> {
    shared: &'a Shared,
    buffer: MutexGuard<'a, Buffer>,
    received: Timestamp,
}

impl WriterIntake<'_> {
    /// Adds a line.
    pub fn push(&mut self, line: &[u8]) {
        let buffer = &mut *self.buffer;
        if buffer.blocks.last().is_none_or(|last| last.bytes.len() + line.len() >= BLOCK) {
            let received = self.received;
            buffer.blocks.push(Lines { bytes: Vec::new(), signals: [0; 3], received });
        }
        if let Some(last) = buffer.blocks.last_mut() {
            last.bytes.extend_from_slice(line);
            last.bytes.push(b'\n');
            last.signals[Signal::of_line(line) as usize] += 1;
        }
        buffer.bytes += line.len() + 1;
        buffer.since.get_or_insert_with(Instant::now);
    }
}

impl Drop for WriterIntake<'_> {
    fn drop(&mut self) {
        self.shared.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Buffer> {
        self.buffer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Commits until the buffer is closed and empty. Gives the number of lines that could not be committed.
    fn run(&self, mut appender: Appender, committed: &dyn Fn(Instant, BySignal<u64>)) -> u64 {
        let mut outage = Outage::default();
        loop {
            let mut buffer = self.lock();
            while buffer.blocks.is_empty() && !buffer.closed {
                buffer = self.changed.wait(buffer).unwrap_or_else(PoisonError::into_inner);
            }
            let (blocks, since) = (std::mem::take(&mut buffer.blocks), buffer.since.take());
            buffer.bytes = 0;
            drop(buffer);
            self.changed.notify_all();
            if blocks.is_empty() {
                return 0;
            }
            let begun = Instant::now();
            let lines = count(&blocks);
            while let Err(error) = appender.commit(&blocks, || committed(since.unwrap_or(begun), lines)) {
                outage.report(&match error.kind() {
                    io::ErrorKind::QuotaExceeded => "the spool is full (--spool-max)".to_owned(),
                    io::ErrorKind::StorageFull => "the disk of the spool is full".to_owned(),
                    _ => format!("cannot write to the spool: {error}"),
                });
                let mut buffer = self.lock();
                if buffer.given_up {
                    let more = count(&std::mem::take(&mut buffer.blocks));
                    return lines.iter().chain(&more).sum();
                }
                drop(self.changed.wait_timeout(buffer, RETRY));
            }
            outage.end();
            let left = COMMIT_INTERVAL.saturating_sub(begun.elapsed());
            if !self.lock().closed {
                std::thread::sleep(left);
            }
        }
    }
}

/// The lines of blocks, by signal.
fn count(blocks: &[Lines]) -> BySignal<u64> {
    Signal::ALL.map(|signal| blocks.iter().map(|lines| u64::from(lines.signals[signal as usize])).sum())
}

/// Reports a failure that lasts, every 10 s.
#[derive(Default)]
pub struct Outage {
    since: Option<Instant>,
    reported: Option<Instant>,
}

impl Outage {
    /// It failed, again or for the first time.
    pub fn report(&mut self, what: &str) {
        self.since.get_or_insert_with(Instant::now);
        if self.reported.is_none_or(|at| at.elapsed() >= REPORT_INTERVAL) {
            self.reported = Some(Instant::now());
            log(format_args!("{what}; waiting for that to change"));
        }
    }

    /// It works.
    pub fn end(&mut self) {
        if let Some(since) = self.since.take() {
            self.reported = None;
            log(format_args!("the spool works again after {:.1} s", since.elapsed().as_secs_f64()));
        }
    }
}
