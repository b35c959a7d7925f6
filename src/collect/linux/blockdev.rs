//! Classifies block devices, and decides which ones add up to the machine's total: by
//! the kernel's names (`Documentation/admin-guide/devices.txt`) and by sysfs.

use std::fs;
use std::path::{Path, PathBuf};

use crate::record::DiskType;

/// Facts that do not change while a device exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// The type of device.
    pub disk_type: DiskType,
    /// Whether the device is part of the machine's total.
    pub whole: bool,
}

/// Classifies the device `name`. `listed` reports whether the same file lists another
/// device: without sysfs, a partition is a name that extends the name of a listed disk.
pub fn facts(sys: &Path, name: &str, listed: impl Fn(&str) -> bool) -> Facts {
    // Sysfs has an exclamation mark for a slash in a name (cciss/c0d0).
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

/// The types of which device nodes exist even if nothing is attached to them.
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

/// True for a device on top of others: sysfs lists its slaves, or it is the multipath
/// device of an NVMe namespace, and each path has a device with counts of its own.
fn stacked(dirs: &[PathBuf]) -> bool {
    let has_slaves =
        |dir: &PathBuf| fs::read_dir(dir.join("slaves")).is_ok_and(|mut slaves| slaves.next().is_some());
    let joins_paths = |dir: &PathBuf| {
        fs::read_link(dir).is_ok_and(|target| target.to_string_lossy().contains("/nvme-subsystem/"))
    };
    dirs.iter().any(|dir| has_slaves(dir) || joins_paths(dir))
}

/// The disk of a partition, by name: `sda` for `sda1`, `nvme0n1` for `nvme0n1p2`.
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

    fn classified(sys: &Path, name: &str, listed: &[&str]) -> (DiskType, bool) {
        let Facts { disk_type, whole } = facts(sys, name, |other| listed.contains(&other));
        (disk_type, whole)
    }

    #[test]
    fn by_names_alone() {
        use DiskType::*;
        let nowhere = Path::new("/nonexistent");
        let listed = ["sda", "nvme0n1", "mmcblk0", "mmcblk0boot0", "md0", "loop0", "cciss/c0d0", "vda"];
        for (name, expected) in [
            ("sda", (Disk, true)),
            ("sda1", (Partition, false)),
            ("sdb1", (Disk, true)), // its disk is not listed, so it counts as one
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
            assert_eq!(classified(nowhere, name, &listed), expected, "{name}");
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
        device("pci0/ata2/block", "sdb1"); // a whole disk despite its name
        device("virtual/nvme-subsystem/nvme-subsys0", "nvme0n1");
        device("pci0/nvme/nvme0", "nvme0c0n1");
        fs::write(device("virtual/block", "stack0").join("slaves/sda"), "").unwrap();
        let listed = ["sdb", "sda"];
        for (name, expected) in [
            ("sda", (DiskType::Disk, true)),
            ("sda1", (DiskType::Partition, false)),
            ("sdb1", (DiskType::Disk, true)),
            ("nvme0n1", (DiskType::Disk, false)),
            ("nvme0c0n1", (DiskType::Disk, true)),
            ("stack0", (DiskType::Disk, false)),
        ] {
            assert_eq!(classified(sys, name, &listed), expected, "{name}");
        }
    }
}
