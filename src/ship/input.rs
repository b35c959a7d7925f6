//! From bytes to batches: lines are split off what was read, and gathered until
//! there are enough of them, or they are old enough.
//!
//! A line ends at `\n`; the last one may lack it. Lines of nothing but white
//! space are not records and are not counted. A byte order mark before a line,
//! which files from elsewhere begin with, is no part of it. A line over 1 MiB is skipped
//! without being held. Every line has a number, whatever becomes of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use memchr::memchr;

use super::Batch;
use crate::record::MAX_LINE;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Splits a stream into lines.
#[derive(Default)]
pub struct Splitter {
    /// The beginning of a line whose end has not come yet; at most [`MAX_LINE`] and a bit.
    partial: Vec<u8>,
    /// That line is too long, and its bytes are being skipped.
    skipping: bool,
    offset: u64,
}

/// What a stream is split into, each with its number from 0.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece<'a> {
    /// A line, without its newline.
    Line(u64, &'a [u8]),
    /// A line that was too long.
    TooLong(u64),
}

impl Splitter {
    /// Takes what was read, and gives every line that it completes.
    pub fn feed(&mut self, mut chunk: &[u8], mut each: impl FnMut(Piece<'_>)) {
        while let Some(end) = memchr(b'\n', chunk) {
            self.line(&chunk[..end], &mut each);
            chunk = &chunk[end + 1..];
        }
        self.keep(chunk);
    }

    /// The stream has ended: gives the last line, if it lacked its newline.
    pub fn end(&mut self, mut each: impl FnMut(Piece<'_>)) {
        if self.unfinished() {
            self.line(b"", &mut each);
        }
    }

    /// Whether the stream stands in the middle of a line.
    pub fn unfinished(&self) -> bool {
        self.skipping || !blank(&self.partial)
    }

    fn line(&mut self, rest: &[u8], each: &mut impl FnMut(Piece<'_>)) {
        let offset = self.offset;
        self.offset += 1;
        let line = if self.partial.is_empty() && !self.skipping && rest.len() <= MAX_LINE {
            rest
        } else {
            self.keep(rest);
            &self.partial
        };
        let line = unmarked(line);
        if self.skipping {
            each(Piece::TooLong(offset));
        } else if !blank(line) {
            each(Piece::Line(offset, line));
        }
        self.skipping = false;
        self.partial.clear();
    }

    fn keep(&mut self, part: &[u8]) {
        if self.partial.len() + part.len() > MAX_LINE {
            self.skipping = true;
            self.partial = Vec::new();
        } else if !self.skipping {
            self.partial.extend_from_slice(part);
        }
    }
}

fn unmarked(line: &[u8]) -> &[u8] {
    line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line)
}

fn blank(line: &[u8]) -> bool {
    unmarked(line).trim_ascii().is_empty()
}

/// When a batch is full.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// At so many lines.
    pub lines: usize,
    /// Before more than so many bytes; a single longer line is a batch.
    pub bytes: usize,
    /// So long after its first line was read.
    pub age: Duration,
}

/// Gathers lines into batches.
pub struct Cutter {
    limits: Limits,
    batch: Option<Batch>,
}

impl Cutter {
    /// With nothing gathered.
    pub fn new(limits: Limits) -> Self {
        Self { limits, batch: None }
    }

    /// Adds a line, and hands whatever is full to `full`.
    pub fn push(&mut self, offset: u64, line: &[u8], mut full: impl FnMut(Arc<Batch>)) {
        let Limits { lines, bytes, .. } = self.limits;
        if self.batch.as_ref().is_some_and(|batch| batch.bytes() + line.len() > bytes)
            && let Some(batch) = self.cut()
        {
            full(batch);
        }
        let batch = self.batch.get_or_insert_with(Batch::new);
        batch.push(offset, line);
        if (batch.len() >= lines || batch.bytes() >= bytes)
            && let Some(batch) = self.cut()
        {
            full(batch);
        }
    }

    /// When the first of what is gathered was read; `None` if there is nothing.
    pub fn since(&self) -> Option<Instant> {
        self.batch.as_ref().map(|batch| batch.since)
    }

    /// When what is gathered has its age; `None` if there is nothing.
    pub fn due(&self) -> Option<Instant> {
        self.since().map(|since| since + self.limits.age)
    }

    /// What is gathered, whether full or not.
    pub fn cut(&mut self) -> Option<Arc<Batch>> {
        self.batch.take().map(Arc::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The pieces of `input`, read in chunks of `size`; `None` for one that is too long.
    fn split(input: &[u8], size: usize) -> Vec<(u64, Option<Vec<u8>>)> {
        let mut pieces = Vec::new();
        let mut each = |piece: Piece<'_>| match piece {
            Piece::Line(offset, line) => pieces.push((offset, Some(line.to_vec()))),
            Piece::TooLong(offset) => pieces.push((offset, None)),
        };
        let mut splitter = Splitter::default();
        for chunk in input.chunks(size) {
            splitter.feed(chunk, &mut each);
            assert!(splitter.partial.capacity() <= 2 * MAX_LINE);
        }
        splitter.end(&mut each);
        pieces
    }

    proptest! {
        #[test]
        fn chunks_make_no_difference(input in "[a-c \n\r]{0,60}", size in 1usize..20) {
            let expected: Vec<_> = input
                .split('\n')
                .enumerate()
                .filter(|(_, line)| !line.trim_ascii().is_empty())
                .map(|(offset, line)| (offset as u64, Some(line.as_bytes().to_vec())))
                .collect();
            prop_assert_eq!(split(input.as_bytes(), size), expected);
        }
    }

    #[test]
    fn too_long_is_skipped_and_the_next_is_whole() {
        for length in [MAX_LINE, MAX_LINE + 1, 2 * MAX_LINE, 5 * MAX_LINE] {
            let mut input = vec![b'x'; length];
            input.extend_from_slice(b"\n{}\n");
            input.extend(vec![b'y'; length]);
            for size in [4096, 65_536, 100_000_000] {
                let pieces = split(&input, size);
                let whole = |byte| (length <= MAX_LINE).then(|| vec![byte; length]);
                assert!(pieces[0] == (0, whole(b'x')), "{length} in chunks of {size}");
                assert_eq!(pieces[1], (1, Some(b"{}".to_vec())));
                assert!(pieces[2] == (2, whole(b'y')) && pieces.len() == 3);
            }
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_a_line() {
        let input = "\u{feff}{}\n\u{feff}\r\n\u{feff}{\"a\":\"\u{feff}\"}\n\u{feff}";
        let expected = [(0, Some(b"{}".to_vec())), (2, Some("{\"a\":\"\u{feff}\"}".into()))];
        for size in 1..20 {
            assert_eq!(split(input.as_bytes(), size), expected, "in chunks of {size}");
        }
    }

    #[test]
    fn batches_are_cut_by_lines_and_bytes() {
        let sizes = |limits: Limits, lines: &[usize]| {
            let (mut cutter, mut sizes) = (Cutter::new(limits), Vec::new());
            for (offset, length) in lines.iter().enumerate() {
                cutter.push(offset as u64, &vec![b'x'; *length], |batch| sizes.push(batch.len()));
            }
            sizes.extend(cutter.cut().map(|batch| batch.len()));
            assert!(cutter.due().is_none());
            sizes
        };
        let limits = Limits { lines: 3, bytes: 100, age: Duration::from_secs(1) };
        assert_eq!(sizes(limits, &[1; 7]), [3, 3, 1]);
        assert_eq!(sizes(limits, &[50, 50, 1]), [2, 1]);
        assert_eq!(sizes(limits, &[60, 41, 500, 1]), [1, 1, 1, 1]);
    }
}
