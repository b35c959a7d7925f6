//! Makes records of what the eBPF programs measured.

use super::table::{Description, Event, Process, Waits};
use crate::bpf::cgroup::Cgroups;
use crate::bpf::clock::KernelClock;
use crate::bpf::percentiles::{distribution, times};
use crate::bpf::task::{TaskId, comm, in_pid_namespace};
use crate::bpf::tracer::Interval;
use crate::common::time::{Micros, Timestamp};
use crate::record::{Runq, RunqEvent, Sched};

/// The record of the waits of an interval.
pub fn runq(waits: &Waits, interval: Interval, cgroups: &mut Cgroups, histogram: bool) -> Runq {
    let (cgroup, container_id) = waits.cgroup_id.map_or((None, None), |id| cgroups.names(id));
    let count = waits.histogram.count();
    let longest = (waits.longest.ns > 0).then_some(&waits.longest);
    let show = histogram && count > 0;
    Runq {
        cpu: waits.cpu,
        cgroup_id: waits.cgroup_id,
        cgroup,
        container_id,
        start_ts: Some(interval.start),
        interval_s: interval.seconds,
        count,
        times: times(&waits.histogram, waits.sum_ns, waits.longest.ns),
        max_pid: longest.map(|longest| longest.pid),
        max_comm: longest.map(|longest| longest.comm.clone()),
        max_prev_comm: longest.map(|longest| longest.prev_comm.clone()),
        distribution: show.then(|| distribution(&waits.histogram)),
    }
}

/// The record of a long wait, and when it ended.
pub fn event(
    event: &Event,
    threshold: Option<Micros>,
    clock: KernelClock,
    cgroups: &mut Cgroups,
) -> (Timestamp, RunqEvent) {
    let task = TaskId::from(event.task);
    let (cgroup, container_id) = cgroups.names(task.cgroup_id);
    let record = RunqEvent {
        begin_ts: Some(clock.wall(event.end_ns.saturating_sub(event.wait_ns))),
        duration_us: Micros(event.wait_ns),
        threshold_us: threshold,
        cpu: event.cpu,
        pid: task.pid,
        tid: task.tid,
        comm: task.comm(),
        uid: task.uid,
        prev_pid: event.prev_pid,
        prev_comm: comm(&event.prev_comm.map(i8::cast_unsigned)).into_owned(),
        cgroup_id: (task.cgroup_id != 0).then_some(task.cgroup_id),
        cgroup,
        container_id,
    };
    (clock.wall(event.end_ns), record)
}

/// The record of a process. `known` is its description of an earlier interval, if this one has none.
pub fn sched(
    process: &Process,
    known: Option<&Description>,
    interval: Interval,
    cgroups: &mut Cgroups,
) -> Sched {
    let described = process.description.as_ref();
    let description = described.or(known);
    let cgroup_id = description.map(|description| description.cgroup_id).filter(|id| *id != 0);
    let (cgroup, container_id) = cgroup_id.map_or((None, None), |id| cgroups.names(id));
    let switches = process.voluntary + process.involuntary;
    // A process that ran all the time may have executed another program since it was described.
    let comm = match described {
        Some(described) => Some(described.comm.clone()),
        None => comm_from_proc(process.pid).or_else(|| known.map(|known| known.comm.clone())),
    };
    Sched {
        pid: process.pid,
        comm,
        uid: description.map(|description| description.uid),
        cgroup_id,
        cgroup,
        container_id,
        start_ts: Some(interval.start),
        interval_s: interval.seconds,
        context_switches: switches,
        voluntary_switches: process.voluntary,
        involuntary_switches: process.involuntary,
        wakeups: process.wakeups,
        migrations: process.migrations,
        cpu_time_us: Micros(process.cpu_ns),
        mean_timeslice_us: process.cpu_ns.checked_div(switches).map(Micros),
        runq_us: Micros(process.runq_ns),
        max_runq_us: Micros(process.max_runq_ns),
    }
}

/// The name of a process, from /proc; `None` where its numbers are not the kernel's.
fn comm_from_proc(pid: u32) -> Option<String> {
    if in_pid_namespace() {
        return None;
    }
    let text = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(text.strip_suffix(b"\n").unwrap_or(&text)).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bpf::map::read;

    /// An event as a ring buffer of Linux 6.18 on x86-64 held it.
    const RECORDED: [u8; 80] = *b"\x40\x5e\x00\x9a\xd4\x02\x00\x00\x8e\x19\xb7\x00\x00\x00\x00\x00\
        \x00\x00\x00\x00\x31\x65\x00\x00lto cgu.0.rcgu.\x00\
        \x01\x00\x00\x00\x00\x00\x00\x00\x30\x65\x00\x00\x4d\x65\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\
        lto cgu.0.rcgu.\x00";

    #[test]
    fn an_event_from_its_bytes() {
        let recorded: Event = read(&RECORDED).unwrap();
        let root = tempfile::tempdir().unwrap();
        let (_, record) = event(&recorded, None, KernelClock::measure(), &mut Cgroups::new(root.path()));
        let expected = RunqEvent {
            begin_ts: record.begin_ts,
            duration_us: Micros(11_999_630),
            threshold_us: None,
            cpu: 0,
            pid: 0x6530,
            tid: 0x654d,
            comm: "lto cgu.0.rcgu.".into(),
            uid: 0,
            prev_pid: 0x6531,
            prev_comm: "lto cgu.0.rcgu.".into(),
            cgroup_id: Some(1),
            cgroup: None,
            container_id: None,
        };
        assert_eq!((record, recorded.end_ns), (expected, 0x02d4_9a00_5e40));
        assert!(read::<Event>(&RECORDED[1..]).is_none());
    }
}
