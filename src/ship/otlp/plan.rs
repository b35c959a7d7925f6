//! What each kind's fields become, worked out once from its metric table.

use std::collections::HashMap;

use serde_json::Value;

use super::metric::{Metrics, Shape, Time};
use super::names::Names;
use super::points::Number;
use super::wire;
use crate::record::{Instrument, Kind, Signal, Temporality};
use crate::record::{body_schema, json_type};
use crate::ship::line::{self, Fields};

/// More fields than any kind has.
const MAX_FIELDS: usize = 256;

/// How to read the records of a kind that are metrics.
pub struct Plan {
    /// The kind.
    pub kind: &'static Kind,
    /// One entry per metric of the table, those of a field together.
    pub slots: Vec<Slot>,
    /// True if counters run from `start_ts` on and can go back.
    pub counts: bool,
    uses: HashMap<&'static str, Use>,
    order: Vec<(Box<str>, Use)>,
}

/// What a field is for.
#[derive(Clone, Copy, Default)]
pub struct Use {
    /// The attribute that it is, by its key.
    pub attribute: Option<&'static str>,
    /// The slots that it feeds: first and past the last.
    pub slots: (usize, usize),
}

/// One metric of the table.
pub struct Slot {
    /// What feeds it.
    pub field: &'static str,
    /// Its number among [`Metrics`].
    pub metric: usize,
    /// What kind of number it is.
    pub instrument: Instrument,
    /// Whether and how its points have a start.
    pub start: Start,
    /// The field's value times this is the metric's.
    pub factor: f64,
    /// True if the schema says that the field is no integer: a filter may have written 1 for 1.0.
    pub double: bool,
    /// Constant attributes, each a complete field 7 of a point (1 of an exponential one).
    pub attributes: Vec<u8>,
    /// For maps: the attribute that takes their keys, as the table has it.
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
    /// The plan of a kind, if its records are metrics.
    pub fn new(kind: &'static Kind, names: Names, metrics: &mut Metrics) -> Option<Self> {
        let Signal::Metrics { temporality, metrics: table } = &kind.signal else { return None };
        let mut uses: HashMap<&'static str, Use> = HashMap::new();
        for (field, key) in kind.attributes {
            uses.entry(field).or_default().attribute = Some(key);
        }
        let mut sorted: Vec<_> = table.iter().collect();
        sorted.sort_by_key(|metric| metric.field);
        let mut slots: Vec<_> = sorted
            .into_iter()
            .enumerate()
            .map(|(index, metric)| {
                let entry = uses.entry(metric.field).or_default();
                if entry.slots.1 == 0 {
                    entry.slots.0 = index;
                }
                entry.slots.1 = index + 1;
                Slot::new(metric, *temporality, names, metrics)
            })
            .collect();
        let schema = body_schema(kind);
        for slot in &mut slots {
            slot.double = slot.factor != 1.0 || is_double(&schema["properties"][slot.field]);
        }
        let counts = slots.iter().any(|slot| slot.start == Start::Counter);
        Some(Self { kind, slots, counts, uses, order: Vec::new() })
    }

    /// Puts into `uses` what each field is for.
    ///
    /// Records of a kind have the same fields at the same places nearly always:
    /// each is looked for where it was last.
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
        if let Some(place) = self.order.get_mut(at) {
            *place = (field.into(), found);
        } else if at == self.order.len() && at < MAX_FIELDS {
            self.order.push((field.into(), found));
        }
    }
}

impl Slot {
    fn new(
        metric: &'static crate::record::Metric,
        temporality: Temporality,
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
            field: metric.field,
            metric: metrics.id(names.metric(metric), "", metric.unit, shape),
            instrument: metric.instrument,
            start: match (shape, temporality) {
                (Shape::Gauge, _) | (Shape::Sum(_, false), Temporality::Delta) => Start::None,
                (Shape::Sum(Time::Cumulative, true), _) => Start::Counter,
                _ => Start::Record,
            },
            factor: metric.factor,
            double: false,
            attributes,
            key: metric.key,
            companions: ["sum_us", "max_us", "zero_count"].map(|name| format!("{prefix}{name}")),
        }
    }

    /// The metric's value, if the field's is a number.
    pub fn value(&self, value: &line::Value<'_>) -> Option<Number> {
        if self.double { Number::scaled(value, self.factor) } else { Number::new(value) }
    }
}

/// Whether a field, or each value of a map, is a number that need not be whole.
fn is_double(property: &Value) -> bool {
    let inner = &property["additionalProperties"];
    json_type(if inner.is_object() { inner } else { property }) == "number"
}
