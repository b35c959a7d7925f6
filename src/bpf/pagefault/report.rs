//! From what the kernel programs told to records.

use super::layout::{Event, INSTRUCTION, MAJOR, Process, USER, WRITE};
use super::{Faults, mapping};
use crate::bpf::cgroup::Cgroups;
use crate::bpf::clock::KernelClock;
use crate::bpf::percentiles::{distribution, times};
use crate::bpf::session::Interval;
use crate::bpf::task::comm;
use crate::common::time::{Micros, Timestamp};
use crate::record::{Hex, Pagefault, PagefaultProcess, PagefaultSummary};

/// When a fault was done, and its record; `maps` is /proc/PID/maps, to name the mapping by.
pub fn event(
    event: &Event,
    threshold: Option<Micros>,
    clock: KernelClock,
    cgroups: &mut Cgroups,
    maps: Option<&[u8]>,
) -> (Timestamp, Pagefault) {
    let task = &event.task;
    let flag = |bit| event.flags & bit != 0;
    let (cgroup, container_id) = cgroups.names(task.cgroup_id);
    let found = maps.and_then(|maps| mapping::find(maps, event.address));
    let (mapping, offset) = found.unzip();
    let file = mapping.as_ref().is_some_and(|name| name.starts_with('/'));
    let record = Pagefault {
        major: flag(MAJOR),
        write: flag(WRITE),
        user: flag(USER),
        instruction: flag(INSTRUCTION),
        address: Hex(event.address),
        ip: (event.ip != 0).then_some(Hex(event.ip)),
        duration_us: Micros(event.duration_ns),
        threshold_us: threshold,
        begin_ts: Some(clock.wall(event.end_ns.saturating_sub(event.duration_ns))),
        pid: task.pid,
        tid: task.tid,
        comm: task.comm(),
        uid: task.uid,
        cpu: event.cpu,
        cgroup_id: (task.cgroup_id != 0).then_some(task.cgroup_id),
        cgroup,
        container_id,
        mapping,
        mapping_offset: offset.filter(|_| file),
    };
    (clock.wall(event.end_ns), record)
}

/// The record of the faults of one kind.
pub fn summary(faults: &Faults, interval: Interval, histogram: bool) -> PagefaultSummary {
    let (max_ns, max_pid, max_comm) = &faults.longest;
    let known = *max_ns > 0;
    let either = |bit, yes, no| if faults.kind & bit != 0 { yes } else { no };
    PagefaultSummary {
        r#type: either(4, "major", "minor"),
        access: either(2, "write", "read"),
        mode: either(1, "user", "kernel"),
        start_ts: Some(interval.start),
        interval_s: interval.seconds,
        count: faults.histogram.count(),
        times: times(&faults.histogram, faults.sum_ns, *max_ns),
        max_pid: known.then_some(*max_pid),
        max_comm: known.then(|| max_comm.clone()),
        distribution: histogram.then(|| distribution(&faults.histogram)),
    }
}

/// The record of a process.
pub fn process(process: &Process, interval: Interval, cgroups: &mut Cgroups) -> PagefaultProcess {
    let (cgroup, container_id) = cgroups.names(process.cgroup_id);
    PagefaultProcess {
        pid: process.pid,
        comm: comm(&process.comm).into_owned(),
        uid: process.uid,
        cgroup_id: (process.cgroup_id != 0).then_some(process.cgroup_id),
        cgroup,
        container_id,
        start_ts: Some(interval.start),
        interval_s: interval.seconds,
        minor: process.counts[0],
        major: process.counts[1],
        minor_us: Micros(process.sums[0]),
        major_us: Micros(process.sums[1]),
        max_us: Micros(process.max_ns),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::map::read;

    /// An event as a ring buffer of Linux 6.18 on x86-64 held it.
    const RECORDED: [u8; 80] = *b"\x89\x61\xae\xd2\xbc\x06\x00\x00\x41\xd1\x00\x00\x00\x00\x00\x00\
        \x00\x80\x64\x38\x07\x7f\x00\x00\xb7\x83\x8c\x8c\x07\x7f\x00\x00\x03\x00\x00\x00\x01\x00\x00\x00\
        \x01\x00\x00\x00\x00\x00\x00\x00\x21\x7d\x00\x00\xa1\x01\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\
        opt 7m4znl3y20x\x00";

    #[test]
    fn an_event_from_its_bytes() {
        let recorded: Event = read(&RECORDED).unwrap();
        let root = tempfile::tempdir().unwrap();
        let maps = b"7f0738640000-7f0738650000 rw-p 00000000 00:00 0   [heap]\n";
        let mut cgroups = Cgroups::new(root.path());
        let (_, record) = event(&recorded, None, KernelClock::measure(), &mut cgroups, Some(maps));
        let expected = Pagefault {
            write: true,
            user: true,
            address: Hex(0x7f07_3864_8000),
            ip: Some(Hex(0x7f07_8c8c_83b7)),
            duration_us: Micros(53_569),
            begin_ts: record.begin_ts,
            pid: 32033,
            tid: 417,
            comm: "opt 7m4znl3y20x".into(),
            cpu: 1,
            cgroup_id: Some(1),
            mapping: Some("[heap]".into()),
            ..Pagefault::default()
        };
        assert_eq!(record, expected);
        assert!(read::<Event>(&RECORDED[1..]).is_none());
    }
}
