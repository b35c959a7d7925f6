//! What a block device is, and whether its counts belong to the machine's total:
//! by the kernel's names (`Documentation/admin-guide/devices.txt`) and by sysfs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::record::DiskType;

/// What does not change while a device exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// What it is.
    pub disk_type: DiskType,
    /// Whether the sum over such devices is the machine's total.
    pub whole: bool,
}

/// Decides about the device `name`. `listed` says whether another name is listed
/// beside it, which tells a partition where sysfs cannot.
pub fn facts(sys: &Path, name: &str, listed: impl Fn(&str) -> bool) -> Facts {
    // A slash in a name (cciss/c0d0) is an exclamation mark in sysfs.
    let file_name = name.replace('/', "!");
    let class = sys.join("class/block").join(&file_name);
    let block = sys.join("block").join(&file_name);
    let partition = if class.exists() {
        class.join("partition").exists()
    } else {
        !block.exists() && parent(name).is_some_and(|disk| listed(&disk))
    };
    let disk_type = if partition { DiskType::Partition } else { by_name(name) };
    let dirs = [class, block];
    let counted_below = match disk_type {
        DiskType::Partition | DiskType::Dm | DiskType::Md | DiskType::Loop => true,
        DiskType::Zram | DiskType::Ram | DiskType::Bcache | DiskType::Drbd | DiskType::Zvol => true,
        DiskType::Disk | DiskType::Rom | DiskType::Nbd | DiskType::Floppy => stacked(&dirs),
    };
    Facts { disk_type, whole: !counted_below }
}

/// The types whose device nodes exist whether or not there is anything behind them.
pub fn is_slot(disk_type: DiskType) -> bool {
    use DiskType::{Floppy, Loop, Nbd, Ram, Rom, Zram};
    matches!(disk_type, Loop | Ram | Zram | Nbd | Floppy | Rom)
}

fn by_name(name: &str) -> DiskType {
    match name.trim_end_matches(|c: char| c.is_ascii_digit()) {
        stem if stem.len() == name.len() && !stem.starts_with("md_") => DiskType::Disk,
        "dm-" => DiskType::Dm,
        "md" => DiskType::Md,
        stem if stem.starts_with("md_") => DiskType::Md,
        "loop" => DiskType::Loop,
        "zram" => DiskType::Zram,
        "ram" => DiskType::Ram,
        "sr" => DiskType::Rom,
        "nbd" => DiskType::Nbd,
        "fd" => DiskType::Floppy,
        "bcache" => DiskType::Bcache,
        "drbd" => DiskType::Drbd,
        "zd" => DiskType::Zvol,
        _ => DiskType::Disk,
    }
}

/// True if it lies on other block devices: sysfs lists them, or it joins the paths
/// to an NVMe namespace, each of which has a device and counts of its own.
fn stacked(dirs: &[PathBuf]) -> bool {
    let has_slaves =
        |dir: &PathBuf| fs::read_dir(dir.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
    let joins_paths = |dir: &PathBuf| {
        fs::read_link(dir).is_ok_and(|target| target.to_string_lossy().contains("/nvme-subsystem/"))
    };
    dirs.iter().any(|dir| has_slaves(dir) || joins_paths(dir))
}

/// The disk that a name would be a partition of: `sda` of `sda1`, `nvme0n1` of `nvme0n1p2`.
fn parent(name: &str) -> Option<String> {
    let disk = name.trim_end_matches(|c: char| c.is_ascii_digit());
    if disk.is_empty() || disk.len() == name.len() {
        return None;
    }
    let ends_in_digit = |name: &str| name.ends_with(|c: char| c.is_ascii_digit());
    match disk.strip_suffix('p') {
        Some(numbered) if ends_in_digit(numbered) => Some(numbered.to_owned()),
        _ => Some(disk.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn told(sys: &Path, name: &str, beside: &[&str]) -> (DiskType, bool) {
        let Facts { disk_type, whole } = facts(sys, name, |other| beside.contains(&other));
        (disk_type, whole)
    }

    #[test]
    fn by_names_alone() {
        use DiskType::*;
        let nowhere = Path::new("/nonexistent");
        let beside = ["sda", "nvme0n1", "mmcblk0", "mmcblk0boot0", "md0", "loop0", "cciss/c0d0", "vda"];
        for (name, expected) in [
            ("sda", (Disk, true)),
            ("sda1", (Partition, false)),
            ("sdb1", (Disk, true)), // its disk is not listed, so that it stands for it
            ("nvme0n1", (Disk, true)),
            ("nvme0c1n1", (Disk, true)),
            ("nvme0n1p12", (Partition, false)),
            ("mmcblk0boot0", (Disk, true)),
            ("mmcblk0p1", (Partition, false)),
            ("cciss/c0d0p1", (Partition, false)),
            ("vda", (Disk, true)),
            ("dm-0", (Dm, false)),
            ("md0", (Md, false)),
            ("md0p1", (Partition, false)),
            ("md_d1", (Md, false)),
            ("md_home", (Md, false)),
            ("mdx", (Disk, true)),
            ("loop0", (Loop, false)),
            ("loop0p1", (Partition, false)),
            ("zram0", (Zram, false)),
            ("ram15", (Ram, false)),
            ("sr0", (Rom, true)),
            ("nbd3", (Nbd, true)),
            ("fd0", (Floppy, true)),
            ("bcache0", (Bcache, false)),
            ("drbd1", (Drbd, false)),
            ("zd16", (Zvol, false)),
            ("srv", (Disk, true)),
            ("7", (Disk, true)),
            ("", (Disk, true)),
        ] {
            assert_eq!(told(nowhere, name, &beside), expected, "{name}");
        }
    }

    #[test]
    fn by_sysfs() {
        let dir = tempfile::tempdir().unwrap();
        let sys = dir.path();
        let device = |path: &str, name: &str| {
            let target = sys.join("devices").join(path).join(name);
            fs::create_dir_all(target.join("slaves")).unwrap();
            fs::create_dir_all(sys.join("class/block")).unwrap();
            symlink(&target, sys.join("class/block").join(name)).unwrap();
            target
        };
        device("pci0/ata1/block", "sda");
        fs::write(device("pci0/ata1/block/sda", "sda1").join("partition"), "1").unwrap();
        device("pci0/ata2/block", "sdb1"); // a whole disk, whatever its name
        device("virtual/nvme-subsystem/nvme-subsys0", "nvme0n1");
        device("pci0/nvme/nvme0", "nvme0c0n1");
        fs::write(device("virtual/block", "stack0").join("slaves/sda"), "").unwrap();
        let beside = ["sdb", "sda"];
        for (name, expected) in [
            ("sda", (DiskType::Disk, true)),
            ("sda1", (DiskType::Partition, false)),
            ("sdb1", (DiskType::Disk, true)),
            ("nvme0n1", (DiskType::Disk, false)),
            ("nvme0c0n1", (DiskType::Disk, true)),
            ("stack0", (DiskType::Disk, false)),
        ] {
            assert_eq!(told(sys, name, &beside), expected, "{name}");
        }
    }
}
