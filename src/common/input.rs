//! `--input FILE|-`: what another program printed, in pieces as it comes, until its end or until we are to stop.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context as _, Result};
use rustix::event::{PollFd, PollFlags, poll};

use crate::common::stop::Stop;

/// How much is read at once.
const PIECE: usize = 64 * 1024;

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

    /// What is already open.
    pub fn new(fd: OwnedFd, stop: &Stop) -> Self {
        Self { fd, stop: stop.clone(), buffer: vec![0; PIECE] }
    }

    /// Whether more can be read at once, or the end has come.
    pub fn ready(&self) -> bool {
        let mut fds = [PollFd::new(&self.fd, PollFlags::IN)];
        let at_once = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        poll(&mut fds, Some(&at_once)).is_ok_and(|ready| ready > 0)
    }

    /// The next piece; `None` at the end, and when the program is to stop.
    ///
    /// # Errors
    /// What the system says of reading.
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
