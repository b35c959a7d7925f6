//! Reports on delivery: a status line on a terminal, `ship_stats` records at each `--stats` interval and at the end, and
//! a summary of each sink.
//!
//! Everything goes to stderr, since stdout can carry what is delivered.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use rustix::stdio::stderr;
use rustix::termios::{isatty, tcgetwinsize};

use super::account::Counts;
use super::worker::SinkWorker;
use crate::common::diag;
use crate::common::time::Timestamp;
use crate::record::ShipStats;

/// How often the status line changes.
const LIVE: Duration = Duration::from_secs(1);

/// Reports on the sinks.
pub struct Reporter {
    workers: Vec<Arc<SinkWorker>>,
    /// The `--stats` interval.
    every: Option<Duration>,
    host: Vec<u8>,
    start: Timestamp,
}

impl Reporter {
    /// A reporter for these sinks. Counting begins now.
    pub fn new(workers: Vec<Arc<SinkWorker>>, every: Option<Duration>) -> Self {
        let host = serde_json::to_vec(&crate::common::options::this_host()).unwrap_or_default();
        Self { workers, every, host, start: Timestamp::now() }
    }

    /// Reports until the sender of `ended` is dropped.
    pub fn run(&self, ended: &Receiver<()>) {
        let live = isatty(stderr()) && !self.workers.is_empty();
        let period = match self.every {
            Some(every) if live => every.min(LIVE),
            Some(every) => every,
            None if live => LIVE,
            None => return,
        };
        let (mut before, mut reported) = (0, Instant::now());
        while ended.recv_timeout(period) == Err(RecvTimeoutError::Timeout) {
            if self.every.is_some_and(|every| reported.elapsed() + period / 2 >= every) {
                reported = Instant::now();
                self.records();
            }
            if live {
                let read = self.workers.iter().map(|worker| worker.account.counts().read).max().unwrap_or(0);
                diag::status(&self.status(((read - before) as f64 / period.as_secs_f64()).round()));
                before = read;
            }
        }
    }

    /// Writes the final counts of every sink.
    pub fn summary(&self) {
        if self.every.is_some() {
            self.records();
        }
        for worker in &self.workers {
            diag::log(format_args!("{}: {}", worker.name, identity(&worker.account.counts())));
        }
    }

    fn records(&self) {
        for worker in &self.workers {
            let mut line = Vec::new();
            if crate::common::emit::write_line(&mut line, Timestamp::now(), &self.host, &self.stats(worker))
                .is_ok()
            {
                diag::line(&String::from_utf8_lossy(&line));
            }
        }
    }

    fn stats(&self, worker: &SinkWorker) -> ShipStats {
        let (counts, oldest) = worker.state();
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
            encoded_items: counts.encoded,
            accepted_items: counts.accepted,
            rejected_items: counts.rejected_items,
            requests: counts.requests,
            retries: counts.retries,
            evicted_series: counts.evicted_series,
            oldest_pending_s: oldest.map(|oldest| oldest.as_secs_f64()),
        }
    }

    /// The status line, cut to the width of the terminal.
    fn status(&self, rate: f64) -> String {
        let mut text = format!("{rate} records/s");
        for worker in &self.workers {
            let (counts, oldest) = worker.state();
            text +=
                &format!(" · {}: {} delivered, {} waiting", worker.name, counts.delivered, counts.pending);
            if let Some(oldest) = oldest {
                text += &format!(", oldest {} s", oldest.as_secs());
            }
        }
        // A terminal of unknown width reports 0.
        let width =
            tcgetwinsize(stderr()).ok().map(|size| usize::from(size.ws_col)).filter(|width| *width > 1);
        text.chars().take(width.unwrap_or(80) - 1).collect()
    }
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
