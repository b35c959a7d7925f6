//! Swap devices and compressed memory disks (zram).

use super::prelude::*;

/// The body of a `swap` record, a line of /proc/swaps (kernel `mm/swapfile.c`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Swap {
    /// The device or file.
    pub device: String,
    /// `partition` or `file`.
    pub swap_type: String,
    /// Its size.
    pub size_bytes: u64,
    /// The part in use.
    pub used_bytes: u64,
    /// The part that is free.
    pub free_bytes: u64,
    /// Its priority; the kernel fills the device with the highest one first.
    pub priority: i64,
}

/// Written at each sample, for each swap device.
pub const SWAP: Kind = Kind::cumulative::<Swap>("swap", "A swap device and how much of it is used")
    .about(&[("device", "system.device")])
    .metrics(&[
        Metric::updown("used_bytes", "system.paging.usage", "By").with(&[("system.paging.state", "used")]),
        Metric::updown("free_bytes", "system.paging.usage", "By").with(&[("system.paging.state", "free")]),
    ]);

/// The body of a `zram` record, from /sys/block/zram*/mm_stat (kernel `drivers/block/zram/zram_drv.c`).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Zram {
    /// The device, such as `zram0`.
    pub device: String,
    /// The data stored in it, before compression.
    pub stored_bytes: u64,
    /// The data stored in it, after compression.
    pub compressed_bytes: u64,
    /// The memory in use, including the allocator's overhead.
    pub occupied_bytes: u64,
    /// The limit on the memory in use.
    pub limit_bytes: Option<u64>,
    /// The most memory ever in use.
    pub peak_bytes: Option<u64>,
    /// Pages filled with one repeated value, which take no memory.
    pub same_pages: Option<u64>,
    /// Pages freed by compaction.
    pub compacted_pages: Option<u64>,
    /// Pages that compression did not make smaller.
    pub huge_pages: Option<u64>,
}

/// Written at each sample, for each compressed memory disk that is not empty.
pub const ZRAM: Kind =
    Kind::cumulative::<Zram>("zram", "A compressed memory disk (zram) and the memory it uses")
        .about(&[("device", "system.device")])
        .metrics(&[
            Metric::updown("stored_bytes", "telepipe.zram.stored", "By"),
            Metric::updown("compressed_bytes", "telepipe.zram.compressed", "By"),
            Metric::updown("occupied_bytes", "telepipe.zram.occupied", "By"),
            Metric::updown("peak_bytes", "telepipe.zram.peak", "By"),
            Metric::updown("same_pages", "telepipe.zram.same_pages", "{page}"),
            Metric::updown("huge_pages", "telepipe.zram.huge_pages", "{page}"),
        ]);
