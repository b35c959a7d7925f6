//! Reads the table of tasks by its header: which columns it has depends on the version of macOS and on the `--show-…`
//! options that `powermetrics` ran with.

use super::value::{bounds, is_nan, number};
use crate::collect::micro;
use crate::record::Task;

/// The meaning of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Pid,
    Cpu,
    Gpu,
    User,
    Energy,
    Wakeups,
    /// In no record.
    Other,
}

/// The other columns of all `--show-process-…` options, without what is in parentheses. Each has one value.
const OTHERS: &str = "samp ms/s, Dead, SFI ms/s, QoS, RPID, PPID, Bytes Read, Bytes Written, Pageins, Disabled, Maint, \
    BG, Util, Default, Lgcy, U-Init, U-Intr, PCPU ms/s, %PCPU, SCPU ms/s, %SCPU, Switches, Instr/s, Cycles/s, \
    P-Instr/s, P-Cycles/s";

/// The field of a column, and its number of values.
fn column(name: &str) -> Option<(Field, usize)> {
    Some(match name {
        "ID" | "PID" => (Field::Pid, 1),
        "CPU ms/s" => (Field::Cpu, 1),
        "GPU ms/s" => (Field::Gpu, 1),
        "User%" => (Field::User, 1),
        "Energy Impact" => (Field::Energy, 1),
        "Wakeups" | "Wakeups/s" => (Field::Wakeups, 2),
        "Deadlines" | "Deadlines/s" | "Packets" | "Bytes" => (Field::Other, 2),
        _ if OTHERS.split(", ").any(|other| other == name) => (Field::Other, 1),
        _ => return None,
    })
}

/// A column of a header.
#[derive(Clone, Copy, Debug)]
struct Column {
    field: Field,
    /// The offset of its name, in bytes. Its values begin there or to the right of it.
    from: usize,
    /// The number of its values; `None` for an unknown column.
    values: Option<usize>,
}

/// The columns after the name.
#[derive(Debug)]
struct Columns {
    /// The offset of the names.
    from: usize,
    all: Vec<Column>,
    /// The number of values in a full row; `None` if a column is unknown.
    full: Option<usize>,
    /// Whether totals in brackets follow values (`--show-usage-summary`).
    totals: bool,
}

/// A word, and its offset in bytes.
type Word<'a> = (usize, &'a str);

/// A table whose rows are being read.
#[derive(Debug)]
pub struct Table {
    columns: Columns,
    /// Whether it has coalitions, with their tasks indented below them.
    grouped: bool,
    /// Whether the row before was not indented, so that it may be a coalition.
    heads: bool,
}

impl Table {
    /// A table with this header: `Name  ID  CPU ms/s  User%  Deadlines (<2 ms, 2-5 ms)  …`
    pub fn begin(header: &[u8]) -> Option<Self> {
        Columns::read(header).map(|columns| Self { columns, grouped: false, heads: false })
    }

    /// Adds the task of a row; false if the row cannot be read. A coalition is replaced by its tasks, and its number
    /// is never reported as a process.
    pub fn row(&mut self, line: &[u8], interval_s: Option<f64>, tasks: &mut Vec<Task>) -> bool {
        let Some(mut task) = self.columns.task(line, interval_s) else { return false };
        let indented = if task.comm.is_empty() {
            // Only tasks have a part of their time in user mode.
            self.grouped && task.user_ratio.is_some()
        } else {
            line.len() - line.trim_ascii_start().len() > self.columns.from
        };
        if indented && !self.grouped {
            self.grouped = true;
            tasks.iter_mut().for_each(|coalition| coalition.pid = None);
        }
        if indented && self.heads {
            tasks.pop();
        }
        if !indented && self.grouped {
            task.pid = None;
        }
        self.heads = !indented;
        tasks.push(task);
        true
    }
}

impl Columns {
    fn read(line: &[u8]) -> Option<Self> {
        let text = line.trim_ascii_start().starts_with(b"Name ").then(|| str::from_utf8(line).ok())??;
        let mut words = header_words(text);
        let totals = words.iter().any(|(_, word)| *word == TOTAL);
        words.retain(|(_, word)| *word != TOTAL);
        let (from, _) = words.remove(0);
        let (mut all, mut at, mut heading) = (Vec::<Column>::new(), 0, None);
        while at < words.len() {
            let (start, word) = words[at];
            // `QOS (ms/s)` heads several columns. The first of them follows after one blank.
            if word == "QOS" && words.get(at + 1).is_some_and(|(_, next)| next.starts_with('(')) {
                heading = Some(start);
                at += 2;
                continue;
            }
            let from = heading.take().unwrap_or(start);
            match known(&words[at..]) {
                Some((length, field, values)) => {
                    all.push(Column { field, from, values: Some(values) });
                    at += length;
                }
                // Two blanks separate columns.
                None => {
                    let (before, name) = words[at.saturating_sub(1)];
                    let goes_on = at > 0 && before + name.len() + 1 == start;
                    let unknown = all.last().is_some_and(|column| column.values.is_none());
                    if !(word.starts_with('(') || goes_on && unknown) {
                        all.push(Column { field: Field::Other, from, values: None });
                    }
                    at += 1;
                }
            }
        }
        let full = all.iter().map(|column| column.values).sum();
        (all.first()?.field == Field::Pid).then_some(Self { from, all, full, totals })
    }

    /// Reads a row.
    fn task(&self, line: &[u8], interval_s: Option<f64>) -> Option<Task> {
        let text = String::from_utf8_lossy(line);
        let id = self.all[0].from;
        let words = self.words(&text, id);
        // `powermetrics` pads by bytes. Invalid UTF-8 becomes three bytes each.
        let exact = text.len() == line.len();
        let task = exact
            .then(|| self.by_offset(&text, &words, id))
            .flatten()
            .or_else(|| self.by_count(&text, &words))
            .or_else(|| self.pushed(&text))?;
        Some(Task { interval_s, ..task })
    }

    /// Reads a row that a long name pushes to the right: the process ID is one blank after the name.
    fn pushed(&self, text: &str) -> Option<Task> {
        let ids = words(text).filter(|(from, word)| {
            let before = &text.as_bytes()[..*from];
            let one_blank = before.ends_with(b" ") && !before.ends_with(b"  ");
            *from > self.all[0].from && one_blank && word.parse::<i64>().is_ok()
        });
        ids.map(|(from, _)| from).find_map(|id| self.by_offset(text, &self.words(text, id), id))
    }

    /// The words of a row: after the process ID without totals, and with both parts of `0/ 0` as one.
    fn words<'t>(&self, text: &'t str, id: usize) -> Vec<Word<'t>> {
        let mut all: Vec<Word<'t>> = Vec::with_capacity(48);
        let mut in_total = false;
        for (from, word) in words(text) {
            let number = |word: &str| word.starts_with(|c: char| c == '-' || c.is_ascii_digit());
            in_total |= self.totals && from > id && word.strip_prefix('[').is_some_and(number);
            if in_total {
                in_total = !word.ends_with(']');
                continue;
            }
            match all.last_mut() {
                Some((before, pair))
                    if *before > id && pair.ends_with('/') && number(pair) && number(word) =>
                {
                    *pair = &text[*before..from + word.len()];
                }
                _ => all.push((from, word)),
            }
        }
        all
    }

    /// Takes each value for the column that it is below, in a row whose process ID begins at `id`. Coalitions have no
    /// values in some columns, perhaps no ID or no name, but CPU time and wake-ups.
    fn by_offset(&self, text: &str, words: &[Word<'_>], id: usize) -> Option<Task> {
        let at = words.iter().position(|(from, _)| *from >= id)?;
        let pushed = id - self.all[0].from;
        let has_id = words[at].0 == id;
        let overruns = at > 0 && words[at - 1].0 + words[at - 1].1.len() > id;
        let lacks_id = at > 0 && self.all.get(1).is_some_and(|next| words[at].0 >= next.from);
        if overruns || !has_id && (pushed > 0 || !lacks_id) {
            return None;
        }
        let (mut task, mut rest) = (named(&text[..id]), &words[at..]);
        let is_full = self.full == Some(rest.len());
        for (index, column) in self.all.iter().enumerate() {
            let end = self.all.get(index + 1).map(|next| next.from + pushed);
            let below = rest.iter().take_while(|(from, _)| end.is_none_or(|end| *from < end)).count();
            let count = column.values.filter(|_| is_full).unwrap_or(below);
            let needed = matches!(column.field, Field::Cpu | Field::Wakeups);
            let used = column.field != Field::Other || end.is_none() && column.values.is_some();
            if used && (needed || count > 0) && column.values != Some(count) {
                return None;
            }
            let (here, after) = rest.split_at(count);
            set(&mut task, column.field, here)?;
            rest = after;
        }
        Some(task)
    }

    /// Takes the values of a full row from its end, wherever they are: names may contain blanks, and numbers too.
    fn by_count(&self, text: &str, words: &[Word<'_>]) -> Option<Task> {
        let at = words.len().checked_sub(self.full?).filter(|at| *at > 0)?;
        let (mut task, mut rest) = (named(&text[..words[at].0]), &words[at..]);
        let value = |word: &str| word.starts_with(|c: char| "-.0123456789YN".contains(c));
        if task.comm.contains("  ") || !rest.iter().all(|(_, word)| value(word) || is_nan(word)) {
            return None;
        }
        for column in &self.all {
            let (here, after) = rest.split_at(column.values.unwrap_or(0));
            set(&mut task, column.field, here)?;
            rest = after;
        }
        Some(task)
    }
}

fn named(name: &str) -> Task {
    Task { comm: name.trim().to_owned(), ..Task::default() }
}

/// Follows the names of columns that have a total after each value.
const TOTAL: &str = "[total]";

/// The words of a header; parentheses make one word.
fn header_words(text: &str) -> Vec<Word<'_>> {
    let mut all: Vec<Word<'_>> = Vec::new();
    for (from, word) in words(text) {
        match all.last_mut() {
            Some((before, open)) if open.starts_with('(') && !open.ends_with(')') => {
                *open = &text[*before..from + word.len()];
            }
            _ => all.push((from, word)),
        }
    }
    all
}

/// The known column whose name these words begin with: its length in words, its meaning, and its values.
fn known(words: &[Word<'_>]) -> Option<(usize, Field, usize)> {
    (1..=2.min(words.len())).rev().find_map(|length| {
        let name = words[..length].iter().map(|(_, word)| *word).collect::<Vec<_>>().join(" ");
        column(&name).map(|(field, values)| (length, field, values))
    })
}

fn words(text: &str) -> impl Iterator<Item = Word<'_>> {
    text.split_ascii_whitespace().map(|word| (word.as_ptr().addr() - text.as_ptr().addr(), word))
}

/// Sets the field of a column; `None` if it cannot have this value. A NaN, from a division by zero, sets nothing.
fn set(task: &mut Task, field: Field, values: &[Word<'_>]) -> Option<()> {
    let Some(&(_, first)) = values.first() else { return Some(()) };
    if field == Field::Other || values.iter().any(|(_, word)| is_nan(word)) {
        return Some(());
    }
    let value = number(first.as_bytes())?;
    match field {
        // Negative for sums of tasks.
        Field::Pid => task.pid = first.parse::<i64>().ok()?.try_into().ok(),
        Field::Cpu => task.cpu_ratio = Some(micro(bounds::processors(value / 1000.0)?)),
        Field::Gpu => task.gpu_ratio = Some(micro(bounds::processors(value / 1000.0)?)),
        Field::User => task.user_ratio = Some(bounds::ratio(value / 100.0)?),
        Field::Energy => task.energy_impact = Some(bounds::per_second(value)?),
        Field::Wakeups => {
            let package = number(values.get(1)?.1.as_bytes())?;
            task.interrupt_wakeups_per_s = Some(bounds::per_second(value)?);
            task.package_wakeups_per_s = Some(bounds::per_second(package)?);
        }
        Field::Other => {}
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
    fn a_name_that_is_too_long_pushes_its_row() {
        let text = "org.example.a.long.coalition.of.that.name 77     1500.00   1499.00    68.22  0.10    0.20               0.98    1.00              250.00    33.50";
        let task = row(HEADER, text).unwrap();
        assert_eq!(
            (task.comm.as_str(), task.pid, task.cpu_ratio, task.energy_impact),
            ("org.example.a.long.coalition.of.that.name", Some(77), Some(1.5), Some(33.5))
        );
        // Names are padded by bytes.
        let task = row(
            HEADER,
            &text.replace("org.example.a.long.coalition.of.that.name", "café                             "),
        )
        .unwrap();
        assert_eq!((task.comm.as_str(), task.pid, task.cpu_ratio), ("café", Some(77), Some(1.5)));
    }

    proptest! {
        #[test]
        fn any_name_is_read(
            name in "[!-~éд日😀]{1,12}( [!-~éд日😀]{1,10}){0,4}",
            (pid, cpu) in (0u32..100_000, 0u32..1_000_000),
        ) {
            let cpu = format!("{}.{:02}", cpu / 100, cpu % 100);
            let pad = " ".repeat(34usize.saturating_sub(name.len()));
            let row = format!("{name}{pad} {pid:<6} {cpu:<9} 1.00      68.22  0.10    0.20               0.98    1.00               0/ 3     250.00    33.50  ");
            let header = b"Name                               ID     CPU ms/s  samp ms/s User%  Deadlines (<2 ms, 2-5 ms)  Wakeups (Intr, Pkg idle)  QoS (L/T)  GPU ms/s  Energy Impact";
            let task = Columns::read(header).unwrap().task(row.as_bytes(), None);
            let task = task.ok_or_else(|| TestCaseError::fail(row.clone()))?;
            prop_assert_eq!((&task.comm, task.pid), (&name, Some(u64::from(pid))));
            prop_assert_eq!(task.cpu_ratio, Some(micro(cpu.parse::<f64>().unwrap() / 1000.0)));
            prop_assert_eq!((task.energy_impact, task.package_wakeups_per_s), (Some(33.5), Some(1.0)));
        }

        #[test]
        fn any_table_is_read_without_a_panic(
            header in "Name( {1,9}(ID|CPU ms/s|User%|QoS|QOS|\\(a, b\\)|\\[total\\]|New Column|Dead|Wakeups|é)){0,9}",
            row in "(( {1,12}|/|\\[|\\]|é|日|-|N)?[0-9]{0,5}){0,14}",
        ) {
            if let Some(columns) = Columns::read(header.as_bytes()) {
                columns.task(row.as_bytes(), None);
            }
        }
    }

    /// Coalitions have no value in some columns.
    #[test]
    fn columns_without_a_value_are_left_out() {
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
    fn unknown_columns_do_not_shift_others() {
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
        // One value more than columns, and a process ID that is not an integer.
        assert_eq!(row(header, "editor 8083  21.05  79.16  1.00  2.00  3.00  4.00 9.00"), None);
        assert_eq!(row(header, "editor of blanks  8083.5  21.05  79.16  1.00  2.00  3.00  4.00"), None);
    }

    /// Every subset of the columns that `--show-process-…` options add, for tasks and for coalitions.
    #[test]
    fn any_combination_of_columns_is_read() {
        // The text of a header, and of a task's and a coalition's row below it.
        let options: [[&str; 3]; 9] = [
            ["samp ms/s  ", "1.00       ", "1.00       "],
            ["SFI ms/s  ", "    0.00  ", "          "],
            ["QoS (L/T)  ", "  0/ 3     ", "           "],
            ["RPID  PPID  ", " -1     1   ", "            "],
            [
                "Bytes Read  Bytes Written  Pageins  ",
                "      1.0             2.0     3.0   ",
                "      1.0             2.0           ",
            ],
            [
                "Packets (In/Out)       Bytes (In/Out)        ",
                "      1.0        2.0        3.0        4.0   ",
                "                                             ",
            ],
            [
                "QOS (ms/s) Disabled Maint   BG      ",
                "            8.05    1.00    2.00    ",
                "                                    ",
            ],
            ["PCPU ms/s %PCPU  Switches  ", "8.13      83.86  0.79      ", "                           "],
            [
                "Instr/s      Cycles/s    P-Instr/s    P-Cycles/s   ",
                " 38831789     19125190    36802553     17103870    ",
                " 38831789     19125190    36802553     17103870    ",
            ],
        ];
        for chosen in 0..1 << options.len() {
            let mut rows = [
                "Name            ID     CPU ms/s  User%  ".to_owned(),
                "a 1 (b) [2]     77     1500.00   50.00  ".to_owned(),
                "com.example.a   8      1500.00          ".to_owned(),
            ];
            let mut add =
                |cells: &[&str; 3]| rows.iter_mut().zip(cells).for_each(|(row, cell)| row.push_str(cell));
            add(&[
                "Deadlines (<2 ms, 2-5 ms)  Wakeups (Intr, Pkg idle)  ",
                "0.10    0.20               10169.82 360.76           ",
                "                           1.00    0.50              ",
            ]);
            for (number, option) in options.iter().enumerate() {
                if chosen & 1 << number != 0 {
                    add(option);
                }
            }
            add(&["GPU ms/s  Energy Impact", "250.00    33.50", "          33.50"]);
            let [header, task, coalition] = &rows;
            let read =
                |text: &str| row(header.as_bytes(), text).unwrap_or_else(|| panic!("{header}\n{text}"));
            let values = |task: Task| {
                let wakeups = (task.interrupt_wakeups_per_s, task.package_wakeups_per_s);
                (
                    (task.comm, task.pid),
                    (task.cpu_ratio, task.user_ratio),
                    wakeups,
                    (task.gpu_ratio, task.energy_impact),
                )
            };
            let shared = (Some(1.5), Some(33.5));
            assert_eq!(
                values(read(task)),
                (
                    ("a 1 (b) [2]".into(), Some(77)),
                    (shared.0, Some(0.5)),
                    (Some(10_169.82), Some(360.76)),
                    (Some(0.25), shared.1)
                ),
                "{header}\n{task}"
            );
            assert_eq!(
                values(read(coalition)),
                (
                    ("com.example.a".into(), Some(8)),
                    (shared.0, None),
                    (Some(1.0), Some(0.5)),
                    (None, shared.1)
                ),
                "{header}\n{coalition}"
            );
        }
    }

    #[test]
    fn rows_with_values_out_of_range_are_refused() {
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
