//! Tests `--pid`: PID namespaces, processes that end, and threads.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use crate::support::tracer::{Tracer, ready};
use crate::workload::{assert_seen, begin_workload, everything};
use crate::{refused, tracers};

/// In a PID namespace `--pid` is refused: the kernel's process IDs differ from those of the namespace.
#[test]
fn pids_of_a_namespace_are_refused() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    for (name, path) in tracers() {
        let mut command = Command::new("unshare");
        let output =
            command.args(["--pid", "--fork", "--mount-proc"]).arg(path).args(["--pid", "1"]).output();
        refused(&output.unwrap(), name, &["PID namespace", "--comm", "--cgroup"]);
    }
}

/// The tracer ends with the last process of `--pid`, after it has reported everything.
#[test]
fn ends_with_the_last_process() {
    let Some(_alone) = ready(&["perl", "sleep"]) else { return };
    for (name, path) in tracers() {
        let mut first = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
        let mut last = begin_workload(0, &format!("ends-{}", std::process::id()));
        let pids = format!("{},{}", first.id(), last.id());
        let mut tracer = Tracer::start(path, &[&["--pid", &pids], everything(name)].concat());
        first.kill().unwrap();
        first.wait().unwrap();
        std::thread::sleep(Duration::from_millis(300));
        drop(last.stdin.take());
        assert!(last.wait().unwrap().success());
        assert!(tracer.wait().success(), "{}", tracer.stderr());
        assert_seen(name, &tracer.records(), last.id().into());
        assert!(tracer.stderr().contains("--pid"), "{}", tracer.stderr());
    }
}

/// The number of task slots. Threads with numbers that differ by this share one (`bpf/task_slot.h`).
const TASK_SLOTS: u32 = 1 << 15;

/// A second process that finds its task slot owned by a first one is seen as a whole.
#[test]
fn a_task_slot_that_another_process_owns() {
    let Some(_alone) = ready(&["perl"]) else { return };
    for (name, path) in tracers().into_iter().filter(|(name, _)| *name != "iolat") {
        let comm = format!("slot-{}", std::process::id());
        // The first process owns a slot while it waits in a read, since its last fault, or since its last switch.
        let more: &[&str] = if name == "syscall-trace" { &["--waits", "--syscall", "read"] } else { &[] };
        let tracer = Tracer::start(path, &[&["--comm", &comm], everything(name), more].concat());
        let mut owner = begin_workload(0, &comm);
        std::thread::sleep(Duration::from_millis(300));
        let wanted = owner.id() + TASK_SLOTS;
        // Another process may take the number.
        let second = (0..100).find_map(|_| {
            std::fs::write("/proc/sys/kernel/ns_last_pid", (wanted - 1).to_string()).ok()?;
            let mut second = begin_workload(0, &comm);
            if second.id() != wanted {
                second.kill().unwrap();
            }
            drop(second.stdin.take());
            second.wait().unwrap();
            (second.id() == wanted).then_some(())
        });
        owner.kill().unwrap();
        owner.wait().unwrap();
        let records = tracer.finish();
        if second.is_none() {
            crate::support::skip("the next process ID cannot be set");
            return;
        }
        assert_seen(name, &records, wanted.into());
    }
}

#[test]
fn a_thread_is_not_a_process() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        sender.send(rustix::thread::gettid().as_raw_nonzero().to_string()).unwrap();
        let _ = ended.recv();
    });
    let id = receiver.recv().unwrap();
    for (name, path) in tracers() {
        let output = Command::new(path).args(["--pid", &id]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        let expected = [format!("--pid {id}:"), std::process::id().to_string()];
        assert_eq!(output.status.code(), Some(2), "{name}: {stderr}");
        assert!(expected.iter().all(|words| stderr.contains(words)), "{name}: {stderr}");
    }
    drop(end);
    thread.join().unwrap();
}
