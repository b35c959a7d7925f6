//! Lines of the input that travel together.

use std::time::Instant;

use crate::common::time::Timestamp;

/// Lines of the input as they came, without their newlines, in their order.
#[derive(Clone, Debug)]
pub struct Batch {
    /// When the first of them was read: what a line without a time of its own gets.
    pub received: Timestamp,
    /// The same on the monotonic clock: how old the batch is.
    pub since: Instant,
    bytes: Vec<u8>,
    lines: Vec<Entry>,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    offset: u64,
    end: usize,
}

impl Batch {
    /// Empty, and begun now.
    pub fn new() -> Self {
        let (received, since) = (Timestamp::now(), Instant::now());
        Self { received, since, bytes: Vec::new(), lines: Vec::new() }
    }

    /// Adds a line. `offset` is its number, from 0, among all lines of the
    /// input, empty and refused ones too.
    pub fn push(&mut self, offset: u64, line: &[u8]) {
        self.bytes.extend_from_slice(line);
        self.lines.push(Entry { offset, end: self.bytes.len() });
    }

    /// The number of lines.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// True if there is no line.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The bytes of all lines together.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Line `index` of this batch, as it came.
    pub fn line(&self, index: usize) -> &[u8] {
        let start = index.checked_sub(1).map_or(0, |before| self.lines[before].end);
        &self.bytes[start..self.lines[index].end]
    }

    /// The number of line `index` in the input, from 0.
    pub fn offset(&self, index: usize) -> u64 {
        self.lines[index].offset
    }

    /// A batch of only these lines, as old as this one.
    pub fn select(&self, indices: &[usize]) -> Self {
        let mut part = Self { bytes: Vec::new(), lines: Vec::with_capacity(indices.len()), ..*self };
        for &index in indices {
            part.push(self.offset(index), self.line(index));
        }
        part
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
}
