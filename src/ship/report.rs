//! Reports on delivery: a status line on a terminal, `ship_stats` records at each `--stats` interval and at the end, and
//! a summary of each sink.
//!
//! They go to stderr, since stdout can carry what is delivered; with `--self`, records go into the input.

use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::stdio::stderr;
use rustix::termios::{isatty, tcgetwinsize};

use super::account::{Counts, DropReason, Latencies};
use super::worker::SinkWorker;
use crate::common::diag;
use crate::common::emit::write_line;
use crate::common::time::{Micros, Timestamp};
use crate::record::ShipStats;

/// How often the status line changes.
const LIVE: Duration = Duration::from_secs(1);
/// Longer than any run.
const NEVER: Duration = Duration::from_secs(1 << 32);

/// What is reported, and where.
#[derive(Clone, Copy, Debug, Default)]
pub struct ReportOptions {
    /// How often to write `ship_stats` records.
    pub stats: Option<Duration>,
    /// Deliver these records, except the last.
    pub deliver: bool,
    /// Show no status line, and no summary of a sink that has everything.
    pub quiet: bool,
}

/// The latest records to deliver, one line each, until the reading thread takes them.
#[derive(Default)]
pub struct OwnLines(Mutex<Vec<Vec<u8>>>);

impl OwnLines {
    /// Takes the lines.
    pub fn take(&self) -> Vec<Vec<u8>> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Replaces lines that were not taken: the counts of the new ones include theirs.
    fn put(&self, lines: Vec<Vec<u8>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }
}

/// Reports on the sinks.
pub struct Reporter {
    workers: Vec<Arc<SinkWorker>>,
    options: ReportOptions,
    own: Arc<OwnLines>,
    host: Vec<u8>,
    start: Timestamp,
}

impl Reporter {
    /// A reporter for these sinks. Counting begins now.
    pub fn new(workers: Vec<Arc<SinkWorker>>, options: ReportOptions, own: Arc<OwnLines>) -> Self {
        let host = serde_json::to_vec(&crate::common::options::this_host()).unwrap_or_default();
        Self { workers, options, own, host, start: Timestamp::now() }
    }

    /// Reports until the sender of `ended` is dropped.
    pub fn run(&self, ended: &Receiver<()>) {
        let ReportOptions { stats, deliver, quiet } = self.options;
        let is_shown = isatty(stderr()) && !quiet && !self.workers.is_empty() && (stats.is_none() || deliver);
        let (mut record_at, mut show_at) = (Instant::now(), Instant::now());
        let (mut read_before, mut shown) = (0, Instant::now());
        let (stats, live) = (stats.unwrap_or(NEVER), if is_shown { LIVE } else { NEVER });
        record_at += stats;
        show_at += live;
        loop {
            let wait = record_at.min(show_at).saturating_duration_since(Instant::now());
            if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let now = Instant::now();
            if record_at <= now {
                record_at = (record_at + stats).max(now);
                let lines = self.records();
                if deliver {
                    self.own.put(lines);
                } else {
                    print(&lines);
                }
            }
            if show_at <= now {
                show_at = now + live;
                let read = self.workers.iter().map(|worker| worker.account.counts().read).max().unwrap_or(0);
                let rate = (read - read_before) as f64 / (now - shown).as_secs_f64();
                (read_before, shown) = (read, now);
                diag::status(&self.status(rate.round()));
            }
        }
    }

    /// Writes the final counts of every sink, or, if quiet, of those that lack something.
    pub fn summary(&self) {
        if self.options.stats.is_some() {
            print(&self.records());
        }
        for worker in &self.workers {
            let counts = worker.account.counts();
            if !(self.options.quiet && counts.complete()) {
                diag::log(format_args!("{}: {}", worker.name, identity(&counts)));
            }
        }
    }

    /// A `ship_stats` record of each sink, as lines without newlines.
    fn records(&self) -> Vec<Vec<u8>> {
        let record = |worker: &Arc<SinkWorker>| {
            let mut line = Vec::new();
            let written = write_line(&mut line, Timestamp::now(), &self.host, &self.stats(worker));
            written.is_ok().then_some(line)
        };
        self.workers.iter().filter_map(record).collect()
    }

    fn stats(&self, worker: &SinkWorker) -> ShipStats {
        let (counts, oldest) = worker.state();
        let latencies = worker.account.take_latencies();
        let Latencies { total, sum_ns, interval, interval_max_ns } = &latencies;
        let known = |ns| (interval.count() > 0).then_some(Micros(ns));
        let [p50, p90, p99] = interval.percentiles([500, 900, 990], *interval_max_ns).map(known);
        let dropped = |reason| counts.dropped_by[reason as usize];
        ShipStats {
            start_ts: self.start,
            sink: worker.name.into(),
            read: counts.read,
            delivered: counts.delivered,
            empty: counts.empty,
            rejected: counts.rejected,
            dead_lettered: counts.dead_lettered,
            pending: counts.pending,
            dropped: counts.dropped,
            dropped_gone: dropped(DropReason::Gone),
            dropped_cut_off: dropped(DropReason::CutOff),
            dropped_damaged: dropped(DropReason::Damaged),
            dropped_unspooled: dropped(DropReason::Unspooled),
            read_bytes: counts.read_bytes,
            encoded_items: counts.encoded,
            accepted_items: counts.accepted,
            rejected_items: counts.rejected_items,
            batches: counts.batches,
            body_bytes: counts.body_bytes.map(|(plain, _)| plain),
            sent_bytes: counts.body_bytes.map(|(_, sent)| sent),
            requests: counts.requests,
            retries: counts.retries,
            latency_p50_us: p50,
            latency_p90_us: p90,
            latency_p99_us: p99,
            latency_max_us: known(*interval_max_ns),
            request_sum_us: Micros(*sum_ns),
            scale: total.scale() as i32,
            request_zero_count: total.zero_count(),
            request_buckets: total.sparse(),
            evicted_series: counts.evicted_series,
            oldest_pending_s: oldest.map(|oldest| oldest.as_secs_f64()),
        }
    }

    /// The status line, cut to the width of the terminal.
    fn status(&self, rate: f64) -> String {
        let mut text = format!("{rate} lines/s");
        for worker in &self.workers {
            let Counts { delivered, pending, retries, .. } = worker.account.counts();
            let state = match worker.account.failing_since() {
                _ if worker.queue.abandoned() => "gone".to_owned(),
                Some(since) => format!("down for {} s", since.elapsed().as_secs()),
                None => "up".to_owned(),
            };
            let name = worker.name;
            text +=
                &format!(" · {name} {state}, {delivered} delivered, {pending} pending, {retries} retries");
        }
        // A terminal of unknown width reports 0.
        let width =
            tcgetwinsize(stderr()).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 1);
        text.chars().take(width.unwrap_or(80) - 1).collect()
    }
}

fn print(lines: &[Vec<u8>]) {
    lines.iter().for_each(|line| diag::line(&String::from_utf8_lossy(line)));
}

fn identity(counts: &Counts) -> String {
    let Counts { read, delivered, empty, rejected, dead_lettered, pending, dropped, .. } = counts;
    let Counts { encoded, accepted, rejected_items, .. } = counts;
    format!(
        "{read} lines read = {delivered} delivered + {empty} empty + {rejected} rejected + {dead_lettered} dead-lettered \
         + {pending} pending + {dropped} dropped; {encoded} items encoded = {accepted} accepted \
         + {rejected_items} rejected"
    )
}
