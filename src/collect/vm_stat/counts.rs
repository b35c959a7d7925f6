//! The 22 counts that Linux and macOS have in common, and the `vmstat` record made of them.

use std::time::Duration;

use crate::collect::{micro, rate};
use crate::record::Vmstat;

/// Declares the counts, from one row each: the field of the record; the field of its bytes or of its
/// rate; and its names in `vm_stat`, in the rows (normalized) and in the columns of the interval form.
macro_rules! counts {
    (
        levels { $($level:ident $bytes:ident $level_row:literal [$($level_column:literal),+];)+ }
        totals { $($total:ident $rate:ident $total_row:literal [$($total_column:literal),+];)+ }
    ) => {
        /// The counts, levels first.
        #[derive(Clone, Copy, Debug)]
        #[expect(missing_docs, non_camel_case_types, reason = "these are the fields of the record")]
        pub enum Count { $($level,)+ $($total),+ }

        /// The names of the record's fields.
        pub const FIELDS: &[&str] = &[$(stringify!($level),)+ $(stringify!($total)),+];

        /// How many of them are levels; the others are totals.
        pub const LEVELS: usize = [$($level_row),+].len();

        const ROWS: [&str; COUNT] = [$($level_row,)+ $($total_row),+];

        const COLUMNS: [&[&str]; COUNT] = [$(&[$($level_column),+],)+ $(&[$($total_column),+]),+];

        fn slots(record: &mut Vmstat) -> [&mut Option<u64>; COUNT] {
            [$(&mut record.$level,)+ $(&mut record.$total),+]
        }

        /// The levels in bytes.
        pub fn byte_slots(record: &mut Vmstat) -> [&mut Option<u64>; LEVELS] {
            [$(&mut record.$bytes),+]
        }

        fn rate_slots(record: &mut Vmstat) -> [&mut Option<f64>; COUNT - LEVELS] {
            [$(&mut record.$rate),+]
        }
    };
}

counts! {
    levels {
        pages_free free_bytes "pages_free" ["free"];
        pages_active active_bytes "pages_active" ["active"];
        pages_inactive inactive_bytes "pages_inactive" ["inactive", "inac"];
        pages_speculative speculative_bytes "pages_speculative" ["specul", "spec"];
        pages_throttled throttled_bytes "pages_throttled" ["throttle"];
        pages_wired wired_bytes "pages_wired_down" ["wired", "wire"];
        pages_purgeable purgeable_bytes "pages_purgeable" ["prgable"];
        pages_file_backed file_backed_bytes "file_backed_pages" ["file-backed"];
        pages_anonymous anonymous_bytes "anonymous_pages" ["anonymous"];
        pages_compressor_stored compressor_stored_bytes "pages_stored_in_compressor" ["cmprssed"];
        pages_compressor_occupied compressor_occupied_bytes "pages_occupied_by_compressor" ["cmprssor"];
    }
    totals {
        faults faults_per_s "translation_faults" ["faults"];
        pages_cow_faults pages_cow_faults_per_s "pages_copy_on_write" ["copy"];
        pages_zero_filled pages_zero_filled_per_s "pages_zero_filled" ["0fill", "zerofill"];
        pages_reactivated pages_reactivated_per_s "pages_reactivated" ["reactive"];
        pages_purged pages_purged_per_s "pages_purged" ["purged"];
        pages_decompressed pages_decompressed_per_s "decompressions" ["dcomprs"];
        pages_compressed pages_compressed_per_s "compressions" ["comprs"];
        page_ins page_ins_per_s "pageins" ["pageins"];
        page_outs page_outs_per_s "pageouts" ["pageout", "pageouts"];
        swap_ins swap_ins_per_s "swapins" ["swapins"];
        swap_outs swap_outs_per_s "swapouts" ["swapout", "swapouts"];
    }
}

/// How many counts there are.
pub const COUNT: usize = FIELDS.len();

/// The position of a row's count, by its normalized label.
pub fn row(label: &str) -> Option<usize> {
    ROWS.iter().position(|row| *row == label)
}

/// The position of a column's count, by its heading.
pub fn column(heading: &[u8]) -> Option<usize> {
    COLUMNS.iter().position(|names| names.iter().any(|name| name.as_bytes() == heading))
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
    pub fn set(&mut self, count: Count, value: Option<u64>) {
        self.0[count as usize] = value.map(Printed::exact);
    }

    fn value(&self, position: usize) -> Option<u64> {
        self.0[position].map(|printed| printed.value)
    }

    /// Whether there are as many pages by use as by backing, to the precision of the printed digits; `None` if one of the
    /// five counts is absent.
    pub fn consistent(&self) -> Option<bool> {
        use Count::{pages_active, pages_anonymous, pages_file_backed, pages_inactive, pages_speculative};
        let sum = |counts: &[Count]| {
            let mut counts = counts.iter().map(|count| self.0[*count as usize]);
            counts.try_fold(Printed::exact(0), |sum, next| sum.plus(next?))
        };
        let (by_use, by_backing) = (
            sum(&[pages_active, pages_inactive, pages_speculative])?,
            sum(&[pages_file_backed, pages_anonymous])?,
        );
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
