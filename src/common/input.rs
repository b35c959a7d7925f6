//! `--input FILE|-`: the output of another program, read in chunks until it ends or the program is asked to stop.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};

use crate::common::stop::Stop;

/// The size of a chunk.
const CHUNK: usize = 64 * 1024;

/// A file, a pipe, or the output of a child.
pub struct Input {
    fd: OwnedFd,
    stop: Stop,
    buffer: Vec<u8>,
}

impl Input {
    /// `-` is stdin.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub fn open(path: &Path, stop: &Stop) -> Result<Self> {
        let fd = if path == Path::new("-") {
            rustix::stdio::stdin().try_clone_to_owned().context("cannot read stdin")?
        } else {
            File::open(path).with_context(|| format!("cannot open {}", path.display()))?.into()
        };
        Ok(Self::new(fd, stop))
    }

    /// Takes an open descriptor.
    pub fn new(fd: OwnedFd, stop: &Stop) -> Self {
        Self { fd, stop: stop.clone(), buffer: vec![0; CHUNK] }
    }

    /// Whether a read would return without blocking.
    pub fn ready(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    /// The next chunk; `None` at the end, and when the program is asked to stop.
    ///
    /// # Errors
    /// If reading fails.
    pub fn piece(&mut self) -> io::Result<Option<&[u8]>> {
        loop {
            let wake = self.stop.fd();
            let mut fds = [PollFd::new(&self.fd, PollFlags::IN), PollFd::new(&wake, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) if self.stop.asked() => return Ok(None),
                Ok(_) if fds[0].revents().is_empty() => {}
                Ok(_) => break,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        match rustix::io::read(&self.fd, &mut self.buffer[..]) {
            Ok(0) => Ok(None),
            Ok(length) => Ok(Some(&self.buffer[..length])),
            Err(error) => Err(error.into()),
        }
    }
}
