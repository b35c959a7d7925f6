//! Where pages go that have no room in memory: swap devices, and compressed memory disks.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};

/// The body of a `swap` record, a line of /proc/swaps (kernel `mm/swapfile.c`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Swap {
    /// The device or file.
    pub device: String,
    /// `partition` or `file`.
    pub swap_type: String,
    /// How much fits into it.
    pub size_bytes: u64,
    /// How much of that is in use.
    pub used_bytes: u64,
    /// How much of that is free.
    pub free_bytes: u64,
    /// Which is filled first: the highest.
    pub priority: i64,
}

impl Record for Swap {
    const KIND: &'static Kind = &SWAP;
}

/// Each sample, for each swap device.
pub const SWAP: Kind = Kind::metrics::<Swap>(
    "swap",
    "A swap device: its size, and how much of it is used",
    Temporality::Cumulative,
    &[
        Metric::updown("used_bytes", "system.paging.usage", "By").with(&[("system.paging.state", "used")]),
        Metric::updown("free_bytes", "system.paging.usage", "By").with(&[("system.paging.state", "free")]),
    ],
)
.about(&[("device", "system.device")]);

/// The body of a `zram` record, from /sys/block/zram*/mm_stat (kernel `drivers/block/zram/zram_drv.c`).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Zram {
    /// The device, such as `zram0`.
    pub device: String,
    /// What was written to it, uncompressed.
    pub stored_bytes: u64,
    /// The same, compressed.
    pub compressed_bytes: u64,
    /// The memory it takes, with what its allocator needs.
    pub occupied_bytes: u64,
    /// The most that it may take.
    pub limit_bytes: Option<u64>,
    /// The most that it ever took.
    pub peak_bytes: Option<u64>,
    /// Pages of one repeated value, which take no memory.
    pub same_pages: Option<u64>,
    /// Pages freed by making the store compact.
    pub compacted_pages: Option<u64>,
    /// Pages that compression did not make smaller.
    pub huge_pages: Option<u64>,
}

impl Record for Zram {
    const KIND: &'static Kind = &ZRAM;
}

/// Each sample, for each compressed memory disk that holds something.
pub const ZRAM: Kind = Kind::metrics::<Zram>(
    "zram",
    "A compressed memory disk: what it holds, and what that takes",
    Temporality::Cumulative,
    &[
        Metric::updown("stored_bytes", "telepipe.zram.stored", "By"),
        Metric::updown("compressed_bytes", "telepipe.zram.compressed", "By"),
        Metric::updown("occupied_bytes", "telepipe.zram.occupied", "By"),
        Metric::updown("peak_bytes", "telepipe.zram.peak", "By"),
        Metric::updown("same_pages", "telepipe.zram.same_pages", "{page}"),
        Metric::updown("huge_pages", "telepipe.zram.huge_pages", "{page}"),
    ],
)
.about(&[("device", "system.device")]);
