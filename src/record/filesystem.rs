//! File systems.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};

/// Whether a file system can be written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It can.
    Rw,
    /// It, or this mount of it, is read-only.
    Ro,
}

/// The body of a `filesystem` record: what statvfs(3) says of a mount.
///
/// Left out are the kernel's own (proc, sysfs, cgroup …), what has no size, what lies
/// under /dev, /proc, /sys and the stores of container engines, and, but for the root,
/// overlays and read-only images (squashfs, erofs, iso9660). Of several mounts of one
/// file system (bind mounts, subvolumes) one is written: that of its root, then the one
/// with the shortest path. The data sets of a ZFS pool share its free space, and a tmpfs
/// is memory: mind that in sums.
#[skip_serializing_none]
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Filesystem<'a> {
    /// Where it is mounted.
    pub mountpoint: &'a str,
    /// What is mounted: a block device, an export, a name.
    pub device: &'a str,
    /// Its type, such as `ext4`.
    #[serde(rename = "type")]
    pub fs_type: &'a str,
    /// Whether it can be written to.
    pub mode: Mode,
    /// Size.
    pub total_bytes: u64,
    /// In use: the size less what is free.
    pub used_bytes: u64,
    /// Free, what only root may use included.
    pub free_bytes: u64,
    /// Free for all users.
    pub available_bytes: u64,
    /// Free, but for root only: `free_bytes` less `available_bytes`.
    pub reserved_bytes: u64,
    /// In use, of what is not reserved: 1 when ordinary users can write no more. What
    /// df(1) shows.
    pub utilization_ratio: Option<f64>,
    /// Inodes; absent where the file system makes them as needed.
    pub inodes: Option<u64>,
    /// Inodes in use.
    pub inodes_used: Option<u64>,
    /// Inodes free.
    pub inodes_free: Option<u64>,
}

impl Record for Filesystem<'_> {
    const KIND: &'static Kind = &FILESYSTEM;
}

const USED: &[(&str, &str)] = &[("system.filesystem.state", "used")];
const FREE: &[(&str, &str)] = &[("system.filesystem.state", "free")];
const RESERVED: &[(&str, &str)] = &[("system.filesystem.state", "reserved")];

/// Per file system and sample. The states sum to the limit, as OpenTelemetry wants it,
/// so that its `free` is what is available.
pub const FILESYSTEM: Kind = Kind::metrics::<Filesystem<'static>>(
    "filesystem",
    "A mounted file system: space and inodes",
    Temporality::Cumulative,
    &[
        usage("used_bytes", USED),
        usage("available_bytes", FREE).prometheus("node_filesystem_avail_bytes", 1.0),
        usage("reserved_bytes", RESERVED),
        Metric::updown("total_bytes", "system.filesystem.limit", "By")
            .prometheus("node_filesystem_size_bytes", 1.0),
        Metric::updown("free_bytes", "telepipe.filesystem.free", "By")
            .prometheus("node_filesystem_free_bytes", 1.0),
        Metric::gauge("utilization_ratio", "system.filesystem.utilization", "1").with(USED),
        inodes("inodes_used", USED),
        inodes("inodes_free", FREE).prometheus("node_filesystem_files_free", 1.0),
        Metric::updown("inodes", "telepipe.filesystem.inodes.limit", "{inode}")
            .prometheus("node_filesystem_files", 1.0),
    ],
)
.about(&[
    ("mountpoint", "system.filesystem.mountpoint"),
    ("device", "system.device"),
    ("type", "system.filesystem.type"),
    ("mode", "system.filesystem.mode"),
])
.labels(&[("device", "device"), ("mountpoint", "mountpoint"), ("type", "fstype")]);

const fn usage(field: &'static str, state: &'static [(&'static str, &'static str)]) -> Metric {
    Metric::updown(field, "system.filesystem.usage", "By").with(state)
}

const fn inodes(field: &'static str, state: &'static [(&'static str, &'static str)]) -> Metric {
    Metric::updown(field, "system.filesystem.inodes.usage", "{inode}").with(state)
}
