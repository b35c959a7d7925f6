//! `tele-ship spool status` and `verify`: what is in a spool, read without changing it, even while it is in use.

use std::io;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::cursor::{self, Cursor};
use super::disk::{Disk, Folder, read, read_all};
use super::segment::{Block, ENTRY, index_name, lines_name, parse_name};
use crate::ship::line::Signal;

/// A spool as a whole.
#[derive(Debug, Default, Serialize)]
struct Contents {
    segments: u64,
    bytes: u64,
    /// The offset of the first line.
    first: u64,
    /// One more than the offset of the last line.
    end: u64,
    lines: u64,
    /// Lines that are damaged or missing, as far as is known without reading the lines themselves.
    damaged_lines: u64,
    /// Bytes after the last whole block.
    torn_bytes: u64,
    /// What was set aside at earlier starts.
    damaged_files: u64,
}

/// What a sink, or a signal of it, still has to deliver.
#[derive(Debug, Serialize)]
struct Position {
    sink: String,
    /// The signal of the sink that has the cursor; `None` for all.
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<&'static str>,
    /// `None` if the cursor is damaged: the sink will begin with the first line.
    next: Option<u64>,
    pending: u64,
    batches: usize,
}

/// A cursor that was found.
struct Known<'a> {
    sink: &'a str,
    cursor: Option<Cursor>,
    /// The lines after it in whole blocks: those for its signal, and those for others.
    lines: [u64; 2],
}

impl Known<'_> {
    fn next(&self) -> u64 {
        self.cursor.as_ref().map_or(0, |cursor| cursor.next)
    }

    /// Counts the lines of a whole block.
    fn pass(&mut self, block: &Block, bytes: impl FnOnce() -> io::Result<Vec<u8>>) -> io::Result<()> {
        let (signal, next) = (cursor::signal_of(self.sink), self.next());
        if block.end() <= next {
            return Ok(());
        }
        let own = if block.first >= next {
            block.lines_for(signal)
        } else {
            block.split(&bytes()?, signal).filter(|(offset, _)| *offset >= next).count() as u64
        };
        self.lines[0] += own;
        self.lines[1] += block.end() - block.first.max(next) - own;
        Ok(())
    }

    /// The lines after it in a spool with these offsets. Damaged lines count as logs.
    fn new_lines(&self, first: u64, end: u64) -> u64 {
        let [own, others] = self.lines;
        match cursor::signal_of(self.sink) {
            Some(Signal::Metrics | Signal::Traces) => own,
            Some(Signal::Logs) | None => end.saturating_sub(self.next().max(first) + others),
        }
    }
}

/// Whether a folder has files of a spool: lines, an index or a cursor.
///
/// # Errors
/// If it cannot be read.
pub fn is_spool(path: &Path) -> io::Result<bool> {
    for entry in std::fs::read_dir(path)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        let is_segment = ["ndjson", "index"].iter().any(|ending| parse_name(&name, ending).is_some());
        if is_segment || cursor::sink_of(&name).is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Prints a JSON line about the spool, and one about each cursor. With `verify`, every line is read.
///
/// # Errors
/// If the spool cannot be read, or `verify` finds damage.
pub fn print(path: &Path, verify: bool, out: &mut dyn io::Write) -> Result<()> {
    let name = || path.display().to_string();
    if !path.is_dir() {
        bail!("{} is not a directory", name());
    }
    let disk = Folder::existing(path);
    let (mut names, mut cursors) = (disk.list()?, Vec::new());
    names.sort();
    for sink in names.iter().filter_map(|name| cursor::sink_of(name)) {
        cursors.push(Known { sink, cursor: Cursor::load(&disk, sink).ok(), lines: [0; 2] });
    }
    let contents =
        contents(&disk, verify, &mut cursors).with_context(|| format!("cannot read {}", name()))?;
    let mut line = serde_json::to_vec(&contents)?;
    line.push(b'\n');
    let damaged_cursors = cursors.iter().filter(|known| known.cursor.is_none()).count() as u64;
    for known in cursors {
        let signal = cursor::signal_of(known.sink).map(Signal::name);
        let name = signal.and_then(|name| known.sink.strip_suffix(name)?.strip_suffix('-'));
        let sink = name.unwrap_or(known.sink).to_owned();
        let new = known.new_lines(contents.first, contents.end);
        let next = known.cursor.as_ref().map(|cursor| cursor.next);
        let (lines, batches) = known.cursor.map_or((0, 0), |cursor| (cursor.open_lines(), cursor.open.len()));
        serde_json::to_writer(&mut line, &Position { sink, signal, next, pending: lines + new, batches })?;
        line.push(b'\n');
    }
    out.write_all(&line)?;
    let Contents { damaged_lines, torn_bytes, .. } = contents;
    if verify && damaged_lines + torn_bytes + damaged_cursors > 0 {
        bail!(
            "{}: {damaged_lines} lines are damaged or missing, {torn_bytes} bytes at the end are unfinished, \
             {damaged_cursors} cursors are damaged",
            name()
        );
    }
    Ok(())
}

fn contents(disk: &dyn Disk, verify: bool, cursors: &mut [Known<'_>]) -> io::Result<Contents> {
    let names = disk.list()?;
    let mut firsts: Vec<_> = names.iter().filter_map(|name| parse_name(name, "ndjson")).collect();
    firsts.sort_unstable();
    let mut contents = Contents {
        segments: firsts.len() as u64,
        first: firsts.first().copied().unwrap_or(0),
        damaged_files: names.iter().filter(|name| name.ends_with(".damaged")).count() as u64,
        ..Contents::default()
    };
    contents.end = contents.first;
    for (index, first) in firsts.iter().enumerate() {
        segment(disk, *first, firsts.get(index + 1).copied(), verify, &mut contents, cursors)?;
    }
    Ok(contents)
}

/// Adds a segment, which ends where `next` begins.
fn segment(
    disk: &dyn Disk,
    first: u64,
    next: Option<u64>,
    verify: bool,
    contents: &mut Contents,
    cursors: &mut [Known<'_>],
) -> io::Result<()> {
    let size = disk.size(&lines_name(first))?;
    let index = match read_all(disk, &index_name(first)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        index => index?,
    };
    contents.bytes += size + index.len() as u64;
    let (mut at, mut position, mut good) = (first, 0, 0);
    for entry in index.chunks_exact(ENTRY) {
        let limit = next.unwrap_or(u64::MAX);
        let Some(block) = Block::from_entry(entry).filter(|block| block.first >= at && block.end() <= limit)
        else {
            continue;
        };
        let bytes = || read(disk, &lines_name(first), block.position, block.length as usize);
        let is_whole = if verify { block.matches(&bytes()?) } else { block.end_position() <= size };
        if is_whole {
            (at, good, position) = (block.end(), good + block.lines(), block.end_position());
            cursors.iter_mut().try_for_each(|known| known.pass(&block, bytes))?;
        }
    }
    let end = next.unwrap_or(at);
    contents.lines += good;
    contents.damaged_lines += end - first - good;
    contents.end = end;
    if next.is_none() {
        contents.torn_bytes = size.saturating_sub(position);
    }
    Ok(())
}
