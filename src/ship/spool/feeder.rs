//! Feeds a queue from the spool: first the batches of the previous run, then new ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cursor::OpenBatch;
use super::progress::{Progress, RETRY};
use super::segment::Block;
use super::store::{Found, Reader};
use super::writer::{COMMIT_INTERVAL, Outage};
use crate::common::diag::log;
use crate::common::time::Timestamp;
use crate::ship::Batch;
use crate::ship::queue::{Limits, Origin, Queued};
use crate::ship::worker::SinkWorker;

/// The most batches on their way: a cursor lists them all.
const MAX_OPEN: usize = 4096;
/// How many batches are made durable at once, at most.
const GROUP: usize = 8;
/// How long to wait for lines while nothing is on its way.
const IDLE: Duration = Duration::from_millis(250);

/// Moves lines from the spool to a queue, in batches whose ranges are durable.
pub struct Feeder {
    worker: Arc<SinkWorker>,
    progress: Arc<Progress>,
    limits: Limits,
    reader: Reader,
    gathering: Option<Batch>,
    ready: Vec<Queued>,
    /// The segment that was being read when the last batch was made.
    segment: Option<u64>,
    /// The last segment that [`Feeder::pass`] has handled.
    passed: Option<u64>,
    outage: Outage,
}

/// What [`Feeder::read`] found.
enum Piece {
    Lines(Block, Vec<u8>),
    /// So many lines are damaged or missing.
    Lost(u64),
    Nothing,
}

impl Feeder {
    /// A feeder that continues where `progress` is.
    pub fn new(worker: Arc<SinkWorker>, progress: Arc<Progress>, limits: Limits) -> Self {
        let reader = Reader::new(progress.spool().clone(), progress.low(), progress.signal());
        let (gathering, ready, outage) = (None, Vec::new(), Outage::default());
        Self { worker, progress, limits, reader, gathering, ready, segment: None, passed: None, outage }
    }

    /// Feeds until [`Progress::stop`], or the queue is abandoned; then saves the cursor. The queue is closed when the
    /// spool is closed and everything is in the queue.
    pub fn run(mut self) {
        let (mut saved, mut ended) = (Instant::now(), false);
        // The batches of a queue that was abandoned stay in the cursor.
        while !self.progress.is_stopped() && !self.worker.queue.abandoned() {
            if saved.elapsed() >= COMMIT_INTERVAL {
                self.save();
                saved = Instant::now();
            }
            let is_full = !self.worker.budget.wait(COMMIT_INTERVAL) || self.progress.batches() >= MAX_OPEN;
            if ended || is_full {
                std::thread::sleep(COMMIT_INTERVAL);
                continue;
            }
            let more = self.fill();
            if !self.release() {
                break;
            }
            if more {
                continue;
            }
            let is_idle = self.gathering.is_none() && self.progress.batches() == 0;
            let patience = if is_idle { IDLE } else { COMMIT_INTERVAL };
            if !self.progress.spool().wait(self.reader.at(), patience) {
                self.complete();
                if !self.release() {
                    break;
                }
                self.worker.queue.close();
                // What still counts as waiting are lines that an earlier version took for another signal.
                self.worker.account.wait_no_more(self.progress.signal());
                ended = true;
            }
        }
        if self.gathering.is_none() && self.ready.is_empty() && self.progress.next_again().1.is_none() {
            self.progress.skip(self.reader.at());
        }
        self.save();
        // They are pending, and stay in the cursor.
        std::mem::forget(std::mem::take(&mut self.ready));
    }

    /// Reads what comes next: lines before a batch of the previous run, the batch, or new lines. False if there was
    /// nothing.
    pub(super) fn fill(&mut self) -> bool {
        let (end, again) = self.progress.next_again();
        match again {
            _ if self.gathering.is_none() && self.reader.at() < end => self.rebuild(end),
            Some(open) => self.repeat(open),
            None => return self.gather(),
        }
        true
    }

    /// Passes lines that were delivered to the encoder, which needs them to have the state that it had.
    fn rebuild(&mut self, end: u64) {
        if !self.progress.has_state() {
            return self.reader.seek(end);
        }
        let mut batch = Batch::new();
        while self.reader.at() < end && batch.bytes() < self.limits.bytes {
            let at = self.reader.at();
            match self.read(end) {
                Piece::Lines(block, bytes) => self.add_again(&mut batch, block, &bytes, at..end),
                Piece::Lost(_) => {}
                Piece::Nothing => break,
            }
        }
        self.push(batch, Origin::Rebuilt);
    }

    /// Makes a batch of the previous run again.
    fn repeat(&mut self, mut open: OpenBatch) {
        let mut batch = Batch::new();
        while self.reader.at() < open.end {
            let at = self.reader.at();
            match self.read(open.end) {
                Piece::Lines(block, bytes) => self.add_again(&mut batch, block, &bytes, at..open.end),
                Piece::Lost(_) => {}
                Piece::Nothing if self.progress.is_stopped() => return,
                Piece::Nothing => break,
            }
        }
        let lines = batch.len() as u64;
        self.lost(open.lines.saturating_sub(lines));
        if batch.is_empty() {
            return self.progress.repeated(None);
        }
        (open.first, open.lines) = (batch.offset(0), lines);
        self.push(batch, Origin::Repeated(open));
    }

    /// Adds lines of an earlier run to a batch.
    fn add_again(&self, batch: &mut Batch, block: Block, bytes: &[u8], range: std::ops::Range<u64>) {
        let lines = block.split(bytes, self.progress.signal());
        for (offset, line) in lines.filter(|(offset, _)| range.contains(offset)) {
            batch.push_received(offset, block.received, line);
        }
    }

    /// Gathers new lines into batches. False if there were none.
    fn gather(&mut self) -> bool {
        let mut found = false;
        while self.ready.len() < GROUP && self.worker.budget.within(0) {
            let at = self.reader.at();
            match self.read(u64::MAX) {
                Piece::Lines(block, bytes) => {
                    let since = read_at(block.received);
                    let lines = block.split(&bytes, self.progress.signal());
                    for (offset, line) in lines.filter(|(offset, _)| *offset >= at) {
                        self.add(offset, block.received, since, line);
                    }
                }
                Piece::Lost(lines) => {
                    self.lost(lines);
                    if self.gathering.is_none() {
                        self.progress.skip(self.reader.at());
                    }
                }
                Piece::Nothing => break,
            }
            found = true;
        }
        if self.gathering.as_ref().is_some_and(|batch| batch.since.elapsed() >= self.limits.age) {
            self.complete();
        }
        self.pass();
        found
    }

    /// Notes that everything in the segments before was read, so that they are not kept for a signal without lines.
    fn pass(&mut self) {
        let segment = self.reader.segment();
        if self.gathering.is_some() || segment.is_none() || segment == self.passed {
            return;
        }
        self.passed = segment;
        let at = self.reader.at();
        self.progress.skip(at);
        if self.progress.has_state() {
            let pending = self.worker.account.read(at, Instant::now(), 0);
            let (batch, budget) = (Batch::new(), &self.worker.budget);
            self.ready.push(Queued::from_spool(batch, pending, budget, Origin::Rebuilt, Some(at)));
        }
    }

    /// Adds a new line to the batch being gathered.
    fn add(&mut self, offset: u64, received: Timestamp, since: Instant, line: &[u8]) {
        let Limits { lines, bytes, .. } = self.limits;
        if self.gathering.as_ref().is_some_and(|batch| batch.bytes() + line.len() > bytes) {
            self.complete();
        }
        let batch = self.gathering.get_or_insert_with(|| Batch::begun(since, &self.worker.queue.pool));
        batch.push_received(offset, received, line);
        if batch.len() >= lines || batch.bytes() >= bytes {
            self.complete();
        }
    }

    pub(super) fn complete(&mut self) {
        if let Some(batch) = self.gathering.take() {
            self.push(batch, Origin::Fresh);
        }
    }

    fn lost(&self, lines: u64) {
        if lines == 0 {
            return;
        }
        log(format_args!("{}: {lines} lines of the spool are damaged or missing", self.worker.name));
        self.worker.account.lose(self.progress.signal(), lines);
    }

    /// Reads what is next, and before `end`.
    fn read(&mut self, end: u64) -> Piece {
        let found = loop {
            match self.reader.read() {
                Ok(found) => break found,
                Err(error) => {
                    self.outage.report(&format!("{}: cannot read the spool: {error}", self.worker.name))
                }
            }
            std::thread::sleep(RETRY);
            if self.progress.is_stopped() {
                return Piece::Nothing;
            }
        };
        self.outage.end();
        if self.reader.at() > end {
            self.reader.seek(end);
        }
        match found {
            Found::End => Piece::Nothing,
            Found::Gap(_, lines) => Piece::Lost(lines),
            Found::Block(block, bytes) => Piece::Lines(block, bytes),
        }
    }

    /// Gets a batch ready for the queue.
    fn push(&mut self, batch: Batch, origin: Origin) {
        if batch.is_empty() {
            return;
        }
        let (first, count) = (batch.offset(0), batch.len() as u64);
        let (account, signal) = (&self.worker.account, self.progress.signal());
        let pending = match &origin {
            Origin::Rebuilt => account.read(first, batch.since, 0),
            Origin::Fresh => {
                let pending = account.claim(signal, first, batch.since, count);
                self.progress.begin(first, batch.offset(batch.len() - 1) + 1, count);
                pending
            }
            Origin::Repeated(open) => {
                let pending = account.claim(signal, first, batch.since, count);
                self.progress.repeated(Some(open.clone()));
                pending
            }
        };
        let segment = self.reader.segment();
        let is_needed =
            segment != self.segment && self.progress.has_state() && matches!(origin, Origin::Fresh);
        let snapshot = is_needed.then_some(first);
        self.segment = segment;
        self.ready.push(Queued::from_spool(batch, pending, &self.worker.budget, origin, snapshot));
    }

    /// Makes the ranges of the batches that are ready durable, and adds them to the queue. False if the program ends.
    pub(super) fn release(&mut self) -> bool {
        if self.ready.is_empty() {
            return true;
        }
        while !self.save() {
            if self.progress.is_stopped() || self.worker.queue.abandoned() {
                return false;
            }
            std::thread::sleep(RETRY);
        }
        self.ready.drain(..).for_each(|queued| self.worker.queue.push(queued));
        true
    }

    fn save(&mut self) -> bool {
        match self.progress.save() {
            Ok(()) => {
                self.outage.end();
                true
            }
            Err(error) => {
                self.outage.report(&format!("{}: cannot write the cursor: {error}", self.worker.name));
                false
            }
        }
    }
}

/// That time on the monotonic clock.
fn read_at(received: Timestamp) -> Instant {
    let age = Duration::from_nanos(Timestamp::now().0.saturating_sub(received.0));
    let now = Instant::now();
    now.checked_sub(age).unwrap_or(now)
}
