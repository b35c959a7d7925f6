//! The `memory` record: use of memory and swap.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};

/// The body of a `memory` record, from /proc/meminfo (kernel `fs/proc/meminfo.c`), in bytes.
///
/// Which fields a kernel has depends on its version and configuration.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Memory {
    /// Usable memory: physical memory without the kernel's image and firmware reservations.
    pub total_bytes: Option<u64>,
    /// Unused.
    pub free_bytes: Option<u64>,
    /// The kernel's estimate of the memory that new programs can use without swapping (since 3.14).
    pub available_bytes: Option<u64>,
    /// `total` minus `available`; before 3.14, `total` minus free, buffers, cached and reclaimable slab.
    /// Part of the cache is not available, so used, free, buffers and cached do not add up to `total`.
    pub used_bytes: Option<u64>,
    /// Cache of raw block devices, such as file system metadata.
    pub buffers_bytes: Option<u64>,
    /// Page cache of files, including shared memory and tmpfs, without swap cache and reclaimable slab.
    pub cached_bytes: Option<u64>,
    /// In memory, with an unchanged copy in swap.
    pub swap_cached_bytes: Option<u64>,
    /// Used recently; reclaimed last.
    pub active_bytes: Option<u64>,
    /// Not used recently; reclaimed first.
    pub inactive_bytes: Option<u64>,
    /// The anonymous part of `active`.
    pub active_anon_bytes: Option<u64>,
    /// The anonymous part of `inactive`.
    pub inactive_anon_bytes: Option<u64>,
    /// The file-backed part of `active`.
    pub active_file_bytes: Option<u64>,
    /// The file-backed part of `inactive`.
    pub inactive_file_bytes: Option<u64>,
    /// Cannot be reclaimed: locked, ramfs, secret memory.
    pub unevictable_bytes: Option<u64>,
    /// Locked with mlock.
    pub mlocked_bytes: Option<u64>,
    /// Waiting to be written to disk.
    pub dirty_bytes: Option<u64>,
    /// Being written to disk.
    pub writeback_bytes: Option<u64>,
    /// Anonymous memory mapped by processes.
    pub anon_bytes: Option<u64>,
    /// Files and shared memory mapped by processes.
    pub mapped_bytes: Option<u64>,
    /// Shared memory and tmpfs.
    pub shared_bytes: Option<u64>,
    /// Reclaimable kernel memory, including reclaimable slab (since 4.20).
    pub kernel_reclaimable_bytes: Option<u64>,
    /// Slab: the kernel's data structures.
    pub slab_bytes: Option<u64>,
    /// The reclaimable part of `slab`.
    pub slab_reclaimable_bytes: Option<u64>,
    /// The unreclaimable part of `slab`.
    pub slab_unreclaimable_bytes: Option<u64>,
    /// Kernel stacks of all tasks.
    pub kernel_stack_bytes: Option<u64>,
    /// Page tables of processes.
    pub page_tables_bytes: Option<u64>,
    /// Page tables of virtual machines and IOMMUs.
    pub secondary_page_tables_bytes: Option<u64>,
    /// Sent to an NFS server but not yet committed; 0 since 5.8.
    pub nfs_unstable_bytes: Option<u64>,
    /// Bounce buffers of block devices.
    pub bounce_bytes: Option<u64>,
    /// Writeback buffers of FUSE.
    pub writeback_tmp_bytes: Option<u64>,
    /// The limit of `committed` if overcommit is off (vm.overcommit_memory is 2).
    pub commit_limit_bytes: Option<u64>,
    /// Memory allocated by processes, used or not.
    pub committed_bytes: Option<u64>,
    /// Address space for vmalloc, not memory.
    pub vmalloc_total_bytes: Option<u64>,
    /// Memory allocated with vmalloc.
    pub vmalloc_used_bytes: Option<u64>,
    /// The largest free block of that address space; 0 since 4.4.
    pub vmalloc_chunk_bytes: Option<u64>,
    /// Per-CPU allocations.
    pub percpu_bytes: Option<u64>,
    /// Removed from use after a memory error.
    pub hardware_corrupted_bytes: Option<u64>,
    /// The part of `anon` in transparent huge pages.
    pub anon_huge_bytes: Option<u64>,
    /// The part of `shared` in huge pages.
    pub shared_huge_bytes: Option<u64>,
    /// The part of `shared` mapped as huge pages.
    pub shared_huge_mapped_bytes: Option<u64>,
    /// Page cache in huge pages.
    pub file_huge_bytes: Option<u64>,
    /// Page cache mapped as huge pages.
    pub file_huge_mapped_bytes: Option<u64>,
    /// Reserved for contiguous allocation.
    pub cma_total_bytes: Option<u64>,
    /// The free part of the memory reserved for contiguous allocation.
    pub cma_free_bytes: Option<u64>,
    /// Not yet accepted by a confidential virtual machine.
    pub unaccepted_bytes: Option<u64>,
    /// Returned to the hypervisor.
    pub balloon_bytes: Option<u64>,
    /// Total swap space.
    pub swap_total_bytes: Option<u64>,
    /// Free swap space.
    pub swap_free_bytes: Option<u64>,
    /// Used swap space.
    pub swap_used_bytes: Option<u64>,
    /// Memory used by the compressed pages of zswap.
    pub zswap_bytes: Option<u64>,
    /// The uncompressed size of these pages.
    pub zswapped_bytes: Option<u64>,
    /// The number of huge pages of the default size in the pool.
    pub huge_pages_total: Option<u64>,
    /// The number of these that are free.
    pub huge_pages_free: Option<u64>,
    /// The number of these that are allocated.
    pub huge_pages_used: Option<u64>,
    /// The number of free ones that are reserved.
    pub huge_pages_reserved: Option<u64>,
    /// The number above the configured size of the pool.
    pub huge_pages_surplus: Option<u64>,
    /// The default size of a huge page.
    pub huge_page_size_bytes: Option<u64>,
    /// Memory of all huge page pools; part of `used`.
    pub hugetlb_bytes: Option<u64>,
    /// The kernel's direct map in pages of 4 KiB.
    pub direct_map_4k_bytes: Option<u64>,
    /// The direct map in pages of 2 MiB.
    pub direct_map_2m_bytes: Option<u64>,
    /// The direct map in pages of 4 MiB.
    pub direct_map_4m_bytes: Option<u64>,
    /// The direct map in pages of 1 GiB.
    pub direct_map_1g_bytes: Option<u64>,
    /// `used` divided by `total`.
    pub used_ratio: Option<f64>,
}

impl Record for Memory {
    const KIND: &'static Kind = &MEMORY;
}

const fn usage(
    field: &'static str,
    name: &'static str,
    unit: &'static str,
    state: &'static [(&'static str, &'static str)],
) -> Metric {
    Metric::updown(field, name, unit).with(state)
}

/// One per sample. `used` is defined as in the semantic conventions for Linux.
pub const MEMORY: Kind = Kind::metrics::<Memory>(
    "memory",
    "Use of memory and swap",
    Temporality::Cumulative,
    &[
        Metric::updown("total_bytes", "system.memory.limit", "By")
            .prometheus("node_memory_MemTotal_bytes", 1.0),
        usage("free_bytes", "system.memory.usage", "By", &[("system.memory.state", "free")])
            .prometheus("node_memory_MemFree_bytes", 1.0),
        Metric::updown("available_bytes", "system.memory.linux.available", "By")
            .hostmetrics("system.linux.memory.available")
            .prometheus("node_memory_MemAvailable_bytes", 1.0),
        usage("used_bytes", "system.memory.usage", "By", &[("system.memory.state", "used")]),
        usage("buffers_bytes", "system.memory.usage", "By", &[("system.memory.state", "buffers")])
            .prometheus("node_memory_Buffers_bytes", 1.0),
        usage("cached_bytes", "system.memory.usage", "By", &[("system.memory.state", "cached")])
            .prometheus("node_memory_Cached_bytes", 1.0),
        Metric::updown("swap_cached_bytes", "telepipe.memory.swap_cached", "By")
            .prometheus("node_memory_SwapCached_bytes", 1.0),
        Metric::updown("active_bytes", "telepipe.memory.active", "By")
            .prometheus("node_memory_Active_bytes", 1.0),
        Metric::updown("inactive_bytes", "telepipe.memory.inactive", "By")
            .prometheus("node_memory_Inactive_bytes", 1.0),
        Metric::updown("active_anon_bytes", "telepipe.memory.active_anon", "By")
            .prometheus("node_memory_Active_anon_bytes", 1.0),
        Metric::updown("inactive_anon_bytes", "telepipe.memory.inactive_anon", "By")
            .prometheus("node_memory_Inactive_anon_bytes", 1.0),
        Metric::updown("active_file_bytes", "telepipe.memory.active_file", "By")
            .prometheus("node_memory_Active_file_bytes", 1.0),
        Metric::updown("inactive_file_bytes", "telepipe.memory.inactive_file", "By")
            .prometheus("node_memory_Inactive_file_bytes", 1.0),
        Metric::updown("unevictable_bytes", "telepipe.memory.unevictable", "By")
            .prometheus("node_memory_Unevictable_bytes", 1.0),
        Metric::updown("mlocked_bytes", "telepipe.memory.mlocked", "By")
            .prometheus("node_memory_Mlocked_bytes", 1.0),
        Metric::updown("dirty_bytes", "telepipe.memory.dirty", "By")
            .prometheus("node_memory_Dirty_bytes", 1.0),
        Metric::updown("writeback_bytes", "telepipe.memory.writeback", "By")
            .prometheus("node_memory_Writeback_bytes", 1.0),
        Metric::updown("anon_bytes", "telepipe.memory.anon", "By")
            .prometheus("node_memory_AnonPages_bytes", 1.0),
        Metric::updown("mapped_bytes", "telepipe.memory.mapped", "By")
            .prometheus("node_memory_Mapped_bytes", 1.0),
        Metric::updown("shared_bytes", "system.memory.linux.shared", "By")
            .prometheus("node_memory_Shmem_bytes", 1.0),
        Metric::updown("kernel_reclaimable_bytes", "telepipe.memory.kernel_reclaimable", "By")
            .prometheus("node_memory_KReclaimable_bytes", 1.0),
        Metric::updown("slab_bytes", "telepipe.memory.slab", "By").prometheus("node_memory_Slab_bytes", 1.0),
        usage(
            "slab_reclaimable_bytes",
            "system.memory.linux.slab.usage",
            "By",
            &[("system.memory.linux.slab.state", "reclaimable")],
        )
        .prometheus("node_memory_SReclaimable_bytes", 1.0),
        usage(
            "slab_unreclaimable_bytes",
            "system.memory.linux.slab.usage",
            "By",
            &[("system.memory.linux.slab.state", "unreclaimable")],
        )
        .prometheus("node_memory_SUnreclaim_bytes", 1.0),
        Metric::updown("kernel_stack_bytes", "telepipe.memory.kernel_stack", "By")
            .prometheus("node_memory_KernelStack_bytes", 1.0),
        Metric::updown("page_tables_bytes", "telepipe.memory.page_tables", "By")
            .prometheus("node_memory_PageTables_bytes", 1.0),
        Metric::updown("secondary_page_tables_bytes", "telepipe.memory.secondary_page_tables", "By")
            .prometheus("node_memory_SecPageTables_bytes", 1.0),
        Metric::updown("nfs_unstable_bytes", "telepipe.memory.nfs_unstable", "By")
            .prometheus("node_memory_NFS_Unstable_bytes", 1.0),
        Metric::updown("bounce_bytes", "telepipe.memory.bounce", "By")
            .prometheus("node_memory_Bounce_bytes", 1.0),
        Metric::updown("writeback_tmp_bytes", "telepipe.memory.writeback_tmp", "By")
            .prometheus("node_memory_WritebackTmp_bytes", 1.0),
        Metric::updown("commit_limit_bytes", "telepipe.memory.commit_limit", "By")
            .prometheus("node_memory_CommitLimit_bytes", 1.0),
        Metric::updown("committed_bytes", "telepipe.memory.committed", "By")
            .prometheus("node_memory_Committed_AS_bytes", 1.0),
        Metric::updown("vmalloc_total_bytes", "telepipe.memory.vmalloc_total", "By")
            .prometheus("node_memory_VmallocTotal_bytes", 1.0),
        Metric::updown("vmalloc_used_bytes", "telepipe.memory.vmalloc_used", "By")
            .prometheus("node_memory_VmallocUsed_bytes", 1.0),
        Metric::updown("vmalloc_chunk_bytes", "telepipe.memory.vmalloc_chunk", "By")
            .prometheus("node_memory_VmallocChunk_bytes", 1.0),
        Metric::updown("percpu_bytes", "telepipe.memory.percpu", "By")
            .prometheus("node_memory_Percpu_bytes", 1.0),
        Metric::updown("hardware_corrupted_bytes", "telepipe.memory.hardware_corrupted", "By")
            .prometheus("node_memory_HardwareCorrupted_bytes", 1.0),
        Metric::updown("anon_huge_bytes", "telepipe.memory.anon_huge", "By")
            .prometheus("node_memory_AnonHugePages_bytes", 1.0),
        Metric::updown("shared_huge_bytes", "telepipe.memory.shared_huge", "By")
            .prometheus("node_memory_ShmemHugePages_bytes", 1.0),
        Metric::updown("shared_huge_mapped_bytes", "telepipe.memory.shared_huge_mapped", "By")
            .prometheus("node_memory_ShmemPmdMapped_bytes", 1.0),
        Metric::updown("file_huge_bytes", "telepipe.memory.file_huge", "By")
            .prometheus("node_memory_FileHugePages_bytes", 1.0),
        Metric::updown("file_huge_mapped_bytes", "telepipe.memory.file_huge_mapped", "By")
            .prometheus("node_memory_FilePmdMapped_bytes", 1.0),
        Metric::updown("cma_total_bytes", "telepipe.memory.cma_total", "By")
            .prometheus("node_memory_CmaTotal_bytes", 1.0),
        Metric::updown("cma_free_bytes", "telepipe.memory.cma_free", "By")
            .prometheus("node_memory_CmaFree_bytes", 1.0),
        Metric::updown("unaccepted_bytes", "telepipe.memory.unaccepted", "By")
            .prometheus("node_memory_Unaccepted_bytes", 1.0),
        Metric::updown("balloon_bytes", "telepipe.memory.balloon", "By")
            .prometheus("node_memory_Balloon_bytes", 1.0),
        Metric::updown("swap_total_bytes", "telepipe.paging.limit", "By")
            .prometheus("node_memory_SwapTotal_bytes", 1.0),
        usage("swap_free_bytes", "system.paging.usage", "By", &[("system.paging.state", "free")])
            .prometheus("node_memory_SwapFree_bytes", 1.0),
        usage("swap_used_bytes", "system.paging.usage", "By", &[("system.paging.state", "used")]),
        Metric::updown("zswap_bytes", "telepipe.memory.zswap", "By")
            .prometheus("node_memory_Zswap_bytes", 1.0),
        Metric::updown("zswapped_bytes", "telepipe.memory.zswapped", "By")
            .prometheus("node_memory_Zswapped_bytes", 1.0),
        Metric::updown("huge_pages_total", "system.memory.linux.hugepages.limit", "{page}")
            .prometheus("node_memory_HugePages_Total", 1.0),
        usage(
            "huge_pages_free",
            "system.memory.linux.hugepages.usage",
            "{page}",
            &[("system.memory.linux.hugepages.state", "free")],
        )
        .prometheus("node_memory_HugePages_Free", 1.0),
        usage(
            "huge_pages_used",
            "system.memory.linux.hugepages.usage",
            "{page}",
            &[("system.memory.linux.hugepages.state", "used")],
        ),
        Metric::updown("huge_pages_reserved", "system.memory.linux.hugepages.reserved", "{page}")
            .prometheus("node_memory_HugePages_Rsvd", 1.0),
        Metric::updown("huge_pages_surplus", "system.memory.linux.hugepages.surplus", "{page}")
            .prometheus("node_memory_HugePages_Surp", 1.0),
        Metric::updown("huge_page_size_bytes", "system.memory.linux.hugepages.page_size", "By")
            .prometheus("node_memory_Hugepagesize_bytes", 1.0),
        Metric::updown("hugetlb_bytes", "telepipe.memory.hugetlb", "By")
            .prometheus("node_memory_Hugetlb_bytes", 1.0),
        Metric::updown("direct_map_4k_bytes", "telepipe.memory.direct_map_4k", "By")
            .prometheus("node_memory_DirectMap4k_bytes", 1.0),
        Metric::updown("direct_map_2m_bytes", "telepipe.memory.direct_map_2m", "By")
            .prometheus("node_memory_DirectMap2M_bytes", 1.0),
        Metric::updown("direct_map_4m_bytes", "telepipe.memory.direct_map_4m", "By")
            .prometheus("node_memory_DirectMap4M_bytes", 1.0),
        Metric::updown("direct_map_1g_bytes", "telepipe.memory.direct_map_1g", "By")
            .prometheus("node_memory_DirectMap1G_bytes", 1.0),
        Metric::gauge("used_ratio", "system.memory.utilization", "1")
            .with(&[("system.memory.state", "used")]),
    ],
);
