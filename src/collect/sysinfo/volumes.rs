//! Mounted volumes → `filesystem`.
//!
//! A thread asks for them, so that a file server that does not answer holds up
//! that thread only: until it answers there are no `filesystem` records.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ::sysinfo::{DiskRefreshKind, Disks};
use anyhow::Result;

use crate::collect::{Collector, Sample, ratio, unreadable};
use crate::common::emit::Emitter;
use crate::record::{FILESYSTEM, Filesystem, Kind, Mode, Reason};

/// How long the system may take to tell about all volumes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Asks for the volumes.
pub struct VolumesCollector {
    asker: Option<Asker>,
    /// The thread has been asked and has not answered.
    waiting: bool,
}

struct Asker {
    ask: SyncSender<()>,
    answers: Receiver<Vec<Volume>>,
}

/// What is known of one.
#[derive(Clone, Debug)]
struct Volume {
    mountpoint: String,
    device: String,
    fs_type: String,
    read_only: bool,
    total: u64,
    available: u64,
}

impl VolumesCollector {
    /// Nothing is asked yet.
    pub fn new() -> Self {
        Self { asker: None, waiting: false }
    }

    /// The volumes, or `None` if they are not told in time.
    fn volumes(&mut self) -> std::io::Result<Option<Vec<Volume>>> {
        let asker = match &self.asker {
            Some(asker) => asker,
            None => self.asker.insert(Asker::start()?),
        };
        if !self.waiting {
            // It takes one question at a time, so that this waits for nothing.
            let _ = asker.ask.send(());
        }
        let answer = asker.answers.recv_timeout(if self.waiting { Duration::ZERO } else { PATIENCE });
        self.waiting = matches!(answer, Err(RecvTimeoutError::Timeout));
        if matches!(answer, Err(RecvTimeoutError::Disconnected)) {
            self.asker = None;
        }
        Ok(answer.ok())
    }
}

impl Asker {
    fn start() -> std::io::Result<Self> {
        let (ask, questions) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        std::thread::Builder::new().name("volumes".into()).spawn(move || {
            let mut disks = Disks::new();
            for () in questions {
                disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
                if answer.send(volumes(&disks)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { ask, answers })
    }
}

fn volumes(disks: &Disks) -> Vec<Volume> {
    let known = disks.list().iter().map(|disk| Volume {
        mountpoint: disk.mount_point().to_string_lossy().into_owned(),
        device: disk.name().to_string_lossy().into_owned(),
        fs_type: disk.file_system().to_string_lossy().into_owned(),
        read_only: disk.is_read_only(),
        total: disk.total_space(),
        available: disk.available_space(),
    });
    known.filter(|volume| volume.total > 0).collect()
}

/// What is available is all that the system tells to be free: nothing is kept for root there.
fn record(volume: &Volume) -> Filesystem<'_> {
    let available = volume.available.min(volume.total);
    let used = volume.total - available;
    Filesystem {
        mountpoint: &volume.mountpoint,
        device: &volume.device,
        fs_type: &volume.fs_type,
        mode: if volume.read_only { Mode::Ro } else { Mode::Rw },
        total_bytes: volume.total,
        used_bytes: used,
        free_bytes: available,
        available_bytes: available,
        reserved_bytes: 0,
        utilization_ratio: ratio(used, volume.total),
        inodes: None,
        inodes_used: None,
        inodes_free: None,
    }
}

impl Collector for VolumesCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&FILESYSTEM]
    }

    fn method(&self) -> String {
        "getmntinfo and statfs, by the sysinfo crate".into()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if !sample.wants(&FILESYSTEM) {
            return Ok(());
        }
        match self.volumes() {
            Ok(Some(volumes)) => volumes.iter().try_for_each(|volume| out.emit(sample.ts, &record(volume))),
            Ok(None) => {
                let detail = "a mount does not answer; all file systems are left out until it does";
                out.status(sample.ts, "volumes", Reason::Unsupported, detail)
            }
            Err(error) => unreadable(out, sample.ts, "volumes", &error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn volumes_are_as_large_as_statvfs_says() {
        let mut collector = VolumesCollector::new();
        collector.volumes().unwrap();
        let Some(volumes) = collector.volumes().unwrap() else { panic!("no answer") };
        for volume in &volumes {
            let found = rustix::fs::statvfs(volume.mountpoint.as_str()).unwrap();
            let record = record(volume);
            assert_eq!(record.total_bytes, found.f_blocks * found.f_frsize, "{volume:?}");
            assert_eq!(record.used_bytes + record.free_bytes, record.total_bytes);
        }
    }

    #[test]
    fn one_that_hangs_is_not_waited_for_twice() {
        let (ask, questions) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let mut collector = VolumesCollector { asker: Some(Asker { ask, answers }), waiting: false };
        assert!(collector.volumes().unwrap().is_none());
        let begin = std::time::Instant::now();
        for _ in 0..100 {
            assert!(collector.volumes().unwrap().is_none());
        }
        assert!(begin.elapsed() < PATIENCE, "it is waited for at every sample");
        assert_eq!(questions.try_iter().count(), 1);
        answer.send(Vec::new()).unwrap();
        assert!(collector.volumes().unwrap().is_some());
    }
}
