//! From what the kernel program told to records.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::class::Class;
use super::errors::error;
use super::layout::{Event, FD_TYPES, SCALE, Stuck};
use super::names::{Abi, NUMBERS, all};
use super::table::Activity;
use crate::bpf::cgroup::Cgroups;
use crate::bpf::clock::KernelClock;
use crate::bpf::session::Interval;
use crate::clock::{Micros, Timestamp};
use crate::collect::cgroup::container_id;
use crate::record::{Hex, Syscall, SyscallStuck, SyscallSummary};

/// Names and classes, by table and number: looked up for each event.
static KNOWN: LazyLock<Vec<Option<(&str, &str)>>> = LazyLock::new(|| {
    let mut known = vec![None; 2 * NUMBERS];
    for (abi, nr, name) in all() {
        known[abi.offset() + nr as usize] = Some((name, Class::of(name).name()));
    }
    known
});

/// The name and the class of a call. A read or write of what makes it wait is a wait.
fn name_and_class(abi: Abi, nr: i32, fd_type: Option<&str>) -> (Cow<'static, str>, &'static str) {
    let index = usize::try_from(abi.number(nr)).ok().filter(|nr| *nr < NUMBERS);
    let known = index.and_then(|nr| KNOWN[abi.offset() + nr]);
    let class = |class| if fd_type.is_some() { Class::Wait.name() } else { class };
    match known {
        Some((name, of)) => (Cow::Borrowed(name), class(of)),
        None => (Cow::Owned(format!("syscall_{nr}")), class(Class::Other.name())),
    }
}

fn fd_type(index: u8) -> Option<&'static str> {
    FD_TYPES.get(usize::from(index)).copied().flatten()
}

/// When a call returned, and its record.
pub fn event<'a>(event: &'a Event, clock: KernelClock, cgroups: &'a mut Cgroups) -> (Timestamp, Syscall<'a>) {
    let abi = Abi::from_kernel(event.compat != 0);
    let fd_type = fd_type(event.fd_type);
    let (name, class) = name_and_class(abi, event.nr, fd_type);
    let cgroup = cgroups.path(event.task.cgroup_id);
    let record = Syscall {
        nr: event.nr,
        class,
        arch: abi.arch(event.nr),
        syscall: name,
        duration_us: Micros(event.duration_ns),
        begin_ts: Some(clock.wall(event.end_ns.saturating_sub(event.duration_ns))),
        ret: event.ret,
        error: error(event.ret),
        args: event.args.map(Hex),
        fd_type,
        pid: event.task.pid,
        tid: event.task.tid,
        comm: event.task.name(),
        uid: event.task.uid,
        cpu: event.cpu,
        cgroup_id: event.task.cgroup_id,
        container_id: cgroup.and_then(container_id).map(Cow::Borrowed),
        cgroup: cgroup.map(Cow::Borrowed),
    };
    (clock.wall(event.end_ns), record)
}

/// When a call that is not over was looked at, and its record. `watched_since` is when we began to look, by
/// the kernel's clock.
pub fn stuck<'a>(
    stuck: &'a Stuck,
    watched_since: u64,
    clock: KernelClock,
    cgroups: &'a mut Cgroups,
) -> (Timestamp, SyscallStuck<'a>) {
    let abi = Abi::from_kernel(stuck.compat != 0);
    let fd_type = fd_type(stuck.fd_type);
    let (name, class) = name_and_class(abi, stuck.nr, fd_type);
    let cgroup = cgroups.path(stuck.task.cgroup_id);
    let seen = stuck.begin_ns != 0;
    let age = Micros(stuck.now_ns.saturating_sub(if seen { stuck.begin_ns } else { watched_since }));
    let record = SyscallStuck {
        nr: stuck.nr,
        class,
        arch: abi.arch(stuck.nr),
        syscall: name,
        elapsed_us: seen.then_some(age),
        at_least_us: (!seen).then_some(age),
        begin_ts: seen.then(|| clock.wall(stuck.begin_ns)),
        state: state(stuck.state),
        args: stuck.args.map(Hex),
        fd_type,
        pid: stuck.task.pid,
        tid: stuck.task.tid,
        comm: stuck.task.name(),
        uid: stuck.task.uid,
        cgroup_id: stuck.task.cgroup_id,
        container_id: cgroup.and_then(container_id).map(Cow::Borrowed),
        cgroup: cgroup.map(Cow::Borrowed),
    };
    (clock.wall(stuck.now_ns), record)
}

/// The bits of include/linux/sched.h that ps(1) has letters for.
fn state(bits: u32) -> &'static str {
    match bits {
        0 => "R",
        _ if bits & 2 != 0 => "D",
        _ if bits & 1 != 0 => "S",
        _ if bits & 12 != 0 => "T",
        _ => "X",
    }
}

/// The record of the calls of one number.
pub fn summary(activity: &Activity, interval: Interval, with_histogram: bool) -> SyscallSummary {
    let Activity { index, errors, sum_ns, max_ns, ref histogram } = *activity;
    let abi = Abi::from_kernel(index >= NUMBERS);
    let nr = (index % NUMBERS) as i32;
    let (name, class) = match nr as usize {
        nr if nr == NUMBERS - 1 => (Cow::Borrowed("other"), Class::Other.name()),
        _ => name_and_class(abi, nr, None),
    };
    let count = histogram.count();
    let [p50, p95, p99] = histogram.percentiles([500, 950, 990], max_ns).map(|ns| Some(Micros(ns)));
    SyscallSummary {
        class,
        arch: abi.arch(nr),
        syscall: name,
        start_ts: Some(interval.start),
        interval_s: interval.seconds,
        count,
        errors,
        sum_us: Micros(sum_ns),
        mean_us: sum_ns.checked_div(count).map(Micros),
        p50_us: p50,
        p95_us: p95,
        p99_us: p99,
        max_us: Some(Micros(max_ns)),
        scale: with_histogram.then_some(SCALE as i32),
        buckets: with_histogram.then(|| histogram.sparse()),
    }
}
