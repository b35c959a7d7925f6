//! `tele-ship check`: tries destinations step by step, and prints what works and how to fix what does not.

use std::io::{self, Write};
use std::path::Path;

use bytesize::ByteSize;

#[cfg(feature = "http")]
use crate::http::probe::probe;
#[cfg(feature = "http")]
use crate::http::{Client, Trust, Url};

/// The step `room` fails if less is free than this.
const MIN_ROOM: u64 = 64 << 20;

/// Prints a line for each step as soon as its outcome is known, and counts them.
pub struct Report<'a> {
    out: &'a mut dyn Write,
    written: io::Result<()>,
    steps: u32,
    failed: u32,
}

impl<'a> Report<'a> {
    /// No steps yet.
    pub fn new(out: &'a mut dyn Write) -> Self {
        Self { out, written: Ok(()), steps: 0, failed: 0 }
    }

    /// Prints what a step found (empty for nothing), or what went wrong. True if it went well.
    pub fn step(&mut self, destination: &str, name: &str, outcome: Result<String, String>) -> bool {
        let (is_ok, text) = match outcome {
            Ok(found) if found.is_empty() => (true, "ok".to_owned()),
            Ok(found) => (true, format!("ok ({found})")),
            Err(why) => (false, format!("failed: {why}")),
        };
        self.steps += 1;
        self.failed += u32::from(!is_ok);
        if self.written.is_ok() {
            self.written = writeln!(self.out, "{destination}: {name} {text}").and_then(|()| self.out.flush());
        }
        is_ok
    }

    /// Resolves, connects, and verifies certificates. True if all went well.
    #[cfg(feature = "http")]
    pub fn reach(&mut self, destination: &str, client: &Client, url: &Url, tls: Option<&Trust>) -> bool {
        probe(client, url, tls, &mut |name, outcome| self.step(destination, name, outcome))
    }

    /// The number of steps, and how many failed.
    ///
    /// # Errors
    /// If a line could not be written.
    pub fn end(self) -> io::Result<(u32, u32)> {
        self.written.map(|()| (self.steps, self.failed))
    }
}

/// How much is free on the file system of `folder`, or why that is too little.
pub fn room(folder: &Path) -> Result<String, String> {
    let free = rustix::fs::statvfs(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let bytes = free.f_bavail.saturating_mul(free.f_frsize);
    if bytes < MIN_ROOM {
        return Err(format!("only {} are free; make room, or use another file system", ByteSize(bytes)));
    }
    Ok(format!("{} free", ByteSize(bytes)))
}

/// Checks the folder of `--spool`, without changing it.
pub fn spool(folder: &Path, report: &mut Report<'_>) {
    let name = format!("spool {}", folder.display());
    let opened = match folder.is_dir() {
        true => lock(folder).map(|()| String::new()),
        false => creatable(folder),
    };
    let exists = if folder.is_dir() { folder } else { parent(folder) };
    if report.step(&name, "open", opened) {
        report.step(&name, "room", room(exists));
    }
}

fn lock(folder: &Path) -> Result<(), String> {
    writable(folder)?;
    let lock = match std::fs::File::open(folder.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    match lock.try_lock_shared() {
        Ok(()) => Ok(()),
        Err(std::fs::TryLockError::WouldBlock) => {
            Err("another tele-ship uses it; end that one, or give another directory".to_owned())
        }
        Err(std::fs::TryLockError::Error(error)) => Err(error.to_string()),
    }
}

/// Whether a file or folder can be created.
pub fn creatable(path: &Path) -> Result<String, String> {
    writable(parent(path)).map(|()| "will be created".to_owned())
}

fn writable(folder: &Path) -> Result<(), String> {
    use rustix::fs::{Access, access};
    let found = access(folder, Access::WRITE_OK | Access::EXEC_OK);
    found.map_err(|error| format!("cannot write to {}: {error}", folder.display()))
}

/// The folder that a path is in.
pub fn parent(path: &Path) -> &Path {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}
