//! The `filesystem` record: space and inodes.

use super::prelude::*;

/// Whether a file system is writable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Writable.
    Rw,
    /// The file system or this mount of it is read-only.
    Ro,
}

/// The body of a `filesystem` record: the space of a mount, from statvfs(3).
///
/// The kernel's own file systems (proc, sysfs, cgroup …), those without a size, everything
/// under /dev, /proc, /sys and the stores of container engines, and, except for the root,
/// overlays and read-only images (squashfs, erofs, iso9660) are left out. If a file system
/// is mounted several times (bind mounts, subvolumes), one mount is reported: that of its
/// root, then the one with the shortest path. When adding up, note that the data sets of a
/// ZFS pool share its free space, and that a tmpfs is memory.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Filesystem<'a> {
    /// The mount point.
    pub mountpoint: &'a str,
    /// The block device, export or name that is mounted.
    pub device: &'a str,
    /// The type, such as `ext4`.
    #[serde(rename = "type")]
    pub fs_type: &'a str,
    /// Whether it is writable.
    pub mode: Mode,
    /// Total size.
    pub total_bytes: u64,
    /// Used: `total_bytes` minus `free_bytes`.
    pub used_bytes: u64,
    /// Free, including space reserved for root.
    pub free_bytes: u64,
    /// Free for unprivileged users.
    pub available_bytes: u64,
    /// Free for root only: `free_bytes` minus `available_bytes`.
    pub reserved_bytes: u64,
    /// Used space divided by space that is not reserved, as in df(1): at 1, unprivileged
    /// users cannot write.
    pub utilization_ratio: Option<f64>,
    /// Total inodes; absent if the file system has no fixed number or does not know it.
    pub inodes: Option<u64>,
    /// Used inodes.
    pub inodes_used: Option<u64>,
    /// Free inodes.
    pub inodes_free: Option<u64>,
}

const USED: &[(&str, &str)] = &[("system.filesystem.state", "used")];
const FREE: &[(&str, &str)] = &[("system.filesystem.state", "free")];
const RESERVED: &[(&str, &str)] = &[("system.filesystem.state", "reserved")];

/// One per file system and sample. OpenTelemetry requires that the states add up to the
/// limit, so the state `free` is `available_bytes`.
pub const FILESYSTEM: Kind =
    Kind::cumulative::<Filesystem<'static>>("filesystem", "A mounted file system: space and inodes")
        .about(&[
            ("mountpoint", "system.filesystem.mountpoint"),
            ("device", "system.device"),
            ("type", "system.filesystem.type"),
            ("mode", "system.filesystem.mode"),
        ])
        .labels(&[("device", "device"), ("mountpoint", "mountpoint"), ("type", "fstype")])
        .metrics(&[
            usage("used_bytes", USED),
            usage("available_bytes", FREE).prometheus("node_filesystem_avail_bytes"),
            usage("reserved_bytes", RESERVED),
            Metric::updown("total_bytes", "system.filesystem.limit", "By")
                .prometheus("node_filesystem_size_bytes"),
            Metric::updown("free_bytes", "telepipe.filesystem.free", "By")
                .prometheus("node_filesystem_free_bytes"),
            Metric::gauge("utilization_ratio", "system.filesystem.utilization", "1").with(USED),
            inodes("inodes_used", USED),
            inodes("inodes_free", FREE).prometheus("node_filesystem_files_free"),
            Metric::updown("inodes", "telepipe.filesystem.inodes.limit", "{inode}")
                .prometheus("node_filesystem_files"),
        ]);

const fn usage(field: &'static str, state: Pairs) -> Metric {
    Metric::updown(field, "system.filesystem.usage", "By").with(state)
}

const fn inodes(field: &'static str, state: Pairs) -> Metric {
    Metric::updown(field, "system.filesystem.inodes.usage", "{inode}").with(state)
}
