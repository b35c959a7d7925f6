//! `--replay`: reads a folder once, the lines of a spool or files of OTLP/JSON, oldest first.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::input::{Chunk, Source, Wait};
use super::spool::disk::{Folder, read, read_all};
use super::spool::segment::{Block, ENTRY, index_name, lines_name, parse_name};
use crate::common::diag::log;

/// The endings of files that are read.
const ENDINGS: [&str; 3] = ["json", "jsonl", "ndjson"];

/// The files of a folder.
pub struct Replay {
    folder: PathBuf,
    files: VecDeque<Item>,
    open: Option<Box<dyn Read + Send>>,
    failed: u64,
    /// Lines of a spool that are damaged or missing.
    damaged: u64,
}

enum Item {
    /// A segment of a spool, and where the next one begins.
    Segment(u64, Option<u64>),
    File(PathBuf),
}

impl Replay {
    /// Lists the files.
    ///
    /// # Errors
    /// If the folder cannot be read, or there is nothing to replay.
    pub fn new(folder: &Path) -> Result<Self> {
        let files = list(folder).with_context(|| format!("--replay {}", folder.display()))?;
        if files.is_empty() {
            bail!(
                "--replay {}: contains neither a spool nor *.json, *.jsonl or *.ndjson files (or .gz, .zst)",
                folder.display()
            );
        }
        Ok(Self { folder: folder.to_owned(), files, open: None, failed: 0, damaged: 0 })
    }

    fn next(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some(item) = self.files.front() else { return Ok(None) };
        if self.open.is_none() {
            self.open = Some(match item {
                Item::Segment(first, next) => self.segment(*first, *next)?,
                Item::File(path) => open(path)?,
            });
        }
        self.open.as_mut().map(|file| file.read(buffer)).transpose()
    }

    /// The lines of the blocks of a segment whose checksums are right.
    fn segment(&mut self, first: u64, next: Option<u64>) -> io::Result<Box<dyn Read + Send>> {
        let disk = Folder::existing(&self.folder);
        let lines = lines_name(first);
        let index = match read_all(&disk, &index_name(first)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                log(format_args!("{lines} has no index, so its lines are read without a check"));
                return open(&self.folder.join(lines));
            }
            index => index?,
        };
        let (mut at, mut good, mut blocks) = (first, 0, Vec::new());
        for block in index.chunks_exact(ENTRY).filter_map(Block::from_entry) {
            // A block that a failed commit left: the next segment has its lines.
            if block.first < at || next.is_some_and(|next| block.end() > next) {
                continue;
            }
            at = block.end();
            blocks.push(block);
        }
        blocks.retain(|block| {
            let bytes = read(&disk, &lines, block.position, block.length as usize);
            let is_whole = bytes.is_ok_and(|bytes| block.matches(&bytes));
            good += if is_whole { block.lines() } else { 0 };
            is_whole
        });
        self.damaged += next.unwrap_or(at) - first - good;
        let file = File::open(self.folder.join(&lines))?;
        Ok(Box::new(Blocks { file, blocks: blocks.into(), done: 0 }))
    }
}

impl Source for Replay {
    fn read(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> Result<Chunk> {
        // Files do not block, so a signal would go unnoticed.
        if let Some(stop) = wait.stop
            && wait.readable(stop.fd(), Some(std::time::Duration::ZERO))?
        {
            return Ok(Chunk::Nothing);
        }
        let failed = match self.next(buffer) {
            Ok(Some(0)) => None,
            Ok(Some(length)) => return Ok(Chunk::Bytes(length)),
            Ok(None) if self.failed + self.damaged > 0 => bail!(
                "--replay {}: {} lines are damaged or missing, {} files could not be read",
                self.folder.display(),
                self.damaged,
                self.failed
            ),
            Ok(None) => return Ok(Chunk::End),
            Err(error) => Some(error),
        };
        self.open = None;
        let name = self.files.pop_front().map(|item| match item {
            Item::Segment(first, _) => lines_name(first),
            Item::File(path) => path.display().to_string(),
        });
        if let (Some(name), Some(error)) = (name, failed) {
            self.failed += 1;
            log(format_args!("cannot read {name}: {error}"));
        }
        Ok(Chunk::FileEnd)
    }
}

/// What there is, oldest first.
fn list(folder: &Path) -> io::Result<VecDeque<Item>> {
    let (mut segments, mut files) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let (path, meta) = (entry.path(), std::fs::metadata(entry.path())?);
        let name = entry.file_name();
        segments.extend(parse_name(&name.to_string_lossy(), "ndjson"));
        let plain = Path::new(&name);
        let plain = if compression(plain).is_some() { plain.with_extension("") } else { plain.to_owned() };
        if meta.is_file() && ENDINGS.iter().any(|ending| plain.extension().is_some_and(|it| it == *ending)) {
            files.push((meta.modified()?, path));
        }
    }
    if segments.is_empty() {
        files.sort();
        return Ok(files.into_iter().map(|(_, path)| Item::File(path)).collect());
    }
    segments.sort_unstable();
    let next = segments.iter().skip(1).copied().map(Some).chain([None]);
    Ok(segments.iter().copied().zip(next).map(|(first, next)| Item::Segment(first, next)).collect())
}

/// How a file is compressed, by its name.
fn compression(path: &Path) -> Option<&str> {
    path.extension()?.to_str().filter(|ending| matches!(*ending, "gz" | "zst"))
}

fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    let file = File::open(path)?;
    match compression(path) {
        Some("gz") => Ok(Box::new(flate2::read::MultiGzDecoder::new(file))),
        #[cfg(feature = "http")]
        Some("zst") => Ok(Box::new(zstd::Decoder::new(file)?)),
        #[cfg(not(feature = "http"))]
        Some("zst") => Err(io::Error::other("built without zstd")),
        _ => Ok(Box::new(file)),
    }
}

/// Reads blocks of a file of lines.
struct Blocks {
    file: File,
    blocks: VecDeque<Block>,
    /// How much of the first one was read.
    done: u32,
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        use std::os::unix::fs::FileExt;
        let Some(block) = self.blocks.front() else { return Ok(0) };
        let most = buffer.len().min((block.length - self.done) as usize);
        let length = self.file.read_at(&mut buffer[..most], block.position + u64::from(self.done))?;
        self.done += length as u32;
        if self.done == block.length {
            self.blocks.pop_front();
            self.done = 0;
        } else if length == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(length)
    }
}
