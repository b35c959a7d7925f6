//! The `memory` record: use of memory and swap.

use super::prelude::*;

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

const fn bytes(field: &'static str, name: &'static str) -> Metric {
    Metric::updown(field, name, "By")
}

const fn pages(field: &'static str, name: &'static str) -> Metric {
    Metric::updown(field, name, "{page}")
}

const fn usage(field: &'static str, state: Pairs) -> Metric {
    bytes(field, "system.memory.usage").with(state)
}

const fn slab(field: &'static str, state: Pairs) -> Metric {
    bytes(field, "system.memory.linux.slab.usage").with(state)
}

const fn swap(field: &'static str, state: Pairs) -> Metric {
    bytes(field, "system.paging.usage").with(state)
}

const fn huge_pages(field: &'static str, state: Pairs) -> Metric {
    pages(field, "system.memory.linux.hugepages.usage").with(state)
}

/// One per sample. `used` is defined as in the semantic conventions for Linux.
pub const MEMORY: Kind = Kind::cumulative::<Memory>("memory", "Use of memory and swap").metrics(&[
    bytes("total_bytes", "system.memory.limit").prometheus("node_memory_MemTotal_bytes"),
    usage("free_bytes", &[("system.memory.state", "free")]).prometheus("node_memory_MemFree_bytes"),
    bytes("available_bytes", "system.memory.linux.available")
        .hostmetrics("system.linux.memory.available")
        .prometheus("node_memory_MemAvailable_bytes"),
    usage("used_bytes", &[("system.memory.state", "used")]),
    usage("buffers_bytes", &[("system.memory.state", "buffers")]).prometheus("node_memory_Buffers_bytes"),
    usage("cached_bytes", &[("system.memory.state", "cached")]).prometheus("node_memory_Cached_bytes"),
    bytes("swap_cached_bytes", "telepipe.memory.swap_cached").prometheus("node_memory_SwapCached_bytes"),
    bytes("active_bytes", "telepipe.memory.active").prometheus("node_memory_Active_bytes"),
    bytes("inactive_bytes", "telepipe.memory.inactive").prometheus("node_memory_Inactive_bytes"),
    bytes("active_anon_bytes", "telepipe.memory.active_anon").prometheus("node_memory_Active_anon_bytes"),
    bytes("inactive_anon_bytes", "telepipe.memory.inactive_anon")
        .prometheus("node_memory_Inactive_anon_bytes"),
    bytes("active_file_bytes", "telepipe.memory.active_file").prometheus("node_memory_Active_file_bytes"),
    bytes("inactive_file_bytes", "telepipe.memory.inactive_file")
        .prometheus("node_memory_Inactive_file_bytes"),
    bytes("unevictable_bytes", "telepipe.memory.unevictable").prometheus("node_memory_Unevictable_bytes"),
    bytes("mlocked_bytes", "telepipe.memory.mlocked").prometheus("node_memory_Mlocked_bytes"),
    bytes("dirty_bytes", "telepipe.memory.dirty").prometheus("node_memory_Dirty_bytes"),
    bytes("writeback_bytes", "telepipe.memory.writeback").prometheus("node_memory_Writeback_bytes"),
    bytes("anon_bytes", "telepipe.memory.anon").prometheus("node_memory_AnonPages_bytes"),
    bytes("mapped_bytes", "telepipe.memory.mapped").prometheus("node_memory_Mapped_bytes"),
    bytes("shared_bytes", "system.memory.linux.shared").prometheus("node_memory_Shmem_bytes"),
    bytes("kernel_reclaimable_bytes", "telepipe.memory.kernel_reclaimable")
        .prometheus("node_memory_KReclaimable_bytes"),
    bytes("slab_bytes", "telepipe.memory.slab").prometheus("node_memory_Slab_bytes"),
    slab("slab_reclaimable_bytes", &[("system.memory.linux.slab.state", "reclaimable")])
        .prometheus("node_memory_SReclaimable_bytes"),
    slab("slab_unreclaimable_bytes", &[("system.memory.linux.slab.state", "unreclaimable")])
        .prometheus("node_memory_SUnreclaim_bytes"),
    bytes("kernel_stack_bytes", "telepipe.memory.kernel_stack").prometheus("node_memory_KernelStack_bytes"),
    bytes("page_tables_bytes", "telepipe.memory.page_tables").prometheus("node_memory_PageTables_bytes"),
    bytes("secondary_page_tables_bytes", "telepipe.memory.secondary_page_tables")
        .prometheus("node_memory_SecPageTables_bytes"),
    bytes("nfs_unstable_bytes", "telepipe.memory.nfs_unstable").prometheus("node_memory_NFS_Unstable_bytes"),
    bytes("bounce_bytes", "telepipe.memory.bounce").prometheus("node_memory_Bounce_bytes"),
    bytes("writeback_tmp_bytes", "telepipe.memory.writeback_tmp")
        .prometheus("node_memory_WritebackTmp_bytes"),
    bytes("commit_limit_bytes", "telepipe.memory.commit_limit").prometheus("node_memory_CommitLimit_bytes"),
    bytes("committed_bytes", "telepipe.memory.committed").prometheus("node_memory_Committed_AS_bytes"),
    bytes("vmalloc_total_bytes", "telepipe.memory.vmalloc_total")
        .prometheus("node_memory_VmallocTotal_bytes"),
    bytes("vmalloc_used_bytes", "telepipe.memory.vmalloc_used").prometheus("node_memory_VmallocUsed_bytes"),
    bytes("vmalloc_chunk_bytes", "telepipe.memory.vmalloc_chunk")
        .prometheus("node_memory_VmallocChunk_bytes"),
    bytes("percpu_bytes", "telepipe.memory.percpu").prometheus("node_memory_Percpu_bytes"),
    bytes("hardware_corrupted_bytes", "telepipe.memory.hardware_corrupted")
        .prometheus("node_memory_HardwareCorrupted_bytes"),
    bytes("anon_huge_bytes", "telepipe.memory.anon_huge").prometheus("node_memory_AnonHugePages_bytes"),
    bytes("shared_huge_bytes", "telepipe.memory.shared_huge").prometheus("node_memory_ShmemHugePages_bytes"),
    bytes("shared_huge_mapped_bytes", "telepipe.memory.shared_huge_mapped")
        .prometheus("node_memory_ShmemPmdMapped_bytes"),
    bytes("file_huge_bytes", "telepipe.memory.file_huge").prometheus("node_memory_FileHugePages_bytes"),
    bytes("file_huge_mapped_bytes", "telepipe.memory.file_huge_mapped")
        .prometheus("node_memory_FilePmdMapped_bytes"),
    bytes("cma_total_bytes", "telepipe.memory.cma_total").prometheus("node_memory_CmaTotal_bytes"),
    bytes("cma_free_bytes", "telepipe.memory.cma_free").prometheus("node_memory_CmaFree_bytes"),
    bytes("unaccepted_bytes", "telepipe.memory.unaccepted").prometheus("node_memory_Unaccepted_bytes"),
    bytes("balloon_bytes", "telepipe.memory.balloon").prometheus("node_memory_Balloon_bytes"),
    bytes("swap_total_bytes", "telepipe.paging.limit").prometheus("node_memory_SwapTotal_bytes"),
    swap("swap_free_bytes", &[("system.paging.state", "free")]).prometheus("node_memory_SwapFree_bytes"),
    swap("swap_used_bytes", &[("system.paging.state", "used")]),
    bytes("zswap_bytes", "telepipe.memory.zswap").prometheus("node_memory_Zswap_bytes"),
    bytes("zswapped_bytes", "telepipe.memory.zswapped").prometheus("node_memory_Zswapped_bytes"),
    pages("huge_pages_total", "system.memory.linux.hugepages.limit")
        .prometheus("node_memory_HugePages_Total"),
    huge_pages("huge_pages_free", &[("system.memory.linux.hugepages.state", "free")])
        .prometheus("node_memory_HugePages_Free"),
    huge_pages("huge_pages_used", &[("system.memory.linux.hugepages.state", "used")]),
    pages("huge_pages_reserved", "system.memory.linux.hugepages.reserved")
        .prometheus("node_memory_HugePages_Rsvd"),
    pages("huge_pages_surplus", "system.memory.linux.hugepages.surplus")
        .prometheus("node_memory_HugePages_Surp"),
    bytes("huge_page_size_bytes", "system.memory.linux.hugepages.page_size")
        .prometheus("node_memory_Hugepagesize_bytes"),
    bytes("hugetlb_bytes", "telepipe.memory.hugetlb").prometheus("node_memory_Hugetlb_bytes"),
    bytes("direct_map_4k_bytes", "telepipe.memory.direct_map_4k").prometheus("node_memory_DirectMap4k_bytes"),
    bytes("direct_map_2m_bytes", "telepipe.memory.direct_map_2m").prometheus("node_memory_DirectMap2M_bytes"),
    bytes("direct_map_4m_bytes", "telepipe.memory.direct_map_4m").prometheus("node_memory_DirectMap4M_bytes"),
    bytes("direct_map_1g_bytes", "telepipe.memory.direct_map_1g").prometheus("node_memory_DirectMap1G_bytes"),
    Metric::gauge("used_ratio", "system.memory.utilization", "1").with(&[("system.memory.state", "used")]),
]);
