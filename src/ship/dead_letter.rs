//! Lines that cannot be delivered.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use crate::common::diag::{excerpt, log};

/// A line that a sink cannot deliver.
pub struct DeadLetter<'a> {
    /// The sink.
    pub sink: &'static str,
    /// The line's number in the input, from 0.
    pub offset: u64,
    /// The line, unchanged; only the start of one that is too long.
    pub line: &'a [u8],
    /// Why it was refused.
    pub reason: &'a str,
}

/// Receives rejected lines. All sinks share it.
pub trait DeadLetters: Send + Sync {
    /// Takes the next bytes of the line with that offset, which is too long to be held. A letter for each sink
    /// follows the last.
    fn part(&self, _offset: u64, _bytes: &[u8]) {}

    /// Keeps the line. False if it is not kept, so that it counts as rejected.
    fn keep(&self, letter: &DeadLetter<'_>) -> bool;
}

/// Shows the first few lines of each sink on stderr, and keeps none.
#[derive(Default)]
pub struct Samples(Mutex<HashMap<&'static str, u64>>);

/// How many lines of a sink are shown.
const SHOWN: u64 = 5;

impl DeadLetters for Samples {
    fn keep(&self, letter: &DeadLetter<'_>) -> bool {
        let DeadLetter { sink, offset, line, reason } = letter;
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(sink).or_default();
        *count += 1;
        if *count <= SHOWN {
            log(format_args!("{sink}: line {} rejected: {reason}: {}", offset + 1, excerpt(line)));
        }
        if *count == SHOWN {
            log(format_args!("{sink}: further rejected lines are counted, but not shown"));
        }
        false
    }
}
