//! The C structs of `bpf/schedlat/`, and how many of them there are.

use crate::bpf::hist::{FINE, buckets};
use crate::bpf::map::Plain;
use crate::bpf::task::{COMM_LEN, TaskId};

/// The scale of the histograms of cgroups.
pub const GROUP_SCALE: u32 = 3;

/// `struct longest`: the longest wait.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Longest {
    /// How long, in nanoseconds; 0 if there was none.
    pub ns: u64,
    /// The process that waited.
    pub pid: u32,
    pad: u32,
    /// Its thread's name.
    pub comm: [u8; COMM_LEN],
    /// The name of the thread that ran before it.
    pub prev_comm: [u8; COMM_LEN],
}

/// `struct runq`: the waits that ended on one CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Runq {
    /// The sum of the waits.
    pub sum_ns: u64,
    /// The longest.
    pub longest: Longest,
    /// At scale [`FINE`].
    pub buckets: [u32; buckets(FINE)],
}

// SAFETY: repr(C), only integers, and the sizes are compared when it is mapped.
unsafe impl Plain for Runq {}

/// `struct group`: the same of one cgroup.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Group {
    /// The cgroup's id; 0 if the slot is free.
    pub id: u64,
    /// The sum of the waits.
    pub sum_ns: u64,
    /// The longest.
    pub longest: Longest,
    /// At [`GROUP_SCALE`].
    pub buckets: [u32; buckets(GROUP_SCALE)],
}

// SAFETY: as above.
unsafe impl Plain for Group {}

/// `struct process`: what one process did on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// 0 if the slot is free.
    pub pid: u32,
    /// The user of the thread that was seen first.
    pub uid: u32,
    /// Its cgroup.
    pub cgroup_id: u64,
    /// Time on this CPU.
    pub cpu_ns: u64,
    /// Time waited for it.
    pub runq_ns: u64,
    /// The longest wait.
    pub max_runq_ns: u64,
    /// Times it left the CPU because it had nothing to do.
    pub voluntary: u32,
    /// Times it was taken off.
    pub involuntary: u32,
    /// Times one of its threads was woken.
    pub wakeups: u32,
    /// Times one of its threads was given to another CPU.
    pub migrations: u32,
    /// Counts the programs that it became; user, cgroup and name are those of this one.
    pub exec_id: u64,
    /// The name of its first thread.
    pub comm: [u8; COMM_LEN],
}

// SAFETY: as above.
unsafe impl Plain for Process {}

/// `struct stint`: who is on a CPU, and since when.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stint {
    /// 0 while it changes.
    pub since_ns: u64,
    /// 0 if nobody of interest.
    pub pid: u32,
    /// The thread, of interest or not.
    pub tid: u32,
}

// SAFETY: as above.
unsafe impl Plain for Stint {}

/// `struct event`: one long wait.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When it ended, by the kernel's clock.
    pub end_ns: u64,
    /// How long it was.
    pub wait_ns: u64,
    /// The CPU on which the task runs now.
    pub cpu: u32,
    /// The process that ran there before.
    pub prev_pid: u32,
    /// The name of its thread.
    pub prev_comm: [u8; COMM_LEN],
    /// Who waited.
    pub task: TaskId,
}

// SAFETY: as above.
unsafe impl Plain for Event {}

/// What the tables of cgroups and of processes may take each, in bytes.
const BUDGET: usize = 5 << 20;

/// How many of everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Geometry {
    /// CPUs that can exist.
    pub cpus: usize,
    /// 2 to this power cgroups per CPU; `None` if they are not told apart.
    pub group_bits: Option<u32>,
    /// 2 to this power processes per CPU; `None` if they are not accounted.
    pub process_bits: Option<u32>,
}

impl Geometry {
    /// As many as the budget allows.
    pub fn choose(cpus: usize, by_cgroup: bool, processes: bool) -> Self {
        let bits = |size: usize, most: u32| {
            let fits = BUDGET / (2 * cpus.max(1) * size);
            fits.max(8).ilog2().min(most)
        };
        Self {
            cpus,
            group_bits: by_cgroup.then(|| bits(size_of::<Group>(), 9)),
            process_bits: processes.then(|| bits(size_of::<Process>(), 12)),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_holds() {
        for cpus in [1, 2, 8, 64, 300] {
            let all = Geometry::choose(cpus, true, true);
            let groups = 2 * cpus * all.groups() * size_of::<Group>();
            let processes = 2 * cpus * all.processes() * size_of::<Process>();
            assert!(groups <= BUDGET && processes <= BUDGET, "{cpus}: {all:?}");
            assert!(2 * cpus * size_of::<Runq>() + groups + processes <= 16 << 20, "{cpus}: {all:?}");
        }
        let small = Geometry { cpus: 2, group_bits: None, process_bits: Some(12) };
        assert_eq!(Geometry::choose(2, false, true), small);
    }
}
