//! `--input FILE|-`: what another program printed, in pieces as it comes, until its end or until we are to stop.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};

use crate::common::stop::Stop;

/// How much is read at once.
const PIECE: usize = 64 * 1024;

/// Above this a line is cut: nothing that we read has longer ones, and memory is finite.
const LONGEST: usize = 1 << 20;

/// A file, a pipe, or the output of a child.
pub struct Input {
    fd: OwnedFd,
    stop: Stop,
    buffer: Vec<u8>,
}

impl Input {
    /// `-` is stdin.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path, stop: &Stop) -> Result<Self> {
        let fd = if path == Path::new("-") {
            rustix::stdio::stdin().try_clone_to_owned().context("cannot read stdin")?
        } else {
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?.into()
        };
        Ok(Self::new(fd, stop))
    }

    /// What is already open.
    pub fn new(fd: OwnedFd, stop: &Stop) -> Self {
        Self { fd, stop: stop.clone(), buffer: vec![0; PIECE] }
    }

    /// Whether more can be read at once, or the end has come.
    pub fn ready(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    /// The next piece; `None` at the end, and when the program is to stop.
    ///
    /// # Errors
    /// What the system says of reading.
    pub fn piece(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let wake = self.stop.fd();
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&wake, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) if self.stop.asked() => return Ok(None),
                Ok(_) if fds[0].revents().is_empty() => {}
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match rustix::io::read(&self.fd, &mut self.buffer[..]) {
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(&self.buffer[..length])),
            Err(error) => Err(error.into()),
        }
    }
}

/// Cuts pieces into lines.
#[derive(Default)]
pub struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Hands each line that is complete, without its newline, to `each`.
    ///
    /// # Errors
    /// The first error of `each`.
    pub fn push<E>(&mut self, piece: &[u8], mut each: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        self.push_all(piece, |lines| {
            let lines = lines.strip_suffix(b"\n").unwrap_or(lines);
            let mut from = 0;
            for end in memchr::memchr_iter(b'\n', lines).chain([lines.len()]) {
                each(&lines[from..end])?;
                from = end + 1;
            }
            Ok(())
        })
    }

    /// Hands the lines that are complete to `take`, with their newlines and as many at once as there are.
    ///
    /// # Errors
    /// The first error of `take`.
    pub fn push_all<E>(
        &mut self,
        piece: &[u8],
        mut take: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut piece = piece;
        if !self.rest.is_empty()
            && let Some(end) = memchr::memchr(b'\n', piece)
        {
            self.rest.extend_from_slice(&piece[..=end]);
            take(&std::mem::take(&mut self.rest))?;
            piece = &piece[end + 1..];
        }
        if let Some(end) = memchr::memrchr(b'\n', piece) {
            take(&piece[..=end])?;
            piece = &piece[end + 1..];
        }
        self.rest.extend_from_slice(piece);
        if self.rest.len() > LONGEST {
            take(&std::mem::take(&mut self.rest))?;
        }
        Ok(())
    }

    /// What came after the last newline, which may be a line that was cut off.
    pub fn rest(&self) -> Option<&[u8]> {
        (!self.rest.is_empty()).then_some(&self.rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_of_any_size_give_the_same_lines(text in "[ab\n]{0,40}", size in 1usize..9) {
            let (mut lines, mut seen) = (Lines::default(), Vec::new());
            for piece in text.as_bytes().chunks(size) {
                lines.push(piece, |line| { seen.push(line.to_vec()); Ok::<_, ()>(()) }).unwrap();
            }
            seen.push(lines.rest().unwrap_or_default().to_vec());
            let expected: Vec<_> = text.split('\n').map(|line| line.as_bytes().to_vec()).collect();
            prop_assert_eq!(seen, expected);
        }
    }
}
