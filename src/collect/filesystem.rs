//! /proc/self/mountinfo and statvfs(3) → `filesystem`.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::mountinfo::{Mount, worthwhile};
use super::prober::{Prober, Space};
use super::statvfs::caller;
use super::{Collector, Roots, Sample, Source, ratio, unreadable};
use crate::common::emit::Emitter;
use crate::record::{FILESYSTEM, Filesystem, Kind, Mode, Reason};

/// How long a mount may take to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads the list of mounts when it changes, and asks each.
pub struct FilesystemCollector {
    list: Source,
    /// Says when the list has changed.
    watch: Option<File>,
    mounts: Vec<Arc<Mount>>,
    prober: Prober,
    foreign: bool,
}

impl FilesystemCollector {
    /// Of this machine; nothing of another one's.
    pub fn new(roots: &Roots) -> Self {
        Self {
            list: Source::new(roots.proc.join("self/mountinfo")),
            watch: None,
            mounts: Vec::new(),
            prober: Prober::new(caller, PATIENCE),
            foreign: roots.foreign,
        }
    }
}

impl Collector for FilesystemCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&FILESYSTEM]
    }

    fn method(&self) -> String {
        let Self { list, foreign, .. } = self;
        let space =
            if *foreign { "nothing, as it is another machine's" } else { "statvfs, half a second each" };
        format!("mounts from {}; their space by {space}", list.path().display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if !sample.wants(&FILESYSTEM) {
            return Ok(());
        }
        if self.foreign {
            let detail = "file systems are measured where they are mounted, not below another --proc-root";
            return out.status(sample.ts, "statvfs", Reason::Unsupported, detail);
        }
        if changed(&mut self.watch, self.list.path()) {
            let Some(text) = self.list.read_or_tell(sample.ts, out)? else {
                self.watch = None;
                return Ok(());
            };
            self.mounts = worthwhile(text);
        }
        let answers = match self.prober.ask(&self.mounts) {
            Ok(answers) => answers,
            Err(error) => return unreadable(out, sample.ts, "statvfs", &error),
        };
        for (mount, answer) in self.mounts.iter().zip(answers) {
            match answer {
                Some(Ok(Some(found))) if found.blocks > 0 => out.emit(sample.ts, &record(mount, &found))?,
                Some(Ok(_)) => {}
                Some(Err(error)) => unreadable(out, sample.ts, &source(mount), &error)?,
                None => {
                    let detail = format!("no answer within {PATIENCE:?}; left out until it answers");
                    out.status(sample.ts, &source(mount), Reason::Unsupported, &detail)?;
                }
            }
        }
        Ok(())
    }
}

fn source(mount: &Mount) -> String {
    format!("statvfs {}", mount.mountpoint)
}

/// Whether the list may have changed: the kernel marks an open mountinfo as exceptional then.
fn changed(watch: &mut Option<File>, path: &Path) -> bool {
    let Some(file) = watch else {
        *watch = File::open(path).ok();
        return true;
    };
    let mut fds = [PollFd::new(file, PollFlags::PRI)];
    match poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
        Ok(_) => !fds[0].revents().is_empty(),
        Err(_) => true,
    }
}

fn record<'a>(mount: &'a Mount, space: &Space) -> Filesystem<'a> {
    let bytes = |blocks: u64| blocks.saturating_mul(space.block);
    // Btrfs can say that more is available than is free.
    let available = space.available.min(space.free);
    let used = space.blocks.saturating_sub(space.free);
    let inodes = |count: u64| (space.inodes > 0).then_some(count);
    Filesystem {
        mountpoint: &mount.mountpoint,
        device: &mount.device,
        fs_type: &mount.fs_type,
        mode: if mount.read_only { Mode::Ro } else { Mode::Rw },
        total_bytes: bytes(space.blocks),
        used_bytes: bytes(used),
        free_bytes: bytes(space.free),
        available_bytes: bytes(available),
        reserved_bytes: bytes(space.free - available),
        utilization_ratio: ratio(used, used.saturating_add(available)),
        inodes: inodes(space.inodes),
        inodes_used: inodes(space.inodes.saturating_sub(space.inodes_free)),
        inodes_free: inodes(space.inodes_free),
    }
}
