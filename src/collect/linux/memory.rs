//! Reads /proc/meminfo into `memory` records.

use super::file::FileRecord;
use crate::collect::ratio;
use crate::collect::text::{lines, number, words};
use crate::record::Memory;

impl FileRecord for Memory {
    const FILE: &'static str = "meminfo";
    const EXPECTED: &'static str = "the lines of meminfo";

    /// Lines are `Name:  123 kB`, where `kB` is 1024 bytes; counts have no unit.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut memory = Self::default();
        for line in lines(bytes) {
            let Some(colon) = line.iter().position(|&byte| byte == b':') else { continue };
            let Some(field) = field(&mut memory, &line[..colon]) else { continue };
            let mut words = words(&line[colon + 1..]);
            let value = words.next().and_then(number);
            let factor = if words.next() == Some(b"kB") { 1024 } else { 1 };
            *field = value.and_then(|value| value.checked_mul(factor));
        }
        if memory == Self::default() {
            return None;
        }
        memory.used_bytes = used(&memory);
        memory.used_ratio = memory.used_bytes.and_then(|used| ratio(used, memory.total_bytes?));
        memory.swap_used_bytes = less(memory.swap_total_bytes, memory.swap_free_bytes);
        memory.huge_pages_used = less(memory.huge_pages_total, memory.huge_pages_free);
        Some(memory)
    }
}

fn used(memory: &Memory) -> Option<u64> {
    if memory.available_bytes.is_some() {
        return less(memory.total_bytes, memory.available_bytes);
    }
    let reclaimable = memory.slab_reclaimable_bytes.or(Some(0));
    let unused = [memory.free_bytes, memory.buffers_bytes, memory.cached_bytes, reclaimable];
    unused.into_iter().fold(memory.total_bytes, less)
}

/// The difference; 0 in containers that mix a total of their own with values of the host.
fn less(whole: Option<u64>, part: Option<u64>) -> Option<u64> {
    Some(whole?.saturating_sub(part?))
}

/// The field for a line of meminfo.
fn field<'a>(memory: &'a mut Memory, name: &[u8]) -> Option<&'a mut Option<u64>> {
    let field = match name {
        b"MemTotal" => &mut memory.total_bytes,
        b"MemFree" => &mut memory.free_bytes,
        b"MemAvailable" => &mut memory.available_bytes,
        b"Buffers" => &mut memory.buffers_bytes,
        b"Cached" => &mut memory.cached_bytes,
        b"SwapCached" => &mut memory.swap_cached_bytes,
        b"Active" => &mut memory.active_bytes,
        b"Inactive" => &mut memory.inactive_bytes,
        b"Active(anon)" => &mut memory.active_anon_bytes,
        b"Inactive(anon)" => &mut memory.inactive_anon_bytes,
        b"Active(file)" => &mut memory.active_file_bytes,
        b"Inactive(file)" => &mut memory.inactive_file_bytes,
        b"Unevictable" => &mut memory.unevictable_bytes,
        b"Mlocked" => &mut memory.mlocked_bytes,
        b"Dirty" => &mut memory.dirty_bytes,
        b"Writeback" => &mut memory.writeback_bytes,
        b"AnonPages" => &mut memory.anon_bytes,
        b"Mapped" => &mut memory.mapped_bytes,
        b"Shmem" => &mut memory.shared_bytes,
        b"KReclaimable" => &mut memory.kernel_reclaimable_bytes,
        b"Slab" => &mut memory.slab_bytes,
        b"SReclaimable" => &mut memory.slab_reclaimable_bytes,
        b"SUnreclaim" => &mut memory.slab_unreclaimable_bytes,
        b"KernelStack" => &mut memory.kernel_stack_bytes,
        b"PageTables" => &mut memory.page_tables_bytes,
        b"SecPageTables" => &mut memory.secondary_page_tables_bytes,
        b"NFS_Unstable" => &mut memory.nfs_unstable_bytes,
        b"Bounce" => &mut memory.bounce_bytes,
        b"WritebackTmp" => &mut memory.writeback_tmp_bytes,
        b"CommitLimit" => &mut memory.commit_limit_bytes,
        b"Committed_AS" => &mut memory.committed_bytes,
        b"VmallocTotal" => &mut memory.vmalloc_total_bytes,
        b"VmallocUsed" => &mut memory.vmalloc_used_bytes,
        b"VmallocChunk" => &mut memory.vmalloc_chunk_bytes,
        b"Percpu" => &mut memory.percpu_bytes,
        b"HardwareCorrupted" => &mut memory.hardware_corrupted_bytes,
        b"AnonHugePages" => &mut memory.anon_huge_bytes,
        b"ShmemHugePages" => &mut memory.shared_huge_bytes,
        b"ShmemPmdMapped" => &mut memory.shared_huge_mapped_bytes,
        b"FileHugePages" => &mut memory.file_huge_bytes,
        b"FilePmdMapped" => &mut memory.file_huge_mapped_bytes,
        b"CmaTotal" => &mut memory.cma_total_bytes,
        b"CmaFree" => &mut memory.cma_free_bytes,
        b"Unaccepted" => &mut memory.unaccepted_bytes,
        b"Balloon" => &mut memory.balloon_bytes,
        b"SwapTotal" => &mut memory.swap_total_bytes,
        b"SwapFree" => &mut memory.swap_free_bytes,
        b"Zswap" => &mut memory.zswap_bytes,
        b"Zswapped" => &mut memory.zswapped_bytes,
        b"HugePages_Total" => &mut memory.huge_pages_total,
        b"HugePages_Free" => &mut memory.huge_pages_free,
        b"HugePages_Rsvd" => &mut memory.huge_pages_reserved,
        b"HugePages_Surp" => &mut memory.huge_pages_surplus,
        b"Hugepagesize" => &mut memory.huge_page_size_bytes,
        b"Hugetlb" => &mut memory.hugetlb_bytes,
        b"DirectMap4k" => &mut memory.direct_map_4k_bytes,
        b"DirectMap2M" => &mut memory.direct_map_2m_bytes,
        b"DirectMap4M" => &mut memory.direct_map_4m_bytes,
        b"DirectMap1G" => &mut memory.direct_map_1g_bytes,
        _ => return None,
    };
    Some(field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn kilobytes_are_kibibytes_and_counts_are_counts() {
        let text = b"MemTotal: 1000 kB\nMemFree:  100 kB\nMemAvailable: 400 kB\nActive(anon):  7 kB\n\
            SwapTotal: 50 kB\nSwapFree: 20 kB\nHugePages_Total:   5\nHugePages_Free: 3\nHugepagesize: 2048 kB\n\
            SomethingNew: 1 kB\n";
        let memory = Memory::parse(text).unwrap();
        assert_eq!((memory.total_bytes, memory.used_bytes), (Some(1_024_000), Some(614_400)));
        assert_eq!((memory.used_ratio, memory.active_anon_bytes), (Some(0.6), Some(7168)));
        assert_eq!((memory.swap_used_bytes, memory.huge_pages_used), (Some(30_720), Some(2)));
        assert_eq!((memory.huge_pages_total, memory.huge_page_size_bytes), (Some(5), Some(2_097_152)));
        assert_eq!((memory.cached_bytes, memory.dirty_bytes), (None, None));
    }

    #[test]
    fn used_without_available() {
        let memory =
            Memory::parse(b"MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 250 kB\n").unwrap();
        assert_eq!((memory.available_bytes, memory.used_bytes), (None, Some(600 * 1024)));
        let memory = Memory::parse(b"MemTotal: 1000 kB\nBuffers: 50 kB\n").unwrap();
        assert_eq!((memory.used_bytes, memory.used_ratio), (None, None));
    }

    #[test]
    fn malformed_lines_are_absent() {
        for text in [&b""[..], b"\n\n", b"nothing here", b"MemTotal kB", b"MemTotal: many kB"] {
            assert_eq!(Memory::parse(text), None, "{text:?}");
        }
        let memory =
            Memory::parse(b"MemTotal: 18446744073709551615 kB\nMemFree: -1 kB\nDirty: 1 kB\nMemAva").unwrap();
        assert_eq!(memory, Memory { dirty_bytes: Some(1024), ..Memory::default() });
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(bytes in "(MemTotal|MemFree|MemAvailable|Cached|x): *[0-9]{0,21}( kB)?\n|.{0,9}") {
            Memory::parse(bytes.repeat(2).as_bytes());
        }
    }
}
