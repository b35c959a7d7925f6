//! The processes of `--pid`: checked before anything is loaded, and watched until they end.

use std::fmt::Display;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open, test_kill_process};

use super::task::{TaskFilter, in_pid_namespace};
use crate::bail_usage;

/// The processes that have not ended.
pub struct PidWatch {
    left: Vec<OwnedFd>,
    /// True with --pid, where the kernel has pidfds.
    watched: bool,
}

impl PidWatch {
    /// Checks the filter and that the processes exist, and opens a descriptor of each.
    ///
    /// # Errors
    /// [`Usage`] for an ID that is not a process; another error in a PID namespace, because eBPF programs see the
    /// kernel's process IDs.
    pub fn find(filter: &TaskFilter) -> Result<Self> {
        filter.check()?;
        if !filter.pid.is_empty() && in_pid_namespace() {
            bail!(
                "--pid: in a PID namespace (a container) process numbers differ from those that the kernel traces by; \
                 use --comm or --cgroup, or run the container with --pid=host"
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

    /// Whether all processes have ended. Their numbers may be reused from now on.
    pub fn ended(&mut self) -> bool {
        let at_once = Timespec { tv_sec: 0, tv_nsec: 0 };
        self.left.retain(|process| {
            !matches!(poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&at_once)), Ok(1))
        });
        self.watched && self.left.is_empty()
    }
}

/// A descriptor of the process; `None` if the kernel does not support that.
fn check(number: u32) -> Result<Option<OwnedFd>> {
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw).context("not a process number")?;
    if test_kill_process(pid) == Err(Errno::SRCH) {
        bail_usage!("--pid {number}: there is no such process");
    }
    // Unreadable with hidepid: then the kernel's filter decides.
    let process = status(number, "Tgid:");
    if let Some(process) = process.filter(|process| *process != number.to_string()) {
        bail_usage!("--pid {number}: not a process but a thread of process {process}");
    }
    Ok(pidfd_open(pid, PidfdFlags::empty()).ok())
}

/// A field of /proc/PID/status.
fn status(process: impl Display, field: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    text.lines().find_map(|line| line.strip_prefix(field)).map(|value| value.trim().to_owned())
}
