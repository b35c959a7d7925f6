//! Block devices: their names and numbers, which of them have requests, and which were asked for.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::table::MAX_DEVICES;
use crate::bail_usage;
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::Reason;

/// The bits of the minor number in a `dev_t` of the kernel.
const MINOR_BITS: u32 = 20;

/// The device with a given name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole disk with requests, by its number.
    Disk(u32),
    /// A partition of such a disk.
    Partition(u32),
    /// A device that passes bios on instead: device mapper, md, zram.
    WithoutRequests,
    /// There is no such device now.
    Absent,
}

/// The block devices in sysfs.
pub struct Devices {
    sys: PathBuf,
    names: HashMap<u32, String>,
}

impl Devices {
    /// Those below `sys`, which is /sys except in tests.
    pub fn new(sys: &Path) -> Self {
        Self { sys: sys.to_owned(), names: HashMap::new() }
    }

    /// The name of a device: its current name, else its last one, else `major:minor`.
    pub fn name(&mut self, number: u32) -> String {
        let (major, minor) = (number >> MINOR_BITS, number & ((1 << MINOR_BITS) - 1));
        let link = fs::read_link(self.sys.join(format!("dev/block/{major}:{minor}")));
        let now = link.ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        if let Some(now) = &now
            && self.names.get(&number) != Some(now)
        {
            // sysfs replaces a slash in a name by ! (cciss/c0d0).
            self.names.insert(number, now.replace('!', "/"));
        }
        self.names.get(&number).cloned().unwrap_or_else(|| format!("{major}:{minor}"))
    }

    /// Finds a device by its name, with or without `/dev/`.
    pub fn find(&self, name: &str) -> Found {
        let name = name.strip_prefix("/dev/").unwrap_or(name).replace('/', "!");
        let folder = self.sys.join("class/block").join(name);
        let Some(number) = fs::read_to_string(folder.join("dev")).ok().and_then(|text| number(&text)) else {
            return Found::Absent;
        };
        let partition = folder.join("partition").exists();
        // The entry is a link; the parent of a partition's real folder is its disk.
        let disk = fs::canonicalize(&folder).unwrap_or(folder);
        let disk = if partition { disk.parent().unwrap_or(&disk) } else { &disk };
        match (has_requests(disk), partition) {
            (false, _) => Found::WithoutRequests,
            (true, true) => Found::Partition(number),
            (true, false) => Found::Disk(number),
        }
    }

    /// The sysfs folders of whole disks with requests.
    fn disks(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.sys.join("block")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| has_requests(path))
    }

    /// The names of disks that have a size but no requests, sorted.
    pub fn without_requests(&self) -> Vec<String> {
        let used = |path: &Path| fs::read_to_string(path.join("size")).is_ok_and(|size| size.trim() != "0");
        let entries = fs::read_dir(self.sys.join("block")).into_iter().flatten().flatten();
        let unseen = entries.filter(|entry| !has_requests(&entry.path()) && used(&entry.path()));
        let mut names: Vec<_> =
            unseen.map(|entry| entry.file_name().to_string_lossy().replace('!', "/")).collect();
        names.sort();
        names
    }

    /// Looks at all disks with requests.
    pub fn survey(&self) -> Survey {
        let mut survey = Survey::default();
        for disk in self.disks() {
            let number = |path: PathBuf| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
            let scheduled = number(disk.join("queue/nr_requests")).unwrap_or(0);
            survey.disks += 1;
            survey.untimed |= number(disk.join("queue/iostats")) == Some(0);
            for queue in fs::read_dir(disk.join("mq")).into_iter().flatten().flatten() {
                survey.requests += scheduled + number(queue.path().join("nr_tags")).unwrap_or(0);
            }
        }
        survey
    }
}

/// What [`Devices::survey`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// The number of disks with requests.
    pub disks: usize,
    /// The number of requests that the kernel has allocated for them.
    pub requests: u64,
    /// A disk has `queue/iostats` off, so that its requests carry no times.
    pub untimed: bool,
}

const WITHOUT_REQUESTS: &str =
    "has no requests of its own (device mapper, md, zram …); measure the disks below it";
const LATE_PARTITION: &str =
    "is a partition that did not exist at the start; restart iolat, or use --partitions, to measure it";
const LATE_DISK: &str = "is a whole disk that did not exist at the start, while partitions are measured; restart iolat to measure it";

/// The devices of the option `--device`.
#[derive(Debug, Default)]
pub struct Wanted {
    all: bool,
    numbers: Vec<u32>,
    partitions: bool,
    absent: Vec<String>,
    without_requests: Vec<String>,
}

impl Wanted {
    /// Finds the devices; `partitions` are counted as devices if there is a partition among them.
    ///
    /// # Errors
    /// [`Usage`] for too many devices, and for a disk together with a partition unless `partitions`.
    pub fn find(names: &[String], partitions: bool, devices: &Devices) -> Result<Self> {
        let mut wanted = Self { all: names.is_empty(), partitions, ..Self::default() };
        let mut disks = false;
        for name in names {
            match devices.find(name) {
                Found::Disk(number) => {
                    disks = true;
                    wanted.numbers.push(number);
                }
                Found::Partition(number) => {
                    wanted.partitions = true;
                    wanted.numbers.push(number);
                }
                Found::WithoutRequests => wanted.without_requests.push(name.clone()),
                Found::Absent => wanted.absent.push(name.clone()),
            }
        }
        if disks && wanted.partitions && !partitions {
            bail_usage!(
                "--device: a disk and a partition cannot be measured together; add --partitions to count all I/O by \
                 partition"
            );
        }
        if names.len() > MAX_DEVICES {
            bail_usage!("--device: at most {MAX_DEVICES} devices");
        }
        Ok(wanted)
    }

    /// All devices, because none was asked for.
    pub fn all(&self) -> bool {
        self.all
    }

    /// The devices to count, at most [`MAX_DEVICES`].
    pub fn numbers(&self) -> &[u32] {
        &self.numbers
    }

    /// Whether partitions count as devices.
    pub fn partitions(&self) -> bool {
        self.partitions
    }

    /// Writes why devices cannot be measured; false if that is so for all of them.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn report(&self, emitter: &mut Emitter, now: Timestamp) -> Result<bool> {
        for name in &self.without_requests {
            emitter.status(now, name, Reason::Unsupported, WITHOUT_REQUESTS)?;
        }
        for name in &self.absent {
            let detail = "no such block device; it will be measured when it appears";
            emitter.status(now, name, Reason::Absent, detail)?;
        }
        Ok(self.without_requests.is_empty() || !self.numbers.is_empty() || !self.absent.is_empty())
    }

    /// Looks again for absent devices: whether some were found, and why others cannot be measured. Whether
    /// partitions count as devices cannot change any more.
    pub fn look_again(&mut self, devices: &Devices) -> (bool, Vec<(String, &'static str)>) {
        let before = self.numbers.len();
        let mut unsupported = Vec::new();
        for name in std::mem::take(&mut self.absent) {
            match (devices.find(&name), self.partitions) {
                (Found::Disk(number), false) | (Found::Partition(number), true) => self.numbers.push(number),
                (Found::Partition(_), false) => unsupported.push((name, LATE_PARTITION)),
                (Found::Disk(_), true) => unsupported.push((name, LATE_DISK)),
                (Found::WithoutRequests, _) => unsupported.push((name, WITHOUT_REQUESTS)),
                (Found::Absent, _) => self.absent.push(name),
            }
        }
        (self.numbers.len() > before, unsupported)
    }
}

/// Only devices with request queues (blk-mq) have this folder.
fn has_requests(disk: &Path) -> bool {
    disk.join("mq").is_dir()
}

/// `254:16` as a `dev_t` of the kernel.
fn number(text: &str) -> Option<u32> {
    let (major, minor) = text.trim().split_once(':')?;
    Some(major.parse::<u32>().ok()? << MINOR_BITS | minor.parse::<u32>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A disk with a partition, and a zram, as sysfs lays them out.
    fn tree() -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        let sys = root.path();
        let file = |path: &str, text: &str| {
            let path = sys.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        file("devices/nvme0n1/dev", "259:0\n");
        file("devices/nvme0n1/queue/iostats", "0\n");
        file("devices/nvme0n1/queue/nr_requests", "256\n");
        file("devices/nvme0n1/mq/0/nr_tags", "1023\n");
        file("devices/nvme0n1/mq/1/nr_tags", "1023\n");
        file("devices/nvme0n1/nvme0n1p2/dev", "259:2\n");
        file("devices/nvme0n1/nvme0n1p2/partition", "2\n");
        file("devices/zram0/dev", "253:0\n");
        file("devices/zram0/size", "2097152\n");
        file("devices/nvme0n1/size", "2097152\n");
        file("devices/c!d/dev", "104:5\n");
        for folder in ["class/block", "dev/block", "block"] {
            fs::create_dir_all(sys.join(folder)).unwrap();
        }
        for (number, path) in
            [("259:0", "nvme0n1"), ("259:2", "nvme0n1/nvme0n1p2"), ("253:0", "zram0"), ("104:5", "c!d")]
        {
            let name = path.rsplit('/').next().unwrap();
            symlink(format!("../../devices/{path}"), sys.join("class/block").join(name)).unwrap();
            symlink(format!("../../devices/{path}"), sys.join("dev/block").join(number)).unwrap();
            if !path.contains('/') {
                symlink(format!("../devices/{path}"), sys.join("block").join(name)).unwrap();
            }
        }
        root
    }

    #[test]
    fn by_name_and_by_number() {
        let root = tree();
        let mut devices = Devices::new(root.path());
        assert_eq!(devices.find("nvme0n1"), Found::Disk(259 << 20));
        assert_eq!(devices.find("/dev/nvme0n1p2"), Found::Partition(259 << 20 | 2));
        assert_eq!(devices.find("zram0"), Found::WithoutRequests);
        assert_eq!(devices.find("sdz"), Found::Absent);
        assert_eq!(devices.name(259 << 20 | 2), "nvme0n1p2");
        assert_eq!(devices.name(104 << 20 | 5), "c/d");
        assert_eq!(devices.name(8 << 20 | 16), "8:16");
        fs::remove_file(root.path().join("dev/block/253:0")).unwrap();
        assert_eq!(devices.name(253 << 20), "253:0", "never seen");
        fs::remove_file(root.path().join("dev/block/259:2")).unwrap();
        assert_eq!(devices.name(259 << 20 | 2), "nvme0n1p2", "gone, by its last name");
    }

    #[test]
    fn surveys_what_has_requests() {
        let root = tree();
        let expected = Survey { disks: 1, requests: 2 * (256 + 1023), untimed: true };
        assert_eq!(Devices::new(root.path()).survey(), expected);
        assert_eq!(Devices::new(root.path()).without_requests(), ["zram0"]);
        fs::write(root.path().join("devices/zram0/size"), "0\n").unwrap();
        assert!(Devices::new(root.path()).without_requests().is_empty(), "of size 0");
    }
}
