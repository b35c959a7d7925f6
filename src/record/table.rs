//! How a kind of record is declared: its name, its schema, and which fields become which
//! OpenTelemetry and Prometheus metrics, attributes and labels.
//!
//! A [`Kind`] is a constant next to its struct. The JSON Schema, the man page, OTLP, the Prometheus
//! exposition and the SQL columns are derived from it.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

/// A struct that is the body of one kind of record.
///
/// The emitter writes `ts`, `kind` and `host`, which are not part of the struct.
pub trait Record: Serialize {
    /// The declaration of the kind.
    const KIND: &'static Kind;
}

/// Pairs of names, such as a field and its attribute key, or a label and its value.
pub type Pairs = &'static [(&'static str, &'static str)];

/// One kind of record.
pub struct Kind {
    /// The value of the field `kind`.
    pub name: &'static str,
    /// What a record of this kind holds, in one line.
    pub title: &'static str,
    /// The JSON Schema of the body.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Fields that identify what was measured, and their OpenTelemetry attribute keys.
    pub attributes: Pairs,
    /// Fields that are labels of the established Prometheus names, and those labels. An absent
    /// field gives no label.
    pub labels: Pairs,
    /// A boolean field that marks a total of other records of the same sample. A marked record
    /// gives no metrics: a sum over all records would count everything twice.
    pub total_if: Option<&'static str>,
    /// What the record becomes in OpenTelemetry.
    pub mapping: Mapping,
}

/// What a kind of record becomes in OpenTelemetry.
pub enum Mapping {
    /// Some fields are metrics. Counting began at `start_ts`.
    Metrics {
        /// Whether counters and histograms are deltas or running totals.
        temporality: Temporality,
        /// The metrics, in any order. A field may feed several.
        metrics: &'static [Metric],
    },
    /// The record is a log record, and its fields are the attributes.
    Log {
        /// The severity.
        severity: Severity,
    },
    /// The record describes itself.
    Generic(Generic),
}

/// What a record of a generic kind is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generic {
    /// One point of a metric.
    Metric,
    /// A log record.
    Log,
    /// A span.
    Span,
    /// A log record; its body is the field `data`.
    Snapshot,
}

/// What the value of a counter or histogram is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Temporality {
    /// `start_ts`, a fixed time such as boot.
    Cumulative,
    /// The end of the previous record.
    Delta,
}

/// The severity of an event's log record.
#[derive(Clone, Copy)]
pub enum Severity {
    /// Always the same.
    Is(Level),
    /// By how many times a number field exceeds its threshold: the level of the highest multiple
    /// that it reaches, or else `Debug`. The threshold is the record's `threshold_us`, or else the
    /// default given here.
    ByMultiple(&'static str, f64, &'static [(f64, Level)]),
}

/// Severity numbers of the OpenTelemetry log data model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Level {
    /// 5
    Debug = 5,
    /// 9
    Info = 9,
    /// 13
    Warn = 13,
    /// 17
    Error = 17,
}

impl Level {
    /// The short name in the data model.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Debug => "DEBUG",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Error => "ERROR",
        }
    }
}

/// The longest time, in nanoseconds, that a histogram counts in `zero_count`.
pub const ZERO_THRESHOLD: u32 = 128;

/// The OpenTelemetry instrument that a field feeds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Instrument {
    /// A monotonic sum.
    Counter,
    /// A sum that can go down.
    UpDownCounter,
    /// A current value.
    Gauge,
    /// An exponential histogram. The field is the sparse `buckets` map. Its prefix (`device_` in
    /// `device_buckets`) selects `sum_us`, `max_us` and `zero_count` (times of at most
    /// [`ZERO_THRESHOLD`]); `scale` has no prefix.
    Histogram,
}

/// The upper bounds of histograms with explicit buckets, such as Prometheus' classic ones: these
/// powers of two, in nanoseconds. Each is also a bound of every exponential histogram of scale 0
/// or more, so that the conversion is exact.
pub const HISTOGRAM_BOUNDS_LOG2_NS: std::ops::RangeInclusive<i32> = 7..=36;

/// One metric that a field feeds.
pub struct Metric {
    /// The field of the record.
    pub field: &'static str,
    /// The metric's name: that of the semantic conventions, where they have one.
    pub name: &'static str,
    /// The unit, in UCUM.
    pub unit: &'static str,
    /// The instrument.
    pub instrument: Instrument,
    /// Factor from the field to the metric. With 1, integers stay integers.
    pub factor: f64,
    /// Attributes that distinguish this field from others that feed the same metric.
    pub attributes: Pairs,
    /// For a field that is a map: the attribute that takes the map's keys.
    pub key: Option<&'static str>,
    /// The name in the Collector's hostmetrics receiver, if different.
    pub hostmetrics: Option<&'static str>,
    /// The established Prometheus name, if there is one.
    pub prometheus: Option<Established>,
}

/// A Prometheus metric that existing dashboards use, such as those of node_exporter.
///
/// Its labels are these and [`Kind::labels`]. Fields of a record that feed the same series of an
/// established metric are summed.
#[derive(Clone, Copy)]
pub struct Established {
    /// The name. `{field}` stands for the value of that field.
    pub name: &'static str,
    /// Factor from the field to the metric.
    pub factor: f64,
    /// Labels with constant values.
    pub labels: Pairs,
    /// For a field that is a map: the label that takes the map's keys, and the keys that have
    /// another name in Prometheus.
    pub key: Option<(&'static str, Pairs)>,
}

impl Kind {
    const fn new<T: JsonSchema>(name: &'static str, title: &'static str, mapping: Mapping) -> Self {
        Self { name, title, schema: T::json_schema, attributes: &[], labels: &[], total_if: None, mapping }
    }

    /// Declares a kind of metrics with body `T` and counters that begin at the end of the previous record.
    pub const fn delta<T: JsonSchema>(name: &'static str, title: &'static str) -> Self {
        Self::new::<T>(name, title, Mapping::Metrics { temporality: Temporality::Delta, metrics: &[] })
    }

    /// Declares a kind of metrics with body `T` and counters that began at `start_ts`.
    pub const fn cumulative<T: JsonSchema>(name: &'static str, title: &'static str) -> Self {
        Self::new::<T>(name, title, Mapping::Metrics { temporality: Temporality::Cumulative, metrics: &[] })
    }

    /// Declares a kind of log records with body `T`.
    pub const fn log<T: JsonSchema>(name: &'static str, title: &'static str, severity: Severity) -> Self {
        Self::new::<T>(name, title, Mapping::Log { severity })
    }

    /// Declares a generic kind with body `T`.
    pub const fn generic<T: JsonSchema>(name: &'static str, title: &'static str, generic: Generic) -> Self {
        Self::new::<T>(name, title, Mapping::Generic(generic))
    }

    /// Sets the metrics.
    pub const fn metrics(mut self, list: &'static [Metric]) -> Self {
        if let Mapping::Metrics { metrics, .. } = &mut self.mapping {
            *metrics = list;
        }
        self
    }

    /// Sets the fields that are attributes, as `(field, attribute key)`.
    pub const fn about(mut self, attributes: Pairs) -> Self {
        self.attributes = attributes;
        self
    }

    /// Sets the fields that are labels of the established Prometheus names, as `(field, label)`.
    pub const fn labels(mut self, labels: Pairs) -> Self {
        self.labels = labels;
        self
    }

    /// Sets the field that marks a total of other records.
    pub const fn total_if(mut self, field: &'static str) -> Self {
        self.total_if = Some(field);
        self
    }
}

impl Metric {
    const fn new(
        field: &'static str,
        name: &'static str,
        unit: &'static str,
        instrument: Instrument,
    ) -> Self {
        Self {
            field,
            name,
            unit,
            instrument,
            factor: 1.0,
            attributes: &[],
            key: None,
            hostmetrics: None,
            prometheus: None,
        }
    }

    /// A monotonic sum.
    pub const fn counter(field: &'static str, name: &'static str, unit: &'static str) -> Self {
        Self::new(field, name, unit, Instrument::Counter)
    }

    /// A sum that can go down.
    pub const fn updown(field: &'static str, name: &'static str, unit: &'static str) -> Self {
        Self::new(field, name, unit, Instrument::UpDownCounter)
    }

    /// A current value.
    pub const fn gauge(field: &'static str, name: &'static str, unit: &'static str) -> Self {
        Self::new(field, name, unit, Instrument::Gauge)
    }

    /// An exponential histogram of nanoseconds.
    pub const fn histogram(field: &'static str, name: &'static str) -> Self {
        Self::new(field, name, "ns", Instrument::Histogram)
    }

    /// Adds constant attributes.
    pub const fn with(mut self, attributes: Pairs) -> Self {
        self.attributes = attributes;
        self
    }

    /// Multiplies the field by `factor`.
    pub const fn times(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// Declares that the field is a map, with keys that become this attribute.
    pub const fn keyed(mut self, attribute: &'static str) -> Self {
        self.key = Some(attribute);
        self
    }

    /// Sets the name that the Collector's hostmetrics receiver uses.
    pub const fn hostmetrics(mut self, name: &'static str) -> Self {
        self.hostmetrics = Some(name);
        self
    }

    /// Sets the established Prometheus name, in which `{field}` stands for the value of that
    /// field.
    pub const fn prometheus(self, name: &'static str) -> Self {
        self.prometheus_times(name, 1.0)
    }

    /// The same, with a factor from the field to the metric.
    pub const fn prometheus_times(mut self, name: &'static str, factor: f64) -> Self {
        self.prometheus = Some(Established { name, factor, labels: &[], key: None });
        self
    }

    /// Adds constant labels to the established Prometheus name, which must be set before.
    pub const fn prometheus_labels(mut self, labels: Pairs) -> Self {
        if let Some(established) = &mut self.prometheus {
            established.labels = labels;
        }
        self
    }

    /// Sets the label of the established Prometheus name that takes the map's keys, and the keys
    /// that have another name there. The name must be set before.
    pub const fn prometheus_key(mut self, label: &'static str, renamed: Pairs) -> Self {
        if let Some(established) = &mut self.prometheus {
            established.key = Some((label, renamed));
        }
        self
    }
}
