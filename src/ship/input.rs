//! Reads the input, stdin or files, and splits it into lines, which `--map` can change.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::de::IgnoredAny;

use super::map::Map;
use crate::common::diag::log;
use crate::common::lines::{Line, Splitter};
use crate::common::stop::Stop;

const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();
/// How much of a line that is too long is kept, for messages.
pub const START: usize = 400;

/// Where bytes come from.
pub trait Source {
    /// Waits for input, and reads some.
    ///
    /// # Errors
    /// If the input cannot be read. A file that cannot be read does not stop the others.
    fn read(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> Result<Chunk>;

    /// How far it has read, for [`Source::resume`]; `None` if it cannot continue from there.
    fn positions(&self) -> Option<Vec<u8>> {
        None
    }

    /// Continues from what [`Source::positions`] gave.
    fn resume(&mut self, _: &[u8]) {}
}

/// The result of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    /// This many bytes were read.
    Bytes(usize),
    /// A file has ended, and with it the line.
    FileEnd,
    /// Nothing yet.
    Nothing,
    /// The input has ended.
    End,
}

/// How long a source may wait for input.
pub struct Wait<'a> {
    /// Ends the wait when the program is asked to stop; `None` if it was already.
    pub stop: Option<&'a Stop>,
    /// When to end the wait.
    pub until: Option<Instant>,
}

impl Wait<'_> {
    /// Waits until `fd` is readable; false if something else ended the wait.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn readable(&self, fd: BorrowedFd<'_>, most: Option<Duration>) -> rustix::io::Result<bool> {
        let mut fds = vec![PollFd::new(&fd, PollFlags::IN)];
        fds.extend(self.stop.map(|stop| PollFd::from_borrowed_fd(stop.fd(), PollFlags::IN)));
        let until = self.until.map(|until| until.saturating_duration_since(Instant::now()));
        let wait = until.into_iter().chain(most).min();
        match poll(&mut fds, wait.and_then(|wait| Timespec::try_from(wait).ok()).as_ref()) {
            Ok(_) => Ok(!fds[0].revents().is_empty()),
            Err(Errno::INTR) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads from a descriptor that may block.
    fn read(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> rustix::io::Result<Chunk> {
        if !self.readable(fd, None)? {
            return Ok(Chunk::Nothing);
        }
        match rustix::io::read(fd, buffer) {
            Ok(0) => Ok(Chunk::End),
            Ok(length) => Ok(Chunk::Bytes(length)),
            Err(Errno::INTR | Errno::AGAIN) => Ok(Chunk::Nothing),
            Err(error) => Err(error),
        }
    }
}

/// Standard input.
pub struct Stdin;

impl Source for Stdin {
    fn read(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> Result<Chunk> {
        wait.read(rustix::stdio::stdin(), buffer).context("cannot read stdin")
    }
}

/// Files, one after the other.
pub struct Files {
    paths: VecDeque<PathBuf>,
    open: Option<File>,
    failed: usize,
}

impl Files {
    /// Reads these files; `-` is stdin.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths: paths.into(), open: None, failed: 0 }
    }

    fn next(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> Result<Option<Chunk>> {
        let Some(path) = self.paths.front() else { return Ok(None) };
        if self.open.is_none() {
            let is_stdin = path.as_os_str() == "-";
            self.open = Some(if is_stdin {
                rustix::io::dup(rustix::stdio::stdin())?.into()
            } else {
                File::open(path)?
            });
        }
        Ok(match &self.open {
            Some(file) => Some(wait.read(file.as_fd(), buffer)?),
            None => None,
        })
    }
}

impl Source for Files {
    fn read(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> Result<Chunk> {
        let failed = match self.next(buffer, wait) {
            Ok(Some(Chunk::End)) => None,
            Ok(Some(chunk)) => return Ok(chunk),
            Ok(None) if self.failed > 0 => bail!("{} of the --input files could not be read", self.failed),
            Ok(None) => return Ok(Chunk::End),
            Err(error) => Some(error),
        };
        self.open = None;
        if let (Some(path), Some(error)) = (self.paths.pop_front(), failed) {
            self.failed += 1;
            log(format_args!("cannot read {}: {error}", path.display()));
        }
        Ok(Chunk::FileEnd)
    }
}

/// What becomes of the input, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A line to deliver.
    Line(&'a [u8]),
    /// A blank line.
    Blank,
    /// A line for which the map gives no output.
    Empty,
    /// The next bytes of a line over the limit.
    Part(&'a [u8]),
    /// That line has ended; this is its start.
    Long(&'a [u8]),
    /// A line that cannot be delivered, and why.
    Refused(&'a [u8], String),
}

/// Splits the input into lines, and maps them.
pub struct Lines {
    splitter: Splitter,
    mapper: Mapper,
}

struct Mapper {
    map: Option<Map>,
    /// The start of the line being read, if it is over the limit.
    long: Vec<u8>,
}

impl Lines {
    /// Lines of at most `max_line` bytes.
    pub fn new(max_line: usize) -> Self {
        Self { splitter: Splitter::new(max_line), mapper: Mapper { map: None, long: Vec::new() } }
    }

    /// Maps each line.
    pub fn map(&mut self, map: Map) {
        self.mapper.map = Some(map);
    }

    /// Passes on what `chunk` completes.
    pub fn feed(&mut self, chunk: &[u8], each: &mut impl FnMut(Event<'_>)) {
        let Self { splitter, mapper } = self;
        let Ok(()) = splitter.feed(chunk, |line| {
            mapper.line(line, each);
            Ok::<_, Infallible>(())
        });
        mapper.run(each);
    }

    /// The input, or one of its files, has ended: passes on the last line, if it lacks its newline.
    pub fn end(&mut self, each: &mut impl FnMut(Event<'_>)) {
        let Self { splitter, mapper } = self;
        let Ok(()) = splitter.end(|line| {
            match line {
                Line::Whole(bytes) => match cut_off(bytes) {
                    Some(reason) => each(Event::Refused(bytes, reason)),
                    None => mapper.line(line, each),
                },
                Line::Part { .. } => mapper.line(line, each),
            }
            Ok::<_, Infallible>(())
        });
        mapper.run(each);
    }

    /// Whether the input is within a line.
    pub fn is_within_line(&self) -> bool {
        self.splitter.is_partial()
    }

    /// Whether the input is within a line over the limit.
    pub fn is_within_long(&self) -> bool {
        self.splitter.is_partial() && self.splitter.partial().is_none()
    }

    /// Whether the input is within a line that is not blank so far.
    pub fn is_partial(&self) -> bool {
        self.splitter.is_partial() && self.splitter.partial().is_none_or(|start| content(start).is_some())
    }
}

impl Mapper {
    fn line(&mut self, line: Line<'_>, each: &mut impl FnMut(Event<'_>)) {
        match line {
            Line::Whole(line) => match (content(line), &mut self.map) {
                (None, _) => each(Event::Blank),
                (Some(line), None) => each(Event::Line(line)),
                (Some(line), Some(map)) => map.push(line),
            },
            Line::Part { bytes, last } => {
                self.run(each);
                each(Event::Part(bytes));
                self.long.extend_from_slice(&bytes[..bytes.len().min(START - self.long.len())]);
                if last {
                    each(Event::Long(&std::mem::take(&mut self.long)));
                }
            }
        }
    }

    /// Maps the lines that were added since the last call.
    fn run(&mut self, each: &mut impl FnMut(Event<'_>)) {
        let Some(map) = &mut self.map else { return };
        map.run(|line, mapped| match mapped {
            Err(reason) => each(Event::Refused(line, reason)),
            Ok(b"") => each(Event::Empty),
            Ok(outputs) => {
                let outputs = outputs.strip_suffix(b"\n").unwrap_or(outputs);
                outputs.split(|byte| *byte == b'\n').for_each(|output| each(Event::Line(output)));
            }
        });
    }
}

/// A line without a byte order mark, which files of some programs begin with; `None` if it is blank.
fn content(line: &[u8]) -> Option<&[u8]> {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    (!line.trim_ascii().is_empty()).then_some(line)
}

/// Why the last line of an input that ends without a newline is not whole; `None` if it is.
fn cut_off(line: &[u8]) -> Option<String> {
    let error = serde_json::from_slice::<IgnoredAny>(content(line)?).err()?;
    Some(format!("cut off by the end of the input: {error}"))
}
