//! The requests of one endpoint of a sink: which wait, how many are in flight, and when the next attempt is due.
//!
//! Requests go out oldest first. When one fails, the endpoint is in an outage: the failed requests wait in line
//! again, and one at a time is tried, after a delay that doubles from half a second to half a minute, with full
//! jitter, and never before the server's Retry-After.
//!
//! Two requests may be in flight at first, and one after an outage. Each slow answer allows one more, up to the limit:
//! a near server needs no more, which saves memory, and a slow link is not overloaded at once.

use std::collections::VecDeque;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::account::Pending;
use super::queue::{Budget, Room};
use super::{Batch, Request};

const FIRST_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(30);
/// The longest delay for a destination on this machine.
const MAX_DELAY_LOCAL: Duration = Duration::from_secs(5);
/// The longest delay while the program ends.
const MAX_DELAY_ENDING: Duration = Duration::from_secs(1);
/// How many requests may be in flight at first.
const FIRST_WINDOW: usize = 2;
/// An answer that takes longer than this allows one more request in flight.
const SLOW: Duration = Duration::from_millis(50);
/// How long a full endpoint without an answer holds up encoding.
const STALL: Duration = Duration::from_secs(1);
/// The longest Retry-After that is honoured.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// A batch that requests refer to.
pub struct Source {
    /// The lines.
    pub batch: Batch,
    _room: Room,
}

impl Source {
    /// A batch, and the memory that it takes until its last request is settled.
    pub fn new(batch: Batch, room: Room) -> Self {
        Self { batch, _room: room }
    }
}

/// A request on its way.
pub struct Item<B> {
    /// The lines that it was made from.
    pub source: Arc<Source>,
    /// What to send.
    pub request: Request<B>,
    /// Its lines in the ledger.
    pub pending: Pending,
    _room: Room,
    /// When it was sent last.
    sent: Instant,
    /// The failures that the endpoint had seen when this request was sent.
    failures: u32,
}

impl<B> Item<B> {
    /// A request that was not sent yet. `room` is the memory that its body takes.
    pub fn new(source: Arc<Source>, request: Request<B>, pending: Pending, room: Room) -> Self {
        Self { source, request, pending, _room: room, sent: Instant::now(), failures: 0 }
    }

    /// Copies its own lines, so that the lines of other requests in the batch can be freed while this one waits.
    pub fn detach(&mut self, budget: &Arc<Budget>) {
        if self.request.lines.len() < self.source.batch.len() {
            let batch = self.source.batch.select(&self.request.lines);
            self.request.lines = (0..batch.len()).collect();
            let room = budget.take(batch.bytes());
            self.source = Arc::new(Source::new(batch, room));
        }
    }

    /// The offset of its first line.
    fn offset(&self) -> u64 {
        self.request.lines.first().map_or(0, |line| self.source.batch.offset(*line))
    }
}

/// One endpoint.
pub struct Endpoint<B> {
    /// The most requests in flight.
    max_window: usize,
    /// How many may be in flight now.
    window: usize,
    max_delay: Duration,
    waiting: VecDeque<Item<B>>,
    in_flight: usize,
    /// When a request was answered last, or the first of those in flight was sent.
    progress: Instant,
    /// Since when requests fail.
    outage: Option<Instant>,
    /// Failed attempts of the outage, each counted once, however many requests were in flight.
    failures: u32,
    due: Option<Due>,
}

#[derive(Clone, Copy)]
struct Due {
    at: Instant,
    /// The server asked for it.
    asked: bool,
}

impl<B> Endpoint<B> {
    /// An endpoint that takes `window` requests at a time. One on this machine is tried more often when it fails.
    pub fn new(window: usize, is_local: bool) -> Self {
        Self {
            max_delay: if is_local { MAX_DELAY_LOCAL } else { MAX_DELAY },
            max_window: window,
            window: window.min(FIRST_WINDOW),
            waiting: VecDeque::new(),
            in_flight: 0,
            progress: Instant::now(),
            outage: None,
            failures: 0,
            due: None,
        }
    }

    /// Adds a request, before all that have later lines.
    pub fn push(&mut self, item: Item<B>) {
        let index = self.waiting.partition_point(|other| other.offset() <= item.offset());
        self.waiting.insert(index, item);
    }

    /// Takes the next request to send, if one may be sent now.
    pub fn start(&mut self, now: Instant) -> Option<Item<B>> {
        if self.in_flight >= self.window || self.due.is_some_and(|due| due.at > now) {
            return None;
        }
        let mut item = self.waiting.pop_front()?;
        (item.failures, item.sent) = (self.failures, now);
        if self.in_flight == 0 {
            self.progress = now;
        }
        self.in_flight += 1;
        Some(item)
    }

    /// When [`Endpoint::start`] gives a request, or [`Endpoint::is_busy`] ends, although nothing else happens.
    pub fn wake(&self) -> Option<Instant> {
        if self.in_flight == 0 && !self.waiting.is_empty() {
            return self.due.map(|due| due.at);
        }
        self.is_busy(Instant::now()).then(|| self.progress + STALL)
    }

    /// While requests fail, takes the oldest one that waits if its lines were read `max_age` ago.
    pub fn expired(&mut self, max_age: Duration) -> Option<Item<B>> {
        let at = self.expires(max_age)?;
        if at <= Instant::now() { self.waiting.pop_front() } else { None }
    }

    /// When [`Endpoint::expired`] will give a request, if nothing happens before.
    pub fn expires(&self, max_age: Duration) -> Option<Instant> {
        self.outage?;
        self.waiting.front()?.source.batch.since.checked_add(max_age)
    }

    /// Whether it is full and answers, so that encoding more for it only takes memory. An endpoint that fails or does
    /// not answer is not busy: it must not hold up the others.
    pub fn is_busy(&self, now: Instant) -> bool {
        self.outage.is_none() && !self.is_free() && now < self.progress + STALL
    }

    /// Whether its requests fail.
    pub fn is_failing(&self) -> bool {
        self.outage.is_some()
    }

    /// The number of requests that wait or are in flight.
    pub fn len(&self) -> usize {
        self.waiting.len() + self.in_flight
    }

    /// How many requests may be in flight now.
    pub fn window(&self) -> usize {
        self.window
    }

    /// Whether another request could be sent at once.
    pub fn is_free(&self) -> bool {
        self.len() < self.window
    }

    /// A request got its answer. Gives how long the outage lasted that this ends.
    pub fn succeeded(&mut self, item: &Item<B>) -> Option<Duration> {
        self.in_flight -= 1;
        (self.failures, self.due, self.progress) = (0, None, Instant::now());
        if item.sent.elapsed() > SLOW || self.outage.is_some() {
            self.window = (self.window + 1).min(self.max_window);
        }
        self.outage.take().map(|since| since.elapsed())
    }

    /// A request must be sent again, not before `after` if the server asked for that. Gives how long the outage
    /// has lasted.
    pub fn failed(&mut self, item: Item<B>, after: Option<Duration>, ending: bool) -> Duration {
        let now = Instant::now();
        self.in_flight -= 1;
        self.window = 1;
        if item.failures == self.failures {
            let most = if ending { MAX_DELAY_ENDING } else { self.max_delay };
            let at = now + delay(self.failures, most, random());
            self.failures = self.failures.saturating_add(1);
            self.due = Some(Due { at, asked: false });
        }
        if let Some(after) = after {
            let at = now + after.min(MAX_RETRY_AFTER);
            self.due = Some(Due { at: self.due.map_or(at, |due| due.at.max(at)), asked: true });
        }
        self.push(item);
        now - *self.outage.get_or_insert(now)
    }

    /// The program ends: an attempt that the server did not ask to delay is due soon.
    pub fn hurry(&mut self) {
        if let Some(due) = &mut self.due
            && !due.asked
        {
            due.at = due.at.min(Instant::now() + MAX_DELAY_ENDING.mul_f64(random()));
        }
    }
}

fn delay(failures: u32, most: Duration, jitter: f64) -> Duration {
    FIRST_DELAY.saturating_mul(1 << failures.min(16)).min(most).mul_f64(jitter)
}

/// A random number from 0 up to 1. The seeds of the standard library's hash tables are random enough to keep clients
/// from retrying in step.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::account::{Account, Outcome};
    use crate::ship::queue::Budget;

    fn item(offset: u64) -> Item<()> {
        let mut batch = Batch::new();
        batch.push(offset, b"x");
        let budget = Budget::new(usize::MAX);
        let source = Arc::new(Source::new(batch, budget.take(1)));
        let pending = Arc::new(Account::new()).read(offset, Instant::now(), 1);
        Item::new(source, Request { body: (), lines: vec![0], items: 1 }, pending, budget.take(1))
    }

    #[test]
    fn only_what_fails_expires() {
        const AGE: Duration = Duration::from_secs(60);
        let mut endpoint = Endpoint::new(1, false);
        let aged = |offset, age| {
            let mut item = item(offset);
            Arc::get_mut(&mut item.source).unwrap().batch.since -= age;
            item
        };
        [(0, 2 * AGE), (1, AGE), (2, AGE / 2)]
            .into_iter()
            .for_each(|(offset, age)| endpoint.push(aged(offset, age)));
        assert!(endpoint.expired(AGE).is_none(), "nothing has failed");
        let first = started(&mut endpoint, Instant::now()).remove(0);
        endpoint.failed(first, None, false);
        let expired: Vec<_> = std::iter::from_fn(|| endpoint.expired(AGE)).collect();
        assert_eq!((offsets(&expired), endpoint.len()), (vec![0, 1], 1));
        let left = endpoint.expires(AGE).unwrap() - Instant::now();
        assert!(left > AGE / 3 && left <= AGE / 2, "{left:?}");
    }

    fn started(endpoint: &mut Endpoint<()>, now: Instant) -> Vec<Item<()>> {
        std::iter::from_fn(|| endpoint.start(now)).collect()
    }

    fn offsets(items: &[Item<()>]) -> Vec<u64> {
        items.iter().map(Item::offset).collect()
    }

    #[test]
    fn an_outage_tries_one_request_at_a_time_oldest_first() {
        let mut endpoint = Endpoint { window: 3, ..Endpoint::new(3, false) };
        (0..5).for_each(|offset| endpoint.push(item(offset)));
        let mut items = started(&mut endpoint, Instant::now());
        assert_eq!(offsets(&items), [0, 1, 2]);
        assert!(!endpoint.is_free());
        // All three fail: one failure, and they are in line before the others.
        while let Some(item) = items.pop() {
            endpoint.failed(item, None, false);
        }
        assert_eq!((endpoint.failures, endpoint.len()), (1, 5));
        let later = Instant::now() + FIRST_DELAY;
        assert!(endpoint.wake().is_some_and(|at| at <= later));
        let mut items = started(&mut endpoint, later);
        assert_eq!(offsets(&items), [0]);
        endpoint.failed(items.remove(0), None, false);
        assert_eq!(endpoint.failures, 2);
        // The end of the outage and each slow answer open the window by one.
        let mut items = started(&mut endpoint, later + MAX_DELAY);
        let first = items.remove(0);
        assert!(endpoint.succeeded(&first).is_some());
        first.pending.settle(Outcome::Delivered);
        let mut items = started(&mut endpoint, Instant::now());
        assert_eq!(offsets(&items), [1, 2]);
        let slow = Item { sent: Instant::now() - 2 * SLOW, ..items.remove(0) };
        assert!(endpoint.succeeded(&slow).is_none());
        assert_eq!(offsets(&started(&mut endpoint, Instant::now())), [3, 4]);
    }

    #[test]
    fn a_request_that_waits_holds_its_own_lines_only() {
        let mut batch = Batch::new();
        [10, 20, 30].into_iter().for_each(|offset| batch.push(offset, &vec![b'0' + offset as u8; 1000]));
        let budget = Budget::new(2500);
        let source = Arc::new(Source::new(batch, budget.take(3000)));
        let pending = Arc::new(Account::new()).read(10, Instant::now(), 1);
        let request = Request { body: (), lines: vec![1], items: 1 };
        let mut item = Item::new(source.clone(), request, pending, budget.take(0));
        item.detach(&budget);
        drop(source);
        assert!(budget.wait(Duration::ZERO), "2000 bytes are free again");
        assert_eq!((item.offset(), item.source.batch.line(0)), (20, &[b'0' + 20; 1000][..]));
        item.pending.settle(Outcome::Delivered);
    }

    #[test]
    fn a_full_endpoint_is_busy_while_it_answers() {
        let mut endpoint = Endpoint::new(2, false);
        let now = Instant::now();
        assert!(endpoint.is_free() && !endpoint.is_busy(now));
        (0..2).for_each(|offset| endpoint.push(item(offset)));
        let mut items = started(&mut endpoint, now);
        assert!(!endpoint.is_free() && endpoint.is_busy(now));
        assert!(endpoint.wake().is_some_and(|at| !endpoint.is_busy(at)), "not for long without an answer");
        endpoint.failed(items.remove(0), None, false);
        assert!(!endpoint.is_busy(Instant::now()), "an outage");
    }

    #[test]
    fn retry_after_is_a_lower_bound_that_the_end_does_not_shorten() {
        let mut endpoint = Endpoint::new(1, false);
        endpoint.push(item(0));
        let first = started(&mut endpoint, Instant::now()).remove(0);
        endpoint.failed(first, Some(Duration::from_secs(7)), false);
        endpoint.hurry();
        let wake = endpoint.wake().unwrap() - Instant::now();
        assert!(wake > Duration::from_secs(6) && wake <= Duration::from_secs(7), "{wake:?}");
    }

    #[test]
    fn delays_double_up_to_the_limit() {
        let delays: Vec<_> = (0..9).map(|failures| delay(failures, MAX_DELAY, 1.0).as_millis()).collect();
        assert_eq!(delays, [500, 1000, 2000, 4000, 8000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(delay(9, MAX_DELAY_ENDING, 0.5), Duration::from_millis(500));
        assert!(delay(u32::MAX, MAX_DELAY, 1.0) == MAX_DELAY);
    }

    #[test]
    fn jitter_is_full() {
        let draws: Vec<_> = (0..1000).map(|_| random()).collect();
        assert!(draws.iter().all(|draw| (0.0..1.0).contains(draw)));
        let mean = draws.iter().sum::<f64>() / 1000.0;
        assert!((0.4..0.6).contains(&mean), "{mean}");
        assert!(draws.iter().any(|draw| *draw < 0.05) && draws.iter().any(|draw| *draw > 0.95));
    }
}
