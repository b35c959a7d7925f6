//! Reads mounted volumes into `filesystem` records.
//!
//! A thread queries them, so that a file server that does not answer blocks only
//! that thread. Until it answers there are no `filesystem` records.

use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

use ::sysinfo::{DiskRefreshKind, Disks};
use anyhow::Result;

use crate::collect::{Collector, Sample, ratio, unreadable};
use crate::common::emit::Emitter;
use crate::record::{FILESYSTEM, Filesystem, Kind, Mode, Reason};

/// How long to wait for the system to list all volumes.
const PATIENCE: Duration = Duration::from_secs(1);

/// The collector of volumes.
pub struct VolumesCollector {
    querier: Option<Querier>,
    /// The thread has not yet answered the last query.
    waiting: bool,
}

struct Querier {
    queries: SyncSender<()>,
    answers: Receiver<Vec<Volume>>,
}

/// One volume.
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
    /// Queries nothing yet.
    pub fn new() -> Self {
        Self { querier: None, waiting: false }
    }

    /// The volumes, or `None` if there is no answer in time.
    fn volumes(&mut self) -> std::io::Result<Option<Vec<Volume>>> {
        let querier = match &self.querier {
            Some(querier) => querier,
            None => self.querier.insert(Querier::start()?),
        };
        if !self.waiting {
            // Does not block: the channel has room for one query, and none is pending.
            let _ = querier.queries.send(());
        }
        let answer = querier.answers.recv_timeout(if self.waiting { Duration::ZERO } else { PATIENCE });
        self.waiting = matches!(answer, Err(RecvTimeoutError::Timeout));
        if matches!(answer, Err(RecvTimeoutError::Disconnected)) {
            self.querier = None;
        }
        Ok(answer.ok())
    }
}

impl Querier {
    fn start() -> std::io::Result<Self> {
        let (queries, pending) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        std::thread::Builder::new().name("volumes".into()).spawn(move || {
            let mut disks = Disks::new();
            for () in pending {
                disks.refresh_specifics(true, DiskRefreshKind::nothing().with_storage());
                if answer.send(volumes(&disks)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { queries, answers })
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

/// macOS reserves nothing for root, so all free space is available.
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
                let detail = "a mount does not answer; no filesystem records until it does";
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
    fn sizes_equal_statvfs() {
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
    fn only_one_sample_waits_for_a_volume_that_hangs() {
        let (queries, pending) = sync_channel(1);
        let (answer, answers) = sync_channel(1);
        let mut collector = VolumesCollector { querier: Some(Querier { queries, answers }), waiting: false };
        assert!(collector.volumes().unwrap().is_none());
        let begin = std::time::Instant::now();
        for _ in 0..100 {
            assert!(collector.volumes().unwrap().is_none());
        }
        assert!(begin.elapsed() < PATIENCE, "every sample waits");
        assert_eq!(pending.try_iter().count(), 1);
        answer.send(Vec::new()).unwrap();
        assert!(collector.volumes().unwrap().is_some());
    }
}
