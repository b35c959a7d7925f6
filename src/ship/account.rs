//! The ledger of a sink: how many lines and items it got, and how each ended.
//!
//! Two identities hold at every moment:
//!
//! - lines: `read = delivered + empty + rejected + dead_lettered + pending + dropped`
//! - items (points, log records, spans, rows): `encoded = accepted + rejected_items`
//!
//! [`Account::read`] gives a [`Pending`] for the lines that it counts. It cannot be copied, and is used up by
//! [`Pending::settle`]; one that is dropped settles its lines as dropped. So each line has exactly one outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::common::hist::Histogram;

use super::line::{BySignal, Signal};

/// The counts of a sink since the program started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines read, without empty ones.
    pub read: u64,
    /// Lines delivered.
    pub delivered: u64,
    /// Valid lines that contain nothing to send.
    pub empty: u64,
    /// Lines refused: not JSON, too long, or refused by the server.
    pub rejected: u64,
    /// Refused lines that were kept in a file.
    pub dead_lettered: u64,
    /// Lines without an outcome yet.
    pub pending: u64,
    /// Lines given up.
    pub dropped: u64,
    /// The same by reason.
    pub dropped_by: [u64; DropReason::COUNT],
    /// Bytes read from the input.
    pub read_bytes: u64,
    /// Batches encoded.
    pub batches: u64,
    /// Bytes of the bodies of requests before and after compression, where there are any.
    pub body_bytes: Option<(u64, u64)>,
    /// Items in settled requests.
    pub encoded: u64,
    /// Items that the destination accepted.
    pub accepted: u64,
    /// Items that it refused.
    pub rejected_items: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed and had to be sent again.
    pub retries: u64,
    /// Series of counters that the encoder evicted to bound its memory.
    pub evicted_series: u64,
}

impl Counts {
    /// True if everything that was read has arrived, to the last item.
    pub fn complete(&self) -> bool {
        self.read == self.delivered + self.empty && self.rejected_items == 0
    }

    fn add(&mut self, outcome: Outcome, lines: u64) {
        let count = match outcome {
            Outcome::Delivered => &mut self.delivered,
            Outcome::Empty => &mut self.empty,
            Outcome::Rejected => &mut self.rejected,
            Outcome::DeadLettered => &mut self.dead_lettered,
            Outcome::Dropped(reason) => {
                self.dropped_by[reason as usize] += lines;
                &mut self.dropped
            }
        };
        *count += lines;
    }
}

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The destination has it.
    Delivered,
    /// It is valid, but contains nothing to send.
    Empty,
    /// It was refused, and is not kept.
    Rejected,
    /// It was refused, and kept among the dead letters.
    DeadLettered,
    /// It was given up.
    Dropped(DropReason),
}

/// Why a line is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The destination accepts nothing any more.
    Gone,
    /// The input ended in the middle of the line.
    CutOff,
    /// The line is damaged or missing in the spool.
    Damaged,
    /// The line could not be written to the spool.
    Unspooled,
}

impl DropReason {
    const COUNT: usize = 4;
}

/// The ledger. The threads that read, deliver and report share it.
pub struct Account(Mutex<State>);

struct State {
    counts: Counts,
    /// Batches with lines that have no outcome yet, by the offset of their first line.
    open: BTreeMap<u64, Open>,
    /// Batches with lines that were dropped, which a spool still has.
    undelivered: BTreeSet<u64>,
    /// Lines in the spool that are in no batch yet, by signal; all are in the first if signals share a queue.
    waiting: BySignal<Waiting>,
    settled_at: Instant,
    latencies: Latencies,
    /// When each endpoint that fails began to fail.
    outages: BTreeMap<usize, Instant>,
}

/// How long requests took, including those that failed.
#[derive(Clone)]
pub struct Latencies {
    /// Since the program started.
    pub total: Histogram,
    /// The sum of them, in nanoseconds.
    pub sum_ns: u64,
    /// Since [`Account::take_latencies`].
    pub interval: Histogram,
    /// The longest of these, in nanoseconds.
    pub interval_max_ns: u64,
}

/// The scale of the histograms: buckets that are 9 % wide.
const SCALE: u32 = 3;

impl Latencies {
    fn record(&mut self, latency: Duration) {
        let ns = u64::try_from(latency.as_nanos()).unwrap_or(u64::MAX);
        self.total.record(ns);
        self.interval.record(ns);
        self.sum_ns = self.sum_ns.saturating_add(ns);
        self.interval_max_ns = self.interval_max_ns.max(ns);
    }
}

impl Default for Latencies {
    fn default() -> Self {
        let empty = Histogram::new(SCALE);
        Self { total: empty.clone(), sum_ns: 0, interval: empty, interval_max_ns: 0 }
    }
}

#[derive(Clone, Copy, Default)]
struct Waiting {
    lines: u64,
    /// When the first of them was read, about.
    since: Option<Instant>,
}

struct Open {
    since: Instant,
    lines: u64,
    /// How many of them are for each endpoint; 0 if all are settled.
    endpoints: BTreeMap<usize, u64>,
}

impl Account {
    /// An empty ledger.
    pub fn new() -> Self {
        Self(Mutex::new(State {
            counts: Counts::default(),
            open: BTreeMap::new(),
            undelivered: BTreeSet::new(),
            waiting: BySignal::default(),
            settled_at: Instant::now(),
            latencies: Latencies::default(),
            outages: BTreeMap::new(),
        }))
    }

    /// The counts at this moment.
    pub fn counts(&self) -> Counts {
        self.lock().counts()
    }

    /// The counts, and when the oldest pending line was read.
    pub fn state(&self) -> (Counts, Option<Instant>) {
        let state = self.lock();
        let waiting = state.waiting.iter().filter_map(|waiting| waiting.since);
        (state.counts(), state.open.values().map(|open| open.since).chain(waiting).min())
    }

    /// The offset of the first line of the oldest batch that is not settled: where a restart would go on.
    pub fn cursor(&self) -> Option<u64> {
        self.lock().open.keys().next().copied()
    }

    /// When a line was settled last, or the program started.
    pub fn settled_at(&self) -> Instant {
        self.lock().settled_at
    }

    /// Counts `lines` that were read into the batch whose first line has the offset `batch`.
    pub fn read(self: &Arc<Self>, batch: u64, since: Instant, lines: u64) -> Pending {
        if lines > 0 {
            let mut state = self.lock();
            state.counts.read += lines;
            state.counts.pending += lines;
            let open = Open { since, lines: 0, endpoints: BTreeMap::new() };
            state.open.entry(batch).or_insert(open).lines += lines;
        }
        Pending { account: self.clone(), batch, lines, endpoint: None }
    }

    /// Counts lines that are in the spool and not in a batch yet. `signal` is set if each signal has a queue.
    pub fn wait(&self, signal: Option<Signal>, since: Instant, lines: u64) {
        let waiting = &mut self.lock().waiting[index(signal)];
        waiting.lines += lines;
        if lines > 0 {
            waiting.since.get_or_insert(since);
        }
    }

    /// No lines wait any more.
    pub fn wait_no_more(&self, signal: Option<Signal>) {
        self.lock().waiting[index(signal)] = Waiting::default();
    }

    /// As [`Account::read`], for lines that waited.
    pub fn claim(
        self: &Arc<Self>,
        signal: Option<Signal>,
        batch: u64,
        since: Instant,
        lines: u64,
    ) -> Pending {
        self.lock().unwait(signal, since, lines);
        self.read(batch, since, lines)
    }

    /// Lines that waited are damaged or missing in the spool.
    pub fn lose(&self, signal: Option<Signal>, lines: u64) {
        let mut state = self.lock();
        state.unwait(signal, Instant::now(), lines);
        state.counts.read += lines;
        state.counts.add(Outcome::Dropped(DropReason::Damaged), lines);
    }

    /// The batches that are not delivered, by the offset of their first line, and the endpoints that need nothing more
    /// from each.
    pub fn open(&self) -> BTreeMap<u64, Vec<usize>> {
        let state = self.lock();
        let done = |open: &Open| -> Vec<usize> {
            open.endpoints.iter().filter(|(_, lines)| **lines == 0).map(|(endpoint, _)| *endpoint).collect()
        };
        let mut open: BTreeMap<_, _> = state.open.iter().map(|(first, open)| (*first, done(open))).collect();
        for first in &state.undelivered {
            open.entry(*first).or_default();
        }
        open
    }

    /// Counts the `items` of a request that is settled, `rejected` of which were refused.
    pub fn items(&self, items: u64, rejected: u64) {
        let counts = &mut self.lock().counts;
        // A server may report more refused items than it got.
        let rejected = rejected.min(items);
        counts.encoded += items;
        counts.accepted += items - rejected;
        counts.rejected_items += rejected;
    }

    /// Sets the number of evicted series, which only grows. If a sink has several encoders, only one has series.
    pub fn set_evicted_series(&self, evicted: u64) {
        let counts = &mut self.lock().counts;
        counts.evicted_series = counts.evicted_series.max(evicted);
    }

    /// Counts bytes of the input.
    pub fn read_bytes(&self, bytes: usize) {
        self.lock().counts.read_bytes += bytes as u64;
    }

    /// Sets the bytes of the bodies of requests, before and after compression, which only grow.
    pub fn set_body_bytes(&self, bytes: Option<(u64, u64)>) {
        let counts = &mut self.lock().counts;
        counts.body_bytes = counts.body_bytes.max(bytes);
    }

    /// Counts a batch that is encoded.
    pub fn batch(&self) {
        self.lock().counts.batches += 1;
    }

    /// Counts a request that was sent to this endpoint; `retry` if it must be sent again.
    pub fn sent(&self, endpoint: usize, latency: Duration, retry: bool) {
        let mut state = self.lock();
        state.counts.requests += 1;
        state.counts.retries += u64::from(retry);
        state.latencies.record(latency);
        if retry {
            state.outages.entry(endpoint).or_insert_with(Instant::now);
        } else {
            state.outages.remove(&endpoint);
        }
    }

    /// When the first of the endpoints that fail began to fail.
    pub fn failing_since(&self) -> Option<Instant> {
        self.lock().outages.values().min().copied()
    }

    /// Returns how long requests took, and begins the next interval.
    pub fn take_latencies(&self) -> Latencies {
        let latencies = &mut self.lock().latencies;
        let taken = latencies.clone();
        (latencies.interval, latencies.interval_max_ns) = (Histogram::new(SCALE), 0);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn counts(&self) -> Counts {
        let waiting: u64 = self.waiting.iter().map(|waiting| waiting.lines).sum();
        let (read, pending) = (self.counts.read + waiting, self.counts.pending + waiting);
        Counts { read, pending, ..self.counts }
    }

    fn unwait(&mut self, signal: Option<Signal>, since: Instant, lines: u64) {
        let waiting = &mut self.waiting[index(signal)];
        waiting.lines = waiting.lines.saturating_sub(lines);
        // The lines that still wait were read later.
        waiting.since = (waiting.lines > 0).then_some(since);
    }
}

fn index(signal: Option<Signal>) -> usize {
    signal.map_or(0, |signal| signal as usize)
}

/// Lines of one batch that were read and have no outcome yet.
#[must_use = "dropping it settles its lines as dropped"]
pub struct Pending {
    account: Arc<Account>,
    batch: u64,
    lines: u64,
    endpoint: Option<usize>,
}

impl Pending {
    /// The number of lines.
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// The offset of the first line of the batch.
    pub fn batch(&self) -> u64 {
        self.batch
    }

    /// These lines are for this endpoint.
    pub fn assign(&mut self, endpoint: usize) {
        if self.lines == 0 || self.endpoint.is_some() {
            return;
        }
        self.endpoint = Some(endpoint);
        if let Some(open) = self.account.lock().open.get_mut(&self.batch) {
            *open.endpoints.entry(endpoint).or_default() += self.lines;
        }
    }

    /// Splits off `lines`, or as many as there are.
    pub fn take(&mut self, lines: u64) -> Self {
        let lines = lines.min(self.lines);
        self.lines -= lines;
        Self { account: self.account.clone(), batch: self.batch, lines, endpoint: self.endpoint }
    }

    /// Adds more lines of the same batch.
    pub fn merge(&mut self, mut more: Self) {
        debug_assert_eq!(self.batch, more.batch);
        self.lines += std::mem::take(&mut more.lines);
    }

    /// Gives these lines their outcome.
    pub fn settle(mut self, outcome: Outcome) {
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Outcome) {
        let lines = std::mem::take(&mut self.lines);
        if lines == 0 {
            return;
        }
        let mut state = self.account.lock();
        state.counts.pending -= lines;
        state.counts.add(outcome, lines);
        state.settled_at = Instant::now();
        if let Some(open) = state.open.get_mut(&self.batch) {
            open.lines -= lines;
            if let Some(left) = self.endpoint.and_then(|endpoint| open.endpoints.get_mut(&endpoint)) {
                *left -= lines;
            }
            if open.lines == 0 {
                state.open.remove(&self.batch);
            }
        }
        if matches!(outcome, Outcome::Dropped(_)) {
            state.undelivered.insert(self.batch);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.finish(Outcome::Dropped(DropReason::Gone));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn assert_identities(account: &Account) {
        let (counts, oldest) = account.state();
        let Counts { read, delivered, empty, rejected, dead_lettered, pending, dropped, .. } = counts;
        assert_eq!(read, delivered + empty + rejected + dead_lettered + pending + dropped);
        assert_eq!(counts.encoded, counts.accepted + counts.rejected_items);
        assert_eq!(dropped, counts.dropped_by.iter().sum::<u64>());
        assert_eq!(pending > 0, oldest.is_some());
        assert_eq!(pending > 0, account.cursor().is_some());
    }

    const OUTCOMES: [Outcome; 5] = [
        Outcome::Delivered,
        Outcome::Empty,
        Outcome::Rejected,
        Outcome::DeadLettered,
        Outcome::Dropped(DropReason::CutOff),
    ];

    proptest! {
        /// Lines are read, split, merged, settled and forgotten in any order.
        #[test]
        fn every_line_has_exactly_one_outcome(
            steps in prop::collection::vec((0u8..7, any::<prop::sample::Index>(), 0u64..20), 0..60)
        ) {
            let account = Arc::new(Account::new());
            let (mut pendings, mut next, mut expected) = (Vec::<Pending>::new(), 0, [0; 5]);
            for (step, index, lines) in steps {
                if step == 0 || pendings.is_empty() {
                    pendings.push(account.read(next, Instant::now(), lines));
                    next += lines.max(1);
                } else {
                    let index = index.index(pendings.len());
                    match step {
                        1 => {
                            let part = pendings[index].take(lines);
                            pendings.push(part);
                        }
                        2..=5 => {
                            let pending = pendings.swap_remove(index);
                            expected[usize::from(step) - 2] += pending.lines();
                            pending.settle(OUTCOMES[usize::from(step) - 2]);
                        }
                        _ => {
                            let pending = pendings.swap_remove(index);
                            expected[4] += pending.lines();
                            drop(pending);
                        }
                    }
                }
                assert_identities(&account);
            }
            let counts = account.counts();
            let settled = [counts.delivered, counts.empty, counts.rejected, counts.dead_lettered, counts.dropped];
            prop_assert_eq!(settled, expected);
        }
    }

    #[test]
    fn the_cursor_waits_for_the_oldest_batch() {
        let account = Arc::new(Account::new());
        let now = Instant::now();
        let (mut first, second) = (account.read(0, now, 3), account.read(5, now, 2));
        second.settle(Outcome::Delivered);
        assert_eq!(account.cursor(), Some(0));
        first.take(1).settle(Outcome::Rejected);
        assert_eq!(account.cursor(), Some(0));
        first.settle(Outcome::Delivered);
        assert_eq!(account.cursor(), None);
    }

    #[test]
    fn a_server_that_refuses_more_than_it_got_breaks_nothing() {
        let account = Account::new();
        account.items(40, 3);
        account.items(2, 7);
        let counts = account.counts();
        assert_eq!((counts.encoded, counts.accepted, counts.rejected_items), (42, 37, 5));
        assert!(!counts.complete());
    }
}
