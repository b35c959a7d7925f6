//! Which tasks: those that are named, and those of the own process group.

use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Duration;

use crate::support::tracer::{Tracer, ready};
use crate::workload::{assert_seen, begin_workload, everything};
use crate::{refused, tracers};

/// The kernel's numbers are not those of a namespace: they would be another's.
#[test]
fn processes_of_a_namespace() {
    let Some(_alone) = ready(&["unshare"]) else { return };
    for (name, path) in tracers() {
        let mut command = Command::new("unshare");
        let output =
            command.args(["--pid", "--fork", "--mount-proc"]).arg(path).args(["--pid", "1"]).output();
        refused(&output.unwrap(), name, &["PID namespace", "--comm", "--cgroup"]);
    }
}

/// It ends with the last of the processes that were named, and has told all of them by then.
#[test]
fn processes_that_end() {
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
fn a_thread_is_no_process() {
    let (tell, told) = std::sync::mpsc::channel();
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(rustix::thread::gettid().as_raw_nonzero().to_string()).unwrap();
        let _ = ended.recv();
    });
    let id = told.recv().unwrap();
    for (name, path) in tracers() {
        let output = Command::new(path).args(["--pid", &id]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let expected = [format!("--pid {id}:"), std::process::id().to_string()];
        assert_eq!(output.status.code(), Some(2), "{name}: {said}");
        assert!(expected.iter().all(|words| said.contains(words)), "{name}: {said}");
    }
    drop(end);
    thread.join().unwrap();
}
