//! From the mapped arrays to what happened in an interval.

use std::collections::HashMap;

use super::layout::{GROUP_SCALE, Geometry, Group, Longest, Process, Runq, Stint};
use crate::bpf::hist::{FINE, Histogram};
use crate::bpf::map::{MappedArray, load};

/// The waits of an interval, of all tasks or of some.
#[derive(Clone, Debug)]
pub struct Waits {
    /// The CPU, where they are told apart.
    pub cpu: Option<u32>,
    /// The cgroup, likewise.
    pub cgroup_id: Option<u64>,
    /// How many were how long.
    pub histogram: Histogram,
    /// Their sum.
    pub sum_ns: u64,
    /// The longest of them.
    pub longest: Longest,
}

impl Waits {
    fn none(scale: u32) -> Self {
        let histogram = Histogram::new(scale);
        Self { cpu: None, cgroup_id: None, histogram, sum_ns: 0, longest: Longest::default() }
    }

    fn add(&mut self, buckets: &[u32], sum_ns: u64, longest: Longest) {
        for (index, count) in buckets.iter().enumerate() {
            self.histogram.add(index, u64::from(*count));
        }
        self.sum_ns += sum_ns;
        if longest.ns > self.longest.ns {
            self.longest = longest;
        }
    }
}

/// What all processes did in an interval, by their ids.
pub type Processes = HashMap<u32, Process>;

/// A stint that went on when an interval ended, and what of it was counted before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Carry {
    stint: Stint,
    counted_ns: u64,
}

/// The arrays.
pub(super) struct Table {
    geometry: Geometry,
    pub runqs: MappedArray<Runq>,
    pub groups: MappedArray<Group>,
    pub processes: MappedArray<Process>,
    pub stints: MappedArray<Stint>,
    pub carries: Vec<Option<Carry>>,
}

impl Table {
    pub fn new(
        geometry: Geometry,
        runqs: MappedArray<Runq>,
        groups: MappedArray<Group>,
        processes: MappedArray<Process>,
        stints: MappedArray<Stint>,
    ) -> Self {
        Self { geometry, runqs, groups, processes, stints, carries: vec![None; geometry.cpus] }
    }

    /// The waits that the half that is now still has counted: all together, or by CPU.
    pub fn take_waits(&self, half: usize, per_cpu: bool) -> Vec<Waits> {
        let mut list = vec![Waits::none(FINE)];
        for cpu in 0..self.geometry.cpus {
            let runq = self.runqs.take(half * self.geometry.cpus + cpu);
            if per_cpu {
                list.push(Waits { cpu: Some(cpu as u32), ..Waits::none(FINE) });
            }
            if let Some(last) = list.last_mut() {
                last.add(&runq.buckets, runq.sum_ns, runq.longest);
            }
        }
        // One record for all is written even if nothing waited; for a CPU, only if something did.
        list.retain(|waits| !per_cpu || waits.histogram.count() > 0);
        list
    }

    /// The same by cgroup, or by CPU and cgroup.
    pub fn take_groups(&self, half: usize, per_cpu: bool) -> Vec<Waits> {
        let Geometry { cpus, .. } = self.geometry;
        let slots = self.geometry.groups();
        let mut found: HashMap<(Option<u32>, u64), Waits> = HashMap::new();
        for index in half * cpus * slots..(half + 1) * cpus * slots {
            // SAFETY: inside the mapped array.
            if unsafe { load(&raw const (*self.groups.at(index)).id) } == 0 {
                continue;
            }
            let group = self.groups.take(index);
            let cpu = per_cpu.then_some((index / slots % cpus) as u32);
            let empty = || Waits { cpu, cgroup_id: Some(group.id), ..Waits::none(GROUP_SCALE) };
            let waits = found.entry((cpu, group.id)).or_insert_with(empty);
            waits.add(&group.buckets, group.sum_ns, group.longest);
        }
        let mut list: Vec<_> = found.into_values().collect();
        list.sort_by_key(|waits| (waits.cgroup_id, waits.cpu));
        list
    }

    /// Who is on each CPU.
    pub fn stints(&self) -> Vec<Option<Stint>> {
        (0..self.geometry.cpus).map(|cpu| self.stint(cpu)).collect()
    }

    /// What the processes did in the interval from `begin_ns` to `end_ns`, those included that
    /// were on a CPU all the time. `at_end` is who was there when it ended.
    pub fn take_processes(
        &mut self,
        half: usize,
        at_end: &[Option<Stint>],
        begin_ns: u64,
        end_ns: u64,
    ) -> Processes {
        let mut processes = Processes::new();
        for (cpu, at_end) in at_end.iter().enumerate() {
            let mut here = self.take_cpu(half, cpu);
            let stint = last(*at_end, self.stint(cpu), end_ns);
            self.carries[cpu] = split(&mut here, self.carries[cpu], stint, begin_ns, end_ns);
            for (pid, process) in here {
                add(processes.entry(pid).or_default(), &process);
            }
        }
        processes
    }

    fn take_cpu(&self, half: usize, cpu: usize) -> Processes {
        let slots = self.geometry.processes();
        let first = (half * self.geometry.cpus + cpu) * slots;
        let used = (first..first + slots).filter(|index| {
            // SAFETY: inside the mapped array.
            unsafe { load(&raw const (*self.processes.at(*index)).pid) != 0 }
        });
        used.map(|index| self.processes.take(index)).map(|process| (process.pid, process)).collect()
    }

    /// Who is on a CPU; `None` while that changes.
    fn stint(&self, cpu: usize) -> Option<Stint> {
        let at = self.stints.at(cpu);
        // SAFETY: inside the mapped array; it is whole if nothing changed between the two readings.
        let (before, after) = unsafe { (load(at), load(at)) };
        (before == after && before.since_ns != 0).then_some(before)
    }
}

/// Who was on a CPU when the interval ended: as was seen then, unless the switch to the next was under way and in this
/// interval, as is known later, when no program counts in it any more.
fn last(at_end: Option<Stint>, later: Option<Stint>, end_ns: u64) -> Option<Stint> {
    let next = later.filter(|stint| stint.since_ns < end_ns);
    next.or(at_end)
}

/// The kernel counts a stint when it ends. Moves the part of it that lies in an earlier interval
/// there: takes off what was counted before, and counts what has passed of the stint that goes on.
pub(super) fn split(
    here: &mut Processes,
    carry: Option<Carry>,
    stint: Option<Stint>,
    begin_ns: u64,
    end_ns: u64,
) -> Option<Carry> {
    let mut counted_ns = 0;
    if let Some(carry) = carry {
        if stint.is_some_and(|stint| stint.since_ns == carry.stint.since_ns) {
            counted_ns = carry.counted_ns;
        } else if let Some(process) = here.get_mut(&carry.stint.pid) {
            process.cpu_ns = process.cpu_ns.saturating_sub(carry.counted_ns);
        }
    }
    let stint = stint.filter(|stint| stint.pid != 0 && stint.since_ns < end_ns)?;
    let process = here.entry(stint.pid).or_insert(Process { pid: stint.pid, ..Process::default() });
    // What lies before the first interval belongs to none.
    let passed_ns = end_ns - stint.since_ns;
    let before_ns = if counted_ns > 0 { counted_ns } else { begin_ns.saturating_sub(stint.since_ns) };
    process.cpu_ns += passed_ns.saturating_sub(before_ns);
    Some(Carry { stint, counted_ns: passed_ns })
}

fn add(sum: &mut Process, part: &Process) {
    // The CPU that saw it last in this respect knows best what it is.
    if part.comm[0] != 0 && (sum.comm[0] == 0 || part.exec_id > sum.exec_id) {
        (sum.comm, sum.uid, sum.cgroup_id) = (part.comm, part.uid, part.cgroup_id);
        sum.exec_id = part.exec_id;
    }
    sum.pid = part.pid;
    sum.cpu_ns += part.cpu_ns;
    sum.runq_ns += part.runq_ns;
    sum.max_runq_ns = sum.max_runq_ns.max(part.max_runq_ns);
    sum.voluntary += part.voluntary;
    sum.involuntary += part.involuntary;
    sum.wakeups += part.wakeups;
    sum.migrations += part.migrations;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stint(since_ns: u64, pid: u32) -> Option<Stint> {
        Some(Stint { since_ns, pid, ..Stint::default() })
    }

    /// What the kernel has counted for process 7.
    fn counted(cpu_ns: u64) -> Processes {
        Processes::from([(7, Process { pid: 7, cpu_ns, ..Process::default() })])
    }

    #[test]
    fn who_was_there_at_the_end() {
        let of = |at_end, later| last(at_end, later, 1000).map(|stint| stint.pid);
        assert_eq!(of(stint(400, 7), stint(400, 7)), Some(7));
        assert_eq!(of(stint(400, 7), stint(1001, 9)), Some(7), "it left when the interval was over");
        assert_eq!(of(stint(400, 7), stint(999, 9)), Some(9), "it was leaving");
        assert_eq!((of(None, stint(400, 7)), of(stint(400, 7), None)), (Some(7), Some(7)));
    }

    #[test]
    fn a_stint_over_three_intervals_counts_in_each() {
        let mut first = Processes::new();
        let carry = split(&mut first, None, stint(400, 7), 0, 1000);
        assert_eq!(first[&7].cpu_ns, 600);
        let mut second = Processes::new();
        let carry = split(&mut second, carry, stint(400, 7), 1000, 2000);
        assert_eq!(second[&7].cpu_ns, 1000);
        // It ended at 2100, when the kernel counted 1700 for it; then the CPU was idle.
        let mut third = counted(1700);
        let carry = split(&mut third, carry, stint(2100, 0), 2000, 3000);
        assert_eq!((third[&7].cpu_ns, carry), (100, None));
    }

    #[test]
    fn a_stint_from_before_the_first_interval_counts_from_its_start() {
        let mut first = Processes::new();
        let carry = split(&mut first, None, stint(400, 7), 900, 1000);
        assert_eq!(first[&7].cpu_ns, 100);
        let mut second = counted(1600);
        let carry = split(&mut second, carry, stint(2000, 9), 1000, 3000);
        assert_eq!((second[&7].cpu_ns, second[&9].cpu_ns), (1000, 1000));
        // Who came after the end of the interval has no part in it.
        let mut third = Processes::new();
        assert_eq!(split(&mut third, carry, stint(4001, 7), 3000, 4000), None);
        assert_eq!(third.len(), 0);
    }
}
