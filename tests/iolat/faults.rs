//! Failing and removed devices, closed pipes, missing capabilities, and usage errors.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use assert_cmd::cargo::CommandCargoExt as _;
use rustix::process::{Pid, Signal, kill_process};

use crate::machine::{LoopDisk, ready, run};
use crate::support::tracer::needed_capabilities;
use crate::tracer::{Iolat, lost, of, total};

fn iolat() -> Command {
    Command::cargo_bin("iolat").unwrap()
}

fn binary() -> String {
    iolat().get_program().to_str().unwrap().to_owned()
}

/// Reads with direct I/O; returns false if a read fails.
fn read(device: &str) -> bool {
    let input = format!("if={device}");
    let mut dd = Command::new("dd");
    dd.args([&input, "of=/dev/null", "bs=4k", "count=8", "iflag=direct"]).stderr(Stdio::null());
    dd.status().unwrap().success()
}

#[test]
fn io_errors_are_counted() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    let iolat = Iolat::start(&["--device", &disk.name, "--events", "--min", "1us"]);
    let file = std::fs::OpenOptions::new().write(true).open(&disk.file).unwrap();
    file.set_len(0).unwrap();
    assert!(!read(&disk.path()), "a read beyond the end of the file succeeded");
    let records = iolat.finish();
    assert!(total(&records, "read", "errors") > 0, "{records:?}");
    let failed = records.iter().find(|record| record["kind"] == "io_event" && record["error"].is_string());
    assert_eq!(failed.unwrap()["error"], "EIO");
}

#[test]
fn a_device_that_is_removed() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    let mut iolat = Iolat::start_each("100ms", &[]);
    assert!(read(&disk.path()));
    disk.detach();
    let record = iolat.wait_for(|record| record["kind"] == "io" && record["device"] == disk.name.as_str());
    assert!(record["count"].as_u64().unwrap() > 0);
    assert!(iolat.finish().len() > 1);
}

#[test]
fn a_device_without_requests() {
    let Some(_alone) = ready(&["dmsetup", "losetup"]) else { return };
    let disk = LoopDisk::new();
    let name = format!("telepipe-{}", std::process::id());
    let table = format!("0 {} linear {} 0", LoopDisk::BYTES / 512, disk.path());
    let made = Command::new("dmsetup").args(["create", &name, "--table", &table]).output().unwrap();
    let device = if made.status.success() {
        let real = std::fs::canonicalize(format!("/dev/mapper/{name}")).unwrap();
        real.file_name().unwrap().to_string_lossy().into_owned()
    } else if std::path::Path::new("/sys/block/zram0").exists() {
        "zram0".to_owned()
    } else {
        crate::support::skip("there is neither device mapper nor zram");
        return;
    };
    let output = iolat().args(["--device", &device]).output().unwrap();
    if made.status.success() {
        run("dmsetup", &["remove", &name]);
    }
    let record: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&record["source"], &record["reason"]), (&device.as_str().into(), &"unsupported".into()));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_closed_pipe() {
    let Some(_alone) = ready(&[]) else { return };
    let mut child =
        iolat().args(["-i", "100ms"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    // The reader is dropped here. iolat must notice that before it writes again.
    let left = Instant::now();
    let output = child.wait_with_output().unwrap();
    assert!(first.contains(r#""kind":"status""#), "{first}");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(left.elapsed() < Duration::from_secs(2), "noticed after {:?}", left.elapsed());
}

/// The IDs of the eBPF programs that a process has open.
fn programs(pid: u32) -> BTreeSet<u32> {
    let files = std::fs::read_dir(format!("/proc/{pid}/fdinfo")).unwrap().flatten();
    let texts = files.filter_map(|file| std::fs::read_to_string(file.path()).ok());
    let number =
        |text: String| text.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok());
    texts.filter_map(number).collect()
}

#[test]
fn sigkill_leaves_nothing_attached() {
    let Some(_alone) = ready(&[]) else { return };
    let mut iolat = Iolat::start(&["--who", "--events"]);
    let held = programs(iolat.pid());
    assert!(held.len() >= 2, "completion and submission: {held:?}");
    kill_process(Pid::from_raw(iolat.pid() as i32).unwrap(), Signal::KILL).unwrap();
    iolat.wait();
    let until = Instant::now() + Duration::from_secs(10);
    loop {
        let loaded: BTreeSet<_> =
            libbpf_rs::query::ProgInfoIter::default().map(|program| program.id).collect();
        let left: Vec<_> = held.intersection(&loaded).collect();
        if left.is_empty() {
            break;
        }
        assert!(Instant::now() < until, "still loaded: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Once the first record is written, a signal ends iolat with exit code 0.
#[test]
fn sigterm_right_after_the_first_record() {
    let Some(_alone) = ready(&[]) else { return };
    for _ in 0..20 {
        let mut child = iolat().args(["-i", "1h"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut first = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
        kill_process(Pid::from_raw(child.id() as i32).unwrap(), Signal::TERM).unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.code(), Some(0), "{status}, {first}");
    }
}

/// Several processes of iolat do not affect each other's counts.
#[test]
fn several_at_once() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    let copies: Vec<_> = (0..4).map(|_| Iolat::start(&["--device", &disk.name])).collect();
    assert!(read(&disk.path()));
    let counted: BTreeSet<_> = copies
        .into_iter()
        .map(|copy| {
            let records = copy.finish();
            total(&records, "read", "count") + lost(&records)
        })
        .collect();
    // All have the same count. Of the 8 requests, some may be invisible to tracers (`Logged::in_init`).
    assert!(counted.len() == 1 && counted.iter().all(|count| (6..=8).contains(count)), "{counted:?}");
}

#[test]
fn a_full_disk() {
    let Some(_alone) = ready(&[]) else { return };
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let output = iolat().args(["-n", "1", "-i", "50ms"]).stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("iolat: ") && stderr.contains("No space left"), "{stderr}");
}

#[test]
fn two_capabilities_are_enough() {
    let Some(_alone) = ready(&["setpriv"]) else { return };
    let output = Command::new("setpriv")
        .args([needed_capabilities(), &binary(), "-n", "1", "-i", "50ms"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stdout).contains(r#""reason":"active""#));
}

#[test]
fn capabilities_are_dropped() {
    let Some(_alone) = ready(&[]) else { return };
    let iolat = Iolat::start(&[]);
    // The threads start just after the first record.
    std::thread::sleep(Duration::from_millis(100));
    let tasks = std::fs::read_dir(format!("/proc/{}/task", iolat.pid())).unwrap();
    for task in tasks.flatten() {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            u64::from_str_radix(line.trim_start_matches(':').trim(), 16).unwrap()
        };
        // Kernels before 5.19 may need CAP_BPF (39) and CAP_PERFMON (38) to the end.
        let needed = 1 << 38 | 1 << 39;
        assert_eq!((field("CapEff") & !needed, field("CapPrm") & !needed, field("NoNewPrivs")), (0, 0, 1));
    }
    iolat.finish();
}

#[test]
fn usage_errors() {
    for (args, words) in [
        (&["--sys-root", "/tmp"][..], "--sys-root"),
        (&["--min", "5ms", "--no-events", "--no-summary"], "--no-summary"),
        (&["--no-summary"], "--events"),
        (&["--events", "--no-summary", "--no-events"], "--no-summary"),
        (&["--cgroup", "/no/such/folder"], "--cgroup"),
        (&["--cgroup", "/tmp"], "--cgroup /tmp"),
        (&["--filter", ".a["], "--filter"),
    ] {
        let output = iolat().args(args).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
        assert!(stderr.starts_with("iolat: ") && stderr.contains(words), "{args:?}: {stderr}");
    }
}

/// `--min` implies `--events`, as in the other tracers.
#[test]
fn min_implies_events() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    for (more, events) in [(&["--min", "0"][..], true), (&["--min", "0", "--no-events"], false), (&[], false)]
    {
        let iolat = Iolat::start(&[&["--device", &disk.name], more].concat());
        assert!(read(&disk.path()));
        let records = iolat.finish();
        assert_eq!(
            records.iter().any(|record| record["kind"] == "io_event"),
            events,
            "{more:?}: {records:?}"
        );
    }
}

#[test]
fn summary_and_histogram_can_be_left_out() {
    let Some(_alone) = ready(&["losetup"]) else { return };
    let disk = LoopDisk::new();
    let iolat =
        Iolat::start_each("50ms", &["--device", &disk.name, "--no-summary", "--events", "--min", "1m"]);
    assert!(read(&disk.path()));
    std::thread::sleep(Duration::from_millis(200));
    let records = iolat.finish();
    assert!(of(&records, "read").is_empty(), "{records:?}");
    // All requests of a run can complete in init, where some sandboxes run no eBPF programs.
    let mut runs = std::iter::repeat_with(|| {
        let iolat = Iolat::start(&["--device", &disk.name, "--no-histogram"]);
        assert!(read(&disk.path()));
        iolat.finish()
    });
    let records = runs.by_ref().take(10).find(|records| !of(records, "read").is_empty()).expect("a request");
    let summary = of(&records, "read")[0];
    assert!(["scale", "zero_count", "buckets"].iter().all(|field| summary.get(field).is_none()), "{summary}");
    assert!(summary["p99_us"].is_number(), "{summary}");
}
