//! Lines that cannot be delivered: shown on stderr, or kept in a file.
//!
//! The file has the lines as they came, so that it can be read as input again. The reasons are in a second file, one
//! JSON object per refusal with the number of the line in the first.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use serde::Serialize;

use crate::common::diag::{excerpt, log};
use crate::common::time::Timestamp;

/// A line that a sink cannot deliver.
pub struct DeadLetter<'a> {
    /// The sink.
    pub sink: &'static str,
    /// The line's number in the input, from 0.
    pub offset: u64,
    /// The line, unchanged.
    pub line: &'a [u8],
    /// `line` is only the start of a line that is too long; the whole was passed to [`DeadLetters::part`].
    pub is_part: bool,
    /// Why it was refused.
    pub reason: &'a str,
}

/// Receives rejected lines. All sinks share it.
pub trait DeadLetters: Send + Sync {
    /// Takes the next bytes of the line with that offset, which is too long to be held. A letter for each sink
    /// follows the last.
    fn part(&self, _offset: u64, _bytes: &[u8]) {}

    /// Keeps the line. False if it is not kept, so that it counts as rejected.
    fn keep(&self, letter: &DeadLetter<'_>) -> bool;

    /// Makes sure that what was kept survives a power failure.
    fn sync(&self) {}
}

/// Shows the first few lines of each sink on stderr, and keeps none.
#[derive(Default)]
pub struct Samples(Mutex<HashMap<&'static str, u64>>);

/// How many lines of a sink are shown.
const SHOWN: u64 = 5;

impl DeadLetters for Samples {
    fn keep(&self, letter: &DeadLetter<'_>) -> bool {
        let DeadLetter { sink, offset, line, reason, .. } = letter;
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = refused.entry(sink).or_default();
        *count += 1;
        if *count <= SHOWN {
            log(format_args!("{sink}: line {} rejected: {reason}: {}", offset + 1, excerpt(line)));
        }
        if *count == SHOWN {
            log(format_args!("{sink}: further rejected lines are counted, but not shown"));
        }
        false
    }
}

/// How many refused lines are remembered, so that a line that several sinks refuse is kept once.
const REMEMBERED: usize = 65_536;

/// Appends to a file, and the reasons to a second one with `.reasons` added to the name.
pub struct DeadLetterFile {
    path: PathBuf,
    state: Mutex<State>,
    /// SIGHUP came.
    hangup: Arc<AtomicBool>,
}

struct State {
    letters: Letters,
    long: Option<Long>,
    /// The last attempt to keep a line failed, which was logged.
    failing: bool,
    unsynced: bool,
}

/// A line that is too long to be held.
struct Long {
    offset: u64,
    /// `None` if it could not be kept.
    file: Option<File>,
    /// Its number, once it is among the letters.
    line: Option<u64>,
}

/// Both files, open.
struct Letters {
    lines: File,
    reasons: File,
    /// The size of each, up to the last whole line.
    ends: [u64; 2],
    /// The number of the last line.
    line: u64,
    /// The number of each line by its offset in the input.
    known: BTreeMap<u64, u64>,
}

#[derive(Serialize)]
struct Reason<'a> {
    ts: Timestamp,
    sink: &'a str,
    line: u64,
    reason: &'a str,
}

impl DeadLetterFile {
    /// Opens or creates both files. From now on, SIGHUP makes the next letter open them again.
    ///
    /// # Errors
    /// If a file cannot be opened, is no regular file, or belongs to another process.
    pub fn open(path: &Path) -> Result<Self> {
        let letters = Letters::open(path).with_context(|| format!("--dead-letter {}", path.display()))?;
        let hangup = Arc::new(AtomicBool::new(false));
        signal_hook::flag::register(signal_hook::consts::SIGHUP, hangup.clone())
            .context("cannot watch for SIGHUP")?;
        let state = State { letters, long: None, failing: false, unsynced: false };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state), hangup })
    }

    fn reopen(&self, state: &mut State) {
        match Letters::open(&self.path) {
            Ok(letters) => state.letters = letters,
            Err(error) => log(format_args!(
                "cannot open {} again: {error}; the file open before is written",
                self.path.display()
            )),
        }
    }
}

impl DeadLetters for DeadLetterFile {
    fn part(&self, offset: u64, bytes: &[u8]) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.long.as_ref().is_none_or(|long| long.offset != offset) {
            // Without a file, keep() fails and reports it.
            state.long = Some(Long { offset, file: unnamed(&self.path).ok(), line: None });
        }
        if let Some(long) = &mut state.long
            && long.file.as_mut().is_some_and(|file| file.write_all(bytes).is_err())
        {
            long.file = None;
        }
    }

    fn keep(&self, letter: &DeadLetter<'_>) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if self.hangup.swap(false, Ordering::AcqRel) {
            self.reopen(&mut state);
        }
        let State { letters, long, .. } = &mut *state;
        let long = long.as_mut().filter(|_| letter.is_part);
        let kept = letters.keep(letter, long);
        let was_failing = std::mem::replace(&mut state.failing, kept.is_err());
        state.unsynced |= kept.is_ok();
        let Err(error) = kept else { return true };
        if !was_failing {
            let (path, DeadLetter { sink, offset, reason, .. }) = (self.path.display(), letter);
            log(format_args!(
                "cannot write to {path}: {error}; rejected lines are only counted until it works again, the first \
                 is line {} for {sink}: {reason}",
                offset + 1
            ));
        }
        false
    }

    fn sync(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut state.unsynced) {
            let Letters { lines, reasons, .. } = &state.letters;
            if let Err(error) = lines.sync_data().and_then(|()| reasons.sync_data()) {
                log(format_args!("cannot sync {}: {error}", self.path.display()));
            }
        }
    }
}

impl Letters {
    fn open(path: &Path) -> io::Result<Self> {
        let mut lines = open(path)?;
        lines.try_lock().map_err(|_| io::Error::other("another process writes to it"))?;
        let mut reasons = open(&with_suffix(path, ".reasons"))?;
        let (line, end) = whole_lines(&mut lines)?;
        let (_, reasons_end) = whole_lines(&mut reasons)?;
        Ok(Self { lines, reasons, ends: [end, reasons_end], line, known: BTreeMap::new() })
    }

    /// Adds the line, from `long` if given, unless it is there already, and the reason: both or nothing.
    fn keep(&mut self, letter: &DeadLetter<'_>, mut long: Option<&mut Long>) -> io::Result<()> {
        let result = self.write(letter, long.as_deref_mut());
        let files = [&self.lines, &self.reasons];
        match result {
            Ok((line, ends)) => {
                (self.line, self.ends) = (self.line.max(line), ends);
                if let Some(long) = long {
                    long.line = Some(line);
                } else {
                    self.known.insert(letter.offset, line);
                }
                if self.known.len() > REMEMBERED {
                    self.known.pop_first();
                }
                Ok(())
            }
            Err(error) => {
                for (file, end) in files.into_iter().zip(self.ends) {
                    file.set_len(end)?;
                }
                Err(error)
            }
        }
    }

    /// Gives the line's number and the new sizes.
    fn write(&self, letter: &DeadLetter<'_>, long: Option<&mut Long>) -> io::Result<(u64, [u64; 2])> {
        let [mut end, reasons_end] = self.ends;
        let known = match &long {
            Some(long) => long.line,
            None => self.known.get(&letter.offset).copied(),
        };
        let line = match known {
            Some(line) => line,
            None => {
                let mut file = &self.lines;
                file.seek(io::SeekFrom::Start(end))?;
                if let Some(long) = long {
                    let part =
                        long.file.as_mut().ok_or_else(|| io::Error::other("a long line does not fit"))?;
                    part.rewind()?;
                    end += io::copy(part, &mut file)?;
                    file.write_all(b"\n")?;
                } else {
                    file.write_all(&[letter.line, b"\n"].concat())?;
                    end += letter.line.len() as u64;
                }
                end += 1;
                self.line + 1
            }
        };
        let DeadLetter { sink, reason, .. } = letter;
        let mut text = serde_json::to_vec(&Reason { ts: Timestamp::now(), sink, line, reason })?;
        text.push(b'\n');
        self.reasons.write_all_at(&text, reasons_end)?;
        Ok((line, [end, reasons_end + text.len() as u64]))
    }
}

fn open(path: &Path) -> io::Result<File> {
    let file = File::options().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("not a regular file")) }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

/// A file without a name, next to `path`.
fn unnamed(path: &Path) -> io::Result<File> {
    let name = with_suffix(path, ".part");
    let file = open(&name)?;
    std::fs::remove_file(&name)?;
    Ok(file)
}

/// The number of lines and the size of a file, after a newline was added if the last line has none.
fn whole_lines(file: &mut File) -> io::Result<(u64, u64)> {
    let (mut lines, mut size, mut last) = (0, 0, b'\n');
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let length = match file.read(&mut chunk) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        let Some(end) = chunk[..length].last() else { break };
        last = *end;
        lines += memchr::memchr_iter(b'\n', &chunk[..length]).count() as u64;
        size += length as u64;
    }
    if last != b'\n' {
        file.write_all_at(b"\n", size)?;
        (lines, size) = (lines + 1, size + 1);
    }
    Ok((lines, size))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn letter<'a>(sink: &'static str, offset: u64, line: &'a [u8]) -> DeadLetter<'a> {
        DeadLetter { sink, offset, line, is_part: false, reason: "why" }
    }

    /// The sink and the line's number of each reason.
    fn reasons(path: &Path) -> Vec<(String, u64)> {
        let text = std::fs::read_to_string(with_suffix(path, ".reasons")).unwrap();
        let parse = |line| {
            let reason: Value = serde_json::from_str(line).unwrap();
            assert_eq!(reason["reason"], "why");
            assert!(reason["ts"].as_str().unwrap().parse::<Timestamp>().is_ok());
            (reason["sink"].as_str().unwrap().to_owned(), reason["line"].as_u64().unwrap())
        };
        text.lines().map(parse).collect()
    }

    #[test]
    fn a_line_that_two_sinks_refuse_is_kept_once_with_two_reasons() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead");
        // What a crash left.
        std::fs::write(&path, "before\ntorn").unwrap();
        let file = DeadLetterFile::open(&path).unwrap();
        assert!(DeadLetterFile::open(&path).is_err(), "one process per file");
        for letter in [letter("a", 3, b"x\xff"), letter("a", 9, b"y"), letter("b", 3, b"x\xff")] {
            assert!(file.keep(&letter));
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"before\ntorn\nx\xff\ny\n");
        assert_eq!(reasons(&path), [("a".into(), 3), ("a".into(), 4), ("b".into(), 3)]);
    }

    #[test]
    fn a_long_line_arrives_in_parts_among_other_letters() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dead");
        let file = DeadLetterFile::open(&path).unwrap();
        for offset in [5, 7] {
            file.part(offset, b"long");
            assert!(file.keep(&letter("a", offset - 3, b"short")));
            file.part(offset, b" line");
            for sink in ["a", "b"] {
                let letter = DeadLetter { is_part: true, ..letter(sink, offset, b"lo") };
                assert!(file.keep(&letter));
            }
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"short\nlong line\nshort\nlong line\n");
        assert_eq!(reasons(&path).iter().map(|(_, line)| *line).collect::<Vec<_>>(), [1, 2, 2, 3, 4, 4]);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }
}
