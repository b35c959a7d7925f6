//! The delivery loop of a sink: encodes batches, sends requests, several at a time, and acts on the verdicts.
//!
//! Each sink has an async runtime, and a thread, or one for each signal. Only this file and the sinks know about tasks.
//! Encoding and the bookkeeping happen on that thread between events, so nothing here needs a lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::account::{Outcome, Pending};
use super::endpoint::{Endpoint, Item, Source};
use super::queue::{Origin, Queued, Room};
use super::spool::cursor::OpenBatch;
use super::worker::SinkWorker;
use super::{Batch, Encoded, Sink, Traffic, Verdict};
use crate::common::diag::{excerpt, log};

/// How often an outage that goes on is reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(60);
/// The same for a destination on this machine, where the user can do something, such as free a full disk.
const REPORT_INTERVAL_LOCAL: Duration = Duration::from_secs(10);
/// How far encoded requests may exceed the memory limit, so that an endpoint in an outage does not stop the others
/// with which it shares the limit.
const EXCESS: usize = 8 << 20;

/// Delivers until the queue ends.
pub fn run<S: Sink>(runtime: &Runtime, mut sink: S, worker: &Arc<SinkWorker>, in_flight: usize) {
    if let Some(state) = worker.progress.as_ref().and_then(|progress| progress.encoder_state())
        && let Err(error) = sink.restore_state(&state)
    {
        log(format_args!("{}: start times of counters are not restored: {error}", worker.name));
    }
    let window = if sink.keeps_order() { 1 } else { in_flight };
    let (endpoints, tasks) = (BTreeMap::new(), JoinSet::new());
    runtime.block_on(Delivery { sink, worker, window, endpoints, tasks, input: Input::Idle }.run());
}

struct Delivery<'a, S: Sink> {
    sink: S,
    worker: &'a Arc<SinkWorker>,
    /// The most requests in flight to an endpoint.
    window: usize,
    /// Every endpoint that has had a request.
    endpoints: BTreeMap<usize, State<S::Body>>,
    tasks: JoinSet<Event<S::Body>>,
    input: Input,
}

/// An endpoint, and what was reported about it.
struct State<B> {
    endpoint: Endpoint<B>,
    /// When its outage was last reported; `None` if another endpoint failed for the same reason, which was reported.
    reported: Option<Instant>,
    /// Why the last attempt failed.
    reason: String,
    /// The last partial success or warning, which is reported once.
    answer: Option<(bool, Option<String>)>,
}

impl<B> State<B> {
    fn new(window: usize, is_local: bool) -> Self {
        Self {
            endpoint: Endpoint::new(window, is_local),
            reported: None,
            reason: String::new(),
            answer: None,
        }
    }
}

#[derive(PartialEq)]
enum Input {
    /// No task waits for a batch.
    Idle,
    Waiting,
    Ended,
}

enum Event<B> {
    Batch(Option<Queued>),
    /// The verdict on a request to this endpoint, and how long the request took.
    Verdict(usize, Item<B>, Verdict, Duration),
    Ending,
}

impl<S: Sink> Delivery<'_, S> {
    async fn run(mut self) {
        let worker = self.worker.clone();
        self.tasks.spawn(async move {
            worker.ending().await;
            Event::Ending
        });
        loop {
            self.start();
            if self.input == Input::Ended && self.waiting() == 0 {
                return;
            }
            match self.event().await {
                Some(Event::Batch(Some(queued))) => {
                    self.input = Input::Idle;
                    self.take(queued);
                }
                Some(Event::Batch(None)) => self.input = Input::Ended,
                Some(Event::Verdict(index, item, verdict, latency)) => {
                    let (account, retry) = (&self.worker.account, matches!(verdict, Verdict::Retry { .. }));
                    account.set_body_bytes(self.sink.traffic().map(Traffic::totals));
                    account.sent(index, latency, retry);
                    match verdict {
                        Verdict::Gone { reason } => return self.gone(reason.as_deref()),
                        verdict => self.settle(index, item, verdict),
                    }
                }
                Some(Event::Ending) => {
                    self.endpoints.values_mut().for_each(|state| state.endpoint.hurry());
                }
                None => {}
            }
        }
    }

    /// Starts whatever can start: requests, and the wait for a batch.
    fn start(&mut self) {
        self.expire();
        let now = Instant::now();
        for (&index, state) in &mut self.endpoints {
            while let Some(item) = state.endpoint.start(now) {
                // Some sinks do all the work in this call.
                let begun = Instant::now();
                let sending = self.sink.send(&item.request.body);
                self.tasks.spawn(async move {
                    let verdict = sending.await;
                    Event::Verdict(index, item, verdict, begun.elapsed())
                });
            }
        }
        let free = self.endpoints.len() < self.sink.endpoints()
            || self.endpoints.values().any(|state| state.endpoint.is_free());
        let busy = self.endpoints.values().any(|state| state.endpoint.is_busy(now));
        let excess = if self.worker.signal.is_none() { EXCESS } else { 0 };
        let more = self.waiting() == 0 || (free && !busy && self.worker.budget.within(excess));
        if more && self.input == Input::Idle {
            self.input = Input::Waiting;
            let worker = self.worker.clone();
            self.tasks.spawn(async move { Event::Batch(worker.queue.next().await) });
        }
    }

    /// Rejects what could not be delivered for `--max-age`.
    fn expire(&mut self) {
        let Some(max_age) = self.worker.max_age else { return };
        let mut expired = Vec::new();
        for state in self.endpoints.values_mut() {
            while let Some(item) = state.endpoint.expired(max_age) {
                let reason = &state.reason;
                expired.push((item, format!("not delivered for {max_age:?} (--max-age): {reason}")));
            }
        }
        for (item, reason) in expired {
            self.reject(item, &reason);
        }
    }

    /// The number of requests without a verdict.
    fn waiting(&self) -> usize {
        self.endpoints.values().map(|state| state.endpoint.len()).sum()
    }

    /// Waits for what happens next; `None` if an attempt is due.
    async fn event(&mut self) -> Option<Event<S::Body>> {
        let expires =
            |endpoint: &Endpoint<_>| self.worker.max_age.and_then(|max_age| endpoint.expires(max_age));
        let wake = |state: &State<_>| [state.endpoint.wake(), expires(&state.endpoint)];
        let wake = self.endpoints.values().flat_map(wake).flatten().min();
        let next = async {
            match self.tasks.join_next().await {
                Some(event) => event,
                None => std::future::pending().await,
            }
        };
        let event = match wake {
            Some(at) => tokio::time::timeout_at(at.into(), next).await.ok()?,
            None => next.await,
        };
        // Tasks are not cancelled while this runs, so a task without an event has panicked.
        Some(event.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic())))
    }

    /// Encodes a batch, as its origin requires.
    fn take(&mut self, queued: Queued) {
        let Queued { batch, pending, room, origin, snapshot } = queued;
        if let Some(offset) = snapshot
            && let Some(progress) = &self.worker.progress
            && let Some(state) = self.sink.state()
        {
            progress.snapshot(offset, &state);
        }
        if origin != Origin::Rebuilt {
            self.worker.account.batch();
        }
        match origin {
            Origin::Fresh => self.encode(Source::new(batch, room), pending, &OpenBatch::default()),
            Origin::Repeated(open) => self.encode(Source::new(batch, room), pending, &open),
            Origin::Rebuilt => drop(self.sink.encode(&batch)),
        }
    }

    /// Encodes lines, settles those without a request, and queues the requests. A line that the sink left out is dropped.
    ///
    /// If `before` is what a previous run did with the batch, requests are split as they were then, and those that were
    /// delivered are not sent again.
    fn encode(&mut self, source: Source, mut pending: Pending, before: &OpenBatch) {
        let Encoded { requests, rejected, empty } = self.sink.encode(&source.batch);
        self.worker.account.set_evicted_series(self.sink.evicted_series());
        pending.take(empty.len() as u64).settle(Outcome::Empty);
        for (index, reason) in rejected {
            self.worker.refuse(&source.batch, index, &reason, pending.take(1));
        }
        let source = Arc::new(source);
        for request in requests {
            let mut pending = pending.take(request.lines.len() as u64);
            let endpoint = self.sink.endpoint(&request.body);
            pending.assign(endpoint);
            if before.done.contains(&endpoint) {
                pending.settle(Outcome::Delivered);
                continue;
            }
            let was_split = |line: &usize| before.splits.contains(&(endpoint, source.batch.offset(*line)));
            let (_, rest) = request.lines.split_at(request.lines.len().min(1));
            if rest.iter().any(was_split) {
                for part in request.lines.chunk_by(|_, line| !was_split(line)) {
                    self.encode_part(&source.batch, part, &mut pending);
                }
                continue;
            }
            let room = self.room(self.sink.size(&request.body));
            let mut item = Item::new(source.clone(), request, pending, room);
            let (worker, endpoint) = (self.worker, &mut self.state(endpoint).endpoint);
            if endpoint.is_failing() {
                item.detach(&worker.budget);
            }
            endpoint.push(item);
        }
        debug_assert_eq!(pending.lines(), 0, "{} leaves out lines", self.worker.name);
    }

    fn room(&self, bytes: usize) -> Room {
        self.worker.budget.take(bytes)
    }

    fn state(&mut self, endpoint: usize) -> &mut State<S::Body> {
        let (window, is_local) = (self.window, self.sink.is_local());
        self.endpoints.entry(endpoint).or_insert_with(|| State::new(window, is_local))
    }

    fn settle(&mut self, index: usize, mut item: Item<S::Body>, verdict: Verdict) {
        let worker = self.worker;
        let state = self.state(index);
        if let Verdict::Retry { after, reason } = verdict {
            item.detach(&worker.budget);
            let lasted = state.endpoint.failed(item, after, worker.is_ending());
            worker.fit(1);
            return self.report_outage(index, lasted, &reason);
        }
        let ended = state.endpoint.succeeded(&item);
        worker.fit(state.endpoint.window());
        if let Some(lasted) = ended
            && state.reported.take().is_some()
        {
            log(format_args!("{}: works again after {:.1} s", self.worker.name, lasted.as_secs_f64()));
        }
        match verdict {
            Verdict::Delivered { rejected_items, message } => {
                self.worker.account.items(item.request.items, rejected_items);
                item.pending.settle(Outcome::Delivered);
                self.report_answer(index, rejected_items, message);
            }
            Verdict::Split { .. } if item.request.lines.len() > 1 => self.split(item),
            Verdict::Split { reason } | Verdict::Reject { reason } => self.reject(item, &reason),
            Verdict::Retry { .. } | Verdict::Gone { .. } => {}
        }
    }

    /// Encodes the halves of a request that is too large.
    fn split(&mut self, item: Item<S::Body>) {
        let endpoint = self.sink.endpoint(&item.request.body);
        let Item { source, request, mut pending, .. } = item;
        let (first, second) = request.lines.split_at(request.lines.len() / 2);
        if let Some(progress) = &self.worker.progress
            && let Some(line) = second.first()
        {
            progress.split(pending.batch(), endpoint, source.batch.offset(*line));
        }
        for half in [first, second] {
            self.encode_part(&source.batch, half, &mut pending);
        }
    }

    /// Encodes some lines of a batch, which are the next of `pending`.
    fn encode_part(&mut self, batch: &Batch, lines: &[usize], pending: &mut Pending) {
        let part = batch.select(lines);
        let room = self.room(part.bytes());
        let pending = pending.take(lines.len() as u64);
        self.encode(Source::new(part, room), pending, &OpenBatch::default());
    }

    fn reject(&self, item: Item<S::Body>, reason: &str) {
        let Item { source, request, mut pending, .. } = item;
        self.worker.account.items(request.items, request.items);
        for &index in &request.lines {
            self.worker.refuse(&source.batch, index, reason, pending.take(1));
        }
    }

    /// The destination is gone: everything that is pending is dropped, here and in the queue.
    fn gone(self, reason: Option<&str>) {
        match reason {
            None => self.worker.reader_left(),
            Some(reason) => {
                log(format_args!("{}: {reason}; nothing more is written there", self.worker.name));
                self.worker.queue.abandon();
            }
        }
    }

    /// Reports a failure when an outage begins, and then once a minute. Endpoints that fail for the same reason are
    /// reported once.
    fn report_outage(&mut self, index: usize, lasted: Duration, reason: &str) {
        let (worker, now) = (self.worker, Instant::now());
        let name = worker.name;
        let interval = if self.sink.is_local() { REPORT_INTERVAL_LOCAL } else { REPORT_INTERVAL };
        let is_known = self
            .endpoints
            .iter()
            .any(|(other, state)| *other != index && state.reported.is_some() && state.reason == reason);
        let state = self.state(index);
        reason.clone_into(&mut state.reason);
        match state.reported {
            None if is_known => return,
            None => log(format_args!("{name}: {reason}; trying again until it works")),
            Some(at) if now - at >= interval => {
                let (secs, lines) = (lasted.as_secs(), worker.account.counts().pending);
                log(format_args!("{name}: {reason}; failing for {secs} s; {lines} lines wait"));
            }
            Some(_) => return,
        }
        state.reported = Some(now);
    }

    /// Reports items that the server refused, or its warning, unless it is the last one again.
    fn report_answer(&mut self, index: usize, refused: u64, message: Option<String>) {
        if refused == 0 && message.is_none() {
            return;
        }
        let answer = Some((refused > 0, message));
        if self.state(index).answer == answer {
            return;
        }
        let message = answer.as_ref().and_then(|(_, message)| message.as_deref());
        let name = self.worker.name;
        let text = message.map_or("no reason given".into(), |text| excerpt(text.as_bytes()));
        match refused {
            0 => log(format_args!("{name}: the server warns: {text}")),
            items => log(format_args!("{name}: the server refused {items} items of a request: {text}")),
        }
        self.state(index).answer = answer;
    }
}
