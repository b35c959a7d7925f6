//! Compares `scrape` with psutil: every value lies between psutil's readings before and after.
#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

use serde_json::Value;
use support::records::{number, of, one, records};
use support::{program, python};

/// Prints a reading of psutil as a line of JSON for every input line.
const PSUTIL: &str = r#"
import json, sys, psutil
def reading():
    status = {}
    for process in psutil.process_iter(["status"]):
        status[process.info["status"]] = status.get(process.info["status"], 0) + 1
    return {
        "cpu": psutil.cpu_times()._asdict(),
        "cpus": [one._asdict() for one in psutil.cpu_times(percpu=True)],
        "logical": psutil.cpu_count(), "physical": psutil.cpu_count(logical=False),
        "stats": psutil.cpu_stats()._asdict(), "boot": psutil.boot_time(), "load": psutil.getloadavg(),
        "memory": psutil.virtual_memory()._asdict(), "swap": psutil.swap_memory()._asdict(),
        "status": status,
        "addresses": {name: sorted(a.address.split("%")[0] for a in all if a.family.name in ("AF_INET", "AF_INET6"))
                      for name, all in psutil.net_if_addrs().items()},
        "nics": {name: nic._asdict() for name, nic in psutil.net_if_stats().items()},
    }
for _ in sys.stdin:
    print(json.dumps(reading()), flush=True)
"#;

struct Oracle {
    child: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Oracle {
    fn start() -> Option<Self> {
        let mut python = python()?;
        let command = python.args(["-c", PSUTIL]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let (ask, answers) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, ask, answers })
    }

    fn read(&mut self) -> Value {
        self.ask.write_all(b"\n").unwrap();
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("psutil: {error}: {line}"))
    }

    /// A reading of psutil, a run of `scrape`, and another reading.
    fn around(&mut self, args: &[&str]) -> (Value, Vec<Value>, Value) {
        let before = self.read();
        let lines = records(program!("scrape"), args);
        (before, lines, self.read())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    value.pointer(path).unwrap_or_else(|| panic!("psutil has no {path}"))
}

/// Asserts that a counter lies between the readings.
fn grows(value: f64, path: &str, before: &Value, after: &Value) {
    let (low, high) = (at(before, path).as_f64().unwrap(), at(after, path).as_f64().unwrap());
    assert!(low <= value && value <= high, "{path}: {low} ≤ {value} ≤ {high}");
}

/// Checks that a value lies between the readings, or at most `slack` outside.
fn between(value: f64, path: &str, before: &Value, after: &Value, slack: f64) -> Result<(), String> {
    let (one, other) = (at(before, path).as_f64().unwrap(), at(after, path).as_f64().unwrap());
    let (low, high) = (one.min(other) - slack, one.max(other) + slack);
    if low <= value && value <= high { Ok(()) } else { Err(format!("{path}: {low} ≤ {value} ≤ {high}")) }
}

const MODES: [&str; 10] =
    ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal", "guest", "guest_nice"];

#[test]
fn cpu_times_and_counts() {
    let Some(mut oracle) = Oracle::start() else { return };
    let (before, lines, after) = oracle.around(&["--once", "--per-cpu"]);
    for record in of(&lines, "cpu") {
        let path = record["cpu"].as_u64().map_or("/cpu".to_owned(), |cpu| format!("/cpus/{cpu}"));
        // Idle and iowait can go back by a tick.
        for mode in MODES.iter().filter(|mode| !["idle", "iowait"].contains(mode)) {
            grows(number(record, &format!("{mode}_s")), &format!("{path}/{mode}"), &before, &after);
        }
        for mode in ["idle", "iowait"] {
            let value = number(record, &format!("{mode}_s"));
            between(value, &format!("{path}/{mode}"), &before, &after, 0.02).unwrap();
        }
    }
    let cpus = of(&lines, "cpu");
    assert_eq!(number(cpus[0], "logical_cpus"), at(&after, "/logical").as_f64().unwrap());
    assert_eq!(cpus.len() - 1, at(&after, "/logical").as_u64().unwrap() as usize);
    let kernel = one(&lines, "kernel");
    grows(number(kernel, "context_switches"), "/stats/ctx_switches", &before, &after);
    grows(number(kernel, "interrupts"), "/stats/interrupts", &before, &after);
    grows(number(kernel, "softirqs"), "/stats/soft_interrupts", &before, &after);
    let boot = telepipe::common::time::Timestamp::from_secs(at(&after, "/boot").as_f64().unwrap() as u64)
        .to_string();
    for kind in ["cpu", "kernel", "paging"] {
        assert_eq!(of(&lines, kind)[0]["start_ts"], boot, "{kind}");
    }
}

#[test]
fn memory_swap_and_load() {
    let Some(mut oracle) = Oracle::start() else { return };
    // Memory changes in both directions between the readings: one quiet moment in twenty is enough.
    let mut worst = String::new();
    for _ in 0..20 {
        let (before, lines, after) = oracle.around(&["--once", "--only", "memory,load,kernel,paging"]);
        match memory_and_load(&before, &lines, &after) {
            Ok(()) => return,
            Err(error) => worst = error,
        }
    }
    panic!("{worst}");
}

fn memory_and_load(before: &Value, lines: &[Value], after: &Value) -> Result<(), String> {
    let memory = one(lines, "memory");
    for (field, path) in [
        ("available_bytes", "/memory/available"),
        ("used_bytes", "/memory/used"),
        ("free_bytes", "/memory/free"),
        ("active_bytes", "/memory/active"),
        ("inactive_bytes", "/memory/inactive"),
        ("buffers_bytes", "/memory/buffers"),
        ("shared_bytes", "/memory/shared"),
        ("slab_bytes", "/memory/slab"),
        ("swap_used_bytes", "/swap/used"),
        ("swap_free_bytes", "/swap/free"),
    ] {
        between(number(memory, field), path, before, after, 4.0 * 1048576.0)?;
    }
    assert_eq!(number(memory, "total_bytes"), at(after, "/memory/total").as_f64().unwrap());
    assert_eq!(number(memory, "swap_total_bytes"), at(after, "/swap/total").as_f64().unwrap());
    // psutil's `cached` includes reclaimable slab.
    let cached = number(memory, "cached_bytes") + number(memory, "slab_reclaimable_bytes");
    between(cached, "/memory/cached", before, after, 4.0 * 1048576.0)?;
    // psutil multiplies pages of swap by 4 KiB.
    let paging = one(lines, "paging");
    grows(number(paging, "swap_in_pages") * 4096.0, "/swap/sin", before, after);
    grows(number(paging, "swap_out_pages") * 4096.0, "/swap/sout", before, after);
    let load = one(lines, "load");
    for (index, field) in ["load_1m", "load_5m", "load_15m"].iter().enumerate() {
        between(number(load, field), &format!("/load/{index}"), before, after, 0.01)?;
    }
    Ok(())
}

#[test]
fn processes_by_state() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut worst = String::new();
    for _ in 0..20 {
        let (before, lines, after) = oracle.around(&["--once", "--processes"]);
        match states(&before, &lines, &after) {
            Ok(()) => return,
            Err(error) => worst = error,
        }
    }
    panic!("{worst}");
}

/// Compares the states; `scrape` counts itself, and psutil is running.
fn states(before: &Value, lines: &[Value], after: &Value) -> Result<(), String> {
    let processes = one(lines, "processes");
    let totals = |reading: &Value| {
        let total: f64 = reading["status"].as_object().unwrap().values().filter_map(Value::as_f64).sum();
        serde_json::json!({ "total": total })
    };
    between(number(processes, "count") - 1.0, "/total", &totals(before), &totals(after), 0.0)?;
    for (ours, theirs) in [("idle", "/status/idle"), ("sleeping", "/status/sleeping")] {
        between(number(&processes["states"], ours), theirs, before, after, 2.0)?;
    }
    let states = processes["states"].as_object().unwrap();
    let sum: f64 = states.values().filter_map(Value::as_f64).sum();
    assert_eq!(sum, number(processes, "count"));
    assert!(number(&processes["states"], "running") >= 1.0);
    Ok(())
}

#[test]
fn cores_and_addresses() {
    let Some(mut oracle) = Oracle::start() else { return };
    let (_, lines, after) = oracle.around(&["--once", "--only", "host,interface"]);
    let host = one(&lines, "host");
    assert_eq!(host["logical_cpus"], after["logical"]);
    assert_eq!(host["physical_cores"], after["physical"]);
    let interfaces = of(&lines, "interface");
    assert_eq!(interfaces.len(), after["nics"].as_object().unwrap().len());
    for record in interfaces {
        let name = record["interface"].as_str().unwrap();
        let family = |field: &str| record[field].as_array().cloned().unwrap_or_default();
        let all = family("ipv4").into_iter().chain(family("ipv6"));
        let mut ours: Vec<_> =
            all.map(|address| address.as_str().unwrap().split('/').next().unwrap().to_owned()).collect();
        ours.sort();
        let theirs = after["addresses"].get(name).cloned().unwrap_or_else(|| serde_json::json!([]));
        assert_eq!(serde_json::json!(ours), theirs, "{name}");
        let nic = &after["nics"][name];
        assert_eq!(record["mtu_bytes"], nic["mtu"], "{name}");
        let megabits = record["speed_bits_per_s"].as_u64().unwrap_or(0) / 1_000_000;
        // psutil returns 0 or the -1 of the driver for unknown speeds.
        let speed =
            nic["speed"].as_u64().filter(|speed| ![65_535, 4_294_967_295].contains(speed)).unwrap_or(0);
        assert_eq!(megabits, speed, "{name}");
    }
}
