//! The records of `pagefault-trace`, made from what its eBPF programs counted.

use super::table::{Event, Faults, Flags, Process};
use crate::bpf::cgroup::Cgroups;
use crate::bpf::clock::KernelClock;
use crate::bpf::percentiles::{distribution, times};
use crate::bpf::task::TaskId;
use crate::bpf::tracer::Interval;
use crate::common::time::{Micros, Timestamp};
use crate::record::{Hex, Pagefault, PagefaultProcess, PagefaultSummary};

/// When a fault was done, and its record. `maps` is /proc/PID/maps, to find the mapping in.
pub fn event(
    event: &Event,
    threshold: Option<Micros>,
    clock: KernelClock,
    cgroups: &mut Cgroups,
    maps: Option<&[u8]>,
) -> (Timestamp, Pagefault) {
    let task = TaskId::from(event.task);
    let flag = |flag: Flags| event.flags.0 & flag.0 != 0;
    let (cgroup, container_id) = cgroups.names(task.cgroup_id);
    let found = maps.and_then(|maps| mapping(maps, event.address));
    let (mapping, offset) = found.unzip();
    let file = mapping.as_ref().is_some_and(|name| name.starts_with('/'));
    let record = Pagefault {
        major: flag(Flags::MAJOR),
        write: flag(Flags::WRITE),
        user: flag(Flags::USER),
        instruction: flag(Flags::INSTRUCTION),
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

/// The record of the faults of one kind in an interval.
pub fn summary(faults: &Faults, interval: Interval, histogram: bool) -> PagefaultSummary {
    let (max_ns, max_pid, max_comm) = &faults.longest;
    let known = *max_ns > 0;
    let either = |flag: Flags, yes, no| if faults.kind & flag.0 != 0 { yes } else { no };
    PagefaultSummary {
        r#type: either(Flags::MAJOR, "major", "minor"),
        access: either(Flags::WRITE, "write", "read"),
        mode: either(Flags::USER, "user", "kernel"),
        start_ts: Some(interval.start),
        interval_s: interval.seconds,
        count: faults.histogram.count(),
        times: times(&faults.histogram, faults.sum_ns, *max_ns),
        max_pid: known.then_some(*max_pid),
        max_comm: known.then(|| max_comm.clone()),
        distribution: histogram.then(|| distribution(&faults.histogram)),
    }
}

/// The record of the faults of a process in an interval.
pub fn process(process: &Process, interval: Interval, cgroups: &mut Cgroups) -> PagefaultProcess {
    let (cgroup, container_id) = cgroups.names(process.cgroup_id);
    PagefaultProcess {
        pid: process.pid,
        comm: process.comm.clone(),
        uid: process.uid,
        cgroup_id: (process.cgroup_id != 0).then_some(process.cgroup_id),
        cgroup,
        container_id,
        start_ts: Some(interval.start),
        interval_s: interval.seconds,
        minor: process.minor,
        major: process.major,
        minor_us: Micros(process.minor_ns),
        major_us: Micros(process.major_ns),
        max_us: Micros(process.max_ns),
    }
}

/// The name of the mapping that `address` is in, and the offset in its file; `None` if there is no mapping, or it has
/// no name.
fn mapping(maps: &[u8], address: u64) -> Option<(String, u64)> {
    maps.split(|byte| *byte == b'\n').find_map(|line| {
        // 55d0c8a00000-55d0c8a21000 rw-p 00001000 fe:00 1234    /path with spaces
        let mut rest = line;
        let mut word = || {
            let begin = rest.iter().position(|byte| *byte != b' ')?;
            let end =
                rest[begin..].iter().position(|byte| *byte == b' ').map_or(rest.len(), |len| begin + len);
            let (found, more) = (&rest[begin..end], &rest[end..]);
            rest = more;
            Some(found)
        };
        let hex = |text: &[u8]| u64::from_str_radix(str::from_utf8(text).ok()?, 16).ok();
        let range = word()?;
        let dash = range.iter().position(|byte| *byte == b'-')?;
        let (first, last) = (hex(&range[..dash])?, hex(&range[dash + 1..])?);
        if !(first..last).contains(&address) {
            return None;
        }
        let _permissions = word()?;
        let offset = hex(word()?)?;
        let (_device, _inode) = (word()?, word()?);
        let name = String::from_utf8_lossy(rest.trim_ascii_start()).into_owned();
        (!name.is_empty()).then_some((name, offset + (address - first)))
    })
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

    const MAPS: &[u8] =
        b"55d0c8a00000-55d0c8a21000 r-xp 00002000 fe:00 1234                       /usr/bin/a b\n\
        55d0c8b00000-55d0c8b21000 rw-p 00000000 00:00 0 \n\
        7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]\n";

    #[test]
    fn mappings_have_names_and_offsets() {
        assert_eq!(mapping(MAPS, 0x55d0_c8a0_1010), Some(("/usr/bin/a b".into(), 0x3010)));
        assert_eq!(mapping(MAPS, 0x55d0_c8b0_0000), None);
        assert_eq!(mapping(MAPS, 0x7ffd_0000_0000), Some(("[stack]".into(), 0)));
        assert_eq!(mapping(MAPS, 0x7ffd_0002_1000), None, "the end is outside");
        assert_eq!(mapping(b"garbage\n", 1), None);
    }
}
