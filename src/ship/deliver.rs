//! From a queue to a destination: encode, send, and act on the verdict.
//!
//! One thread per sink, with a runtime of its own; nothing else in tele-ship
//! knows about tasks and futures. This is the one place where verdicts are
//! handled, and where the lines of a sink are settled.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::Notify;

use super::account::{Account, Counts, Fate};
use super::backoff::Backoff;
use super::queue::Queue;
use super::{Batch, Encoded, Request, Sink, Verdict};
use crate::common::diag::{excerpt, log};

/// How many rejected lines a sink shows.
pub(super) const SHOWN: u64 = 5;
/// How often an outage that goes on is mentioned.
const REMIND: Duration = Duration::from_secs(60);
/// The longest wait of ours while the program is ending.
const HURRIED: Duration = Duration::from_secs(1);

/// What belongs to one sink and is shared by those who read, deliver and report.
pub struct Lane {
    /// The sink's name.
    pub name: &'static str,
    /// What waits for it.
    pub queue: Queue,
    /// What became of what it got.
    pub account: Account,
    /// When the batch that is being gathered was begun, if there is one.
    gathering: Mutex<Option<Instant>>,
    /// The destination was a reader, and it left.
    reader_left: AtomicBool,
    hurried: AtomicBool,
    hurry: Notify,
}

impl Lane {
    /// For a sink of that name, with a queue of about `limit` bytes.
    pub fn new(name: &'static str, limit: usize) -> Self {
        Self {
            name,
            queue: Queue::new(limit),
            account: Account::default(),
            gathering: Mutex::default(),
            reader_left: AtomicBool::new(false),
            hurried: AtomicBool::new(false),
            hurry: Notify::new(),
        }
    }

    /// Says since when lines are gathered that are in no batch yet.
    pub fn gather(&self, since: Option<Instant>) {
        *self.gathering.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }

    /// The counts, and how long the oldest line that is pending has waited: none if none is.
    pub fn state(&self) -> (Counts, Option<Duration>) {
        loop {
            let counts = self.account.counts();
            let gathering = || *self.gathering.lock().unwrap_or_else(PoisonError::into_inner);
            let oldest = self.queue.oldest().or_else(gathering);
            // A line is in the queue or gathered whenever it is pending. If that is not what is seen,
            // the last one was settled meanwhile: look again.
            match oldest.filter(|_| counts.pending > 0) {
                None if counts.pending > 0 => std::thread::yield_now(),
                oldest => return (counts, oldest.map(|since| since.elapsed())),
            }
        }
    }

    /// The program is ending: wait no longer than a moment between attempts.
    pub fn hurry(&self) {
        self.hurried.store(true, Ordering::Release);
        self.hurry.notify_one();
    }

    /// Whether something is missing at the destination that a reader did not choose to miss.
    pub fn failed(&self) -> bool {
        !self.account.counts().complete() && !self.reader_left.load(Ordering::Acquire)
    }

    /// Gives up on a destination whose reader left, which is no failure.
    pub fn reader_left(&self) {
        self.reader_left.store(true, Ordering::Release);
        self.abandon();
    }

    /// Gives up on the destination: what waits, and what will come, is dropped.
    pub fn abandon(&self) {
        self.queue.abandon();
        self.account.abandon();
    }

    /// Counts and, if it is among the first, shows a line that nobody can take.
    fn reject(&self, batch: &Batch, index: usize, reason: &str) {
        self.account.settle(1, Fate::Rejected);
        let rejected = self.account.counts().rejected;
        if rejected <= SHOWN {
            let (number, text) = (batch.offset(index) + 1, excerpt(batch.line(index)));
            log(format_args!("{}: line {number} rejected: {reason}: {text}", self.name));
        }
        if rejected == SHOWN {
            log(format_args!("{}: more rejected lines are counted, not shown", self.name));
        }
    }
}

/// Delivers until the queue ends.
pub fn run<S: Sink>(runtime: &Runtime, sink: S, lane: &Lane) {
    runtime.block_on(async {
        let mut delivery = Delivery { sink, lane, outage: None, told: None };
        while let Some(batch) = lane.queue.first().await {
            delivery.batch(batch).await;
            lane.queue.settled();
        }
    });
}

struct Delivery<'a, S> {
    sink: S,
    lane: &'a Lane,
    outage: Option<Outage>,
    /// What the server said last beside success, so that it is told once.
    told: Option<(bool, Option<String>)>,
}

struct Outage {
    since: Instant,
    mentioned: Instant,
}

/// A request, and the batch that its line indices refer to.
type Work<B> = (Arc<Batch>, Request<B>);

impl<S: Sink> Delivery<'_, S> {
    async fn batch(&mut self, batch: Arc<Batch>) {
        let mut work = Vec::new();
        self.encode(batch, &mut work);
        while let Some((batch, request)) = work.pop() {
            match self.send(&request.body).await {
                Verdict::Delivered { rejected_items, message } => {
                    self.delivered(&request, rejected_items, message);
                }
                Verdict::Split { .. } if request.lines.len() > 1 => {
                    let (first, second) = request.lines.split_at(request.lines.len() / 2);
                    self.encode(Arc::new(batch.select(second)), &mut work);
                    self.encode(Arc::new(batch.select(first)), &mut work);
                }
                Verdict::Split { reason } | Verdict::Reject { reason } => {
                    self.lane.account.items(request.items, request.items);
                    for &index in &request.lines {
                        self.lane.reject(&batch, index, &reason);
                    }
                }
                Verdict::Gone { reason } => return self.gone(reason.as_deref()),
                Verdict::Retry { .. } => {}
            }
        }
    }

    /// Adds the requests of a batch, the first on top, and settles what needs none.
    fn encode(&mut self, batch: Arc<Batch>, work: &mut Vec<Work<S::Body>>) {
        let Encoded { requests, rejected, empty: _ } = self.sink.encode(&batch);
        let carried: usize = requests.iter().map(|request| request.lines.len()).sum();
        let silent = batch.len().saturating_sub(carried + rejected.len());
        self.lane.account.settle(silent as u64, Fate::Delivered);
        for (index, reason) in rejected {
            self.lane.reject(&batch, index, &reason);
        }
        work.extend(requests.into_iter().rev().map(|request| (batch.clone(), request)));
    }

    /// Tries until the verdict is another than "not now".
    async fn send(&mut self, body: &S::Body) -> Verdict {
        let mut backoff = Backoff::default();
        loop {
            let verdict = self.sink.send(body).await;
            self.lane.account.tried(matches!(verdict, Verdict::Retry { .. }));
            let Verdict::Retry { after, reason } = verdict else {
                self.recovered();
                return verdict;
            };
            self.failed(&reason);
            self.pause(&mut backoff, after).await;
        }
    }

    /// Ending is a reason to wait less, but not to press a server that asked for time.
    async fn pause(&self, backoff: &mut Backoff, wish: Option<Duration>) {
        let hurried = self.lane.hurried.load(Ordering::Acquire);
        let wait = backoff.next(wish, if hurried { HURRIED } else { Duration::MAX });
        match wish {
            Some(_) => tokio::time::sleep(wait).await,
            None => drop(tokio::time::timeout(wait, self.lane.hurry.notified()).await),
        }
    }

    fn delivered(&mut self, request: &Request<S::Body>, rejected_items: u64, message: Option<String>) {
        self.lane.account.settle(request.lines.len() as u64, Fate::Delivered);
        self.lane.account.items(request.items, rejected_items);
        let answer = (rejected_items > 0, message);
        if answer == (false, None) || self.told.as_ref() == Some(&answer) {
            return;
        }
        let text = answer.1.as_deref().map_or("no reason given".into(), |text| excerpt(text.as_bytes()));
        let name = self.lane.name;
        match rejected_items {
            0 => log(format_args!("{name}: the server warns: {text}")),
            items => log(format_args!("{name}: the server refused {items} items of a request: {text}")),
        }
        self.told = Some(answer);
    }

    fn gone(&self, reason: Option<&str>) {
        let Some(reason) = reason else { return self.lane.reader_left() };
        log(format_args!("{}: {reason}; nothing more is written there", self.lane.name));
        self.lane.abandon();
    }

    fn failed(&mut self, reason: &str) {
        let (name, now) = (self.lane.name, Instant::now());
        let waiting = self.lane.account.counts().pending;
        match &mut self.outage {
            None => {
                log(format_args!("{name}: {reason}; trying again until it works"));
                self.outage = Some(Outage { since: now, mentioned: now });
            }
            Some(outage) if now - outage.mentioned >= REMIND => {
                let secs = (now - outage.since).as_secs();
                log(format_args!("{name}: {reason}; since {secs} s; {waiting} lines wait"));
                outage.mentioned = now;
            }
            Some(_) => {}
        }
    }

    fn recovered(&mut self) {
        if let Some(Outage { since, .. }) = self.outage.take() {
            let secs = since.elapsed().as_secs_f64();
            log(format_args!("{}: works again after {secs:.1} s", self.lane.name));
        }
    }
}
