//! Reads the text that `powermetrics` prints, line by line: headers begin samples, star lines begin sections, and in
//! a section there are rows or a table of tasks.

use jiff::fmt::strtime;

use super::rows::Rows;
pub use super::rows::Understood;
use super::sample::Sample;
use super::tasks::Table;
use super::value::{bounds, number};
use crate::common::time::Timestamp;
use Understood::{No, Partly, Yes};

/// What `powermetrics` writes to stderr, which recordings contain anywhere.
const NOISE: [&[u8]; 2] = [b"proc_pidpath ", b"Second underflow occured."];

/// Words in the headings of sections that are skipped: `scrape` measures network, disks and interrupts, and the rest
/// is not about power, frequency or heat.
const SKIPPED: [&str; 10] = [
    "network",
    "disk",
    "interrupt",
    "forced idle",
    "bandwidth",
    "device",
    "agpm",
    "nvme",
    "throttl",
    "duty cycle",
];

/// Makes samples of lines.
#[derive(Default)]
pub struct Text {
    rows: Rows,
    /// Whether the sample has a header or a row.
    begun: bool,
    /// The headings of the sample's sections.
    sections: Vec<String>,
    /// Whether the section has a row.
    filled: bool,
    table: Option<Table>,
    /// Whether a blank line followed the table's last row.
    interrupted: bool,
}

impl Text {
    /// Takes a line without its newline. Gives the sample that it ends, if it begins another one.
    pub fn line(&mut self, line: &[u8]) -> (Understood, Option<Sample>) {
        let trimmed = line.trim_ascii();
        if NOISE.iter().any(|noise| trimmed.starts_with(noise)) {
            return (Yes, None);
        }
        if trimmed.is_empty() {
            self.interrupted = true;
            return (Yes, None);
        }
        if let Some(header) = Header::read(trimmed) {
            let done = self.finish();
            self.begun = true;
            let sample = &mut self.rows.sample;
            (sample.ts, sample.elapsed_s, sample.summary) = (header.ts, header.elapsed_s, header.summary);
            return (if header.whole { Yes } else { Partly }, done);
        }
        if trimmed.starts_with(b"***") {
            return self.section(trimmed);
        }
        let mut understood = self.row(line);
        if understood == No && self.heading().is_some_and(is_skipped) {
            understood = Yes;
        }
        self.begun |= understood != No;
        self.filled |= understood != No;
        (understood, None)
    }

    /// Ends the sample, if there is anything in it.
    pub fn finish(&mut self) -> Option<Sample> {
        let Self { rows, begun, .. } = std::mem::take(self);
        let sample = rows.finish();
        (begun && !sample.is_empty()).then_some(sample)
    }

    /// The heading of the section that is being read.
    pub fn heading(&self) -> Option<&str> {
        self.sections.last().map(String::as_str)
    }

    /// Begins a section. One that the sample already has belongs to another sample, whose header is missing.
    fn section(&mut self, line: &[u8]) -> (Understood, Option<Sample>) {
        let Some(heading) = line.strip_suffix(b"***") else { return (No, None) };
        let is_frame = |c: char| c == '*' || c.is_whitespace();
        let heading = String::from_utf8_lossy(heading).trim_matches(is_frame).to_owned();
        self.table = None;
        self.rows.section();
        let again = self.sections.contains(&heading);
        let done =
            if again && (self.filled || self.heading() != Some(&heading)) { self.finish() } else { None };
        self.sections.retain(|known| *known != heading);
        self.sections.push(heading);
        self.filled = false;
        self.begun = true;
        (Yes, done)
    }

    fn row(&mut self, line: &[u8]) -> Understood {
        let sample = &mut self.rows.sample;
        if let Some(table) = &mut self.table {
            if table.row(line, sample.elapsed_s, &mut sample.tasks) {
                return Yes;
            }
            if !self.interrupted {
                return No;
            }
            self.table = None;
        }
        if let Some(table) = Table::begin(line) {
            (self.table, self.interrupted) = (Some(table), false);
            return Yes;
        }
        self.rows.row(line)
    }
}

fn is_skipped(heading: &str) -> bool {
    let heading = heading.to_ascii_lowercase();
    SKIPPED.iter().any(|word| heading.contains(word))
}

/// The line that begins a sample.
#[derive(Debug, PartialEq)]
struct Header {
    /// The end of the sample.
    ts: Option<Timestamp>,
    /// Its length in seconds.
    elapsed_s: Option<f64>,
    /// Whether it sums up other samples.
    summary: bool,
    /// Whether all of the line was understood.
    whole: bool,
}

impl Header {
    /// `*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (1001.02ms elapsed) ***`
    fn read(line: &[u8]) -> Option<Self> {
        let text = line.strip_prefix(b"***")?.strip_suffix(b"***")?;
        let (what, text) = str::from_utf8(text).ok()?.split_once(" system activity")?;
        let summary = what.trim_ascii_start() != "Sampled";
        let mut header = Self { ts: None, elapsed_s: None, summary, whole: true };
        for group in text.split('(').skip(1) {
            let group = group.split(')').next().unwrap_or(group);
            header.whole &= match group.strip_suffix("ms elapsed") {
                Some(ms) => {
                    header.elapsed_s = number(ms.as_bytes()).and_then(|ms| bounds::length(ms / 1000.0));
                    header.elapsed_s.is_some()
                }
                None => {
                    header.ts = date(group);
                    header.ts.is_some()
                }
            };
        }
        Some(header)
    }
}

/// `Tue Sep 29 19:44:14 2026 +0800`. The day of the week is not checked: it is wrong in recordings whose date was
/// edited to make them anonymous.
fn date(text: &str) -> Option<Timestamp> {
    let words: Vec<_> = text.split_ascii_whitespace().skip(1).collect();
    let time = strtime::parse("%b %d %H:%M:%S %Y %z", words.join(" ")).ok()?.to_timestamp().ok()?;
    u64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_header_that_cannot_be_read_are_noticed() {
        let end = Some(1_790_682_254);
        for (text, expected) in [
            (
                "*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (500.00ms elapsed) ***",
                (end, Some(0.5), false, true),
            ),
            (
                "*** Summary system activity (Sun Sep 29 19:44:14 2026 +0800) (500.00ms elapsed) ***",
                (end, Some(0.5), true, true),
            ),
            (
                "*** Sampled system activity (Di 29 Sep 2026 19:44:14 +0800) (500.00ms elapsed) ***",
                (None, Some(0.5), false, false),
            ),
            (
                "*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (5x0.00ms elapsed) ***",
                (end, None, false, false),
            ),
            ("*** Sampled system activity ***", (None, None, false, true)),
        ] {
            let header = Header::read(text.as_bytes()).unwrap();
            let ts = header.ts.map(|ts| ts.0 / 1_000_000_000);
            assert_eq!((ts, header.elapsed_s, header.summary, header.whole), expected, "{text}");
        }
    }
}
