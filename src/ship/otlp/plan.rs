//! How to read the records of a kind: computed once from the kind's declaration.

use std::collections::HashMap;

use super::accessors::Number;
use super::metric::{Metrics, Shape};
use super::names::Names;
use super::wire;
use crate::record::{
    FieldSchema, Instrument, Kind, Mapping, Metric, Temporality, field_schemas, metric_help,
};
use crate::ship::line::{Fields, Value};

/// The most fields, and the longest field names, to remember the positions of: more than any kind
/// has.
const MAX_FIELDS: usize = 256;
const MAX_NAME: usize = 64;

/// How to read the records of a kind of metrics.
pub struct Plan {
    /// The kind.
    pub kind: &'static Kind,
    /// One entry per metric that the kind declares, sorted by field.
    pub slots: Vec<Slot>,
    /// True if the kind has cumulative counters, which can go back.
    pub counts: bool,
    uses: HashMap<&'static str, Use>,
    order: Vec<(Box<str>, Use)>,
}

/// The use of a field.
#[derive(Clone, Copy, Default)]
pub struct Use {
    /// The key of the attribute that it is, if any.
    pub attribute: Option<&'static str>,
    /// The range of slots that it feeds.
    pub slots: (usize, usize),
}

/// A metric that a field feeds.
pub struct Slot {
    /// Its id in [`Metrics`].
    pub metric: usize,
    /// The instrument.
    pub instrument: Instrument,
    /// Which start time its points have.
    pub start: Start,
    /// Factor from the field to the metric.
    pub factor: f64,
    /// True if values are always doubles. A filter may have written 1 for 1.0.
    pub double: bool,
    /// Constant attributes, encoded as fields 7 of a point (fields 1 of an exponential one).
    pub attributes: Vec<u8>,
    /// For a map: the attribute that takes its keys.
    pub key: Option<&'static str>,
    /// For a histogram: the fields with its sum, maximum and zero count.
    pub companions: [String; 3],
}

/// The start time of a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// None.
    None,
    /// `start_ts`.
    Record,
    /// `start_ts`, or when the counter last went back.
    Counter,
}

impl Plan {
    /// Computes the plan of a kind, if its records are metrics.
    pub fn new(kind: &'static Kind, names: Names, metrics: &mut Metrics) -> Option<Self> {
        let Mapping::Metrics { temporality, metrics: table } = &kind.mapping else { return None };
        let mut uses: HashMap<&'static str, Use> = HashMap::new();
        for (field, key) in kind.attributes {
            uses.entry(field).or_default().attribute = Some(key);
        }
        let mut sorted: Vec<_> = table.iter().collect();
        sorted.sort_by_key(|metric| metric.field);
        let fields = field_schemas(kind);
        let slots: Vec<_> = sorted
            .into_iter()
            .enumerate()
            .map(|(index, metric)| {
                let entry = uses.entry(metric.field).or_default();
                if entry.slots.1 == 0 {
                    entry.slots.0 = index;
                }
                entry.slots.1 = index + 1;
                Slot::new(metric, *temporality, &fields, names, metrics)
            })
            .collect();
        let counts = slots.iter().any(|slot| slot.start == Start::Counter);
        Some(Self { kind, slots, counts, uses, order: Vec::new() })
    }

    /// Fills `uses` with the use of each field.
    ///
    /// Records of a kind nearly always have the same fields in the same order, so each field is
    /// compared with the one at that position in the previous record before it is looked up.
    pub fn look_up(&mut self, fields: &Fields<'_>, uses: &mut Vec<Use>) {
        uses.clear();
        for (at, (field, _)) in fields.iter().enumerate() {
            match self.order.get(at) {
                Some((last, found)) if **last == **field => uses.push(*found),
                _ => {
                    let found = self.uses.get(&**field).copied().unwrap_or_default();
                    uses.push(found);
                    self.remember(at, field, found);
                }
            }
        }
    }

    fn remember(&mut self, at: usize, field: &str, found: Use) {
        if field.len() > MAX_NAME {
            return;
        }
        if let Some(known) = self.order.get_mut(at) {
            *known = (field.into(), found);
        } else if at == self.order.len() && at < MAX_FIELDS {
            self.order.push((field.into(), found));
        }
    }
}

impl Slot {
    fn new(
        metric: &'static Metric,
        temporality: Temporality,
        fields: &HashMap<String, FieldSchema>,
        names: Names,
        metrics: &mut Metrics,
    ) -> Self {
        let shape = Shape::of(metric.instrument, temporality);
        let field = if matches!(shape, Shape::Exponential(_)) { 1 } else { 7 };
        let mut attributes = Vec::new();
        for (key, value) in metric.attributes {
            wire::key_text(&mut attributes, field, names.key(key), &names.value(key, value));
        }
        let prefix = metric.field.strip_suffix("buckets").unwrap_or("");
        Self {
            metric: metrics.id(names.metric(metric), metric_help(metric, fields), metric.unit, shape),
            instrument: metric.instrument,
            start: match (shape, temporality) {
                (Shape::Gauge, _) | (Shape::Sum(_, false), Temporality::Delta) => Start::None,
                (Shape::Sum(Temporality::Cumulative, true), _) => Start::Counter,
                _ => Start::Record,
            },
            factor: metric.factor,
            double: metric.factor != 1.0 || fields.get(metric.field).is_some_and(|field| field.is_double),
            attributes,
            key: metric.key,
            companions: ["sum_us", "max_us", "zero_count"].map(|name| format!("{prefix}{name}")),
        }
    }

    /// Converts the field's value to the metric's, if it is a number.
    pub fn value(&self, value: &Value<'_>) -> Option<Number> {
        if self.double { Number::scaled(value, self.factor) } else { Number::new(value) }
    }
}
