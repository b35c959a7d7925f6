//! A segment: a file of lines, and its index with an entry for each block of lines.

use crate::common::time::Timestamp;
use crate::ship::line::{BySignal, Signal};

/// The file with the lines of a segment; `first` is the offset of the first line.
pub fn lines_name(first: u64) -> String {
    format!("{first:020}.ndjson")
}

/// The file with the index of a segment.
pub fn index_name(first: u64) -> String {
    format!("{first:020}.index")
}

/// Offsets are below this, so that adding to them does not overflow.
pub const MAX_OFFSET: u64 = 1 << 62;

/// The offset in a name with this ending.
pub fn parse_name(name: &str, ending: &str) -> Option<u64> {
    let digits = name.strip_suffix(ending)?.strip_suffix('.').filter(|digits| digits.len() == 20)?;
    digits.parse().ok().filter(|offset| *offset < MAX_OFFSET)
}

/// A block: consecutive lines that were committed together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// Where it begins in the file of lines.
    pub position: u64,
    /// The offset of its first line.
    pub first: u64,
    /// When its lines were read.
    pub received: Timestamp,
    /// The number of its lines for each signal.
    pub signals: BySignal<u32>,
    /// Its size, with the newlines.
    pub length: u32,
    /// The CRC-32 of its bytes.
    pub crc: u32,
}

/// The size of an index entry: the fields of [`Block`] as little-endian integers, and their CRC-32.
pub const ENTRY: usize = 48;

impl Block {
    /// The number of lines.
    pub fn lines(&self) -> u64 {
        self.signals.iter().map(|lines| u64::from(*lines)).sum()
    }

    /// The number of lines for a signal, or of all.
    pub fn lines_for(&self, signal: Option<Signal>) -> u64 {
        signal.map_or_else(|| self.lines(), |signal| self.signals[signal as usize].into())
    }

    /// Whether the index shows that no line is for `signal`: all are for one other signal.
    pub fn is_without(&self, signal: Option<Signal>) -> bool {
        let is_whole = |other: &Signal| self.lines_for(Some(*other)) == self.lines();
        signal.is_some_and(|signal| {
            Signal::ALL.iter().find(|other| is_whole(other)).is_some_and(|other| *other != signal)
        })
    }

    /// The lines for a signal, or all, with their offsets. `bytes` are those of the block.
    pub fn split<'a>(
        &self,
        bytes: &'a [u8],
        signal: Option<Signal>,
    ) -> impl Iterator<Item = (u64, &'a [u8])> {
        let text = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        let ends = memchr::memchr_iter(b'\n', text).chain([text.len()]);
        let lines = ends.scan(0, move |start, end| Some(&text[std::mem::replace(start, end + 1)..end]));
        let signal = signal.filter(|signal| self.lines_for(Some(*signal)) < self.lines());
        let is_wanted = move |line: &[u8]| signal.is_none_or(|signal| Signal::of_line(line) == signal);
        (self.first..).zip(lines).filter(move |(_, line)| is_wanted(line))
    }

    /// One more than the offset of the last line.
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.lines())
    }

    /// Where the next block begins in the file of lines.
    pub fn end_position(&self) -> u64 {
        self.position.saturating_add(self.length.into())
    }

    /// The index entry.
    pub fn to_entry(self) -> [u8; ENTRY] {
        let Self { position, first, received, signals: [metrics, logs, traces], length, crc } = self;
        let mut entry = [0; ENTRY];
        for (index, value) in [position, first, received.0].into_iter().enumerate() {
            entry[8 * index..8 * index + 8].copy_from_slice(&value.to_le_bytes());
        }
        for (index, value) in [metrics, logs, traces, length, crc].into_iter().enumerate() {
            entry[24 + 4 * index..28 + 4 * index].copy_from_slice(&value.to_le_bytes());
        }
        let own = crc32fast::hash(&entry[..44]);
        entry[44..].copy_from_slice(&own.to_le_bytes());
        entry
    }

    /// Reads an index entry; `None` if it is damaged.
    pub fn from_entry(entry: &[u8]) -> Option<Self> {
        let long = |at: usize| Some(u64::from_le_bytes(entry.get(at..at + 8)?.try_into().ok()?));
        let short = |at: usize| Some(u32::from_le_bytes(entry.get(at..at + 4)?.try_into().ok()?));
        let (position, first, received) = (long(0)?, long(8)?, Timestamp(long(16)?));
        let (signals, length, crc) = ([short(24)?, short(28)?, short(32)?], short(36)?, short(40)?);
        let block = Self { position, first, received, signals, length, crc };
        let is_whole = entry.len() == ENTRY && short(44)? == crc32fast::hash(&entry[..44]);
        (is_whole && block.lines() > 0 && first < MAX_OFFSET).then_some(block)
    }

    /// Whether these are its bytes.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        bytes.len() == self.length as usize && crc32fast::hash(bytes) == self.crc
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_of_an_entry_is_noticed() {
        let received = Timestamp(1_764_288_000_000_000_000);
        let block = Block {
            position: 7,
            first: 1 << 40,
            received,
            signals: [3, 0, 1 << 31],
            length: 99,
            crc: 0xdead_beef,
        };
        let entry = block.to_entry();
        assert_eq!(Block::from_entry(&entry), Some(block));
        for bit in 0..8 * ENTRY {
            let mut damaged = entry;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Block::from_entry(&damaged), None, "bit {bit}");
        }
        assert_eq!(Block::from_entry(&entry[..47]), None);
        assert_eq!(Block::from_entry(&[0; ENTRY]), None, "a hole");
    }

    #[test]
    fn lines_are_split_by_signal() {
        let (span, log) = ("{\"kind\":\"span\"}", "log");
        let bytes = format!("{span}\n{log}\n\n{span}\n").into_bytes();
        let block =
            Block { position: 0, first: 7, received: Timestamp(0), signals: [0, 2, 2], length: 0, crc: 0 };
        let offsets = |signal| block.split(&bytes, signal).map(|(offset, _)| offset).collect::<Vec<_>>();
        assert_eq!(offsets(None), [7, 8, 9, 10]);
        assert_eq!(offsets(Some(Signal::Traces)), [7, 10]);
        assert_eq!(offsets(Some(Signal::Logs)), [8, 9]);
        assert!(offsets(Some(Signal::Metrics)).is_empty());
        assert!(Signal::ALL.iter().all(|signal| !block.is_without(Some(*signal))), "it is mixed");
        let logs = Block { signals: [0, 4, 0], ..block };
        let without = Signal::ALL.map(|signal| logs.is_without(Some(signal)));
        assert_eq!((without, logs.is_without(None)), ([true, false, true], false));
    }

    #[test]
    fn names_sort_by_offset() {
        assert_eq!(parse_name(&lines_name(17), "ndjson"), Some(17));
        assert_eq!(parse_name(&index_name(u64::MAX), "index"), None);
        assert_eq!(parse_name("17.ndjson", "ndjson"), None);
        assert!(lines_name(9) < lines_name(10));
    }
}
