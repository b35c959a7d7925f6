//! The table of tasks: its columns depend on the version and on options.

use super::value::number;
use crate::collect::micro;
use crate::record::Task;

/// A column of one or several numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Pid,
    Cpu,
    Gpu,
    User,
    Energy,
    InterruptWakeups,
    PackageWakeups,
    Other,
}

/// The columns after the name.
#[derive(Debug)]
pub struct Columns(Vec<Column>);

impl Columns {
    /// `Name  ID  CPU ms/s  User%  Deadlines (<2 ms, 2-5 ms)  Wakeups (Intr, Pkg idle)`
    pub fn read(line: &[u8]) -> Option<Self> {
        let text = line.starts_with(b"Name ").then(|| str::from_utf8(line).ok())??;
        let mut names = text.split("  ").map(str::trim).filter(|name| !name.is_empty());
        if (names.next()?, names.next()?) != ("Name", "ID") {
            return None;
        }
        let mut columns = vec![Column::Pid];
        for name in names {
            match name {
                "CPU ms/s" => columns.push(Column::Cpu),
                "GPU ms/s" => columns.push(Column::Gpu),
                "User%" => columns.push(Column::User),
                "Energy Impact" => columns.push(Column::Energy),
                "Wakeups (Intr, Pkg idle)" => {
                    columns.extend([Column::InterruptWakeups, Column::PackageWakeups])
                }
                // As many numbers as its parentheses name: `Deadlines (<2 ms, 2-5 ms)`.
                _ => columns.extend(std::iter::repeat_n(Column::Other, 1 + name.matches(',').count())),
            }
        }
        Some(Self(columns))
    }

    /// A row; names may hold blanks, and numbers too, so it is read from its end.
    pub fn task(&self, line: &[u8], interval_s: Option<f64>) -> Option<Task> {
        let text = String::from_utf8_lossy(line);
        let words: Vec<_> = text.split_ascii_whitespace().collect();
        let name_words = words.len().checked_sub(self.0.len()).filter(|count| *count > 0)?;
        let mut task = Task { comm: words[..name_words].join(" "), interval_s, ..Task::default() };
        for (column, word) in self.0.iter().zip(&words[name_words..]) {
            let value = number(word.as_bytes())?;
            match column {
                // Below zero for what is no single process.
                Column::Pid => task.pid = word.parse().ok(),
                Column::Cpu => task.cpu_ratio = Some(micro(value / 1000.0)),
                Column::Gpu => task.gpu_ratio = Some(micro(value / 1000.0)),
                Column::User => task.user_ratio = Some(micro(value / 100.0)),
                Column::Energy => task.energy_impact = Some(value),
                Column::InterruptWakeups => task.interrupt_wakeups_per_s = Some(value),
                Column::PackageWakeups => task.package_wakeups_per_s = Some(value),
                Column::Other => {}
            }
        }
        Some(task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_blanks_and_numbers() {
        let columns = Columns::read(
            b"Name                               ID     CPU ms/s  samp ms/s  User%  Deadlines (<2 ms, 2-5 ms)  Wakeups (Intr, Pkg idle)  GPU ms/s  Energy Impact",
        )
        .unwrap();
        let row = b"Python 3.9 (2)                     51190  1500.00   1499.00    68.22  0.10    0.20               0.98    1.00              250.00    33.50  ";
        let task = columns.task(row, Some(1.0)).unwrap();
        assert_eq!(
            (task.comm.as_str(), task.pid, task.cpu_ratio),
            ("Python 3.9 (2)", Some(51_190), Some(1.5))
        );
        assert_eq!(
            (task.gpu_ratio, task.energy_impact, task.package_wakeups_per_s),
            (Some(0.25), Some(33.5), Some(1.0))
        );
        assert_eq!(columns.task(b"ALL_TASKS -2 1 1 1 1 1 1 1 1 1", None).unwrap().pid, None);
        assert_eq!(columns.task(b"cut                                51190  1500.00   14", None), None);
        assert!(Columns::read(b"Name of something").is_none());
    }
}
