//! Reads the arrays that the eBPF programs of `pagefault-trace` count in: the faults of an interval by
//! kind and by process.

use std::collections::HashMap;

use crate::bpf::map::{MappedArray, Plain, load, store};
use crate::bpf::skeleton::skeleton;
use crate::bpf::task::comm;
use crate::common::hist::{Histogram, Totals};

skeleton!("pagefault", PagefaultSkelBuilder, OpenPagefaultSkel, PagefaultSkel);

pub use types::{event as Event, fault_flags as Flags};

// SAFETY: generated with the layout of the C struct, and it has only integers.
unsafe impl Plain for types::event {}
// SAFETY: as above.
unsafe impl Plain for types::kind_counters {}
// SAFETY: as above.
unsafe impl Plain for types::process_counters {}

/// The combinations of the flags up to `MAJOR`, which are counted apart.
pub const KINDS: usize = 2 * Flags::MAJOR.0 as usize;

/// The budget for the table of processes, in bytes.
const BUDGET: usize = 5 << 20;

/// The table has 2 to this power processes per CPU.
pub fn process_bits(cpus: usize) -> u32 {
    let fits = BUDGET / (2 * cpus.max(1) * size_of::<types::process_counters>());
    fits.max(8).ilog2().min(12)
}

/// The faults of one kind in an interval.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The kind, as [`Flags`].
    pub kind: u32,
    /// The distribution of their times.
    pub histogram: Histogram,
    /// The sum of their times.
    pub sum_ns: u64,
    /// The longest time, and the process and thread name of that fault.
    pub longest: (u64, u32, String),
}

/// The faults of one process in an interval.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The process.
    pub pid: u32,
    /// The user of the thread that faulted first.
    pub uid: u32,
    /// The cgroup of that thread.
    pub cgroup_id: u64,
    /// Minor faults.
    pub minor: u64,
    /// Major faults.
    pub major: u64,
    /// The time of the minor faults.
    pub minor_ns: u64,
    /// The time of the major faults.
    pub major_ns: u64,
    /// The time of the longest fault.
    pub max_ns: u64,
    /// The name of its thread.
    pub comm: String,
}

/// The arrays, both halves of each, and the snapshots from which an interval is the difference.
///
/// Counters are never set to zero, because a program that began before the interval ended can still add to them
/// (`nohz_full` CPUs do not take part in membarrier). What it adds belongs to a later interval.
pub struct Table {
    cpus: usize,
    kinds: MappedArray<types::kind_counters>,
    processes: Option<MappedArray<types::process_counters>>,
    kind_snapshots: HashMap<(usize, usize), Totals>,
    /// The elements of the table that were used, as they were when last read.
    process_snapshots: HashMap<usize, types::process_counters>,
}

impl Table {
    /// Takes arrays for this number of CPUs.
    pub fn new(
        cpus: usize,
        kinds: MappedArray<types::kind_counters>,
        processes: Option<MappedArray<types::process_counters>>,
    ) -> Self {
        Self { cpus, kinds, processes, kind_snapshots: HashMap::new(), process_snapshots: HashMap::new() }
    }

    /// The increase of each kind in a half that no longer changes, since it was last read.
    pub fn kinds(&mut self, half: usize) -> Vec<Faults> {
        let faults = (0..KINDS).map(|kind| self.kind(half, kind));
        faults.filter(|faults| faults.histogram.count() > 0).collect()
    }

    fn kind(&mut self, half: usize, kind: usize) -> Faults {
        let mut now = Totals::default();
        let mut longest = (0, 0, String::new());
        for cpu in 0..self.cpus {
            let at = self.kinds.at((half * self.cpus + cpu) * KINDS + kind);
            // SAFETY: inside the mapped array.
            let counters = unsafe { load(at) };
            now.add(counters.sum_ns, counters.buckets.iter().copied());
            if counters.max_ns > 0 {
                // SAFETY: as above.
                unsafe { store(&raw mut (*at).max_ns, 0) };
            }
            if counters.max_ns > longest.0 {
                let comm = comm(&counters.max_comm.map(i8::cast_unsigned)).into_owned();
                longest = (counters.max_ns, counters.max_pid, comm);
            }
        }
        let (histogram, sum_ns) = self.kind_snapshots.entry((half, kind)).or_default().advance(now);
        Faults { kind: kind as u32, histogram, sum_ns, longest }
    }

    /// The increases of all processes in a half that no longer changes. Their elements are free from then on.
    pub fn processes(&mut self, half: usize) -> Vec<Process> {
        let Some(table) = &self.processes else { return Vec::new() };
        let mut found: HashMap<u32, Process> = HashMap::new();
        for index in half * table.len() / 2..(half + 1) * table.len() / 2 {
            let at = table.at(index);
            // SAFETY: inside the mapped array.
            let pid = unsafe { load(&raw const (*at).pid) };
            let before = self.process_snapshots.get(&index).copied().unwrap_or_default();
            if pid == 0 && before.pid == 0 {
                continue;
            }
            // SAFETY: as above.
            let now = types::process_counters { pid, ..unsafe { load(at) } };
            // SAFETY: as above.
            unsafe { store(&raw mut (*at).max_ns, 0) };
            // SAFETY: as above.
            unsafe { store(&raw mut (*at).pid, 0) };
            self.process_snapshots.insert(index, now);
            if (now.minor, now.major) == (before.minor, before.major) {
                continue;
            }
            // A late program added to a freed element; count it for the process that had it before.
            let pid = if pid == 0 { before.pid } else { pid };
            let process = found.entry(pid).or_insert_with(|| Process {
                pid,
                uid: now.uid,
                cgroup_id: now.cgroup_id,
                ..Process::default()
            });
            process.minor += now.minor.wrapping_sub(before.minor);
            process.major += now.major.wrapping_sub(before.major);
            process.minor_ns += now.minor_ns.wrapping_sub(before.minor_ns);
            process.major_ns += now.major_ns.wrapping_sub(before.major_ns);
            if process.comm.is_empty() || now.max_ns > process.max_ns {
                process.max_ns = now.max_ns;
                process.comm = comm(&now.comm.map(i8::cast_unsigned)).into_owned();
            }
        }
        found.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::hist::index;

    /// Counts as the eBPF programs do, on one CPU, with four elements for processes.
    struct Kernel {
        kinds: *mut types::kind_counters,
        processes: *mut types::process_counters,
    }

    impl Kernel {
        fn new() -> (Self, Table) {
            let kinds = MappedArray::in_memory(2 * KINDS).unwrap();
            let processes = MappedArray::in_memory(2 * 4).unwrap();
            let kernel = Self { kinds: kinds.at(0), processes: processes.at(0) };
            (kernel, Table::new(1, kinds, Some(processes)))
        }

        fn count(&self, half: usize, kind: usize, ns: u64) {
            // SAFETY: inside the array, which the table keeps.
            let slot = unsafe { &mut *self.kinds.add(half * KINDS + kind) };
            slot.sum_ns += ns;
            slot.buckets[index(ns)] = slot.buckets[index(ns)].wrapping_add(1);
            slot.max_ns = slot.max_ns.max(ns);
        }

        fn count_process(&self, half: usize, at: usize, pid: u32, ns: u64) {
            // SAFETY: as above.
            let element = unsafe { &mut *self.processes.add(half * 4 + at) };
            element.pid = pid;
            element.minor += 1;
            element.minor_ns += ns;
            element.max_ns = element.max_ns.max(ns);
        }
    }

    #[test]
    fn late_faults_belong_to_a_later_interval() {
        let (kernel, mut table) = Kernel::new();
        kernel.count(0, 3, 1000);
        kernel.count(0, 3, 5000);
        let summed = |list: &[Faults]| -> Vec<_> {
            list.iter().map(|f| (f.kind, f.histogram.count(), f.sum_ns, f.longest.0)).collect()
        };
        assert_eq!(summed(&table.kinds(0)), [(3, 2, 6000, 5000)]);
        kernel.count(0, 3, 700);
        kernel.count(1, 7, 100);
        let other = table.kinds(1);
        assert_eq!(summed(&other), [(7, 1, 100, 100)]);
        assert_eq!(other[0].histogram.zero_count(), 1);
        assert_eq!(summed(&table.kinds(0)), [(3, 1, 700, 700)]);
        assert_eq!(summed(&table.kinds(0)), []);
    }

    #[test]
    fn counters_wrap() {
        let (kernel, mut table) = Kernel::new();
        // SAFETY: as above.
        unsafe { (*kernel.kinds).buckets[index(1000)] = u32::MAX };
        table.kinds(0);
        kernel.count(0, 0, 1000);
        kernel.count(0, 0, 1000);
        assert_eq!(table.kinds(0)[0].histogram.count(), 2);
    }

    #[test]
    fn late_faults_belong_to_their_process() {
        let (kernel, mut table) = Kernel::new();
        let summed = |mut list: Vec<Process>| -> Vec<_> {
            list.sort_by_key(|process| process.pid);
            list.iter().map(|p| (p.pid, [p.minor, p.major], [p.minor_ns, p.major_ns], p.max_ns)).collect()
        };
        kernel.count_process(0, 1, 77, 500);
        kernel.count_process(0, 2, 88, 300);
        assert_eq!(summed(table.processes(0)), [(77, [1, 0], [500, 0], 500), (88, [1, 0], [300, 0], 300)]);
        // SAFETY: inside the array, which the table keeps.
        let elements = unsafe { std::slice::from_raw_parts_mut(kernel.processes, 4) };
        assert!(elements.iter().all(|element| element.pid == 0), "all are free");
        // A program that had found its element before that was freed.
        elements[1].major += 1;
        elements[1].major_ns += 40;
        kernel.count_process(0, 2, 99, 20);
        assert_eq!(summed(table.processes(0)), [(77, [0, 1], [0, 40], 0), (99, [1, 0], [20, 0], 20)]);
        assert_eq!(summed(table.processes(0)), []);
    }
}
