//! Tasks: the options that filter them, and the description that `bpf/task.h` gives of one.

use std::borrow::Cow;
use std::fmt::Display;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::Result;
use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use nix::unistd::User;

use crate::collect::cgroup::folder;
use crate::common::program::Usage;

/// The type of the cgroup v2 file system (include/uapi/linux/magic.h).
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;

/// The longest name of a task, with its terminating zero.
pub const COMM_LEN: usize = 16;

/// A task as `bpf/task.h` describes it: made from the `task_id` of a generated skeleton.
#[derive(Clone, Copy, Debug, Default)]
pub struct TaskId {
    /// The id of its cgroup (v2): the inode number of the folder.
    pub cgroup_id: u64,
    /// The process.
    pub pid: u32,
    /// The thread.
    pub tid: u32,
    /// The real user id.
    pub uid: u32,
    /// The thread's name, padded with zeros.
    pub comm: [u8; COMM_LEN],
}

impl TaskId {
    /// The thread's name, with U+FFFD for what is not UTF-8.
    pub fn name(&self) -> Cow<'_, str> {
        comm(&self.comm)
    }

    /// The same as an owned string.
    pub fn comm(&self) -> String {
        self.name().into_owned()
    }
}

/// A task's name as text, with U+FFFD for what is not UTF-8.
pub fn comm(padded: &[u8; COMM_LEN]) -> Cow<'_, str> {
    let end = padded.iter().position(|byte| *byte == 0).unwrap_or(COMM_LEN);
    String::from_utf8_lossy(&padded[..end])
}

/// Whether this is a PID namespace, as in a container: process numbers here are not those that the kernel traces by.
pub fn in_pid_namespace() -> bool {
    /// `PROC_PID_INIT_INO` of include/linux/proc_ns.h.
    const OUTERMOST: &str = "pid:[4026531836]";
    std::fs::read_link("/proc/self/ns/pid").is_ok_and(|found| found != Path::new(OUTERMOST))
}

/// The most processes that --pid takes.
pub const MAX_PIDS: usize = 16;

/// The options that filter tasks. A task must match all of them.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Filters")]
pub struct TaskFilter {
    /// Trace only this process and its threads, and end when it has ended; can be repeated
    #[arg(long, value_name = "PID", value_delimiter = ',', value_parser = process_number)]
    pub pid: Vec<u32>,

    /// Trace only threads of this name, which the kernel cuts to 15 bytes
    #[arg(long, value_name = "NAME", value_parser = comm_name)]
    pub comm: Option<String>,

    /// Trace only this user, a name or number
    #[arg(long, value_name = "USER", value_parser = user_number)]
    pub uid: Option<u32>,

    /// Trace only this cgroup (v2) and those below it: a folder, a path such as /system.slice, or an id
    #[arg(long, value_name = "PATH", value_parser = NonEmptyStringValueParser::new())]
    pub cgroup: Option<String>,

    /// Trace this program and the processes that read its output, too
    #[arg(long)]
    pub include_self: bool,
}

/// Refuses names that no task can have: they would silently match nothing.
fn comm_name(text: &str) -> Result<String, String> {
    match text.len() {
        0 => Err("a task's name is not empty".into()),
        COMM_LEN.. => Err(format!("the kernel cuts names to {} bytes", COMM_LEN - 1)),
        _ => Ok(text.to_owned()),
    }
}

/// A process number, from 1.
fn process_number(text: &str) -> Result<u32, String> {
    let number = text.parse().ok().filter(|number| (1..=i32::MAX as u32).contains(number));
    number.ok_or_else(|| "not a process number; `pgrep NAME` finds it".into())
}

fn user_number(text: &str) -> Result<u32, String> {
    if let Ok(number) = text.parse() {
        return Ok(number);
    }
    match User::from_name(text) {
        Ok(user) => user.map(|user| user.uid.as_raw()).ok_or_else(|| "there is no such user".into()),
        Err(error) => Err(format!("cannot look up this user: {error}")),
    }
}

impl TaskFilter {
    /// Checks the filters before anything is loaded.
    ///
    /// # Errors
    /// [`Usage`], as from [`Self::pids`] and [`Self::cgroup_id`].
    pub fn check(&self) -> Result<()> {
        self.pids()?;
        self.cgroup_id().map(drop)
    }

    /// Whether any filter is given.
    pub fn is_on(&self) -> bool {
        !self.pid.is_empty() || self.comm.is_some() || self.uid.is_some() || self.cgroup.is_some()
    }

    /// The processes, padded with zeros, for `wanted_pids`.
    ///
    /// # Errors
    /// [`Usage`] if there are more than [`MAX_PIDS`].
    pub fn pids(&self) -> Result<[u32; MAX_PIDS]> {
        let mut padded = [0; MAX_PIDS];
        let filled = padded.get_mut(..self.pid.len());
        filled
            .ok_or_else(|| Usage(format!("--pid: at most {MAX_PIDS} processes")))?
            .copy_from_slice(&self.pid);
        Ok(padded)
    }

    /// The name as two words, padded with zeros as in the kernel.
    pub fn comm_words(&self) -> [u64; 2] {
        let mut padded = [0u8; COMM_LEN];
        let name = self.comm.as_deref().unwrap_or_default().as_bytes();
        let len = name.len().min(COMM_LEN);
        padded[..len].copy_from_slice(&name[..len]);
        let (low, high) = padded.split_at(8);
        [low, high]
            .map(|half| half.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)))
            .map(u64::from_le)
    }

    /// The id of the cgroup; 0 without --cgroup.
    ///
    /// # Errors
    /// [`Usage`] if there is no such folder, or it is not in the cgroup v2 file system.
    pub fn cgroup_id(&self) -> Result<u64> {
        let Some(path) = &self.cgroup else { return Ok(0) };
        let wrong = |what: &dyn Display| Usage(format!("--cgroup {path}: {what}"));
        if let Ok(id) = path.parse() {
            return if id == 0 { Err(wrong(&"no cgroup has that id").into()) } else { Ok(id) };
        }
        let folder = folder(path, Path::new("/sys"))?;
        let system = rustix::fs::statfs(&folder).map_err(|error| wrong(&error))?;
        if system.f_type != CGROUP2_MAGIC {
            return Err(wrong(&"not a cgroup of version 2; `mount -t cgroup2` lists where those are").into());
        }
        Ok(std::fs::metadata(&folder).map_err(|error| wrong(&error))?.ino())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_padded() {
        let filter = |name: &str| TaskFilter { comm: Some(name.into()), ..TaskFilter::default() };
        let bytes = |name: &str| filter(name).comm_words().map(u64::to_ne_bytes).concat();
        assert_eq!(bytes("fio"), *b"fio\0\0\0\0\0\0\0\0\0\0\0\0\0");
        assert_eq!(bytes("fifteen-letters"), *b"fifteen-letters\0");
        assert!(comm_name("fifteen-letters").is_ok() && comm_name("").is_err());
        assert!(comm_name("sixteen-letters-").is_err() && comm_name("nine-äöü-two").is_ok());
    }

    #[test]
    fn so_many_processes() {
        let filter = |count| TaskFilter { pid: (1..=count).collect(), ..TaskFilter::default() };
        assert_eq!(filter(2).pids().unwrap()[..3], [1, 2, 0]);
        assert_eq!(filter(16).pids().unwrap()[15], 16);
        assert!(filter(17).pids().unwrap_err().is::<Usage>());
    }

    #[test]
    fn comm_may_hold_any_byte() {
        let mut task = TaskId::default();
        task.comm[..4].copy_from_slice(b"a\xffb\0");
        assert_eq!(task.comm(), "a\u{fffd}b");
        task.comm = [b'x'; COMM_LEN];
        assert_eq!(task.comm(), "x".repeat(COMM_LEN));
    }
}
