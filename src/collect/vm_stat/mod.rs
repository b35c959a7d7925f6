//! Parses the output of macOS's `vm_stat`, one-shot or at intervals, into samples of [`Counts`].
//!
//! The one-shot form has a row per count and ends at the next title or at the end of the input. The interval form has a
//! row per sample: the first has totals since boot, later ones have levels and increases of the totals. After each
//! repeated title and header, totals follow again (`banner` in Apple's vm_stat.c forgets the last row).

pub mod counts;
mod row;

use counts::{Counts, Printed, column};
use row::{Line, normalized, read, read_numbers};

/// The counts of one moment, totals as totals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// From the title, in bytes.
    pub page_size: Option<u64>,
    /// The counts with a field of their own.
    pub counts: Counts,
    /// The increases of the totals since the previous sample; `None` in the first one, and after a restart.
    pub added: Option<Counts>,
    /// Unknown rows and columns, as printed.
    pub rows: Vec<(String, u64)>,
}

/// The result of parsing a line.
#[derive(Debug, PartialEq)]
pub enum Parsed {
    /// The line was understood.
    Yes,
    /// The line was understood, and it completes a sample.
    Sample(Box<Sample>),
    /// The line was not understood.
    No,
}

/// What a column contains.
enum Column {
    /// The count at this position of [`counts::FIELDS`].
    Known(usize),
    /// An unknown count, passed through by this name.
    Other(String),
}

/// Parses line by line.
#[derive(Default)]
pub struct Parser {
    page_size: Option<u64>,
    /// One-shot form: the incomplete sample.
    open: Option<Sample>,
    columns: Vec<Column>,
    /// The last row of numbers; reused.
    numbers: Vec<Printed>,
    /// The length of the header, where the last column ends.
    width: usize,
    /// The totals so far.
    totals: Option<Counts>,
    /// The next row of numbers has totals.
    after_header: bool,
}

impl Parser {
    /// Parses a line without its newline.
    pub fn line(&mut self, line: &[u8]) -> Parsed {
        // The common case: nearly all lines of the interval form.
        if read_numbers(line, &mut self.numbers) {
            return self.numbers();
        }
        match read(line) {
            Line::Empty => Parsed::Yes,
            Line::Title(size) => {
                let done = self.finish();
                self.page_size = size;
                self.after_header = true;
                done
            }
            Line::Row(name, value) => self.row(&normalized(name), value),
            Line::ObjectCache { hits, lookups } => {
                let open = self.open();
                open.rows.push(("object_cache_hits".into(), hits));
                open.rows.push(("object_cache_lookups".into(), lookups));
                Parsed::Yes
            }
            Line::Header(names) => {
                let known =
                    |name| column(name).map_or_else(|| Column::Other(normalized(name)), Column::Known);
                self.columns = names.into_iter().map(known).collect();
                self.width = line.trim_ascii_end().len();
                self.after_header = true;
                self.finish()
            }
            Line::Unknown => Parsed::No,
        }
    }

    /// Parses the text after the last newline, which may be a line that was cut off: if it is shorter than the header,
    /// digits are missing.
    pub fn rest(&mut self, line: &[u8]) -> Parsed {
        let cut = line.trim_ascii_end().len() < self.width;
        if cut && read_numbers(line, &mut self.numbers) { Parsed::No } else { self.line(line) }
    }

    /// Completes the sample at the end of the input.
    pub fn finish(&mut self) -> Parsed {
        match self.open.take() {
            Some(sample) => self.totals(sample),
            None => Parsed::Yes,
        }
    }

    fn open(&mut self) -> &mut Sample {
        let page_size = self.page_size;
        self.open.get_or_insert_with(|| Sample { page_size, ..Sample::default() })
    }

    fn row(&mut self, name: &str, value: u64) -> Parsed {
        if name.is_empty() {
            return Parsed::No;
        }
        let position = counts::row(name);
        let open = self.open();
        let before = match position {
            Some(position) => open.counts.0[position].map(|printed| printed.value),
            None => open.rows.iter().find(|(known, _)| known == name).map(|(_, count)| *count),
        };
        if before == Some(value) {
            return Parsed::Yes;
        }
        // A repeated unknown row does not start a new sample; the map keeps one value per key.
        if position.is_none() && before.is_some() {
            return Parsed::No;
        }
        // A known row that repeats with another value starts a new sample without a title, so without a page size.
        let mut done = Parsed::Yes;
        if before.is_some() {
            self.page_size = None;
            done = self.finish();
        }
        let open = self.open();
        match position {
            Some(position) => open.counts.0[position] = Some(Printed::exact(value)),
            None => open.rows.push((name.to_owned(), value)),
        }
        done
    }

    fn numbers(&mut self) -> Parsed {
        if self.numbers.len() != self.columns.len() {
            return Parsed::No;
        }
        let mut sample = Sample { page_size: self.page_size, ..Sample::default() };
        for (column, &printed) in self.columns.iter().zip(&self.numbers) {
            match column {
                Column::Known(position) => sample.counts.0[*position] = Some(printed),
                Column::Other(name) => sample.rows.push((name.clone(), printed.value)),
            }
        }
        if std::mem::take(&mut self.after_header) {
            return self.totals(sample);
        }
        if let Some(totals) = &self.totals {
            sample.added = Some(sample.counts.clone());
            sample.counts.add(totals);
        }
        self.complete(sample)
    }

    /// Finishes a sample of totals. Rounded totals are not below more exact ones of before.
    fn totals(&mut self, mut sample: Sample) -> Parsed {
        if let Some(before) = self.totals.as_ref().filter(|before| sample.counts.follows(before)) {
            sample.added = Some(sample.counts.since(before));
            sample.counts.raise(before);
        }
        self.complete(sample)
    }

    fn complete(&mut self, sample: Sample) -> Parsed {
        self.totals = Some(sample.counts.clone());
        Parsed::Sample(Box::new(sample))
    }
}

#[cfg(test)]
mod tests;
