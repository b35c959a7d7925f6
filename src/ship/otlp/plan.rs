//! How to read the records of a kind: computed from the kind's declaration, and once more for each order of fields.

use std::collections::HashMap;

use super::accessors::Number;
use super::metric::{Metrics, Shape};
use super::names::Names;
use super::wire;
use crate::record::{
    FieldSchema, Instrument, Kind, Mapping, Metric, Temporality, field_schemas, metric_help,
};
use crate::ship::line::{Fields, Value};

/// The most layouts remembered for a kind, and the most bytes that the names in one of them take.
const MAX_LAYOUTS: usize = 16;
const MAX_NAMES: usize = 1 << 14;

/// How to read the records of a kind of metrics.
pub struct Plan {
    /// The kind.
    pub kind: &'static Kind,
    /// One entry per metric that the kind declares, sorted by field.
    pub slots: Vec<Slot>,
    /// True if the kind has cumulative counters, which can go back.
    pub counts: bool,
    /// By field: the key of the attribute that it is, and the range of slots that it feeds.
    uses: HashMap<&'static str, (Option<&'static str>, usize, usize)>,
    layouts: Vec<Layout>,
    /// The layout of the previous record.
    last: usize,
}

/// Where the fields of a record are. Records of a kind nearly always have the same fields in the same order.
#[derive(Default)]
pub struct Layout {
    names: Vec<Box<str>>,
    /// Fields that are attributes, and their keys.
    pub attributes: Vec<(usize, &'static str)>,
    /// Fields that feed metrics, once for each metric.
    pub values: Vec<Input>,
    /// The field that marks a total of other records.
    pub total: Option<usize>,
}

/// A field that feeds a metric.
pub struct Input {
    /// The field's index in the record.
    pub field: usize,
    /// The index of the metric in [`Plan::slots`].
    pub slot: usize,
    /// For a histogram: the indices of its scale, sum, maximum and zero count.
    pub companions: [Option<usize>; 4],
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
    /// For a histogram: the fields with its scale, sum, maximum and zero count.
    companions: [String; 4],
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
        let mut uses: HashMap<_, (Option<&'static str>, usize, usize)> = HashMap::new();
        for (field, key) in kind.attributes {
            uses.entry(*field).or_default().0 = Some(*key);
        }
        let mut sorted: Vec<_> = table.iter().collect();
        sorted.sort_by_key(|metric| metric.field);
        let fields = field_schemas(kind);
        let slots: Vec<_> = sorted
            .into_iter()
            .enumerate()
            .map(|(index, metric)| {
                let (_, first, end) = uses.entry(metric.field).or_default();
                if *end == 0 {
                    *first = index;
                }
                *end = index + 1;
                Slot::new(metric, *temporality, &fields, names, metrics)
            })
            .collect();
        let counts = slots.iter().any(|slot| slot.start == Start::Counter);
        Some(Self { kind, slots, counts, uses, layouts: Vec::new(), last: 0 })
    }

    /// Makes [`Plan::layout`] return the layout of these fields.
    pub fn turn_to(&mut self, fields: &Fields<'_>) {
        if !self.layouts.get(self.last).is_some_and(|layout| layout.is_of(fields)) {
            self.last = self.layouts.iter().position(|layout| layout.is_of(fields)).unwrap_or_else(|| {
                let layout = self.new_layout(fields);
                self.layouts
                    .retain(|layout| layout.names.iter().map(|name| name.len()).sum::<usize>() <= MAX_NAMES);
                if self.layouts.len() == MAX_LAYOUTS {
                    self.layouts.clear();
                }
                self.layouts.push(layout);
                self.layouts.len() - 1
            });
        }
    }

    /// The layout of the fields that [`Plan::turn_to`] was called with.
    pub fn layout(&self) -> &Layout {
        &self.layouts[self.last]
    }

    fn new_layout(&self, fields: &Fields<'_>) -> Layout {
        let position = |name: &str| fields.iter().position(|(field, _)| field == name);
        let mut layout = Layout { total: self.kind.total_if.and_then(position), ..Layout::default() };
        for (index, (name, _)) in fields.iter().enumerate() {
            layout.names.push((&**name).into());
            let Some(&(key, first, end)) = self.uses.get(&**name) else { continue };
            layout.attributes.extend(key.map(|key| (index, key)));
            let input = |slot: usize| {
                let companions = self.slots[slot].companions.each_ref().map(|name| position(name));
                Input { field: index, slot, companions }
            };
            layout.values.extend((first..end).map(input));
        }
        layout
    }
}

impl Layout {
    fn is_of(&self, fields: &Fields<'_>) -> bool {
        self.names.len() == fields.len()
            && self.names.iter().zip(fields).all(|(name, (field, _))| **name == **field)
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
            companions: [("", "scale"), (prefix, "sum_us"), (prefix, "max_us"), (prefix, "zero_count")]
                .map(|(prefix, name)| format!("{prefix}{name}")),
        }
    }

    /// Converts the field's value to the metric's, if it is a number.
    #[inline]
    pub fn value(&self, value: &Value<'_>) -> Option<Number> {
        if self.double { Number::scaled(value, self.factor) } else { Number::new(value) }
    }
}
