//! Where every record goes out: one reused buffer, then stdout.
//!
//! [`Emitter::emit`] appends a line; [`Emitter::flush`] writes what is there,
//! and is called when nothing more is pending. Serializing fills the buffer and
//! never touches the descriptor, so that a broken pipe stays an [`io::Error`]
//! and is seen where it happens.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};

use crate::common::diag::log;
use crate::common::filter::Filter;
use crate::common::stop::PENDING_LINES;
use crate::common::time::Timestamp;
use crate::record::{LOST, Lost, MAX_LINE, Reason, Record, STATUS, Status, write_fields};

/// Above this the buffer is written even if more is pending.
const HIGH_WATER: usize = 64 * 1024;

/// What a pipe takes in one piece from each of several writers: Linux's PIPE_BUF, at least 512 elsewhere.
const WHOLE: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// Writes records to stdout.
pub struct Emitter {
    host: Vec<u8>,
    filter: Option<Filter>,
    filter_all: bool,
    buffer: Vec<u8>,
    scratch: Vec<u8>,
    reported: HashSet<(String, u8)>,
    written: u64,
    lost: u64,
    /// Stdout is a pipe, into which others may write too.
    shared: bool,
}

impl Emitter {
    /// `host` is what every record carries; `filter` is run on each, and on
    /// `status` and `lost` records only if `filter_all`.
    pub fn new(host: &str, filter: Option<Filter>, filter_all: bool) -> Self {
        let host = serde_json::to_vec(host).unwrap_or_default();
        Self {
            host,
            filter,
            filter_all,
            buffer: Vec::with_capacity(HIGH_WATER / 4),
            scratch: Vec::new(),
            reported: HashSet::new(),
            written: 0,
            lost: 0,
            shared: is_pipe(),
        }
    }

    /// Adds one record, measured at `ts`.
    ///
    /// # Errors
    /// If stdout fails. What a filter does is never an error here.
    pub fn emit<R: Record>(&mut self, ts: Timestamp, record: &R) -> Result<()> {
        let start = self.buffer.len();
        write_line(&mut self.buffer, ts, &self.host, record)?;
        let bypass = !self.filter_all && [STATUS.name, LOST.name].contains(&R::KIND.name);
        self.finish_line(ts, start, bypass)
    }

    fn finish_line(&mut self, ts: Timestamp, start: usize, bypass: bool) -> Result<()> {
        if self.buffer.len() - start > MAX_LINE {
            self.buffer.truncate(start);
            return self.lost(ts, "line over 1 MiB", 1);
        }
        if bypass || self.filter.is_none() {
            return self.line_is_complete();
        }
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.buffer[start..]);
        self.buffer.truncate(start);
        self.filtered(ts)
    }

    /// Runs the filter on the line in `scratch`, and adds what it gives.
    fn filtered(&mut self, ts: Timestamp) -> Result<()> {
        let Some(mut filter) = self.filter.take() else { return Ok(()) };
        let line = std::mem::take(&mut self.scratch);
        let result = filter.run(&line, |output| {
            if output.len() > MAX_LINE {
                return self.lost(ts, "line over 1 MiB", 1);
            }
            self.buffer.extend_from_slice(output);
            self.line_is_complete()
        });
        self.scratch = line;
        self.filter = Some(filter);
        result
    }

    fn line_is_complete(&mut self) -> Result<()> {
        self.buffer.push(b'\n');
        self.written += 1;
        PENDING_LINES.fetch_add(1, Ordering::AcqRel);
        if self.buffer.len() >= HIGH_WATER {
            self.flush()?;
        }
        Ok(())
    }

    /// Reports, once per source and reason, why a source gives nothing.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn status(&mut self, ts: Timestamp, source: &str, reason: Reason, detail: &str) -> Result<()> {
        self.report(ts, source, reason, None, detail)
    }

    /// Reports, once per source, that it is measured by `method` (`tp_btf`, `perf_event`, …).
    ///
    /// # Errors
    /// If stdout fails.
    pub fn active(&mut self, ts: Timestamp, source: &str, method: &str, detail: &str) -> Result<()> {
        self.report(ts, source, Reason::Active, Some(method), detail)
    }

    fn report(
        &mut self,
        ts: Timestamp,
        source: &str,
        reason: Reason,
        method: Option<&str>,
        detail: &str,
    ) -> Result<()> {
        if !self.reported.insert((source.to_owned(), reason as u8)) {
            return Ok(());
        }
        let (source, detail) = (source.to_owned(), detail.to_owned());
        self.emit(ts, &Status { source, reason, method: method.map(str::to_owned), detail })
    }

    /// Says that `count` records of `source` were lost; nothing if none were.
    pub fn lost(&mut self, ts: Timestamp, source: &str, count: u64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.lost += count;
        self.emit(ts, &Lost { source: source.to_owned(), count })
    }

    /// Writes all pending lines to stdout.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn flush(&mut self) -> Result<()> {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let piece = if self.shared { &rest[..piece(rest)] } else { rest };
            match rustix::io::write(rustix::stdio::stdout(), piece) {
                Ok(n) => {
                    let lines = memchr::memchr_iter(b'\n', &rest[..n]).count();
                    PENDING_LINES.fetch_sub(lines as u64, Ordering::AcqRel);
                    rest = &rest[n..];
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN) => wait_writable()?,
                Err(error) => return Err(io::Error::from(error)).context("cannot write to stdout"),
            }
        }
        self.buffer.clear();
        Ok(())
    }

    /// Writes what is pending, and says on stderr how much was written and lost:
    /// to a person at a terminal, when `verbose`, and whenever something was lost.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn finish(mut self, verbose: bool) -> Result<()> {
        self.flush()?;
        let failed = self.filter.as_ref().map_or(0, Filter::errors);
        if verbose || self.lost + failed > 0 || rustix::termios::isatty(rustix::stdio::stderr()) {
            let Self { written, lost, .. } = self;
            let plural = if written == 1 { "" } else { "s" };
            log(format_args!("{written} record{plural} written, {lost} lost, {failed} failed in the filter"));
        }
        Ok(())
    }
}

/// Appends the line of a record, without its newline; `host` is a JSON string.
///
/// # Errors
/// If the record cannot be serialized.
pub fn write_line<R: Record>(out: &mut Vec<u8>, ts: Timestamp, host: &[u8], record: &R) -> Result<()> {
    out.extend_from_slice(b"{\"ts\":\"");
    ts.write(out);
    out.extend_from_slice(b"\",\"kind\":\"");
    out.extend_from_slice(R::KIND.name.as_bytes());
    out.extend_from_slice(b"\",\"host\":");
    out.extend_from_slice(host);
    write_fields(out, record)?;
    out.push(b'}');
    Ok(())
}

/// How much of `rest`, which is not empty, to write at once: as many whole lines as a pipe takes in one
/// piece, so that `(scrape & scrape) | tele-ship` mixes lines and not their parts. A longer line goes alone.
fn piece(rest: &[u8]) -> usize {
    let end = |line: usize| line + 1;
    let within = &rest[..rest.len().min(WHOLE)];
    let last = memchr::memrchr(b'\n', within).or_else(|| memchr::memchr(b'\n', rest));
    last.map_or(rest.len(), end)
}

fn is_pipe() -> bool {
    let stat = rustix::fs::fstat(rustix::stdio::stdout());
    stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo)
}

/// Somebody gave us a stdout that does not block: wait for it instead.
fn wait_writable() -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let out = rustix::stdio::stdout();
    poll(&mut [PollFd::new(&out, PollFlags::OUT)], None)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Pieces are whole lines, no longer than a pipe takes in one piece unless they are one line.
        #[test]
        fn pieces_are_whole_lines(lengths in prop::collection::vec(0usize..3 * WHOLE, 1..20)) {
            let text: Vec<u8> = lengths.iter().flat_map(|length| [vec![b'x'; *length], vec![b'\n']].concat()).collect();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(piece(rest));
                let lines = now.iter().filter(|byte| **byte == b'\n').count();
                prop_assert!(now.ends_with(b"\n") && (now.len() <= WHOLE || lines == 1));
                // No more would have gone in.
                let next = later.iter().position(|byte| *byte == b'\n').map_or(usize::MAX, |end| end + 1);
                prop_assert!(next == usize::MAX || now.len() + next > WHOLE);
                rest = later;
            }
        }
    }
}
