//! `tele-ship --dead-letter`: refused lines are kept as they came, with their reasons, and can be delivered again.

#![cfg(feature = "http")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde_json::Value;
use support::{Answer, Capture, Ship, SmallDisk, poll};

const WAIT: Duration = Duration::from_secs(20);

fn log(n: u32) -> String {
    format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\"}}\n")
}

fn reasons_of(path: &Path) -> PathBuf {
    format!("{}.reasons", path.display()).into()
}

/// The line's number and the sink of each reason.
fn reasons(path: &Path) -> Vec<(u64, String)> {
    let text = std::fs::read_to_string(reasons_of(path)).unwrap();
    let parse = |line| {
        let reason: Value = serde_json::from_str(line).expect("a JSON object");
        assert!(!reason["reason"].as_str().unwrap().is_empty());
        (reason["line"].as_u64().unwrap(), reason["sink"].as_str().unwrap().to_owned())
    };
    text.lines().map(parse).collect()
}

#[test]
fn refused_lines_are_kept_as_they_came_and_can_be_delivered_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("refused");
    let (file, reasons_file) = (path.to_str().unwrap(), reasons_of(&path));
    let long = format!("{{\"body\":\"{}\"}}\n", "x".repeat(3 << 20));
    let input =
        [b"{\"a\":1\xff}\n", log(1).as_bytes(), long.as_bytes(), b"not JSON\n", log(2).as_bytes()].concat();

    // The server refuses the only request, after the encoder has refused what is no JSON object.
    let server = Capture::script([Answer::status(400)]);
    let ended = Ship::run(&["--otlp", &server.url(), "--dead-letter", file, "--max-line", "1MiB"], &input);
    assert_eq!(ended.code, Some(1));
    let counts = ["read", "delivered", "dead_lettered", "rejected"].map(|name| ended.count(name));
    assert_eq!(counts, [5, 0, 5, 0]);

    let kept = std::fs::read(&path).unwrap();
    let mut lines: Vec<_> = kept.split_inclusive(|byte| *byte == b'\n').collect();
    let mut expected: Vec<_> = input.split_inclusive(|byte| *byte == b'\n').collect();
    lines.sort();
    expected.sort();
    assert!(lines == expected, "{} bytes of {}", kept.len(), input.len());
    let mut numbers = reasons(&path);
    numbers.sort();
    assert_eq!(numbers, (1..=5).map(|line| (line, "otlp".to_owned())).collect::<Vec<_>>());
    for file in [&path, &reasons_file] {
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    // Two of them are good lines; the others stay where they are, and are refused again.
    let server = Capture::script([]);
    let again = dir.path().join("again");
    let ended = Ship::run(
        &[
            "--otlp",
            &server.url(),
            "--dead-letter",
            again.to_str().unwrap(),
            "--max-line",
            "1MiB",
            "--input",
            file,
        ],
        "",
    );
    assert_eq!((ended.count("read"), ended.count("delivered"), ended.count("dead_lettered")), (5, 2, 3));
    assert_eq!(ended.count("accepted_items"), 2);
    assert_eq!(std::fs::read(&path).unwrap(), kept);
    assert_eq!(reasons(&again).len(), 3);
}

#[test]
fn files_are_read_one_after_the_other_and_one_that_is_missing_stops_none() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("a"), log(1) + log(2).trim_end()).unwrap();
    std::fs::write(path("b"), log(3)).unwrap();
    let server = Capture::script([]);
    let ended =
        Ship::run(&["--otlp", &server.url(), "--input", &path("a"), &path("none"), &path("b")], log(9));
    assert_eq!((ended.code, ended.lines()), (Some(1), [3, 3, 0, 0, 0]));
    assert!(ended.stderr.contains(&path("none")), "{}", ended.stderr);
    let ended = Ship::run(&["--otlp", &server.url(), "--input", &path("a"), &path("b")], "");
    assert_eq!((ended.code, ended.lines()), (Some(0), [3, 3, 0, 0, 0]));
    // stdin is one of them.
    let args = ["--otlp", &server.url(), "--input", &path("a"), "-", &path("b")];
    let ended = Ship::run(&args, log(4) + &log(5));
    assert_eq!((ended.code, ended.lines()), (Some(0), [5, 5, 0, 0, 0]));
}

#[test]
fn sighup_opens_the_files_again() {
    let dir = tempfile::tempdir().unwrap();
    let (path, moved) = (dir.path().join("refused"), dir.path().join("refused.1"));
    let server = Capture::script([]);
    let args = ["--otlp", &server.url(), "--dead-letter", path.to_str().unwrap(), "--batch-age", "50ms"];
    let mut ship = Ship::start(&args);
    ship.feed("first\n");
    let len = |path: &Path| path.metadata().map_or(0, |metadata| metadata.len());
    poll(WAIT, || (len(&reasons_of(&path)) > 0).then_some(())).expect("a letter");
    std::fs::rename(&path, &moved).unwrap();
    ship.feed("second\n");
    let one = len(&reasons_of(&path));
    poll(WAIT, || (len(&reasons_of(&path)) > one).then_some(())).expect("a second letter");
    std::fs::rename(reasons_of(&path), reasons_of(&moved)).unwrap();
    ship.signal(Signal::HUP);
    // The signal is handled before the next line is read.
    std::thread::sleep(Duration::from_millis(100));
    ship.feed("third\n");
    assert_eq!(ship.end().count("dead_lettered"), 3);
    assert_eq!(std::fs::read_to_string(&moved).unwrap(), "first\nsecond\n");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "third\n");
    assert_eq!((reasons(&moved).len(), reasons(&path)), (2, vec![(1, "otlp".to_owned())]));
}

#[test]
fn letters_that_do_not_fit_on_the_disk_are_counted_as_rejected() {
    let Some(disk) = SmallDisk::mount("1m") else { return };
    let path = disk.path().join("refused");
    let line = |n: u32| format!("{n} {}\n", "x".repeat(10_000));
    let input: String = (0..200).map(line).collect();
    let server = Capture::script([]);
    let ended = Ship::run(&["--otlp", &server.url(), "--dead-letter", path.to_str().unwrap()], &input);
    let (kept, rejected) = (ended.count("dead_lettered"), ended.count("rejected"));
    assert!(kept > 50 && rejected > 50 && kept + rejected == 200, "{kept} {rejected}");
    assert_eq!(ended.stderr.matches(path.to_str().unwrap()).count(), 1, "reported once: {}", ended.stderr);
    // What is there is whole, and each line has its reason.
    let lines = std::fs::read_to_string(&path).unwrap();
    assert_eq!(
        lines.split_inclusive('\n').zip(0..).filter(|(kept, n)| *kept == line(*n)).count() as u64,
        kept
    );
    assert_eq!(lines.lines().count() as u64, kept);
    assert_eq!(reasons(&path).len() as u64, kept);
}
