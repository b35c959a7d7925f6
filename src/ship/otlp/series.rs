//! Where cumulative counters start.
//!
//! A counter starts at its record's `start_ts`. One that goes back although
//! `start_ts` did not change (a device that was replaced, a counter that wrapped)
//! starts again at the time of its last point before.
//!
//! The state begins empty with the process and follows the lines in the order of
//! their times. It keeps the latest restarts with their times, so that lines which are
//! encoded again, because a request was split or repeated, get the same start
//! times as before.

use std::collections::HashMap;

use super::points::Number;

/// Above this many series all are forgotten, and a counter that goes back in
/// that moment is not noticed.
const MAX_SERIES: usize = 1 << 16;

/// So many of the latest restarts of a counter are known. Lines that are encoded
/// again hold fewer, or are no counter.
const MAX_RESTARTS: usize = 16;

/// Above this many keys of maps in one series all are forgotten likewise.
const MAX_KEYS: usize = 1 << 12;

/// The last values of the counters of every series.
#[derive(Default)]
pub struct Series {
    known: HashMap<Box<[u8]>, usize>,
    all: Vec<Counters>,
}

impl Series {
    /// The counters of the series `name`, which is host, kind and attributes in some form.
    pub fn get(&mut self, name: &[u8]) -> &mut Counters {
        let index = match self.known.get(name) {
            Some(index) => *index,
            None => self.add(name),
        };
        &mut self.all[index]
    }

    fn add(&mut self, name: &[u8]) -> usize {
        if self.all.len() >= MAX_SERIES {
            self.known.clear();
            self.all.clear();
        }
        self.known.insert(name.into(), self.all.len());
        self.all.push(Counters::default());
        self.all.len() - 1
    }
}

/// The counters that one record holds.
#[derive(Default)]
pub struct Counters {
    /// The time of the newest record.
    newest: u64,
    all: Vec<Counter>,
    keys: HashMap<Box<str>, usize>,
    now: Record,
}

#[derive(Clone, Default)]
struct Counter {
    last: Option<Number>,
    /// The latest times at which it started again, the oldest first.
    restarts: Vec<u64>,
}

/// The record at hand.
#[derive(Default)]
struct Record {
    ts: u64,
    start: u64,
    /// The time of the record before, if this is newer.
    before: Option<u64>,
}

impl Counters {
    /// Turns to the record of that time, whose `start_ts` is `start`, or 0.
    pub fn turn_to(&mut self, ts: u64, start: u64) -> &mut Self {
        let before = (ts > self.newest).then_some(self.newest);
        self.newest = self.newest.max(ts);
        self.now = Record { ts, start, before };
        self
    }

    /// The index of the counter that `key` is in the map at `index`, which is below `width`.
    pub fn keyed(&mut self, index: usize, width: usize, key: &str) -> usize {
        let number = match self.keys.get(key) {
            Some(number) => *number,
            None => {
                if self.keys.len() >= MAX_KEYS {
                    self.keys.clear();
                    self.all.truncate(width);
                }
                self.keys.insert(key.into(), self.keys.len());
                self.keys.len() - 1
            }
        };
        width * (1 + number) + index
    }

    /// When the counter of that index, which now has that value, started.
    pub fn start(&mut self, index: usize, value: Number) -> u64 {
        if self.all.len() <= index {
            self.all.resize(index + 1, Counter::default());
        }
        let (Record { ts, start, before }, counter) = (&self.now, &mut self.all[index]);
        if let Some(before) = *before {
            let went_back = counter.last.is_some_and(|last| value.is_below(last));
            if went_back && *start <= before {
                counter.restart(before);
            }
            counter.last = Some(value);
        }
        let restart = counter.restarts.iter().rev().find(|at| *at < ts);
        restart.map_or(*start, |at| *start.max(at))
    }
}

impl Counter {
    fn restart(&mut self, at: u64) {
        if self.restarts.len() == MAX_RESTARTS {
            self.restarts.remove(0);
        }
        self.restarts.push(at);
    }
}
