//! /proc/vmstat, /proc/meminfo, /proc/swaps and zram, or the memory files of a cgroup → `vmstat`, `swap`, `zram`.

mod cgroup;
mod swap;
mod table;

pub use cgroup::CgroupCollector;

use anyhow::Result;

use super::vm_stat::counts::{Counts, place};
use super::{Collector, Roots, Sample, Source};
use crate::common::emit::Emitter;
use crate::record::{Kind, SWAP, VMSTAT, Vmstat, ZRAM, Zram};
use table::{Form, Table};

/// Reads the files of this machine, or of another tree.
pub struct VirtualMemoryCollector {
    roots: Roots,
    vmstat: Source,
    meminfo: Source,
    swaps: Source,
    zrams: Vec<(String, Source)>,
    table: Table,
    memory: Table,
    /// Of the sample just before, if it could be read.
    counts_before: Option<Counts>,
    page_size: Option<u64>,
}

impl VirtualMemoryCollector {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        let source = |name: &str| Source::new(roots.proc.join(name));
        let zrams = swap::zrams(&roots.sys).into_iter().map(|name| {
            let path = roots.sys.join("block").join(&name).join("mm_stat");
            (name, Source::new(path))
        });
        Self {
            vmstat: source("vmstat"),
            meminfo: source("meminfo"),
            swaps: source("swaps"),
            zrams: zrams.collect(),
            table: Table::new(Form::Plain, is_total),
            memory: Table::new(Form::Meminfo, |_| false),
            counts_before: None,
            page_size: (!roots.foreign).then(|| rustix::param::page_size() as u64),
            roots: roots.clone(),
        }
    }

    fn devices(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<Vec<Zram>> {
        if let Some(bytes) = self.swaps.read_or_tell(sample.ts, out)?
            && sample.wants(&SWAP)
        {
            for swap in swap::swaps(bytes) {
                out.emit(sample.ts, &swap)?;
            }
        }
        let mut found = Vec::new();
        for (name, source) in &mut self.zrams {
            let Some(bytes) = source.read_or_tell(sample.ts, out)? else { continue };
            found.extend(swap::zram(name, bytes));
        }
        if sample.wants(&ZRAM) {
            for zram in &found {
                out.emit(sample.ts, zram)?;
            }
        }
        Ok(found)
    }
}

impl Collector for VirtualMemoryCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&VMSTAT, &SWAP, &ZRAM]
    }

    fn method(&self) -> String {
        format!("{0}/vmstat, {0}/meminfo, {0}/swaps, zram's mm_stat", self.roots.proc.display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        // Only the sample just before counts: no rate across one that failed.
        let before = self.counts_before.take();
        let vmstat = self.vmstat.read_or_tell(sample.ts, out)?.map(|bytes| self.table.read(bytes));
        let meminfo = self.meminfo.read_or_tell(sample.ts, out)?.map(|bytes| self.memory.read(bytes));
        let zrams = self.devices(sample, out)?;
        let sources = [(&self.vmstat, vmstat, &mut self.table), (&self.meminfo, meminfo, &mut self.memory)];
        for (source, read, table) in sources {
            if read.is_none() {
                table.clear();
            } else if table.is_empty() {
                source.tell_invalid(sample.ts, out, "lines of names and counts")?;
            }
        }
        if vmstat.is_none() && meminfo.is_none() {
            return Ok(());
        }
        self.page_size = self.page_size.or_else(|| page_size(&self.table, &self.memory));
        let counts = counts(&self.table, &self.memory, &zrams, self.page_size);
        if sample.wants(&VMSTAT) {
            let mut record = Vmstat { start_ts: sample.boot, ..Vmstat::default() };
            counts.fill(&mut record, self.page_size);
            if let (Some(before), Some(interval)) = (&before, sample.interval) {
                counts.since(before).fill_rates(interval, &mut record);
                record.growth_per_s = Some(self.table.growth(interval));
            }
            record.vmstat = vmstat.map(|()| self.table.rows());
            record.meminfo = meminfo.map(|()| self.memory.rows());
            out.emit(sample.ts, &record)?;
        }
        self.counts_before = vmstat.map(|()| counts);
        Ok(())
    }
}

/// The page size of a machine that is not this one: what meminfo has in bytes, vmstat has in pages. The two are not
/// of the same moment, so the next size that there is.
fn page_size(vmstat: &Table, memory: &Table) -> Option<u64> {
    let pairs = [
        ("anon_pages_bytes", "nr_anon_pages"),
        ("mapped_bytes", "nr_mapped"),
        ("mem_free_bytes", "nr_free_pages"),
    ];
    pairs.into_iter().find_map(|(bytes, pages)| {
        let (bytes, pages) = (memory.get(bytes)?, vmstat.get(pages)?);
        let size = bytes as f64 / pages as f64;
        let near = |known: &u64| (0.75..1.5).contains(&(size / *known as f64));
        (pages > 0).then(|| [4096, 8192, 16_384, 65_536].into_iter().find(near)).flatten()
    })
}

/// The counts that macOS has too.
fn counts(vmstat: &Table, memory: &Table, zrams: &[Zram], page_size: Option<u64>) -> Counts {
    let get = |name: &'static str| vmstat.get(name);
    let sum = |names: &[&'static str]| names.iter().try_fold(0u64, |sum, name| sum.checked_add(get(name)?));
    let less = |whole: Option<u64>, part: Option<u64>| Some(whole?.saturating_sub(part.unwrap_or(0)));
    let pages = |bytes: u64| page_size.map(|size| bytes / size);
    // `pgpgin` and `pgpgout` count KiB, whatever the page size (kernel `mm/vmstat.c`).
    let from_kib = |name| pages(get(name)?.checked_mul(1024)?);
    let kernel_stack = get("nr_kernel_stack").and_then(|kib| pages(kib.checked_mul(1024)?));
    let unpageable = sum(&["nr_unevictable", "nr_slab_unreclaimable", "nr_page_table_pages"]);
    let cache = less(get("nr_file_pages"), get("nr_shmem"));
    let compressor = |of: fn(&Zram) -> u64, name| {
        let zram = (!zrams.is_empty()).then(|| zrams.iter().map(of).sum::<u64>());
        let both = zram.into_iter().chain(memory.get(name)).reduce(u64::saturating_add);
        both.and_then(pages)
    };
    let mut counts = Counts::default();
    counts.set(place("pages_free"), get("nr_free_pages"));
    counts.set(place("pages_active"), sum(&["nr_active_anon", "nr_active_file"]));
    counts.set(place("pages_inactive"), sum(&["nr_inactive_anon", "nr_inactive_file"]));
    counts.set(place("pages_wired"), unpageable.zip(kernel_stack).map(|(some, stacks)| some + stacks));
    counts.set(place("pages_file_backed"), less(cache, get("nr_swapcached")));
    counts.set(place("pages_anonymous"), sum(&["nr_anon_pages", "nr_shmem"]));
    counts.set(place("pages_compressor_stored"), compressor(|zram| zram.stored_bytes, "zswapped_bytes"));
    counts.set(place("pages_compressor_occupied"), compressor(|zram| zram.occupied_bytes, "zswap_bytes"));
    counts.set(place("faults"), get("pgfault"));
    counts.set(place("pages_reactivated"), get("pgactivate"));
    counts.set(place("pages_purged"), get("pglazyfreed"));
    counts.set(place("pages_decompressed"), get("zswpin"));
    counts.set(place("pages_compressed"), get("zswpout"));
    counts.set(place("page_ins"), from_kib("pgpgin"));
    counts.set(place("page_outs"), from_kib("pgpgout"));
    counts.set(place("swap_ins"), get("pswpin"));
    counts.set(place("swap_outs"), get("pswpout"));
    counts
}

/// Totals among the names that begin like levels (kernel `mm/vmstat.c`, `include/linux/mmzone.h`).
const TOTALS: [&str; 7] = [
    "nr_dirtied",
    "nr_written",
    "nr_throttled_written",
    "nr_vmscan_write",
    "nr_vmscan_immediate_reclaim",
    "nr_foll_pin_acquired",
    "nr_foll_pin_released",
];

/// Whether a name of /proc/vmstat is a total since boot.
fn is_total(name: &str) -> bool {
    let level = name.starts_with("nr_") && !name.starts_with("nr_tlb_") || name == "workingset_nodes";
    TOTALS.contains(&name) || !level
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(list: &[(&str, u64)]) -> Table {
        let lines = list.iter().map(|(name, value)| format!("{name} {value}\n")).collect::<String>();
        let mut table = Table::new(Form::Plain, is_total);
        table.read(lines.as_bytes());
        table
    }

    #[test]
    fn totals_are_what_the_kernel_counts_up() {
        for name in [
            "pgfault",
            "nr_dirtied",
            "nr_tlb_remote_flush",
            "nr_tlb_local_flush_one",
            "workingset_refault_file",
        ] {
            assert!(is_total(name), "{name}");
        }
        for name in ["nr_free_pages", "nr_dirty_threshold", "nr_unstable", "workingset_nodes"] {
            assert!(!is_total(name), "{name}");
        }
    }

    #[test]
    fn kibibytes_become_pages_of_the_machines_size() {
        let vmstat = table(&[("pgpgin", 64), ("pgpgout", 4), ("nr_mapped", 100)]);
        let memory =
            table(&[("mapped_bytes", 1_700_000), ("zswapped_bytes", 32_768), ("zswap_bytes", 16_384)]);
        assert_eq!(page_size(&vmstat, &memory), Some(16_384));
        let zram = Zram { stored_bytes: 32_768, occupied_bytes: 16_384, ..Zram::default() };
        let mut record = Vmstat::default();
        counts(&vmstat, &memory, &[zram], Some(16_384)).fill(&mut record, Some(16_384));
        assert_eq!((record.page_ins, record.page_outs), (Some(4), Some(0)));
        assert_eq!(
            (record.pages_compressor_stored, record.compressor_occupied_bytes),
            (Some(4), Some(32_768))
        );
        assert_eq!((record.pages_free, record.faults), (None, None));
    }

    #[test]
    fn a_page_size_that_cannot_be_told_is_absent() {
        for (memory, vmstat) in [(0, 0), (0, 10), (10, 0), (1, 1 << 40)] {
            assert_eq!(
                page_size(&table(&[("nr_mapped", vmstat)]), &table(&[("mapped_bytes", memory)])),
                None
            );
        }
    }
}
