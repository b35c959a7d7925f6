//! The 22 counts that Linux and macOS have in common, and the `vmstat` record made of them.

use std::time::Duration;

use crate::collect::{micro, rate};
use crate::record::Vmstat;

/// How many counts there are.
pub const COUNT: usize = 22;

/// How many of them are levels; the others are totals.
pub const LEVELS: usize = 11;

/// The names of the record's fields, levels first.
pub const FIELDS: [&str; COUNT] = [
    "pages_free",
    "pages_active",
    "pages_inactive",
    "pages_speculative",
    "pages_throttled",
    "pages_wired",
    "pages_purgeable",
    "pages_file_backed",
    "pages_anonymous",
    "pages_compressor_stored",
    "pages_compressor_occupied",
    "faults",
    "pages_cow_faults",
    "pages_zero_filled",
    "pages_reactivated",
    "pages_purged",
    "pages_decompressed",
    "pages_compressed",
    "page_ins",
    "page_outs",
    "swap_ins",
    "swap_outs",
];

/// The position of a field in [`FIELDS`].
pub const fn position(name: &str) -> usize {
    let mut position = 0;
    while position < COUNT {
        if same(FIELDS[position], name) {
            return position;
        }
        position += 1;
    }
    panic!("no such count")
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut index = 0;
    while index < one.len() {
        if one[index] != other[index] {
            return false;
        }
        index += 1;
    }
    true
}

/// A printed count and its step: 1, or 1000 (`K`), a million (`M`), a thousand million (`G`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Printed {
    /// The count as printed. The true one is less than a step above.
    pub value: u64,
    /// The step.
    pub step: u64,
}

impl Printed {
    /// A count with all its digits.
    pub const fn exact(value: u64) -> Self {
        Self { value, step: 1 }
    }

    /// The sum and its uncertainty; `None` if it does not fit into 64 bits.
    pub fn plus(self, other: Self) -> Option<Self> {
        let off = (self.step - 1).checked_add(other.step - 1)?;
        Some(Self { value: self.value.checked_add(other.value)?, step: off + 1 })
    }

    /// The increase of a total and its uncertainty; `None` if the total certainly decreased.
    fn minus(self, before: Self) -> Option<Self> {
        let possible = self.value.saturating_add(self.step) > before.value;
        let step = self.step.saturating_add(before.step - 1);
        possible.then(|| Self { value: self.value.saturating_sub(before.value), step })
    }
}

/// The counts at one moment, or the increases of the totals among them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Counts(pub [Option<Printed>; COUNT]);

impl Counts {
    /// Sets an exact count.
    pub fn set(&mut self, position: usize, value: Option<u64>) {
        self.0[position] = value.map(Printed::exact);
    }

    fn value(&self, position: usize) -> Option<u64> {
        self.0[position].map(|printed| printed.value)
    }

    /// Whether there are as many pages by use as by backing, to the precision of the printed digits; `None` if one of the
    /// five counts is absent.
    pub fn consistent(&self) -> Option<bool> {
        const BY_USE: [usize; 3] =
            [position("pages_active"), position("pages_inactive"), position("pages_speculative")];
        const BY_BACKING: [usize; 2] = [position("pages_file_backed"), position("pages_anonymous")];
        let sum = |positions: &[usize]| {
            let mut counts = positions.iter().map(|position| self.0[*position]);
            counts.try_fold(Printed::exact(0), |sum, next| sum.plus(next?))
        };
        let (by_use, by_backing) = (sum(&BY_USE)?, sum(&BY_BACKING)?);
        let (low, high) =
            if by_use.value <= by_backing.value { (by_use, by_backing) } else { (by_backing, by_use) };
        Some(high.value - low.value < low.step)
    }

    /// Fills the counts, bytes and precision of a record.
    pub fn fill(&self, record: &mut Vmstat, page_size: Option<u64>) {
        record.page_size_bytes = page_size;
        for (position, field) in slots(record).into_iter().enumerate() {
            *field = self.value(position);
        }
        for (position, field) in byte_slots(record).into_iter().enumerate() {
            *field = self.value(position).zip(page_size).and_then(|(pages, size)| pages.checked_mul(size));
        }
        let rough =
            FIELDS.iter().zip(&self.0).filter_map(|(name, printed)| Some((*name, printed.as_ref()?.step)));
        let mut rough = rough.filter(|(_, step)| *step > 1).peekable();
        record.precision = rough.peek().is_some().then(|| rough.collect());
    }

    /// Fills the rates of a record from the increases in an interval, if these are exact.
    pub fn fill_rates(&self, interval: Duration, record: &mut Vmstat) {
        record.interval_s = Some(micro(interval.as_secs_f64()));
        for (field, added) in rate_slots(record).into_iter().zip(&self.0[LEVELS..]) {
            let exact = added.filter(|added| added.step == 1).map(|added| added.value);
            *field = rate(exact, Some(0), Some(interval));
        }
    }

    fn totals<'a>(
        &'a mut self,
        other: &'a Self,
    ) -> impl Iterator<Item = (&'a mut Option<Printed>, Option<Printed>)> {
        self.0[LEVELS..].iter_mut().zip(other.0[LEVELS..].iter().copied())
    }

    /// Turns increases into totals.
    pub fn add(&mut self, totals: &Self) {
        for (count, total) in self.totals(totals) {
            *count = count.zip(total).and_then(|(added, total)| total.plus(added));
        }
    }

    /// The increases of the totals since then, without those that decreased.
    pub fn since(&self, before: &Self) -> Self {
        let mut added = self.clone();
        for (count, before) in added.totals(before) {
            *count = count.zip(before).and_then(|(now, before)| now.minus(before));
        }
        added
    }

    /// Whether no total has decreased. If one has, all of them restarted.
    pub fn follows(&self, before: &Self) -> bool {
        let pairs = self.0.iter().zip(&before.0).skip(LEVELS).filter_map(|(now, before)| now.zip(*before));
        pairs.into_iter().all(|(now, before)| now.minus(before).is_some())
    }

    /// Raises totals that were rounded down below their previous value.
    pub fn raise(&mut self, before: &Self) {
        for (count, before) in self.totals(before) {
            if let (Some(count), Some(before)) = (count, before) {
                count.value = count.value.max(before.value);
            }
        }
    }
}

fn slots(record: &mut Vmstat) -> [&mut Option<u64>; COUNT] {
    [
        &mut record.pages_free,
        &mut record.pages_active,
        &mut record.pages_inactive,
        &mut record.pages_speculative,
        &mut record.pages_throttled,
        &mut record.pages_wired,
        &mut record.pages_purgeable,
        &mut record.pages_file_backed,
        &mut record.pages_anonymous,
        &mut record.pages_compressor_stored,
        &mut record.pages_compressor_occupied,
        &mut record.faults,
        &mut record.pages_cow_faults,
        &mut record.pages_zero_filled,
        &mut record.pages_reactivated,
        &mut record.pages_purged,
        &mut record.pages_decompressed,
        &mut record.pages_compressed,
        &mut record.page_ins,
        &mut record.page_outs,
        &mut record.swap_ins,
        &mut record.swap_outs,
    ]
}

fn byte_slots(record: &mut Vmstat) -> [&mut Option<u64>; LEVELS] {
    [
        &mut record.free_bytes,
        &mut record.active_bytes,
        &mut record.inactive_bytes,
        &mut record.speculative_bytes,
        &mut record.throttled_bytes,
        &mut record.wired_bytes,
        &mut record.purgeable_bytes,
        &mut record.file_backed_bytes,
        &mut record.anonymous_bytes,
        &mut record.compressor_stored_bytes,
        &mut record.compressor_occupied_bytes,
    ]
}

fn rate_slots(record: &mut Vmstat) -> [&mut Option<f64>; COUNT - LEVELS] {
    [
        &mut record.faults_per_s,
        &mut record.pages_cow_faults_per_s,
        &mut record.pages_zero_filled_per_s,
        &mut record.pages_reactivated_per_s,
        &mut record.pages_purged_per_s,
        &mut record.pages_decompressed_per_s,
        &mut record.pages_compressed_per_s,
        &mut record.page_ins_per_s,
        &mut record.page_outs_per_s,
        &mut record.swap_ins_per_s,
        &mut record.swap_outs_per_s,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_fields() {
        let counts =
            Counts(std::array::from_fn(|position| Some(Printed { value: position as u64 + 1, step: 2 })));
        let mut record = Vmstat::default();
        counts.fill(&mut record, Some(10));
        let record = serde_json::to_value(record).unwrap();
        for (position, name) in FIELDS.iter().enumerate() {
            assert_eq!(record[name], position + 1, "{name}");
            assert_eq!(record["precision"][name], 2, "{name}");
            let bytes = format!("{}_bytes", name.trim_start_matches("pages_"));
            if position < LEVELS {
                assert_eq!(record[&bytes], 10 * (position + 1), "{bytes}");
            }
        }
        let mut rates = Vmstat::default();
        let added = Counts(std::array::from_fn(|position| Some(Printed::exact(position as u64 + 1))));
        added.fill_rates(Duration::from_secs(1), &mut rates);
        let rates = serde_json::to_value(rates).unwrap();
        for (position, name) in FIELDS.iter().enumerate().skip(LEVELS) {
            assert_eq!(rates[format!("{name}_per_s")], (position + 1) as f64, "{name}");
        }
    }
}
