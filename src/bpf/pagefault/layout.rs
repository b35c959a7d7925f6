//! The C structs of `bpf/pagefault/`, and how many of them there are.

use crate::bpf::hist::{FINE, buckets};
use crate::bpf::map::Plain;
use crate::bpf::task::{COMM_LEN, TaskId};

/// Minor or major, read or write, kernel or user: the bits 4, 2 and 1 of a kind.
pub const KINDS: usize = 8;

/// `struct slot`: one kind of fault on one CPU.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Slot {
    /// The sum of the times.
    pub sum_ns: u64,
    /// The longest.
    pub max_ns: u64,
    /// The process of the longest.
    pub max_pid: u32,
    pad: u32,
    /// Its thread's name.
    pub max_comm: [u8; COMM_LEN],
    /// At scale [`FINE`].
    pub buckets: [u32; buckets(FINE)],
}

// SAFETY: repr(C), only integers, and the sizes are compared when it is mapped.
unsafe impl Plain for Slot {}

/// `struct process`: the faults of one process on one CPU.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// 0 if the slot is free.
    pub pid: u32,
    /// The user of the thread that was seen first.
    pub uid: u32,
    /// Its cgroup.
    pub cgroup_id: u64,
    /// Minor and major faults.
    pub counts: [u64; 2],
    /// Their times.
    pub sums: [u64; 2],
    /// The longest of all.
    pub max_ns: u64,
    /// The name of its thread.
    pub comm: [u8; COMM_LEN],
}

// SAFETY: as above.
unsafe impl Plain for Process {}

/// Bits of the flags of an event.
pub const WRITE: u32 = 1;
/// User code faulted.
pub const USER: u32 = 2;
/// An instruction was to be fetched.
pub const INSTRUCTION: u32 = 4;
/// It waited for a device.
pub const MAJOR: u32 = 8;

/// `struct event`: one fault.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// When it was done, by the kernel's clock.
    pub end_ns: u64,
    /// How long it took.
    pub duration_ns: u64,
    /// The address.
    pub address: u64,
    /// The instruction; 0 if that is not known.
    pub ip: u64,
    /// [`WRITE`] and so on.
    pub flags: u32,
    /// Where it was done.
    pub cpu: u32,
    /// Whose it was.
    pub task: TaskId,
}

// SAFETY: as above.
unsafe impl Plain for Event {}

/// What the table of processes may take, in bytes.
const BUDGET: usize = 5 << 20;

/// 2 to this power processes per CPU fit into the budget.
pub fn process_bits(cpus: usize) -> u32 {
    let fits = BUDGET / (2 * cpus.max(1) * size_of::<Process>());
    fits.max(8).ilog2().min(12)
}
