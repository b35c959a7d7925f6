//! A cursor at work, which the threads that feed and deliver share.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::cursor::{Cursor, OpenBatch, Unusable, sink_name};
use super::disk::{read_all, replace};
use super::store::{Reader, Spool};
use super::writer::Outage;
use crate::ship::account::Account;
use crate::ship::dead_letter::DeadLetters;
use crate::ship::line::Signal;

/// How long to wait after a failure.
pub const RETRY: Duration = Duration::from_millis(if cfg!(test) { 1 } else { 200 });

/// Which lines a sink has delivered, and the batches on their way.
pub struct Progress {
    spool: Arc<Spool>,
    sink: String,
    signal: Option<Signal>,
    account: Arc<Account>,
    dead_letters: Arc<dyn DeadLetters>,
    /// Whether requests depend on the lines before.
    has_state: bool,
    state: Mutex<State>,
    stopped: AtomicBool,
}

struct State {
    cursor: Cursor,
    /// The cursor that was stored last.
    saved: Option<Cursor>,
    /// Batches of the previous run that are not in the queue yet, in order.
    again: VecDeque<OpenBatch>,
    /// The offsets at which the state of the encoder was stored since.
    snapshots: Vec<u64>,
}

impl Progress {
    /// Continues where the sink was, or the signal of it; one without a cursor begins at the oldest line. `has_state`
    /// if its requests depend on the lines before.
    ///
    /// # Errors
    /// If the cursor cannot be read.
    pub fn open(
        spool: Arc<Spool>,
        (sink, signal): (&str, Option<Signal>),
        has_state: bool,
        account: Arc<Account>,
        dead_letters: Arc<dyn DeadLetters>,
    ) -> io::Result<Self> {
        let sink = sink_name(sink, signal);
        let mut cursor = match Cursor::load(spool.disk(), &sink) {
            Ok(cursor) => cursor,
            Err(Unusable::Missing | Unusable::Damaged) => {
                let cursor = Cursor::at(spool.range().0);
                // From now on, lines are kept for this sink. If the disk is full, the first save does it.
                let _ = cursor.save(spool.disk(), &sink);
                cursor
            }
            Err(Unusable::Io(error)) => return Err(error),
        };
        if !has_state {
            cursor.state = cursor.undelivered();
        }
        let new = Reader::new(spool.clone(), cursor.next, signal).count()?;
        account.wait(signal, Instant::now(), cursor.open_lines() + new);
        spool.release(&sink, cursor.low())?;
        let current = state_name(&sink, cursor.state);
        let is_old = |name: &&String| is_state_name(&sink, name) && **name != current;
        for name in spool.disk().list()?.iter().filter(is_old) {
            spool.disk().remove(name)?;
        }
        let again = std::mem::take(&mut cursor.open).into();
        let state = State { saved: None, cursor, again, snapshots: Vec::new() };
        let stopped = AtomicBool::new(false);
        Ok(Self { spool, sink, signal, account, dead_letters, has_state, state: Mutex::new(state), stopped })
    }

    /// The signal that the cursor is for; `None` for all.
    pub fn signal(&self) -> Option<Signal> {
        self.signal
    }

    /// Whether requests depend on the lines before.
    pub fn has_state(&self) -> bool {
        self.has_state
    }

    /// The state of the encoder that was stored, if there is one.
    pub fn encoder_state(&self) -> Option<Vec<u8>> {
        let offset = self.lock().cursor.state;
        read_all(self.spool.disk(), &state_name(&self.sink, offset)).ok()
    }

    /// Stores the state of the encoder before the line with this offset. A failure only means that more lines are kept.
    pub fn snapshot(&self, offset: u64, state: &[u8]) {
        if replace(self.spool.disk(), &state_name(&self.sink, offset), state).is_ok() {
            self.lock().snapshots.push(offset);
        }
    }

    /// A request of a batch is split before the line with this offset. Returns when that is durable.
    pub fn split(&self, batch: u64, endpoint: usize, offset: u64) {
        if let Some(open) = self.lock().cursor.open.iter_mut().find(|open| open.first == batch) {
            open.splits.push((endpoint, offset));
        }
        let mut outage = Outage::default();
        while let Err(error) = self.save()
            && !self.is_stopped()
        {
            outage.report(&format!("{}: cannot write the cursor: {error}", self.sink));
            std::thread::sleep(RETRY);
        }
    }

    /// Nothing more is delivered: the feeding thread saves the cursor and ends.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
    }

    /// Whether [`Progress::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// The spool.
    pub fn spool(&self) -> &Arc<Spool> {
        &self.spool
    }

    /// The offset of the first line that is needed.
    pub fn low(&self) -> u64 {
        let state = self.lock();
        state.again.front().map_or(state.cursor.next, |open| open.first).min(state.cursor.state)
    }

    /// The next batch of the previous run, if one is left, and where the lines before it, or before the first new
    /// line, end.
    pub fn next_again(&self) -> (u64, Option<OpenBatch>) {
        let state = self.lock();
        let open = state.again.front().cloned();
        (open.as_ref().map_or(state.cursor.next, |open| open.first), open)
    }

    /// The number of batches on their way.
    pub fn batches(&self) -> usize {
        self.lock().cursor.open.len()
    }

    /// Adds a new batch, which the account has already.
    pub fn begin(&self, first: u64, end: u64, lines: u64) {
        let cursor = &mut self.lock().cursor;
        cursor.open.push(OpenBatch { first, end, lines, ..OpenBatch::default() });
        cursor.next = end;
    }

    /// The next batch of the previous run is on its way again, as `open`, and in the account; `None` if it has no lines
    /// any more.
    pub fn repeated(&self, open: Option<OpenBatch>) {
        let mut state = self.lock();
        state.again.pop_front();
        state.cursor.open.extend(open);
    }

    /// All lines before this offset are in batches, damaged, missing, or for other signals.
    pub fn skip(&self, end: u64) {
        let cursor = &mut self.lock().cursor;
        cursor.next = cursor.next.max(end);
    }

    /// Stores what has been delivered, and lets go of the lines that are not needed any more.
    ///
    /// # Errors
    /// If the cursor cannot be written.
    pub fn save(&self) -> io::Result<()> {
        let mut state = self.lock();
        let State { cursor, saved, again, snapshots } = &mut *state;
        let open = self.account.open();
        cursor.open.retain_mut(|batch| {
            let Some(done) = open.get(&batch.first) else { return false };
            for endpoint in done {
                if !batch.done.contains(endpoint) {
                    batch.done.push(*endpoint);
                }
            }
            true
        });
        if !self.has_state {
            cursor.state =
                cursor.open.iter().chain(again.iter()).map(|open| open.first).next().unwrap_or(cursor.next);
        }
        let mut now = cursor.clone();
        now.open.extend(again.iter().cloned());
        let before = now.state;
        let low = now.undelivered();
        if let Some(latest) = snapshots.iter().rposition(|offset| *offset <= low) {
            now.state = snapshots[latest];
        }
        if saved.as_ref() == Some(&now) {
            return Ok(());
        }
        // Letters of batches that are settled must not be lost.
        self.dead_letters.sync();
        now.save(self.spool.disk(), &self.sink)?;
        cursor.state = now.state;
        let old: Vec<_> = snapshots.extract_if(.., |offset| *offset <= now.state).chain([before]).collect();
        for offset in old.into_iter().filter(|offset| *offset != now.state) {
            // The first may not exist: a sink begins without a state.
            let _ = self.spool.disk().remove(&state_name(&self.sink, offset));
        }
        let low = now.low();
        *saved = Some(now);
        drop(state);
        self.spool.release(&self.sink, low)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_state_name(sink: &str, name: &str) -> bool {
    name.strip_prefix(sink).is_some_and(|rest| rest.starts_with('.') && rest.ends_with(".state"))
}

fn state_name(sink: &str, offset: u64) -> String {
    format!("{sink}.{offset:020}.state")
}
