//! Tests of `pmstat --input` with recordings of `powermetrics`, as text and as property lists.

mod support;

use std::fs;

use serde_json::Value;
use support::records::{number, of, one, parse, records, run};
use support::{program, samples};

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/powermetrics/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn input(path: &str, more: &[&str]) -> Vec<Value> {
    records(program!("pmstat"), &[&["--input", path, "--host", "mac"][..], more].concat())
}

fn named<'a>(records: &'a [Value], field: &str, name: &str) -> &'a Value {
    let found = records.iter().find(|record| record[field] == name);
    found.unwrap_or_else(|| panic!("no {field} {name}"))
}

fn lost_by_source(records: &[Value]) -> Vec<(Value, Value)> {
    of(records, "lost").iter().map(|lost| (lost["source"].clone(), lost["count"].clone())).collect()
}

#[test]
fn oddities_of_the_format_are_read() {
    // A file, a field and its value that select a record, and a pointer into it with the value there.
    let cases: &[(&str, (&str, &str), &str, Value)] = &[
        // Cluster names of upper-case letters and digits.
        ("newest.txt", ("core", "M0-Cluster"), "/frequency_hz", 1_344_000_000.into()),
        ("newest.txt", ("core", "S-Cluster"), "/cluster_kind", "S".into()),
        ("apple.txt", ("core", "P0-Cluster"), "/cluster_kind", "P".into()),
        // A new domain of power.
        ("newest.txt", ("domain", "soc_fabric"), "/power_watts", 0.017.into()),
        // `cpu 0`, idle before active, percentages without a leading zero.
        ("old.txt", ("core", "cpu0"), "/active_ratio", 0.0043.into()),
        ("old.txt", ("core", "cpu0"), "/residency/600000000", 0.004.into()),
        ("apple.txt", ("core", "cpu2"), "/frequency_hz", 0.into()),
        // Frequency lists that sum to 100 %, to the active residency, and both.
        ("apple.txt", ("core", "E-Cluster"), "/residency/1200000000", 0.3.into()),
        ("apple.txt", ("core", "P0-Cluster"), "/residency/3000000000", 0.045.into()),
        ("newest.txt", ("core", "S-Cluster"), "/residency/1000000000", 0.5.into()),
        // Active time of the hardware, and the use of its cores.
        ("apple.txt", ("core", "E-Cluster"), "/active_ratio", 0.5.into()),
        ("apple.txt", ("core", "E-Cluster"), "/core_active_ratio", 0.15.into()),
        ("apple.txt", ("core", "P0-Cluster"), "/down_ratio", 0.87.into()),
        ("apple.txt", ("core", "P0-Cluster"), "/online_ratio", 0.14.into()),
        // Rows of power differ by version. Some contain others.
        ("old.txt", ("zone", "E-Cluster"), "/parent", "cpu".into()),
        ("old.txt", ("domain", "cpu"), "/power_watts", 0.009.into()),
        ("old.txt", ("domain", "dram"), "/counted", false.into()),
        ("old.txt", ("domain", "package"), "/counted", true.into()),
        ("apple.txt", ("domain", "combined"), "/counted", true.into()),
        ("apple.txt", ("domain", "gpu"), "/counted", false.into()),
        ("old.txt", ("core", "E-Cluster"), "/instructions", 1.5e9.into()),
        // Requested states are parts of all time on macOS 11, of the active time since.
        ("old.txt", ("gpu", "gpu0"), "/requested/720000000", 0.909_091.into()),
        ("apple.txt", ("gpu", "gpu0"), "/requested/P1", 0.8.into()),
        // Intel: no blank before the unit, rows that belong to the CPU above, reasons of limits.
        ("intel.txt", ("domain", "package"), "/power_watts", 12.39.into()),
        ("intel.txt", ("core", "cpu1"), "/frequency_hz", 2_589_170_000u64.into()),
        ("intel.txt", ("core", "cpu0"), "/nominal_ratio", 1.0615.into()),
        ("intel.txt", ("core", "core0"), "/c_state/C7", 0.695.into()),
        ("intel.txt", ("core", "system"), "/llc_flushed_ratio", 0.125.into()),
        ("intel.txt", ("core", "package0"), "/limit_reasons/0", "PL2_PL3".into()),
        ("intel.txt", ("core", "package0"), "/limit_reasons/1", "ICCMAX/PL4/OTHER".into()),
        ("intel.txt", ("core", "package0"), "/limit_reasons/2", "RING PROCHOT".into()),
        ("intel.txt", ("gpu", "gpu0"), "/limit_reasons/0", "THERMAL".into()),
        ("intel.txt", ("gpu", "gpu0"), "/name", "IntelIG".into()),
        ("intel.txt", ("gpu", "gpu0"), "/utilization_ratio", 0.0654.into()),
        // Rows about the display are skipped.
        ("intel.txt", ("gpu", "gpu0"), "/residency/500000000", 0.015.into()),
        ("intel.txt", ("gpu", "gpu0"), "/active_ratio", 0.04.into()),
        ("intel.txt", ("core", "system"), "/active_ratio", 0.372.into()),
        // Apple's package power contains memory, Intel's does not.
        ("intel.txt", ("domain", "cpu"), "/parent", "package".into()),
        ("intel.txt", ("domain", "gpu"), "/power_watts", 1.5.into()),
        ("intel.txt", ("domain", "dram"), "/counted", true.into()),
        ("intel.txt", ("sensor_id", "cpu_die"), "/temperature_celsius", 74.8.into()),
        ("intel.txt", ("sensor_id", "gpu_die"), "/temperature_celsius", 70.0.into()),
        ("intel.txt", ("sensor_id", "fan0"), "/speed_rpm", 3906.89.into()),
        ("intel.txt", ("kind", "thermal_pressure"), "/prochots", 3.into()),
        // Milliampere-hours, although the row is called percent.
        ("intel.txt", ("kind", "battery"), "/charge_ah", 6.325.into()),
        ("intel.txt", ("kind", "battery"), "/keyboard_backlight_ratio", 0.25.into()),
        ("apple.txt", ("kind", "battery"), "/charge_ratio", 0.6.into()),
        ("intel.txt", ("comm", "Some Helper (GPU) 2"), "/energy_impact", 12.5.into()),
        ("intel.txt", ("comm", "Some Helper (GPU) 2"), "/pid", 563.into()),
        // Tables with the columns of --show-all: pairs, names with numbers, names that push a row, NaN.
        ("all.txt", ("comm", "editor"), "/energy_impact", 9.0.into()),
        ("all.txt", ("comm", "a helper (GPU) [2] / 3"), "/pid", 902.into()),
        ("all.txt", ("comm", "a helper (GPU) [2] / 3"), "/gpu_ratio", 0.0005.into()),
        (
            "all.txt",
            ("comm", "org.example.a.coalition.with.a.long.name"),
            "/package_wakeups_per_s",
            0.5.into(),
        ),
        ("all.txt", ("comm", "org.example.a.coalition.with.a.long.name"), "/energy_impact", 2.0.into()),
        ("all.txt", ("comm", "DEAD_TASKS"), "/user_ratio", 0.235.into()),
        ("all.txt", ("comm", "worker"), "/cpu_ratio", 0.008.into()),
        ("all.txt", ("comm", "ALL_TASKS"), "/cpu_ratio", 0.047.into()),
        ("all.txt", ("domain", "ane"), "/power_watts", 0.007.into()),
        // The columns of --show-usage-summary.
        ("summary.txt", ("comm", "editor"), "/package_wakeups_per_s", 2.0.into()),
        ("summary.txt", ("comm", "a [2] tool"), "/interrupt_wakeups_per_s", 3.0.into()),
        ("summary.txt", ("comm", "a [2] tool"), "/gpu_ratio", 0.000_25.into()),
        ("summary.txt", ("comm", "DEAD_TASKS"), "/user_ratio", 0.6858.into()),
        // Lists: repeated keys, and MHz in a key called Hz.
        ("apple.plist", ("gpu", "gpu0"), "/frequency_hz", 400_000_000.into()),
        ("apple.plist", ("gpu", "gpu0"), "/residency/800000000", 0.05.into()),
        ("apple.plist", ("domain", "cpu"), "/energy_joules", 0.5.into()),
    ];
    for (name, (field, value), pointer, expected) in cases {
        let lines = input(&fixture(name), &["--tasks"]);
        let found = named(&lines, field, value).pointer(pointer);
        let same = match (found.and_then(Value::as_f64), expected.as_f64()) {
            (Some(found), Some(expected)) => (found - expected).abs() < 1e-9 * expected.abs().max(1.0),
            _ => found == Some(expected),
        };
        assert!(same, "{name} {value} {pointer}: {found:?}, not {expected}");
        assert!(of(&lines, "lost").is_empty(), "{name}: {lines:?}");
    }
}

#[test]
fn text_and_list_give_the_same_records() {
    let sorted = |name: &str| {
        let mut lines: Vec<_> = input(&fixture(name), &[]).iter().map(Value::to_string).collect();
        lines.sort();
        lines
    };
    assert_eq!(sorted("apple.txt"), sorted("apple.plist"));
}

/// Compares what both formats have. Lists of Intel have only the package of the energy model.
#[test]
fn text_and_list_of_intel_agree() {
    let text = input(&fixture("intel.txt"), &[]);
    let list = input(&fixture("intel.plist"), &[]);
    assert!(of(&list, "lost").is_empty(), "{list:?}");
    let mut seen = 0;
    for record in &list {
        let names = ["kind", "domain", "core", "gpu", "sensor_id", "device"];
        let same = |other: &&Value| names.iter().all(|name| other[name] == record[name]);
        let other = text.iter().find(same).unwrap_or_else(|| panic!("not in the text: {record}"));
        for (field, value) in record.as_object().unwrap() {
            assert_eq!((field, &other[field]), (field, value), "{record}");
        }
        seen += 1;
    }
    assert_eq!(seen, 12);
}

#[test]
fn samples_of_a_stream_continue_times_and_energy() {
    let lines = input(&fixture("stream.plist"), &[]);
    let power = of(&lines, "power");
    let column = |field: &str| power.iter().map(|record| record[field].clone()).collect::<Vec<_>>();
    // The list has whole seconds, the samples are 1.5 s long.
    let times = [
        "2026-09-29T11:44:14.000000000Z",
        "2026-09-29T11:44:15.500000000Z",
        "2026-09-29T11:44:17.000000000Z",
    ];
    assert_eq!(column("ts"), times);
    assert_eq!(column("energy_joules"), [1.5, 2.4, 2.7]);
    assert_eq!(column("start_ts"), ["2026-09-29T11:44:12.500000000Z"; 3]);
}

#[test]
fn a_summary_of_earlier_samples_is_left_out() {
    let lines = input(&fixture("old.txt"), &[]);
    let packages: Vec<_> = lines.iter().filter(|record| record["domain"] == "package").collect();
    assert_eq!(packages.len(), 2);
    assert!((number(packages[1], "energy_joules") - 0.112).abs() < 1e-9);
    assert_eq!(of(&input(&fixture("old.txt"), &["-n", "1"]), "gpu").len(), 1);
}

#[test]
fn tasks_need_an_option() {
    assert!(of(&input(&fixture("intel.txt"), &[]), "task").is_empty());
    let all = input(&fixture("intel.txt"), &["--tasks"]);
    assert_eq!(of(&all, "task").len(), 2);
    assert!(named(&all, "comm", "ALL_TASKS").get("pid").is_none());
}

#[test]
fn lines_that_are_not_understood_are_counted_and_logged() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("cut");
    let text = fs::read_to_string(fixture("apple.txt")).unwrap();
    fs::write(&path, text.replace("ANE Power: 0 mW", "A riddle: 12\nGPU Power: 1") + "CPU Power: 12")
        .unwrap();
    let output = run(program!("pmstat"), &["--input", path.to_str().unwrap(), "-v"]);
    assert!(output.status.success());
    let lines = parse(&output.stdout);
    assert_eq!(
        lost_by_source(&lines),
        [("GPU usage".into(), Value::from(1)), ("Processor usage".into(), Value::from(2))]
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    for line in ["A riddle: 12", "GPU Power: 1", "CPU Power: 12"] {
        assert!(stderr.contains(&format!("not understood: {line}\n")), "{stderr}");
    }
}

#[test]
fn energy_begins_anew_after_a_gap_in_time() {
    let first = fs::read_to_string(fixture("stream.plist")).unwrap();
    let second = first.replace("T11:", "T12:");
    assert_ne!(first, second);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("joined");
    for (parts, hours) in [([&first, &second], [11, 12]), ([&second, &first], [12, 11])] {
        fs::write(&path, parts.map(String::as_str).concat()).unwrap();
        let lines = input(path.to_str().unwrap(), &[]);
        let power = of(&lines, "power");
        let column = |field: &str| power.iter().map(|record| record[field].clone()).collect::<Vec<_>>();
        assert_eq!(column("energy_joules"), [1.5, 2.4, 2.7, 1.5, 2.4, 2.7]);
        let starts = hours.map(|hour| vec![format!("2026-09-29T{hour}:44:12.500000000Z"); 3]).concat();
        assert_eq!(column("start_ts"), starts);
        let in_order = |record: &&&Value| record["start_ts"].as_str() < record["ts"].as_str();
        assert_eq!(power.iter().filter(in_order).count(), 6);
    }
}

#[test]
fn the_host_of_a_recording_is_unknown_unless_given() {
    let lists = [fixture("stream.plist"), fixture("../vm_stat/one_shot.txt")];
    for (program, file) in [program!("pmstat"), program!("vmstat-json")].into_iter().zip(&lists) {
        let hosts = |more: &[&str]| {
            let lines = records(program, &[&["--input", file][..], more].concat());
            assert!(!lines.is_empty());
            lines.iter().map(|record| record["host"].clone()).collect::<std::collections::HashSet<_>>()
        };
        assert_eq!(hosts(&[]), [Value::from("unknown")].into());
        assert_eq!(hosts(&["--host", "mac"]), [Value::from("mac")].into());
        let output = run(program, &["--input", file, "--duration", "2s"]);
        assert_eq!(output.status.code(), Some(2), "a recording does not end after a time");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn samplers_need_a_powermetrics_to_run() {
    for more in [
        &["--input", "/dev/null"][..],
        if cfg!(target_os = "linux") { &["--once"] } else { &["--input", "-"] },
    ] {
        let output = run(program!("pmstat"), &[&["--samplers", "cpu_power,smc"][..], more].concat());
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{more:?}");
        assert!(String::from_utf8(output.stderr).unwrap().contains("--samplers"));
    }
}

/// Captures from reports of lost tables.
#[test]
fn reported_captures_are_read() {
    let Some(samples) = samples() else { return };
    let read = |name: &str| {
        let path = samples.join("reports").join(name);
        let lines = input(path.to_str().unwrap(), &["--tasks"]);
        assert!(of(&lines, "lost").is_empty(), "{name}: {lines:?}");
        lines
    };
    let all = read("tasks_showall.txt");
    // The coalition is replaced by its two tasks.
    assert_eq!(of(&all, "task").len(), 2);
    let task = all.iter().find(|record| record["pid"] == 24_620).unwrap();
    assert_eq!(task["comm"], "powermetrics");
    let values = ["cpu_ratio", "user_ratio", "energy_impact"].map(|field| number(task, field));
    assert_eq!(values, [0.0097, 0.2259, 10.34]);
    let summary = read("tasks_usage_summary.txt");
    let task = summary.iter().find(|record| record["pid"] == 406).unwrap();
    let fields = ["cpu_ratio", "user_ratio", "interrupt_wakeups_per_s", "package_wakeups_per_s", "gpu_ratio"];
    assert_eq!(fields.map(|field| number(task, field)), [0.493_74, 0.6482, 656.62, 4.21, 0.0]);
    let dead = named(&summary, "comm", "DEAD_TASKS");
    assert_eq!((dead.get("pid"), number(dead, "user_ratio")), (None, 0.6858));
    let limits = read("intel_limits.txt");
    let reasons = &named(&limits, "core", "package0")["limit_reasons"];
    assert_eq!(*reasons, serde_json::json!(["MAX_TURBO_LIMIT", "TURBO_ATTENUATION"]));
    assert_eq!(number(named(&limits, "core", "system"), "active_ratio"), 0.5732);
}

/// Some coalitions have no ID, or no name.
#[test]
fn every_coalition_is_replaced_by_its_tasks() {
    let lines = input(&fixture("all.txt"), &["--tasks"]);
    let tasks = of(&lines, "task");
    let tasks: Vec<_> =
        tasks.iter().map(|task| (task["comm"].as_str().unwrap(), task["pid"].as_u64())).collect();
    let expected = [
        ("editor", Some(901)),
        ("a helper (GPU) [2] / 3", Some(902)),
        // Without tasks.
        ("org.example.a.coalition.with.a.long.name", None),
        ("DEAD_TASKS", None),
        ("worker", Some(921)),
        ("ALL_TASKS", None),
    ];
    assert_eq!(tasks, expected);
}

#[test]
fn sections_that_are_not_understood_are_counted_by_their_headings() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sections");
    let text = "**** Quantum flux ****\n\nFlux 1: strange\nFlux 2: charmed\n\n\
        **** Processor usage ****\n\nCPU Power: 12 mW\nCPU 0 frequency: x MHz\n";
    fs::write(&path, text).unwrap();
    let lines = input(path.to_str().unwrap(), &[]);
    let counts: Vec<_> =
        of(&lines, "lost").iter().map(|lost| (lost["source"].clone(), lost["count"].clone())).collect();
    assert_eq!(counts, [("Processor usage".into(), Value::from(1)), ("Quantum flux".into(), Value::from(2))]);
    let status = of(&lines, "status");
    let headings: Vec<_> = status.iter().map(|status| (&status["source"], &status["reason"])).collect();
    assert_eq!(
        headings,
        [(&"Quantum flux".into(), &"invalid".into()), (&"Processor usage".into(), &"invalid".into())]
    );
    assert_eq!(named(&lines, "domain", "cpu")["power_watts"], 0.012);
}

#[test]
fn input_without_a_valid_line_fails() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("other");
    fs::write(&path, "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1::/:/bin/false\n").unwrap();
    let output = run(program!("pmstat"), &["--input", path.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(one(&parse(&output.stdout), "lost")["count"], 2);
    fs::write(&path, "").unwrap();
    assert!(run(program!("pmstat"), &["--input", path.to_str().unwrap()]).status.success());
}

#[test]
fn no_line_of_a_real_capture_is_lost() {
    let Some(samples) = samples() else { return };
    let mut seen = 0;
    for entry in fs::read_dir(samples.join("powermetrics")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        if name.ends_with(".source") || name.starts_with("help") {
            continue;
        }
        let lines = input(path.to_str().unwrap(), &["--tasks"]);
        let lost: f64 = of(&lines, "lost").iter().map(|record| number(record, "count")).sum();
        // This one ends in the middle of a word.
        let cut = if name.starts_with("m3max") { 1.0 } else { 0.0 };
        assert_eq!(lost, cut, "{name}");
        let text = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let words = [
            "Cluster Power:",
            "CPU Power:",
            "ANE Power:",
            "DRAM Power:",
            "Package Power:",
            "Clusters Total",
            "Combined Power",
            "package power",
        ];
        let rows = text.lines().filter(|line| words.iter().any(|word| line.contains(word))).count();
        let records = of(&lines, "power").iter().filter(|record| record["domain"] != "gpu").count();
        assert_eq!(records, rows, "{name}");
        seen += 1;
    }
    assert!(seen >= 15, "{seen}");
}
