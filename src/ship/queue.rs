//! Batches that wait for one sink, bounded by their bytes.
//!
//! The reading thread pushes, and asks for room before it reads on; the
//! delivering thread looks at the first batch, and takes it out once it is
//! settled, so that what is on its way counts as waiting.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::Batch;

/// What an entry costs beside its bytes, about: many tiny batches are memory too.
const OVERHEAD: usize = 512;

/// The queue of one sink.
pub struct Queue {
    limit: usize,
    state: Mutex<State>,
    room: Condvar,
    ready: Notify,
}

#[derive(Default)]
struct State {
    batches: VecDeque<Arc<Batch>>,
    cost: usize,
    closed: bool,
    abandoned: bool,
}

fn cost(batch: &Batch) -> usize {
    batch.bytes() + batch.len() * size_of::<usize>() * 2 + OVERHEAD
}

impl Queue {
    /// Has room until it holds `limit` bytes or more.
    pub fn new(limit: usize) -> Self {
        Self { limit, state: Mutex::default(), room: Condvar::new(), ready: Notify::new() }
    }

    /// Adds a batch; never waits. What comes after [`Queue::abandon`] is not kept.
    pub fn push(&self, batch: Arc<Batch>) {
        let mut state = self.lock();
        if !state.abandoned {
            state.cost += cost(&batch);
            state.batches.push_back(batch);
            self.ready.notify_one();
        }
    }

    /// Waits at most `patience` for room; true if there is.
    pub fn wait_for_room(&self, patience: Duration) -> bool {
        let full = |state: &mut State| state.cost >= self.limit && !state.abandoned;
        let waited = self.room.wait_timeout_while(self.lock(), patience, full);
        !waited.unwrap_or_else(PoisonError::into_inner).1.timed_out()
    }

    /// Nothing more will be pushed.
    pub fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_one();
    }

    /// Nothing more will be taken: empties the queue for good.
    pub fn abandon(&self) {
        let mut state = self.lock();
        *state = State { abandoned: true, closed: state.closed, ..State::default() };
        self.room.notify_all();
    }

    /// True after [`Queue::abandon`].
    pub fn abandoned(&self) -> bool {
        self.lock().abandoned
    }

    /// The first batch, which stays in; `None` once the queue is closed and empty, or abandoned.
    pub async fn first(&self) -> Option<Arc<Batch>> {
        loop {
            {
                let state = self.lock();
                if let Some(batch) = state.batches.front() {
                    return Some(batch.clone());
                }
                if state.closed || state.abandoned {
                    return None;
                }
            }
            self.ready.notified().await;
        }
    }

    /// Takes out the first batch: it is settled.
    pub fn settled(&self) {
        let mut state = self.lock();
        if let Some(batch) = state.batches.pop_front() {
            state.cost -= cost(&batch);
            self.room.notify_all();
        }
    }

    /// When the oldest batch that waits was begun.
    pub fn oldest(&self) -> Option<Instant> {
        self.lock().batches.front().map(|batch| batch.since)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(bytes: usize) -> Arc<Batch> {
        let mut batch = Batch::new();
        batch.push(0, &vec![b'x'; bytes]);
        Arc::new(batch)
    }

    fn block_on<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    #[test]
    fn room_comes_back_when_the_first_is_settled() {
        let queue = Queue::new(1000);
        assert!(queue.wait_for_room(Duration::ZERO));
        queue.push(batch(900));
        assert!(!queue.wait_for_room(Duration::from_millis(1)));
        assert_eq!(block_on(queue.first()).unwrap().bytes(), 900);
        assert!(!queue.wait_for_room(Duration::from_millis(1)), "on its way is still waiting");
        queue.settled();
        assert!(queue.wait_for_room(Duration::ZERO));
    }

    #[test]
    fn closing_ends_it_after_the_last() {
        let queue = Queue::new(1000);
        queue.push(batch(1));
        queue.close();
        assert!(block_on(queue.first()).is_some());
        queue.settled();
        assert!(block_on(queue.first()).is_none());
    }

    #[test]
    fn a_waiting_reader_wakes() {
        let queue = Arc::new(Queue::new(100));
        queue.push(batch(200));
        let other = queue.clone();
        let waiter = std::thread::spawn(move || other.wait_for_room(Duration::from_secs(20)));
        queue.abandon();
        assert!(waiter.join().unwrap());
        queue.push(batch(200));
        assert!(queue.oldest().is_none() && block_on(queue.first()).is_none());
    }
}
