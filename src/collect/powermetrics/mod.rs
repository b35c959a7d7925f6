//! What `powermetrics` of macOS prints, in either format, once or as a stream → [`Sample`]s.
//!
//! The format is told from the lines themselves: a property list begins with `<?xml`, and lists are separated by NUL.

mod plist;
pub mod records;
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

/// Takes line after line.
#[derive(Default)]
pub struct Parser {
    text: Text,
    /// The lines of the list that is being read.
    list: Option<Vec<u8>>,
}

/// Above this a list is given up: a sample with thousands of tasks has about a megabyte.
const LONGEST_LIST: usize = 64 << 20;

impl Parser {
    /// A line without its newline.
    pub fn line(&mut self, line: &[u8], tell: &mut dyn FnMut(Told)) {
        let line = line.strip_prefix(b"\0").unwrap_or(line);
        if line.starts_with(b"<?xml") {
            self.end_list(tell);
            self.text.finish().into_iter().for_each(|sample| tell(Told::Sample(Box::new(sample))));
            self.list = Some(Vec::new());
        }
        let Some(list) = &mut self.list else { return self.text_line(line, tell) };
        list.extend_from_slice(line);
        list.push(b'\n');
        if line.trim_ascii_end().ends_with(b"</plist>") || list.len() > LONGEST_LIST {
            self.end_list(tell);
        }
    }

    /// What came after the last newline: a line that may have been cut off, and is left out where that cannot be seen.
    pub fn rest(&mut self, line: &[u8], tell: &mut dyn FnMut(Told)) {
        let line = line.strip_prefix(b"\0").unwrap_or(line);
        let ends = [&b"%"[..], b")", b" MHz", b" Mhz", b"mW", b"W", b" C", b" rpm", b"***", b"/s", b"/sec"];
        let whole = self.list.is_some() || line.starts_with(b"<?xml") || line.trim_ascii().is_empty();
        if whole || ends.iter().any(|end| line.trim_ascii_end().ends_with(end)) {
            self.line(line, tell);
        } else {
            tell(Told::Unknown(excerpt(line)));
        }
    }

    /// The end of the input.
    pub fn finish(&mut self, tell: &mut dyn FnMut(Told)) {
        self.end_list(tell);
        self.text.finish().into_iter().for_each(|sample| tell(Told::Sample(Box::new(sample))));
    }

    fn text_line(&mut self, line: &[u8], tell: &mut dyn FnMut(Told)) {
        let (understood, done) = self.text.line(line);
        if let Some(sample) = done {
            tell(Told::Sample(Box::new(sample)));
        }
        if understood != Understood::Yes {
            tell(Told::Unknown(excerpt(line)));
        }
    }

    fn end_list(&mut self, tell: &mut dyn FnMut(Told)) {
        let Some(list) = self.list.take() else { return };
        let document = plist::read(&list);
        document.unknown.into_iter().for_each(|key| tell(Told::Unknown(key)));
        if document.broken {
            tell(Told::Unknown("a property list whose end is missing".into()));
        }
        if let Some(sample) = document.sample {
            tell(Told::Sample(Box::new(sample)));
        }
    }
}

fn excerpt(line: &[u8]) -> String {
    crate::say::excerpt(line)
}

#[cfg(test)]
mod tests;
