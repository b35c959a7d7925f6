//! Tables of names and counts that are read again and again: the names hardly ever change, and are kept.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crate::collect::rate;
use crate::collect::text::{lines, number, split_word};
use crate::record::Rows;

/// How a line is read: the name, what it becomes, and the count.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// `name 123`, as it is.
    Plain,
    /// `Name:   123 kB`, or without a unit.
    Meminfo,
}

/// One such table.
#[derive(Clone, Default)]
pub struct Table {
    names: Vec<Vec<u8>>,
    /// Where the row of a name is; the first, if there are several.
    places: HashMap<String, usize>,
    /// What it held when it was last read.
    pub rows: Rows,
}

impl Table {
    /// Takes new content. Lines without a number are left out.
    pub fn read(&mut self, bytes: &[u8], form: Form) {
        let (mut count, before) = (0, self.names.len());
        let mut same = true;
        for line in lines(bytes) {
            let Some((name, value, bytes)) = split(line, form) else { continue };
            if self.names.get(count).is_none_or(|known| known != name) {
                self.names.truncate(count);
                self.rows.0.truncate(count);
                self.names.push(name.to_vec());
                self.rows.0.push((field(name, bytes, form), 0));
                same = false;
            }
            self.rows.0[count].1 = value;
            count += 1;
        }
        self.names.truncate(count);
        self.rows.0.truncate(count);
        if !same || count != before {
            let places = self.rows.0.iter().enumerate().rev();
            self.places = places.map(|(place, (name, _))| (name.clone(), place)).collect();
        }
    }

    /// The count of that name.
    pub fn get(&self, name: &str) -> Option<u64> {
        self.rows.0.get(*self.places.get(name)?).map(|(_, value)| *value)
    }

    /// What grew since `before`, of the names that `is_total` picks, per second.
    pub fn growth(
        &self,
        before: &Self,
        interval: Option<Duration>,
        is_total: fn(&str) -> bool,
    ) -> BTreeMap<String, f64> {
        let same = self.names == before.names;
        let mut grown = BTreeMap::new();
        for (index, (name, now)) in self.rows.0.iter().enumerate() {
            let before = if same { Some(before.rows.0[index].1) } else { before.get(name) };
            if before == Some(*now) || !is_total(name) {
                continue;
            }
            if let Some(rate) = rate(Some(*now), before, interval) {
                grown.insert(name.clone(), rate);
            }
        }
        grown
    }
}

/// Name, value in bytes or as it is, and whether it is bytes.
fn split(line: &[u8], form: Form) -> Option<(&[u8], u64, bool)> {
    let (name, rest) = split_word(line);
    if form == Form::Plain {
        return Some((name, number(rest.trim_ascii())?, false));
    }
    let name = name.strip_suffix(b":")?;
    let (digits, unit) = split_word(rest);
    let value = number(digits)?;
    match unit.trim_ascii() {
        b"kB" => Some((name, value.checked_mul(1024)?, true)),
        b"" => Some((name, value, false)),
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
        let mut table = Table::default();
        table.read(text.as_bytes(), form);
        table
    }

    #[test]
    fn meminfo_has_bytes_and_counts() {
        let text = "MemTotal:  10 kB\nActive(anon): 2 kB\nHugePages_Free:  3\nHugepagesize: 2048 kB\n\
            DirectMap4k: 1 kB\nNFS_Unstable: 0 kB\nOdd: 5 MB\nBig: 18446744073709551615 kB\nCut";
        let rows = table(text, Form::Meminfo).rows.0;
        let expected = [
            ("mem_total_bytes", 10_240),
            ("active_anon_bytes", 2048),
            ("huge_pages_free", 3),
            ("hugepagesize_bytes", 2_097_152),
            ("direct_map4k_bytes", 1024),
            ("nfs_unstable_bytes", 0),
        ];
        assert_eq!(rows, expected.map(|(name, value)| (name.to_owned(), value)));
    }

    #[test]
    fn growth_is_of_totals_that_grew() {
        let before = table("nr_free_pages 5\npgfault 10\npgpgin 7\nworkingset_nodes 1\n", Form::Plain);
        let mut now = before.clone();
        now.read(b"nr_free_pages 9\npgfault 20\npgpgin 7\nnew 4\nworkingset_nodes 3\n", Form::Plain);
        let grown = now.growth(&before, Some(Duration::from_secs(2)), super::super::is_total);
        assert_eq!(grown, BTreeMap::from([("pgfault".to_owned(), 5.0)]));
    }

    proptest! {
        #[test]
        fn reading_again_is_as_reading_once(first in "([ab]{1,2} [0-9]{1,3}\n|x\n){0,6}", then in "([ab]{1,2} [0-9]{1,3}\n|.){0,6}") {
            let mut again = table(&first, Form::Plain);
            again.read(then.as_bytes(), Form::Plain);
            prop_assert_eq!(again.rows, table(&then, Form::Plain).rows);
        }
    }
}
