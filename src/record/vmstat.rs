//! Virtual memory statistics, with the same names on Linux and on macOS.

use std::collections::BTreeMap;

use super::prelude::*;

/// The body of a `vmstat` record: `vm_stat` of macOS, or /proc/vmstat (kernel `mm/vmstat.c`) and
/// /proc/meminfo (`fs/proc/meminfo.c`) of Linux, or the `memory.stat` of a cgroup (`mm/memcontrol.c`).
///
/// The first 22 counts are those of macOS. On Linux, only those with an equivalent are present.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Vmstat {
    /// When the totals began to count: boot. Absent for recorded output.
    pub start_ts: Option<Timestamp>,
    /// The cgroup, as given on the command line.
    pub cgroup: Option<String>,
    /// The size of a page.
    pub page_size_bytes: Option<u64>,
    /// Free pages; on macOS without the speculative ones.
    pub pages_free: Option<u64>,
    /// Recently used pages.
    pub pages_active: Option<u64>,
    /// Pages not used recently.
    pub pages_inactive: Option<u64>,
    /// Pages read ahead and not used yet (macOS).
    pub pages_speculative: Option<u64>,
    /// Pages of throttled processes (macOS).
    pub pages_throttled: Option<u64>,
    /// Pages that cannot be paged out. Linux: unevictable pages, unreclaimable slab, kernel stacks and page tables.
    pub pages_wired: Option<u64>,
    /// Pages that can be discarded without being written (macOS).
    pub pages_purgeable: Option<u64>,
    /// File-backed pages. Linux: the page cache without shared memory, tmpfs and the swap cache.
    pub pages_file_backed: Option<u64>,
    /// Anonymous pages. Linux: anonymous pages, shared memory and tmpfs.
    pub pages_anonymous: Option<u64>,
    /// Pages stored in the compressor, before compression. Linux: zswap and zram together.
    pub pages_compressor_stored: Option<u64>,
    /// Pages that the compressor occupies.
    pub pages_compressor_occupied: Option<u64>,
    /// Page faults since `start_ts`.
    pub faults: Option<u64>,
    /// Pages copied on write (macOS).
    pub pages_cow_faults: Option<u64>,
    /// Pages filled with zeros (macOS).
    pub pages_zero_filled: Option<u64>,
    /// Pages that became active again.
    pub pages_reactivated: Option<u64>,
    /// Pages discarded without being written. Linux: lazily freed pages (MADV_FREE).
    pub pages_purged: Option<u64>,
    /// Pages read from the compressor. Linux: from zswap.
    pub pages_decompressed: Option<u64>,
    /// Pages written to the compressor. Linux: to zswap.
    pub pages_compressed: Option<u64>,
    /// Pages read in. Linux: all reads of block devices, in pages (`pgpgin` counts KiB).
    pub page_ins: Option<u64>,
    /// Pages written out. Linux: all writes to block devices, in pages.
    pub page_outs: Option<u64>,
    /// Pages read from swap. macOS: segments of compressed pages.
    pub swap_ins: Option<u64>,
    /// Pages written to swap. macOS: segments of compressed pages.
    pub swap_outs: Option<u64>,
    /// `pages_free` in bytes.
    pub free_bytes: Option<u64>,
    /// `pages_active` in bytes.
    pub active_bytes: Option<u64>,
    /// `pages_inactive` in bytes.
    pub inactive_bytes: Option<u64>,
    /// `pages_speculative` in bytes.
    pub speculative_bytes: Option<u64>,
    /// `pages_throttled` in bytes.
    pub throttled_bytes: Option<u64>,
    /// `pages_wired` in bytes.
    pub wired_bytes: Option<u64>,
    /// `pages_purgeable` in bytes.
    pub purgeable_bytes: Option<u64>,
    /// `pages_file_backed` in bytes.
    pub file_backed_bytes: Option<u64>,
    /// `pages_anonymous` in bytes.
    pub anonymous_bytes: Option<u64>,
    /// `pages_compressor_stored` in bytes.
    pub compressor_stored_bytes: Option<u64>,
    /// `pages_compressor_occupied` in bytes.
    pub compressor_occupied_bytes: Option<u64>,
    /// Whether active + inactive + speculative = file-backed + anonymous, as on macOS since 10.9. If false, the
    /// output was altered, or its rows were read at different moments.
    pub consistent: Option<bool>,
    /// The unit in which the counts of these fields were printed, if not 1: `K` is 1000, `M` 1000000, `G`
    /// 1000000000. The true count is less than one unit larger.
    pub precision: Option<BTreeMap<&'static str, u64>>,
    /// The interval of the rates. A total that was rounded in it has no rate.
    pub interval_s: Option<f64>,
    /// Page faults a second.
    pub faults_per_s: Option<f64>,
    /// Pages a second copied on write.
    pub pages_cow_faults_per_s: Option<f64>,
    /// Pages a second filled with zeros.
    pub pages_zero_filled_per_s: Option<f64>,
    /// Pages a second that became active again.
    pub pages_reactivated_per_s: Option<f64>,
    /// Pages a second discarded.
    pub pages_purged_per_s: Option<f64>,
    /// Pages a second read from the compressor.
    pub pages_decompressed_per_s: Option<f64>,
    /// Pages a second written to the compressor.
    pub pages_compressed_per_s: Option<f64>,
    /// Pages a second read in.
    pub page_ins_per_s: Option<f64>,
    /// Pages a second written out.
    pub page_outs_per_s: Option<f64>,
    /// Pages a second read from swap.
    pub swap_ins_per_s: Option<f64>,
    /// Pages a second written to swap.
    pub swap_outs_per_s: Option<f64>,
    /// macOS: rows and columns without a field of their own, by their printed name in lower case with underscores.
    pub rows: Option<Rows>,
    /// Linux: /proc/vmstat, unchanged. `nr_` are current values in pages, others are totals since boot.
    pub vmstat: Option<Rows>,
    /// Linux: /proc/meminfo by name in lower case with underscores, in bytes (`_bytes`) or, for huge pages, in pages.
    pub meminfo: Option<Rows>,
    /// For a cgroup: memory.stat, unchanged, and the other files of the memory controller by name.
    pub memory_stat: Option<Rows>,
    /// Linux: the increase per second of the totals in `vmstat` or `memory_stat` since the previous sample. Totals
    /// that did not change are left out.
    pub growth_per_s: Option<Rows<f64>>,
}

const fn usage(field: &'static str, attributes: Pairs) -> Metric {
    Metric::updown(field, "telepipe.vmstat.usage", "By").with(attributes)
}

/// How many pages there are in a state; the established names count pages.
const fn pages(field: &'static str, attributes: Pairs) -> Metric {
    Metric::updown(field, "telepipe.vmstat.pages", "{page}").with(attributes)
}

const fn events(field: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, "telepipe.vmstat.operations", "{page}").with(attributes)
}

const fn paging(field: &'static str, attributes: Pairs) -> Metric {
    Metric::counter(field, "system.paging.operations", "{operation}").with(attributes)
}

/// Each sample.
pub const VMSTAT: Kind = Kind::cumulative::<Vmstat>(
    "vmstat",
    "Virtual memory: pages by state, faults, paging and compression, as the system itself counts them",
)
.about(&[("cgroup", "telepipe.cgroup")])
.labels(&[("cgroup", "cgroup")])
.metrics(&[
    Metric::gauge("page_size_bytes", "telepipe.vmstat.page_size", "By").prometheus("vmstat_page_size_bytes"),
    Metric::updown("free_bytes", "system.memory.usage", "By").with(&[("system.memory.state", "free")]),
    usage("active_bytes", &[("system.memory.state", "active")]),
    usage("inactive_bytes", &[("system.memory.state", "inactive")]),
    usage("speculative_bytes", &[("system.memory.state", "speculative")]),
    usage("throttled_bytes", &[("system.memory.state", "throttled")]),
    usage("wired_bytes", &[("system.memory.state", "wired")]),
    usage("compressor_occupied_bytes", &[("system.memory.state", "compressor")]),
    Metric::updown("purgeable_bytes", "telepipe.vmstat.purgeable", "By"),
    Metric::updown("file_backed_bytes", "telepipe.vmstat.file_backed", "By"),
    Metric::updown("anonymous_bytes", "telepipe.vmstat.anonymous", "By"),
    Metric::updown("compressor_stored_bytes", "telepipe.vmstat.compressor.stored", "By"),
    pages("pages_free", &[("system.memory.state", "free")]).prometheus("vmstat_pages_free_count"),
    pages("pages_active", &[("system.memory.state", "active")]).prometheus("vmstat_pages_active_count"),
    pages("pages_inactive", &[("system.memory.state", "inactive")]).prometheus("vmstat_pages_inactive_count"),
    pages("pages_speculative", &[("system.memory.state", "speculative")])
        .prometheus("vmstat_pages_speculative_count"),
    pages("pages_throttled", &[("system.memory.state", "throttled")])
        .prometheus("vmstat_pages_throttled_count"),
    pages("pages_wired", &[("system.memory.state", "wired")]).prometheus("vmstat_pages_wired_count"),
    pages("pages_compressor_occupied", &[("system.memory.state", "compressor")])
        .prometheus("vmstat_pages_compressor_count"),
    Metric::updown("pages_purgeable", "telepipe.vmstat.purgeable.pages", "{page}")
        .prometheus("vmstat_pages_purgeable_count"),
    Metric::updown("pages_file_backed", "telepipe.vmstat.file_backed.pages", "{page}")
        .prometheus("vmstat_pages_file_backed_count"),
    Metric::updown("pages_anonymous", "telepipe.vmstat.anonymous.pages", "{page}")
        .prometheus("vmstat_pages_anonymous_count"),
    Metric::updown("pages_compressor_stored", "telepipe.vmstat.compressor.stored.pages", "{page}"),
    Metric::counter("faults", "telepipe.paging.faults", "{fault}").prometheus("vmstat_faults_total"),
    events("pages_cow_faults", &[("telepipe.vmstat.operation", "copy_on_write")])
        .prometheus("vmstat_pages_cow_faults_total"),
    events("pages_zero_filled", &[("telepipe.vmstat.operation", "zero_fill")])
        .prometheus("vmstat_pages_zero_filled_total"),
    events("pages_reactivated", &[("telepipe.vmstat.operation", "reactivate")])
        .prometheus("vmstat_pages_reactivated_total"),
    events("pages_purged", &[("telepipe.vmstat.operation", "purge")]).prometheus("vmstat_pages_purged_total"),
    events("pages_decompressed", &[("telepipe.vmstat.operation", "decompress")])
        .prometheus("vmstat_pages_decompressed_total"),
    events("pages_compressed", &[("telepipe.vmstat.operation", "compress")])
        .prometheus("vmstat_pages_compressed_total"),
    paging("page_ins", &[("system.paging.direction", "in"), ("system.paging.fault.type", "minor")])
        .prometheus("vmstat_page_ins_total"),
    paging("page_outs", &[("system.paging.direction", "out"), ("system.paging.fault.type", "minor")])
        .prometheus("vmstat_page_outs_total"),
    paging("swap_ins", &[("system.paging.direction", "in"), ("system.paging.fault.type", "major")])
        .prometheus("vmstat_swap_ins_total"),
    paging("swap_outs", &[("system.paging.direction", "out"), ("system.paging.fault.type", "major")])
        .prometheus("vmstat_swap_outs_total"),
]);
