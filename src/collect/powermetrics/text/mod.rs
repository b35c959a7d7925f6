//! The text that `powermetrics` prints, line by line.
//!
//! A header (`*** Sampled system activity …`) begins a sample; star lines name its sections, of which each is there
//! once. Rows are told apart by what they say, not by the section that they are in, so that fragments can be read.

mod gpu;
mod header;
mod others;
mod processor;

use super::sample::{Sample, domain};
use super::tasks::Columns;
use super::value::watts;
use crate::record::Task;
use header::header;
use others::interrupts;

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Understood {
    /// All of it.
    Yes,
    /// Its beginning; the rest is cut off or strange.
    Partly,
    /// Nothing.
    No,
}

use Understood::{No, Partly, Yes};

impl From<bool> for Understood {
    fn from(all: bool) -> Self {
        if all { Yes } else { No }
    }
}

/// What the program says on stderr, where both go to one place: at any time.
const NOISE: [&[u8]; 2] = [b"proc_pidpath ", b"Second underflow occured."];

/// Takes line after line.
#[derive(Default)]
pub struct Text {
    sample: Sample,
    /// Whether there was a header, or a row.
    begun: bool,
    sections: Vec<Vec<u8>>,
    /// Whether the section has had a row.
    rows: bool,
    columns: Option<Columns>,
    /// Whether the table has coalitions, under which their tasks are indented.
    grouped: bool,
    /// Whether the row before was not indented: it heads what follows.
    heads: bool,
    cluster: Option<String>,
    /// Whether the last row was one of a cluster or CPU.
    last_of_cpu: bool,
    /// The CPU of the last row, to which rows without a number belong (Intel).
    cpu: Option<String>,
}

impl Text {
    /// A line without its newline, and a sample where the line begins the next one.
    pub fn line(&mut self, line: &[u8]) -> (Understood, Option<Sample>) {
        let trimmed = line.trim_ascii();
        if NOISE.iter().any(|noise| trimmed.starts_with(noise)) {
            return (Yes, None);
        }
        if trimmed.is_empty() {
            self.columns = None;
            return (Yes, None);
        }
        if let Some(header) = header(trimmed) {
            let done = self.finish();
            self.begun = true;
            (self.sample.ts, self.sample.elapsed_s, self.sample.summary) =
                (header.ts, header.elapsed_s, header.summary);
            return (if header.whole { Yes } else { Partly }, done);
        }
        if trimmed.starts_with(b"***") {
            return self.section(trimmed);
        }
        let understood = self.row(line);
        self.rows |= understood != No;
        (understood, None)
    }

    /// The sample that the end completes.
    pub fn finish(&mut self) -> Option<Sample> {
        let Self { mut sample, begun, cluster, last_of_cpu, .. } = std::mem::take(self);
        // After the CPUs there are rows of power, unless they were cut off.
        sample.unfinished.extend(cluster.filter(|_| last_of_cpu));
        sample.complete();
        (begun && !sample.is_empty()).then_some(sample)
    }

    /// A section that comes again is of another sample, whose header is missing.
    fn section(&mut self, line: &[u8]) -> (Understood, Option<Sample>) {
        let Some(name) = line.strip_suffix(b"***").map(|_| line.to_vec()) else { return (No, None) };
        self.columns = None;
        self.cluster = None;
        self.cpu = None;
        let mut done = None;
        let again = self.sections.contains(&name);
        if again && (self.rows || self.sections.last() != Some(&name)) {
            done = self.finish();
        }
        if !self.sections.contains(&name) {
            self.sections.push(name);
        }
        self.rows = false;
        self.begun = true;
        (Yes, done)
    }

    fn row(&mut self, line: &[u8]) -> Understood {
        if let Some(columns) = &self.columns {
            let Some(task) = columns.task(line, self.sample.elapsed_s) else { return No };
            let indented = columns.is_indented(line);
            self.task(task, indented);
            return Yes;
        }
        if line.first() == Some(&b'\t') {
            return interrupts(line.trim_ascii()).into();
        }
        if let Some(columns) = Columns::read(line) {
            (self.columns, self.grouped, self.heads) = (Some(columns), false, false);
            self.begun = true;
            return Yes;
        }
        let line = line.trim_ascii();
        let Ok(text) = str::from_utf8(line) else { return No };
        let Some((name, value)) = text.split_once(':') else {
            return self.gpu_name(text).into();
        };
        let understood = self.pair(name.trim_end(), value.as_bytes().trim_ascii());
        // It says that there is nothing: what a division by zero gave.
        let understood = if understood == No && is_nan(value.trim()) { Yes } else { understood };
        self.begun |= understood != No;
        understood
    }

    /// A row of the table. A coalition is left out where its tasks are told, which it is the sum of; its number is no
    /// process's.
    fn task(&mut self, mut task: Task, indented: bool) {
        let tasks = &mut self.sample.tasks;
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
    }

    /// A row of a name and a value.
    fn pair(&mut self, name: &str, value: &[u8]) -> Understood {
        self.last_of_cpu = false;
        if let Some((cluster, what)) = name.split_once('-')
            && let Some(what) = what.strip_prefix("Cluster ")
            && cluster.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        {
            self.last_of_cpu = true;
            return self.of_cluster(&name[..cluster.len() + "-Cluster".len()], what, value);
        }
        // `Combined Power (CPU + GPU + ANE)`
        let bare = name.split('(').next().unwrap_or(name).trim_end();
        if let Some(name) = bare.strip_suffix(" Power") {
            return self.power(name, value);
        }
        let first = name.split(' ').next().unwrap_or("");
        match first {
            "CPU" | "cpu" | "Core" | "Cores" | "Package" | "System" | "LLC" | "Intel" | "Avg" | "CPU/GPU" => {
                self.of_processor(first, name, value)
            }
            "GPU"
                if !name.contains("Plimit") && !name.ends_with("level") && !name.ends_with("temperature") =>
            {
                self.of_gpu(name["GPU".len()..].trim_start(), value)
            }
            _ => self.others(name, value).into(),
        }
    }

    fn power(&mut self, name: &str, value: &[u8]) -> Understood {
        let Some(watts) = watts(value) else { return No };
        let (domain, zone) = domain(name);
        self.sample.power(&domain, zone, watts);
        Yes
    }
}

/// `nan`, `-nan%`, `nan MHz`.
fn is_nan(value: &str) -> bool {
    let unit = value.strip_prefix('-').unwrap_or(value).strip_prefix("nan");
    unit.is_some_and(|unit| ["", "%", "MHz", "Mhz", "mW", "W"].contains(&unit.trim_start()))
}
