//! Batches: consecutive lines of the input that a sink encodes together, and what identifies them after a restart.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::pool::{Buffer, Pool};
use crate::common::time::Timestamp;

/// Lines of the input, unchanged, without their newlines, in order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// When the first line was read, on the monotonic clock.
    pub since: Instant,
    bytes: Buffer,
    lines: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    end: usize,
    received: Timestamp,
}

/// Which lines a batch has, and when they were read. With the input itself, this is enough to build the same batch,
/// byte for byte, after a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchRange {
    /// The offset of the first line.
    pub first: u64,
    /// One more than the offset of the last line.
    pub end: u64,
    /// The time at which lines were read, from this offset on.
    pub received: Vec<(u64, Timestamp)>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::begun(Instant::now(), &Pool::default())
    }

    /// An empty batch that began then, with memory of that pool.
    pub(super) fn begun(since: Instant, pool: &Pool) -> Self {
        Self { since, bytes: pool.buffer(), lines: Vec::new() }
    }

    /// Adds a line that was read just now.
    pub fn push(&mut self, offset: u64, line: &[u8]) {
        self.push_received(offset, Timestamp::now(), line);
    }

    /// Adds a line. `offset` is its number in the input, from 0; empty and refused lines count too. `received` is
    /// the time at which it was read, which a line without a time of its own gets.
    pub fn push_received(&mut self, offset: u64, received: Timestamp, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines.push(Entry { offset, end: self.bytes.len(), received });
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True if there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The size of all lines together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Line `index` of this batch.
    pub fn line(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.lines[before].end);
        &self.bytes[start..self.lines[index].end]
    }

    /// The offset of line `index` in the input.
    pub fn offset(&self, index: usize) -> u64 {
        self.lines[index].offset
    }

    /// When line `index` was read.
    pub fn received(&self, index: usize) -> Timestamp {
        self.lines[index].received
    }

    /// A batch of only these lines.
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut part = Self::begun(self.since, &Pool::default());
        for &index in indices {
            part.push_received(self.offset(index), self.received(index), self.line(index));
        }
        part
    }

    /// What to keep of this batch for a restart; `None` if it is empty.
    pub fn range(&self) -> Option<BatchRange> {
        let (first, last) = (self.lines.first()?, self.lines.last()?);
        let mut received: Vec<(u64, Timestamp)> = Vec::new();
        for line in &self.lines {
            if received.last().is_none_or(|(_, time)| *time != line.received) {
                received.push((line.offset, line.received));
            }
        }
        Some(BatchRange { first: first.offset, end: last.offset + 1, received })
    }

    /// Builds the batch of `range` again from the lines of the input, which may be more than its own.
    pub fn replay<'a>(range: &BatchRange, lines: impl IntoIterator<Item = (u64, &'a [u8])>) -> Self {
        let mut batch = Self::new();
        for (offset, line) in
            lines.into_iter().filter(|(offset, _)| (range.first..range.end).contains(offset))
        {
            let known = range.received.partition_point(|(from, _)| *from <= offset);
            let received = known.checked_sub(1).map_or(Timestamp(0), |index| range.received[index].1);
            batch.push_received(offset, received, line);
        }
        batch
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_bytes_and_offsets() {
        let mut batch = Batch::new();
        for (offset, line) in [(3, &b"a"[..]), (4, b""), (9, b"\xff\x00"), (10, b"last")] {
            batch.push(offset, line);
        }
        assert_eq!((batch.len(), batch.bytes()), (4, 7));
        assert_eq!((batch.offset(2), batch.line(2)), (9, &b"\xff\x00"[..]));
        let part = batch.select(&[0, 3]);
        assert_eq!((part.len(), part.bytes(), part.since), (2, 5, batch.since));
        assert_eq!((part.offset(1), part.line(1)), (10, &b"last"[..]));
    }

    #[test]
    fn a_range_survives_json_and_rebuilds_the_batch() {
        let input: Vec<(u64, Vec<u8>)> = (0..20).map(|n| (n, format!("line {n}").into_bytes())).collect();
        let lines = || input.iter().map(|(offset, line)| (*offset, line.as_slice()));
        let mut batch = Batch::new();
        for (offset, line) in lines().filter(|(offset, _)| (4..15).contains(offset)) {
            batch.push_received(offset, Timestamp(1000 + offset / 3), line);
        }
        let range = batch.range().unwrap();
        assert_eq!((range.first, range.end, range.received.len()), (4, 15, 4));
        let stored = serde_json::to_string(&range).unwrap();
        let again = Batch::replay(&serde_json::from_str(&stored).unwrap(), lines());
        assert_eq!(again.len(), batch.len());
        for index in 0..batch.len() {
            let facts =
                |batch: &Batch| (batch.offset(index), batch.received(index), batch.line(index).to_vec());
            assert_eq!(facts(&again), facts(&batch));
        }
        assert_eq!(Batch::new().range(), None);
    }
}
