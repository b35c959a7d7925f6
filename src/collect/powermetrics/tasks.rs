//! The table of tasks: its columns depend on the version and on options.

use super::bounds;
use super::value::number;
use crate::collect::micro;
use crate::record::Task;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Pid,
    Cpu,
    Gpu,
    User,
    Energy,
    Wakeups,
    Other,
}

/// A column of the header.
#[derive(Clone, Copy, Debug)]
struct Column {
    what: What,
    /// Where its name begins, and its numbers do.
    from: usize,
    /// How many numbers it has.
    count: usize,
}

/// The columns after the name.
#[derive(Debug)]
pub struct Columns {
    /// Where the names of tasks begin that are in no coalition.
    from: usize,
    columns: Vec<Column>,
}

/// A word, and where it begins.
type Word<'a> = (usize, &'a str);

impl Columns {
    /// `Name  ID  CPU ms/s  User%  Deadlines (<2 ms, 2-5 ms)  Wakeups (Intr, Pkg idle)`
    pub fn read(line: &[u8]) -> Option<Self> {
        let text = line.trim_ascii_start().starts_with(b"Name ").then(|| str::from_utf8(line).ok())??;
        let mut names = names(text).into_iter();
        let ((from, "Name"), (id, "ID")) = (names.next()?, names.next()?) else { return None };
        let mut columns = vec![Column { what: What::Pid, from: id, count: 1 }];
        columns.extend(names.map(|(from, name)| {
            let what = match name {
                "CPU ms/s" => What::Cpu,
                "GPU ms/s" => What::Gpu,
                "User%" => What::User,
                "Energy Impact" => What::Energy,
                "Wakeups (Intr, Pkg idle)" => What::Wakeups,
                _ => What::Other,
            };
            // As many numbers as its parentheses name: `Deadlines (<2 ms, 2-5 ms)`.
            Column { what, from, count: 1 + name.matches(',').count() }
        }));
        Some(Self { from, columns })
    }

    /// Whether a row is one of a coalition's tasks, which stand below it.
    pub fn is_indented(&self, line: &[u8]) -> bool {
        line.len() - line.trim_ascii_start().len() > self.from
    }

    /// A row.
    pub fn task(&self, line: &[u8], interval_s: Option<f64>) -> Option<Task> {
        let text = String::from_utf8_lossy(line);
        let words = words(&text);
        // In bytes, as the program pads them: those that are no text are three each once they are replaced.
        let exact = text.len() == line.len();
        let placed = exact.then(|| self.by_place(&text, &words)).flatten();
        let (name, numbers) = placed.or_else(|| self.by_count(&text, &words))?;
        let mut task = Task { comm: name.to_owned(), interval_s, ..Task::default() };
        for (column, numbers) in self.columns.iter().zip(numbers) {
            set(&mut task, column.what, numbers)?;
        }
        Some(task)
    }

    /// Each number belongs to the column that it stands below. A coalition has none in some, but in the last one; how
    /// many there are below a name that is not known here, the name need not say.
    fn by_place<'t, 'w>(&self, text: &'t str, words: &'w [Word<'t>]) -> Option<Numbers<'t, 'w>> {
        let id = self.columns[0].from;
        let at = words.iter().position(|(from, _)| *from == id)?;
        let (name, mut rest) = (text[..id].trim(), &words[at..]);
        let mut numbers = Vec::with_capacity(self.columns.len());
        for (index, column) in self.columns.iter().enumerate() {
            let end = self.columns.get(index + 1).map(|next| next.from);
            let count = rest.iter().take_while(|(from, _)| end.is_none_or(|end| *from < end)).count();
            let empty = count == 0 && index > 0 && end.is_some();
            if count != column.count && !empty && (column.what != What::Other || end.is_none()) {
                return None;
            }
            let (here, after) = rest.split_at(count);
            numbers.push(here);
            rest = after;
        }
        (!name.is_empty()).then_some((name, numbers))
    }

    /// A name that is too long moves its numbers; names may hold blanks, and numbers too, so they are counted from
    /// the end.
    fn by_count<'t, 'w>(&self, text: &'t str, words: &'w [Word<'t>]) -> Option<Numbers<'t, 'w>> {
        let count = self.columns.iter().map(|column| column.count).sum();
        let at = words.len().checked_sub(count).filter(|at| *at > 0)?;
        let name = text[..words[at].0].trim();
        let mut rest = &words[at..];
        let take = |column: &Column| {
            let (here, after) = rest.split_at(column.count);
            rest = after;
            here
        };
        let numbers = self.columns.iter().map(take).collect();
        // Numbers of columns that are not in the header are no part of a name.
        (!name.contains("  ")).then_some((name, numbers))
    }
}

/// A name, and what is in each column.
type Numbers<'t, 'w> = (&'t str, Vec<&'w [Word<'t>]>);

/// Names are parted by two blanks at least.
fn names(text: &str) -> Vec<Word<'_>> {
    let mut all: Vec<Word<'_>> = Vec::new();
    for (from, word) in words(text) {
        match all.last_mut().filter(|(before, name)| before + name.len() + 1 == from) {
            Some((before, name)) => *name = &text[*before..from + word.len()],
            None => all.push((from, word)),
        }
    }
    all
}

fn words(text: &str) -> Vec<Word<'_>> {
    text.split_ascii_whitespace().map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word)).collect()
}

/// Takes what is in a column; `None` if it cannot be there.
fn set(task: &mut Task, what: What, numbers: &[Word<'_>]) -> Option<()> {
    let values: Option<Vec<f64>> = numbers.iter().map(|(_, word)| number(word.as_bytes())).collect();
    let values = values?;
    let Some(&value) = values.first() else { return Some(()) };
    match what {
        // Below zero for what is no single process.
        What::Pid => task.pid = numbers[0].1.parse::<i64>().ok()?.try_into().ok(),
        What::Cpu => task.cpu_ratio = Some(micro(bounds::processors(value / 1000.0)?)),
        What::Gpu => task.gpu_ratio = Some(micro(bounds::processors(value / 1000.0)?)),
        What::User => task.user_ratio = Some(bounds::ratio(value / 100.0)?),
        What::Energy => task.energy_impact = Some(bounds::per_second(value)?),
        What::Wakeups => {
            task.interrupt_wakeups_per_s = Some(bounds::per_second(value)?);
            task.package_wakeups_per_s = Some(bounds::per_second(*values.get(1)?)?);
        }
        What::Other => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &[u8] = b"Name                               ID     CPU ms/s  samp ms/s  User%  Deadlines (<2 ms, 2-5 ms)  Wakeups (Intr, Pkg idle)  GPU ms/s  Energy Impact";

    fn row(header: &[u8], row: &str) -> Option<Task> {
        Columns::read(header).unwrap().task(row.as_bytes(), Some(1.0))
    }

    #[test]
    fn names_with_blanks_and_numbers() {
        let text = "Python 3.9 (2)                     51190  1500.00   1499.00    68.22  0.10    0.20               0.98    1.00              250.00    33.50  ";
        let task = row(HEADER, text).unwrap();
        assert_eq!(
            (task.comm.as_str(), task.pid, task.cpu_ratio),
            ("Python 3.9 (2)", Some(51_190), Some(1.5))
        );
        assert_eq!(
            (task.gpu_ratio, task.energy_impact, task.package_wakeups_per_s),
            (Some(0.25), Some(33.5), Some(1.0))
        );
        assert_eq!(row(HEADER, "ALL_TASKS -2 1 1 1 1 1 1 1 1 1").unwrap().pid, None);
        assert_eq!(row(HEADER, "cut                                51190  1500.00   14"), None);
        assert!(Columns::read(b"Name of something").is_none());
    }

    #[test]
    fn a_name_that_is_too_long_moves_its_numbers() {
        let text = "org.example.a.long.coalition.of.that.name 77     1500.00   1499.00    68.22  0.10    0.20               0.98    1.00              250.00    33.50";
        let task = row(HEADER, text).unwrap();
        assert_eq!(
            (task.comm.as_str(), task.pid, task.cpu_ratio, task.energy_impact),
            ("org.example.a.long.coalition.of.that.name", Some(77), Some(1.5), Some(33.5))
        );
        // In letters of several bytes, as the program counts them.
        let task = row(
            HEADER,
            &text.replace("org.example.a.long.coalition.of.that.name", "café                             "),
        )
        .unwrap();
        assert_eq!((task.comm.as_str(), task.pid, task.cpu_ratio), ("café", Some(77), Some(1.5)));
    }

    /// As coalitions are, which have neither a part outside the kernel nor deadlines.
    #[test]
    fn columns_with_nothing_in_them_are_left_out() {
        let text = "org.example.browser                8      300.00    299.00                                       90.00   20.00             250.00    7.00";
        let task = row(HEADER, text).unwrap();
        let expected = Task {
            pid: Some(8),
            comm: "org.example.browser".into(),
            cpu_ratio: Some(0.3),
            gpu_ratio: Some(0.25),
            interrupt_wakeups_per_s: Some(90.0),
            package_wakeups_per_s: Some(20.0),
            energy_impact: Some(7.0),
            interval_s: Some(1.0),
            ..Task::default()
        };
        assert_eq!(task, expected);
    }

    #[test]
    fn columns_that_are_not_known_take_no_number_of_others() {
        let header = b"Name                               ID     CPU ms/s  User%  QOS (ms/s) Default  Maint   BG      GPU ms/s";
        let text = "editor                             8083   21.05     79.16  1.00                2.00    3.00    4.00";
        for text in [text.to_owned(), text.replace("1.00                2.00 ", "1.00      2.50      2.00 ")]
        {
            let task = row(header, &text).unwrap();
            assert_eq!(
                (task.comm.as_str(), task.pid, task.cpu_ratio, task.user_ratio, task.gpu_ratio),
                ("editor", Some(8083), Some(0.021_05), Some(0.7916), Some(0.004)),
            );
        }
        // More numbers than names, and none where it should stand.
        assert_eq!(row(header, "editor 8083  21.05  79.16  1.00  2.00  3.00  4.00 9.00"), None);
        assert_eq!(row(header, "editor of blanks  8083.5  21.05  79.16  1.00  2.00  3.00  4.00"), None);
    }

    #[test]
    fn numbers_that_cannot_be_are_no_row() {
        let text = |cpu: &str, user: &str, wakeups: &str| {
            format!(
                "task                               1      {cpu:9} 1.00       {user:6} 0.00    0.00               {wakeups:7} 0.00              0.00      0.00"
            )
        };
        assert!(row(HEADER, &text("1.00", "50.00", "1.00")).is_some());
        for (cpu, user, wakeups) in [
            ("-1.00", "50.00", "1.00"),
            ("99999999", "50.00", "1.00"),
            ("1.00", "150.00", "1.00"),
            ("1.00", "50.00", "-1.00"),
        ] {
            assert_eq!(row(HEADER, &text(cpu, user, wakeups)), None, "{cpu} {user} {wakeups}");
        }
    }
}
