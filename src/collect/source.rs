//! A file of /proc or /sys that is read at every sample: it stays open and is
//! read from its start with `pread` into a reused buffer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::unreadable;
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::Reason;

/// One such file.
pub struct Source {
    path: PathBuf,
    file: Option<File>,
    /// Grows to the longest content so far.
    buffer: Vec<u8>,
    length: usize,
}

impl Source {
    /// Opens nothing until the first read.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), file: None, buffer: Vec::new(), length: 0 }
    }

    /// The path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The current content. Reopens the file if its device went away and came back.
    ///
    /// # Errors
    /// If the file cannot be opened or read.
    pub fn read(&mut self) -> io::Result<&[u8]> {
        self.refresh()?;
        Ok(&self.buffer[..self.length])
    }

    /// Like [`Source::read`], but a failure becomes a `status` record and `None`.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn read_or_report(&mut self, ts: Timestamp, out: &mut Emitter) -> Result<Option<&[u8]>> {
        match self.refresh() {
            Ok(()) => Ok(Some(&self.buffer[..self.length])),
            Err(error) => unreadable(out, ts, &self.path.to_string_lossy(), &error).map(|()| None),
        }
    }

    /// Reports in a `status` record that the content is not what was `expected`.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn report_invalid(&self, ts: Timestamp, out: &mut Emitter, expected: &str) -> Result<()> {
        let detail = format!("unexpected content: not {expected}");
        out.status(ts, &self.path.to_string_lossy(), Reason::Invalid, &detail)
    }

    fn refresh(&mut self) -> io::Result<()> {
        if self.file.is_none() || self.fill().is_err() {
            self.file = None;
            self.file = Some(File::open(&self.path)?);
            self.fill()?;
        }
        Ok(())
    }

    fn fill(&mut self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if self.buffer.is_empty() {
            self.buffer.resize(4096, 0);
        }
        self.length = 0;
        loop {
            let read = file.read_at(&mut self.buffer[self.length..], self.length as u64)?;
            self.length += read;
            if read == 0 {
                return Ok(());
            }
            if self.length == self.buffer.len() {
                self.buffer.resize(self.length * 2, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rereads_a_file_that_grew_shrank_or_was_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("stat");
        let mut source = Source::new(&path);
        assert_eq!(source.read().unwrap_err().kind(), io::ErrorKind::NotFound);
        for size in [10, 100_000, 3, 0, 4096] {
            let content = vec![b'x'; size];
            std::fs::write(&path, &content).unwrap();
            assert_eq!(source.read().unwrap(), content);
        }
    }
}
