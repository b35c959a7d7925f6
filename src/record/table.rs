//! The vocabulary in which a kind declares itself: what it is called, which of
//! its fields become which OpenTelemetry metrics, and which become attributes.
//!
//! A [`Kind`] is a constant beside its struct. Everything else is derived from
//! it: JSON Schema, man page, OTLP, SQL columns.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;

/// A struct whose values are the bodies of one kind of record.
///
/// The envelope (`ts`, `kind`, `host`) is written by the emitter and is not
/// part of the struct.
pub trait Record: Serialize {
    /// The declaration of the kind.
    const KIND: &'static Kind;
}

/// One kind of record.
pub struct Kind {
    /// The value of the field `kind`.
    pub name: &'static str,
    /// One line: what a record of this kind says.
    pub title: &'static str,
    /// The JSON Schema of the body.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// Fields that say what a record is about, and the attribute keys they have in OpenTelemetry.
    pub attributes: &'static [(&'static str, &'static str)],
    /// Those of them that the established Prometheus names have as labels, and how they call them; a field that is
    /// absent is no label.
    pub labels: &'static [(&'static str, &'static str)],
    /// A field that, where it is true, says that other records of the same sample hold the same
    /// amounts in parts. Such a total is not made into metrics: who sums would count it twice.
    pub total_if: Option<&'static str>,
    /// What the record becomes in OpenTelemetry.
    pub signal: Signal,
}

/// The OpenTelemetry signal that a kind belongs to.
pub enum Signal {
    /// Some fields are metrics; `start_ts` is the start of their counting.
    Metrics {
        /// Whether counters and histograms hold an interval or a running total.
        temporality: Temporality,
        /// The metrics, in any order; a field may feed several.
        metrics: &'static [Metric],
    },
    /// The record is a log record; its fields are the attributes.
    Log {
        /// How severe it is.
        severity: Severity,
    },
    /// The record's own fields say what it is.
    Generic(Generic),
}

/// The signal of a kind that describes itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generic {
    /// One point of a metric.
    Metric,
    /// A log record.
    Log,
    /// A span.
    Span,
    /// A log record whose body is the field `data`.
    Snapshot,
}

/// What a counter or histogram counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temporality {
    /// From `start_ts`, a fixed point such as boot.
    Cumulative,
    /// From the end of the record before.
    Delta,
}

/// How severe the log record of an event is.
#[derive(Clone, Copy)]
pub enum Severity {
    /// Always the same.
    Is(Level),
    /// By how many times the threshold of such events a number field is: the level of the highest multiple that it
    /// reaches, else `Debug`. The threshold is the record's `threshold_us`; where it has none, the default given here.
    ByMultiple(&'static str, f64, &'static [(f64, Level)]),
}

/// The severity numbers of the OpenTelemetry log data model that we use.
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
    /// The short name of the data model.
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
    /// A value of now.
    Gauge,
    /// An exponential histogram. The field is the sparse `buckets` map; its
    /// name's prefix (`device_` of `device_buckets`) selects `sum_us`, `max_us`
    /// and `zero_count` (times of at most [`ZERO_THRESHOLD`]); `count` and
    /// `scale` are the record's.
    Histogram,
}

/// One metric that a field feeds.
pub struct Metric {
    /// The field of the record.
    pub field: &'static str,
    /// The metric's name: OpenTelemetry semantic conventions where they have one.
    pub name: &'static str,
    /// UCUM.
    pub unit: &'static str,
    /// What kind of number it is.
    pub instrument: Instrument,
    /// The field's value times this is the metric's; 1 keeps integers integers.
    pub factor: f64,
    /// Attributes that tell this field from the others that feed the same metric.
    pub attributes: &'static [(&'static str, &'static str)],
    /// For a field that is a map: the attribute that takes the map's keys.
    pub key: Option<&'static str>,
    /// The name that the Collector's hostmetrics receiver uses, where it differs.
    pub hostmetrics: Option<&'static str>,
    /// The established Prometheus name, and the factor from the field to it.
    pub prometheus: Option<(&'static str, f64)>,
}

impl Kind {
    /// A kind whose body is `T` and whose records are metrics.
    pub const fn metrics<T: JsonSchema>(
        name: &'static str,
        title: &'static str,
        temporality: Temporality,
        metrics: &'static [Metric],
    ) -> Self {
        let signal = Signal::Metrics { temporality, metrics };
        Self { name, title, schema: T::json_schema, attributes: &[], labels: &[], total_if: None, signal }
    }

    /// A kind whose body is `T` and whose records are log records.
    pub const fn log<T: JsonSchema>(name: &'static str, title: &'static str, severity: Severity) -> Self {
        Self {
            name,
            title,
            schema: T::json_schema,
            attributes: &[],
            labels: &[],
            total_if: None,
            signal: Signal::Log { severity },
        }
    }

    /// A kind whose body is `T` and whose records describe themselves.
    pub const fn generic<T: JsonSchema>(name: &'static str, title: &'static str, generic: Generic) -> Self {
        Self {
            name,
            title,
            schema: T::json_schema,
            attributes: &[],
            labels: &[],
            total_if: None,
            signal: Signal::Generic(generic),
        }
    }

    /// Names the fields that are attributes: `(field, attribute key)`.
    pub const fn about(mut self, attributes: &'static [(&'static str, &'static str)]) -> Self {
        self.attributes = attributes;
        self
    }

    /// Names the fields that are labels of the established Prometheus names: `(field, label)`.
    pub const fn labels(mut self, labels: &'static [(&'static str, &'static str)]) -> Self {
        self.labels = labels;
        self
    }

    /// Names the field that marks a total whose parts are records of their own.
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

    /// A value of now.
    pub const fn gauge(field: &'static str, name: &'static str, unit: &'static str) -> Self {
        Self::new(field, name, unit, Instrument::Gauge)
    }

    /// An exponential histogram of nanoseconds.
    pub const fn histogram(field: &'static str, name: &'static str) -> Self {
        Self::new(field, name, "ns", Instrument::Histogram)
    }

    /// Adds constant attributes.
    pub const fn with(mut self, attributes: &'static [(&'static str, &'static str)]) -> Self {
        self.attributes = attributes;
        self
    }

    /// Multiplies the field by `factor`.
    pub const fn times(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// The field is a map, and its keys become this attribute.
    pub const fn keyed(mut self, attribute: &'static str) -> Self {
        self.key = Some(attribute);
        self
    }

    /// The Collector's hostmetrics receiver has another name for it.
    pub const fn hostmetrics(mut self, name: &'static str) -> Self {
        self.hostmetrics = Some(name);
        self
    }

    /// Prometheus users know it by this name, in which `{field}` stands for the value of that
    /// field; `factor` leads from the field to its unit.
    pub const fn prometheus(mut self, name: &'static str, factor: f64) -> Self {
        self.prometheus = Some((name, factor));
        self
    }
}
