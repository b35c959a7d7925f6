//! `--dry-run`: writes to stdout what a sink would send, as JSON lines, for the first batch that has something to send.

use std::future::ready;
use std::io::Write;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde_json::json;

use super::{Batch, Encoded, Limits, Sending, Sink, Verdict};
use crate::common::diag::log;

/// A sink that shows what another one would send.
pub struct DryRun<S: Sink> {
    sink: S,
    /// How many requests of the batch are still to be shown; `None` before there is such a batch.
    left: Option<usize>,
    /// Whether there was any batch.
    is_used: bool,
}

impl<S: Sink> DryRun<S> {
    /// Shows what `sink` would send.
    pub fn new(sink: S) -> Self {
        Self { sink, left: None, is_used: false }
    }
}

impl<S: Sink> Sink for DryRun<S> {
    type Body = Vec<u8>;

    fn name(&self) -> &'static str {
        self.sink.name()
    }

    /// stdout can be a pager.
    fn is_bounded(&self) -> bool {
        false
    }

    fn limits(&self) -> Limits {
        self.sink.limits()
    }

    fn encode(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        if self.left.is_some() {
            return Encoded { requests: Vec::new(), rejected: Vec::new(), empty: (0..batch.len()).collect() };
        }
        self.is_used = true;
        let encoded = self.sink.preview(batch);
        self.left = Some(encoded.requests.len()).filter(|requests| *requests > 0);
        encoded
    }

    fn preview(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        self.sink.preview(batch)
    }

    fn send(&mut self, body: &Vec<u8>) -> Sending {
        // Each sink has a thread; the lock keeps their lines from mixing.
        let mut stdout = std::io::stdout().lock();
        let written = stdout.write_all(body).and_then(|()| stdout.flush());
        self.left = self.left.map(|left| left.saturating_sub(1));
        let is_over = written.is_err() || self.left == Some(0);
        Box::pin(ready(if is_over { Verdict::Gone { reason: None } } else { Verdict::DELIVERED }))
    }
}

impl<S: Sink> Drop for DryRun<S> {
    fn drop(&mut self) {
        // After the reader of stdout has left, not every line is read.
        if self.is_used && self.left.is_none() && !reader_has_left() {
            log(format_args!("{}: no line has anything to send", self.sink.name()));
        }
    }
}

fn reader_has_left() -> bool {
    let stdout = rustix::stdio::stdout();
    let mut polled = [PollFd::new(&stdout, PollFlags::empty())];
    let looked = poll(&mut polled, Some(&Timespec::default()));
    looked.is_ok() && polled[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// Appends a line: the sink, the URL or table that `data` is for, and `data`, which is JSON.
pub fn show(out: &mut Vec<u8>, sink: &str, to: &str, data: &[u8]) {
    out.extend_from_slice(format!("{{\"sink\":{},\"to\":{},\"data\":", json!(sink), json!(to)).as_bytes());
    out.extend_from_slice(data.trim_ascii());
    out.extend_from_slice(b"}\n");
}
