//! Encodes lines as the protobuf bodies of OTLP requests.
//!
//! [`Encoder::encode`] makes at most one request per signal from the lines of a batch:
//!
//! | line | becomes |
//! |---|---|
//! | a record of a kind of metrics | a data point for each metric that has a value |
//! | a record of a kind of logs | a log record: event name, severity, and the fields as attributes |
//! | `metric`, `log`, `span` | what it describes |
//! | OTLP/JSON | the same in protobuf |
//! | any other object | a log record with the object as its body |
//!
//! A request has one resource per host and one metric per name, unit and type, to which all lines
//! of the batch contribute. The same lines in the same order give the same bytes.

mod accessors;
mod cut;
mod exponential;
mod group;
mod json;
mod log;
mod measurement;
mod metric;
mod metric_record;
mod names;
mod plan;
mod points;
mod resource;
mod series;
mod span;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use prost::Message as _;

pub use self::names::Names;
pub use self::resource::{Options, percent_decode};
pub use self::series::Series;
pub use crate::ship::line::Signal;

use self::group::Groups;
use self::log::Logs;
use self::measurement::{Measurement, Scratch};
use self::metric::Metrics;
use self::metric_record::Point;
use self::plan::Plan;
use crate::common::time::Timestamp;
use crate::record::{Generic, KINDS, Kind, MAX_LINE, Mapping};
use crate::ship::line::{Class, Line, Value};
use crate::ship::pool::{Buffer, Pool};
use crate::ship::{Batch, Encoded, Request, dry_run};

/// The uncompressed protobuf body of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Which request it is.
    pub signal: Signal,
    /// The message.
    pub bytes: Buffer,
}

impl Body {
    /// Converts the body to OTLP/JSON, the Collector's file format: one line, or several if it would exceed the limit
    /// of a line.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 * self.bytes.len());
        self.write_json(&mut out);
        out
    }

    /// The lines that `--dry-run` shows.
    pub fn preview(&self, sink: &str, to: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for line in self.to_json().split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            dry_run::show(&mut out, sink, to, line);
        }
        out
    }

    fn write_json(&self, out: &mut Vec<u8>) {
        let start = out.len();
        if json::write(out, self.signal, &self.bytes).is_some() {
            out.push(b'\n');
        }
        let parts = (out.len() - start).div_ceil(MAX_LINE);
        if parts > 1
            && let Ok(bodies) = cut::cut(self.signal, &self.bytes, self.bytes.len() / (parts + 1))
            && bodies.len() > 1
        {
            out.truncate(start);
            for bytes in bodies {
                Self { signal: self.signal, bytes: bytes.into() }.write_json(out);
            }
        }
    }
}

/// The spans of a line of OTLP/JSON; `None` if the line is not valid or has none.
pub fn spans(line: &Line<'_>) -> Option<ExportTraceServiceRequest> {
    let mut ready = [const { Vec::new() }; 3];
    match json::read(&mut ready, line) {
        Ok((Signal::Traces, 1..)) => {
            ExportTraceServiceRequest::decode(&ready[Signal::Traces as usize][..]).ok()
        }
        _ => None,
    }
}

/// Encodes lines.
///
/// From one batch to the next it keeps [`Encoder::series`], the last values of cumulative counters.
/// Everything else it keeps is a cache that does not affect the output.
pub struct Encoder {
    options: Options,
    plans: HashMap<&'static str, Plan>,
    logs: Logs,
    metrics: Metrics,
    groups: Groups,
    series: Series,
    scratch: Scratch,
    times: TimeCache,
    pool: Pool,
}

impl Encoder {
    /// Prepares for the records of all kinds.
    pub fn new(options: Options) -> Self {
        Self::with_kinds(options, KINDS)
    }

    fn with_kinds(options: Options, kinds: &[&'static Kind]) -> Self {
        let mut metrics = Metrics::default();
        let plan = |kind: &&'static Kind| Some((kind.name, Plan::new(kind, options.names, &mut metrics)?));
        let plans = kinds.iter().filter_map(plan).collect();
        metrics.keep();
        Self {
            logs: Logs::new(options.names),
            groups: Groups::new(options.names),
            options,
            plans,
            metrics,
            series: Series::default(),
            scratch: Scratch::default(),
            times: TimeCache::default(),
            pool: Pool::default(),
        }
    }

    /// An encoder with the same options that has seen no lines, and shares the memory for bodies.
    pub fn fresh(&self) -> Self {
        Self { pool: self.pool.clone(), ..Self::new(self.options.clone()) }
    }

    /// The state on which the bytes of the following lines depend.
    pub fn series(&self) -> &Series {
        &self.series
    }

    /// Restores the state, so that the following lines give the bytes that they would have given.
    pub fn restore(&mut self, series: Series) {
        self.series = series;
    }

    /// [`Encoder::series`] as JSON.
    pub fn state(&self) -> Option<Vec<u8>> {
        serde_json::to_vec(&self.series).ok()
    }

    /// Restores what [`Encoder::state`] gave.
    ///
    /// # Errors
    /// If it is not such a state.
    pub fn restore_state(&mut self, state: &[u8]) -> Result<(), String> {
        self.series = serde_json::from_slice(state).map_err(|error| error.to_string())?;
        Ok(())
    }

    /// Makes the requests of a batch.
    pub fn encode(&mut self, batch: &Batch) -> Encoded<Body> {
        let (mut rejected, mut empty) = (Vec::new(), Vec::new());
        let mut all = Signal::ALL.map(|_| (Vec::new(), 0));
        for index in 0..batch.len() {
            let line = Line::parse(batch.line(index));
            match line.and_then(|line| self.line(&line, batch.received(index).0)) {
                Ok((_, 0)) => empty.push(index),
                Ok((signal, added)) => {
                    let (lines, items) = &mut all[signal as usize];
                    lines.push(index);
                    *items += added;
                }
                Err(reason) => rejected.push((index, reason)),
            }
        }
        let used = Signal::ALL.into_iter().zip(all).filter(|(_, (_, items))| *items > 0);
        let requests = used.map(|(signal, (lines, items))| {
            let bytes = self.groups.body(signal, &self.metrics, &self.pool);
            Request { body: Body { signal, bytes }, lines, items }
        });
        let requests = requests.collect();
        self.groups.clear();
        self.metrics.forget();
        Encoded { requests, rejected, empty }
    }

    /// Adds a line to the request of its signal. Returns the signal and the number of items.
    fn line(&mut self, line: &Line<'_>, received: u64) -> Result<(Signal, u64), String> {
        match line.class() {
            Class::Record(kind) => self.record(kind, line, received),
            Class::Otlp => json::read(&mut self.groups.ready, line),
            Class::Object => {
                let ts = TIME_FIELDS.iter().find_map(|field| self.times.get(line, field).ok().flatten());
                let host = line.host().unwrap_or(&self.options.default_host);
                let group = self.groups.get(host, None, &self.options);
                log::object(&mut group.logs, line, ts, received);
                Ok((Signal::Logs, 1))
            }
        }
    }

    fn record(
        &mut self,
        kind: &'static Kind,
        line: &Line<'_>,
        received: u64,
    ) -> Result<(Signal, u64), String> {
        let fields = &line.fields;
        let ts = self.times.get(line, "ts")?.unwrap_or(received);
        let start = self.times.get(line, "start_ts")?.unwrap_or(0);
        let host = accessors::text(fields, "host")?.unwrap_or(&self.options.default_host);
        let own = match kind.mapping {
            Mapping::Generic(_) => accessors::map(fields, "resource")?,
            Mapping::Metrics { .. } | Mapping::Log { .. } => None,
        };
        let group = self.groups.get(host, own.as_deref(), &self.options);
        match kind.mapping {
            Mapping::Metrics { .. } => {
                let Some(plan) = self.plans.get_mut(kind.name) else { return Ok((Signal::Metrics, 0)) };
                let record = Measurement { fields, ts, start, names: self.options.names };
                if let Some(points) = record.write(plan, group, &mut self.series, &mut self.scratch)? {
                    return Ok((Signal::Metrics, points));
                }
                // No field of the kind's metrics: keep the record whole rather than lose it.
                log::object(&mut group.logs, line, Some(ts), received);
            }
            Mapping::Generic(Generic::Metric) => {
                let (point, source) = (Point::new(fields)?, group.name().to_vec());
                let out = group.points(point.metric(&mut self.metrics));
                point.write(out, &source, ts, start, &mut self.series);
                return Ok((Signal::Metrics, 1));
            }
            Mapping::Generic(Generic::Span) => {
                let begin = self.times.get(line, "begin_ts")?.ok_or("begin_ts is missing")?;
                span::write(&mut group.spans, fields, begin, ts)?;
                return Ok((Signal::Traces, 1));
            }
            Mapping::Log { .. } => self.logs.record(&mut group.logs, kind, line, ts),
            Mapping::Generic(Generic::Log) => log::generic(&mut group.logs, line, ts)?,
            Mapping::Generic(Generic::Snapshot) => log::snapshot(&mut group.logs, line, ts)?,
        }
        Ok((Signal::Logs, 1))
    }
}

/// Fields in which other programs write the time, the most likely first.
const TIME_FIELDS: [&str; 4] = ["ts", "timestamp", "time", "@timestamp"];

/// The times parsed last. Consecutive records often share `ts` and `start_ts`.
#[derive(Default)]
struct TimeCache {
    known: [(String, u64); 2],
    next: usize,
}

impl TimeCache {
    /// Returns the time in a field, in nanoseconds since the epoch. Null counts as absent.
    ///
    /// Anything but a time is an error: the time of receipt would be wrong.
    fn get(&mut self, line: &Line<'_>, field: &str) -> Result<Option<u64>, String> {
        let text = match line.get(field) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::Str(text)) => &**text,
            Some(_) => return Err(format!("{field} is not an RFC 3339 time")),
        };
        if let Some((_, time)) = self.known.iter().find(|(known, _)| known == text) {
            return Ok(Some(*time));
        }
        let parsed = text.parse::<Timestamp>();
        let Timestamp(time) = parsed.map_err(|error| format!("{field} is not an RFC 3339 time: {error}"))?;
        self.known[self.next] = (text.to_owned(), time);
        self.next = (self.next + 1) % self.known.len();
        Ok(Some(time))
    }
}
