//! Tables of names and counts that are read again for each sample. The names hardly ever change, so they are kept.

use std::cell::RefCell;
use std::time::Duration;

use crate::collect::rate;
use crate::collect::text::{lines, split_number, split_word};
use crate::collect::vm_stat::counts::{Count, Counts};
use crate::record::{RowNames, Rows};

/// The format of a line.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `name 123`.
    Plain,
    /// `Name:   123 kB`, or without a unit.
    Meminfo,
}

/// One table.
#[derive(Clone)]
pub struct Table {
    form: Form,
    is_total: fn(&str) -> bool,
    /// The names as the source has them, back to back, and the end of each.
    raw: Vec<u8>,
    ends: Vec<usize>,
    names: RowNames,
    /// The positions of all names, and of the totals, in alphabetical order.
    sorted: Vec<usize>,
    totals: Vec<usize>,
    /// Cached positions of the names that were looked up.
    asked: RefCell<Vec<(&'static str, Option<usize>)>>,
    now: Vec<u64>,
    /// The previous counts; of a new name, the present one.
    before: Vec<u64>,
}

impl Table {
    /// Makes an empty table; `is_total` says which names are totals.
    pub fn new(form: Form, is_total: fn(&str) -> bool) -> Self {
        Self {
            form,
            is_total,
            raw: Vec::new(),
            ends: Vec::new(),
            names: RowNames::default(),
            sorted: Vec::new(),
            totals: Vec::new(),
            asked: RefCell::default(),
            now: Vec::new(),
            before: Vec::new(),
        }
    }

    /// Reads new content. Lines without a number are left out.
    pub fn read(&mut self, bytes: &[u8]) {
        std::mem::swap(&mut self.now, &mut self.before);
        self.now.clear();
        let mut start = 0;
        for line in lines(bytes) {
            let end = self.ends.get(self.now.len()).copied().unwrap_or(start);
            let expected = line.strip_prefix(&self.raw[start..end]).filter(|_| start < end);
            match expected.and_then(|rest| value(rest, self.form)) {
                Some((value, _)) => self.now.push(value),
                None if split(line, self.form).is_none() => continue,
                None => return self.learn(bytes),
            }
            start = end;
        }
        if self.now.len() < self.ends.len() {
            self.learn(bytes);
        }
    }

    /// Reads content with other names than before.
    fn learn(&mut self, bytes: &[u8]) {
        let old = std::mem::replace(self, Self::new(self.form, self.is_total));
        let rows: Vec<_> = lines(bytes).filter_map(|line| split(line, self.form)).collect();
        for (name, value, _) in &rows {
            self.raw.extend_from_slice(name);
            self.ends.push(self.raw.len());
            self.now.push(*value);
        }
        self.names = rows.iter().map(|(name, _, bytes)| field(name, *bytes, self.form)).collect();
        self.sorted = (0..rows.len()).collect();
        self.sorted.sort_by(|one, other| self.names.get(*one).cmp(self.names.get(*other)));
        let is_total = |position: &usize| (self.is_total)(self.names.get(*position));
        self.totals = self.sorted.iter().copied().filter(is_total).collect();
        let before = |position| old.before.get(old.position(self.names.get(position))?).copied();
        self.before =
            (0..rows.len()).map(|position| before(position).unwrap_or(self.now[position])).collect();
    }

    /// Removes all content.
    pub fn clear(&mut self) {
        *self = Self::new(self.form, self.is_total);
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.now.is_empty()
    }

    /// Sets the counts of events that /proc/vmstat and memory.stat name alike.
    pub fn set_events(&self, counts: &mut Counts) {
        for (count, name) in [
            (Count::faults, "pgfault"),
            (Count::pages_reactivated, "pgactivate"),
            (Count::pages_purged, "pglazyfreed"),
            (Count::pages_decompressed, "zswpin"),
            (Count::pages_compressed, "zswpout"),
            (Count::swap_ins, "pswpin"),
            (Count::swap_outs, "pswpout"),
        ] {
            counts.set(count, self.get(name));
        }
    }

    /// The row of a name; the first, if there are several.
    fn position(&self, name: &str) -> Option<usize> {
        let at = self.sorted.partition_point(|position| self.names.get(*position) < name);
        self.sorted.get(at).copied().filter(|position| self.names.get(*position) == name)
    }

    /// The count of a name.
    pub fn get(&self, name: &'static str) -> Option<u64> {
        let mut asked = self.asked.borrow_mut();
        let known = asked.iter().find(|(known, _)| *known == name);
        let position = known.map(|(_, position)| *position).unwrap_or_else(|| {
            let position = self.position(name);
            asked.push((name, position));
            position
        });
        self.now.get(position?).copied()
    }

    /// All rows.
    pub fn rows(&self) -> Rows {
        Rows::new(self.names.clone(), self.now.iter().copied().enumerate().collect())
    }

    /// The totals that grew since the previous content, per second.
    pub fn growth(&self, interval: Duration) -> Rows<f64> {
        let grown = self.totals.iter().filter_map(|&position| {
            let (now, before) = (self.now[position], self.before[position]);
            let rate = rate(Some(now), Some(before), Some(interval)).filter(|_| now != before)?;
            Some((position, rate))
        });
        Rows::new(self.names.clone(), grown.collect())
    }
}

/// Splits a line into its name (with the colon of meminfo), its value, and whether that is in bytes.
fn split(line: &[u8], form: Form) -> Option<(&[u8], u64, bool)> {
    let (name, rest) = split_word(line);
    let (value, bytes) = value(rest, form)?;
    (form == Form::Plain || name.ends_with(b":")).then_some((name, value, bytes))
}

/// Parses the text after a name.
fn value(rest: &[u8], form: Form) -> Option<(u64, bool)> {
    let digits = rest.trim_ascii_start();
    let (value, unit) = split_number(digits).filter(|_| digits.len() < rest.len())?;
    match (form, unit.trim_ascii()) {
        (Form::Meminfo, b"kB") if unit.len() > 2 => Some((value.checked_mul(1024)?, true)),
        (_, b"") => Some((value, false)),
        _ => None,
    }
}

/// `MemTotal` in kB → `mem_total_bytes`, `HugePages_Free` → `huge_pages_free`, `Active(anon)` → `active_anon_bytes`.
fn field(name: &[u8], bytes: bool, form: Form) -> String {
    if form == Form::Plain {
        return String::from_utf8_lossy(name).into_owned();
    }
    let mut out = String::new();
    let mut before = b'_';
    for &byte in name {
        if !byte.is_ascii_alphanumeric() {
            if !out.ends_with('_') {
                out.push('_');
            }
        } else {
            if byte.is_ascii_uppercase() && before.is_ascii_lowercase() {
                out.push('_');
            }
            out.push(byte.to_ascii_lowercase() as char);
        }
        before = byte;
    }
    let out = out.trim_matches('_');
    if bytes { format!("{out}_bytes") } else { out.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn table(text: &str, form: Form) -> Table {
        let mut table = Table::new(form, super::super::is_total);
        table.read(text.as_bytes());
        table
    }

    #[test]
    fn meminfo_has_bytes_and_counts() {
        let text = "MemTotal:  10 kB\nActive(anon): 2 kB\nHugePages_Free:  3\nHugepagesize: 2048 kB\n\
            DirectMap4k: 1 kB\nNFS_Unstable: 0 kB\nOdd: 5 MB\nBig: 18446744073709551615 kB\nCut";
        let mut table = table(text, Form::Meminfo);
        let first = table.rows();
        table.read(text.as_bytes());
        assert_eq!(table.rows(), first);
        let expected = [
            ("mem_total_bytes", 10_240),
            ("active_anon_bytes", 2048),
            ("huge_pages_free", 3),
            ("hugepagesize_bytes", 2_097_152),
            ("direct_map4k_bytes", 1024),
            ("nfs_unstable_bytes", 0),
        ];
        assert_eq!(first.iter().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn growth_has_the_totals_that_grew() {
        let mut table = table("nr_free_pages 5\npgfault 10\npgpgin 7\nworkingset_nodes 1\n", Form::Plain);
        for content in [
            &b"nr_free_pages 9\npgfault 20\npgpgin 7\nnew 4\nworkingset_nodes 3\n"[..],
            b"nr_free_pages 8\npgfault 30\npgpgin 7\nnew 4\nworkingset_nodes 9\n",
        ] {
            table.read(content);
            let grown = table.growth(Duration::from_secs(2));
            assert_eq!(grown.iter().collect::<Vec<_>>(), [("pgfault", 5.0)]);
            assert_eq!((table.get("new"), table.get("pgpgin"), table.get("pg")), (Some(4), Some(7), None));
        }
    }

    proptest! {
        #[test]
        fn rereading_equals_reading_once(first in "([ab]{1,2} [0-9]{1,3}\n|x\n){0,6}", then in "([ab]{1,2} [0-9]{1,3}\n|.){0,6}") {
            let mut again = table(&first, Form::Plain);
            again.read(then.as_bytes());
            prop_assert_eq!(again.rows(), table(&then, Form::Plain).rows());
        }
    }
}
