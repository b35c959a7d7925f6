//! `scrape` with foreign /proc and /sys trees: a small fixture, and recorded trees where they are present.
//! Expected values are written by hand, or parsed from the files in another way.
#![cfg(target_os = "linux")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use support::records::{number, of, one, parse, records};
use support::{poll, program, samples};

/// The kinds that this file tests.
const KINDS: &str = "host,interface,cpu,kernel,load,pressure,memory,paging";

fn over(proc: &Path, sys: &Path, args: &[&str]) -> Vec<Value> {
    let roots = ["--proc-root", proc.to_str().unwrap(), "--sys-root", sys.to_str().unwrap()];
    records(program!("scrape"), &[&roots[..], args].concat())
}

/// The numbers of the line that begins with `name`.
fn line(text: &str, name: &str) -> Vec<f64> {
    let found = text.lines().find(|line| line.split([' ', ':']).next() == Some(name));
    let words = found.unwrap_or_else(|| panic!("no line {name}")).split_whitespace().skip(1);
    words.map_while(|word| word.parse().ok()).collect()
}

fn assert_close(record: &Value, field: &str, expected: f64) {
    let value = number(record, field);
    assert!((value - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{field}: {value}, not {expected}");
}

#[test]
fn the_fixture_gives_exactly_these_records() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/machine");
    let kinds = format!("{KINDS},processes,process");
    let mut lines = over(&root.join("proc"), &root.join("sys"), &["--once", "--only", &kinds, "--top", "1"]);
    for record in &mut lines {
        assert!(record.as_object_mut().unwrap().remove("ts").is_some());
    }
    let expected = parse(&fs::read(root.with_extension("ndjson")).unwrap());
    for (line, expected) in lines.iter().zip(&expected) {
        assert_eq!(line, expected);
    }
    assert_eq!(lines.len(), expected.len());
}

#[test]
fn a_foreign_root_has_nothing_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    let lines = over(dir.path(), dir.path(), &["--once", "--processes"]);
    let host = one(&lines, "host");
    let fields: Vec<_> = host.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(fields, ["ts", "kind", "host"], "{host}");
    assert_eq!(host["host"], "unknown");
    for line in &lines {
        assert!(["host", "status"].contains(&line["kind"].as_str().unwrap()), "{line}");
    }
}

#[test]
fn one_foreign_root_excludes_the_other_root_of_this_machine() {
    let dir = tempfile::tempdir().unwrap();
    for (given, missing) in [("--proc-root", "--sys-root"), ("--sys-root", "--proc-root")] {
        let args = ["--once", "--except", "filesystem", given, dir.path().to_str().unwrap()];
        let lines = records(program!("scrape"), &args);
        let statuses = of(&lines, "status");
        assert_eq!(statuses.iter().filter(|it| it["source"] == missing).count(), 1, "{lines:?}");
        for line in lines.iter().filter(|line| line["kind"] != "status") {
            assert_eq!(
                line.as_object().unwrap().keys().collect::<Vec<_>>(),
                ["ts", "kind", "host"],
                "{line}"
            );
        }
    }
}

#[test]
fn every_value_of_a_recorded_machine() {
    let Some(tree) = samples().map(|samples| samples.join("procfs/live_6.18_vm/t0")) else { return };
    let file = |name: &str| fs::read_to_string(tree.join(name)).unwrap();
    let lines = over(&tree, &tree, &["--once", "--only", KINDS]);
    let (stat, vmstat, memory) = (file("stat"), file("vmstat"), file("meminfo"));

    let cpu = one(&lines, "cpu");
    let modes =
        ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];
    for (mode, ticks) in modes.iter().zip(line(&stat, "cpu")) {
        assert_close(cpu, &format!("{mode}_s"), ticks / 100.0);
    }
    let kernel = one(&lines, "kernel");
    for (field, name) in [
        ("context_switches", "ctxt"),
        ("interrupts", "intr"),
        ("softirqs", "softirq"),
        ("forks", "processes"),
        ("running", "procs_running"),
        ("blocked", "procs_blocked"),
    ] {
        assert_close(kernel, field, line(&stat, name)[0]);
    }
    assert_close(kernel, "uptime_s", file("uptime").split(' ').next().unwrap().parse().unwrap());

    let paging = one(&lines, "paging");
    for (field, name, factor) in [
        ("faults", "pgfault", 1.0),
        ("major_faults", "pgmajfault", 1.0),
        ("page_in_bytes", "pgpgin", 1024.0),
        ("page_out_bytes", "pgpgout", 1024.0),
        ("swap_in_pages", "pswpin", 1.0),
        ("swap_out_pages", "pswpout", 1.0),
    ] {
        assert_close(paging, field, line(&vmstat, name)[0] * factor);
    }
    let btime: u64 = line(&stat, "btime")[0] as u64;
    let boot = telepipe::common::time::Timestamp::from_secs(btime).to_string();
    for kind in ["cpu", "kernel", "paging", "pressure"] {
        assert!(of(&lines, kind).iter().all(|record| record["start_ts"] == boot), "{kind}");
    }
    every_line_of_meminfo_once(one(&lines, "memory"), &memory);
}

/// The sum of all lines is the sum of all fields, except computed ones.
fn every_line_of_meminfo_once(record: &Value, text: &str) {
    let mut expected = 0.0;
    for line in text.lines() {
        let mut words = line.split_whitespace().skip(1);
        let value: f64 = words.next().unwrap().parse().unwrap();
        expected += if words.next() == Some("kB") { value * 1024.0 } else { value };
    }
    let computed = ["used_bytes", "swap_used_bytes", "huge_pages_used", "used_ratio"];
    let fields = record.as_object().unwrap().iter().filter(|(name, _)| !computed.contains(&name.as_str()));
    let values: Vec<_> = fields.filter_map(|(_, value)| value.as_f64()).collect();
    assert_eq!(values.len(), text.lines().count());
    assert_eq!(values.iter().sum::<f64>(), expected);
    assert_close(record, "total_bytes", line(text, "MemTotal")[0] * 1024.0);
    assert_close(record, "available_bytes", line(text, "MemAvailable")[0] * 1024.0);
}

#[test]
fn every_value_of_recorded_pressure() {
    let Some(tree) = samples().map(|samples| samples.join("procfs/live_6.18_vm/t0")) else { return };
    let lines = over(&tree, &tree, &["--once", "--only", "pressure"]);
    assert_eq!(lines.len(), 3);
    for record in &lines {
        let resource = record["resource"].as_str().unwrap();
        let text = fs::read_to_string(tree.join("pressure").join(resource)).unwrap();
        for row in text.lines().filter(|row| resource != "cpu" || row.starts_with("some")) {
            let (stall, rest) = row.split_once(' ').unwrap();
            let values: HashMap<_, f64> = rest
                .split(' ')
                .map(|it| it.split_once('=').unwrap())
                .map(|(k, v)| (k, v.parse().unwrap()))
                .collect();
            for window in ["avg10", "avg60", "avg300"] {
                assert_close(record, &format!("{stall}_{window}_ratio"), values[window] / 100.0);
            }
            assert_close(record, &format!("{stall}_s"), values["total"] / 1e6);
        }
    }
}

/// Stops the program, so that it reads no file that is half written.
fn while_stopped(child: &Child, change: impl FnOnce()) {
    kill_process(Pid::from_child(child), Signal::STOP).unwrap();
    let stopped = || fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap().contains(") T ");
    poll(Duration::from_secs(10), || stopped().then_some(())).expect("the program stops");
    change();
    kill_process(Pid::from_child(child), Signal::CONT).unwrap();
}

#[test]
fn two_snapshots_give_the_ratios_between_them() {
    let Some(tree) = samples().map(|samples| samples.join("procfs/live_6.18_vm")) else { return };
    let dir = tempfile::tempdir().unwrap();
    let put = |snapshot: &str| {
        for name in ["stat", "vmstat", "uptime"] {
            // Overwrites the files, because the program keeps them open.
            fs::write(dir.path().join(name), fs::read(tree.join(snapshot).join(name)).unwrap()).unwrap();
        }
    };
    put("t0");
    let mut child = Command::new(program!("scrape"))
        .args(["-i", "1s", "--only", "cpu,kernel,paging", "--proc-root"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut records = stdout.lines().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
    records.by_ref().find(|record| record["kind"] == "paging").unwrap(); // The last of the first sample.
    while_stopped(&child, || put("t1"));

    // The first record of each kind with the new counts.
    let read = |snapshot: &str, name: &str| fs::read_to_string(tree.join(snapshot).join(name)).unwrap();
    let new = |record: &Value| match record["kind"].as_str().unwrap() {
        "cpu" => number(record, "idle_s") * 100.0 == line(&read("t1", "stat"), "cpu")[3],
        "kernel" => number(record, "context_switches") == line(&read("t1", "stat"), "ctxt")[0],
        _ => number(record, "faults") == line(&read("t1", "vmstat"), "pgfault")[0],
    };
    let mut lines = Vec::new();
    for kind in ["cpu", "kernel", "paging"] {
        lines.push(records.find(|record| record["kind"] == kind && new(record)).unwrap());
    }
    drop(records);
    child.kill().unwrap();
    child.wait().unwrap();

    let grown = |file: &str, name: &str| -> Vec<f64> {
        let (before, after) = (line(&read("t0", file), name), line(&read("t1", file), name));
        after.iter().zip(before).map(|(after, before)| after - before).collect()
    };
    let cpu = one(&lines, "cpu");
    let passed = grown("stat", "cpu");
    let total: f64 = passed[..8].iter().sum();
    assert!(total > 0.0);
    for (mode, ticks) in
        ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"].iter().zip(&passed)
    {
        assert_close(cpu, &format!("{mode}_ratio"), ticks / total);
    }
    assert_close(cpu, "utilization_ratio", 1.0 - (passed[3] + passed[4]) / total);
    for (kind, field, file, name, factor) in [
        ("kernel", "context_switches_per_s", "stat", "ctxt", 1.0),
        ("paging", "page_out_bytes_per_s", "vmstat", "pgpgout", 1024.0),
        ("paging", "faults_per_s", "vmstat", "pgfault", 1.0),
    ] {
        let record = one(&lines, kind);
        let expected = grown(file, name)[0] * factor / number(record, "interval_s");
        let value = number(record, field);
        assert!(expected > 0.0 && (value / expected - 1.0).abs() < 1e-5, "{field}: {value}, not {expected}");
    }
}

#[test]
fn a_tree_recorded_on_many_machines() {
    let Some(tree) = samples().map(|samples| samples.join("procfs/prometheus-procfs_tree/fixtures")) else {
        return;
    };
    let (proc, sys) = (tree.join("proc"), tree.join("sys"));
    let only = format!("{KINDS},process");
    let lines = over(&proc, &sys, &["--once", "--per-cpu", "--only", &only]);
    let stat = fs::read_to_string(proc.join("stat")).unwrap();
    let cpus = of(&lines, "cpu");
    assert_eq!((cpus.len(), number(cpus[0], "logical_cpus")), (9, 8.0));
    for record in &cpus[1..] {
        let ticks = line(&stat, &format!("cpu{}", record["cpu"]));
        assert_close(record, "idle_s", ticks[3] / 100.0);
        assert_close(record, "softirq_s", ticks[6] / 100.0);
    }
    let host = one(&lines, "host");
    let dmi = |name: &str| fs::read_to_string(sys.join("class/dmi/id").join(name)).unwrap();
    assert_eq!(host["model"], dmi("product_name").trim());
    assert_eq!(host["vendor"], dmi("sys_vendor").trim());
    assert_eq!(host["frequency_max_hz"], 3_300_000_000u64);
    let eth0 = one(&lines, "interface");
    let net =
        |name: &str| fs::read_to_string(sys.join("class/net/eth0").join(name)).unwrap().trim().to_owned();
    assert_eq!(eth0["mac"], net("address"));
    assert_eq!(eth0["mtu_bytes"].to_string(), net("mtu"));
    assert_eq!((&eth0["ipv4"], &eth0["default_route"]), (&Value::Null, &Value::Null));
    let process = one(&lines, "process");
    assert_eq!((&process["pid"], &process["comm"]), (&584.into(), &"(a b ) ( c d) ".into()));
}

/// A bond of unknown speed. Its driver keeps the speed in 16 bits, so that "unknown" reads as 65535.
#[test]
fn an_unknown_speed_is_absent() {
    let Some(tree) = samples().map(|samples| samples.join("reports/if65535")) else { return };
    let lines = over(&tree.join("proc"), &tree.join("sys"), &["--once", "--only", "interface,netdev"]);
    let interface = one(&lines, "interface");
    assert_eq!((&interface["interface"], &interface["state"]), (&"bond0".into(), &"up".into()));
    assert_eq!((&interface["speed_bits_per_s"], &interface["duplex"]), (&Value::Null, &"full".into()));
    assert_eq!(of(&lines, "netdev").len(), 1);
}
