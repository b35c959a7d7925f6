//! `--follow`: reads files as they grow, as `tail -n +1 -F` does.
//!
//! Only whole lines are passed on, so that the lines of several files do not mix. A file that was renamed or removed is
//! read until nothing has been added for a while, together with the one that has its name now.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;
use memchr::{memchr, memrchr};
use serde::{Deserialize, Serialize};

use super::input::{Chunk, Source, Wait};
use crate::common::diag::log;

/// How often to look at the files, in case the system does not report a change.
const INTERVAL: Duration = Duration::from_millis(250);
/// A file that was renamed or removed is given up when nothing was added for this long.
const QUIET: Duration = Duration::from_secs(10);
/// A file is recognised by the CRC of this many bytes before the position.
const MARK: u64 = 1024;

/// Files that are followed.
pub struct Follow {
    files: Vec<Followed>,
    changes: Changes,
    /// Where the next round begins, so that each file gets its turn.
    turn: usize,
    looked: Option<Instant>,
    resumed: Vec<Position>,
}

/// A name, and the files that have or had it.
struct Followed {
    path: PathBuf,
    /// The oldest first.
    files: VecDeque<Tail>,
    /// It was reported that there is no file.
    is_missing: bool,
}

/// An open file.
struct Tail {
    file: File,
    inode: (u64, u64),
    /// The end of what was passed on.
    position: u64,
    /// Up to here there is no newline after `position`.
    searched: u64,
    /// A line over the size of the buffer, or the last line of a file that is given up, ends here.
    ready: u64,
    /// The line that is passed on in part ends without a newline.
    is_cut: bool,
    /// It was renamed or removed.
    is_old: bool,
    grew: Instant,
    /// It cannot be read.
    is_broken: bool,
}

/// How far a file was read.
#[derive(Debug, Serialize, Deserialize)]
struct Position {
    path: PathBuf,
    inode: u64,
    position: u64,
    /// The CRC-32 of the bytes before the position.
    crc: u32,
}

impl Follow {
    /// Follows these files, from their beginning.
    pub fn new(paths: Vec<PathBuf>) -> Self {
        let changes = Changes::new(&paths);
        let followed = |path| Followed { path, files: VecDeque::new(), is_missing: false };
        let files = paths.into_iter().map(followed).collect();
        Self { files, changes, turn: 0, looked: None, resumed: Vec::new() }
    }

    /// Looks for files that were replaced or truncated.
    fn look(&mut self) {
        if self.looked.is_some_and(|at| at.elapsed() < INTERVAL / 2) {
            return;
        }
        if self.looked.is_none() {
            let resumed = std::mem::take(&mut self.resumed);
            for followed in &mut self.files {
                followed.resume(&resumed);
                self.changes.watch(&followed.path);
            }
        }
        self.looked = Some(Instant::now());
        for followed in &mut self.files {
            followed.look(&mut self.changes);
        }
    }
}

impl Source for Follow {
    fn read(&mut self, buffer: &mut [u8], wait: &Wait<'_>) -> Result<Chunk> {
        self.look();
        let count = self.files.len();
        // A line that was begun goes on before anything else.
        let begun = self.files.iter().position(|it| it.files.iter().any(Tail::is_within_line));
        for index in begun.into_iter().chain((0..count).map(|index| (self.turn + index) % count)) {
            if let Some(chunk) = self.files[index].read(buffer) {
                self.turn = index + 1;
                return Ok(chunk);
            }
        }
        if wait.stop.is_none() {
            return Ok(Chunk::End);
        }
        self.changes.wait(wait)?;
        Ok(Chunk::Nothing)
    }

    fn positions(&self) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for followed in &self.files {
            for tail in followed.files.iter().filter(|tail| !tail.is_broken) {
                let Ok(crc) = mark(&tail.file, tail.position) else { continue };
                let (inode, position) = (tail.inode.1, tail.position);
                serde_json::to_writer(
                    &mut out,
                    &Position { path: followed.path.clone(), inode, position, crc },
                )
                .ok()?;
                out.push(b'\n');
            }
        }
        Some(out)
    }

    fn resume(&mut self, positions: &[u8]) {
        let lines = positions.split(|byte| *byte == b'\n');
        self.resumed = lines.filter_map(|line| serde_json::from_slice(line).ok()).collect();
    }
}

impl Followed {
    /// Opens the files that an earlier run had read, under whatever name they have now.
    fn resume(&mut self, positions: &[Position]) {
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        for known in positions.iter().filter(|known| known.path == self.path) {
            let names = std::fs::read_dir(folder.unwrap_or(Path::new("."))).into_iter().flatten();
            let mut paths = names.filter_map(|entry| Some(entry.ok()?.path()));
            let tail = paths.find_map(|path| {
                let meta = path.metadata().ok().filter(|meta| meta.is_file() && meta.ino() == known.inode)?;
                let mut tail = Tail::open(&path).ok()?;
                let is_same = meta.len() >= known.position
                    && mark(&tail.file, known.position).is_ok_and(|crc| crc == known.crc);
                tail.position = known.position;
                is_same.then_some(tail)
            });
            self.files.extend(tail);
        }
    }

    /// Checks whether another file has the name now.
    fn look(&mut self, changes: &mut Changes) {
        let meta = std::fs::metadata(&self.path).and_then(|meta| match meta.is_file() {
            true => Ok(meta),
            false => Err(io::Error::other("not a regular file")),
        });
        let inode = meta.as_ref().ok().map(|meta| (meta.dev(), meta.ino()));
        for tail in &mut self.files {
            tail.is_old = Some(tail.inode) != inode;
        }
        let opened = match meta {
            Ok(_) if self.files.iter().any(|tail| !tail.is_old) => Ok(()),
            Ok(_) => Tail::open(&self.path).map(|tail| {
                changes.watch(&self.path);
                self.files.push_back(tail);
            }),
            Err(error) => Err(error),
        };
        if let Err(error) = &opened
            && !self.is_missing
        {
            log(format_args!("cannot read {} now: {error}; waiting for it", self.path.display()));
        }
        self.is_missing = opened.is_err();
        for tail in &mut self.files {
            tail.look(&self.path);
        }
    }

    fn read(&mut self, buffer: &mut [u8]) -> Option<Chunk> {
        let first = self.files.iter().position(Tail::is_within_line).unwrap_or(0);
        for index in first..self.files.len() {
            let tail = &mut self.files[index];
            match tail.read(buffer) {
                Ok(0) => {}
                Ok(length) => return Some(Chunk::Bytes(length)),
                Err(error) => {
                    log(format_args!("cannot read {} any more: {error}", self.path.display()));
                    (tail.is_broken, tail.is_cut) = (true, true);
                }
            }
            let is_over = tail.is_old && (tail.is_broken || tail.grew.elapsed() >= QUIET);
            if is_over && tail.searched > tail.position && !tail.is_broken {
                // The last line has no newline.
                (tail.ready, tail.is_cut) = (tail.searched, true);
                return self.read(buffer);
            }
            let is_cut = std::mem::take(&mut tail.is_cut);
            if is_over {
                self.files.remove(index);
            }
            if is_over || is_cut {
                return Some(Chunk::FileEnd);
            }
        }
        None
    }
}

impl Tail {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let meta = file.metadata()?;
        let inode = (meta.dev(), meta.ino());
        let grew = Instant::now();
        Ok(Self {
            file,
            inode,
            position: 0,
            searched: 0,
            ready: 0,
            is_cut: false,
            is_old: false,
            grew,
            is_broken: false,
        })
    }

    /// Begins again if the file was truncated.
    fn look(&mut self, path: &Path) {
        if self.file.metadata().is_ok_and(|meta| meta.len() < self.position) {
            log(format_args!("{} was truncated", path.display()));
            self.is_cut |= self.is_within_line();
            (self.position, self.searched, self.ready) = (0, 0, 0);
        }
    }

    /// Whether a part of a line may have been passed on, so that the rest or its end must follow.
    fn is_within_line(&self) -> bool {
        self.is_cut || self.ready > self.position
    }

    /// Reads whole lines, or a part of a line that is known to end. Gives 0 if there is none.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.is_broken {
            return Ok(0);
        }
        while self.ready <= self.position {
            if self.is_cut {
                return Ok(0);
            }
            self.searched = self.searched.max(self.position);
            let length = self.read_at(buffer, self.searched)?;
            if length == 0 {
                return Ok(0);
            }
            self.grew = Instant::now();
            if self.searched == self.position
                && let Some(end) = memrchr(b'\n', &buffer[..length])
            {
                self.position += end as u64 + 1;
                return Ok(end + 1);
            }
            match memchr(b'\n', &buffer[..length]) {
                Some(end) => self.ready = self.searched + end as u64 + 1,
                None => self.searched += length as u64,
            }
        }
        let most = usize::try_from(self.ready - self.position).unwrap_or(usize::MAX).min(buffer.len());
        let length = self.read_at(&mut buffer[..most], self.position)?;
        self.position += length as u64;
        if length == 0 {
            // It was truncated meanwhile.
            (self.ready, self.is_cut) = (self.position, true);
        }
        Ok(length)
    }

    fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, at) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }
}

/// The CRC of the bytes before a position. It identifies the file, since inode numbers are reused.
fn mark(file: &File, position: u64) -> io::Result<u32> {
    let length = position.min(MARK);
    let mut bytes = vec![0; length as usize];
    file.read_exact_at(&mut bytes, position - length)?;
    Ok(crc32fast::hash(&bytes))
}

/// Reports that a file may have changed.
struct Changes {
    #[cfg(target_os = "linux")]
    inotify: Option<std::os::fd::OwnedFd>,
}

#[cfg(target_os = "linux")]
impl Changes {
    /// Watches the folders of the files for new names.
    fn new(paths: &[PathBuf]) -> Self {
        use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).ok();
        let folders = paths.iter().filter_map(|path| path.parent());
        for folder in folders {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let names = WatchFlags::CREATE | WatchFlags::MOVED_TO | WatchFlags::ONLYDIR;
            // Without a watch, changes are noticed every [`INTERVAL`].
            let _ = inotify.as_ref().map(|inotify| inotify::add_watch(inotify, folder, names));
        }
        Self { inotify }
    }

    /// Watches a file for additions.
    fn watch(&mut self, path: &Path) {
        use rustix::fs::inotify::{self, WatchFlags};
        let _ = self.inotify.as_ref().map(|inotify| inotify::add_watch(inotify, path, WatchFlags::MODIFY));
    }

    /// Waits for a change, for [`INTERVAL`] at most.
    fn wait(&mut self, wait: &Wait<'_>) -> rustix::io::Result<()> {
        use std::os::fd::AsFd;
        let Some(inotify) = &self.inotify else { return sleep(wait) };
        if wait.readable(inotify.as_fd(), Some(INTERVAL))? {
            let mut events = [0; 4096];
            while rustix::io::read(inotify, &mut events).is_ok_and(|length| length > 0) {}
        }
        Ok(())
    }
}

#[cfg(not(target_os = "linux"))]
impl Changes {
    fn new(_: &[PathBuf]) -> Self {
        Self {}
    }

    fn watch(&mut self, _: &Path) {}

    fn wait(&mut self, wait: &Wait<'_>) -> rustix::io::Result<()> {
        sleep(wait)
    }
}

/// Waits for [`INTERVAL`], or until the program is asked to stop.
fn sleep(wait: &Wait<'_>) -> rustix::io::Result<()> {
    if let Some(stop) = wait.stop {
        wait.readable(stop.fd(), Some(INTERVAL))?;
    }
    Ok(())
}
