//! The arrays of `bpf/schedlat.bpf.c`: what they gained in an interval.
//!
//! Counters are never set to zero, because a program that began before the interval ended can still add to them
//! (`nohz_full` CPUs do not take part in membarrier). What it adds belongs to a later interval.

use std::collections::HashMap;

use crate::bpf::map::{MappedArray, Plain, load, store};
use crate::bpf::skeleton::{array_len, skeleton};
use crate::bpf::task::comm;
use crate::common::hist::{FINE, Histogram, Totals, scale};
use types::{group, longest, process, runq, time_slice};

skeleton!("schedlat", SchedlatSkelBuilder, OpenSchedlatSkel, SchedlatSkel);

pub use types::event as Event;

/// The scale of the histograms of cgroups.
pub const GROUP_SCALE: u32 = scale(array_len(|group: &group| &group.buckets));

// SAFETY: generated with the layout of the C struct, and it has only integers.
unsafe impl Plain for types::event {}
// SAFETY: as above.
unsafe impl Plain for runq {}
// SAFETY: as above.
unsafe impl Plain for group {}
// SAFETY: as above.
unsafe impl Plain for process {}
// SAFETY: as above.
unsafe impl Plain for time_slice {}

/// The most memory for the table of cgroups and for that of processes, in bytes each.
const BUDGET: usize = 5 << 20;

/// The sizes of the arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// Possible CPUs.
    pub cpus: usize,
    /// `1 << group_bits` cgroups per CPU; `None` if waits are not counted by cgroup.
    pub group_bits: Option<u32>,
    /// `1 << process_bits` processes per CPU; `None` if they are not counted.
    pub process_bits: Option<u32>,
}

impl Geometry {
    /// The largest sizes within the budget.
    pub fn choose(cpus: usize, by_cgroup: bool, processes: bool) -> Self {
        let bits = |size: usize, most: u32| (BUDGET / (2 * cpus.max(1) * size)).max(8).ilog2().min(most);
        Self {
            cpus,
            group_bits: by_cgroup.then(|| bits(size_of::<group>(), 9)),
            process_bits: processes.then(|| bits(size_of::<process>(), 12)),
        }
    }

    /// Cgroups per CPU.
    pub fn groups(self) -> usize {
        self.group_bits.map_or(0, |bits| 1 << bits)
    }

    /// Processes per CPU.
    pub fn processes(self) -> usize {
        self.process_bits.map_or(0, |bits| 1 << bits)
    }
}

/// The waits of an interval: all, or those of a CPU or a cgroup.
#[derive(Clone, Debug)]
pub struct Waits {
    /// The CPU, with `--per-cpu`.
    pub cpu: Option<u32>,
    /// The cgroup, with `--per-cgroup`.
    pub cgroup_id: Option<u64>,
    /// Their distribution.
    pub histogram: Histogram,
    /// Their sum.
    pub sum_ns: u64,
    /// The longest.
    pub longest: Longest,
}

/// The longest wait of an interval.
#[derive(Clone, Debug, Default)]
pub struct Longest {
    /// Its length; 0 if there was none.
    pub ns: u64,
    /// The process that waited.
    pub pid: u32,
    /// The name of its thread.
    pub comm: String,
    /// The name of the thread that ran before it.
    pub prev_comm: String,
}

impl Waits {
    fn new(scale: u32, cpu: Option<u32>, cgroup_id: Option<u64>) -> Self {
        Self { cpu, cgroup_id, histogram: Histogram::new(scale), sum_ns: 0, longest: Longest::default() }
    }

    fn add(&mut self, (histogram, sum_ns): (Histogram, u64), longest: &longest) {
        self.histogram.merge(&histogram);
        self.sum_ns += sum_ns;
        if longest.ns > self.longest.ns {
            let (ns, pid) = (longest.ns, longest.pid);
            let [comm, prev_comm] =
                [longest.comm, longest.prev_comm].map(|name| comm(&name.map(i8::cast_unsigned)).into_owned());
            self.longest = Longest { ns, pid, comm, prev_comm };
        }
    }
}

/// The activity of a process in an interval, on all CPUs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Its number in the kernel.
    pub pid: u32,
    /// `None` if it only went on running, so that no hook described it.
    pub description: Option<Description>,
    /// Time on CPUs.
    pub cpu_ns: u64,
    /// Time waited for CPUs.
    pub runq_ns: u64,
    /// The longest wait.
    pub max_runq_ns: u64,
    /// How often it left a CPU because it had nothing to do.
    pub voluntary: u64,
    /// How often it was taken off one.
    pub involuntary: u64,
    /// How often one of its threads was woken.
    pub wakeups: u64,
    /// How often one of its threads was moved to another CPU.
    pub migrations: u64,
}

/// The identity of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// Counts the programs that it has executed.
    pub exec_id: u64,
    /// The name of its first thread.
    pub comm: String,
    /// Its user.
    pub uid: u32,
    /// Its cgroup.
    pub cgroup_id: u64,
}

/// The activity of all processes in an interval, by process ID.
pub type Processes = HashMap<u32, Process>;

/// Time of unfinished slices that was reported before the kernel's programs counted it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ahead {
    cpu_ns: u64,
    runq_ns: u64,
}

/// The arrays, both halves of each, and the snapshots from which an interval is the difference.
pub(super) struct Table {
    geometry: Geometry,
    runqs: MappedArray<runq>,
    groups: MappedArray<group>,
    processes: MappedArray<process>,
    time_slices: MappedArray<time_slice>,
    waits_before: HashMap<usize, (u64, Totals)>,
    processes_before: HashMap<usize, process>,
    ahead: HashMap<u32, Ahead>,
}

impl Table {
    pub fn new(
        geometry: Geometry,
        runqs: MappedArray<runq>,
        groups: MappedArray<group>,
        processes: MappedArray<process>,
        time_slices: MappedArray<time_slice>,
    ) -> Self {
        Self {
            geometry,
            runqs,
            groups,
            processes,
            time_slices,
            waits_before: HashMap::new(),
            processes_before: HashMap::new(),
            ahead: HashMap::new(),
        }
    }

    /// The waits that a half gained which no longer changes; by CPU, by cgroup, or both.
    pub fn waits(&mut self, half: usize, per_cpu: bool) -> Vec<Waits> {
        if self.geometry.group_bits.is_some() {
            self.by_cgroup(half, per_cpu)
        } else {
            self.all(half, per_cpu)
        }
    }

    fn all(&mut self, half: usize, per_cpu: bool) -> Vec<Waits> {
        let mut list = vec![Waits::new(FINE, None, None)];
        for cpu in 0..self.geometry.cpus {
            let index = half * self.geometry.cpus + cpu;
            let at = self.runqs.at(index);
            // SAFETY: inside the mapped array.
            let now = unsafe { load(at) };
            if now.longest.ns != 0 {
                // SAFETY: as above.
                unsafe { store(&raw mut (*at).longest.ns, 0) };
            }
            let mut totals = Totals::default();
            totals.add(now.sum_ns, now.buckets.iter().copied());
            let gained = self.waits_before.entry(index).or_default().1.advance(totals);
            if per_cpu {
                list.push(Waits::new(FINE, Some(cpu as u32), None));
            }
            if let Some(waits) = list.last_mut() {
                waits.add(gained, &now.longest);
            }
        }
        // Without --per-cpu there is a record even if nothing waited.
        list.retain(|waits| !per_cpu || waits.histogram.count() > 0);
        list
    }

    fn by_cgroup(&mut self, half: usize, per_cpu: bool) -> Vec<Waits> {
        let (cpus, slots) = (self.geometry.cpus, self.geometry.groups());
        let mut found: HashMap<(Option<u32>, u64), Waits> = HashMap::new();
        for index in half * cpus * slots..(half + 1) * cpus * slots {
            let at = self.groups.at(index);
            // SAFETY: inside the mapped array.
            let id = unsafe { load(&raw const (*at).id) };
            let id_before = self.waits_before.get(&index).map_or(0, |before| before.0);
            if id == 0 && id_before == 0 {
                continue;
            }
            // SAFETY: as above.
            let now = unsafe { load(at) };
            // SAFETY: as above.
            unsafe { store(&raw mut (*at).longest.ns, 0) };
            // SAFETY: as above.
            unsafe { store(&raw mut (*at).id, 0) };
            let mut totals = Totals::default();
            totals.add(now.sum_ns, now.buckets.iter().copied());
            let before = self.waits_before.entry(index).or_default();
            before.0 = id;
            let gained = before.1.advance(totals);
            let cpu = per_cpu.then_some((index / slots % cpus) as u32);
            let id = if id == 0 { id_before } else { id };
            let waits = found.entry((cpu, id)).or_insert_with(|| Waits::new(GROUP_SCALE, cpu, Some(id)));
            waits.add(gained, &now.longest);
        }
        let mut list: Vec<_> = found.into_values().filter(|waits| waits.histogram.count() > 0).collect();
        list.sort_by_key(|waits| (waits.cgroup_id, waits.cpu));
        list
    }

    /// The time slices that have not ended; `None` for a CPU that is switching.
    pub fn time_slices(&self) -> Vec<Option<time_slice>> {
        (0..self.geometry.cpus).map(|cpu| self.time_slice(cpu)).collect()
    }

    fn time_slice(&self, cpu: usize) -> Option<time_slice> {
        let at = self.time_slices.at(cpu);
        // SAFETY: inside the mapped array. The value is whole if nothing changed between two readings.
        let (before, after) = unsafe { (load(at), load(at)) };
        let same = (before.since_ns, before.tid) == (after.since_ns, after.tid);
        (same && before.since_ns != 0).then_some(before)
    }

    /// What the processes did from `begin_ns` to `end_ns`, by a half that no longer changes. `at_end` is
    /// [`Self::time_slices`] at the end of the interval.
    pub fn processes(
        &mut self,
        half: usize,
        at_end: &[Option<time_slice>],
        begin_ns: u64,
        end_ns: u64,
    ) -> Processes {
        let mut processes = self.gained(half);
        let slices = at_end.iter().enumerate().filter_map(|(cpu, at_end)| {
            running(*at_end, self.time_slice(cpu), end_ns).filter(|slice| slice.pid != 0)
        });
        self.ahead = split(&mut processes, &self.ahead, slices, begin_ns, end_ns);
        processes
    }

    fn gained(&mut self, half: usize) -> Processes {
        let mut found = Processes::new();
        let len = self.geometry.cpus * self.geometry.processes();
        for index in half * len..(half + 1) * len {
            let at = self.processes.at(index);
            // SAFETY: inside the mapped array.
            let pid = unsafe { load(&raw const (*at).pid) };
            let before = self.processes_before.get(&index).copied().unwrap_or_default();
            if pid == 0 && before.pid == 0 {
                continue;
            }
            // SAFETY: as above.
            let now = unsafe { load(at) };
            // SAFETY: as above.
            unsafe { store(&raw mut (*at).max_runq_ns, 0) };
            // SAFETY: as above.
            unsafe { store(&raw mut (*at).pid, 0) };
            self.processes_before.insert(index, process { pid, ..now });
            // What a late program added to a slot that is free already belongs to the process that had it.
            let pid = if pid == 0 { before.pid } else { pid };
            add(&mut found, pid, &now, &before);
        }
        found
    }
}

/// Adds what a process gained on one CPU.
fn add(found: &mut Processes, pid: u32, now: &process, before: &process) {
    let counts: [u64; 4] = [
        now.voluntary.wrapping_sub(before.voluntary),
        now.involuntary.wrapping_sub(before.involuntary),
        now.wakeups.wrapping_sub(before.wakeups),
        now.migrations.wrapping_sub(before.migrations),
    ]
    .map(u64::from);
    let cpu_ns = now.cpu_ns.wrapping_sub(before.cpu_ns);
    if counts == [0; 4] && cpu_ns == 0 {
        return;
    }
    let sum = found.entry(pid).or_insert_with(|| Process { pid, ..Process::default() });
    // If it executed several programs, the last one.
    if sum.description.as_ref().is_none_or(|known| now.exec_id > known.exec_id) {
        sum.description = Some(Description {
            exec_id: now.exec_id,
            comm: comm(&now.comm.map(i8::cast_unsigned)).into_owned(),
            uid: now.uid,
            cgroup_id: now.cgroup_id,
        });
    }
    sum.cpu_ns += cpu_ns;
    sum.runq_ns += now.runq_ns.wrapping_sub(before.runq_ns);
    sum.max_runq_ns = sum.max_runq_ns.max(now.max_runq_ns);
    let sums = [&mut sum.voluntary, &mut sum.involuntary, &mut sum.wakeups, &mut sum.migrations];
    for (sum, count) in sums.into_iter().zip(counts) {
        *sum += count;
    }
}

/// The time slice that a CPU was in when the interval ended, as read then and `later`. If the switch to the next task
/// was under way at the end, its program has already counted the slice before as one that ended.
fn running(at_end: Option<time_slice>, later: Option<time_slice>, end_ns: u64) -> Option<time_slice> {
    later.filter(|slice| slice.since_ns < end_ns).or(at_end).filter(|slice| slice.since_ns < end_ns)
}

/// Counts the part of the time slices that lies in this interval, and takes off what was counted in earlier intervals
/// of those that ended: the kernel's programs count a slice, and the wait before it, when it ends. Returns what was
/// counted ahead now.
///
/// The running part is measured by another clock, which includes steal time. So the kernel
/// may count less in the end; the rest is taken off in later intervals, and the sum over all is the kernel's.
fn split(
    processes: &mut Processes,
    before: &HashMap<u32, Ahead>,
    slices: impl Iterator<Item = time_slice>,
    begin_ns: u64,
    end_ns: u64,
) -> HashMap<u32, Ahead> {
    let mut ahead: HashMap<u32, Ahead> = HashMap::new();
    for slice in slices {
        let running = ahead.entry(slice.pid).or_default();
        running.cpu_ns += end_ns - slice.since_ns;
        running.runq_ns += slice.wait_ns;
        let process =
            processes.entry(slice.pid).or_insert_with(|| Process { pid: slice.pid, ..Process::default() });
        if slice.since_ns >= begin_ns {
            process.max_runq_ns = process.max_runq_ns.max(slice.wait_ns);
        }
    }
    for (pid, process) in processes {
        let running = ahead.get(pid).copied().unwrap_or_default();
        let counted = before.get(pid).copied().unwrap_or_default();
        let settle = |time: &mut u64, running: u64, counted: u64| {
            let all = *time + running;
            *time = all.saturating_sub(counted);
            running + counted.saturating_sub(all)
        };
        let next = Ahead {
            cpu_ns: settle(&mut process.cpu_ns, running.cpu_ns, counted.cpu_ns),
            runq_ns: settle(&mut process.runq_ns, running.runq_ns, counted.runq_ns),
        };
        // The longest may be of a wait that was counted ahead.
        process.max_runq_ns = process.max_runq_ns.min(process.runq_ns);
        if next != Ahead::default() {
            ahead.insert(*pid, next);
        }
    }
    ahead
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds() {
        for cpus in [1, 2, 8, 64, 300] {
            let all = Geometry::choose(cpus, true, true);
            let groups = 2 * cpus * all.groups() * size_of::<group>();
            let processes = 2 * cpus * all.processes() * size_of::<process>();
            assert!(groups <= BUDGET && processes <= BUDGET, "{cpus}: {all:?}");
            assert!(2 * cpus * size_of::<runq>() + groups + processes <= 16 << 20, "{cpus}: {all:?}");
        }
        let small = Geometry { cpus: 2, group_bits: None, process_bits: Some(12) };
        assert_eq!(Geometry::choose(2, false, true), small);
    }

    fn slice(since_ns: u64, pid: u32) -> time_slice {
        time_slice { since_ns, pid, ..time_slice::default() }
    }

    #[test]
    fn who_was_there_at_the_end() {
        let of = |at_end: Option<(u64, u32)>, later: Option<(u64, u32)>| {
            let [at_end, later] = [at_end, later].map(|found| found.map(|(since, pid)| slice(since, pid)));
            running(at_end, later, 1000).map(|slice| slice.pid)
        };
        assert_eq!(of(Some((400, 7)), Some((400, 7))), Some(7));
        assert_eq!(of(Some((400, 7)), Some((1001, 9))), Some(7), "it left when the interval was over");
        assert_eq!(of(Some((400, 7)), Some((999, 9))), Some(9), "it was leaving");
        assert_eq!((of(None, Some((400, 7))), of(Some((400, 7)), None)), (Some(7), Some(7)));
        assert_eq!(of(Some((1001, 7)), None), None, "it came after the end");
    }

    /// Intervals in which the kernel counts as much for process 7, with the slices that have not ended.
    struct Intervals(HashMap<u32, Ahead>);

    impl Intervals {
        /// The time and the wait that are reported, and the longest wait.
        fn next(&mut self, range: std::ops::Range<u64>, kernel: [u64; 2], slices: &[time_slice]) -> [u64; 3] {
            let [cpu_ns, runq_ns] = kernel;
            let counted = Process { pid: 7, cpu_ns, runq_ns, max_runq_ns: runq_ns, ..Process::default() };
            let mut processes = Processes::new();
            if kernel != [0, 0] {
                processes.insert(7, counted);
            }
            self.0 = split(&mut processes, &self.0, slices.iter().copied(), range.start, range.end);
            processes.get(&7).map_or([0; 3], |process| [process.cpu_ns, process.runq_ns, process.max_runq_ns])
        }
    }

    #[test]
    fn a_time_slice_over_three_intervals_counts_in_each() {
        let mut intervals = Intervals(HashMap::new());
        let long = time_slice { wait_ns: 50, ..slice(400, 7) };
        assert_eq!(intervals.next(0..1000, [0, 0], &[long]), [600, 50, 50]);
        assert_eq!(intervals.next(1000..2000, [0, 0], &[long]), [1000, 0, 0]);
        // It ended at 2100, when the kernel counted all of it; then the CPU was idle.
        assert_eq!(intervals.next(2000..3000, [1700, 52], &[]), [100, 2, 2]);
        assert!(intervals.0.is_empty());
    }

    #[test]
    fn two_threads_run_at_the_same_time() {
        let mut intervals = Intervals(HashMap::new());
        let [one, two] = [slice(400, 7), slice(500, 7)];
        assert_eq!(intervals.next(0..1000, [0, 0], &[one, two])[0], 1100);
        // The first one ended at 1500, and another began at 1800.
        assert_eq!(intervals.next(1000..2000, [1100, 0], &[two, slice(1800, 7)])[0], 1700);
    }

    /// The kernel excludes steal time; the clock of the slice includes it.
    #[test]
    fn what_was_counted_too_early_is_taken_off_later() {
        let mut intervals = Intervals(HashMap::new());
        let long = slice(0, 7);
        assert_eq!(intervals.next(0..1000, [0, 0], &[long])[0], 1000);
        assert_eq!(intervals.next(1000..2000, [900, 0], &[slice(1100, 7)])[0], 800, "900 + 900 - 1000");
        assert_eq!(intervals.next(2000..3000, [500, 0], &[])[0], 0);
        assert_eq!(intervals.next(3000..4000, [700, 0], &[])[0], 300, "2100 in all, as the kernel counted");
    }

    /// The arrays of one CPU with four slots for cgroups and four for processes.
    fn table() -> Table {
        let geometry = Geometry { cpus: 1, group_bits: Some(2), process_bits: Some(2) };
        Table::new(
            geometry,
            MappedArray::in_memory(2).unwrap(),
            MappedArray::in_memory(8).unwrap(),
            MappedArray::in_memory(8).unwrap(),
            MappedArray::in_memory(1).unwrap(),
        )
    }

    /// Changes an element of an array, as a program in the kernel does.
    fn change<T: Plain>(array: &MappedArray<T>, index: usize, change: impl FnOnce(&mut T)) {
        // SAFETY: inside the array, which nothing else uses meanwhile.
        change(unsafe { &mut *array.at(index) });
    }

    #[test]
    fn what_a_late_program_adds_belongs_to_a_later_interval() {
        let mut table = table();
        let switches = |processes: &Processes| {
            let mut list: Vec<_> =
                processes.values().map(|process| (process.pid, process.voluntary)).collect();
            list.sort_unstable();
            list
        };
        change(&table.processes, 1, |slot| (slot.pid, slot.voluntary, slot.max_runq_ns) = (7, 3, 90));
        assert_eq!(switches(&table.processes(0, &[None], 0, 10)), [(7, 3)]);
        // A program that looked up the slot before it was freed may still count in it.
        change(&table.processes, 1, |slot| slot.voluntary += 1);
        assert_eq!(switches(&table.processes(0, &[None], 20, 30)), [(7, 1)]);
        assert_eq!(switches(&table.processes(0, &[None], 40, 50)), []);
        // Another process takes the slot, with the counters as they are.
        change(&table.processes, 1, |slot| (slot.pid, slot.voluntary) = (8, slot.voluntary + 2));
        assert_eq!(switches(&table.processes(0, &[None], 60, 70)), [(8, 2)]);

        change(&table.groups, 2, |slot| (slot.id, slot.sum_ns, slot.buckets[5]) = (77, 400, 2));
        let waits = |table: &mut Table| {
            let list = table.waits(0, false);
            list.iter()
                .map(|waits| (waits.cgroup_id, waits.sum_ns, waits.histogram.count()))
                .collect::<Vec<_>>()
        };
        assert_eq!(waits(&mut table), [(Some(77), 400, 2)]);
        change(&table.groups, 2, |slot| (slot.sum_ns, slot.buckets[6]) = (500, 1));
        assert_eq!(waits(&mut table), [(Some(77), 100, 1)]);
        assert_eq!(waits(&mut table), []);
        change(&table.groups, 2, |slot| (slot.id, slot.buckets[6]) = (78, u32::MAX));
        assert_eq!(waits(&mut table)[0].0, Some(78));
    }

    #[test]
    fn counters_wrap() {
        let mut table = table();
        change(&table.processes, 0, |slot| (slot.pid, slot.wakeups) = (7, u32::MAX));
        assert_eq!(table.processes(0, &[None], 0, 10)[&7].wakeups, u64::from(u32::MAX));
        change(&table.processes, 0, |slot| (slot.pid, slot.wakeups) = (7, 4));
        assert_eq!(table.processes(0, &[None], 20, 30)[&7].wakeups, 5);
    }
}
