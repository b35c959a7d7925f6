//! `ship_stats` records: the statistics of tele-ship.

use std::collections::BTreeMap;

use super::prelude::*;
use crate::common::time::Micros;

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
    /// Lines given up: the sum of the following four.
    pub dropped: u64,
    /// Lines given up because the destination accepts nothing any more.
    pub dropped_gone: u64,
    /// Lines that were not complete when reading ended.
    pub dropped_cut_off: u64,
    /// Lines that are damaged or missing in the spool.
    pub dropped_damaged: u64,
    /// Lines that were read, but could not be written to the spool.
    pub dropped_unspooled: u64,
    /// Bytes read from the input since the start, with newlines and blank lines.
    pub read_bytes: u64,
    /// Points, log records, spans and rows in requests that were accepted or refused.
    pub encoded_items: u64,
    /// Items that the destination accepted.
    pub accepted_items: u64,
    /// Items that it refused.
    pub rejected_items: u64,
    /// Batches of lines encoded. A batch gives a request per signal, more if it is split, or none.
    pub batches: u64,
    /// Bytes of the bodies of all requests before compression, each attempt counted; absent for SQLite.
    pub body_bytes: Option<u64>,
    /// Bytes of these bodies after compression.
    pub sent_bytes: Option<u64>,
    /// Requests sent.
    pub requests: u64,
    /// Requests that failed and had to be sent again.
    pub retries: u64,
    /// The median time of a request, from its start to its answer or failure. This and the next three are of the
    /// requests that ended since the previous record.
    pub latency_p50_us: Option<Micros>,
    /// The 90th percentile.
    pub latency_p90_us: Option<Micros>,
    /// The 99th percentile.
    pub latency_p99_us: Option<Micros>,
    /// The longest time, exact.
    pub latency_max_us: Option<Micros>,
    /// The sum of the times of all requests.
    pub request_sum_us: Micros,
    /// OTLP's scale of the histogram: 2^scale buckets per power of two.
    pub scale: i32,
    /// How many requests took at most 128 ns. They are in no bucket.
    pub request_zero_count: u64,
    /// OTLP's bucket index and the number of requests whose time is in that bucket, in nanoseconds.
    pub request_buckets: BTreeMap<i32, u64>,
    /// Series of cumulative counters that were evicted to bound memory.
    pub evicted_series: u64,
    /// The time since the oldest pending line was read.
    pub oldest_pending_s: Option<f64>,
}

const OUTCOME: &str = "telepipe.ship.outcome";
const REASON: &str = "telepipe.ship.reason";

/// One per destination, every `--stats` interval and at the end. With `--self`, those before the end are delivered.
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
    Metric::counter("dropped_gone", "telepipe.ship.lines", "{line}")
        .with(&[(OUTCOME, "dropped"), (REASON, "gone")]),
    Metric::counter("dropped_cut_off", "telepipe.ship.lines", "{line}")
        .with(&[(OUTCOME, "dropped"), (REASON, "cut_off")]),
    Metric::counter("dropped_damaged", "telepipe.ship.lines", "{line}")
        .with(&[(OUTCOME, "dropped"), (REASON, "damaged")]),
    Metric::counter("dropped_unspooled", "telepipe.ship.lines", "{line}")
        .with(&[(OUTCOME, "dropped"), (REASON, "unspooled")]),
    Metric::counter("read_bytes", "telepipe.ship.read.size", "By"),
    Metric::updown("pending", "telepipe.ship.pending", "{line}"),
    Metric::counter("accepted_items", "telepipe.ship.items", "{item}").with(&[(OUTCOME, "accepted")]),
    Metric::counter("rejected_items", "telepipe.ship.items", "{item}").with(&[(OUTCOME, "rejected")]),
    Metric::counter("batches", "telepipe.ship.batches", "{batch}"),
    Metric::counter("body_bytes", "telepipe.ship.request.body.uncompressed_size", "By"),
    Metric::counter("sent_bytes", "telepipe.ship.request.body.size", "By"),
    Metric::histogram("request_buckets", "telepipe.ship.request.duration"),
    Metric::counter("requests", "telepipe.ship.requests", "{request}"),
    Metric::counter("retries", "telepipe.ship.retries", "{request}"),
    Metric::counter("evicted_series", "telepipe.ship.series.evicted", "{series}"),
    Metric::gauge("oldest_pending_s", "telepipe.ship.pending.age", "s"),
]);
