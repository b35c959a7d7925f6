//! The state of a sink, or of a signal of it, that the threads which read, deliver and report share.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use super::Batch;
use super::account::{Account, Counts, Outcome, Pending};
use super::dead_letter::{DeadLetter, DeadLetters};
use super::line::Signal;
use super::pool::Pool;
use super::queue::{Budget, Limits, Queue};
use super::spool::progress::Progress;

/// A sink at work.
pub struct SinkWorker {
    /// The sink's name.
    pub name: &'static str,
    /// The signal that it delivers; `None` for all.
    pub signal: Option<Signal>,
    /// The batches to encode.
    pub queue: Queue,
    /// The memory that pending data takes.
    pub budget: Arc<Budget>,
    /// The most memory that `budget` may allow.
    queue_bytes: usize,
    /// The outcome of every line. The signals of a sink share it.
    pub account: Arc<Account>,
    /// False for a destination that is waited for without limit after the end of input.
    pub is_bounded: bool,
    /// How old a line may become while attempts to deliver it fail.
    pub max_age: Option<Duration>,
    /// Its cursor, if there is a spool.
    pub progress: Option<Arc<Progress>>,
    dead_letters: Arc<dyn DeadLetters>,
    reader_left: AtomicBool,
    finished: AtomicBool,
    ending: AtomicBool,
    end: Notify,
}

/// What the signals of a sink share.
#[derive(Clone)]
pub struct Shared {
    /// The outcome of every line.
    pub account: Arc<Account>,
    /// Memory for batches.
    pub pool: Pool,
}

impl SinkWorker {
    /// The state of a sink that has not started.
    pub fn new(
        name: &'static str,
        is_bounded: bool,
        limits: Limits,
        queue_bytes: usize,
        dead_letters: Arc<dyn DeadLetters>,
    ) -> Self {
        let (budget, account) = (Budget::new(queue_bytes), Arc::new(Account::new()));
        Self {
            name,
            signal: None,
            queue: Queue::new(limits, budget.clone(), account.clone()),
            budget,
            queue_bytes,
            account,
            is_bounded,
            max_age: None,
            progress: None,
            dead_letters,
            reader_left: AtomicBool::new(false),
            finished: AtomicBool::new(false),
            ending: AtomicBool::new(false),
            end: Notify::new(),
        }
    }

    /// Makes it one of several that deliver a signal each.
    pub fn only(mut self, signal: Signal, shared: Shared) -> Self {
        self.queue = Queue::new(self.queue.limits, self.budget.clone(), shared.account.clone());
        self.queue.pool = shared.pool;
        (self.signal, self.account) = (Some(signal), shared.account);
        self
    }

    /// The counts, and for how long the oldest pending line has waited.
    pub fn state(&self) -> (Counts, Option<Duration>) {
        let (counts, oldest) = self.account.state();
        (counts, oldest.map(|since| since.elapsed()))
    }

    /// With a spool, limits the memory to what this many requests in flight and a batch that waits need.
    pub fn fit(&self, in_flight: usize) {
        if self.progress.is_some() {
            let bytes = self.queue.limits.bytes.saturating_mul(2 * in_flight + 1);
            self.budget.set_limit(bytes.min(self.queue_bytes));
        }
    }

    /// The program ends: shortens the delays between attempts.
    pub fn hurry(&self) {
        self.ending.store(true, Ordering::Release);
        self.end.notify_one();
    }

    /// Whether the program ends.
    pub fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Acquire)
    }

    /// Waits for [`SinkWorker::hurry`].
    pub async fn ending(&self) {
        self.end.notified().await;
    }

    /// Whether the thread of the sink has ended.
    pub fn is_finished(&self) -> bool {
        self.finished.load(Ordering::Acquire)
    }

    /// The thread of the sink ends.
    pub fn finish(&self) {
        self.finished.store(true, Ordering::Release);
    }

    /// Whether lines are undelivered for a reason other than a reader that left.
    pub fn has_failed(&self) -> bool {
        !self.account.counts().complete() && !self.reader_left.load(Ordering::Acquire)
    }

    /// The reader of stdout left, which is no failure: drops what waits and what follows.
    pub fn reader_left(&self) {
        self.reader_left.store(true, Ordering::Release);
        self.queue.abandon();
    }

    /// Settles a line of a batch that this sink cannot deliver.
    pub fn refuse(&self, batch: &Batch, index: usize, reason: &str, pending: Pending) {
        let (offset, line) = (batch.offset(index), batch.line(index));
        let letter = DeadLetter { sink: self.name, offset, line, is_part: false, reason };
        self.refuse_line(&letter, pending);
    }

    /// Settles a line that no sink can deliver.
    pub fn refuse_line(&self, letter: &DeadLetter<'_>, pending: Pending) {
        let kept = self.dead_letters.keep(letter);
        pending.settle(if kept { Outcome::DeadLettered } else { Outcome::Rejected });
    }
}
