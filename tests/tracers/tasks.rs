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
