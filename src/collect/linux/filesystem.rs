//! Reads /proc/self/mountinfo and calls statvfs(3) for `filesystem` records.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::mountinfo::{Mount, worthwhile};
use super::prober::{Prober, Space};
use super::statvfs::caller;
use crate::collect::{Collector, Roots, Sample, Source, ratio, unreadable};
use crate::common::emit::Emitter;
use crate::record::{FILESYSTEM, Filesystem, Kind, Mode, Reason};

/// The time that a mount has to answer.
const PATIENCE: Duration = Duration::from_millis(500);

/// Reads the list of mounts when it changes, and queries each mount.
pub struct FilesystemCollector {
    list: Source,
    /// Becomes readable when the list changes.
    watch: Option<File>,
    mounts: Vec<Arc<Mount>>,
    prober: Prober,
    foreign: bool,
}

impl FilesystemCollector {
    /// Reads the mounts of this process; with a foreign root, reports none.
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
        if *foreign {
            return "nothing: file systems of a foreign root cannot be measured".into();
        }
        format!("mounts from {}; space by statvfs, at most {PATIENCE:?} each", list.path().display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if !sample.wants(&FILESYSTEM) {
            return Ok(());
        }
        if self.foreign {
            let detail = "file systems can only be measured on the machine that mounts them, not with --proc-root or --sys-root";
            return out.status(sample.ts, "statvfs", Reason::Unsupported, detail);
        }
        if changed(&mut self.watch, self.list.path()) {
            let Some(text) = self.list.read_or_report(sample.ts, out)? else {
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
                Some(Ok(Some(found))) if has_size(&found) => out.emit(sample.ts, &record(mount, &found))?,
                Some(Ok(_)) => {}
                Some(Err(error)) => unreadable(out, sample.ts, &source(mount), &error)?,
                None => {
                    let detail = format!("no answer within {PATIENCE:?}; no records until it answers");
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

/// Whether the list may have changed: poll(2) then reports an exceptional condition on an open mountinfo.
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

/// False where the size is 0, or the -1 of a file system that does not know it.
fn has_size(space: &Space) -> bool {
    space.blocks > 0 && space.blocks < u64::MAX
}

fn record<'a>(mount: &'a Mount, space: &Space) -> Filesystem<'a> {
    let bytes = |blocks: u64| blocks.saturating_mul(space.block);
    // Btrfs can report more available than free space.
    let available = space.available.min(space.free);
    let used = space.blocks.saturating_sub(space.free);
    // 0 where inodes are made as needed, -1 (of 32 or 64 bits) where the number is unknown.
    let known = |count: u64| count != u64::MAX && count != u64::from(u32::MAX);
    let counted = space.inodes > 0 && known(space.inodes) && known(space.inodes_free);
    let inodes = |count: u64| counted.then_some(count);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::linux::mountinfo::worthwhile;

    #[test]
    fn sizes_that_the_file_system_does_not_know_are_absent() {
        let mounts = worthwhile(b"1 0 0:40 / /mnt rw - fuse.test test rw");
        let space = Space { block: 512, blocks: 10, free: 4, available: 4, inodes: 8, inodes_free: 3 };
        let known = record(&mounts[0], &space);
        assert_eq!((known.inodes, known.inodes_used, known.inodes_free), (Some(8), Some(5), Some(3)));
        for inodes in [0, u64::from(u32::MAX), u64::MAX] {
            let record = record(&mounts[0], &Space { inodes, inodes_free: inodes, ..space });
            assert_eq!((record.inodes, record.inodes_used, record.inodes_free), (None, None, None));
            assert_eq!(record.used_bytes, 6 * 512);
        }
        assert!(has_size(&space));
        assert!(!has_size(&Space { blocks: 0, ..space }) && !has_size(&Space { blocks: u64::MAX, ..space }));
    }
}
