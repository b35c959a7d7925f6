//! What `vm_stat` of macOS prints, once or every so many seconds → samples of [`Counts`].
//!
//! The one-shot form has a row per count, and its end is the next title or the end of the input. The interval form
//! has a row per sample: the first one totals since boot, those after it levels and what was added to the totals.
//! Each time that title and header come again, totals follow again (`banner` of Apple's vm_stat.c forgets the last row).

pub mod counts;
mod row;

use counts::{Counts, Printed};
use row::{Line, column, label, normalized, read, read_numbers};

/// The counts of one moment, totals as totals.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// As the title has it.
    pub page_size: Option<u64>,
    /// The counts that are known.
    pub counts: Counts,
    /// What was added to the totals since the sample before; `None` in the first, and where they began anew.
    pub added: Option<Counts>,
    /// Rows and columns that are not, as printed.
    pub rows: Vec<(String, u64)>,
}

/// What became of a line.
#[derive(Debug, PartialEq)]
pub enum Taken {
    /// It was understood.
    Yes,
    /// It was understood, and a sample is complete.
    Sample(Box<Sample>),
    /// It was not.
    No,
}

/// What stands in a column.
enum Column {
    /// The count at that place.
    Known(usize),
    /// What is passed through by this name.
    Other(String),
}

/// Takes line after line.
#[derive(Default)]
pub struct Parser {
    page_size: Option<u64>,
    /// The one-shot form: what has been seen of a sample.
    open: Option<Sample>,
    columns: Vec<Column>,
    /// The row that was read last, if that was one of numbers.
    numbers: Vec<Printed>,
    /// Where the last name of the header ends.
    width: usize,
    /// The totals so far.
    totals: Option<Counts>,
    /// Whether the next row of numbers holds totals.
    after_header: bool,
}

impl Parser {
    /// A line without its newline.
    pub fn line(&mut self, line: &[u8]) -> Taken {
        // Nearly all lines of the interval form.
        if read_numbers(line, &mut self.numbers) {
            return self.numbers();
        }
        match read(line) {
            Line::Empty => Taken::Yes,
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
                Taken::Yes
            }
            Line::Header(names) => {
                let known =
                    |name| column(name).map_or_else(|| Column::Other(normalized(name)), Column::Known);
                self.columns = names.into_iter().map(known).collect();
                self.width = line.trim_ascii_end().len();
                self.after_header = true;
                self.finish()
            }
            Line::Unknown => Taken::No,
        }
    }

    /// What came after the last newline, if anything: a line that may have been cut off. Where numbers end left of
    /// their column's end, digits are missing.
    pub fn rest(&mut self, line: &[u8]) -> Taken {
        let cut = line.trim_ascii_end().len() < self.width;
        if cut && read_numbers(line, &mut self.numbers) { Taken::No } else { self.line(line) }
    }

    /// The sample that the end of the input completes.
    pub fn finish(&mut self) -> Taken {
        match self.open.take() {
            Some(sample) => self.totals(sample),
            None => Taken::Yes,
        }
    }

    fn open(&mut self) -> &mut Sample {
        let page_size = self.page_size;
        self.open.get_or_insert_with(|| Sample { page_size, ..Sample::default() })
    }

    fn row(&mut self, name: &str, value: u64) -> Taken {
        if name.is_empty() {
            return Taken::No;
        }
        let place = label(name);
        let open = self.open();
        let before = match place {
            Some(place) => open.counts.0[place].map(|printed| printed.value),
            None => open.rows.iter().find(|(known, _)| known == name).map(|(_, count)| *count),
        };
        if before == Some(value) {
            return Taken::Yes;
        }
        // Two rows of one name that nothing is known of are not two samples, and a map has room for one.
        if place.is_none() && before.is_some() {
            return Taken::No;
        }
        // Another value of the same row is another sample, whose title is missing, and with it the page size.
        let mut done = Taken::Yes;
        if before.is_some() {
            self.page_size = None;
            done = self.finish();
        }
        let open = self.open();
        match place {
            Some(place) => open.counts.0[place] = Some(Printed::exact(value)),
            None => open.rows.push((name.to_owned(), value)),
        }
        done
    }

    fn numbers(&mut self) -> Taken {
        if self.numbers.len() != self.columns.len() {
            return Taken::No;
        }
        let mut sample = Sample { page_size: self.page_size, ..Sample::default() };
        for (column, &printed) in self.columns.iter().zip(&self.numbers) {
            match column {
                Column::Known(place) => sample.counts.0[*place] = Some(printed),
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
        self.told(sample)
    }

    /// A sample that has totals. Rounded ones are not below those that are known better.
    fn totals(&mut self, mut sample: Sample) -> Taken {
        if let Some(before) = self.totals.as_ref().filter(|before| sample.counts.follows(before)) {
            sample.added = Some(sample.counts.since(before));
            sample.counts.raise(before);
        }
        self.told(sample)
    }

    fn told(&mut self, sample: Sample) -> Taken {
        self.totals = Some(sample.counts.clone());
        Taken::Sample(Box::new(sample))
    }
}

#[cfg(test)]
mod tests;
