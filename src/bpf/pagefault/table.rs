//! The arrays that count faults by kind and by process: what they gained in an interval.

use std::collections::HashMap;

use super::layout::{KINDS, Process, Slot};
use crate::bpf::hist::{FINE, Histogram, buckets};
use crate::bpf::map::{MappedArray, load, store};
use crate::bpf::task::comm;

/// The faults of one kind in an interval.
#[derive(Clone, Debug)]
pub struct Faults {
    /// The kind: bits 4 (major), 2 (write) and 1 (user).
    pub kind: usize,
    /// The distribution of their times.
    pub histogram: Histogram,
    /// The sum of their times.
    pub sum_ns: u64,
    /// The longest time, and the process and thread name of that fault.
    pub longest: (u64, u32, String),
}

/// The counters of one kind when they were last read, summed over the CPUs.
struct KindSnapshot {
    sum_ns: u64,
    buckets: Box<[u32; buckets(FINE)]>,
}

/// The counters in an element of the table of processes when it was last read, and their process; 0 if it was free.
#[derive(Clone, Copy, Default)]
struct ProcessSnapshot {
    pid: u32,
    counts: [u64; 2],
    sums: [u64; 2],
}

/// The arrays, both halves of each, and the snapshots from which an interval is the difference.
///
/// Counters are never set to zero, because a program that began before the interval ended can still add to them
/// (`nohz_full` CPUs do not take part in membarrier). What it adds belongs to a later interval.
pub struct Table {
    cpus: usize,
    kinds: MappedArray<Slot>,
    processes: Option<MappedArray<Process>>,
    kind_snapshots: HashMap<(usize, usize), KindSnapshot>,
    process_snapshots: HashMap<usize, ProcessSnapshot>,
}

impl Table {
    /// Takes arrays for that many CPUs.
    pub fn new(cpus: usize, kinds: MappedArray<Slot>, processes: Option<MappedArray<Process>>) -> Self {
        Self { cpus, kinds, processes, kind_snapshots: HashMap::new(), process_snapshots: HashMap::new() }
    }

    /// What a half that no longer changes has gained since it was last read, for each kind with a fault.
    pub fn kinds(&mut self, half: usize) -> Vec<Faults> {
        let faults = (0..KINDS).map(|kind| self.kind(half, kind));
        faults.filter(|faults| faults.histogram.count() > 0).collect()
    }

    fn kind(&mut self, half: usize, kind: usize) -> Faults {
        let mut now = KindSnapshot { sum_ns: 0, buckets: Box::new([0; buckets(FINE)]) };
        let mut longest = (0, 0, String::new());
        for cpu in 0..self.cpus {
            let at = self.kinds.at((half * self.cpus + cpu) * KINDS + kind);
            // SAFETY: inside the mapped array, aligned by repr(C).
            let slot = unsafe { load(at) };
            now.sum_ns = now.sum_ns.wrapping_add(slot.sum_ns);
            for (sum, count) in now.buckets.iter_mut().zip(&slot.buckets) {
                *sum = sum.wrapping_add(*count);
            }
            if slot.max_ns > 0 {
                // SAFETY: as above.
                unsafe { store(&raw mut (*at).max_ns, 0) };
            }
            if slot.max_ns > longest.0 {
                longest = (slot.max_ns, slot.max_pid, comm(&slot.max_comm).into_owned());
            }
        }
        let mut histogram = Histogram::new(FINE);
        let before = self.kind_snapshots.get(&(half, kind));
        for (index, count) in now.buckets.iter().enumerate() {
            // The counters wrap, and so does their difference.
            let gained = count.wrapping_sub(before.map_or(0, |before| before.buckets[index]));
            histogram.add(index, gained.into());
        }
        let sum_ns = now.sum_ns.wrapping_sub(before.map_or(0, |before| before.sum_ns));
        self.kind_snapshots.insert((half, kind), now);
        Faults { kind, histogram, sum_ns, longest }
    }

    /// What the processes have gained in a half that no longer changes. Their elements are free from then on.
    pub fn processes(&mut self, half: usize) -> Vec<Process> {
        let Some(table) = &self.processes else { return Vec::new() };
        let mut found: HashMap<u32, Process> = HashMap::new();
        for index in half * table.len() / 2..(half + 1) * table.len() / 2 {
            let at = table.at(index);
            // SAFETY: inside the mapped array, aligned by repr(C).
            let pid = unsafe { load(&raw const (*at).pid) };
            let before = self.process_snapshots.get(&index).copied().unwrap_or_default();
            if pid == 0 && before.pid == 0 {
                continue;
            }
            // SAFETY: as above.
            let now = unsafe { load(at) };
            // SAFETY: as above.
            unsafe { store(&raw mut (*at).max_ns, 0) };
            // SAFETY: as above.
            unsafe { store(&raw mut (*at).pid, 0) };
            self.process_snapshots.insert(index, ProcessSnapshot { pid, counts: now.counts, sums: now.sums });
            // A late program added to an element that is free already: for the process that had it.
            let pid = if pid == 0 { before.pid } else { pid };
            let counts: [u64; 2] = std::array::from_fn(|i| now.counts[i].wrapping_sub(before.counts[i]));
            if counts == [0; 2] {
                continue;
            }
            let none = Process { pid, max_ns: 0, counts: [0; 2], sums: [0; 2], ..now };
            let sum = found.entry(pid).or_insert(none);
            for i in 0..2 {
                sum.counts[i] += counts[i];
                sum.sums[i] += now.sums[i].wrapping_sub(before.sums[i]);
            }
            if now.max_ns > sum.max_ns {
                (sum.max_ns, sum.comm) = (now.max_ns, now.comm);
            }
        }
        found.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::hist::index;

    /// What the kernel programs do, on one CPU with four elements for processes.
    struct Kernel {
        kinds: *mut Slot,
        processes: *mut Process,
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
            element.counts[0] += 1;
            element.sums[0] += ns;
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
            list.iter().map(|p| (p.pid, p.counts, p.sums, p.max_ns)).collect()
        };
        kernel.count_process(0, 1, 77, 500);
        kernel.count_process(0, 2, 88, 300);
        assert_eq!(summed(table.processes(0)), [(77, [1, 0], [500, 0], 500), (88, [1, 0], [300, 0], 300)]);
        // SAFETY: inside the array, which the table keeps.
        let elements = unsafe { std::slice::from_raw_parts_mut(kernel.processes, 4) };
        assert!(elements.iter().all(|element| element.pid == 0), "all are free");
        // A program that had found its element before that was freed.
        elements[1].counts[1] += 1;
        elements[1].sums[1] += 40;
        kernel.count_process(0, 2, 99, 20);
        assert_eq!(summed(table.processes(0)), [(77, [0, 1], [0, 40], 0), (99, [1, 0], [20, 0], 20)]);
        assert_eq!(summed(table.processes(0)), []);
    }
}
