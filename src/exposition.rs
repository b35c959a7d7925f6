//! Prometheus text exposition (format 0.0.4) of records.
//!
//! [`Exposition::add`] takes lines, [`Exposition::render`] writes the current values. Metrics have
//! their OpenTelemetry names in Prometheus form, their established Prometheus names, or both
//! ([`Names`]). Delta counters and histograms are accumulated. Exponential histograms become
//! classic ones in seconds, with the bounds of [`crate::record::HISTOGRAM_BOUNDS_LOG2_NS`].
//!
//! The caller is a server's `/metrics`; nothing here does I/O.

mod family;
mod naming;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;

use self::family::{Family, Histogram, Sample, Series, Type};
use self::naming::{Labels, family_name, sanitize};
use crate::common::time::Timestamp;
use crate::record::{
    Established, FieldSchema, Generic, Instrument, KINDS, Kind, Mapping, Metric, Temporality, field_schemas,
    metric_help,
};
use crate::ship::line::{Class, Fields, Line, Value, get};

/// Which names to expose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Names {
    /// OpenTelemetry's, in Prometheus form, and the established ones.
    #[default]
    Both,
    /// OpenTelemetry's only.
    OpenTelemetry,
    /// The established ones, and OpenTelemetry's for metrics that have none.
    Established,
}

/// Settings of an exposition.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Which names to expose.
    pub names: Names,
    /// Adds the record's `host` as the label `host_name`. Without it, hosts overwrite each other.
    pub host: bool,
    /// The most series. Above it, those not updated for longest are evicted.
    pub max_series: usize,
    /// A series not updated for this long is removed.
    pub stale: Duration,
    /// The same for accumulated series, which start again from zero when they return.
    pub stale_accumulated: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            names: Names::Both,
            host: true,
            max_series: 100_000,
            stale: Duration::from_secs(300),
            stale_accumulated: Duration::from_secs(3600),
        }
    }
}

/// The current values of all series.
pub struct Exposition {
    options: Options,
    kinds: HashMap<&'static str, HashMap<String, FieldSchema>>,
    families: BTreeMap<String, Family>,
    series: usize,
    now: Timestamp,
    /// Orders series by their last update.
    clock: u64,
    evicted: u64,
    conflicts: u64,
}

/// How the values of a record change their series.
#[derive(Clone, Copy)]
struct Update {
    ts: Timestamp,
    /// The values are deltas.
    delta: bool,
    /// The series has a value of the same record already, to which this one is added.
    again: bool,
}

/// Where the values of a field go.
struct Target {
    /// The family.
    name: String,
    help: String,
    of_type: Type,
    /// Factor from the field to the family's unit.
    factor: f64,
    labels: Labels,
    /// For a field that is a map: the label that takes the map's keys, and the keys with another name.
    key: Option<(&'static str, &'static [(&'static str, &'static str)])>,
}

impl Exposition {
    /// Without any series.
    pub fn new(options: Options) -> Self {
        let kinds = KINDS.iter().map(|kind| (kind.name, field_schemas(kind))).collect();
        let families = BTreeMap::new();
        Self { options, kinds, families, series: 0, now: Timestamp(0), clock: 0, evicted: 0, conflicts: 0 }
    }

    /// Adds a line that was received at `now`, which is also the time of a record without `ts`.
    /// Only records of kinds of metrics, and `metric` records, have series.
    ///
    /// # Errors
    /// If the `metric` record is invalid; the message says why.
    pub fn add(&mut self, line: &Line<'_>, now: Timestamp) -> Result<(), String> {
        let Class::Record(kind) = line.class() else { return Ok(()) };
        let ts = line.ts().unwrap_or(now);
        self.now = now;
        self.clock += 1;
        match &kind.mapping {
            Mapping::Metrics { temporality, metrics } => self.record(kind, *temporality, metrics, line, ts),
            Mapping::Generic(Generic::Metric) => return self.metric(line, ts),
            Mapping::Generic(_) | Mapping::Log { .. } => {}
        }
        self.evict();
        Ok(())
    }

    /// Writes all series, and removes those that were not updated for too long.
    pub fn render(&mut self, now: Timestamp, out: &mut String) {
        let Options { stale, stale_accumulated, .. } = self.options;
        self.retain(|series| {
            let limit = if series.accumulated { stale_accumulated } else { stale };
            Duration::from_nanos(now.0.saturating_sub(series.received.0)) <= limit
        });
        for (name, family) in &self.families {
            family.render(name, out);
        }
    }

    /// The number of series evicted because there were too many.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// The number of values left out because their name belongs to a metric of another type.
    pub fn conflicts(&self) -> u64 {
        self.conflicts
    }

    fn record(
        &mut self,
        kind: &'static Kind,
        temporality: Temporality,
        metrics: &'static [Metric],
        line: &Line<'_>,
        ts: Timestamp,
    ) {
        let fields = &line.fields;
        if kind.total_if.is_some_and(|field| get(fields, field) == Some(&Value::Bool(true))) {
            return;
        }
        let base = self.base(line);
        let mut labels = base.clone();
        labels.add_fields(kind.attributes, fields);
        let mut established_labels = base;
        established_labels.add_fields(kind.labels, fields);
        let mut fed = HashSet::new();
        for metric in metrics {
            let Some(value) = get(fields, metric.field).filter(|value| **value != Value::Null) else {
                continue;
            };
            let sums = matches!(metric.instrument, Instrument::Counter | Instrument::Histogram);
            let update = Update { ts, delta: sums && temporality == Temporality::Delta, again: false };
            if self.options.names != Names::Established || metric.prometheus.is_none() {
                let target = self.open_telemetry(kind, metric, labels.clone());
                self.feed(&target, metric.field, fields, value, update);
            }
            if let Some(established) = metric.prometheus
                && self.options.names != Names::OpenTelemetry
            {
                let update = Update { again: !fed.insert((established.name, established.labels)), ..update };
                let labels = established_labels.clone();
                if let Some(target) = self.established(kind, metric, established, fields, labels) {
                    self.feed(&target, metric.field, fields, value, update);
                }
            }
        }
    }

    fn base(&self, line: &Line<'_>) -> Labels {
        let mut labels = Labels::default();
        if let Some(host) = line.host().filter(|_| self.options.host) {
            labels.add("host_name", host);
        }
        labels
    }

    /// The metric under its OpenTelemetry name.
    fn open_telemetry(&self, kind: &Kind, metric: &Metric, mut labels: Labels) -> Target {
        let of_type = match metric.instrument {
            Instrument::Counter => Type::Counter,
            Instrument::UpDownCounter | Instrument::Gauge => Type::Gauge,
            Instrument::Histogram => Type::Histogram,
        };
        let (name, factor) = family_name(metric.name, metric.unit, of_type == Type::Counter);
        let help = metric_help(metric, &self.kinds[kind.name]).to_owned();
        metric.attributes.iter().for_each(|(key, value)| labels.add(key, value));
        let key = metric.key.map(|key| (key, &[][..]));
        Target { name, help, of_type, factor: metric.factor * factor, labels, key }
    }

    /// The metric under its established Prometheus name; `None` if a field that the name needs is missing.
    fn established(
        &self,
        kind: &Kind,
        metric: &Metric,
        established: Established,
        fields: &Fields<'_>,
        mut labels: Labels,
    ) -> Option<Target> {
        let name = established_name(established.name, fields)?;
        // Untyped if Prometheus' own exporter has a counter under another name than `_total`.
        let of_type = match metric.instrument {
            Instrument::Counter if name.ends_with("_total") => Type::Counter,
            Instrument::Counter => Type::Untyped,
            _ => Type::Gauge,
        };
        let schemas = &self.kinds[kind.name];
        let Mapping::Metrics { metrics, .. } = kind.mapping else { return None };
        let same = |other: &&Metric| other.prometheus.is_some_and(|other| other.name == established.name);
        let help = match (metrics.iter().filter(same).count(), schemas.get(metric.field)) {
            (1, Some(field)) => field.description.clone(),
            _ => metric_help(metric, schemas).to_owned(),
        };
        established.labels.iter().for_each(|(label, value)| labels.add(label, value));
        Some(Target { name, help, of_type, factor: established.factor, labels, key: established.key })
    }

    /// Sets the series that a field feeds.
    fn feed(&mut self, target: &Target, field: &str, fields: &Fields<'_>, value: &Value<'_>, update: Update) {
        let Target { labels, factor, .. } = target;
        if target.of_type == Type::Histogram {
            if let Some(histogram) = Histogram::of_record(field, fields, value) {
                self.set(target, labels, Sample::Histogram(histogram), update);
            }
        } else if let Some((key, renamed)) = target.key {
            for (entry, value) in value.as_map().unwrap_or_default().iter() {
                let known = renamed.iter().find(|(ours, _)| ours == entry);
                let mut labels = labels.clone();
                labels.add(key, known.map_or(&**entry, |(_, theirs)| theirs));
                if let Some(value) = value.as_f64() {
                    self.set(target, &labels, Sample::Number(value * factor), update);
                }
            }
        } else if let Some(value) = value.as_f64() {
            self.set(target, labels, Sample::Number(value * factor), update);
        }
    }

    fn metric(&mut self, line: &Line<'_>, ts: Timestamp) -> Result<(), String> {
        let fields = &line.fields;
        let name = line.str("name").filter(|name| !name.is_empty()).ok_or("name is missing")?;
        let (metric_unit, of_type) = (line.str("unit").unwrap_or(""), line.str("type").unwrap_or("gauge"));
        let of_type = match of_type {
            "gauge" | "updowncounter" => Type::Gauge,
            "counter" => Type::Counter,
            "histogram" => Type::Histogram,
            "summary" => Type::Summary,
            other => return Err(format!("type is `{other}`")),
        };
        let (name, factor) = family_name(name, metric_unit, of_type == Type::Counter);
        let help = line.str("description").unwrap_or("No description.").to_owned();
        let mut labels = self.base(line);
        for (key, value) in get(fields, "attributes").and_then(Value::as_map).unwrap_or_default().iter() {
            labels.add_value(key, value);
        }
        let sample = match of_type {
            Type::Histogram => Sample::Histogram(Histogram::of_metric(fields, factor)?),
            Type::Summary => Sample::summary(fields, factor)?,
            _ => Sample::Number(
                get(fields, "value").and_then(Value::as_f64).ok_or("value is missing")? * factor,
            ),
        };
        let delta = line.str("temporality") == Some("delta") && of_type != Type::Gauge;
        let target = Target { name, help, of_type, factor, labels, key: None };
        self.set(&target, &target.labels, sample, Update { ts, delta, again: false });
        self.evict();
        Ok(())
    }

    fn set(&mut self, target: &Target, labels: &Labels, sample: Sample, update: Update) {
        let Target { name, help, of_type, .. } = target;
        let family = self.families.entry(name.clone()).or_insert_with(|| Family::new(*of_type, help));
        if family.of_type != *of_type {
            self.conflicts += 1;
            return;
        }
        let Update { ts, delta, again } = update;
        let series = Series { sample, ts, received: self.now, updated: self.clock, accumulated: delta };
        self.series += usize::from(family.set(labels.render(), series, again));
    }

    fn evict(&mut self) {
        if self.series <= self.options.max_series {
            return;
        }
        // A quarter at once, so that sorting costs little per record.
        let mut updated: Vec<_> = self
            .families
            .values()
            .flat_map(|family| family.series.values())
            .map(|series| series.updated)
            .collect();
        updated.sort_unstable();
        let oldest = updated[updated.len() / 4];
        let before = self.series;
        self.retain(|series| series.updated > oldest);
        self.evicted += (before - self.series) as u64;
    }

    fn retain(&mut self, keep: impl Fn(&Series) -> bool) {
        let mut left = 0;
        self.families.retain(|_, family| {
            family.series.retain(|_, series| keep(series));
            left += family.series.len();
            !family.series.is_empty()
        });
        self.series = left;
    }
}

/// Replaces each `{field}` by the value of that field.
fn established_name(template: &str, fields: &Fields<'_>) -> Option<String> {
    let mut name = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let (field, after) = after.split_once('}')?;
        name.push_str(before);
        name.push_str(get(fields, field)?.as_str()?);
        rest = after;
    }
    name.push_str(rest);
    Some(sanitize(&name))
}

#[cfg(test)]
mod tests;
