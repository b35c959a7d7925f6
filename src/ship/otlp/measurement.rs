//! Records of the kinds that are metrics: one pass over the fields for the attributes, one for the
//! points.

use super::accessors::Number;
use super::exponential::Exponential;
use super::group::Group;
use super::names::Names;
use super::plan::{Input, Layout, Plan, Slot, Start};
use super::points::{self, TimeRange};
use super::series::{Counters, Series};
use crate::record::Instrument;
use crate::ship::line::{Fields, Value};

/// Buffers that are reused for each record.
#[derive(Default)]
pub struct Scratch {
    attributes: Vec<u8>,
    more: Vec<u8>,
    series: Vec<u8>,
}

/// A record of a kind of metrics.
#[derive(Clone, Copy)]
pub struct Measurement<'r, 'a> {
    /// All fields.
    pub fields: &'r Fields<'a>,
    /// When it was measured.
    pub ts: u64,
    /// `start_ts`, or 0.
    pub start: u64,
    /// Which attribute names to write.
    pub names: Names,
}

impl<'r, 'a> Measurement<'r, 'a> {
    /// Adds its points to the group and returns their number, or `None` if it has no field that
    /// the kind declares as a metric.
    ///
    /// # Errors
    /// Which field has a value that its metric cannot have; nothing is added then.
    pub fn write(
        self,
        plan: &mut Plan,
        group: &mut Group,
        series: &mut Series,
        scratch: &mut Scratch,
    ) -> Result<Option<u64>, String> {
        plan.turn_to(self.fields);
        let (layout, slots) = (plan.layout(), &plan.slots[..]);
        if layout.total.is_some_and(|index| self.fields[index].1 == Value::Bool(true)) {
            return Ok(Some(0));
        }
        for input in &layout.values {
            self.check(input, &slots[input.slot])?;
        }
        if layout.values.is_empty() {
            return Ok(None);
        }
        let Scratch { attributes, more, series: name } = scratch;
        attributes.clear();
        self.attributes(attributes, 7, layout);
        let counters = plan.counts.then(|| {
            series_name(name, &[group.name(), plan.kind.name.as_bytes(), attributes]);
            series.get(name, slots.len()).turn_to(self.ts, self.start)
        });
        let mut writer = Writer { record: self, layout, slots, group, counters, attributes, more };
        let points = layout.values.iter().map(|input| writer.points(input)).sum();
        let added = writer.counters.map_or(0, Counters::take_added);
        if added > 0 {
            series.add_keys(added);
        }
        Ok(Some(points))
    }

    fn check(self, input: &Input, slot: &Slot) -> Result<(), String> {
        let (name, value) = &self.fields[input.field];
        let (fits, wanted) = match (slot.instrument, slot.key) {
            _ if matches!(value, Value::Null) => return Ok(()),
            (Instrument::Histogram, _) => {
                (is_empty(value) || self.exponential(input).is_some(), "a map of bucket counts with a scale")
            }
            (_, Some(_)) => {
                let fits =
                    |(_, value): &(_, Value<'_>)| matches!(value, Value::Null) || slot.value(value).is_some();
                (value.as_map().is_some_and(|entries| entries.iter().all(fits)), "a map of numbers")
            }
            (_, None) => (slot.value(value).is_some(), "a number"),
        };
        if fits { Ok(()) } else { Err(format!("{name} is not {wanted}")) }
    }

    /// The histogram of these buckets, if they and the scale are valid.
    fn exponential(self, input: &Input) -> Option<Exponential<'r>> {
        let [scale, sum, max, zero] = input.companions.map(|index| Some(&self.fields[index?].1));
        let scale = i32::try_from(scale?.as_i64()?).ok()?;
        let zero_count = zero.and_then(Value::as_u64);
        let number = |value: Option<&Value<'_>>| value.and_then(Value::as_f64);
        Exponential::new(&self.fields[input.field].1, scale, zero_count, number(sum), number(max))
    }

    /// Appends the attributes that identify what was measured, as that field.
    fn attributes(self, out: &mut Vec<u8>, field: u32, layout: &Layout) {
        for (index, key) in &layout.attributes {
            let value = &self.fields[*index].1;
            if !matches!(value, Value::Null) {
                self.names.write(out, field, key, value);
            }
        }
    }
}

fn series_name(out: &mut Vec<u8>, parts: &[&[u8]]) {
    out.clear();
    for part in parts {
        out.extend_from_slice(part);
        out.push(0);
    }
}

struct Writer<'w, 'r, 'a> {
    record: Measurement<'r, 'a>,
    layout: &'w Layout,
    slots: &'w [Slot],
    group: &'w mut Group,
    counters: Option<&'w mut Counters>,
    attributes: &'w [u8],
    more: &'w mut Vec<u8>,
}

impl Writer<'_, '_, '_> {
    /// Adds the points of a field to a metric, and returns their number.
    fn points(&mut self, input: &Input) -> u64 {
        let (slot, value) = (&self.slots[input.slot], &self.record.fields[input.field].1);
        match (slot.instrument, slot.key) {
            (Instrument::Histogram, _) => u64::from(self.histogram(slot, input).is_some()),
            (_, Some(key)) => value.as_map().map_or(0, |entries| self.keyed(input.slot, key, &entries)),
            (_, None) => u64::from(self.number(input.slot, value).is_some()),
        }
    }

    fn number(&mut self, index: usize, value: &Value<'_>) -> Option<()> {
        let slot = &self.slots[index];
        let value = slot.value(value)?;
        let time = self.time(slot, index, value);
        points::number(self.group.points(slot.metric), time, value, [self.attributes, &slot.attributes]);
        Some(())
    }

    fn keyed(&mut self, index: usize, key: &'static str, entries: &Fields<'_>) -> u64 {
        let slot = &self.slots[index];
        let mut points = 0;
        for (name, value) in entries {
            let Some(value) = slot.value(value) else { continue };
            self.more.clear();
            self.more.extend_from_slice(&slot.attributes);
            self.record.names.write(self.more, 7, key, &Value::Str(name.as_ref().into()));
            let index = match &mut self.counters {
                Some(counters) if slot.start == Start::Counter => {
                    counters.keyed(index, self.slots.len(), name)
                }
                _ => index,
            };
            let time = self.time(slot, index, value);
            points::number(self.group.points(slot.metric), time, value, [self.attributes, self.more]);
            points += 1;
        }
        points
    }

    fn histogram(&mut self, slot: &Slot, input: &Input) -> Option<()> {
        let histogram = self.record.exponential(input)?;
        self.more.clear();
        self.record.attributes(self.more, 1, self.layout);
        self.more.extend_from_slice(&slot.attributes);
        let time = TimeRange { start: self.record.start, end: self.record.ts };
        histogram.write(self.group.points(slot.metric), time, self.more);
        Some(())
    }

    fn time(&mut self, slot: &Slot, index: usize, value: Number) -> TimeRange {
        let start = match (slot.start, &mut self.counters) {
            (Start::None, _) => 0,
            (Start::Counter, Some(counters)) => counters.start(index, value),
            (Start::Record | Start::Counter, _) => self.record.start,
        };
        TimeRange { start, end: self.record.ts }
    }
}

/// True for an empty map.
fn is_empty(value: &Value<'_>) -> bool {
    matches!(value, Value::Map(fields) if fields.is_empty())
}
