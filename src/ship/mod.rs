//! `tele-ship`: delivers lines from stdin to servers, databases and files.
//!
//! The reading thread ([`pipeline`]) splits stdin into lines and adds each to the queue of every sink, which gathers
//! them into [`Batch`]es. Each sink has a thread (`deliver`): it encodes a batch into [`Request`]s, which wait at
//! the endpoint that they are for (`endpoint`), and sends several at a time. The [`Verdict`] on a request decides
//! whether it is settled, split, or sent again. The ledger (`account`) has the outcome of every line.
//!
//! A new sink is a file here, and its options and a line in [`destinations`].

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub mod check;
#[cfg(feature = "http")]
pub mod clickhouse;
#[cfg(feature = "http")]
pub mod compression;
pub mod destinations;
pub mod follow;
pub mod input;
mod journald;
pub mod line;
pub mod map;
#[cfg(feature = "http")]
pub mod monitor;
pub mod otlp;
#[cfg(feature = "http")]
pub mod otlp_exporter;
pub mod pipeline;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod stdout;

mod account;
mod batch;
mod dead_letter;
mod deliver;
mod dry_run;
mod endpoint;
mod pool;
mod queue;
pub mod replay;
mod report;
pub mod retry_after;
pub mod spool;
mod worker;

pub use batch::{Batch, BatchRange};
pub use queue::{LimitOptions, Limits};
pub use report::ReportOptions;

/// A batch as encoded by a sink. Each line is in exactly one request, or rejected, or empty.
pub struct Encoded<B> {
    /// The requests, in order.
    pub requests: Vec<Request<B>>,
    /// Lines that this sink can never deliver, by their index in the batch, and why.
    pub rejected: Vec<(usize, String)>,
    /// Lines that are valid but contain nothing to send, by their index in the batch.
    pub empty: Vec<usize>,
}

impl<B> Encoded<B> {
    /// The same requests with other bodies.
    pub fn map<C>(self, mut body: impl FnMut(B) -> C) -> Encoded<C> {
        let Self { requests, rejected, empty } = self;
        let request = |Request { body: before, lines, items }| Request { body: body(before), lines, items };
        Encoded { requests: requests.into_iter().map(request).collect(), rejected, empty }
    }
}

/// A request and the lines that it carries.
pub struct Request<B> {
    /// What to send; the type is the sink's own.
    pub body: B,
    /// Indices into the batch. A line is in at most one request.
    pub lines: Vec<usize>,
    /// The number of points, log records, spans or rows in it.
    pub items: u64,
}

/// The result of one attempt to send a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server accepted it, possibly without some items.
    Delivered {
        /// Items that the server refused without naming them (OTLP's partial success).
        rejected_items: u64,
        /// The server's message about them.
        message: Option<String>,
    },
    /// Send it again later.
    Retry {
        /// The delay that the server asked for.
        after: Option<Duration>,
        /// What went wrong.
        reason: String,
    },
    /// Too large, or one line of it is at fault: send it in halves, down to a single line.
    Split {
        /// What is wrong with it.
        reason: String,
    },
    /// The server would refuse it again.
    Reject {
        /// Why it refused.
        reason: String,
    },
    /// The destination will never accept anything again.
    Gone {
        /// What happened; `None` if the reader of stdout left, which is no error.
        reason: Option<String>,
    },
}

impl Verdict {
    /// Accepted completely.
    pub const DELIVERED: Self = Self::Delivered { rejected_items: 0, message: None };
}

/// The bytes of the bodies of all requests, each attempt counted.
#[derive(Debug, Default)]
pub struct Traffic {
    plain: AtomicU64,
    sent: AtomicU64,
}

impl Traffic {
    /// Counts a body of `plain` bytes, `sent` after compression.
    pub fn add(&self, plain: usize, sent: usize) {
        self.plain.fetch_add(plain as u64, Ordering::Relaxed);
        self.sent.fetch_add(sent as u64, Ordering::Relaxed);
    }

    /// The bytes before and after compression.
    pub fn totals(&self) -> (u64, u64) {
        (self.plain.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
    }
}

/// An attempt in progress.
pub type Sending = Pin<Box<dyn Future<Output = Verdict> + Send>>;

/// A destination.
pub trait Sink {
    /// What a request carries.
    type Body: Send + 'static;

    /// The name in messages and statistics.
    fn name(&self) -> &'static str;

    /// The largest number of endpoints that there can be. An outage of one does not stop the others.
    fn endpoints(&self) -> usize {
        1
    }

    /// The number of the endpoint that a body is for. It is the same after a restart.
    fn endpoint(&self, _: &Self::Body) -> usize {
        0
    }

    /// Whether requests must be sent one after the other.
    fn keeps_order(&self) -> bool {
        true
    }

    /// Whether to give up when nothing is accepted for a while after the end of input. False for a destination that
    /// blocks without failing.
    fn is_bounded(&self) -> bool {
        true
    }

    /// Whether the destination is on this machine. If it fails, it is tried, and reported, more often.
    fn is_local(&self) -> bool {
        false
    }

    /// When a batch is complete, unless the user sets other limits.
    fn limits(&self) -> Limits {
        Limits::DEFAULT
    }

    /// The memory that a body takes, in bytes.
    fn size(&self, _: &Self::Body) -> usize {
        0
    }

    /// Another sink for the same destination, with an encoder of its own, so that each signal can have a queue of its
    /// own; `None` if lines must stay together.
    fn sibling(&self) -> Option<Self>
    where
        Self: Sized,
    {
        None
    }

    /// The bytes sent so far; `None` if requests have none, as for SQLite.
    fn traffic(&self) -> Option<&Traffic> {
        None
    }

    /// How many series of counters were evicted to bound memory.
    fn evicted_series(&self) -> u64 {
        0
    }

    /// The state on which the requests for the following lines depend; `None` if there is no such state.
    fn state(&self) -> Option<Vec<u8>> {
        None
    }

    /// Restores what [`Sink::state`] gave, so that the following lines give the same requests as then.
    ///
    /// # Errors
    /// If it is not a state.
    fn restore_state(&mut self, _: &[u8]) -> Result<(), String> {
        Ok(())
    }

    /// Encodes a batch. The same lines give the same requests.
    fn encode(&mut self, batch: &Batch) -> Encoded<Self::Body>;

    /// Encodes a batch as JSON lines that show what would be sent. Nothing connects, and nothing is created.
    fn preview(&mut self, batch: &Batch) -> Encoded<Vec<u8>>;

    /// Starts one attempt to send a request.
    fn send(&mut self, body: &Self::Body) -> Sending;
}
