//! The records of `iolat`, made from what its eBPF programs counted.

use super::devices::Devices;
use super::table::{Activity, Event, Latency, Op, sector};
use crate::bpf::percentiles::{distribution, times};
use crate::bpf::task::TaskId;
use crate::bpf::tracer::{Interval, Output};
use crate::common::time::{Micros, Timestamp};
use crate::record::{Io, IoEvent};

/// The record of a device and operation in an interval.
pub fn summary(activity: &Activity, interval: Interval, devices: &mut Devices, histogram: bool) -> Io {
    let Activity { total, on_device, queue, .. } = activity;
    let of = |latency: &Latency| times(&latency.histogram, latency.sum_ns, latency.max_ns);
    let count = total.histogram.count();
    let split = on_device.histogram.count();
    let device = of(on_device);
    let waited = of(queue);
    let slowest = activity.slowest;
    let task = slowest.and_then(|slowest| slowest.task);
    let known = histogram && split > 0;
    let sparse = |latency: &Latency| known.then(|| latency.histogram.sparse());
    let zeros = |latency: &Latency| known.then(|| latency.histogram.zero_count());
    Io {
        device: (activity.device != 0).then(|| devices.name(activity.device)),
        op: activity.op.name(),
        start_ts: Some(interval.start),
        interval_s: interval.seconds,
        count,
        bytes: activity.bytes,
        errors: activity.errors,
        times: of(total),
        max_sector: slowest.and_then(|slowest| slowest.sector),
        max_bytes: slowest.map(|slowest| slowest.bytes.into()).filter(|bytes| *bytes > 0),
        max_pid: task.map(|task| task.pid),
        max_comm: task.map(|task| task.comm()),
        device_count: (split != count).then_some(split),
        device_sum_us: (split > 0).then_some(device.sum_us),
        device_mean_us: device.mean_us,
        device_p50_us: device.p50_us,
        device_p90_us: device.p90_us,
        device_p95_us: device.p95_us,
        device_p99_us: device.p99_us,
        device_p999_us: device.p999_us,
        device_max_us: device.max_us,
        queue_sum_us: (split > 0).then_some(waited.sum_us),
        queue_mean_us: waited.mean_us,
        queue_p50_us: waited.p50_us,
        queue_p90_us: waited.p90_us,
        queue_p95_us: waited.p95_us,
        queue_p99_us: waited.p99_us,
        queue_p999_us: waited.p999_us,
        queue_max_us: waited.max_us,
        distribution: (histogram && count > 0).then(|| distribution(&total.histogram)),
        device_zero_count: zeros(on_device),
        device_buckets: sparse(on_device),
        queue_zero_count: zeros(queue),
        queue_buckets: sparse(queue),
    }
}

/// The time and the record of an event; `None` for an unknown operation.
pub fn event(event: &Event, devices: &mut Devices, output: &mut Output) -> Option<(Timestamp, IoEvent)> {
    let Output { clock, threshold, cgroups, .. } = output;
    let split = |ns| (event.split != 0).then_some(Micros(ns));
    let mut record = IoEvent {
        begin_ts: Some(clock.wall(event.end_ns.saturating_sub(event.total_ns))),
        device: devices.name(event.device),
        op: Op::from_kernel(event.op)?.name(),
        sector: sector(event.sector),
        bytes: event.bytes.into(),
        error: error_name(event.error),
        total_us: Micros(event.total_ns),
        threshold_us: *threshold,
        device_us: split(event.device_ns),
        queue_us: split(event.queue_ns),
        ..IoEvent::default()
    };
    if event.task.known != 0 {
        let task = TaskId::from(event.task);
        record.pid = Some(task.pid);
        record.tid = Some(task.tid);
        record.comm = Some(task.comm());
        record.uid = Some(task.uid);
        record.cgroup_id = Some(task.cgroup_id);
        (record.cgroup, record.container_id) = cgroups.names(task.cgroup_id);
    }
    Some((clock.wall(event.end_ns), record))
}

/// `blk_status_t`, its errno in the kernel (block/blk-core.c), and the name of that.
const ERRORS: [(i32, i32, &str); 17] = [
    (1, 95, "EOPNOTSUPP"),
    (2, 110, "ETIMEDOUT"),
    (3, 28, "ENOSPC"),
    (4, 67, "ENOLINK"),
    (5, 121, "EREMOTEIO"),
    (6, 52, "EBADE"),
    (7, 61, "ENODATA"),
    (8, 84, "EILSEQ"),
    (9, 12, "ENOMEM"),
    (10, 5, "EIO"),
    (12, 11, "EAGAIN"),
    (13, 16, "EBUSY"),
    (15, 109, "ETOOMANYREFS"),
    (16, 75, "EOVERFLOW"),
    (17, 19, "ENODEV"),
    (18, 62, "ETIME"),
    (19, 22, "EINVAL"),
];

/// The name of an error: a negative errno until 5.15, a `blk_status_t` since.
fn error_name(error: i32) -> Option<String> {
    let known = |(status, errno, _): &&(i32, i32, &str)| error == *status || error == -*errno;
    match (error, ERRORS.iter().find(known)) {
        (0, _) => None,
        (_, Some((.., name))) => Some((*name).to_owned()),
        (..=-1, None) => Some(format!("errno {}", -error)),
        (_, None) => Some(format!("status {error}")),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::bpf::cgroup::Cgroups;
    use crate::bpf::map::read;
    use crate::common::emit::Emitter;

    const RECORDED: &str = include_str!("../../../tests/fixtures/iolat-events.hex");

    fn recorded(what: &str) -> Vec<u8> {
        let digits = RECORDED.lines().find_map(|line| line.strip_prefix(what)).unwrap().trim().as_bytes();
        digits.chunks(2).map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    #[test]
    fn events_from_their_bytes() {
        let root = tempfile::tempdir().unwrap();
        let numbers = root.path().join("dev/block");
        std::fs::create_dir_all(&numbers).unwrap();
        symlink("../../devices/virtual/block/loop0", numbers.join("7:0")).unwrap();
        symlink("../../devices/virtual/block/loop0/loop0p2", numbers.join("259:1")).unwrap();
        let mut devices = Devices::new(root.path());
        let emitter = Emitter::new("host", None, false);
        let cgroups = Cgroups::new(root.path());
        let mut output = Output { cgroups, ..Output::new(emitter, None) };
        let mut made = |what| {
            let recorded: Event = read(&recorded(what)).unwrap();
            let (end, record) = event(&recorded, &mut devices, &mut output).unwrap();
            assert_eq!(end.0 - record.begin_ts.unwrap().0, record.total_us.0, "{what}");
            IoEvent { begin_ts: None, ..record }
        };
        // The requests of dd: 4 KiB, which are eight sectors; the partition begins at sector 18432.
        let asked = |device: &str, op, block: u64, pid, nanos| IoEvent {
            device: device.into(),
            op,
            sector: Some(block * 8),
            bytes: 4096,
            total_us: Micros(nanos),
            device_us: Some(Micros(nanos)),
            queue_us: Some(Micros(0)),
            pid: Some(pid),
            tid: Some(pid),
            comm: Some("dd".into()),
            uid: Some(0),
            cgroup_id: Some(1),
            ..IoEvent::default()
        };
        assert_eq!(made("read"), asked("loop0p2", "read", 2304 + 3, 11043, 187_123));
        assert_eq!(made("write"), asked("loop0p2", "write", 2304 + 5, 11044, 4_122_888));
        let failed = IoEvent { error: Some("EIO".into()), ..asked("loop0", "read", 9, 11047, 29_924) };
        assert_eq!(made("failed"), failed);
        // A flush has neither a sector nor a submitter.
        let flush = IoEvent {
            device: "loop0".into(),
            op: "flush",
            total_us: Micros(156_356),
            device_us: Some(Micros(145_179)),
            queue_us: Some(Micros(11_177)),
            ..IoEvent::default()
        };
        assert_eq!(made("flush"), flush);
        assert!(read::<Event>(&recorded("read")[1..]).is_none());
    }

    #[test]
    fn errors_have_names() {
        assert_eq!(error_name(0), None);
        // Both kernels' ways to say it.
        assert_eq!(error_name(10).as_deref(), Some("EIO"));
        assert_eq!(error_name(-5).as_deref(), Some("EIO"));
        assert_eq!(error_name(-1000).as_deref(), Some("errno 1000"));
        assert_eq!(error_name(200).as_deref(), Some("status 200"));
        for (_, errno, name) in ERRORS {
            // The C library's own numbers.
            let text = std::io::Error::from_raw_os_error(errno).to_string();
            assert!(text.ends_with(&format!("(os error {errno})")), "{name}: {text}");
            assert!(!text.starts_with("Unknown"), "{name}: {text}");
        }
    }
}
