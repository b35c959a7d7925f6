//! `--filter`: what it writes where, and that no jq program ends the program or holds it up.

mod support;

use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

fn scrape(args: &[&str]) -> Output {
    let mut command = assert_cmd::Command::cargo_bin("scrape").unwrap();
    command.args(args).timeout(Duration::from_secs(60)).output().unwrap()
}

fn lines(bytes: &[u8]) -> Vec<&str> {
    str::from_utf8(bytes).unwrap().lines().collect()
}

/// Programs that loop, recurse or grow without end, inside one output and between outputs, are stopped; the records
/// that they can be run on arrive.
#[test]
fn a_program_without_end_is_stopped() {
    for endless in [
        "def f: 1 + f; f",
        "def f: f; f",
        "[repeat(1)]",
        "last(repeat(1))",
        "last(range(1e18))",
        "[range(1e18)] | length",
        "reduce range(1e18) as $i (0; . + 1)",
        "reduce range(1e9) as $i (null; [.])",
        "reduce range(60) as $i (\"x\"; . + .)",
        "\"x\" * 1e15",
        "[][1e15]  = 1",
        "until(false; .)",
        "def f: [f]; f",
        "[limit(1e12; repeat(\"x\"))] | add",
    ] {
        let begin = Instant::now();
        let filter = format!("if .kind == \"load\" then ({endless} | empty) else .kind end");
        let output = scrape(&["--once", "--only", "cpu,load,memory", "-r", "-f", &filter]);
        assert_eq!(output.status.code(), Some(0), "{endless}: {}", String::from_utf8_lossy(&output.stderr));
        let mut kinds = lines(&output.stdout);
        kinds.sort_unstable();
        assert_eq!(kinds, ["cpu", "memory"], "{endless}");
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains("1 failed"), "{endless}: {stderr}");
        assert!(begin.elapsed() < Duration::from_secs(30), "{endless}: {:?}", begin.elapsed());
    }
}

/// If the filter is stopped on every record, the run still tries later records and ends on time.
#[test]
fn a_program_that_never_ends_does_not_hold_up_the_run() {
    let begin = Instant::now();
    let output = scrape(&["-n", "3", "-i", "100ms", "--per-cpu", "-f", "last(repeat(1))"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}

#[test]
fn a_program_that_fails_on_every_record_is_a_failure() {
    let output = scrape(&["--once", "--only", "cpu,load", "-f", ".kind | .x"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0));
    // On one of them.
    let output = scrape(&["--once", "--only", "cpu,load", "-f", "if .kind == \"cpu\" then error else 1 end"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(0), &b"1\n"[..]));
    // None matches: that is no failure.
    let output = scrape(&["--once", "--only", "cpu,load", "-f", "empty"]);
    assert_eq!((output.status.code(), output.stdout.len()), (Some(0), 0));
}

#[test]
fn an_error_is_logged_once() {
    let output = scrape(&["-n", "3", "-i", "50ms", "--only", "cpu,load", "-f", "error(\"oh\")"]);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(stderr.lines().filter(|line| line.contains("--filter: ")).count(), 1, "{stderr}");
    assert!(stderr.contains("6 failed"), "{stderr}");
}

/// A cron job with a filter as its alert is silent on stdout unless a record matches.
#[test]
fn status_records_go_to_stderr_with_a_filter() {
    let roots = tempfile::tempdir().unwrap();
    let root = roots.path().to_str().unwrap();
    let run = |more: &[&str]| scrape(&[&["--once", "--only", "load", "--proc-root", root], more].concat());
    let status = |bytes: &[u8]| {
        lines(bytes)
            .into_iter()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .filter(|record| record["kind"] == "status")
            .count()
    };
    let plain = run(&[]);
    assert_eq!((status(&plain.stdout) > 0, status(&plain.stderr)), (true, 0));
    let filtered = run(&["-f", "select(.load_1m > 1e9)"]);
    assert_eq!((filtered.stdout.len(), status(&filtered.stderr)), (0, status(&plain.stdout)));
    assert_eq!(filtered.status.code(), Some(0));
    let all = run(&["-f", ".", "--filter-all"]);
    assert_eq!((status(&all.stdout), status(&all.stderr)), (status(&plain.stdout), 0));
}

#[test]
fn raw_output_writes_strings_as_they_are() {
    for option in ["-r", "--raw-output", "--raw"] {
        let output = scrape(&["--once", "--only", "load", option, "-f", "[.kind, 1] | @tsv, length"]);
        assert_eq!(str::from_utf8(&output.stdout), Ok("load\t1\n2\n"), "{option}");
    }
    assert_eq!(scrape(&["--once", "-r"]).status.code(), Some(2));
}

#[test]
fn a_program_that_does_not_compile_is_a_usage_error() {
    for code in [".a | nosuch", "select(", "input", "debug"] {
        let output = scrape(&["--once", "-f", code]);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{code}");
    }
}

/// Many long outputs, more than pipes hold in both directions.
#[test]
fn large_outputs_arrive_whole() {
    let filter = "range(40) as $i | {i: $i, text: (\"x\" * 100000)}";
    let output = scrape(&["-n", "2", "-i", "10ms", "--only", "cpu,load", "-f", filter]);
    assert!(output.status.success());
    let texts: Vec<Value> =
        lines(&output.stdout).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(texts.len(), 160);
    for (index, record) in texts.iter().enumerate() {
        assert_eq!(record["i"], index % 40);
        assert_eq!(record["text"].as_str().unwrap().len(), 100_000);
    }
}

/// An output over the longest line is lost and counted, for `lost` records as well.
#[test]
fn an_output_over_the_longest_line_is_lost() {
    for more in [&[][..], &["--filter-all"]] {
        let filter = "\"x\" * 2000000, 1";
        let output = scrape(&[&["--once", "--only", "load", "-f", filter], more].concat());
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(lines(&output.stdout).iter().filter(|line| **line == "1").count(), 1 + more.len());
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.contains(&format!("{} lost", 1 + more.len())), "{stderr}");
    }
}

/// The process that runs the filter ends with the program, however that ends.
#[test]
fn the_process_of_the_filter_ends_with_the_program() {
    let children = |parent: u32| -> Vec<i32> {
        let text =
            std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
        text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
    };
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::KILL] {
        let mut child = Command::new(assert_cmd::cargo::cargo_bin("scrape"))
            .args(["-i", "50ms", "--only", "load", "-f", ".", "--host", "x"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let limit = Duration::from_secs(20);
        let helper =
            support::poll(limit, || children(child.id()).first().copied()).expect("a process for the filter");
        let pid = rustix::process::Pid::from_raw(child.id() as i32).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
        child.wait().unwrap();
        let gone = || {
            let stat = std::fs::read_to_string(format!("/proc/{helper}/stat")).unwrap_or_default();
            (stat.is_empty() || stat.contains(") Z ")).then_some(())
        };
        support::poll(limit, gone).expect("the process of the filter ends");
    }
}

/// `--input` of something else: every line is lost, and no record was obtained.
#[test]
fn input_without_a_valid_sample_is_a_failure() {
    for program in ["vmstat-json", "pmstat"] {
        let run = |text: &str| {
            let mut command = assert_cmd::Command::cargo_bin(program).unwrap();
            command
                .args(["--input", "-"])
                .write_stdin(text)
                .timeout(Duration::from_secs(20))
                .output()
                .unwrap()
        };
        let output = run("root:x:0:0:root:/root:/bin/bash\nbin:x:1:1::/:/bin/false\n");
        assert_eq!(output.status.code(), Some(1), "{program}: {}", String::from_utf8_lossy(&output.stderr));
        let lost: Vec<Value> =
            lines(&output.stdout).iter().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lost.iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>(), 2, "{lost:?}");
        assert_eq!(run("").status.code(), Some(0), "{program}: an empty input");
    }
}
