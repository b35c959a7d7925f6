//! `pmstat` on Linux: over trees of our own and recorded ones, with a library that stands in for NVIDIA's, and on
//! this machine.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::records::{number, of, parse, records};
use support::{program, samples};

/// Writes a file and its folders.
fn put(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, format!("{text}\n")).unwrap();
}

fn zone(root: &Path, entry: &str, name: &str, energy: u64) {
    put(root, &format!("class/powercap/{entry}/name"), name);
    put(root, &format!("class/powercap/{entry}/energy_uj"), &energy.to_string());
    put(root, &format!("class/powercap/{entry}/max_energy_range_uj"), "1000000000");
}

fn command(root: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(program!("pmstat"));
    let path = root.to_str().unwrap();
    command.args(["--proc-root", path, "--sys-root", path]).args(args);
    command
}

fn over(root: &Path, args: &[&str]) -> Vec<Value> {
    let output = command(root, args).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    parse(&output.stdout)
}

/// The records of so many samples; `change` is called after each with its number.
fn changing(root: &Path, samples: usize, mut change: impl FnMut(usize)) -> Vec<Value> {
    let count = samples.to_string();
    let mut child = command(root, &["-i", "300ms", "-n", &count]).stdout(Stdio::piped()).spawn().unwrap();
    let (mut lines, mut seen) = (Vec::<Value>::new(), 0);
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        let record: Value = serde_json::from_str(&line.unwrap()).unwrap();
        // Every sample ends with the battery of these trees.
        if record["kind"] == "battery" {
            change(seen);
            seen += 1;
        }
        lines.push(record);
    }
    assert!(child.wait().unwrap().success());
    assert_eq!(seen, samples);
    lines
}

fn zones<'a>(lines: &'a [Value], zone: &str) -> Vec<&'a Value> {
    of(lines, "power").into_iter().filter(|record| record["zone"] == zone).collect()
}

#[test]
fn zones_know_what_contains_them_and_only_some_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    zone(root, "intel-rapl:0", "package-0", 500_000_000);
    zone(root, "intel-rapl:0:0", "core", 100_000_000);
    zone(root, "intel-rapl:0:1", "uncore", 50_000_000);
    zone(root, "intel-rapl:0:2", "dram", 70_000_000);
    zone(root, "intel-rapl:1", "psys", 900_000_000);
    zone(root, "intel-rapl:2", "package-1", 300_000_000);
    // The same as package-0, read a moment later under another name.
    zone(root, "intel-rapl:3", "package-0-die-1", 500_000_400);
    zone(root, "intel-rapl-mmio:0", "package-0", 500_000_100);
    fs::create_dir_all(root.join("class/powercap/intel-rapl")).unwrap();
    let lines = over(root, &["--once"]);
    let mut told: Vec<_> = of(&lines, "power")
        .iter()
        .map(|it| {
            (
                it["zone"].as_str().unwrap(),
                it["domain"].as_str().unwrap(),
                it["parent"].as_str(),
                it["counted"] == true,
            )
        })
        .collect();
    let mut expected = vec![
        ("package-0", "package", Some("psys"), false),
        ("package-0/core", "cpu", Some("package-0"), false),
        ("package-0/uncore", "uncore", Some("package-0"), false),
        ("package-0/dram", "dram", Some("package-0"), false),
        ("psys", "psys", None, true),
        ("package-1", "package", Some("psys"), false),
        ("package-0-die-1", "package", Some("package-0"), false),
        ("mmio/package-0", "package", Some("package-0"), false),
    ];
    told.sort();
    expected.sort();
    assert_eq!(told, expected);
    for record in of(&lines, "power") {
        assert!(record.get("power_watts").is_none(), "no power from one look: {record}");
    }
    // Without what contains them, the packages and their memory, each once.
    fs::remove_dir_all(root.join("class/powercap/intel-rapl:1")).unwrap();
    let lines = over(root, &["--once"]);
    let mut counted: Vec<_> = of(&lines, "power").into_iter().filter(|it| it["counted"] == true).collect();
    counted.sort_by_key(|it| it["zone"].as_str());
    let told: Vec<_> =
        counted.iter().map(|it| (it["zone"].as_str().unwrap(), number(it, "energy_joules"))).collect();
    assert_eq!(told, [("package-0", 500.0), ("package-0/dram", 70.0), ("package-1", 300.0)]);
}

#[test]
fn each_counter_wraps_by_itself_and_one_that_vanishes_is_not_guessed() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    zone(root, "intel-rapl:0", "package-0", 999_000_000);
    zone(root, "intel-rapl:0:0", "dram", 999_900_000);
    put(root, "class/power_supply/AC/type", "Mains");
    let lines = changing(root, 4, |sample| match sample {
        0 => {
            // Only the memory's counter wraps: 0.1 J to its end and 2 J more.
            zone(root, "intel-rapl:0", "package-0", 999_500_000);
            zone(root, "intel-rapl:0:0", "dram", 2_000_000);
        }
        1 => {
            zone(root, "intel-rapl:0", "package-0", 5_500_000);
            fs::remove_file(root.join("class/powercap/intel-rapl:0:0/energy_uj")).unwrap();
        }
        2 => zone(root, "intel-rapl:0:0", "dram", 900_000_000),
        _ => {}
    });
    let energy = |name| zones(&lines, name).iter().map(|it| number(it, "energy_joules")).collect::<Vec<_>>();
    assert_eq!(energy("package-0"), [999.0, 999.5, 1005.5, 1005.5]);
    assert_eq!(energy("package-0/dram"), [999.9, 1002.0, 900.0], "what it counted while away is not known");
    let second = zones(&lines, "package-0/dram")[1];
    let watts = 2.1 / number(second, "interval_s");
    assert!((number(second, "power_watts") - watts).abs() < 1e-3 * watts);
    let status = of(&lines, "status");
    let gone = status.iter().find(|it| it["source"].as_str().unwrap().ends_with("intel-rapl:0:0/energy_uj"));
    assert_eq!(gone.unwrap()["reason"], "absent");
    assert!(zones(&lines, "package-0/dram")[2].get("power_watts").is_none());
}

#[test]
fn what_must_not_be_read_is_told_with_its_reason() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    zone(root, "intel-rapl:0", "package-0", 5);
    zone(root, "intel-rapl:1", "package-1", 6);
    zone(root, "intel-rapl:2", "package-2", 7);
    use std::os::unix::fs::PermissionsExt as _;
    let file = |zone: u32| root.join(format!("class/powercap/intel-rapl:{zone}/energy_uj"));
    fs::set_permissions(file(0), fs::Permissions::from_mode(0o000)).unwrap();
    fs::write(file(1), "many\n").unwrap();
    // A folder cannot be read, as a register that the processor does not have.
    fs::remove_file(file(2)).unwrap();
    fs::create_dir(file(2)).unwrap();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    let copy = root.join("pmstat");
    fs::copy(program!("pmstat"), &copy).unwrap();
    let path = root.to_str().unwrap();
    let mut command = Command::new(copy);
    command.args(["--proc-root", path, "--sys-root", path, "--once"]);
    if rustix::process::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = parse(&output.stdout);
    let reason = |zone: u32| {
        let found = of(&lines, "status").into_iter().find(|it| it["source"] == file(zone).to_str().unwrap());
        found.map(|it| it["reason"].as_str().unwrap())
    };
    assert_eq!([0, 1, 2].map(reason), [Some("denied"), Some("invalid"), Some("unsupported")]);
    assert!(of(&lines, "power").is_empty());
}

#[test]
fn sensors_batteries_and_cards_are_read_and_none_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    for (path, text) in [
        ("class/hwmon/hwmon0/name", "k10temp"),
        ("class/hwmon/hwmon0/temp1_input", "45250"),
        ("class/hwmon/hwmon0/temp1_label", "Tctl"),
        ("class/hwmon/hwmon1/name", "nct6775"),
        ("class/hwmon/hwmon1/fan2_input", "1200"),
        ("class/hwmon/hwmon1/in0_input", "1012"),
        ("class/hwmon/hwmon2/name", "amdgpu"),
        ("class/hwmon/hwmon2/power1_average", "35000000"),
        ("class/hwmon/hwmon2/power1_cap", "200000000"),
        ("class/hwmon/hwmon4/name", "amdgpu"),
        ("class/hwmon/hwmon4/power1_input", "15000000"),
        ("class/drm/card2/device/uevent", "DRIVER=xe\nPCI_SLOT_NAME=0000:07:00.0"),
        ("class/drm/card2/device/hwmon/hwmon5/name", "xe"),
        ("class/drm/card2/device/hwmon/hwmon5/energy1_input", "7000000"),
        ("class/drm/card2/device/hwmon/hwmon5/energy1_label", "card"),
        ("class/drm/card2/device/hwmon/hwmon5/energy2_input", "5000000"),
        ("class/drm/card2/device/hwmon/hwmon5/energy2_label", "pkg"),
        ("class/hwmon/hwmon3/name", "amdgpu"),
        ("class/hwmon/hwmon3/temp1_input", "40000"),
        ("class/hwmon/hwmon3/device/power/runtime_status", "suspended"),
        ("class/thermal/thermal_zone0/type", "x86_pkg_temp"),
        ("class/thermal/thermal_zone0/temp", "51000"),
        ("class/power_supply/BAT0/type", "Battery"),
        ("class/power_supply/BAT0/capacity", "50"),
        ("class/power_supply/BAT0/voltage_now", "12000000"),
        ("class/power_supply/BAT0/current_now", "-500000"),
        ("class/power_supply/BAT0/temp", "305"),
        ("class/drm/card0/device/uevent", "DRIVER=i915\nPCI_SLOT_NAME=0000:00:02.0"),
        ("class/drm/card0/gt_act_freq_mhz", "350"),
        ("class/drm/card1/device/uevent", "DRIVER=amdgpu\nPCI_SLOT_NAME=0000:03:00.0"),
        ("class/drm/card1/device/power/runtime_status", "suspended"),
        ("class/drm/card1/device/gpu_busy_percent", "77"),
        ("devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "2400000"),
        ("devices/system/cpu/cpu0/cpufreq/scaling_governor", "schedutil"),
    ] {
        put(root, path, text);
    }
    // Twice, and told once.
    let lines = over(root, &["--once", "-i", "100ms"]);
    assert_eq!(lines.iter().filter(|it| it["sensor_id"] == "hwmon0/k10temp/temp1").count(), 1);
    assert_eq!(lines.iter().filter(|it| it["sensor_id"] == "thermal_zone0").count(), 1);
    let find = |field: &str, name: &str| {
        lines.iter().find(|it| it[field] == name).unwrap_or_else(|| panic!("no {name} in {lines:?}"))
    };
    assert_eq!(number(find("sensor_id", "hwmon0/k10temp/temp1"), "temperature_celsius"), 45.25);
    assert_eq!(find("sensor_id", "hwmon0/k10temp/temp1")["component"], "cpu");
    assert_eq!(number(find("sensor_id", "hwmon1/nct6775/fan2"), "speed_rpm"), 1200.0);
    assert_eq!(number(find("sensor_id", "hwmon1/nct6775/in0"), "voltage_volts"), 1.012);
    assert_eq!(number(find("zone", "hwmon2/amdgpu/power1"), "power_watts"), 35.0);
    // Graphics inside of a package, and the chip of a card, are parts of what is counted.
    let counted = ["hwmon2/amdgpu/power1", "hwmon4/amdgpu/power1", "0000:07:00.0"];
    let counted = counted.map(|zone| find("zone", zone)["counted"] == true);
    assert_eq!(counted, [true, false, true]);
    assert_eq!(number(find("zone", "0000:07:00.0"), "energy_joules"), 7.0);
    assert_eq!(number(find("sensor_id", "thermal_zone0"), "temperature_celsius"), 51.0);
    let battery = find("device", "BAT0");
    assert_eq!((number(battery, "power_watts"), number(battery, "temperature_celsius")), (6.0, 30.5));
    assert_eq!(number(find("gpu", "0000:00:02.0"), "frequency_hz"), 350e6);
    let sleeper = find("gpu", "0000:03:00.0");
    assert_eq!(sleeper["runtime_status"], "suspended");
    assert!(sleeper.get("utilization_ratio").is_none(), "it was asked: {sleeper}");
    assert!(
        !lines.iter().any(|it| it["sensor_id"] == "hwmon3/amdgpu/temp1"),
        "a sensor of a sleeping card was read"
    );
    let cpu = find("core", "cpu0");
    assert_eq!((number(cpu, "frequency_hz"), cpu["governor"].as_str()), (2.4e9, Some("schedutil")));
}

/// Values that a person reads off the files of the recorded trees: tree, field and value of the record, field, number.
#[test]
fn recorded_trees_give_what_a_person_reads_off_them() {
    let Some(samples) = samples() else { return };
    let node = samples.join("sysfs/node_exporter_tree/sys");
    let procfs = samples.join("procfs/prometheus-procfs_tree/fixtures/sys");
    let (of_node, of_procfs) = (over(&node, &["--once"]), over(&procfs, &["--once"]));
    for (lines, (name, value), field, expected) in [
        // devices/platform/coretemp.0/hwmon/hwmon0/temp1_input: 55000
        (&of_node, ("sensor_id", "coretemp.0/coretemp/temp1"), "temperature_celsius", 55.0),
        // …/temp1_crit: 100000
        (&of_node, ("sensor_id", "coretemp.0/coretemp/temp1"), "critical_celsius", 100.0),
        // devices/platform/nct6775.656/hwmon/hwmon3/fan2_input: 1098
        (&of_node, ("sensor_id", "nct6775.656/nct6779/fan2"), "speed_rpm", 1098.0),
        // …/in0_input: 792
        (&of_node, ("sensor_id", "nct6775.656/nct6779/in0"), "voltage_volts", 0.792),
        // devices/virtual/thermal/thermal_zone0/temp: 12376
        (&of_node, ("sensor_id", "thermal_zone0"), "temperature_celsius", 12.376),
        // class/power_supply/BAT0/capacity: 81
        (&of_node, ("device", "BAT0"), "charge_ratio", 0.81),
        // …/energy_now: 36580000 µWh
        (&of_node, ("device", "BAT0"), "energy_joules", 131_688.0),
        // …/power_now: 5002000
        (&of_node, ("device", "BAT0"), "power_watts", 5.002),
        // …/voltage_now: 11660000
        (&of_node, ("device", "BAT0"), "voltage_volts", 11.66),
        // class/drm/card0/device/gpu_busy_percent: 4
        (&of_procfs, ("source", "amdgpu"), "utilization_ratio", 0.04),
        // …/mem_info_vram_used
        (&of_procfs, ("source", "amdgpu"), "memory_used_bytes", 1_490_378_752.0),
        // …/pp_dpm_sclk: `0: 852Mhz *`
        (&of_procfs, ("source", "amdgpu"), "frequency_hz", 852e6),
        // devices/system/cpu/cpufreq/policy0/scaling_cur_freq: 1219917
        (&of_procfs, ("core", "cpu0"), "frequency_hz", 1_219_917_000.0),
        // class/powercap/intel-rapl:0:0/energy_uj: 118821284256
        (&of_procfs, ("zone", "package-0/core"), "energy_joules", 118_821.284_256),
    ] {
        let found = lines.iter().find(|it| it[name] == value).unwrap_or_else(|| panic!("no {name} {value}"));
        let value = number(found, field);
        assert!(
            (value - expected).abs() < 1e-9 * expected.abs().max(1.0),
            "{field}: {value}, not {expected}"
        );
    }
    assert_eq!(zones(&of_node, "package-0")[0]["counted"], true);
}

#[test]
fn energy_is_split_by_process_and_the_parts_are_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    zone(root, "intel-rapl:0", "package-0", 1_000_000);
    put(root, "class/power_supply/AC/type", "Mains");
    let process = |pid: u32, ticks: u64| {
        let zeros = "0 ".repeat(9);
        let stat = format!("{pid} (job {pid}) S 1 {zeros}{ticks} 0 0 0 20 0 1 0 5 1000 10");
        put(root, &format!("{pid}/stat"), &stat);
    };
    put(root, "stat", "cpu 100 0 0 900 0 0 0 0 0 0\nbtime 1700000000");
    process(7, 50);
    process(8, 10);
    let mut child =
        command(root, &["--once", "-i", "1s", "--per-process"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(500));
    zone(root, "intel-rapl:0", "package-0", 11_000_000);
    put(root, "stat", "cpu 150 0 0 1050 0 0 0 0 0 0\nbtime 1700000000");
    process(7, 80);
    process(8, 20);
    let mut text = Vec::new();
    std::io::Read::read_to_end(child.stdout.as_mut().unwrap(), &mut text).unwrap();
    assert!(child.wait().unwrap().success());
    let lines = parse(&text);
    // 200 ticks passed, 50 of them with work: 30 and 10 of two processes, 10 of nobody known.
    let told: Vec<_> = of(&lines, "process_power")
        .iter()
        .map(|it| (it["comm"].as_str().unwrap(), it["pid"].as_u64(), number(it, "energy_joules")))
        .collect();
    let expected =
        [("job 7", Some(7), 1.5), ("job 8", Some(8), 0.5), ("others", None, 0.5), ("idle", None, 7.5)];
    assert_eq!(told, expected);
    assert_eq!(of(&lines, "process_power")[0]["method"], "cpu_time");
    // From 1 J to 11 J.
    assert_eq!(told.iter().map(|part| part.2).sum::<f64>(), 10.0);
    assert_eq!(number(zones(&lines, "package-0")[0], "energy_joules"), 11.0);
}

#[test]
fn a_machine_with_nothing_to_measure_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let lines = over(dir.path(), &["--once"]);
    let sources: Vec<_> = of(&lines, "status").iter().map(|it| it["source"].as_str().unwrap()).collect();
    for name in ["powercap", "hwmon", "power_supply", "drm", "cpu"] {
        assert!(sources.iter().any(|source| source.ends_with(name)), "{name}: {sources:?}");
    }
    assert_eq!(lines.len(), sources.len());
    // This machine, whatever it has.
    assert!(!records(program!("pmstat"), &["--once"]).is_empty());
}

/// A library with the functions of nvml.h that are used, which writes a line for each that is called.
const STUB: &str = r#"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void note(const char *name) {
    FILE *log = fopen(getenv("STUB_LOG"), "a");
    fprintf(log, "%s\n", name);
    fclose(log);
}
int nvmlInit_v2(void) { note("init"); return getenv("STUB_BROKEN") ? 9 : 0; }
int nvmlShutdown(void) { note("shutdown"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, void **device) { *device = (void *)(unsigned long)(index + 1); return index == 0 ? 0 : 6; }
int nvmlDeviceGetName(void *device, char *name, unsigned length) { (void)device; strncpy(name, "Stub 9000", length); return 0; }
int nvmlDeviceGetPciInfo_v3(void *device, char *pci) { (void)device; strcpy(pci + 36, "00000000:45:00.0"); return 0; }
int nvmlDeviceGetPowerUsage(void *device, unsigned *mw) { (void)device; *mw = 123456; return 0; }
int nvmlDeviceGetTotalEnergyConsumption(void *device, unsigned long long *mj) {
    (void)device;
    static unsigned long long calls;
    FILE *log = fopen(getenv("STUB_LOG"), "r");
    int c; calls = 0;
    while ((c = fgetc(log)) != EOF) calls += c == '\n';
    fclose(log);
    *mj = 1000000 + calls * 500;
    return 0;
}
int nvmlDeviceGetTemperature(void *device, unsigned sensor, unsigned *celsius) { (void)device; *celsius = 61 + sensor; return 0; }
int nvmlDeviceGetUtilizationRates(void *device, unsigned *rates) { (void)device; rates[0] = 37; rates[1] = 12; return 0; }
int nvmlDeviceGetMemoryInfo(void *device, unsigned long long *memory) { (void)device; memory[0] = 80ull << 30; memory[1] = 79ull << 30; memory[2] = 1ull << 30; return 0; }
int nvmlDeviceGetClockInfo(void *device, unsigned type, unsigned *mhz) { (void)device; *mhz = type == 1 ? 1980 : 2619; return 0; }
"#;

#[test]
fn nvidias_library_is_asked_and_closed_again() {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("stub.c");
    fs::write(&source, STUB).unwrap();
    let library = dir.path().join("libnvidia-ml.so.1");
    let built = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status();
    if !built.is_ok_and(|status| status.success()) {
        assert!(!support::in_ci(), "no C compiler");
        return support::skip("there is no C compiler");
    }
    let log = dir.path().join("log");
    let run = |args: &[&str], broken: bool| {
        fs::write(&log, "").unwrap();
        let mut command = Command::new(program!("pmstat"));
        command.args(args).env("LD_LIBRARY_PATH", dir.path()).env("STUB_LOG", &log);
        if broken {
            command.env("STUB_BROKEN", "1");
        }
        let output = command.output().unwrap();
        assert!(output.status.success());
        (parse(&output.stdout), fs::read_to_string(&log).unwrap())
    };
    let (lines, log) = run(&["-n", "2", "-i", "100ms"], false);
    assert_eq!(log, "init\nshutdown\ninit\nshutdown\n", "nothing is held open between samples");
    let mine =
        |kind: &str| of(&lines, kind).into_iter().filter(|it| it["source"] == "nvml").collect::<Vec<_>>();
    let gpu = mine("gpu")[1];
    assert_eq!((gpu["gpu"].as_str(), gpu["name"].as_str()), (Some("0000:45:00.0"), Some("Stub 9000")));
    assert_eq!((number(gpu, "utilization_ratio"), number(gpu, "frequency_hz")), (0.37, 1.98e9));
    assert_eq!(
        (number(gpu, "memory_used_bytes"), number(gpu, "memory_total_bytes")),
        ((1u64 << 30) as f64, (80u64 << 30) as f64)
    );
    let power = mine("power");
    assert_eq!((number(power[0], "energy_joules"), number(power[1], "energy_joules")), (1000.5, 1001.5));
    let joules = number(power[1], "power_watts") * number(power[1], "interval_s");
    assert!(power.len() == 2 && (joules - 1.0).abs() < 1e-3, "{power:?}");
    assert_eq!(number(mine("temperature")[0], "temperature_celsius"), 61.0);
    let (lines, log) = run(&["--once"], true);
    let status = of(&lines, "status").into_iter().find(|it| it["source"] == "libnvidia-ml.so.1").unwrap();
    assert_eq!((status["reason"].as_str(), log.as_str()), (Some("absent"), "init\n"));
    let tree = over(dir.path(), &["--once"]);
    assert!(!tree.iter().any(|it| it["source"] == "libnvidia-ml.so.1"), "of another machine: {tree:?}");
}
