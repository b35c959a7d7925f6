//! Inserts into ClickHouse over HTTP: the tables of the OpenTelemetry Collector's exporter, or lines as they are.
//!
//! A request of the sink holds some lines, and its rows can belong to several tables and days: each of these parts is
//! an insert. A part has a token made of the lines, by which the server recognises a repetition.

mod check;
mod lines;
mod otel;
mod parts;
mod server;
mod tables;
mod types;

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Cursor};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use crc_fast::{CrcAlgorithm, Digest};
use flate2::read::GzDecoder;
use jiff::tz::TimeZone;
use tokio::sync::Semaphore;

use self::lines::{Lines, Rows};
use self::otel::{Kind, Layouts, Message};
use self::parts::{Encoding, Part, Parts};
use self::server::{Cause, Failure, Server};
use self::tables::{Creation, Tables};
use super::line::Signal;
use super::otlp::{self, Encoder};
use super::{Batch, Encoded, Limits, Request, Sending, Sink, Traffic, Verdict, dry_run};
use crate::common::units::age;
use crate::http::Trust;

/// The options of `--clickhouse`.
#[derive(Args, Clone, Debug, Default)]
pub struct ClickHouseArgs {
    /// Insert into ClickHouse over HTTP
    ///
    /// Default: CLICKHOUSE_URL, or http://127.0.0.1:8123. User, password and database come from CLICKHOUSE_USER,
    /// CLICKHOUSE_PASSWORD and CLICKHOUSE_DATABASE, or from the URL.
    #[arg(long, value_name = "URL", num_args = 0..=1, help_heading = "Destinations")]
    pub clickhouse: Option<Option<String>>,

    /// Insert lines as they are into this table, one column per field
    ///
    /// {kind} in the name gives each kind a table.
    #[arg(long, requires = "clickhouse", value_name = "NAME", help_heading = "ClickHouse")]
    table: Option<String>,

    /// Create databases, tables and columns that are missing
    #[arg(long, requires = "clickhouse", help_heading = "ClickHouse")]
    create: bool,

    /// Let created tables drop rows that are older than this
    #[arg(long, requires = "create", hide_short_help = true, value_name = "TIME", value_parser = age, help_heading = "ClickHouse")]
    ttl: Option<Duration>,
}

/// The sink.
pub struct ClickHouse {
    shape: Shape,
    shared: Arc<Shared>,
}

/// What rows are made of lines.
enum Shape {
    /// Those of the Collector's exporter.
    Otel(Box<Encoder>),
    /// The lines as they are.
    Lines(Lines),
}

/// The most inserts at a time, apart from those that no longer wait.
const MAX_INSERTS: usize = 8;
/// How long an insert waits for others. Then it starts anyway, since they can be stuck at a locked table.
const PATIENCE: Duration = Duration::from_secs(1);

/// What attempts in progress share.
struct Shared {
    tables: Tables,
    /// Limits the inserts at a time, which with a table for each kind would be as many as kinds.
    inserts: Semaphore,
    stored: Mutex<Stored>,
    traffic: Traffic,
}

/// The lines of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    /// Offsets of the first and the last line.
    first: u64,
    last: u64,
    /// Of all lines, their offsets, and when they were read.
    hash: u64,
}

impl Identity {
    fn new(batch: &Batch, lines: &[usize]) -> Self {
        // The same in every version of tele-ship: a batch that is on its way can be repeated by a newer one.
        let mut hash = Digest::new(CrcAlgorithm::Crc64Nvme);
        for &line in lines {
            hash.update(&batch.offset(line).to_le_bytes());
            hash.update(&batch.received(line).0.to_le_bytes());
            hash.update(batch.line(line));
        }
        let offset = |line: Option<&usize>| line.map_or(0, |line| batch.offset(*line));
        Self { first: offset(lines.first()), last: offset(lines.last()), hash: hash.finalize() }
    }
}

/// The parts that the server stored although others of their request failed. They are not sent again, not even when
/// the request is split and its halves have other tokens.
#[derive(Default)]
struct Stored(VecDeque<StoredPart>);

#[derive(PartialEq)]
struct StoredPart {
    table: String,
    day: String,
    number: usize,
    first: u64,
    last: u64,
    /// It has all rows of the request for its table and day.
    whole: bool,
}

impl StoredPart {
    fn new(table: &str, part: &Part, of: Identity, whole: bool) -> Self {
        let Identity { first, last, .. } = of;
        Self { table: table.to_owned(), day: part.day.clone(), number: part.number, first, last, whole }
    }
}

/// So many are remembered.
const MAX_STORED: usize = 1000;

impl Stored {
    /// Whether a part, or one that it is a piece of, was stored.
    fn contains(&self, part: &StoredPart) -> bool {
        self.0.iter().any(|known| {
            let of_whole = known.whole && known.first <= part.first && part.last <= known.last;
            known == part || (of_whole && known.table == part.table && known.day == part.day)
        })
    }

    fn add(&mut self, part: StoredPart) {
        if self.0.len() == MAX_STORED {
            self.0.pop_front();
        }
        self.0.push_back(part);
    }

    /// Forgets a request that needs no other attempt.
    fn remove(&mut self, of: Identity) {
        self.0.retain(|part| (part.first, part.last) != (of.first, of.last));
    }
}

/// A request.
pub struct Body(Arc<Content>);

struct Content {
    identity: Identity,
    data: Data,
}

/// What rows are made of in each attempt: less than the rows themselves.
enum Data {
    Otlp(otlp::Body),
    Rows(Rows),
}

impl Data {
    /// The rows for the tables that `--create` makes.
    fn preview(&self, sink: &str) -> Vec<u8> {
        let mut parts = Parts::new(TimeZone::UTC, Encoding::Gzip);
        let tables: Vec<&str> = match self {
            Self::Otlp(body) => {
                // Decoding cannot fail: the encoder made it.
                let message = Message::decode(body);
                message.iter().for_each(|message| message.write(&Layouts::created(), &mut parts));
                Kind::ALL.map(Kind::table).to_vec()
            }
            Self::Rows(rows) => {
                rows.write(&mut parts);
                vec![&rows.table]
            }
        };
        let mut out = Vec::new();
        for part in parts.into_vec() {
            let table = tables[part.table];
            let rows = BufReader::new(GzDecoder::new(Cursor::new(part.into_bytes()))).split(b'\n');
            rows.map_while(Result::ok).for_each(|row| dry_run::show(&mut out, sink, table, &row));
        }
        out
    }
}

impl ClickHouse {
    /// Prepares to insert. Nothing connects yet.
    ///
    /// # Errors
    /// If an option or a variable is wrong.
    pub fn open(options: &ClickHouseArgs, trust: Trust, encoder: Encoder) -> Result<Self> {
        let env = |name: &str| std::env::var(name).ok();
        let server = Server::new(options.clickhouse.as_ref().and_then(Option::as_deref), trust, &env)?;
        let creation = options.create.then_some(Creation { ttl: options.ttl });
        let shape = match options.table.as_deref() {
            Some(table) => Shape::Lines(Lines::new(table)),
            None => Shape::Otel(Box::new(encoder)),
        };
        let shared = Shared {
            tables: Tables::new(server, creation),
            inserts: Semaphore::new(MAX_INSERTS),
            stored: Mutex::default(),
            traffic: Traffic::default(),
        };
        Ok(Self { shape, shared: Arc::new(shared) })
    }
}

impl Shared {
    /// Sends every part of a request that is not stored yet.
    async fn attempt(&self, content: &Content) -> Verdict {
        let _permit = tokio::time::timeout(PATIENCE, self.inserts.acquire()).await;
        match self.insert(content).await {
            Ok(()) => Verdict::DELIVERED,
            Err(failure) => failure.verdict(),
        }
    }

    async fn insert(&self, content: &Content) -> Result<(), Failure> {
        let mut parts = self.tables.server.parts().await?;
        let tables: Vec<&str> = match &content.data {
            Data::Otlp(body) => {
                let message = Message::decode(body);
                let message = message.map_err(|error| Failure::of(Cause::Lines, error.to_string()))?;
                message.write(&message.layouts(&self.tables).await?, &mut parts);
                Kind::ALL.map(Kind::table).to_vec()
            }
            Data::Rows(rows) => {
                rows.table(&self.tables).await?;
                rows.write(&mut parts);
                vec![&rows.table]
            }
        };
        let (identity, parts) = (content.identity, parts.into_vec());
        let (several, mut refused) = (parts.len() > 1, None);
        let days: Vec<_> = parts.iter().map(|part| (part.table, part.day.clone())).collect();
        for part in parts {
            let table = tables[part.table];
            let whole =
                days.iter().filter(|(table, day)| (*table, day) == (part.table, &part.day)).count() == 1;
            let stored = StoredPart::new(table, &part, identity, whole);
            if self.stored().contains(&stored) {
                continue;
            }
            match self.insert_part(table, part, identity).await {
                Ok(()) if several => self.stored().add(stored),
                Ok(()) => {}
                // The other parts first: a request is split only when nothing else is left of it.
                Err(failure) if failure.cause == Cause::Lines => refused = Some(failure),
                Err(failure) => return Err(failure),
            }
        }
        if let Some(failure) = refused {
            return Err(failure);
        }
        if several {
            self.stored().remove(identity);
        }
        Ok(())
    }

    async fn insert_part(&self, table: &str, part: Part, of: Identity) -> Result<(), Failure> {
        let token = format!("{}-{}-{:016x}-{}-{}", of.first, of.last, of.hash, part.day, part.number);
        let sql = format!("INSERT INTO {} FORMAT JSONEachRow", self.tables.server.table(table));
        let (size, rows) = (part.size(), part.into_bytes());
        self.traffic.add(size, rows.len());
        let inserted = self.tables.server.insert(&sql, &token, rows).await;
        if matches!(&inserted, Err(failure) if failure.cause != Cause::Outside) {
            // Its columns may have changed.
            self.tables.forget(table);
        }
        inserted
    }

    fn stored(&self) -> std::sync::MutexGuard<'_, Stored> {
        self.stored.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sink for ClickHouse {
    type Body = Body;

    fn name(&self) -> &'static str {
        "clickhouse"
    }

    fn keeps_order(&self) -> bool {
        false
    }

    /// One per signal or table, so that a missing table does not stop the others.
    fn endpoints(&self) -> usize {
        match &self.shape {
            Shape::Otel(_) => Signal::ALL.len(),
            Shape::Lines(lines) if lines.by_kind() => usize::MAX,
            Shape::Lines(_) => 1,
        }
    }

    fn endpoint(&self, body: &Body) -> usize {
        match &body.0.data {
            Data::Otlp(body) => body.signal as usize,
            Data::Rows(rows) => crc32fast::hash(rows.table.as_bytes()) as usize,
        }
    }

    fn size(&self, body: &Body) -> usize {
        match &body.0.data {
            Data::Otlp(body) => body.bytes.len(),
            Data::Rows(rows) => rows.size(),
        }
    }

    fn sibling(&self) -> Option<Self> {
        let Shape::Otel(encoder) = &self.shape else { return None };
        Some(Self { shape: Shape::Otel(Box::new(encoder.fresh())), shared: self.shared.clone() })
    }

    fn traffic(&self) -> Option<&Traffic> {
        Some(&self.shared.traffic)
    }

    fn evicted_series(&self) -> u64 {
        match &self.shape {
            Shape::Otel(encoder) => encoder.series().evicted(),
            Shape::Lines(_) => 0,
        }
    }

    fn state(&self) -> Option<Vec<u8>> {
        match &self.shape {
            Shape::Otel(encoder) => encoder.state(),
            Shape::Lines(_) => None,
        }
    }

    fn restore_state(&mut self, state: &[u8]) -> Result<(), String> {
        match &mut self.shape {
            Shape::Otel(encoder) => encoder.restore_state(state),
            Shape::Lines(_) => Ok(()),
        }
    }

    /// An insert is to have many rows, and a line of measurements is some 30 of them in the exporter's tables.
    fn limits(&self) -> Limits {
        let age = Duration::from_secs(5);
        match &self.shape {
            Shape::Otel(_) => Limits { lines: 20_000, bytes: 2 << 20, age },
            Shape::Lines(_) => Limits { lines: 50_000, bytes: 8 << 20, age },
        }
    }

    fn encode(&mut self, batch: &Batch) -> Encoded<Body> {
        match &mut self.shape {
            Shape::Otel(encoder) => bodies(batch, encoder.encode(batch), Data::Otlp),
            Shape::Lines(lines) => bodies(batch, lines.encode(batch), Data::Rows),
        }
    }

    fn preview(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        let name = self.name();
        self.encode(batch).map(|body| body.0.data.preview(name))
    }

    fn send(&mut self, body: &Body) -> Sending {
        let (shared, content) = (self.shared.clone(), body.0.clone());
        Box::pin(async move { shared.attempt(&content).await })
    }
}

fn bodies<B>(batch: &Batch, encoded: Encoded<B>, data: impl Fn(B) -> Data) -> Encoded<Body> {
    let Encoded { requests, rejected, empty } = encoded;
    let request = |Request { body, lines, items }| {
        let identity = Identity::new(batch, &lines);
        Request { body: Body(Arc::new(Content { identity, data: data(body) })), lines, items }
    };
    Encoded { requests: requests.into_iter().map(request).collect(), rejected, empty }
}
