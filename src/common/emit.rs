//! Writes records to stdout, one JSON object per line.
//!
//! [`Emitter::emit`] appends a line to a buffer; [`Emitter::flush`] writes the buffer, and is called when nothing
//! more is pending. Serializing never touches the descriptor, so that a broken pipe stays an [`io::Error`].

use std::collections::{HashSet, VecDeque};
use std::io;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result, bail};

use crate::common::diag::{self, log};
use crate::common::filter::Filter;
use crate::common::stop::{COMPLETE, PENDING_LINES};
use crate::common::time::Timestamp;
use crate::record::{LOST, Lost, MAX_LINE, Reason, Record, STATUS, Status, write_fields};

/// Above this the buffer is written even if more is pending.
const HIGH_WATER: usize = 64 * 1024;

/// The largest write to a pipe that others' writes do not interrupt: PIPE_BUF on Linux, at least 512 elsewhere.
const ATOMIC: usize = if cfg!(target_os = "linux") { 4096 } else { 512 };

/// How many sources and reasons are remembered, so that each is reported once.
const MOST_REPORTED: usize = 1024;

/// Writes records to stdout.
#[derive(Default)]
pub struct Emitter {
    /// The host name as a JSON string.
    host: Vec<u8>,
    filter: Option<Filter>,
    filter_all: bool,
    buffer: Vec<u8>,
    reported: Reported,
    /// Records other than `status` and `lost`, before the filter.
    records: u64,
    written: u64,
    lost: u64,
    /// A `status` record reported a source that cannot be read.
    source_failed: bool,
    require_records: bool,
    /// Stdout is a pipe, into which others may write too.
    shared: bool,
}

impl Emitter {
    /// `host` is the host name in every record. `filter` is run on each record, and on `status` and `lost` records
    /// only if `filter_all`; without it these go to stderr, so that a filter's output is only what it selects.
    pub fn new(host: &str, filter: Option<Filter>, filter_all: bool) -> Self {
        let host = serde_json::to_vec(host).unwrap_or_default();
        let buffer = Vec::with_capacity(HIGH_WATER / 4);
        Self { host, filter, filter_all, buffer, shared: is_pipe(), ..Self::default() }
    }

    /// Makes [`Emitter::finish`] fail if no record was written because everything was lost or no source could be
    /// read: for programs that read what the user names.
    pub fn require_records(&mut self) {
        self.require_records = true;
    }

    /// Adds one record, measured at `ts`.
    ///
    /// # Errors
    /// If stdout fails. An error in the filter is counted and is no error here.
    pub fn emit<R: Record>(&mut self, ts: Timestamp, record: &R) -> Result<()> {
        let start = self.buffer.len();
        write_line(&mut self.buffer, ts, &self.host, record)?;
        let about_itself = [STATUS.name, LOST.name].contains(&R::KIND.name);
        self.records += u64::from(!about_itself);
        if self.buffer.len() - start > MAX_LINE {
            self.buffer.truncate(start);
            return self.lost(ts, "line over 1 MiB", 1);
        }
        let Some(filter) = &mut self.filter else {
            return self.end_line();
        };
        if about_itself && !self.filter_all {
            diag::line(&String::from_utf8_lossy(&self.buffer[start..]));
        } else {
            filter.push(&self.buffer[start..]);
            PENDING_LINES.fetch_add(1, Ordering::AcqRel);
        }
        self.buffer.truncate(start);
        if self.filter.as_ref().is_some_and(|filter| filter.queued_bytes() >= HIGH_WATER) {
            self.filter_queue()?;
        }
        Ok(())
    }

    fn end_line(&mut self) -> Result<()> {
        self.buffer.push(b'\n');
        self.written += 1;
        PENDING_LINES.fetch_add(1, Ordering::AcqRel);
        self.write_if_full()
    }

    fn write_if_full(&mut self) -> Result<()> {
        if self.buffer.len() >= HIGH_WATER { self.write() } else { Ok(()) }
    }

    /// Runs the filter on the records that wait for it, and reports outputs that are too long.
    fn filter_queue(&mut self) -> Result<()> {
        let too_long = self.run_filter()?;
        self.lost(Timestamp::now(), "line over 1 MiB", too_long)?;
        // The filter runs on that record too; an output of it that is too long is only counted.
        self.lost += self.run_filter()?;
        Ok(())
    }

    /// Adds the outputs of the filter; gives the number of those that are too long.
    fn run_filter(&mut self) -> Result<u64> {
        let Some(mut filter) = self.filter.take() else { return Ok(0) };
        let mut too_long = 0;
        let result = filter.run(|answer| {
            PENDING_LINES.fetch_sub(1, Ordering::AcqRel);
            PENDING_LINES.fetch_add(answer.count, Ordering::AcqRel);
            self.written += answer.count;
            too_long += answer.too_long;
            self.buffer.extend_from_slice(answer.outputs);
            self.write_if_full()
        });
        self.filter = Some(filter);
        result.map(|()| too_long)
    }

    /// Reports, once per source and reason, why a source cannot be read.
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
        self.source_failed |= reason != Reason::Active;
        if !self.reported.insert(source, reason) {
            return Ok(());
        }
        let (source, detail) = (source.to_owned(), detail.to_owned());
        self.emit(ts, &Status { source, reason, method: method.map(str::to_owned), detail })
    }

    /// Reports that `count` records of `source` were lost, if any were.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn lost(&mut self, ts: Timestamp, source: &str, count: u64) -> Result<()> {
        if count == 0 {
            return Ok(());
        }
        self.lost += count;
        self.emit(ts, &Lost { source: source.to_owned(), count })
    }

    /// Runs the filter on what waits for it, and writes all pending lines to stdout.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn flush(&mut self) -> Result<()> {
        self.filter_queue()?;
        self.write()
    }

    fn write(&mut self) -> Result<()> {
        let mut rest = self.buffer.as_slice();
        while !rest.is_empty() {
            let piece = if self.shared { &rest[..atomic_part(rest)] } else { rest };
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

    /// Writes what is pending and logs how much was written and lost: on a terminal, when `verbose`, and whenever
    /// something was lost.
    ///
    /// # Errors
    /// If stdout fails; if the filter failed on every record; after [`Emitter::require_records`], if there was none.
    pub fn finish(mut self, verbose: bool) -> Result<()> {
        self.flush()?;
        let (filtered, failed) = self.filter.as_ref().map_or((0, 0), |f| (f.filtered(), f.errors()));
        let Self { written, lost, reported: Reported { evicted, .. }, .. } = self;
        if verbose || lost + failed + evicted > 0 || rustix::termios::isatty(rustix::stdio::stderr()) {
            let plural = if written == 1 { "" } else { "s" };
            let again = match evicted {
                0 => String::new(),
                _ => format!(", {evicted} sources may have been reported more than once"),
            };
            log(format_args!(
                "{written} record{plural} written, {lost} lost, {failed} failed in the filter{again}"
            ));
        }
        if let Some(filter) = &self.filter
            && failed > 0
            && failed == filtered
        {
            bail!("--filter failed on every record ({failed}): {}", filter.first_error());
        }
        if self.require_records && self.records == 0 && (lost > 0 || self.source_failed) {
            bail!("no record was obtained; status and lost records show why");
        }
        COMPLETE.store(true, Ordering::Release);
        Ok(())
    }
}

/// The sources and reasons that were reported lately.
#[derive(Default)]
struct Reported {
    known: HashSet<(String, u8)>,
    /// The same, oldest first.
    order: VecDeque<(String, u8)>,
    evicted: u64,
}

impl Reported {
    /// Whether it is new.
    fn insert(&mut self, source: &str, reason: Reason) -> bool {
        let entry = (source.to_owned(), reason as u8);
        if !self.known.insert(entry.clone()) {
            return false;
        }
        self.order.push_back(entry);
        if self.order.len() > MOST_REPORTED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
            self.evicted += 1;
        }
        true
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

/// How much of `rest`, which is not empty, to write at once: as many whole lines as a pipe takes without interruption,
/// so that `(scrape & scrape) | tele-ship` mixes lines and not parts of lines. A longer line goes alone.
fn atomic_part(rest: &[u8]) -> usize {
    let within = &rest[..rest.len().min(ATOMIC)];
    let last = memchr::memrchr(b'\n', within).or_else(|| memchr::memchr(b'\n', rest));
    last.map_or(rest.len(), |newline| newline + 1)
}

fn is_pipe() -> bool {
    let stat = rustix::fs::fstat(rustix::stdio::stdout());
    stat.is_ok_and(|stat| rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::Fifo)
}

/// Waits for a stdout that was made non-blocking by another program.
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
        /// Parts are whole lines, and no longer than a pipe takes without interruption unless they are one line.
        #[test]
        fn parts_are_whole_lines(lengths in prop::collection::vec(0usize..3 * ATOMIC, 1..20)) {
            let text: Vec<u8> = lengths.iter().flat_map(|length| [vec![b'x'; *length], vec![b'\n']].concat()).collect();
            let mut rest = &text[..];
            while !rest.is_empty() {
                let (now, later) = rest.split_at(atomic_part(rest));
                let lines = now.iter().filter(|byte| **byte == b'\n').count();
                prop_assert!(now.ends_with(b"\n") && (now.len() <= ATOMIC || lines == 1));
                // The next line would not have fitted.
                let next = later.iter().position(|byte| *byte == b'\n').map_or(usize::MAX, |end| end + 1);
                prop_assert!(next == usize::MAX || now.len() + next > ATOMIC);
                rest = later;
            }
        }
    }

    #[test]
    fn what_was_reported_is_remembered_within_a_bound() {
        let mut reported = Reported::default();
        for index in 0..3 * MOST_REPORTED {
            let source = format!("/sys/{index}");
            assert!(reported.insert(&source, Reason::Denied) && !reported.insert(&source, Reason::Denied));
            assert!(reported.insert(&source, Reason::Absent));
        }
        assert_eq!((reported.known.len(), reported.order.len()), (MOST_REPORTED, MOST_REPORTED));
        assert_eq!(reported.evicted as usize, 6 * MOST_REPORTED - MOST_REPORTED);
    }
}
