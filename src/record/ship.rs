//! What tele-ship says about its own work.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};
use crate::common::time::Timestamp;

/// The body of a `ship_stats` record. Two identities hold in each: `read` =
/// `delivered` + `rejected` + `dead_lettered` + `pending` + `dropped`, and
/// `encoded_items` = `accepted_items` + `rejected_items`.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ShipStats {
    /// When the program, and with it the counting, began.
    pub start_ts: Timestamp,
    /// The destination: `otlp`, `sqlite`, `stdout`.
    pub sink: String,
    /// Lines that came in; empty ones are none.
    pub read: u64,
    /// Lines that the destination has.
    pub delivered: u64,
    /// Valid lines that contain nothing to send.
    pub empty: u64,
    /// Lines that nobody can take: not JSON, too long, refused by the server.
    pub rejected: u64,
    /// Rejected lines that were kept in a file.
    pub dead_lettered: u64,
    /// Lines that wait or are on their way.
    pub pending: u64,
    /// Lines given up: the reader of stdout left, or the input was cut in the middle of one.
    pub dropped: u64,
    /// Points, log records, spans and rows that requests held.
    pub encoded_items: u64,
    /// Of these, the ones that the destination took.
    pub accepted_items: u64,
    /// Of these, the ones that it refused.
    pub rejected_items: u64,
    /// Requests tried.
    pub requests: u64,
    /// Of these, the ones that had to be tried again.
    pub retries: u64,
    /// How long ago the oldest line that waits was read.
    pub oldest_pending_s: Option<f64>,
}

impl Record for ShipStats {
    const KIND: &'static Kind = &SHIP_STATS;
}

const OUTCOME: &str = "telepipe.ship.outcome";

/// At the end and every `--stats` interval, per sink.
pub const SHIP_STATS: Kind = Kind::metrics::<ShipStats>(
    "ship_stats",
    "What became of the lines that tele-ship read, per destination",
    Temporality::Cumulative,
    &[
        Metric::counter("read", "telepipe.ship.read", "{line}"),
        Metric::counter("delivered", "telepipe.ship.lines", "{line}").with(&[(OUTCOME, "delivered")]),
        Metric::counter("empty", "telepipe.ship.lines", "{line}").with(&[(OUTCOME, "empty")]),
        Metric::counter("rejected", "telepipe.ship.lines", "{line}").with(&[(OUTCOME, "rejected")]),
        Metric::counter("dead_lettered", "telepipe.ship.lines", "{line}").with(&[(OUTCOME, "dead_lettered")]),
        Metric::counter("dropped", "telepipe.ship.lines", "{line}").with(&[(OUTCOME, "dropped")]),
        Metric::updown("pending", "telepipe.ship.pending", "{line}"),
        Metric::counter("accepted_items", "telepipe.ship.items", "{item}").with(&[(OUTCOME, "accepted")]),
        Metric::counter("rejected_items", "telepipe.ship.items", "{item}").with(&[(OUTCOME, "rejected")]),
        Metric::counter("requests", "telepipe.ship.requests", "{request}"),
        Metric::counter("retries", "telepipe.ship.retries", "{request}"),
        Metric::gauge("oldest_pending_s", "telepipe.ship.pending.age", "s"),
    ],
)
.about(&[("sink", "telepipe.ship.sink")]);
