//! The records of `syscall-trace`, made from what its eBPF programs counted.

use std::borrow::Cow;
use std::sync::LazyLock;

use super::class::{Class, multiplexer, waits_by_arg};
use super::names::{Abi, all, error};
use super::table::{Activity, Event, FdType, NUMBERS, Stuck};
use crate::bpf::cgroup::Cgroups;
use crate::bpf::clock::KernelClock;
use crate::bpf::percentiles::distribution;
use crate::bpf::task::TaskId;
use crate::bpf::tracer::Interval;
use crate::collect::cgroup::container_id;
use crate::common::time::{Micros, Timestamp};
use crate::record::{Hex, Syscall, SyscallStuck, SyscallSummary};

/// Name and class of a call, and its [`multiplexer`].
type Known = (&'static str, &'static str, u8);

/// By table and number, because each event needs them.
static KNOWN: LazyLock<Vec<Option<Known>>> = LazyLock::new(|| {
    let mut known = vec![None; 2 * NUMBERS];
    for (abi, nr, name) in all() {
        known[abi.offset() + nr as usize] = Some((name, Class::of(name).name(), multiplexer(name)));
    }
    known
});

/// Fills [`KNOWN`] ahead of the first event.
pub fn prepare() {
    LazyLock::force(&KNOWN);
}

fn known(abi: Abi, nr: i32) -> (Cow<'static, str>, &'static str, u8) {
    let index = usize::try_from(abi.number(nr)).ok().filter(|nr| *nr < NUMBERS);
    match index.and_then(|nr| KNOWN[abi.offset() + nr]) {
        Some((name, class, multiplexer)) => (Cow::Borrowed(name), class, multiplexer),
        None => (Cow::Owned(format!("syscall_{nr}")), Class::Other.name(), 0),
    }
}

/// The name and the class of a call. A read or write that can wait for its file has the class `wait`.
fn name_and_class(abi: Abi, nr: i32, fd_type: Option<&str>, arg: u64) -> (Cow<'static, str>, &'static str) {
    let (name, class, multiplexer) = known(abi, nr);
    let waits = fd_type.is_some() || waits_by_arg(multiplexer, arg);
    (name, if waits { Class::Wait.name() } else { class })
}

/// The value of the field `fd_type`.
fn fd_type(fd_type: FdType) -> Option<&'static str> {
    match fd_type {
        FdType::FD_PIPE => Some("pipe"),
        FdType::FD_SOCKET => Some("socket"),
        FdType::FD_TTY => Some("tty"),
        FdType::FD_ANON => Some("anon"),
        FdType::FD_DEVICE => Some("device"),
        _ => None,
    }
}

/// When a call returned, and its record.
pub fn event<'a>(
    event: &Event,
    task: &'a TaskId,
    threshold: Option<Micros>,
    clock: KernelClock,
    cgroups: &'a mut Cgroups,
) -> (Timestamp, Syscall<'a>) {
    let abi = Abi::from_kernel(event.compat != 0);
    let fd_type = fd_type(event.fd_type);
    let (name, class) = name_and_class(abi, event.nr, fd_type, event.args[0]);
    let cgroup = cgroups.path(task.cgroup_id);
    let record = Syscall {
        nr: event.nr,
        class,
        arch: abi.arch(event.nr),
        syscall: name,
        duration_us: Micros(event.duration_ns),
        threshold_us: threshold,
        begin_ts: Some(clock.wall(event.end_ns.saturating_sub(event.duration_ns))),
        ret: event.ret,
        error: error(event.ret),
        args: event.args.map(Hex),
        fd_type,
        pid: task.pid,
        tid: task.tid,
        comm: task.name(),
        uid: task.uid,
        cpu: event.cpu,
        cgroup_id: task.cgroup_id,
        container_id: cgroup.and_then(container_id).map(Cow::Borrowed),
        cgroup: cgroup.map(Cow::Borrowed),
    };
    (clock.wall(event.end_ns), record)
}

/// When a call in progress was seen, and its record. `watched_since` is when the tracer started, by the kernel's clock.
pub fn stuck<'a>(
    stuck: &Stuck,
    task: &'a TaskId,
    watched_since: u64,
    clock: KernelClock,
    cgroups: &'a mut Cgroups,
) -> (Timestamp, SyscallStuck<'a>) {
    let abi = Abi::from_kernel(stuck.compat != 0);
    let fd_type = fd_type(stuck.fd_type);
    let (name, class) = name_and_class(abi, stuck.nr, fd_type, stuck.args[0]);
    let cgroup = cgroups.path(task.cgroup_id);
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
        pid: task.pid,
        tid: task.tid,
        comm: task.name(),
        uid: task.uid,
        cgroup_id: task.cgroup_id,
        container_id: cgroup.and_then(container_id).map(Cow::Borrowed),
        cgroup: cgroup.map(Cow::Borrowed),
    };
    (clock.wall(stuck.now_ns), record)
}

/// The letter that ps(1) has for a state of include/linux/sched.h.
fn state(bits: u32) -> &'static str {
    match bits {
        0 => "R",
        _ if bits & 2 != 0 => "D",
        _ if bits & 1 != 0 => "S",
        _ if bits & 12 != 0 => "T",
        _ => "X",
    }
}

/// The record of the calls with one number in an interval.
pub fn summary(activity: &Activity, interval: Interval, with_histogram: bool) -> SyscallSummary {
    let Activity { index, errors, sum_ns, max_ns, ref histogram } = *activity;
    let abi = Abi::from_kernel(index >= NUMBERS);
    let nr = (index % NUMBERS) as i32;
    let (name, class, _) = match nr as usize {
        nr if nr == NUMBERS - 1 => (Cow::Borrowed("other"), Class::Other.name(), 0),
        _ => known(abi, nr),
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
        distribution: with_histogram.then(|| distribution(histogram)),
    }
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::bpf::map::read;
    use crate::common::emit::write_line;
    use crate::common::hist::Histogram;
    use crate::record::Record;

    const RECORDED: &str = include_str!("../../../tests/fixtures/syscall-events.hex");

    fn recorded(what: &str) -> impl Iterator<Item = Vec<u8>> {
        RECORDED.lines().filter_map(move |line| line.strip_prefix(what)).map(|line| {
            let digits = line.trim().as_bytes().chunks(2);
            digits.map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
        })
    }

    fn line<R: Record>(ts: Timestamp, record: &R) -> Value {
        let mut text = Vec::new();
        write_line(&mut text, ts, b"\"h\"", record).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    #[test]
    fn recorded_calls() {
        let mut nowhere = Cgroups::new(Path::new("/nonexistent"));
        let records: Vec<_> = recorded("event")
            .map(|bytes| {
                let found: Event = read(&bytes).unwrap();
                let task = TaskId::from(found.task);
                let (ts, record) = event(&found, &task, None, KernelClock::measure(), &mut nowhere);
                line(ts, &record)
            })
            .collect();
        let calls = records.iter().map(|record| {
            ["syscall", "class", "duration_us", "ret", "error", "fd_type", "arch"].map(|field| &record[field])
        });
        let expected = [
            json!(["nanosleep", "wait", 5092.257, 0, null, null, null]),
            json!(["read", "wait", 6139.487, 1, null, "pipe", null]),
            json!(["nanosleep", "wait", 7790.52, 0, null, null, "i386"]),
            json!(["close", "file", 0.3, -9, "EBADF", null, null]),
            json!(["nanosleep", "wait", 5040.611, -516, "ERESTART_RESTARTBLOCK", null, null]),
        ];
        assert_eq!(calls.map(|fields| json!(fields)).collect::<Vec<_>>(), expected);
        let read = &records[1];
        assert_eq!(read["args"], json!(["0x3", "0x7ffefb6e13f7", "0x1", "0x7f5e3692ab60", "0x0", "0x0"]));
        let who = ["pid", "tid", "comm", "uid", "cpu", "cgroup_id"].map(|field| &read[field]);
        assert_eq!(json!(who), json!([23355, 23355, "calls", 0, 1, 1]));
        assert!(read.get("cgroup").is_none() && read.get("container_id").is_none(), "the cgroup is unknown");
        let begin: Timestamp = read["begin_ts"].as_str().unwrap().parse().unwrap();
        let end: Timestamp = read["ts"].as_str().unwrap().parse().unwrap();
        assert_eq!(end.0 - begin.0, 6_139_487);
    }

    #[test]
    fn recorded_calls_that_do_not_return() {
        let mut nowhere = Cgroups::new(Path::new("/nonexistent"));
        let records: Vec<_> = recorded("stuck")
            .map(|bytes| {
                let found: Stuck = read(&bytes).unwrap();
                // 1.5 s before the first was seen.
                let task = TaskId::from(found.task);
                let (ts, record) =
                    stuck(&found, &task, 5_659_128_923_375, KernelClock::measure(), &mut nowhere);
                line(ts, &record)
            })
            .collect();
        let [before, since] = &records[..] else { panic!("{records:?}") };
        for record in [before, since] {
            let same = ["syscall", "nr", "class", "state", "comm"].map(|field| &record[field]);
            assert_eq!(json!(same), json!(["openat", 257, "file", "S", "calls"]));
            assert_eq!(record["args"][0], "0xffffff9c", "AT_FDCWD");
        }
        assert_eq!((&before["at_least_us"], &before["pid"]), (&json!(1_500_000.0), &json!(24671)));
        assert!(before.get("elapsed_us").is_none() && before.get("begin_ts").is_none());
        assert_eq!((&since["elapsed_us"], &since["pid"]), (&json!(1_562_752.438), &json!(24705)));
        assert!(since.get("at_least_us").is_none() && since["begin_ts"].is_string());
    }

    #[test]
    fn a_summary_has_what_was_counted() {
        let mut histogram = Histogram::new(3);
        [300, 300, 5_000_000].into_iter().for_each(|ns| histogram.record(ns));
        let activity =
            Activity { index: NUMBERS + 162, errors: 1, sum_ns: 5_000_600, max_ns: 5_000_000, histogram };
        let [start, end] = [1, 2].map(Timestamp::from_secs);
        let interval = Interval { start, end, seconds: 1.0 };
        let record = line(end, &summary(&activity, interval, true));
        let named = ["syscall", "class", "arch", "count", "errors", "sum_us", "max_us", "scale"];
        let expected = json!(["nanosleep", "wait", "i386", 3, 1, 5000.6, 5000.0, 3]);
        assert_eq!(json!(named.map(|field| &record[field])), expected);
        // OTLP's index, ceil(log2(ns) · 8) − 1.
        assert_eq!(record["buckets"], json!({"65": 2, "178": 1}));
        let beyond = Activity { index: NUMBERS - 1, ..activity };
        assert_eq!(summary(&beyond, interval, false).syscall, "other");
    }
}
