//! Records of the kinds that are metrics: one pass over the fields for the attributes, one for the
//! points.

use super::accessors::Number;
use super::exponential::Exponential;
use super::group::Group;
use super::names::Names;
use super::plan::{Plan, Slot, Start, Use};
use super::points::{self, TimeRange};
use super::series::{Counters, Series};
use crate::record::Instrument;
use crate::ship::line::{Fields, Value, get};

/// Buffers that are reused for each record.
#[derive(Default)]
pub struct Scratch {
    uses: Vec<Use>,
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

impl<'a> Measurement<'_, 'a> {
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
        if plan.kind.total_if.is_some_and(|field| get(self.fields, field) == Some(&Value::Bool(true))) {
            return Ok(Some(0));
        }
        plan.look_up(self.fields, &mut scratch.uses);
        if !self.check(&plan.slots, &scratch.uses)? {
            return Ok(None);
        }
        scratch.attributes.clear();
        self.attributes(&mut scratch.attributes, 7, &scratch.uses);
        let counters = plan.counts.then(|| {
            series_name(&mut scratch.series, &[group.name(), plan.kind.name.as_bytes(), &scratch.attributes]);
            series.get(&scratch.series, plan.slots.len()).turn_to(self.ts, self.start)
        });
        let Scratch { uses, attributes, more, .. } = scratch;
        let mut writer = Writer { record: self, slots: &plan.slots, group, counters, uses, attributes, more };
        let points = writer.fields();
        let added = writer.counters.map_or(0, Counters::take_added);
        if added > 0 {
            series.add_keys(added);
        }
        Ok(Some(points))
    }

    /// Whether it has a field that feeds a metric, null or not.
    fn check(self, slots: &[Slot], uses: &[Use]) -> Result<bool, String> {
        let mut any = false;
        for ((name, value), used) in self.fields.iter().zip(uses) {
            for slot in &slots[used.slots.0..used.slots.1] {
                any = true;
                if *value != Value::Null && !self.fits(slot, value) {
                    let wanted = match (slot.instrument, slot.key) {
                        (Instrument::Histogram, _) => "a map of bucket counts with a scale",
                        (_, Some(_)) => "a map of numbers",
                        (_, None) => "a number",
                    };
                    return Err(format!("{name} is not {wanted}"));
                }
            }
        }
        Ok(any)
    }

    fn fits(self, slot: &Slot, value: &Value<'a>) -> bool {
        match (slot.instrument, slot.key) {
            (Instrument::Histogram, _) => is_empty(value) || self.exponential(slot, value).is_some(),
            (_, Some(_)) => value.as_map().is_some_and(|entries| {
                entries.iter().all(|(_, value)| *value == Value::Null || slot.value(value).is_some())
            }),
            (_, None) => slot.value(value).is_some(),
        }
    }

    /// The histogram of these buckets, if they and the scale are valid.
    fn exponential<'v>(self, slot: &Slot, buckets: &'v Value<'a>) -> Option<Exponential<'v>> {
        let number = |name: &str| get(self.fields, name).and_then(Value::as_f64);
        let scale = i32::try_from(get(self.fields, "scale")?.as_i64()?).ok()?;
        let [sum, max, zero] = &slot.companions;
        let zero_count = get(self.fields, zero).and_then(Value::as_u64);
        Exponential::new(buckets, scale, zero_count, number(sum), number(max))
    }

    /// Appends the attributes that identify what was measured, as that field.
    fn attributes(self, out: &mut Vec<u8>, field: u32, uses: &[Use]) {
        for ((_, value), used) in self.fields.iter().zip(uses) {
            if let Some(key) = used.attribute
                && *value != Value::Null
            {
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
    slots: &'w [Slot],
    group: &'w mut Group,
    counters: Option<&'w mut Counters>,
    uses: &'w [Use],
    attributes: &'w [u8],
    more: &'w mut Vec<u8>,
}

impl<'a> Writer<'_, '_, 'a> {
    fn fields(&mut self) -> u64 {
        let mut points = 0;
        for ((_, value), used) in self.record.fields.iter().zip(self.uses) {
            for index in used.slots.0..used.slots.1 {
                let slot = &self.slots[index];
                points += match (slot.instrument, slot.key) {
                    (Instrument::Histogram, _) => u64::from(self.histogram(slot, value).is_some()),
                    (_, Some(key)) => value.as_map().map_or(0, |entries| self.keyed(index, key, &entries)),
                    (_, None) => u64::from(self.number(index, value).is_some()),
                };
            }
        }
        points
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

    fn histogram(&mut self, slot: &Slot, buckets: &Value<'a>) -> Option<()> {
        let histogram = self.record.exponential(slot, buckets)?;
        self.more.clear();
        self.record.attributes(self.more, 1, self.uses);
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
