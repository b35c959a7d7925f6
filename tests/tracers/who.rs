//! Records have the right process, user, cgroup, CPU and time, which the test has set.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use rustix::process::Pid;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde_json::{Value, json};
use telepipe::common::time::Timestamp;

use crate::support::tracer::{Tracer, lost, of, ready};
use crate::tracers;
use crate::workload::{assert_seen, begin_workload, everything};

/// A user ID that no other process has.
const USER: u32 = 4242;
const CONTAINER: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A cgroup (v2) with the name of a container's, removed when dropped.
struct Cgroup {
    folder: PathBuf,
    /// The path below the root of the hierarchy, as in records.
    path: String,
}

impl Cgroup {
    fn new() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
        let Some(root) = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2")) else {
            crate::support::skip("no cgroup v2 is mounted");
            return None;
        };
        let path = format!("/telepipe-{}/docker-{CONTAINER}.scope", std::process::id());
        let folder = PathBuf::from(root.split(' ').nth(1).unwrap()).join(&path[1..]);
        std::fs::create_dir_all(&folder).unwrap();
        Some(Self { folder, path })
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.folder);
        let _ = std::fs::remove_dir(self.folder.parent().unwrap());
    }
}

/// Pins a process to the last CPU that this process may use, and returns that CPU.
pub fn pin(pid: u32) -> usize {
    let may = sched_getaffinity(None).unwrap();
    let last = (0..CpuSet::MAX_CPU).rfind(|cpu| may.is_set(*cpu)).unwrap();
    let mut only = CpuSet::new();
    only.set(last);
    sched_setaffinity(Pid::from_raw(pid as i32), &only).unwrap();
    last
}

fn nanos(time: &Value) -> u64 {
    time.as_str().unwrap().parse::<Timestamp>().unwrap().0
}

/// Asserts that the duration of an event is its end minus its begin, and that both are in the process's lifetime.
fn assert_times(event: &Value, life: [u64; 2]) {
    let took = ["duration_us", "total_us"].iter().find_map(|field| event[field].as_f64()).unwrap();
    let (begin, end) = (nanos(&event["begin_ts"]), nanos(&event["ts"]));
    assert_eq!(end - begin, (took * 1000.0).round() as u64, "{event}");
    // Allows 1 ms, because two clocks are read.
    assert!(life[0] <= begin + 1_000_000 && end <= life[1] + 1_000_000, "{event} in {life:?}");
}

#[test]
fn a_process_of_known_user_container_and_cpu() {
    let Some(_alone) = ready(&["perl"]) else { return };
    let Some(cgroup) = Cgroup::new() else { return };
    let comm = format!("who-{}", std::process::id());
    let id = std::fs::metadata(&cgroup.folder).unwrap().ino();
    for (name, path) in tracers() {
        let mut perl = begin_workload(0, &comm);
        let pid = perl.id();
        std::fs::write(cgroup.folder.join("cgroup.procs"), pid.to_string()).unwrap();
        let cpu = pin(pid);
        let only = ["--uid", &USER.to_string(), "--cgroup", cgroup.folder.to_str().unwrap()];
        let tracer = Tracer::start(path, &[&only[..], everything(name)].concat());
        let began = Timestamp::now().0;
        perl.stdin.take().unwrap().write_all(USER.to_string().as_bytes()).unwrap();
        assert!(perl.wait().unwrap().success());
        let life = [began, Timestamp::now().0];
        let records = tracer.finish();
        assert_seen(name, &records, pid.into());
        assert_eq!(lost(&records), 0, "{name}");

        let expected = json!([pid, comm, USER, id, cgroup.path, CONTAINER]);
        let fields = ["pid", "comm", "uid", "cgroup_id", "cgroup", "container_id"];
        let about = records.iter().filter(|record| record["pid"].is_number());
        for record in about {
            assert_eq!(json!(fields.map(|field| &record[field])), expected, "{name}: {record}");
            if record["begin_ts"].is_string() {
                assert_eq!(record["tid"], pid, "{name}: {record}");
                assert!(name == "iolat" || record["cpu"] == cpu, "{name}: not on {cpu}: {record}");
                assert_times(record, life);
            }
        }
        for slowest in records.iter().filter(|record| record["max_pid"].is_number()) {
            assert_eq!((&slowest["max_pid"], &slowest["max_comm"]), (&pid.into(), &json!(comm)), "{slowest}");
        }
        sums(&records);
    }
}

/// Asserts that the counts and times of a process are the sums over its page faults.
fn sums(records: &[Value]) {
    for process in of(records, "pagefault_process") {
        for (major, count, time) in [(false, "minor", "minor_us"), (true, "major", "major_us")] {
            let events = of(records, "pagefault").into_iter().filter(|event| event["major"] == major);
            let took: Vec<_> = events.map(|event| event["duration_us"].as_f64().unwrap()).collect();
            assert_eq!(process[count].as_u64(), Some(took.len() as u64), "{process}");
            assert!((process[time].as_f64().unwrap() - took.iter().sum::<f64>()).abs() < 0.01, "{process}");
        }
    }
}
