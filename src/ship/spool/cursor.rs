//! A cursor: which lines a sink, or a signal of it, has delivered, and the batches on their way. A file of one JSON
//! line with a CRC, replaced by rename.

use std::io;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::disk::{Disk, read_all, replace};
use super::segment::MAX_OFFSET;
use crate::ship::line::Signal;

/// What a sink has delivered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The offset of the first line that is in no batch yet.
    pub next: u64,
    /// The offset of the line before which the encoder had the stored state. Lines from here on are kept.
    pub state: u64,
    /// The batches that are not delivered, in order.
    pub open: Vec<OpenBatch>,
}

/// A batch that may have been sent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenBatch {
    /// The offset of the first line.
    pub first: u64,
    /// One more than the offset of the last line.
    pub end: u64,
    /// The number of lines.
    pub lines: u64,
    /// The endpoints that need nothing more from it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<usize>,
    /// Where the requests to an endpoint were split: the endpoint and the offset of a first line.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub splits: Vec<(usize, u64)>,
}

/// The file: the CRC is that of the bytes of `cursor`.
#[derive(Serialize, Deserialize)]
struct Envelope {
    crc: u32,
    cursor: Box<RawValue>,
}

/// Why there is no cursor.
#[derive(Debug)]
pub enum Unusable {
    /// The sink is new.
    Missing,
    /// The file is damaged.
    Damaged,
    /// It cannot be read.
    Io(io::Error),
}

impl Cursor {
    /// A cursor of a sink that begins at this offset.
    pub fn at(offset: u64) -> Self {
        Self { next: offset, state: offset, open: Vec::new() }
    }

    /// The offset of the first line that is not delivered.
    pub fn undelivered(&self) -> u64 {
        self.open.first().map_or(self.next, |batch| batch.first)
    }

    /// The offset of the first line that is still needed.
    pub fn low(&self) -> u64 {
        self.state.min(self.undelivered())
    }

    /// The number of lines in the batches that are not delivered.
    pub fn open_lines(&self) -> u64 {
        self.open.iter().map(|batch| batch.lines).sum()
    }

    /// Reads the cursor of a sink.
    ///
    /// # Errors
    /// If there is none that can be used.
    pub fn load(disk: &dyn Disk, sink: &str) -> Result<Self, Unusable> {
        match read_all(disk, &name(sink)) {
            Ok(bytes) => Self::parse(&bytes).ok_or(Unusable::Damaged),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Unusable::Missing),
            Err(error) => Err(Unusable::Io(error)),
        }
    }

    /// Parses a cursor file; `None` if it is damaged.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let Envelope { crc, cursor } = serde_json::from_slice(bytes).ok()?;
        let text = cursor.get();
        let cursor: Self =
            (crc32fast::hash(text.as_bytes()) == crc).then(|| serde_json::from_str(text).ok())??;
        let ends: Vec<_> = cursor.open.iter().flat_map(|batch| [batch.first, batch.end]).collect();
        let is_ordered = ends.is_sorted() && ends.last().is_none_or(|end| *end <= cursor.next);
        let is_whole = |batch: &OpenBatch| batch.lines <= batch.end - batch.first;
        (is_ordered && cursor.next < MAX_OFFSET && cursor.open.iter().all(is_whole)).then_some(cursor)
    }

    /// Replaces the cursor of a sink.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn save(&self, disk: &dyn Disk, sink: &str) -> io::Result<()> {
        let text = serde_json::to_string(self)?;
        let envelope =
            Envelope { crc: crc32fast::hash(text.as_bytes()), cursor: RawValue::from_string(text)? };
        let mut line = serde_json::to_vec(&envelope)?;
        line.push(b'\n');
        replace(disk, &name(sink), &line)
    }
}

/// The name of a cursor file.
pub fn name(sink: &str) -> String {
    format!("{sink}.cursor")
}

/// The sink of a cursor file.
pub fn sink_of(name: &str) -> Option<&str> {
    name.strip_suffix(".cursor")
}

/// The name under which a sink, or a signal of it, has its cursor.
pub fn sink_name(sink: &str, signal: Option<Signal>) -> String {
    signal.map_or_else(|| sink.to_owned(), |signal| format!("{sink}-{}", signal.name()))
}

/// The signal in a name that [`sink_name`] made.
pub fn signal_of(sink: &str) -> Option<Signal> {
    let (_, name) = sink.rsplit_once('-')?;
    Signal::ALL.into_iter().find(|signal| signal.name() == name)
}
