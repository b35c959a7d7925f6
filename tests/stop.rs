//! Signals: one ends the program in time, and only a later one ends it at once.

mod support;

use std::io::Read as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The exit code, and how long the program lived after the first of two signals `apart` from each other, when its
/// reader does not read.
fn ended(apart: Duration) -> (Option<i32>, Duration) {
    let mut child = Command::new(assert_cmd::cargo::cargo_bin("scrape"))
        .args(["-i", "1ms", "--only", "cpu,memory", "--per-cpu"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0]).unwrap();
    // Until the pipe is full and the program waits in a write.
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    let waits = || {
        let first = rustix::io::ioctl_fionread(&stdout).unwrap();
        std::thread::sleep(Duration::from_millis(200));
        (first > 0 && first == rustix::io::ioctl_fionread(&stdout).unwrap()).then_some(())
    };
    support::poll(Duration::from_secs(20), waits).expect("a full pipe");
    let begin = Instant::now();
    kill_process(pid, Signal::TERM).unwrap();
    std::thread::sleep(apart);
    let _ = kill_process(pid, Signal::TERM);
    (child.wait().unwrap().code(), begin.elapsed())
}

/// timeout(1) signals its child and then the group: that is one request to stop.
#[test]
fn two_signals_at_once_are_one() {
    let (code, after) = ended(Duration::ZERO);
    assert_eq!(code, Some(1));
    assert!(after >= Duration::from_millis(1400), "{after:?}");
}

#[test]
fn a_later_signal_ends_the_program_at_once() {
    let (code, after) = ended(Duration::from_millis(400));
    assert_eq!(code, Some(130));
    assert!(after < Duration::from_millis(1400), "{after:?}");
}
