//! `ship_stats` records: the statistics of tele-ship.

use super::prelude::*;

/// The body of a `ship_stats` record. In each, `read` = `delivered` + `empty` + `rejected` + `dead_lettered` +
/// `pending` + `dropped`, and `encoded_items` = `accepted_items` + `rejected_items`.
#[skip_serializing_none]
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ShipStats {
    /// When the program started, and counting with it.
    pub start_ts: Timestamp,
    /// The destination: `otlp`, `clickhouse`, `monitor`, `sqlite` or `stdout`.
    pub sink: String,
    /// Lines read, without blank ones.
    pub read: u64,
    /// Lines delivered.
    pub delivered: u64,
    /// Valid lines that contain nothing to send.
    pub empty: u64,
    /// Lines refused: not JSON, too long, or refused by the server.
    pub rejected: u64,
    /// Refused lines that were kept in a file.
    pub dead_lettered: u64,
    /// Lines that wait or are on their way.
    pub pending: u64,
    /// Lines given up: the destination is gone, or the input ended in the middle of a line.
    pub dropped: u64,
    /// Points, log records, spans and rows in requests that were accepted or refused.
    pub encoded_items: u64,
    /// Items that the destination accepted.
    pub accepted_items: u64,
    /// Items that it refused.
    pub rejected_items: u64,
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed and had to be sent again.
    pub retries: u64,
    /// Series of cumulative counters that were evicted to bound memory.
    pub evicted_series: u64,
    /// The time since the oldest pending line was read.
    pub oldest_pending_s: Option<f64>,
}

const OUTCOME: &str = "telepipe.ship.outcome";

/// One per destination, every `--stats` interval and at the end.
pub const SHIP_STATS: Kind = Kind::cumulative::<ShipStats>(
    "ship_stats",
    "The outcome of the lines that tele-ship read, per destination",
)
.about(&[("sink", "telepipe.ship.sink")])
.metrics(&[
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
    Metric::counter("evicted_series", "telepipe.ship.series.evicted", "{series}"),
    Metric::gauge("oldest_pending_s", "telepipe.ship.pending.age", "s"),
]);
