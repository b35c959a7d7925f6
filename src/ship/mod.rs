//! From lines on stdin to a server that has them.
//!
//! Input cuts what it reads into [`Batch`]es: lines as they came, each with its
//! offset. Every sink takes every batch, on a thread of its own: it encodes the
//! lines into [`Request`]s, synchronously and deterministically, and sends them,
//! asynchronously. What comes back is a [`Verdict`], the only thing that flows
//! against the stream. A sink is one file here and its line in the list of sinks.

use std::future::Future;
use std::time::Duration;

pub mod destinations;
pub mod line;
pub mod otlp;
#[cfg(feature = "http")]
pub mod otlp_http;
pub mod pipeline;
#[cfg(feature = "sqlite")]
pub mod sqlite;
pub mod stdout;

mod account;
mod backoff;
mod batch;
mod deliver;
mod input;
mod queue;
mod report;

pub use batch::Batch;
pub use input::Limits;

/// What a sink makes of some lines. Each line is in
/// exactly one of the three; empty lines count as delivered.
pub struct Encoded<B> {
    /// To be sent, in this order.
    pub requests: Vec<Request<B>>,
    /// Lines that this sink can never take, by their index in the batch, and why.
    pub rejected: Vec<(usize, String)>,
    /// Lines that are valid but contain nothing to send, by their index in the batch.
    pub empty: Vec<usize>,
}

/// One request, and the lines that it carries.
pub struct Request<B> {
    /// What to send: the sink's own type.
    pub body: B,
    /// Indices into the batch; a line is in at most one request.
    pub lines: Vec<usize>,
    /// Points, log records, spans or rows in it.
    pub items: u64,
}

/// What became of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The server has it, less the items that it says it refused.
    Delivered {
        /// Items that the server refused without naming them (OTLP's partial success).
        rejected_items: u64,
        /// What it said about them.
        message: Option<String>,
    },
    /// Not now: try again, not before `after` if the server said so.
    Retry {
        /// The server's own wish.
        after: Option<Duration>,
        /// What went wrong, for stderr.
        reason: String,
    },
    /// Not in one piece: send the halves, down to the line that is at fault.
    Split {
        /// What the server said, for when a single line is left.
        reason: String,
    },
    /// Never: the same request would be refused again.
    Reject {
        /// What the server said.
        reason: String,
    },
    /// The destination is no more, and will take nothing again.
    Gone {
        /// What happened; `None` if the reader of stdout left, which is nobody's fault.
        reason: Option<String>,
    },
}

impl Verdict {
    /// Taken whole.
    pub const DELIVERED: Self = Self::Delivered { rejected_items: 0, message: None };
}

/// A destination.
pub trait Sink {
    /// What a request carries.
    type Body;

    /// How messages and statistics call it.
    fn name(&self) -> &'static str;

    /// Makes requests of the lines of a batch. The same lines give the same requests.
    fn encode(&mut self, batch: &Batch) -> Encoded<Self::Body>;

    /// Tries once.
    fn send(&mut self, body: &Self::Body) -> impl Future<Output = Verdict>;
}
