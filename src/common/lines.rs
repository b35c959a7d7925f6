//! Splits a stream, read in chunks, into lines. Memory is bounded: a line over the limit is passed on in parts.

use memchr::{memchr, memchr_iter, memrchr};

/// Chunks are split in pieces of this size, so that no line within one is over the limit.
const STEP: usize = 64 * 1024;

/// Assembles lines from the chunks of a stream.
pub struct Splitter {
    limit: usize,
    /// The start of a line whose end has not been read, at most `limit` bytes.
    partial: Vec<u8>,
    /// That line is over the limit; the parts read so far have been passed on.
    long: bool,
}

/// What [`Splitter::feed`] passes on. Newlines are not included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A line of at most the limit. It may be empty.
    Whole(&'a [u8]),
    /// The next bytes of a line over the limit. Its parts follow each other, and `last` is true once, on the last;
    /// a part may be empty.
    Part {
        /// The bytes.
        bytes: &'a [u8],
        /// The line ends here.
        last: bool,
    },
}

/// What [`Splitter::feed_blocks`] passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// One or more lines, each with its newline; only the last line of the stream may lack it.
    Lines(&'a [u8]),
    /// As [`Line::Part`].
    Part {
        /// The bytes, without a newline.
        bytes: &'a [u8],
        /// The line ends here.
        last: bool,
    },
}

impl Splitter {
    /// `limit` is the length of the longest line that is passed on whole, without its newline.
    pub fn new(limit: usize) -> Self {
        Self { limit, partial: Vec::new(), long: false }
    }

    /// Passes every line that `chunk` completes to `each`.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn feed<E>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Line<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        self.feed_blocks(chunk, |block| single(block, &mut each))
    }

    /// As [`Splitter::feed`], with as many lines at once as there are.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn feed_blocks<E>(
        &mut self,
        chunk: &[u8],
        mut each: impl FnMut(Block<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        chunk.chunks(STEP.min(self.limit.max(1))).try_for_each(|piece| self.step(piece, &mut each))
    }

    fn step<E>(
        &mut self,
        mut piece: &[u8],
        each: &mut impl FnMut(Block<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if (self.long || !self.partial.is_empty())
            && let Some(end) = memchr(b'\n', piece)
        {
            self.keep(&piece[..end], each)?;
            if std::mem::take(&mut self.long) {
                each(Block::Part { bytes: b"", last: true })?;
            } else {
                self.partial.push(b'\n');
                each(Block::Lines(&self.partial))?;
            }
            self.partial.clear();
            piece = &piece[end + 1..];
        }
        if let Some(end) = memrchr(b'\n', piece) {
            each(Block::Lines(&piece[..=end]))?;
            piece = &piece[end + 1..];
        }
        self.keep(piece, each)
    }

    /// Keeps the start of a line, or passes it on if the line is over the limit.
    fn keep<E>(&mut self, part: &[u8], each: &mut impl FnMut(Block<'_>) -> Result<(), E>) -> Result<(), E> {
        if !self.long && self.partial.len() + part.len() <= self.limit {
            self.partial.extend_from_slice(part);
            return Ok(());
        }
        if !std::mem::replace(&mut self.long, true) {
            each(Block::Part { bytes: &std::mem::take(&mut self.partial), last: false })?;
        }
        if part.is_empty() { Ok(()) } else { each(Block::Part { bytes: part, last: false }) }
    }

    /// The start of a line whose end has not been read; `None` at the start of a line, and within one over the limit.
    pub fn partial(&self) -> Option<&[u8]> {
        (!self.partial.is_empty()).then_some(&self.partial)
    }

    /// Whether the stream is within a line.
    pub fn is_partial(&self) -> bool {
        self.long || !self.partial.is_empty()
    }

    /// The stream has ended: passes on the last line, if it lacks its newline.
    ///
    /// # Errors
    /// The error of `each`.
    pub fn end<E>(&mut self, mut each: impl FnMut(Line<'_>) -> Result<(), E>) -> Result<(), E> {
        if std::mem::take(&mut self.long) {
            return each(Line::Part { bytes: b"", last: true });
        }
        match std::mem::take(&mut self.partial) {
            partial if partial.is_empty() => Ok(()),
            partial => each(Line::Whole(&partial)),
        }
    }
}

fn single<E>(block: Block<'_>, each: &mut impl FnMut(Line<'_>) -> Result<(), E>) -> Result<(), E> {
    let lines = match block {
        Block::Part { bytes, last } => return each(Line::Part { bytes, last }),
        Block::Lines(lines) => lines.strip_suffix(b"\n").unwrap_or(lines),
    };
    let mut start = 0;
    for end in memchr_iter(b'\n', lines).chain([lines.len()]) {
        each(Line::Whole(&lines[start..end]))?;
        start = end + 1;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines of `input` read in chunks of `size`, and whether each was whole.
    fn split(input: &[u8], size: usize, limit: usize) -> Vec<(bool, Vec<u8>)> {
        let (mut splitter, mut lines, mut long) = (Splitter::new(limit), Vec::new(), Vec::new());
        let mut each = |line: Line<'_>| {
            match line {
                Line::Whole(line) => {
                    assert!(long.is_empty(), "a line between the parts of another");
                    lines.push((true, line.to_vec()));
                }
                Line::Part { bytes, last } => {
                    long.extend_from_slice(bytes);
                    if last {
                        lines.push((false, std::mem::take(&mut long)));
                    }
                }
            }
            Ok::<_, ()>(())
        };
        for chunk in input.chunks(size) {
            splitter.feed(chunk, &mut each).unwrap();
            assert!(splitter.partial.capacity() <= 2 * limit.max(8));
        }
        splitter.end(&mut each).unwrap();
        assert!(!splitter.is_partial());
        lines
    }

    proptest! {
        /// Every byte arrives, in the line that it belongs to, whatever the sizes of the chunks.
        #[test]
        fn chunks_make_no_difference(input in "[a-c\n]{0,80}", size in 1usize..20, limit in 0usize..9) {
            let mut expected: Vec<_> =
                input.split('\n').map(|line| (line.len() <= limit, line.as_bytes().to_vec())).collect();
            expected.pop_if(|(_, last)| last.is_empty());
            prop_assert_eq!(split(input.as_bytes(), size, limit), expected);
        }
    }

    #[test]
    fn a_long_line_is_passed_on_in_parts_and_the_next_is_whole() {
        let limit = 1 << 20;
        for length in [limit, limit + 1, 2 * limit, 5 * limit] {
            let mut input = vec![b'x'; length];
            input.extend_from_slice(b"\n{}\n");
            input.extend(vec![b'y'; length]);
            for size in [4096, 65_536, 100_000_000] {
                let whole = length <= limit;
                let expected =
                    [(whole, vec![b'x'; length]), (true, b"{}".to_vec()), (whole, vec![b'y'; length])];
                assert!(split(&input, size, limit) == expected, "{length} bytes in chunks of {size}");
            }
        }
    }
}
