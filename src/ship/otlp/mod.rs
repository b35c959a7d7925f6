//! From lines to the protobuf bodies of OTLP requests.
//!
//! [`Encoder::encode`] takes a range of a batch and gives at most one request
//! per signal. What a line becomes:
//!
//! | line | becomes |
//! |---|---|
//! | a record of a kind of metrics | a data point per metric of the kind's table that has a value |
//! | a record of a kind of logs | a log record: event name, severity, and the fields as attributes |
//! | `metric`, `log`, `span` | what it says |
//! | OTLP/JSON | the same in protobuf |
//! | any other object | a log record whose body is the object |
//!
//! Points of many lines meet: one resource per host, in it one metric per name,
//! unit and type. The same lines in the same order give the same bytes.

mod generic;
mod group;
mod json;
mod log;
mod metric;
mod names;
mod plan;
mod points;
mod record;
mod resource;
mod said;
mod series;
mod span;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use self::names::Names;
pub use self::resource::{Options, percent_decode};

use self::generic::Point;
use self::group::Hosts;
use self::log::Logs;
use self::metric::Metrics;
use self::plan::Plan;
use self::record::{Record, Scratch};
use self::series::Series;
use crate::common::time::Timestamp;
use crate::record::{self as kinds, Generic, KINDS, Kind};
use crate::ship::line::{Class, Line, Value};
use crate::ship::{Batch, Encoded, Request};

/// What a request is about; OTLP has a path and a message for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `ExportMetricsServiceRequest` to `/v1/metrics`
    Metrics,
    /// `ExportLogsServiceRequest` to `/v1/logs`
    Logs,
    /// `ExportTraceServiceRequest` to `/v1/traces`
    Traces,
}

impl Signal {
    /// In the order in which their requests go out.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    /// What OTLP/HTTP appends to the endpoint.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "v1/metrics",
            Self::Logs => "v1/logs",
            Self::Traces => "v1/traces",
        }
    }
}

/// A request's body: protobuf, not compressed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Body {
    /// Which request it is.
    pub signal: Signal,
    /// The message.
    pub bytes: Vec<u8>,
}

impl Body {
    /// The same as a line of OTLP/JSON, the Collector's file format, with its newline.
    pub fn to_json(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(4 * self.bytes.len());
        if json::write(&mut out, self).is_some() {
            out.push(b'\n');
        }
        out
    }
}

/// Makes requests of lines.
///
/// Between calls it keeps the last values of cumulative counters (to notice one
/// that goes back) and buffers; nothing else of a call can be seen in the next.
pub struct Encoder {
    options: Options,
    plans: HashMap<&'static str, Plan>,
    logs: Logs,
    metrics: Metrics,
    hosts: Hosts,
    series: Series,
    scratch: Scratch,
    times: Times,
}

impl Encoder {
    /// Works out the plans of all kinds.
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
            options,
            plans,
            metrics,
            hosts: Hosts::default(),
            series: Series::default(),
            scratch: Scratch::default(),
            times: Times::default(),
        }
    }

    /// Makes the requests of the lines of a batch.
    pub fn encode(&mut self, batch: &Batch) -> Encoded<Body> {
        let mut rejected = Vec::new();
        let mut requests = Signal::ALL.map(|signal| Request {
            body: Body { signal, bytes: Vec::new() },
            lines: Vec::new(),
            items: 0,
        });
        for index in 0..batch.len() {
            let line = Line::parse(batch.line(index));
            match line.and_then(|line| self.line(&line, batch.received.0)) {
                Ok((_, 0)) => {}
                Ok((signal, items)) => {
                    let request = &mut requests[signal as usize];
                    request.lines.push(index);
                    request.items += items;
                }
                Err(reason) => rejected.push((index, reason)),
            }
        }
        let mut requests: Vec<_> = requests.into_iter().filter(|request| request.items > 0).collect();
        for request in &mut requests {
            request.body.bytes = self.hosts.body(request.body.signal, &self.metrics);
        }
        self.hosts.clear();
        self.metrics.forget();
        Encoded { requests, rejected }
    }

    /// Adds a line to the request of its signal, and returns that and the number of items.
    fn line(&mut self, line: &Line<'_>, received: u64) -> Result<(Signal, u64), String> {
        match line.class() {
            Class::Record(kind) => self.record(kind, line, received),
            Class::Otlp(_) if line.otlp().nth(1).is_some() => Err("more than one signal in a line".into()),
            Class::Otlp(signal) => {
                Ok((signal, json::read(&mut self.hosts.ready[signal as usize], signal, line)?))
            }
            Class::Object => {
                let ts = TIMES.iter().find_map(|field| self.times.get(line, field).ok().flatten());
                let host = self.hosts.get(line.host().unwrap_or(&self.options.default_host), &self.options);
                log::object(&mut host.logs, line, ts, received);
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
        let ts = self.times.get(line, "ts")?.unwrap_or(received);
        let start = self.times.get(line, "start_ts")?.unwrap_or(0);
        let name = said::text(&line.fields, "host")?.unwrap_or(&self.options.default_host);
        let host = self.hosts.get(name, &self.options);
        match kind.signal {
            kinds::Signal::Metrics { .. } => {
                let Some(plan) = self.plans.get_mut(kind.name) else { return Ok((Signal::Metrics, 0)) };
                let names = self.options.names;
                let record = Record { fields: &line.fields, host: name, ts, start, names };
                if let Some(points) = record.write(plan, host, &mut self.series, &mut self.scratch)? {
                    return Ok((Signal::Metrics, points));
                }
                // Nothing that is known of the kind: kept whole rather than lost.
                log::object(&mut host.logs, line, Some(ts), received);
            }
            kinds::Signal::Generic(Generic::Metric) => {
                let point = Point::new(line)?;
                let out = host.points(point.metric(&mut self.metrics));
                point.write(out, name, ts, start, &mut self.series);
                return Ok((Signal::Metrics, 1));
            }
            kinds::Signal::Generic(Generic::Span) => {
                let begin = self.times.get(line, "begin_ts")?.ok_or("begin_ts is missing")?;
                span::write(&mut host.spans, line, begin, ts)?;
                return Ok((Signal::Traces, 1));
            }
            kinds::Signal::Log { .. } => self.logs.record(&mut host.logs, kind, line, ts),
            kinds::Signal::Generic(Generic::Log) => log::generic(&mut host.logs, line, ts)?,
            kinds::Signal::Generic(Generic::Snapshot) => log::snapshot(&mut host.logs, line, ts)?,
        }
        Ok((Signal::Logs, 1))
    }
}

/// Where other programs say when it was, the likeliest first.
const TIMES: [&str; 4] = ["ts", "timestamp", "time", "@timestamp"];

/// The times read last: a scrape's records have one `ts` and one `start_ts` together.
#[derive(Default)]
struct Times {
    known: [(String, u64); 2],
    next: usize,
}

impl Times {
    /// The time in that field, in nanoseconds since the epoch; null is as good as no field.
    ///
    /// Anything else than a time is an error: a record says when it was, and the
    /// time of its receipt in that place would be a lie.
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
