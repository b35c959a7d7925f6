//! /proc/vmstat, /proc/meminfo, /proc/swaps and zram, or the memory files of a cgroup → `vmstat`, `swap`, `zram`.

mod cgroup;
mod swap;
mod table;

pub use cgroup::CgroupCollector;

use std::path::Path;

use anyhow::Result;

use crate::collect::vm_stat::counts::{Count, Counts};
use crate::collect::{Collector, Roots, Sample, Source};
use crate::common::emit::Emitter;
use crate::record::{Kind, Reason, SWAP, VMSTAT, Vmstat, ZRAM, Zram};
use table::{Form, Table};

/// Reads the files below a root.
pub struct VirtualMemoryCollector {
    roots: Roots,
    vmstat: Source,
    meminfo: Source,
    swaps: Source,
    zrams: Vec<(String, Source)>,
    table: Table,
    memory: Table,
    /// The previous sample, if it could be read.
    counts_before: Option<Counts>,
    page_size: Option<u64>,
}

impl VirtualMemoryCollector {
    /// Reads below these roots.
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
        if let Some(bytes) = self.swaps.read_or_report(sample.ts, out)? {
            swap::swaps(bytes).iter().try_for_each(|swap| sample.emit(swap, out))?;
        }
        let mut found = Vec::new();
        for (name, source) in &mut self.zrams {
            let Some(bytes) = source.read_or_report(sample.ts, out)? else { continue };
            found.extend(swap::zram(name, bytes));
        }
        found.iter().try_for_each(|zram| sample.emit(zram, out))?;
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
        // Rates are against the previous sample only, never across one that failed.
        let before = self.counts_before.take();
        let vmstat = self.vmstat.read_or_report(sample.ts, out)?.map(|bytes| self.table.read(bytes));
        let meminfo = self.meminfo.read_or_report(sample.ts, out)?.map(|bytes| self.memory.read(bytes));
        let zrams = self.devices(sample, out)?;
        let sources = [(&self.vmstat, vmstat, &mut self.table), (&self.meminfo, meminfo, &mut self.memory)];
        for (source, read, table) in sources {
            if read.is_none() {
                table.clear();
            } else if table.is_empty() {
                source.report_invalid(sample.ts, out, "lines of a name and a count")?;
            }
        }
        if vmstat.is_none() && meminfo.is_none() {
            return Ok(());
        }
        self.page_size = self.page_size.or_else(|| page_size(&self.table, &self.memory));
        if let Some((pages, free)) = disagreement(&self.table, &self.memory, self.page_size) {
            let source = format!("{}: nr_free_pages", self.vmstat.path().display());
            let detail = format!(
                "nr_free_pages is {pages} bytes, but MemFree of meminfo is {free}; free_bytes follows meminfo. One of \
                 the two is probably replaced, as a container's meminfo is by lxcfs"
            );
            out.status(sample.ts, &source, Reason::Invalid, &detail)?;
        }
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

/// The page size of another machine: meminfo has in bytes what vmstat has in pages. The two files are not of the same
/// moment, so this returns the closest size that exists.
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
        (pages > 0).then(|| [4096, 8192, 16_384, 65_536, 262_144].into_iter().find(near)).flatten()
    })
}

/// The page size of a recorded /proc.
pub fn recorded_page_size(proc: &Path) -> Option<u64> {
    let table = |file: &str, form| {
        let mut table = Table::new(form, |_| false);
        table.read(&std::fs::read(proc.join(file)).ok()?);
        Some(table)
    };
    page_size(&table("vmstat", Form::Plain)?, &table("meminfo", Form::Meminfo)?)
}

/// The counts that macOS has too. What memory is used for comes from /proc/meminfo, which `free` and `scrape` show
/// and which a container may replace; totals, and everything without it, from /proc/vmstat.
fn counts(vmstat: &Table, meminfo: &Table, zrams: &[Zram], page_size: Option<u64>) -> Counts {
    let get = |name: &'static str| vmstat.get(name);
    let sum = |names: &[&'static str]| names.iter().try_fold(0u64, |sum, name| sum.checked_add(get(name)?));
    let less = |whole: Option<u64>, part: Option<u64>| Some(whole?.saturating_sub(part.unwrap_or(0)));
    let pages = |bytes: u64| page_size.map(|size| bytes / size);
    let bytes = |names: &[&'static str]| {
        names.iter().try_fold(0u64, |sum, name| sum.checked_add(meminfo.get(name)?)).and_then(pages)
    };
    // `pgpgin` and `pgpgout` count KiB, whatever the page size (kernel `mm/vmstat.c`).
    let from_kib = |name| pages(get(name)?.checked_mul(1024)?);
    let kernel_stack = || get("nr_kernel_stack").and_then(|kib| pages(kib.checked_mul(1024)?));
    let unpageable = || sum(&["nr_unevictable", "nr_slab_unreclaimable", "nr_page_table_pages"]);
    let cache = || less(less(get("nr_file_pages"), get("nr_shmem")), get("nr_swapcached"));
    let compressor = |of: fn(&Zram) -> u64, name| {
        let zram = (!zrams.is_empty()).then(|| zrams.iter().map(of).sum::<u64>());
        let both = zram.into_iter().chain(meminfo.get(name)).reduce(u64::saturating_add);
        both.and_then(pages)
    };
    let wired = ["unevictable_bytes", "sunreclaim_bytes", "kernel_stack_bytes", "page_tables_bytes"];
    let mut counts = Counts::default();
    let mut set = |count, value| counts.set(count, value);
    set(Count::pages_free, bytes(&["mem_free_bytes"]).or_else(|| get("nr_free_pages")));
    set(Count::pages_active, bytes(&["active_bytes"]).or_else(|| sum(&["nr_active_anon", "nr_active_file"])));
    set(
        Count::pages_inactive,
        bytes(&["inactive_bytes"]).or_else(|| sum(&["nr_inactive_anon", "nr_inactive_file"])),
    );
    set(
        Count::pages_wired,
        bytes(&wired).or_else(|| unpageable().zip(kernel_stack()).map(|(some, stacks)| some + stacks)),
    );
    set(
        Count::pages_file_backed,
        less(bytes(&["cached_bytes", "buffers_bytes"]), bytes(&["shmem_bytes"])).or_else(cache),
    );
    set(
        Count::pages_anonymous,
        bytes(&["anon_pages_bytes", "shmem_bytes"]).or_else(|| sum(&["nr_anon_pages", "nr_shmem"])),
    );
    set(Count::pages_compressor_stored, compressor(|zram| zram.stored_bytes, "zswapped_bytes"));
    set(Count::pages_compressor_occupied, compressor(|zram| zram.occupied_bytes, "zswap_bytes"));
    set(Count::page_ins, from_kib("pgpgin"));
    set(Count::page_outs, from_kib("pgpgout"));
    vmstat.set_events(&mut counts);
    counts
}

/// Free memory by /proc/vmstat and by /proc/meminfo, in bytes, if the two cannot be of one machine: the files are read
/// within a millisecond, in which a tenth of the memory does not come or go.
fn disagreement(vmstat: &Table, meminfo: &Table, page_size: Option<u64>) -> Option<(u64, u64)> {
    let (free, total) = (meminfo.get("mem_free_bytes")?, meminfo.get("mem_total_bytes")?);
    let by_pages = vmstat.get("nr_free_pages")?.checked_mul(page_size?)?;
    (by_pages.abs_diff(free) > total / 10).then_some((by_pages, free))
}

/// Totals with names that begin like those of levels (kernel `mm/vmstat.c`, `include/linux/mmzone.h`).
const TOTALS: [&str; 7] = [
    "nr_dirtied",
    "nr_written",
    "nr_throttled_written",
    "nr_vmscan_write",
    "nr_vmscan_immediate_reclaim",
    "nr_foll_pin_acquired",
    "nr_foll_pin_released",
];

/// Whether a name in /proc/vmstat is a total since boot.
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
    fn totals_are_the_counts_that_only_grow() {
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
    fn free_memory_follows_meminfo() {
        let vmstat = table(&[("nr_free_pages", 2_000_000), ("nr_active_anon", 1), ("nr_active_file", 2)]);
        let meminfo = table(&[("mem_free_bytes", 24_900_000_000), ("mem_total_bytes", 25_300_000_000)]);
        let mut record = Vmstat::default();
        counts(&vmstat, &meminfo, &[], Some(4096)).fill(&mut record, Some(4096));
        assert_eq!(record.free_bytes, Some(24_900_000_000 / 4096 * 4096));
        assert_eq!(record.pages_active, Some(3));
        assert_eq!(disagreement(&vmstat, &meminfo, Some(4096)), Some((8_192_000_000, 24_900_000_000)));
        let agrees = table(&[("nr_free_pages", 24_800_000_000 / 4096)]);
        assert_eq!(disagreement(&agrees, &meminfo, Some(4096)), None);
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
    fn page_sizes() {
        for (bytes, pages, expected) in [
            (1_000_000 * 4096, 1_000_000, Some(4096)),
            (1_000_000 * 4096, 990_000, Some(4096)),
            (16_384 * 999, 1000, Some(16_384)),
            (65_536 * 1000, 1000, Some(65_536)),
            (1024, 0, None),
            (1024, 1, None),
            (1 << 30, 1, None),
        ] {
            let (vmstat, memory) = (table(&[("nr_mapped", pages)]), table(&[("mapped_bytes", bytes)]));
            assert_eq!(page_size(&vmstat, &memory), expected);
        }
    }

    #[test]
    fn a_recorded_page_size() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("vmstat"), "nr_free_pages 9\nnr_mapped 1000\n").unwrap();
        assert_eq!(recorded_page_size(dir.path()), None);
        std::fs::write(dir.path().join("meminfo"), "MemTotal: 1 kB\nMapped:          16010 kB\n").unwrap();
        assert_eq!(recorded_page_size(dir.path()), Some(16_384));
    }

    #[test]
    fn an_unknown_page_size_is_absent() {
        for (memory, vmstat) in [(0, 0), (0, 10), (10, 0), (1, 1 << 40)] {
            assert_eq!(
                page_size(&table(&[("nr_mapped", vmstat)]), &table(&[("mapped_bytes", memory)])),
                None
            );
        }
    }
}
