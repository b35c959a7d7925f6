//! Filters by device and task, ways to attach, and requests without timestamps.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::counters::{Counter, Tracefs, in_init};
use crate::machine::{LoopDisk, fio, ready, run};
use crate::tracer::{Iolat, lost, of, total};

/// Reads blocks of 4 KiB with direct I/O in another process; returns its ID.
fn read(device: &str, blocks: u32) -> u32 {
    let count = format!("count={blocks}");
    let input = format!("if={device}");
    let mut dd = Command::new("dd");
    dd.args([&input, "of=/dev/null", "bs=4k", &count, "iflag=direct"]).stderr(Stdio::null());
    dd.process_group(0);
    let mut dd = dd.spawn().unwrap();
    assert!(dd.wait().unwrap().success());
    dd.id()
}

fn reads(disk: &LoopDisk, args: &[&str]) -> Vec<Value> {
    reads_by(disk, args).1
}

/// The ID of the process that reads, too.
fn reads_by(disk: &LoopDisk, args: &[&str]) -> (u32, Vec<Value>) {
    let iolat = Iolat::start(&[&["--device", &disk.name], args].concat());
    let pid = read(&disk.path(), 50);
    (pid, iolat.finish())
}

/// [`reads_by`], again if no request was seen, since all of them can complete in init.
fn seen_reads_by(disk: &LoopDisk, args: &[&str]) -> (u32, Vec<Value>) {
    let runs = std::iter::repeat_with(|| reads_by(disk, args)).take(10);
    let mut seen = runs.skip_while(|(_, records)| total(records, "read", "count") == 0);
    seen.next().expect("a request outside of init")
}

/// The kernel's count of loop requests that completed while process 1 ran on that CPU. If process 1 is busy, there are
/// many.
struct InInit(Counter, Tracefs);

impl InInit {
    fn count() -> Self {
        let tracefs = Tracefs::new();
        let (first, next) = (7 << 20, 8 << 20);
        let loops = format!("dev >= {first} && dev < {next} && nr_sector > 0 && {}", in_init());
        Self(Counter::tracepoint(&tracefs.root, "block/block_rq_complete", &loops), tracefs)
    }
}

/// Asserts that almost all requests were counted. One that completes in an interrupt of another completion may be
/// lost, and is counted as lost.
fn about(count: u64, wanted: u64, records: &[Value], in_init: &InInit) {
    let (lost, unseen) = (lost(records), in_init.0.value());
    let counts = format!("{count} of {wanted}, {lost} lost, {unseen} in init");
    assert!(count <= wanted && count + lost + unseen + wanted / 10 >= wanted, "{counts}");
}

#[test]
fn every_way_to_attach_counts_the_same() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    for way in ["tp_btf", "raw_tp"] {
        for more in [&[][..], &["--who"], &["--partitions"], &["--events", "--who"]] {
            let in_init = InInit::count();
            let records = reads(&disk, &[&["--attach", way], more].concat());
            about(total(&records, "read", "count"), 50, &records, &in_init);
            assert_eq!(records[0]["method"], way, "{}", records[0]);
            // None if all requests completed in init.
            let with_queue = |record: &&Value| record["queue_p50_us"].is_number();
            assert!(of(&records, "read").iter().all(with_queue), "{way} {more:?}: {records:?}");
        }
    }
}

#[test]
fn who_adds_the_submitter() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    let (pid, records) = seen_reads_by(&disk, &["--who"]);
    let summary = of(&records, "read")[0];
    assert_eq!((&summary["max_pid"], &summary["max_comm"]), (&pid.into(), &"dd".into()));
    let (_, records) = seen_reads_by(&disk, &[]);
    assert!(of(&records, "read")[0].get("max_pid").is_none(), "without --who");
}

#[test]
fn filters_by_task() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    let own = std::process::id().to_string();
    for (filter, wanted) in [
        (["--comm", "dd"], 50),
        (["--comm", "no-such-task"], 0),
        (["--uid", "0"], 50),
        (["--uid", "4242"], 0),
        (["--pid", &own], 0),
    ] {
        let in_init = InInit::count();
        let records = reads(&disk, &filter);
        let count = total(&records, "read", "count");
        about(count, wanted, &records, &in_init);
    }
}

/// A new cgroup (v2) with a child `below`, removed when dropped.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
        let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some("cgroup2"))?;
        let folder = Path::new(mount.split(' ').nth(1)?).join(format!("telepipe-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("below")).ok()?;
        Some(Self(folder))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(self.0.join("below"));
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn filter_by_cgroup() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let Some(cgroup) = Cgroup::new() else {
        crate::support::skip("no cgroup v2 can be made");
        return;
    };
    let disk = LoopDisk::new();
    let below = cgroup.0.join("below");
    let args = ["--device", &disk.name, "--events", "--min", "0", "--cgroup", cgroup.0.to_str().unwrap()];
    let in_init = InInit::count();
    let iolat = Iolat::start(&args);
    read(&disk.path(), 30);
    let inside = "echo $$ >\"$1/cgroup.procs\" && exec dd if=\"$0\" of=/dev/null bs=4k count=40 iflag=direct";
    run("sh", &["-c", inside, &disk.path(), below.to_str().unwrap()]);
    let records = iolat.finish();
    about(total(&records, "read", "count"), 40, &records, &in_init);
    let event = records.iter().find(|record| record["kind"] == "io_event").unwrap();
    let path = event["cgroup"].as_str().unwrap();
    let name = cgroup.0.file_name().unwrap().to_str().unwrap();
    assert!(path.ends_with(&format!("/{name}/below")), "{event}");
}

#[test]
fn aggregate_over_devices() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let (one, two) = (LoopDisk::new(), LoopDisk::new());
    let in_init = InInit::count();
    let iolat = Iolat::start(&["--aggregate", "--device", &one.name, "--device", &two.name]);
    read(&one.path(), 30);
    read(&two.path(), 40);
    let records = iolat.finish();
    let reads = of(&records, "read");
    assert_eq!(reads.len(), 1);
    assert!(reads[0].get("device").is_none());
    about(total(&records, "read", "count"), 70, &records, &in_init);
}

#[test]
fn partitions_have_names() {
    let Some(_alone) = ready(&["losetup", "sfdisk"]) else { return };
    let disk = LoopDisk::new();
    let table = "printf '2048,16384\\n18432,16384\\n' | sfdisk --quiet --no-tell-kernel \"$0\" && partx --update \"$0\"";
    run("sh", &["-c", table, &disk.path()]);
    let second = format!("{}p2", disk.name);
    assert!(Path::new(&format!("/dev/{second}")).exists(), "no partition appeared");

    let in_init = InInit::count();
    let iolat = Iolat::start(&["--device", &second]);
    read(&format!("{}p1", disk.path()), 30);
    read(&format!("/dev/{second}"), 20);
    let records = iolat.finish();
    assert!(of(&records, "read").iter().all(|record| record["device"] == second.as_str()), "{records:?}");
    about(total(&records, "read", "count"), 20, &records, &in_init);

    let iolat = Iolat::start(&["--device", &disk.name]);
    read(&format!("/dev/{second}"), 20);
    let records = iolat.finish();
    assert_eq!(of(&records, "read")[0]["device"], disk.name.as_str(), "whole disks by default");
}

#[test]
fn a_device_that_appears_later() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    let mut iolat = Iolat::start_each("100ms", &["--device", &disk.name]);
    disk.detach();
    run("losetup", &["--direct-io=on", &disk.path(), disk.file.to_str().unwrap()]);
    read(&disk.path(), 10);
    let record = iolat.wait_for(|record| record["kind"] == "io" && record["op"] == "read");
    assert_eq!(record["device"], disk.name.as_str());
    iolat.finish();
}

/// Whether partitions are counted is decided at the start. One that appears later gets a `status` record, not counts
/// of 0.
#[test]
fn a_partition_that_appears_later() {
    let Some(_alone) = ready(&["losetup", "sfdisk"]) else { return };
    let disk = LoopDisk::new();
    let first = format!("{}p1", disk.name);
    let mut iolat = Iolat::start_each("50ms", &["--device", &first]);
    let absent = iolat.wait_for(|record| record["source"] == first.as_str());
    assert_eq!(absent["reason"], "absent");
    let table = "printf '2048,16384\\n' | sfdisk --quiet --no-tell-kernel \"$0\" && partx --update \"$0\"";
    run("sh", &["-c", table, &disk.path()]);
    let unsupported =
        |record: &Value| record["source"] == first.as_str() && record["reason"] == "unsupported";
    let record = iolat.wait_for(unsupported);
    assert!(record["detail"].is_string(), "{record}");
    let again = iolat.finish().into_iter().filter(|record| unsupported(record)).count();
    assert_eq!(again, 1, "reported once");
}

/// The memory of the maps in the `status` record is that in the kernel's fdinfo.
#[test]
fn the_memory_of_all_maps_is_reported() {
    let Some(_alone) = ready(&[]) else { return };
    for args in [&[][..], &["--who"], &["--who", "--events"]] {
        let iolat = Iolat::start(args);
        let mut maps = std::collections::BTreeMap::<u64, u64>::new();
        for file in std::fs::read_dir(format!("/proc/{}/fdinfo", iolat.pid())).unwrap().flatten() {
            let text = std::fs::read_to_string(file.path()).unwrap_or_default();
            let field =
                |name| text.lines().find_map(|line: &str| line.strip_prefix(name)?.trim().parse().ok());
            if let (Some(map), Some(bytes)) = (field("map_id:"), field("memlock:")) {
                maps.insert(map, bytes);
            }
        }
        let records = iolat.finish();
        let detail = records[0]["detail"].as_str().unwrap();
        let (_, after) = detail.split_once("; ").unwrap();
        let reported: u64 = after.split_once(" KiB of maps").unwrap().0.parse().unwrap();
        assert_eq!(reported, maps.values().sum::<u64>() / 1024, "{detail}: {maps:?}");
        assert!(reported <= 16 << 10, "{detail}");
    }
}

/// The number of BPF links that a process has open.
fn links(pid: u32) -> usize {
    let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    texts.filter(|text| text.lines().any(|line| line.starts_with("link_id:"))).count()
}

/// With iostats off, requests have neither a start nor an issue time.
#[test]
fn requests_without_timestamps() {
    let Some(_alone) = ready(&["fio", "losetup"]) else { return };
    let disk = LoopDisk::new();
    disk.set_queue("wbt_lat_usec", "0");
    disk.set_queue("iostats", "0");
    let in_init = InInit::count();
    let iolat = Iolat::start(&["--device", &disk.name]);
    let links = links(iolat.pid());
    let job = fio(&disk.path(), &["--rw=randread", "--bs=64k", "--ioengine=psync", "--size=8m"]);
    let records = iolat.finish();
    about(total(&records, "read", "count"), 128, &records, &in_init);
    let summary = of(&records, "read")[0];
    // Before 6.5 (no block_io_start), a request that is not queued has one time only.
    if in_init.1.root.join("events/block/block_io_start").exists() {
        assert!(summary.get("device_count").is_none(), "all have an issue time: {summary}");
    }
    let longest = job["read"]["lat_ns"]["max"].as_f64().unwrap() / 1000.0;
    let [p50, max] = ["p50_us", "max_us"].map(|field| summary[field].as_f64().unwrap());
    assert!(p50 > 1.0 && max <= longest, "p50 {p50} us, max {max} us, fio's longest {longest} us");
    assert_eq!(links, 3, "submission, issue and completion");
}

/// Only the issue time is missing, which shows with the first requests. These have only a total time; from the next
/// interval on, requests have all three.
#[test]
fn requests_without_an_issue_time() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    disk.set_queue("wbt_lat_usec", "0");
    let mut iolat = Iolat::start_each("100ms", &["--device", &disk.name]);
    read(&disk.path(), 5);
    let first = iolat.wait_for(|record| record["op"] == "read");
    if first["device_count"].is_null() {
        crate::support::skip("this kernel sets the issue time anyway");
        return;
    }
    assert_eq!(first["device_count"], 0, "{first}");
    assert!(first["p50_us"].is_number() && first["device_p50_us"].is_null(), "{first}");
    iolat.wait_for(|record| record["source"] == "block_rq_issue" && record["reason"] == "active");
    read(&disk.path(), 5);
    let second = iolat.wait_for(|record| record["op"] == "read" && record["ts"] != first["ts"]);
    assert!(second["device_p50_us"].as_f64().unwrap() > 0.0, "{second}");
    iolat.finish();
}
