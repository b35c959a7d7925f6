//! The queue of one sink: gathers lines into batches, and bounds the memory that all of its pending data takes.
//!
//! The reading thread adds lines through [`Queue::intake`], and asks for room before it reads on. The delivering
//! thread takes batches. Whatever takes memory holds a [`Room`], which returns it to the [`Budget`] when dropped.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Batch;
use super::account::{Account, Pending};
use super::pool::Pool;
use super::spool::cursor::OpenBatch;
use crate::common::time::Timestamp;

/// When a batch is complete.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// It has this many lines.
    pub lines: usize,
    /// Another line would exceed this many bytes. A longer line is a batch of its own.
    pub bytes: usize,
    /// Its first line was read this long ago.
    pub age: Duration,
}

impl Limits {
    /// What suits most destinations.
    pub const DEFAULT: Self = Self { lines: 10_000, bytes: 1 << 20, age: Duration::from_secs(1) };
}

/// The limits that the user sets.
#[derive(Clone, Copy, Debug, Default)]
pub struct LimitOptions {
    /// [`Limits::lines`]
    pub lines: Option<usize>,
    /// [`Limits::bytes`]
    pub bytes: Option<usize>,
    /// [`Limits::age`]
    pub age: Option<Duration>,
}

impl LimitOptions {
    /// These limits, and those of a sink where none is set.
    pub fn or(self, sink: Limits) -> Limits {
        Limits {
            lines: self.lines.unwrap_or(sink.lines),
            bytes: self.bytes.unwrap_or(sink.bytes),
            age: self.age.unwrap_or(sink.age),
        }
    }
}

/// How much memory the pending data of a sink may take.
pub struct Budget {
    used: Mutex<Used>,
    freed: Condvar,
}

struct Used {
    limit: usize,
    bytes: usize,
    /// What complete batches take that wait for the sink.
    ahead: usize,
    /// When the sink took a batch last.
    taken: Instant,
}

/// A part of a budget that is in use.
pub struct Room {
    budget: Arc<Budget>,
    bytes: usize,
}

/// How much may wait for a sink that keeps up: reading further ahead of it would only take memory.
const AHEAD: usize = 2 << 20;
/// A sink keeps up while it takes a batch at least this often.
const KEEPS_UP: Duration = Duration::from_millis(100);

impl Budget {
    /// A budget of `limit` bytes.
    pub fn new(limit: usize) -> Arc<Self> {
        let used = Used { limit, bytes: 0, ahead: 0, taken: Instant::now() };
        Arc::new(Self { used: Mutex::new(used), freed: Condvar::new() })
    }

    /// Uses `bytes`, even beyond the limit.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Room {
        let mut room = Room { budget: self.clone(), bytes: 0 };
        room.grow(bytes);
        room
    }

    /// Waits up to `patience` until less than the limit is used; false if it is not. While the sink keeps up, waits
    /// until it is less than [`AHEAD`] behind.
    pub fn wait(&self, patience: Duration) -> bool {
        let end = Instant::now() + patience;
        let mut used = self.lock();
        loop {
            let until = match &*used {
                used if used.bytes >= used.limit => end,
                used if used.ahead >= AHEAD => end.min(used.taken + KEEPS_UP),
                _ => return true,
            };
            let wait = until.saturating_duration_since(Instant::now());
            if wait.is_zero() {
                return used.bytes < used.limit;
            }
            used = self.freed.wait_timeout(used, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A complete batch waits for the sink.
    fn waits(&self, room: &Room) {
        self.lock().ahead += room.bytes;
    }

    /// The sink takes the batch.
    fn taken(&self, room: &Room) {
        let mut used = self.lock();
        used.ahead -= room.bytes;
        used.taken = Instant::now();
        self.freed.notify_all();
    }

    /// Whether no more than `excess` bytes above the limit are used.
    pub fn within(&self, excess: usize) -> bool {
        let used = self.lock();
        used.bytes <= used.limit.saturating_add(excess)
    }

    /// Changes the limit. More may be in use at that moment.
    pub fn set_limit(&self, limit: usize) {
        let mut used = self.lock();
        used.limit = limit;
        self.freed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    /// Uses `bytes` more.
    fn grow(&mut self, bytes: usize) {
        self.budget.lock().bytes += bytes;
        self.bytes += bytes;
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.budget.lock().bytes -= self.bytes;
        self.budget.freed.notify_all();
    }
}

/// The memory that a batch takes in addition to its lines, so that many small batches count too.
const BATCH_COST: usize = 512;
/// The same for a line.
const LINE_COST: usize = 3 * size_of::<u64>();

/// A batch on its way, with the lines that it must account for.
pub struct Queued {
    /// The lines.
    pub batch: Batch,
    /// The same lines in the ledger.
    pub pending: Pending,
    /// The memory that they take.
    pub room: Room,
    /// Where the batch comes from.
    pub origin: Origin,
    /// If set, the encoder's state must be stored before this batch, as the state before the line with this offset.
    pub snapshot: Option<u64>,
}

/// Where a batch comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It was not sent yet.
    Fresh,
    /// It was on its way when the previous run ended: make the same requests again.
    Repeated(OpenBatch),
    /// It was delivered: only the state of the encoder needs it.
    Rebuilt,
}

impl Queued {
    /// A batch from the spool.
    pub fn from_spool(
        batch: Batch,
        pending: Pending,
        budget: &Arc<Budget>,
        origin: Origin,
        snapshot: Option<u64>,
    ) -> Self {
        let room = budget.take(BATCH_COST + batch.bytes() + batch.len() * LINE_COST);
        Self { batch, pending, room, origin, snapshot }
    }
}

/// The queue of one sink.
pub struct Queue {
    /// When a batch is complete.
    pub limits: Limits,
    budget: Arc<Budget>,
    account: Arc<Account>,
    /// Memory for batches.
    pub(super) pool: Pool,
    state: Mutex<State>,
    ready: Notify,
}

#[derive(Default)]
struct State {
    /// Not complete yet.
    gathering: Option<Queued>,
    complete: VecDeque<Queued>,
    closed: bool,
    abandoned: bool,
}

impl Queue {
    /// An empty queue.
    pub fn new(limits: Limits, budget: Arc<Budget>, account: Arc<Account>) -> Self {
        Self {
            limits,
            budget,
            account,
            pool: Pool::with_room(limits.bytes),
            state: Mutex::default(),
            ready: Notify::new(),
        }
    }

    /// Adds the lines of one read, which happened now.
    pub fn intake(&self) -> Intake<'_> {
        let (received, since) = (Timestamp::now(), Instant::now());
        Intake { queue: self, state: self.lock(), received, since, uncounted: 0, refused: 0 }
    }

    /// Adds a complete batch.
    pub fn push(&self, queued: Queued) {
        let mut state = self.lock();
        if !state.abandoned {
            self.budget.waits(&queued.room);
            state.complete.push_back(queued);
            self.ready.notify_one();
        }
    }

    /// Declares that no more lines follow.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Drops everything in the queue, and everything that follows.
    pub fn abandon(&self) {
        let left = std::mem::replace(&mut *self.lock(), State { abandoned: true, ..State::default() });
        // After the lock is released: it settles lines and frees memory.
        drop(left);
        self.ready.notify_one();
    }

    /// True after [`Queue::abandon`].
    pub fn abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// Takes the next batch as soon as it is complete or old enough; `None` at the end of the queue.
    pub async fn next(&self) -> Option<Queued> {
        loop {
            let due = {
                let mut state = self.lock();
                if let Some(queued) = state.complete.pop_front() {
                    self.budget.taken(&queued.room);
                    return Some(queued);
                }
                let due = state.gathering.as_ref().map(|queued| queued.batch.since + self.limits.age);
                if state.closed || due.is_some_and(|due| due <= Instant::now()) {
                    return state.gathering.take();
                }
                if state.abandoned {
                    return None;
                }
                due
            };
            match due {
                Some(due) => drop(tokio::time::timeout_at(due.into(), self.ready.notified()).await),
                None => self.ready.notified().await,
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Adds lines to a queue, which stays locked meanwhile: no line is delivered before it is counted.
pub struct Intake<'a> {
    queue: &'a Queue,
    state: MutexGuard<'a, State>,
    received: Timestamp,
    since: Instant,
    /// Lines of the batch being gathered that the ledger does not have yet.
    uncounted: u64,
    /// Lines for a queue that was abandoned.
    refused: u64,
}

impl Intake<'_> {
    /// Adds a line.
    pub fn push(&mut self, offset: u64, line: &[u8]) {
        if self.state.abandoned {
            self.refused += 1;
            return;
        }
        let Limits { lines, bytes, .. } = self.queue.limits;
        if self.state.gathering.as_ref().is_some_and(|queued| queued.batch.bytes() + line.len() > bytes) {
            self.complete();
        }
        let queued = self.state.gathering.get_or_insert_with(|| Queued {
            batch: Batch::begun(self.since, &self.queue.pool),
            pending: self.queue.account.read(offset, self.since, 0),
            room: self.queue.budget.take(BATCH_COST),
            origin: Origin::Fresh,
            snapshot: None,
        });
        queued.batch.push_received(offset, self.received, line);
        self.uncounted += 1;
        if queued.batch.len() >= lines || queued.batch.bytes() >= bytes {
            self.complete();
        }
    }

    /// Counts what the batch being gathered has got since it was counted last.
    fn count(&mut self) {
        let uncounted = std::mem::take(&mut self.uncounted);
        if let Some(Queued { batch, pending, room, .. }) = &mut self.state.gathering {
            pending.merge(self.queue.account.read(batch.offset(0), batch.since, uncounted));
            let cost = BATCH_COST + batch.bytes() + batch.len() * LINE_COST;
            room.grow(cost.saturating_sub(room.bytes));
        }
    }

    fn complete(&mut self) {
        self.count();
        if let Some(queued) = self.state.gathering.take() {
            self.queue.budget.waits(&queued.room);
            self.state.complete.push_back(queued);
        }
    }
}

impl Drop for Intake<'_> {
    fn drop(&mut self) {
        self.count();
        drop(self.queue.account.read(u64::MAX, self.since, self.refused));
        self.queue.ready.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::account::Outcome;

    const NO_LIMITS: Limits = Limits { lines: usize::MAX, bytes: usize::MAX, age: Duration::from_secs(3600) };

    fn queue(limits: Limits, bytes: usize) -> (Arc<Queue>, Arc<Budget>, Arc<Account>) {
        let (budget, account) = (Budget::new(bytes), Arc::new(Account::new()));
        (Arc::new(Queue::new(limits, budget.clone(), account.clone())), budget, account)
    }

    fn push(queue: &Queue, offset: u64, bytes: usize) {
        queue.intake().push(offset, &vec![b'x'; bytes]);
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(future)
    }

    #[test]
    fn batches_are_cut_by_lines_and_bytes() {
        let sizes = |limits: Limits, lines: &[usize]| {
            let (queue, _, _) = queue(limits, usize::MAX);
            let mut intake = queue.intake();
            for (offset, length) in lines.iter().enumerate() {
                intake.push(offset as u64, &vec![b'x'; *length]);
            }
            drop(intake);
            queue.close();
            let mut sizes = Vec::new();
            while let Some(queued) = block_on(queue.next()) {
                assert_eq!(queued.pending.lines(), queued.batch.len() as u64);
                sizes.push(queued.batch.len());
            }
            sizes
        };
        let limits = Limits { lines: 3, bytes: 100, ..NO_LIMITS };
        assert_eq!(sizes(limits, &[1; 7]), [3, 3, 1]);
        assert_eq!(sizes(limits, &[50, 50, 1]), [2, 1]);
        assert_eq!(sizes(limits, &[60, 41, 500, 1]), [1, 1, 1, 1]);
    }

    #[test]
    fn a_batch_is_taken_when_it_is_old_enough() {
        let (queue, ..) = queue(Limits { age: Duration::from_millis(50), ..NO_LIMITS }, usize::MAX);
        push(&queue, 0, 10);
        push(&queue, 1, 10);
        let begin = Instant::now();
        assert_eq!(block_on(queue.next()).unwrap().batch.len(), 2);
        assert!(begin.elapsed() >= Duration::from_millis(40));
    }

    #[test]
    fn room_returns_when_the_batch_is_gone() {
        let (queue, budget, account) = queue(Limits { lines: 1, ..NO_LIMITS }, 1000);
        assert!(budget.wait(Duration::ZERO));
        push(&queue, 0, 900);
        assert!(!budget.wait(Duration::from_millis(1)));
        let queued = block_on(queue.next()).unwrap();
        assert!(!budget.wait(Duration::from_millis(1)), "a batch on its way takes memory");
        queued.pending.settle(Outcome::Delivered);
        drop(queued.room);
        assert!(budget.wait(Duration::ZERO));
        assert_eq!(account.counts().delivered, 1);
    }

    #[test]
    fn reading_waits_for_a_sink_that_keeps_up() {
        let (queue, budget, _) = queue(Limits { lines: 1, ..NO_LIMITS }, usize::MAX);
        let begin = Instant::now();
        push(&queue, 0, AHEAD);
        assert!(budget.wait(Duration::from_secs(20)), "the sink takes nothing");
        assert!(begin.elapsed() >= KEEPS_UP / 2);
        let begin = Instant::now();
        assert!(budget.wait(Duration::from_secs(20)) && begin.elapsed() < Duration::from_secs(10));
        let waiter = std::thread::spawn(move || budget.wait(Duration::from_secs(20)));
        assert_eq!(block_on(queue.next()).unwrap().batch.bytes(), AHEAD);
        assert!(waiter.join().unwrap());
        assert_eq!(queue.budget.lock().ahead, 0);
    }

    #[test]
    fn an_abandoned_queue_drops_what_it_has_and_gets() {
        let (queue, budget, account) = queue(NO_LIMITS, 100);
        push(&queue, 0, 200);
        let waiter = std::thread::spawn(move || budget.wait(Duration::from_secs(20)));
        queue.abandon();
        assert!(waiter.join().unwrap());
        push(&queue, 1, 200);
        assert!(block_on(queue.next()).is_none());
        let counts = account.counts();
        assert_eq!((counts.read, counts.dropped, counts.pending), (2, 2, 0));
    }
}
