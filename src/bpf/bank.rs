//! Intervals without stopping the kernel and without losing anything.
//!
//! The arrays that the kernel counts in exist twice, and a word says which half
//! is counted in. An interval ends when the word changes. The half that is left
//! is then still: it is read, and the interval is what it gained since it was
//! last read. Nothing is reset, so whatever a straggler might add later belongs
//! to a later interval and is not lost.

use std::thread::sleep;
use std::time::Duration;

use rustix::thread::{MembarrierCommand, membarrier};

use super::map::{load, store};

/// How long a program that has begun may take, where the kernel cannot be asked to wait.
const LONGEST_RUN: Duration = Duration::from_millis(5);

/// The word that says which half is counted in.
pub struct Banks {
    word: *mut u32,
}

impl Banks {
    /// # Safety
    /// `word` is valid for as long as this lives, and only the kernel reads it beside us.
    pub unsafe fn new(word: *mut u32) -> Self {
        Self { word }
    }

    /// Ends the interval; `at_switch` is called at its very end. Returns the half that
    /// is now still.
    pub fn switch<T>(&mut self, at_switch: impl FnOnce() -> T) -> (usize, T) {
        // SAFETY: valid by `new`.
        let half = unsafe { load(self.word) } & 1;
        // SAFETY: likewise.
        unsafe { store(self.word, 1 - half) };
        let seen = at_switch();
        // A program that has read the word before may still be counting. Programs run inside
        // RCU read-side sections, and this waits for all of them to end. It fails only with
        // CPUs that the scheduler leaves alone (nohz_full).
        if membarrier(MembarrierCommand::Global).is_err() {
            sleep(LONGEST_RUN);
        }
        (half as usize, seen)
    }
}
