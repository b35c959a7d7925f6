//! Overload: all four tracers write every event of `stress-ng` (`--min 0`), and their output is not read for a while.
//! The written and lost events must add up to the kernel's own counts.

#![cfg(all(target_os = "linux", feature = "bpf"))]

#[path = "../support/mod.rs"]
mod support;

#[path = "../support/counters.rs"]
mod counters;
#[path = "../iolat/machine.rs"]
#[allow(dead_code, reason = "the rest is used by tests/iolat")]
mod machine;
mod reader;

use std::os::unix::fs::symlink;
use std::process::{Child, Command};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use syscalls::Sysno;

use crate::counters::{Counter, Tracefs, in_init};
use crate::machine::{LoopDisk, device_number, folder, ready, run};
use crate::reader::{Names, Tracer};
use crate::support::{poll, program, require_long};

const SECONDS: u64 = 60;
const LOAD: [&str; 22] = [
    "--quiet",
    "--keep-name",
    "--timeout",
    "60",
    "--get",
    "1",
    "--switch",
    "1",
    "--pipe",
    "1",
    "--fork",
    "1",
    "--fault",
    "1",
    "--mmap",
    "1",
    "--mmap-bytes",
    "8m",
    "--hdd",
    "1",
    "--hdd-bytes",
    "4m",
];

#[test]
fn written_and_lost_events_are_all_events() {
    if !require_long() {
        return;
    }
    let Some(_alone) = ready(&["stress-ng", "losetup", "mkfs.ext4"]) else { return };
    let (disk, tracefs, folder) = (LoopDisk::new(), Tracefs::new(), folder());
    run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", &disk.path()]);
    // All processes of the load keep this name, to filter by.
    let name = format!("flood-{}", std::process::id());
    let stress = folder.path().join(&name);
    symlink("/usr/bin/stress-ng", &stress).unwrap();

    let counter = |event: &str, filter: &str| Counter::tracepoint(&tracefs.root, event, filter);
    let in_init = in_init();
    // All calls but these return.
    let ends = [Sysno::exit, Sysno::exit_group].map(|call| format!("id != {}", call.id())).join(" && ");
    let calls = counter("raw_syscalls/sys_enter", &format!("comm == \"{name}\" && {ends}"));
    let switches = counter("sched/sched_switch", &format!("next_comm == \"{name}\""));
    let woken_unseen = counter("sched/sched_wakeup", &format!("comm == \"{name}\" && {in_init}"));
    let all_switches = counter("sched/sched_switch", "next_pid >= 0");
    let made = switches_made();
    let done = format!("dev == {} && (nr_sector > 0 || rwbs ~ \"FF*\")", device_number(&disk.name));
    let requests = counter("block/block_rq_complete", &done);
    let requests_unseen = counter("block/block_rq_complete", &format!("{done} && {in_init}"));

    let mut tracers = [
        Tracer::start(
            program!("syscall-trace"),
            &["--min", "0", "--waits", "--summary", "--comm", &name],
            Names { event: "syscall", summary: "syscall_summary", lost: "syscall" },
        ),
        Tracer::start(
            program!("pagefault-trace"),
            &["--min", "0", "--comm", &name],
            Names { event: "pagefault", summary: "pagefault_summary", lost: "pagefault:" },
        ),
        Tracer::start(
            program!("schedlat"),
            &["--min", "0", "--comm", &name],
            Names { event: "runq_event", summary: "runq", lost: "runq" },
        ),
        Tracer::start(
            program!("iolat"),
            &["--events", "--min", "0", "--device", &disk.name],
            Names { event: "io_event", summary: "io", lost: "io" },
        ),
    ];

    let mount = folder.path().join("mount");
    std::fs::create_dir(&mount).unwrap();
    run("mount", &[&disk.path(), mount.to_str().unwrap()]);
    let (mut load, faults) = start(&stress, mount.to_str().unwrap());
    let began = Instant::now();
    let until =
        |second: u64| sleep((began + Duration::from_secs(second)).saturating_duration_since(Instant::now()));
    until(10);
    let early = tracers.each_ref().map(Tracer::memory);
    until(20);
    tracers.iter().for_each(|tracer| tracer.let_read(false));
    until(25);
    tracers.iter().for_each(|tracer| tracer.let_read(true));
    until(SECONDS - 1);
    let late = tracers.each_ref().map(Tracer::memory);
    let ended = poll(Duration::from_secs(30), || load.try_wait().unwrap());
    assert!(ended.is_some_and(|status| status.success()), "stress-ng: {ended:?}");
    run("umount", &[mount.to_str().unwrap()]);
    tracers.iter_mut().for_each(Tracer::finish);

    // Some sandboxes run no eBPF programs in init and hide some switches, so these numbers may differ on either side.
    // Calls and faults are exact.
    let hidden = (switches_made() - made).saturating_sub(all_switches.value());
    let kernel = [&calls, &faults, &switches, &requests].map(Counter::value);
    let unseen = [(0, 0), (0, 0), (hidden + woken_unseen.value(), hidden), (requests_unseen.value(), 0)];
    for (i, what) in ["calls", "faults", "waits", "requests"].into_iter().enumerate() {
        let [written, lost, counted] = tracers[i].counts();
        let (kernel, (less, more)) = (kernel[i], unseen[i]);
        let summary = format!(
            "{what}: {written} written + {lost} lost, {counted} in summaries; {kernel} -{less} +{more} in the kernel"
        );
        eprintln!("{summary}");
        assert!((kernel - less..=kernel + more).contains(&(written + lost)), "{summary}");
        assert_eq!(written + lost, counted, "{summary}");
        assert!(kernel > 1000 && (less + more) * 100 < kernel, "{summary}");
    }
    let [_, lost, _] = tracers[0].counts();
    assert!(lost > 0, "nothing was lost while the reader stopped for 5 s: it was no flood");
    eprintln!("memory in KiB: {early:?}, then {late:?}");
    for (early, late) in early.into_iter().zip(late) {
        assert!(late <= early + 1024, "memory grows: {early} KiB, then {late} KiB");
    }
}

/// The load, and a counter of all its page faults.
fn start(stress: &std::path::Path, mount: &str) -> (Child, Counter) {
    let mut command = Command::new("sh");
    command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh", stress.to_str().unwrap()]);
    let load = command.args(LOAD).args(["--temp-path", mount]).spawn().unwrap();
    let stat = format!("/proc/{}/stat", load.id());
    let stopped = || std::fs::read_to_string(&stat).unwrap().contains(") T ").then_some(());
    poll(Duration::from_secs(10), stopped).expect("the load did not stop before its start");
    let faults = Counter::page_faults(load.id());
    kill_process(Pid::from_child(&load), Signal::CONT).unwrap();
    (load, faults)
}

/// The context switches of all CPUs since boot.
fn switches_made() -> u64 {
    let stat = std::fs::read_to_string("/proc/stat").unwrap();
    stat.lines().find_map(|line| line.strip_prefix("ctxt ")).unwrap().parse().unwrap()
}
