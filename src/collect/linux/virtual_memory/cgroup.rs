//! The memory files of a cgroup of version 2 (kernel `mm/memcontrol.c`) → `vmstat`.

use std::borrow::Cow;

use anyhow::Result;

use super::table::{Form, Table};
use crate::collect::vm_stat::counts::{Count, Counts, byte_slots};
use crate::collect::{Collector, Roots, Sample, Source, cgroup};
use crate::common::emit::Emitter;
use crate::common::program::Usage;
use crate::record::{Kind, VMSTAT, Vmstat};

/// Files with a single number, or `max`.
const SINGLE: [&str; 7] = [
    "memory.current",
    "memory.peak",
    "memory.max",
    "memory.high",
    "memory.swap.current",
    "memory.zswap.current",
    "memory.swap.max",
];

/// Reads one cgroup.
pub struct CgroupCollector {
    name: String,
    stat: Source,
    single: Vec<Source>,
    table: Table,
    /// The previous sample, if it could be read.
    counts_before: Option<Counts>,
    page_size: Option<u64>,
}

impl CgroupCollector {
    /// Opens a cgroup: `path` is its folder, or its path in the hierarchy such as `/system.slice`.
    ///
    /// # Errors
    /// [`Usage`] if there is no such folder.
    pub fn new(path: &str, roots: &Roots) -> Result<Self, Usage> {
        let folder = cgroup::folder(path, &roots.sys)?;
        Ok(Self {
            name: path.to_owned(),
            stat: Source::new(folder.join("memory.stat")),
            single: SINGLE.iter().map(|file| Source::new(folder.join(file))).collect(),
            table: Table::new(Form::Plain, is_total),
            counts_before: None,
            page_size: (!roots.foreign).then(|| rustix::param::page_size() as u64),
        })
    }
}

impl Collector for CgroupCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&VMSTAT]
    }

    fn method(&self) -> String {
        self.stat.path().display().to_string()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let before = self.counts_before.take();
        let Some(bytes) = self.stat.read_or_report(sample.ts, out)? else { return Ok(()) };
        self.table.read(bytes);
        if self.table.is_empty() {
            return self.stat.report_invalid(sample.ts, out, "the lines of memory.stat");
        }
        let counts = counts(&self.table, self.page_size);
        if sample.wants(&VMSTAT) {
            let mut record = Vmstat { cgroup: Some(self.name.clone()), ..Vmstat::default() };
            counts.fill(&mut record, self.page_size);
            fill_bytes(&self.table, &mut record);
            if let (Some(before), Some(interval)) = (&before, sample.interval) {
                counts.since(before).fill_rates(interval, &mut record);
                record.growth_per_s = Some(self.table.growth(interval));
            }
            let rows = self.table.rows();
            let rows = rows.iter().map(|(name, count)| (Cow::Borrowed(name), count));
            record.memory_stat = Some(rows.chain(self.single.iter_mut().filter_map(single)).collect());
            out.emit(sample.ts, &record)?;
        }
        self.counts_before = Some(counts);
        Ok(())
    }
}

/// The name and number of such a file; `None` if it is absent or contains `max`.
fn single<'a>(source: &mut Source) -> Option<(Cow<'a, str>, u64)> {
    let name = source.path().file_name()?.to_str()?.replace('.', "_");
    let value = crate::collect::text::number(source.read().ok()?.trim_ascii())?;
    Some((format!("{name}_bytes").into(), value))
}

/// Levels of a cgroup in bytes, by the names of the record's fields.
fn levels(rows: &Table) -> [(Count, Option<u64>); 7] {
    let sum =
        |names: &[&'static str]| names.iter().try_fold(0u64, |sum, name| sum.checked_add(rows.get(name)?));
    // `file` in memory.stat includes shared memory.
    let files = rows.get("file").zip(rows.get("shmem")).map(|(file, shared)| file.saturating_sub(shared));
    [
        (Count::pages_active, sum(&["active_anon", "active_file"])),
        (Count::pages_inactive, sum(&["inactive_anon", "inactive_file"])),
        (Count::pages_wired, sum(&["unevictable", "slab_unreclaimable", "kernel_stack", "pagetables"])),
        (Count::pages_file_backed, files),
        (Count::pages_anonymous, sum(&["anon", "shmem"])),
        (Count::pages_compressor_stored, rows.get("zswapped")),
        (Count::pages_compressor_occupied, rows.get("zswap")),
    ]
}

fn counts(rows: &Table, page_size: Option<u64>) -> Counts {
    let mut counts = Counts::default();
    for (count, bytes) in levels(rows) {
        counts.set(count, bytes.zip(page_size).map(|(bytes, size)| bytes / size));
    }
    rows.set_events(&mut counts);
    counts
}

/// Fills in the exact bytes, instead of bytes converted from pages.
fn fill_bytes(rows: &Table, record: &mut Vmstat) {
    let fields = byte_slots(record);
    for (count, bytes) in levels(rows) {
        *fields[count as usize] = bytes;
    }
}

/// Whether a name in memory.stat is a total (reclaim, faults). Others are bytes.
fn is_total(name: &str) -> bool {
    let begins = ["pg", "workingset_", "thp_", "zswp", "pswp", "numa_", "swpin_", "swpout_"];
    begins.iter().any(|prefix| name.starts_with(prefix)) && !["pgtables", "workingset_nodes"].contains(&name)
}
