//! The lines of a spool: recovery at the start, writing, reading, and deletion of what every sink has delivered.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::cursor::{self, Cursor, Unusable};
use super::disk::{Disk, read};
use super::segment::{Block, ENTRY, index_name, lines_name, parse_name};
use crate::common::diag::log;
use crate::common::time::Timestamp;
use crate::ship::line::{BySignal, Signal};

/// The most blocks of a segment, so that an index stays small.
const MAX_BLOCKS: u64 = 65_536;
/// The largest size of a segment.
const MAX_SEGMENT: u64 = 64 << 20;
/// The smallest spool, so that there are many segments.
pub const MIN_SPOOL: u64 = 16 << 20;
/// The space on the disk that is left for cursors.
const HEADROOM: u64 = 1 << 20;
/// How many entries of an index are read at once.
const READ_AHEAD: u64 = 512;

/// A spool.
pub struct Spool {
    disk: Arc<dyn Disk>,
    max: u64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    segments: VecDeque<Segment>,
    /// The offset of the next line to be committed.
    end: u64,
    /// The offset of the first line that each sink needs.
    lows: BTreeMap<String, u64>,
    closed: bool,
}

#[derive(Clone, Copy, Debug)]
struct Segment {
    first: u64,
    /// The size of lines and index.
    bytes: u64,
    /// The number of index entries.
    blocks: u64,
}

/// What is wrong with a spool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Damage {
    /// Bytes after the last whole block, from a write that a crash interrupted.
    pub torn_bytes: u64,
    /// Files, or parts of files, that were set aside.
    pub set_aside: u64,
}

impl Spool {
    /// Opens a spool, and repairs what a crash left. `max` is the most bytes that it may have.
    ///
    /// # Errors
    /// If its files cannot be read or written. Damage is no error.
    pub fn open(disk: Arc<dyn Disk>, max: u64) -> io::Result<(Self, Damage)> {
        let (mut state, mut damage) = (State::default(), Damage::default());
        let names = disk.list()?;
        let with = |ending| -> Vec<u64> {
            let mut firsts: Vec<_> = names.iter().filter_map(|name| parse_name(name, ending)).collect();
            firsts.sort_unstable();
            firsts
        };
        for sink in names.iter().filter_map(|name| cursor::sink_of(name)) {
            match Cursor::load(&*disk, sink) {
                Ok(cursor) => {
                    state.end = state.end.max(cursor.next);
                    state.lows.insert(sink.to_owned(), cursor.low());
                }
                Err(Unusable::Damaged) => {
                    disk.rename(&cursor::name(sink), &format!("{}.damaged", cursor::name(sink)))?;
                    // Everything is kept until the sink begins again.
                    state.lows.insert(sink.to_owned(), 0);
                    damage.set_aside += 1;
                }
                Err(Unusable::Missing) => {}
                Err(Unusable::Io(error)) => return Err(error),
            }
        }
        let low = state.lows.values().min().copied().unwrap_or(0);
        let (lines, indexes) = (with("ndjson"), with("index"));
        for (index, first) in lines.iter().copied().enumerate() {
            if lines.get(index + 1).is_some_and(|next| *next <= low) {
                // A crash undid the removal.
                remove_segment(&*disk, first)?;
                continue;
            }
            if indexes.binary_search(&first).is_err() {
                disk.rename(&lines_name(first), &format!("{}.damaged", lines_name(first)))?;
                damage.set_aside += 1;
                // Lines that follow must not get the offsets of lines that were delivered.
                state.end = state.end.max(first);
                continue;
            }
            let index = disk.size(&index_name(first))?;
            let bytes = disk.size(&lines_name(first))? + index;
            state.segments.push_back(Segment { first, bytes, blocks: index / ENTRY as u64 });
        }
        for first in indexes.into_iter().filter(|first| lines.binary_search(first).is_err()) {
            disk.remove(&index_name(first))?;
        }
        while let Some(last) = state.segments.back_mut() {
            let end = cut_tail(&*disk, last, &mut damage)?;
            if end > last.first {
                state.end = state.end.max(end);
                break;
            }
            let first = last.first;
            remove_segment(&*disk, first)?;
            state.segments.pop_back();
            state.end = state.end.max(first);
        }
        disk.sync_names()?;
        Ok((Self { disk, max, state: Mutex::new(state), changed: Condvar::new() }, damage))
    }

    /// The files.
    pub fn disk(&self) -> &dyn Disk {
        &*self.disk
    }

    /// The offset of the first line there is, and one more than that of the last.
    pub fn range(&self) -> (u64, u64) {
        let state = self.lock();
        (state.segments.front().map_or(state.end, |segment| segment.first), state.end)
    }

    /// The sinks with a cursor.
    pub fn sinks(&self) -> Vec<String> {
        self.lock().lows.keys().cloned().collect()
    }

    /// Declares that no more lines follow.
    pub fn close(&self) {
        self.lock().closed = true;
        self.changed.notify_all();
    }

    /// Waits up to `patience` for a line with this offset. False if none will follow.
    pub fn wait(&self, offset: u64, patience: Duration) -> bool {
        let waiting = |state: &mut State| !state.closed && state.end <= offset;
        let waited = self.changed.wait_timeout_while(self.lock(), patience, waiting);
        let state = waited.unwrap_or_else(PoisonError::into_inner).0;
        !state.closed || state.end > offset
    }

    /// A sink needs no line before `low`: deletes the segments that no sink needs.
    ///
    /// # Errors
    /// If a file cannot be removed.
    pub fn release(&self, sink: &str, low: u64) -> io::Result<()> {
        let mut done = Vec::new();
        {
            let mut state = self.lock();
            if state.lows.insert(sink.to_owned(), low) == Some(low) {
                return Ok(());
            }
            let low = state.lows.values().min().copied().unwrap_or(0);
            // The last segment is written to.
            while state.segments.get(1).is_some_and(|next| next.first <= low) {
                done.extend(state.segments.pop_front());
            }
        }
        let removed = done.iter().try_for_each(|segment| remove_segment(&*self.disk, segment.first));
        if !done.is_empty() {
            self.changed.notify_all();
        }
        removed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum()
    }
}

/// The lines first: an index without lines is removed at the next start.
fn remove_segment(disk: &dyn Disk, first: u64) -> io::Result<()> {
    for name in [lines_name(first), index_name(first)] {
        match disk.remove(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Cuts off what follows the last whole block of the last segment. Gives the end of its lines.
fn cut_tail(disk: &dyn Disk, segment: &mut Segment, damage: &mut Damage) -> io::Result<u64> {
    let (lines, index) = (lines_name(segment.first), index_name(segment.first));
    let (size, index_size) = (disk.size(&lines)?, disk.size(&index)?);
    let (mut entries, mut end, mut position) = (index_size / ENTRY as u64, segment.first, 0);
    let mut aside = size;
    while entries > 0 {
        let entry = read(disk, &index, (entries - 1) * ENTRY as u64, ENTRY)?;
        if let Some(block) = Block::from_entry(&entry) {
            let bytes = read(disk, &lines, block.position, block.length as usize)?;
            if block.matches(&bytes) {
                (end, position) = (block.end(), block.end_position());
                break;
            }
            // With an entry, it may have been committed.
            aside = aside.min(block.position);
        }
        entries -= 1;
    }
    let aside = aside.max(position);
    if aside < size {
        set_aside(disk, segment.first, aside, size - aside)?;
        damage.set_aside += 1;
    }
    damage.torn_bytes += size.saturating_sub(position);
    if size > position {
        disk.set_size(&lines, position)?;
    }
    if index_size > entries * ENTRY as u64 {
        disk.set_size(&index, entries * ENTRY as u64)?;
    }
    // A program that was killed may have written blocks that it did not sync. They count as committed now.
    disk.sync(&lines)?;
    disk.sync(&index)?;
    (segment.bytes, segment.blocks) = (position + entries * ENTRY as u64, entries);
    Ok(end)
}

/// Copies a part of a segment to a file of its own.
fn set_aside(disk: &dyn Disk, first: u64, position: u64, length: u64) -> io::Result<()> {
    let length = usize::try_from(length).map_err(io::Error::other)?.min(2 * MAX_SEGMENT as usize);
    let bytes = read(disk, &lines_name(first), position, length)?;
    disk.write_at(&format!("{}-{position}.damaged", lines_name(first)), 0, &bytes)
}

/// Lines to be committed together.
pub struct Lines {
    /// The lines, each with its newline.
    pub bytes: Vec<u8>,
    /// How many for each signal.
    pub signals: BySignal<u32>,
    /// When they were read.
    pub received: Timestamp,
}

/// Appends to a spool. There is one per spool.
pub struct Appender {
    spool: Arc<Spool>,
    tail: Option<Tail>,
}

/// The segment that is written to.
struct Tail {
    segment: Segment,
    /// The size of the file of lines.
    size: u64,
}

impl Appender {
    /// An appender that begins a new segment.
    pub fn new(spool: Arc<Spool>) -> Self {
        Self { spool, tail: None }
    }

    /// Appends blocks and makes them durable: all, or none. `committed` is called before a sink can see them.
    ///
    /// # Errors
    /// [`io::ErrorKind::QuotaExceeded`] if the spool is full; otherwise why they cannot be written. Trying again is safe.
    pub fn commit(&mut self, blocks: &[Lines], committed: impl FnOnce()) -> io::Result<()> {
        let written = self.write(blocks);
        if written.is_err() {
            // The system may have dropped what it could not write, so nothing is appended to that segment again. What
            // is left there is ignored, since its offsets come again in the next segment.
            self.tail = None;
        }
        let (tail, end) = written?;
        let mut state = self.spool.lock();
        committed();
        state.end = end;
        match state.segments.back_mut().filter(|last| last.first == tail.segment.first) {
            Some(last) => *last = tail.segment,
            None => state.segments.push_back(tail.segment),
        }
        drop(state);
        self.tail = Some(tail);
        self.spool.changed.notify_all();
        Ok(())
    }

    fn write(&mut self, blocks: &[Lines]) -> io::Result<(Tail, u64)> {
        let disk = &*self.spool.disk;
        let (mut end, bytes) = {
            let state = self.spool.lock();
            (state.end, state.bytes())
        };
        let more: u64 = blocks.iter().map(|lines| (lines.bytes.len() + ENTRY) as u64).sum();
        if bytes + more > self.spool.max {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        if disk.free()? < more + HEADROOM {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let segment_size = (self.spool.max / 16).min(MAX_SEGMENT);
        let old =
            self.tail.take().filter(|tail| tail.size < segment_size && tail.segment.blocks < MAX_BLOCKS);
        let is_new = old.is_none();
        let mut tail = old.unwrap_or(Tail { segment: Segment { first: end, bytes: 0, blocks: 0 }, size: 0 });
        let (lines_file, index_file) = (lines_name(tail.segment.first), index_name(tail.segment.first));
        if is_new {
            // What a failed attempt left.
            remove_segment(disk, end)?;
        }
        for Lines { bytes, signals, received } in blocks {
            let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            let block = Block {
                position: tail.size,
                first: end,
                received: *received,
                signals: *signals,
                length,
                crc: crc32fast::hash(bytes),
            };
            disk.write_at(&lines_file, tail.size, bytes)?;
            let blocks = &mut tail.segment.blocks;
            disk.write_at(&index_file, *blocks * ENTRY as u64, &block.to_entry())?;
            (end, tail.size, *blocks) = (block.end(), block.end_position(), *blocks + 1);
        }
        tail.segment.bytes = tail.size + tail.segment.blocks * ENTRY as u64;
        disk.sync(&lines_file)?;
        disk.sync(&index_file)?;
        if is_new {
            disk.sync_names()?;
        }
        Ok((tail, end))
    }
}

/// What a reader finds next.
#[derive(Debug)]
pub enum Found {
    /// A whole block.
    Block(Block, Vec<u8>),
    /// Lines up to this offset are damaged or missing, and how many of them this reader counts.
    Gap(u64, u64),
    /// Nothing more is committed.
    End,
}

enum Next {
    Block(Block),
    /// Lines up to this offset are missing.
    Gap(u64),
    End,
}

/// Reads a spool from an offset on.
pub struct Reader {
    spool: Arc<Spool>,
    /// Only lines for this signal are read; `None` for all.
    signal: Option<Signal>,
    /// The offset of the next line.
    at: u64,
    /// The segment being read.
    segment: Option<u64>,
    /// The number of index entries before `ahead`.
    entries: u64,
    /// Index entries that were read, and are not used yet.
    ahead: VecDeque<[u8; ENTRY]>,
}

impl Reader {
    /// A reader of what follows `at`: the lines for a signal, or all.
    pub fn new(spool: Arc<Spool>, at: u64, signal: Option<Signal>) -> Self {
        Self { spool, signal, at, segment: None, entries: 0, ahead: VecDeque::new() }
    }

    /// The offset of the next line.
    pub fn at(&self) -> u64 {
        self.at
    }

    /// The offset of the first line of the segment that was read last.
    pub fn segment(&self) -> Option<u64> {
        self.segment
    }

    /// Goes on at `at`.
    pub fn seek(&mut self, at: u64) {
        *self = Self::new(self.spool.clone(), at, self.signal);
    }

    /// Gives the block with the next line, which may begin with lines before it and contain lines for other signals, or
    /// what is there instead.
    ///
    /// # Errors
    /// If a file cannot be read for a reason that may go away.
    pub fn read(&mut self) -> io::Result<Found> {
        loop {
            match self.next()? {
                Next::Block(block) if block.is_without(self.signal) => self.at = block.end(),
                Next::Block(block) => {
                    let bytes = self.bytes(&block).inspect_err(|_| self.put_back(&block))?;
                    if let Some(bytes) = bytes {
                        self.at = block.end();
                        return Ok(Found::Block(block, bytes));
                    }
                    let lines = self.lines_from(&block);
                    self.at = block.end();
                    return Ok(Found::Gap(block.end(), lines));
                }
                Next::Gap(end) => {
                    let lines = self.lost(end);
                    self.at = end;
                    return Ok(Found::Gap(end, lines));
                }
                Next::End => return Ok(Found::End),
            }
        }
    }

    /// Counts the lines from here on.
    ///
    /// # Errors
    /// If a file cannot be read for a reason that may go away.
    pub fn count(mut self) -> io::Result<u64> {
        let mut lines = 0;
        loop {
            match self.next()? {
                Next::Block(block) => {
                    let at = self.at;
                    let bytes = if block.first < at { self.bytes(&block)? } else { None };
                    lines += match bytes {
                        Some(bytes) => {
                            block.split(&bytes, self.signal).filter(|(offset, _)| *offset >= at).count()
                                as u64
                        }
                        None => self.lines_from(&block),
                    };
                    self.at = block.end();
                }
                Next::Gap(end) => {
                    lines += self.lost(end);
                    self.at = end;
                }
                Next::End => return Ok(lines),
            }
        }
    }

    /// How many lines to count for a block without a look at them.
    fn lines_from(&self, block: &Block) -> u64 {
        if block.first < self.at { self.lost(block.end()) } else { block.lines_for(self.signal) }
    }

    /// How many lines up to `end` to count if nothing else is known about them. They count as logs, so that only one
    /// reader counts them.
    fn lost(&self, end: u64) -> u64 {
        if self.signal.is_none_or(|signal| signal == Signal::Logs) { end - self.at } else { 0 }
    }

    /// Finds the block with the next line. The block does not come again, unless it is put back.
    fn next(&mut self) -> io::Result<Next> {
        let (segment, limit) = {
            let state = self.spool.lock();
            if self.at >= state.end {
                return Ok(Next::End);
            }
            let after = state.segments.partition_point(|segment| segment.first <= self.at);
            let limit = state.segments.get(after).map_or(state.end, |next| next.first);
            (after.checked_sub(1).map(|index| state.segments[index]), limit)
        };
        let Some(Segment { first, blocks, .. }) = segment else { return Ok(Next::Gap(limit)) };
        if self.segment != Some(first) {
            (self.segment, self.entries) = (Some(first), 0);
            self.ahead.clear();
        }
        while let Some(entry) = self.entry(first, blocks)? {
            // What a failed commit left comes again in the next segment.
            let block = Block::from_entry(&entry).filter(|block| block.end() <= limit);
            let Some(block) = block.filter(|block| block.end() > self.at) else { continue };
            if block.first > self.at {
                self.put_back(&block);
                return Ok(Next::Gap(block.first));
            }
            return Ok(Next::Block(block));
        }
        Ok(Next::Gap(limit))
    }

    fn put_back(&mut self, block: &Block) {
        self.ahead.push_front(block.to_entry());
        self.entries -= 1;
    }

    /// The bytes of a block; `None` if they are damaged, and then set aside.
    fn bytes(&self, block: &Block) -> io::Result<Option<Vec<u8>>> {
        let Some(first) = self.segment else { return Ok(None) };
        let bytes = read(&*self.spool.disk, &lines_name(first), block.position, block.length as usize);
        let bytes = absent_if_damaged(bytes)?;
        if block.matches(&bytes) {
            return Ok(Some(bytes));
        }
        if !bytes.is_empty()
            && let Err(error) = set_aside(&*self.spool.disk, first, block.position, block.length.into())
        {
            log(format_args!("cannot set a damaged block of the spool aside: {error}"));
        }
        Ok(None)
    }

    /// The next index entry of a segment with so many committed blocks.
    fn entry(&mut self, first: u64, blocks: u64) -> io::Result<Option<[u8; ENTRY]>> {
        if self.ahead.is_empty() {
            let at = self.entries * ENTRY as u64;
            let count = blocks.saturating_sub(self.entries).min(READ_AHEAD) as usize;
            let bytes = absent_if_damaged(read(&*self.spool.disk, &index_name(first), at, count * ENTRY))?;
            self.ahead
                .extend(bytes.chunks_exact(ENTRY).filter_map(|entry| <[u8; ENTRY]>::try_from(entry).ok()));
        }
        let entry = self.ahead.pop_front();
        self.entries += u64::from(entry.is_some());
        Ok(entry)
    }
}

/// A file that is missing, or a disk that cannot read it, will not be better later.
fn absent_if_damaged(read: io::Result<Vec<u8>>) -> io::Result<Vec<u8>> {
    match read {
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) =>
        {
            Ok(Vec::new())
        }
        read => read,
    }
}
