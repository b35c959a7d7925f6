//! The processes that `--pid` names: looked for before anything is loaded, and watched until they end.

use std::fmt::Display;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use super::task::TaskFilter;
use crate::common::program::Usage;

/// /proc/self/ns/pid of the outermost PID namespace (PROC_PID_INIT_INO of include/linux/proc_ns.h).
const OUTERMOST: &str = "pid:[4026531836]";

/// Those that have not ended.
pub struct PidWatch {
    left: Vec<OwnedFd>,
    /// There were some, and we know when they end.
    watched: bool,
}

impl PidWatch {
    /// Checks that they exist, and opens a descriptor of each.
    ///
    /// # Errors
    /// [`Usage`] for what is no process; in a PID namespace, where the kernel's numbers are not ours.
    pub fn find(filter: &TaskFilter) -> Result<Self> {
        filter.check()?;
        let namespace = std::fs::read_link("/proc/self/ns/pid");
        if !filter.pid.is_empty() && namespace.is_ok_and(|found| found != Path::new(OUTERMOST)) {
            bail!(
                "--pid: this is a PID namespace (a container), whose numbers are not those that the kernel traces by; \
                 use --comm or --cgroup, or give the container the host's (--pid=host)"
            );
        }
        let found = filter.pid.iter().map(|pid| check(*pid));
        let found = found.collect::<Result<Vec<_>>>()?;
        let watched = !found.is_empty() && found.iter().all(Option::is_some);
        Ok(Self { left: found.into_iter().flatten().collect(), watched })
    }

    /// Readable when they end.
    pub fn fds(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.left.iter().map(|process| process.as_fd())
    }

    /// Whether there were some, and none is left: another process may have their numbers from now on.
    pub fn ended(&mut self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.left.retain(|process| {
            !matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&at_once)), Ok(1))
        });
        self.watched && self.left.is_empty()
    }
}

/// A descriptor of the process; `None` where the kernel gives none.
fn check(number: u32) -> Result<Option<OwnedFd>> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw).context("no number of a process")?;
    if test_kill_process(pid) == Err(Errno::SRCH) {
        return Err(Usage(format!("--pid {number}: there is no such process")).into());
    }
    // What cannot be read (hidepid) is left to the kernel.
    let process = status(number, "Tgid:");
    if let Some(process) = process.filter(|process| *process != number.to_string()) {
        return Err(Usage(format!("--pid {number}: a thread of the process {process}")).into());
    }
    Ok(pidfd_open(pid, PidfdFlags::empty()).ok())
}

/// A field of /proc/PID/status.
fn status(process: impl Display, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned())
}
