//! Reads what `powermetrics` of macOS prints, as text or as property lists, once or as a stream, into [`Sample`]s.
//!
//! The format follows from the lines: a property list begins with `<?xml`, and lists are separated by NUL. Recordings
//! may be cut and joined, so a list also ends where something else begins, anywhere in a line.

mod plist;
pub mod recording;
mod rows;
pub mod sample;
mod tasks;
mod text;
mod tree;
mod value;

use crate::common::diag::excerpt;
use sample::Sample;
use text::{Text, Understood};

/// What a parser makes of its input.
#[derive(Clone, Debug, PartialEq)]
pub enum Parsed {
    /// A complete sample.
    Sample(Box<Sample>),
    /// Something that was not understood.
    Unknown {
        /// The heading of its section in text, or the first key of its path in a list.
        section: Option<String>,
        /// A line of text, or the path of a key.
        what: String,
    },
}

/// Makes samples of lines.
#[derive(Default)]
pub struct Parser {
    text: Text,
    /// The lines of the list that is being read.
    list: Option<Vec<u8>>,
    /// The model of the machine, and whether it reports the battery's charge in milliampere-hours.
    model: Vec<u8>,
    milliampere_hours: bool,
}

/// A longer list is not read to its end. A sample with thousands of tasks has about a megabyte.
const LONGEST_LIST: usize = 64 << 20;

impl Parser {
    /// Takes some lines with their newlines; the last one may lack it.
    pub fn lines(&mut self, mut lines: &[u8], give: &mut dyn FnMut(Parsed)) {
        while !lines.is_empty() {
            if let Some(list) = &mut self.list
                && let inside @ 1.. = inside_list(lines)
            {
                list.extend_from_slice(&lines[..inside]);
                lines = &lines[inside..];
                self.end_long_list(give);
                continue;
            }
            let end = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
            self.line(&lines[..end], give);
            lines = lines.get(end + 1..).unwrap_or_default();
        }
    }

    /// Takes a line without its newline.
    fn line(&mut self, line: &[u8], give: &mut dyn FnMut(Parsed)) {
        let (mut part, mut rest) = first_part(line);
        self.part(part, give);
        while !rest.is_empty() {
            (part, rest) = first_part(rest);
            self.part(part, give);
        }
    }

    /// Takes a part of a line that belongs to one document.
    fn part(&mut self, line: &[u8], give: &mut dyn FnMut(Parsed)) {
        if line.starts_with(b"<?xml") {
            self.finish(give);
            self.list = Some(Vec::new());
        }
        // Lists have no lines like these, so a list that was cut off ends here.
        let stars = line.starts_with(b"***") && line.trim_ascii_end().ends_with(b"***");
        if self.list.is_some() && (stars || line.starts_with(FIRST_ROW)) {
            self.end_list(give);
        }
        let Some(list) = &mut self.list else { return self.text_line(line, give) };
        list.extend_from_slice(line);
        list.push(b'\n');
        if line.trim_ascii_end().ends_with(b"</plist>") {
            self.end_list(give);
        }
        self.end_long_list(give);
    }

    /// Takes what follows the last newline. Such a line may have been cut off, and counts as not understood unless
    /// its end shows that it is whole.
    pub fn rest(&mut self, line: &[u8], give: &mut dyn FnMut(Parsed)) {
        let (mut line, mut rest) = first_part(line);
        while !rest.is_empty() {
            self.part(line, give);
            (line, rest) = first_part(rest);
        }
        let ends = [&b"%"[..], b")", b" MHz", b" Mhz", b"mW", b"W", b" C", b" rpm", b"***", b"/s", b"/sec"];
        let whole = self.list.is_some() || line.starts_with(b"<?xml") || line.trim_ascii().is_empty();
        if whole || ends.iter().any(|end| line.trim_ascii_end().ends_with(end)) {
            self.part(line, give);
        } else {
            self.unknown(line, give);
        }
    }

    /// Ends the input.
    pub fn finish(&mut self, give: &mut dyn FnMut(Parsed)) {
        self.end_list(give);
        let done = self.text.finish();
        self.sample(done, give);
    }

    fn text_line(&mut self, line: &[u8], give: &mut dyn FnMut(Parsed)) {
        if let Some(model) = line.trim_ascii().strip_prefix(FIRST_ROW) {
            self.finish(give);
            self.model(model.trim_ascii());
        }
        let (understood, done) = self.text.line(line);
        self.sample(done, give);
        if understood == Understood::Yes {
            return;
        }
        match memchr::memmem::find(line, FIRST_ROW).filter(|at| *at > 0) {
            // The end of a recording without a last newline, joined to the beginning of another.
            Some(at) => {
                self.text_line(&line[..at], give);
                self.text_line(&line[at..], give);
            }
            None => self.unknown(line, give),
        }
    }

    fn unknown(&self, line: &[u8], give: &mut dyn FnMut(Parsed)) {
        let section = self.text.heading().map(str::to_owned);
        give(Parsed::Unknown { section, what: excerpt(line) });
    }

    /// Sets the machine that the next samples come from.
    fn model(&mut self, model: &[u8]) {
        if self.model != model {
            self.model = model.to_vec();
            self.milliampere_hours = false;
        }
    }

    fn sample(&mut self, sample: Option<Sample>, give: &mut dyn FnMut(Parsed)) {
        let Some(mut sample) = sample else { return };
        self.milliampere_hours = sample.in_milliampere_hours(self.milliampere_hours);
        give(Parsed::Sample(Box::new(sample)));
    }

    fn end_long_list(&mut self, give: &mut dyn FnMut(Parsed)) {
        if self.list.as_ref().is_some_and(|list| list.len() > LONGEST_LIST) {
            self.end_list(give);
        }
    }

    fn end_list(&mut self, give: &mut dyn FnMut(Parsed)) {
        let Some(list) = self.list.take() else { return };
        let document = plist::read(&list);
        document.unread.into_iter().for_each(|what| give(Parsed::Unknown { section: None, what }));
        for what in document.unknown {
            let section = what.split('.').next().map(str::to_owned);
            give(Parsed::Unknown { section, what });
        }
        document.model.iter().for_each(|model| self.model(model.as_bytes()));
        self.sample(document.sample, give);
    }
}

/// The length of the lines that can only belong to the list they are in: those before anything that separates
/// documents. Searching all of them at once is faster than line by line.
fn inside_list(lines: &[u8]) -> usize {
    let before = &lines[..memchr::memchr3(b'\0', b'?', b'*', lines).unwrap_or(lines.len())];
    let end =
        [&b"</plist>"[..], FIRST_ROW].into_iter().filter_map(|what| memchr::memmem::find(before, what)).min();
    let before = &before[..end.unwrap_or(before.len())];
    memchr::memrchr(b'\n', before).map_or(0, |end| end + 1)
}

/// Splits a line after the part that belongs to one document: at NUL, after the end of a list, and where a list or
/// a sample of text begins because the newline before it is missing.
fn first_part(line: &[u8]) -> (&[u8], &[u8]) {
    let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
    for at in memchr::memchr3_iter(b'\0', b'<', b'*', line) {
        let (here, begins) = (&line[at..], |what: &[u8]| line[at..].starts_with(what));
        if here[0] == b'\0' {
            let nuls = here.iter().take_while(|&&byte| byte == b'\0').count();
            return (&line[..at], &here[nuls..]);
        } else if begins(b"</plist>") {
            return line.split_at(at + b"</plist>".len());
        } else if at > 0 && (begins(b"<?xml") || begins(b"*** Sampled system activity")) {
            return line.split_at(at);
        }
    }
    (line, b"")
}

/// The first row of the text.
const FIRST_ROW: &[u8] = b"Machine model:";

/// The byte order mark of UTF-8, with which some systems begin a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

#[cfg(test)]
mod tests;
