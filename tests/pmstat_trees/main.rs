//! `pmstat` on Linux: over trees written for it, over recorded trees if present, and over this machine.
#![cfg(target_os = "linux")]

mod energy;
mod gpu;
#[path = "../support/mod.rs"]
mod support;
mod tree;

use std::collections::BTreeSet;

use serde_json::{Value, json};
use support::records::{number, of, records, run};
use support::{program, samples};
use tree::Tree;

/// The record of a kind with this value in this field.
fn named<'a>(records: &'a [Value], kind: &str, field: &str, name: &str) -> &'a Value {
    let found: Vec<_> = of(records, kind).into_iter().filter(|record| record[field] == name).collect();
    assert_eq!(found.len(), 1, "{kind} with {field} {name} in {records:#?}");
    found[0]
}

/// Kind, the field and value that identify the record, the field to check, its value, and the file that has it.
type Case = (&'static str, (&'static str, &'static str), &'static str, Value, &'static str);

fn check(records: &[Value], cases: &[Case]) {
    for (kind, (by, name), field, expected, files) in cases {
        let record = named(records, kind, by, name);
        match (record[field].as_f64(), expected.as_f64()) {
            (Some(value), Some(expected)) => {
                assert!((value - expected).abs() <= 1e-9 * expected.abs(), "{files}: {field} {value}");
            }
            (_, _) => assert_eq!(record[field], *expected, "{files}: {field}"),
        }
    }
}

#[test]
fn a_laptop_has_the_values_of_its_files() {
    let records = Tree::of("laptop.tree").once();
    let cpu0 = ("core", "cpu0");
    check(
        &records,
        &[
            ("power", ("zone", "psys"), "energy_joules", json!(90_000.25), "intel-rapl:1/energy_uj"),
            (
                "power",
                ("zone", "package-0/core"),
                "energy_joules",
                json!(40_000.0),
                "intel-rapl:0:0/energy_uj",
            ),
            ("power", ("domain", "pch"), "power_watts", json!(23.5), "hwmon1/power1_input"),
            ("power", ("domain", "battery"), "power_watts", json!(7.25), "BAT0/power_now"),
            ("cpu_power", cpu0, "frequency_hz", json!(1_800_123_000), "policy0/scaling_cur_freq"),
            ("cpu_power", cpu0, "frequency_max_hz", json!(4_700_000_000u64), "policy0/scaling_max_freq"),
            ("cpu_power", cpu0, "cluster_kind", json!("P"), "devices/cpu_core/cpus"),
            ("cpu_power", ("core", "cpu2"), "cluster_kind", json!("E"), "devices/cpu_atom/cpus"),
            ("cpu_power", ("core", "cpu2"), "cluster", json!("policy1"), "policy1/related_cpus"),
            (
                "cpu_power",
                ("core", "policy1"),
                "frequency_hz",
                json!(900_000_000),
                "policy1/scaling_cur_freq",
            ),
            (
                "temperature",
                ("label", "Package id 0"),
                "temperature_celsius",
                json!(61.0),
                "hwmon0/temp1_input",
            ),
            ("temperature", ("label", "Package id 0"), "critical_celsius", json!(105.0), "hwmon0/temp1_crit"),
            ("temperature", ("label", "Core 0"), "temperature_celsius", json!(-3.5), "hwmon0/temp2_input"),
            (
                "temperature",
                ("sensor_id", "thermal_zone0"),
                "temperature_celsius",
                json!(60.5),
                "thermal_zone0/temp",
            ),
            ("temperature", ("sensor_id", "thermal_zone0"), "component", json!("cpu"), "thermal_zone0/type"),
            ("fan", ("source", "nct6798"), "speed_rpm", json!(1423.0), "hwmon1/fan2_input"),
            ("voltage", ("label", "3VSB"), "voltage_volts", json!(3.312), "hwmon1/in9_input"),
            (
                "voltage",
                ("sensor_id", "board/nct6798/in10"),
                "voltage_volts",
                json!(1.056),
                "hwmon1/in10_input",
            ),
            ("battery", ("device", "BAT0"), "charge_ratio", json!(0.37), "BAT0/capacity"),
            ("battery", ("device", "BAT0"), "energy_joules", json!(72_000.0), "BAT0/energy_now"),
            ("battery", ("device", "BAT0"), "cycles", json!(212), "BAT0/cycle_count"),
            ("battery", ("device", "AC"), "online", json!(true), "AC/online"),
            (
                "thermal_pressure",
                ("package", "package-0"),
                "core_throttles",
                json!(3),
                "cpu0/thermal_throttle",
            ),
            (
                "thermal_pressure",
                ("package", "package-0"),
                "package_throttles",
                json!(11),
                "cpu0/thermal_throttle",
            ),
        ],
    );
    // Impossible, absent and invalid values have no record; the last two have a status.
    assert_eq!(of(&records, "temperature").len(), 4, "three sensors and the card's");
    assert_eq!(of(&records, "battery").len(), 3);
    let sources: Vec<_> = of(&records, "status").iter().map(|it| it["source"].as_str().unwrap()).collect();
    assert_eq!(sources.len(), 2, "{sources:?}");
    let expected = ["hwmon1/temp1_input", "hwmon1/temp2_input"];
    assert!(sources.iter().zip(expected).all(|(source, end)| source.ends_with(end)), "{sources:?}");
}

#[test]
fn residencies_are_those_of_the_interval() {
    let tree = Tree::of("laptop.tree");
    let states = "devices/system/cpu/cpu1/cpuidle/state1/time";
    tree.set("../proc/stat", "cpu 1 0 0 1 0 0 0 0 0 0\ncpu2 500 0 40 9000 10 0 0 0 0 0\n");
    let [first, second] = tree.twice(&[], || {
        tree.set("../proc/stat", "cpu 1 0 0 1 0 0 0 0 0 0\ncpu2 590 0 45 9002 10 0 3 0 0 0\n");
        tree.set("devices/system/cpu/cpufreq/policy1/stats/time_in_state", "2400000 130\n900000 570\n");
        tree.set(states, "1250000\n");
    });
    for field in ["residency", "c_state", "active_ratio", "interval_s"] {
        assert!(
            first.iter().all(|record| record["kind"] != "cpu_power" || record[field].is_null()),
            "{field}"
        );
    }
    let cpu = |name| named(&second, "cpu_power", "core", name);
    assert_eq!(cpu("policy1")["residency"], json!({"900000000": 0.7, "2400000000": 0.3}));
    assert_eq!(cpu("cpu2")["residency"], cpu("policy1")["residency"]);
    assert!(cpu("cpu0")["residency"].is_null());
    let interval = number(cpu("cpu1"), "interval_s");
    let idle = 0.25 / interval;
    assert!((number(cpu("cpu1"), "idle_ratio") - idle).abs() < 1e-5);
    assert!((number(cpu("cpu1"), "active_ratio") - (1.0 - idle)).abs() < 1e-5);
    assert_eq!(cpu("cpu1")["c_state"]["POLL"], 0.0);
    // It was in no idle state, and ran by /proc/stat.
    assert_eq!(number(cpu("cpu2"), "active_ratio"), 1.0);
    // A cluster's ratio is the mean of its CPUs'.
    assert!((number(cpu("policy1"), "core_active_ratio") - (1.0 - idle / 2.0)).abs() < 1e-5);
}

#[test]
fn sentinels_of_sensors_are_not_measurements() {
    let tree = Tree::of("laptop.tree");
    let chip = "devices/platform/board/hwmon/hwmon1";
    for (file, text) in [
        ("temp3_input", "-128000"),
        ("temp3_fault", "1"),
        ("fan2_input", "0"),
        ("fan2_fault", "1"),
        ("fan3_input", "900"),
        ("fan3_fault", "0"),
        ("fan4_input", "65535"),
        ("temp4_input", "38850"),
        ("temp4_max", "65261850"),
        ("temp4_crit", "84850"),
        ("temp5_input", "2147483647"),
        ("temp6_input", "-128000"),
        ("temp7_input", "255000"),
        ("temp8_input", "41000"),
        ("temp8_max", "0"),
    ] {
        tree.set(&format!("{chip}/{file}"), &format!("{text}\n"));
    }
    tree.set("class/thermal/thermal_zone0/temp", "-274000\n");
    let records = tree.once();
    let sensors = |kind| -> BTreeSet<_> {
        of(&records, kind).iter().map(|it| it["sensor_id"].as_str().unwrap().to_owned()).collect()
    };
    let unknown = ["temp3", "temp5", "temp6", "temp7", "thermal_zone0"];
    assert!(!sensors("temperature").iter().any(|id| unknown.iter().any(|end| id.ends_with(end))));
    assert!(sensors("fan").contains("board/nct6798/fan3") && !sensors("fan").contains("board/nct6798/fan2"));
    // All bits of a limit that a disk does not have, and one that was never set.
    let warm = named(&records, "temperature", "sensor_id", "board/nct6798/temp4");
    assert!(warm["high_celsius"].is_null() && warm["critical_celsius"] == 84.85, "{warm}");
    assert!(named(&records, "temperature", "sensor_id", "board/nct6798/temp8")["high_celsius"].is_null());
    for file in [
        "class/hwmon/hwmon1/fan4_input",
        "class/hwmon/hwmon1/temp5_input",
        "class/hwmon/hwmon1/temp6_input",
        "class/hwmon/hwmon1/temp7_input",
        "class/hwmon/hwmon1/temp3_input",
        "class/hwmon/hwmon1/fan2_input",
        "class/thermal/thermal_zone0/temp",
    ] {
        let status = named(&records, "status", "source", tree.sys(file).to_str().unwrap());
        assert_eq!(status["reason"], "invalid");
    }
}

#[test]
fn a_sleeping_or_offline_cpu_is_not_active() {
    let tree = Tree::of("laptop.tree");
    let set = |idle: u32, time: u32| {
        tree.set("../proc/stat", &format!("cpu2 500 0 40 {idle} 10 0 0 0 0 0\n"));
        tree.set("devices/system/cpu/cpu1/cpuidle/state1/time", &format!("{time}\n"));
    };
    set(9000, 1_000_000);
    let samples = tree.times(3, &[], |sample| {
        set(9100 + sample as u32 * 100, 1_100_000);
        tree.set("devices/system/cpu/cpu1/online", if sample == 0 { "1\n" } else { "0\n" });
    });
    for records in &samples {
        let asleep = named(records, "cpu_power", "core", "cpu2");
        for field in ["active_ratio", "idle_ratio", "c_state"] {
            assert!(asleep[field].is_null(), "{asleep}");
        }
        // No mean over only some of its cores.
        assert!(named(records, "cpu_power", "core", "policy1")["core_active_ratio"].is_null());
    }
    assert!(number(named(&samples[1], "cpu_power", "core", "cpu1"), "active_ratio") < 1.0);
    assert!(of(&samples[2], "cpu_power").iter().all(|it| it["core"] != "cpu1"), "{:#?}", samples[2]);
}

/// The expected values were read by hand from the files named.
#[test]
fn recorded_trees_have_the_values_of_their_files() {
    let Some(samples) = samples() else { return };
    let over = |tree: &str| {
        let root = samples.join(tree);
        let text = root.to_str().unwrap();
        records(program!("pmstat"), &["--once", "--sys-root", text, "--proc-root", text])
    };
    let sensor = "sensor_id";
    check(
        &over("sysfs/node_exporter_tree/sys"),
        &[
            (
                "power",
                ("zone", "package-0"),
                "energy_joules",
                json!(240_422.366_267),
                "powercap/intel-rapl:0/energy_uj",
            ),
            (
                "power",
                ("zone", "package-0/core"),
                "energy_joules",
                json!(118_821.284_256),
                "intel-rapl:0:0/energy_uj",
            ),
            (
                "cpu_power",
                ("core", "cpu0"),
                "frequency_hz",
                json!(1_699_981_000),
                "cpu0/cpufreq/scaling_cur_freq",
            ),
            (
                "temperature",
                (sensor, "coretemp.0/coretemp/temp3"),
                "temperature_celsius",
                json!(52.0),
                "hwmon0/temp3_input",
            ),
            (
                "temperature",
                (sensor, "thermal_zone0"),
                "temperature_celsius",
                json!(12.376),
                "thermal_zone0/temp",
            ),
            ("fan", (sensor, "nct6775.656/nct6779/fan2"), "speed_rpm", json!(1098.0), "hwmon3/fan2_input"),
            (
                "voltage",
                (sensor, "nct6775.656/nct6779/in0"),
                "voltage_volts",
                json!(0.792),
                "hwmon3/in0_input",
            ),
            ("battery", ("device", "BAT0"), "charge_ratio", json!(0.81), "power_supply/BAT0/capacity"),
            (
                "battery",
                ("device", "BAT0"),
                "energy_joules",
                json!(131_688.0),
                "power_supply/BAT0/energy_now",
            ),
            (
                "thermal_pressure",
                ("package", "package-1"),
                "core_throttles",
                json!(9),
                "cpu3/core_throttle_count",
            ),
        ],
    );
    check(
        &over("procfs/prometheus-procfs_tree/fixtures/sys"),
        &[
            (
                "power",
                ("zone", "package-10"),
                "energy_joules",
                json!(240_422.366_267),
                "intel-rapl:a/energy_uj",
            ),
            ("cpu_power", ("core", "cpu0"), "frequency_hz", json!(1_219_917_000), "policy0/scaling_cur_freq"),
            (
                "gpu",
                ("gpu", "0000:09:00.0"),
                "utilization_ratio",
                json!(0.04),
                "card0/device/gpu_busy_percent",
            ),
            ("gpu", ("gpu", "0000:09:00.0"), "frequency_hz", json!(852_000_000), "card0/device/pp_dpm_sclk"),
            ("gpu", ("gpu", "0000:09:00.0"), "memory_used_bytes", json!(1_490_378_752), "mem_info_vram_used"),
            (
                "temperature",
                (sensor, "thermal_zone1"),
                "temperature_celsius",
                json!(-44.0),
                "thermal_zone1/temp",
            ),
            ("battery", ("device", "BAT0"), "voltage_volts", json!(12.229), "BAT0/voltage_now"),
        ],
    );
}

#[test]
fn an_empty_tree_has_a_status_for_each_source() {
    let tree = Tree::empty();
    let records = tree.records(&["--once", "-i", "100ms"]);
    let sources: BTreeSet<_> = records
        .iter()
        .map(|record| {
            assert_eq!(
                (&record["kind"], &record["reason"]),
                (&json!("status"), &json!("absent")),
                "{record}"
            );
            record["source"].as_str().unwrap().strip_prefix(tree.sys("").to_str().unwrap()).unwrap()
        })
        .collect();
    let expected = [
        "class/drm",
        "class/hwmon",
        "class/power_supply",
        "class/powercap",
        "class/thermal",
        "devices/system/cpu",
    ];
    assert_eq!(sources, BTreeSet::from(expected));
}

/// Every source has a record or a status on any machine, and the program succeeds.
#[test]
fn this_machine() {
    let output = run(program!("pmstat"), &["--once", "-i", "200ms", "--per-process", "-v"]);
    assert!(output.status.success());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.lines().filter(|line| line.starts_with("pmstat: ")).count() >= 6, "{stderr}");
    let records = support::records::parse(&output.stdout);
    for (kind, part) in [("power", "power"), ("temperature", "class/"), ("battery", "class/power_supply")] {
        let about = |record: &Value| record["source"].as_str().is_some_and(|source| source.contains(part));
        let status = of(&records, "status").into_iter().any(about);
        assert!(status || !of(&records, kind).is_empty(), "{kind}: {records:#?}");
    }
}

#[test]
fn options_of_the_other_system_are_wrong_usage() {
    for args in [&["--tasks"][..], &["--input", "x", "--per-process"], &["--input", "x", "--nvml", "y"]] {
        let output = run(program!("pmstat"), args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0), "{args:?}");
    }
}
