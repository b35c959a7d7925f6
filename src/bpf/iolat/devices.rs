//! Block devices: from number to name and back, and which of them have requests.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The bits of the minor number in the kernel's own form of a device number.
const MINOR_BITS: u32 = 20;

/// What a device asked for by name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// A whole disk with requests, and its number.
    Disk(u32),
    /// A partition of one.
    Partition(u32),
    /// A device that hands bios on instead: device mapper, md, zram.
    WithoutRequests,
    /// No such device, for now.
    Absent,
}

/// The devices that sysfs shows.
pub struct Devices {
    sys: PathBuf,
    names: HashMap<u32, String>,
}

impl Devices {
    /// Those below `sys`, which is /sys but in tests.
    pub fn new(sys: &Path) -> Self {
        Self { sys: sys.to_owned(), names: HashMap::new() }
    }

    /// The name of a device: the one it has now, else the last it had, else `major:minor`.
    pub fn name(&mut self, number: u32) -> String {
        let (major, minor) = (number >> MINOR_BITS, number & ((1 << MINOR_BITS) - 1));
        let link = fs::read_link(self.sys.join(format!("dev/block/{major}:{minor}")));
        let now = link.ok().and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
        if let Some(now) = &now
            && self.names.get(&number) != Some(now)
        {
            // sysfs has ! where a name has a slash (cciss/c0d0).
            self.names.insert(number, now.replace('!', "/"));
        }
        self.names.get(&number).cloned().unwrap_or_else(|| format!("{major}:{minor}"))
    }

    /// Looks a device up; a leading `/dev/` is taken off.
    pub fn find(&self, name: &str) -> Found {
        let name = name.strip_prefix("/dev/").unwrap_or(name).replace('/', "!");
        let folder = self.sys.join("class/block").join(name);
        let Some(number) = fs::read_to_string(folder.join("dev")).ok().and_then(|text| number(&text)) else {
            return Found::Absent;
        };
        let partition = folder.join("partition").exists();
        // The class folder holds links; what lies above a partition's real folder is its disk.
        let disk = fs::canonicalize(&folder).unwrap_or(folder);
        let disk = if partition { disk.parent().unwrap_or(&disk) } else { &disk };
        match (has_requests(disk), partition) {
            (false, _) => Found::WithoutRequests,
            (true, true) => Found::Partition(number),
            (true, false) => Found::Disk(number),
        }
    }

    /// The folders of the whole disks that have requests.
    fn disks(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(self.sys.join("block")).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).filter(|path| has_requests(path))
    }

    /// The names of the disks that have a size, and no requests, sorted.
    pub fn without_requests(&self) -> Vec<String> {
        let used = |path: &Path| fs::read_to_string(path.join("size")).is_ok_and(|size| size.trim() != "0");
        let entries = fs::read_dir(self.sys.join("block")).into_iter().flatten().flatten();
        let unseen = entries.filter(|entry| !has_requests(&entry.path()) && used(&entry.path()));
        let mut names: Vec<_> =
            unseen.map(|entry| entry.file_name().to_string_lossy().replace('!', "/")).collect();
        names.sort();
        names
    }

    /// How many disks have requests, how many requests the kernel has set aside for them,
    /// and whether one of them keeps no statistics: its requests carry no times.
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
    /// Disks with requests.
    pub disks: usize,
    /// The most requests that can exist at a time.
    pub requests: u64,
    /// Whether a disk has `queue/iostats` off.
    pub untimed: bool,
}

/// Only a device with request queues (blk-mq) has this folder.
fn has_requests(disk: &Path) -> bool {
    disk.join("mq").is_dir()
}

/// `254:16` as the kernel's own number.
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
        assert_eq!(devices.name(253 << 20), "253:0", "never seen by name");
        fs::remove_file(root.path().join("dev/block/259:2")).unwrap();
        assert_eq!(devices.name(259 << 20 | 2), "nvme0n1p2", "it keeps its name when it goes");
    }

    #[test]
    fn surveys_what_has_requests() {
        let root = tree();
        let expected = Survey { disks: 1, requests: 2 * (256 + 1023), untimed: true };
        assert_eq!(Devices::new(root.path()).survey(), expected);
        assert_eq!(Devices::new(root.path()).without_requests(), ["zram0"]);
        fs::write(root.path().join("devices/zram0/size"), "0\n").unwrap();
        assert!(Devices::new(root.path()).without_requests().is_empty(), "it is not set up");
    }
}
