//! Collectors that make one record of one file of /proc.

use anyhow::Result;

use crate::collect::{Collector, Roots, Sample, Source};
use crate::common::emit::Emitter;
use crate::record::{Kind, Record};

/// A record that one file gives.
pub trait FileRecord: Record + Clone {
    /// The file, below /proc.
    const FILE: &'static str;
    /// What it must contain, for the report of other content.
    const EXPECTED: &'static str;

    /// `None` if the content is something else.
    fn parse(bytes: &[u8]) -> Option<Self>;

    /// Fills in the fields that are not in the file, such as rates.
    fn complete(&mut self, _before: Option<&Self>, _sample: &Sample<'_>) {}
}

/// Collects the record `R`.
pub struct FileCollector<R> {
    source: Source,
    /// The record of the previous sample; `None` if that failed.
    before: Option<R>,
}

impl<R: FileRecord> FileCollector<R> {
    /// Reads below `roots`; opens nothing yet.
    pub fn new(roots: &Roots) -> Self {
        Self { source: Source::new(roots.proc.join(R::FILE)), before: None }
    }
}

impl<R: FileRecord> Collector for FileCollector<R> {
    fn kinds(&self) -> &'static [&'static Kind] {
        const { &[R::KIND] }
    }

    fn method(&self) -> String {
        self.source.path().display().to_string()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let before = self.before.take();
        let Some(bytes) = self.source.read_or_report(sample.ts, out)? else { return Ok(()) };
        let Some(now) = R::parse(bytes) else {
            return self.source.report_invalid(sample.ts, out, R::EXPECTED);
        };
        let mut record = self.before.insert(now).clone();
        record.complete(before.as_ref(), sample);
        sample.emit(&record, out)
    }
}
