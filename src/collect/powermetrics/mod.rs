//! What `powermetrics` of macOS prints, in either format, once or as a stream → [`Sample`]s.
//!
//! The format is told from the lines themselves: a property list begins with `<?xml`, and lists are separated by NUL.
//! Recordings may be cut and joined: a list ends where its end is, or where something else begins, wherever in a line.

mod bounds;
mod plist;
pub mod recording;
mod records;
pub mod sample;
mod tasks;
mod text;
mod value;

use sample::Sample;
use text::{Text, Understood};

/// What is told of an input: its samples, and what was not understood of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// A sample is complete.
    Sample(Box<Sample>),
    /// A line of text, or a key of a list, that was not understood.
    Unknown(String),
}

/// Takes lines as they come.
#[derive(Default)]
pub struct Parser {
    text: Text,
    /// The lines of the list that is being read.
    list: Option<Vec<u8>>,
    /// The machine, as the recording calls it, and whether it tells the battery's charge in milliampere-hours.
    model: Vec<u8>,
    milliampere_hours: bool,
}

/// Above this a list is given up: a sample with thousands of tasks has about a megabyte.
const LONGEST_LIST: usize = 64 << 20;

impl Parser {
    /// Some lines with their newlines; the last one may lack it.
    pub fn lines(&mut self, mut lines: &[u8], tell: &mut dyn FnMut(Told)) {
        while !lines.is_empty() {
            if let Some(list) = &mut self.list
                && let inside @ 1.. = inside_list(lines)
            {
                list.extend_from_slice(&lines[..inside]);
                lines = &lines[inside..];
                self.end_long_list(tell);
                continue;
            }
            let end = memchr::memchr(b'\n', lines).unwrap_or(lines.len());
            self.line(&lines[..end], tell);
            lines = lines.get(end + 1..).unwrap_or_default();
        }
    }

    /// A line without its newline.
    fn line(&mut self, line: &[u8], tell: &mut dyn FnMut(Told)) {
        let (mut part, mut rest) = first_part(line);
        self.part(part, tell);
        while !rest.is_empty() {
            (part, rest) = first_part(rest);
            self.part(part, tell);
        }
    }

    /// What of a line is of one document.
    fn part(&mut self, line: &[u8], tell: &mut dyn FnMut(Told)) {
        if line.starts_with(b"<?xml") {
            self.finish(tell);
            self.list = Some(Vec::new());
        }
        // No line of a list is like these; a list that was cut off does not swallow the text that follows it.
        let stars = line.starts_with(b"***") && line.trim_ascii_end().ends_with(b"***");
        if self.list.is_some() && (stars || line.starts_with(BEGINNING)) {
            self.end_list(tell);
        }
        let Some(list) = &mut self.list else { return self.text_line(line, tell) };
        list.extend_from_slice(line);
        list.push(b'\n');
        if line.trim_ascii_end().ends_with(b"</plist>") {
            self.end_list(tell);
        }
        self.end_long_list(tell);
    }

    /// What came after the last newline: a line that may have been cut off, and is left out where that cannot be seen.
    pub fn rest(&mut self, line: &[u8], tell: &mut dyn FnMut(Told)) {
        let (mut line, mut rest) = first_part(line);
        while !rest.is_empty() {
            self.part(line, tell);
            (line, rest) = first_part(rest);
        }
        let ends = [&b"%"[..], b")", b" MHz", b" Mhz", b"mW", b"W", b" C", b" rpm", b"***", b"/s", b"/sec"];
        let whole = self.list.is_some() || line.starts_with(b"<?xml") || line.trim_ascii().is_empty();
        if whole || ends.iter().any(|end| line.trim_ascii_end().ends_with(end)) {
            self.part(line, tell);
        } else {
            tell(Told::Unknown(excerpt(line)));
        }
    }

    /// The end of the input.
    pub fn finish(&mut self, tell: &mut dyn FnMut(Told)) {
        self.end_list(tell);
        let done = self.text.finish();
        self.sample(done, tell);
    }

    fn text_line(&mut self, line: &[u8], tell: &mut dyn FnMut(Told)) {
        if let Some(model) = line.trim_ascii().strip_prefix(BEGINNING) {
            self.finish(tell);
            self.model(model.trim_ascii());
        }
        let (understood, done) = self.text.line(line);
        self.sample(done, tell);
        if understood == Understood::Yes {
            return;
        }
        match memchr::memmem::find(line, BEGINNING).filter(|at| *at > 0) {
            // A recording that was joined to one whose last line has no end.
            Some(at) => {
                self.text_line(&line[..at], tell);
                self.text_line(&line[at..], tell);
            }
            None => tell(Told::Unknown(excerpt(line))),
        }
    }

    /// What is told from here on is of that machine.
    fn model(&mut self, model: &[u8]) {
        if self.model != model {
            self.model = model.to_vec();
            self.milliampere_hours = false;
        }
    }

    fn sample(&mut self, sample: Option<Sample>, tell: &mut dyn FnMut(Told)) {
        let Some(mut sample) = sample else { return };
        self.milliampere_hours = sample.in_milliampere_hours(self.milliampere_hours);
        tell(Told::Sample(Box::new(sample)));
    }

    fn end_long_list(&mut self, tell: &mut dyn FnMut(Told)) {
        if self.list.as_ref().is_some_and(|list| list.len() > LONGEST_LIST) {
            self.end_list(tell);
        }
    }

    fn end_list(&mut self, tell: &mut dyn FnMut(Told)) {
        let Some(list) = self.list.take() else { return };
        let document = plist::read(&list);
        document.unknown.into_iter().for_each(|key| tell(Told::Unknown(key)));
        document.model.iter().for_each(|model| self.model(model.as_bytes()));
        self.sample(document.sample, tell);
    }
}

/// How long the lines are that can only be of the list they are in: those before anything that parts documents, which
/// is looked for in all of them at once.
fn inside_list(lines: &[u8]) -> usize {
    let before = &lines[..memchr::memchr3(b'\0', b'?', b'*', lines).unwrap_or(lines.len())];
    let parting =
        [&b"</plist>"[..], BEGINNING].into_iter().filter_map(|what| memchr::memmem::find(before, what)).min();
    let before = &before[..parting.unwrap_or(before.len())];
    memchr::memrchr(b'\n', before).map_or(0, |end| end + 1)
}

/// The part of a line that is of one document, and what follows it: NUL and the end of a list part them, as do the
/// beginnings of a list and of a sample of text where the end of the line before is missing.
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

/// The first row of what the program prints as text.
const BEGINNING: &[u8] = b"Machine model:";

/// Of UTF-8, with which some systems begin a file.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

fn excerpt(line: &[u8]) -> String {
    crate::common::diag::excerpt(line)
}

#[cfg(test)]
mod tests;
