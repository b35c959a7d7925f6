//! What became of every line and item, per sink. Two identities hold whenever
//! one looks:
//!
//! - lines: `read = delivered + rejected + dead_lettered + pending + dropped`
//! - items (points, log records, spans, rows): `encoded = accepted + rejected_items`
//!
//! A line is pending from the moment it is read until it is settled, once. Items
//! are counted when their request is settled, so that a batch that is split and
//! encoded again counts once.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// The numbers of one sink, since the program began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Lines that came in; empty ones are none.
    pub read: u64,
    /// Lines that the destination has.
    pub delivered: u64,
    /// Lines that nobody can take: not JSON, too long, refused by the server.
    pub rejected: u64,
    /// Rejected lines that were kept in a file.
    pub dead_lettered: u64,
    /// Lines that wait or are on their way.
    pub pending: u64,
    /// Lines given up: the reader of stdout left, or the input was cut in the middle of one.
    pub dropped: u64,
    /// Items in settled requests.
    pub encoded: u64,
    /// Items that the destination took.
    pub accepted: u64,
    /// Items that it refused.
    pub rejected_items: u64,
    /// Requests tried.
    pub requests: u64,
    /// Of these, the ones that had to be tried again.
    pub retries: u64,
}

/// How a line ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The destination has it.
    Delivered,
    /// Nobody can take it.
    Rejected,
    /// Given up.
    Dropped,
}

/// The counts of a sink, shared by those who read, deliver and report.
#[derive(Default)]
pub struct Account(Mutex<State>);

#[derive(Default)]
struct State {
    counts: Counts,
    /// Nothing can be delivered any more: what is read is dropped.
    gone: bool,
}

impl Account {
    /// The numbers of this moment; both identities hold.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// `lines` were read and wait.
    pub fn read(&self, lines: u64) {
        let mut state = self.lock();
        state.counts.read += lines;
        let waiting = if state.gone { &mut state.counts.dropped } else { &mut state.counts.pending };
        *waiting += lines;
    }

    /// `lines` were read, and that was their end.
    pub fn skip(&self, lines: u64, fate: Fate) {
        let mut state = self.lock();
        state.counts.read += lines;
        *state.counts.of(fate) += lines;
    }

    /// `lines` that waited are settled, be it after they were given up.
    pub fn settle(&self, lines: u64, fate: Fate) {
        let mut state = self.lock();
        let waiting = if state.gone { &mut state.counts.dropped } else { &mut state.counts.pending };
        *waiting -= lines;
        *state.counts.of(fate) += lines;
    }

    /// Whatever waits, and whatever will be read, is dropped.
    pub fn abandon(&self) {
        let mut state = self.lock();
        state.gone = true;
        state.counts.dropped += std::mem::take(&mut state.counts.pending);
    }

    /// A request of `items` is settled, and of these `rejected` were refused.
    pub fn items(&self, items: u64, rejected: u64) {
        let counts = &mut self.lock().counts;
        // A server that claims to have refused more than it got does not break the identity.
        let rejected = rejected.min(items);
        counts.encoded += items;
        counts.accepted += items - rejected;
        counts.rejected_items += rejected;
    }

    /// A request was tried; `again` if it will have to be tried again.
    pub fn tried(&self, again: bool) {
        let counts = &mut self.lock().counts;
        counts.requests += 1;
        counts.retries += u64::from(again);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    fn of(&mut self, fate: Fate) -> &mut u64 {
        match fate {
            Fate::Delivered => &mut self.delivered,
            Fate::Rejected => &mut self.rejected,
            Fate::Dropped => &mut self.dropped,
        }
    }

    /// True if everything that was read has arrived, to the last item.
    pub fn complete(&self) -> bool {
        self.read == self.delivered && self.rejected_items == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_hold_at_every_step() {
        let account = Account::default();
        let holds = || {
            let Counts { read, delivered, rejected, dead_lettered, pending, dropped, .. } = account.counts();
            assert_eq!(read, delivered + rejected + dead_lettered + pending + dropped);
            let Counts { encoded, accepted, rejected_items, .. } = account.counts();
            assert_eq!(encoded, accepted + rejected_items);
        };
        let steps: [&dyn Fn(); 10] = [
            &|| account.read(10),
            &|| account.settle(4, Fate::Delivered),
            &|| account.settle(1, Fate::Rejected),
            &|| account.items(40, 3),
            &|| account.items(2, 7),
            &|| account.skip(1, Fate::Rejected),
            &|| account.settle(2, Fate::Dropped),
            &|| account.abandon(),
            &|| account.read(6),
            &|| account.settle(1, Fate::Delivered),
        ];
        for step in steps {
            step();
            holds();
        }
        let counts = account.counts();
        assert_eq!((counts.read, counts.pending, counts.dropped), (17, 0, 10));
        assert_eq!((counts.rejected, counts.accepted, counts.rejected_items), (2, 37, 5));
        assert!(!counts.complete());
    }
}
