//! GPUs: what is read, that a sleeping one stays asleep, and NVML, for which a small stub library stands in.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;

use super::named;
use super::support::records::{number, of};
use super::tree::{Tree, ended};

const CARD: &str = "class/drm/card1/device";

#[test]
fn cards_have_the_values_of_their_files() {
    let tree = Tree::of("laptop.tree");
    let [first, second] = tree.twice(&[], || tree.set("class/drm/card0/power/rc6_residency_ms", "5250\n"));
    let card = named(&first, "gpu", "gpu", "0000:03:00.0");
    for (field, value) in [
        ("source", json!("amdgpu")),
        ("runtime_status", json!("active")),
        ("utilization_ratio", json!(0.62)),
        ("memory_utilization_ratio", json!(0.09)),
        ("memory_used_bytes", json!(123_456_789)),
        ("frequency_hz", json!(2_100_000_000u64)),
        ("memory_frequency_hz", json!(875_000_000)),
    ] {
        assert_eq!(card[field], value, "{field}");
    }
    assert_eq!(number(named(&first, "power", "zone", "0000:03:00.0"), "power_watts"), 45.0);
    let edge = named(&first, "temperature", "label", "edge");
    assert_eq!((number(edge, "temperature_celsius"), &edge["component"]), (71.0, &json!("gpu")));
    assert_eq!(number(named(&first, "fan", "source", "amdgpu"), "speed_rpm"), 1800.0);

    let inside = |records| named(records, "gpu", "gpu", "0000:00:02.0").clone();
    assert_eq!(
        (&inside(&first)["frequency_hz"], inside(&first)["idle_ratio"].is_null()),
        (&json!(350_000_000), true)
    );
    // 250 ms of about a second.
    let idle = number(&inside(&second), "idle_ratio");
    assert!((0.05..=0.5).contains(&idle), "{idle}");
    assert!((number(&inside(&second), "active_ratio") + idle - 1.0).abs() < 1e-6);
}

/// A card with several tiles has several chips, in any order.
#[test]
fn all_chips_of_a_card_are_read_and_its_power_is_that_of_the_whole() {
    let tree = Tree::empty();
    let card = "devices/pci0000:00/0000:4d:00.0";
    for (file, text) in [
        ("uevent", "DRIVER=i915\nPCI_SLOT_NAME=0000:4d:00.0"),
        ("drm/card0/dev", "226:0"),
        ("hwmon/hwmon3/name", "i915_gt0"),
        ("hwmon/hwmon3/energy1_input", "1000000"),
        ("hwmon/hwmon3/temp1_input", "41000"),
        ("hwmon/hwmon4/name", "i915"),
        ("hwmon/hwmon4/energy1_input", "7000000"),
        ("hwmon/hwmon4/in0_input", "900"),
    ] {
        tree.set(&format!("{card}/{file}"), &format!("{text}\n"));
    }
    fs::create_dir_all(tree.sys("class/drm/card0")).unwrap();
    fs::create_dir_all(tree.sys("class/hwmon")).unwrap();
    std::os::unix::fs::symlink(format!("../../../{card}"), tree.sys("class/drm/card0/device")).unwrap();
    for chip in ["hwmon3", "hwmon4"] {
        let (link, target) = (tree.sys(card).join("hwmon").join(chip), tree.sys("class/hwmon").join(chip));
        std::os::unix::fs::symlink("../..", link.join("device")).unwrap();
        std::os::unix::fs::symlink(link, target).unwrap();
    }
    let records = tree.once();
    let power = of(&records, "power");
    assert_eq!(power.len(), 1, "{power:?}");
    assert_eq!(
        (number(power[0], "energy_joules"), &power[0]["zone"], &power[0]["counted"]),
        (7.0, &json!("0000:4d:00.0"), &json!(true))
    );
    let sensor = of(&records, "temperature");
    assert_eq!((sensor.len(), number(sensor[0], "temperature_celsius")), (1, 41.0));
    assert_eq!((&sensor[0]["component"], of(&records, "voltage").len()), (&json!("gpu"), 1));
}

#[test]
fn a_card_that_sleeps_is_not_touched() {
    let tree = Tree::of("laptop.tree");
    tree.set(&format!("{CARD}/power/runtime_status"), "suspended\n");
    for file in ["gpu_busy_percent", "mem_info_vram_used", "pp_dpm_mclk", "hwmon/hwmon5/temp1_input"] {
        fs::remove_file(tree.sys(&format!("{CARD}/{file}"))).unwrap();
        tree.trap(&format!("{CARD}/{file}"));
    }
    let records = tree.records(&["-n", "2", "-i", "100ms"]);
    let found: Vec<_> = of(&records, "gpu").into_iter().filter(|it| it["source"] == "amdgpu").collect();
    assert_eq!(found.len(), 2);
    for record in found {
        let fields: Vec<_> = record.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["ts", "kind", "host", "gpu", "source", "runtime_status"]);
        assert_eq!(record["runtime_status"], "suspended");
    }
}

#[test]
fn sensors_of_a_device_that_sleeps_are_not_touched() {
    let tree = Tree::of("laptop.tree");
    tree.set("devices/platform/board/power/runtime_status", "suspended\n");
    let input = "devices/platform/board/hwmon/hwmon1/fan2_input";
    fs::remove_file(tree.sys(input)).unwrap();
    tree.trap(input);
    let records = tree.once();
    assert!(of(&records, "fan").iter().all(|it| it["source"] != "nct6798"));
    let found = of(&records, "status")
        .into_iter()
        .find(|it| it["source"].as_str().unwrap().contains("hwmon1") && it["reason"] == "unsupported");
    assert!(found.is_some(), "{records:#?}");
}

#[test]
fn an_idle_card_is_left_alone_so_that_it_can_fall_asleep() {
    let tree = Tree::of("laptop.tree");
    tree.set(&format!("{CARD}/gpu_busy_percent"), "0\n");
    let busy = |tree: &Tree| {
        let records = tree.records(&["-n", "2", "-i", "100ms"]);
        let found = of(&records, "gpu").into_iter().filter(|it| it["source"] == "amdgpu");
        found.map(|it| it["utilization_ratio"].as_f64()).collect::<Vec<_>>()
    };
    assert_eq!(busy(&tree), [Some(0.0), Some(0.0)]);
    tree.set(&format!("{CARD}/power/control"), "auto\n");
    tree.set(&format!("{CARD}/power/autosuspend_delay_ms"), "5000\n");
    assert_eq!(busy(&tree), [Some(0.0), None]);
    tree.set(&format!("{CARD}/gpu_busy_percent"), "3\n");
    assert_eq!(busy(&tree), [Some(0.03), Some(0.03)]);
}

#[test]
fn the_idle_ratio_covers_the_time_without_readings() {
    let tree = Tree::of("laptop.tree");
    for (file, text) in [("runtime_status", "active"), ("control", "auto"), ("autosuspend_delay_ms", "1000")]
    {
        tree.set(&format!("class/drm/card0/device/power/{file}"), &format!("{text}\n"));
    }
    // Idle for the first second, then left alone for three, in which it is idle for 1.5 s.
    let samples = tree.times(6, &[], |sample| {
        tree.set("class/drm/card0/power/rc6_residency_ms", if sample == 0 { "7000\n" } else { "8500\n" });
    });
    let found: Vec<_> = samples.iter().map(|records| named(records, "gpu", "gpu", "0000:00:02.0")).collect();
    assert_eq!(number(found[1], "idle_ratio"), 1.0);
    assert!(found[2]["idle_ratio"].is_null() && found[2]["interval_s"].is_null());
    let after = found[2..].iter().find(|it| it["idle_ratio"].is_number()).unwrap();
    assert!(number(after, "interval_s") > 2.9, "{after}");
    assert!((number(after, "idle_ratio") * number(after, "interval_s") - 1.5).abs() < 1e-4, "{after}");
}

/// Builds the stub library, which logs its calls to a file.
fn stub(tree: &Tree) -> PathBuf {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/power/nvml.c");
    let library = tree.path().join("libnvidia-ml.so.1");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"])
        .arg(&library)
        .arg(source)
        .status();
    assert!(built.unwrap().success());
    library
}

/// Two devices of the driver; the second sleeps.
fn nvidia() -> Tree {
    let tree = Tree::empty();
    for (address, status) in [("0000:01:00.0", "active"), ("0000:02:00.0", "suspended")] {
        let set = |file: &str, text: &str| tree.set(&format!("bus/pci/devices/{address}/{file}"), text);
        set("vendor", "0x10de\n");
        set("class", "0x030200\n");
        set("uevent", "DRIVER=nvidia\n");
        set("power/runtime_status", &format!("{status}\n"));
        set("power/control", "on\n");
    }
    // Its sound device is not a GPU.
    tree.set("bus/pci/devices/0000:01:00.1/vendor", "0x10de\n");
    tree.set("bus/pci/devices/0000:01:00.1/class", "0x040300\n");
    tree
}

fn asked(tree: &Tree, args: &[&str], env: &[(&str, &str)]) -> (Vec<serde_json::Value>, Vec<String>) {
    let (library, log) = (stub(tree), tree.path().join("log"));
    let _ = fs::remove_file(&log);
    let mut command = tree.command(&["--nvml", library.to_str().unwrap()]);
    command.args(args).env("STUB_LOG", &log).envs(env.iter().copied());
    let records = ended(&mut command);
    let log = fs::read_to_string(log).unwrap_or_default();
    (records, log.lines().map(str::to_owned).collect())
}

#[test]
fn nvml_reads_only_devices_that_are_awake() {
    let tree = nvidia();
    let (records, log) = asked(&tree, &["-n", "2", "-i", "500ms"], &[]);
    assert_eq!(log, ["init", "handle 0000:01:00.0", "handle 0000:01:00.0", "shutdown"]);
    let found: Vec<_> = of(&records, "gpu").into_iter().filter(|it| it["gpu"] == "0000:01:00.0").collect();
    for (field, value) in [
        ("name", json!("Stub 9000")),
        ("source", json!("nvml")),
        ("utilization_ratio", json!(0.87)),
        ("memory_utilization_ratio", json!(0.13)),
        ("memory_used_bytes", json!(400_000_000)),
        ("memory_total_bytes", json!(8_000_000_000u64)),
        ("frequency_hz", json!(1_410_000_000)),
        ("memory_frequency_hz", json!(5_001_000_000u64)),
    ] {
        assert_eq!(found[0][field], value, "{field}");
    }
    let asleep: Vec<_> = of(&records, "gpu").into_iter().filter(|it| it["gpu"] == "0000:02:00.0").collect();
    assert_eq!(asleep.len(), 2);
    assert!(asleep.iter().all(|it| it["runtime_status"] == "suspended" && it["name"].is_null()));
    let power = of(&records, "power");
    assert_eq!((number(power[0], "energy_joules"), number(power[1], "energy_joules")), (5000.0, 5001.0));
    assert!(power[0]["power_watts"].is_null());
    // One joule.
    let joules = number(power[1], "power_watts") * number(power[1], "interval_s");
    assert!((joules - 1.0).abs() < 1e-3, "{joules}");
    assert_eq!(power[0]["counted"], true);
    assert_eq!(number(of(&records, "temperature")[0], "temperature_celsius"), 66.0);
}

#[test]
fn devices_that_may_sleep_are_not_held_open() {
    let tree = nvidia();
    tree.set("bus/pci/devices/0000:01:00.0/power/control", "auto\n");
    let (_, log) = asked(&tree, &["-n", "2", "-i", "100ms"], &[]);
    let once = ["init", "handle 0000:01:00.0", "shutdown"];
    assert_eq!(log, [once, once].concat());
    // All asleep: the library is not started.
    tree.set("bus/pci/devices/0000:01:00.0/power/runtime_status", "suspended\n");
    let (records, log) = asked(&tree, &["-n", "2", "-i", "100ms"], &[]);
    assert_eq!((log.len(), of(&records, "gpu").len()), (0, 4));
}

#[test]
fn unsupported_values_are_left_out() {
    let tree = nvidia();
    let (records, _) = asked(&tree, &["--once"], &[("STUB_NO_ENERGY", "1")]);
    let power = of(&records, "power");
    assert_eq!((number(power[0], "power_watts"), power[0]["energy_joules"].is_null()), (250.5, true));
    let (records, log) = asked(&tree, &["--once"], &[("STUB_INIT", "9")]);
    let found = named(&records, "status", "source", "nvml 0000:01:00.0");
    assert_eq!((&found["reason"], &found["detail"]), (&json!("absent"), &json!("Driver Not Loaded")));
    assert_eq!((log, of(&records, "gpu").len()), (vec!["init".to_owned()], 2));
    let (records, _) = asked(&tree, &["--once"], &[("STUB_OLD", "1")]);
    let old = named(&records, "gpu", "gpu", "0000:01:00.0");
    assert_eq!(
        (&old["memory_used_bytes"], &old["memory_total_bytes"]),
        (&json!(1_000_000_000), &json!(8_000_000_000u64))
    );
    // Without --nvml, NVML is not used for another machine's tree.
    let records = tree.once();
    assert_eq!(named(&records, "status", "source", "nvml 0000:01:00.0")["reason"], "unsupported");
    let records = tree.records(&["--once", "--nvml", "/nonexistent/libnvidia-ml.so.1"]);
    assert_eq!(named(&records, "status", "source", "nvml 0000:01:00.0")["reason"], "absent");
}

/// As under WSL: the library, found by the dynamic linker, knows two devices, one of which does not answer.
#[test]
fn devices_that_are_not_on_the_bus_come_from_the_library() {
    let tree = Tree::empty();
    let (library, log) = (stub(&tree), tree.path().join("log"));
    let mut command = Command::new(super::support::program!("pmstat"));
    command.args(["-n", "2", "-i", "100ms"]).env("STUB_LOG", &log);
    let records = ended(command.env("LD_LIBRARY_PATH", library.parent().unwrap()));
    let found: Vec<_> = of(&records, "gpu").into_iter().filter(|it| it["gpu"] == "0000:45:00.0").collect();
    assert_eq!(
        (found.len(), &found[0]["name"], &found[0]["source"]),
        (2, &json!("Stub 9000"), &json!("nvml"))
    );
    let log = fs::read_to_string(log).unwrap();
    assert_eq!(log, "init\nshutdown\n".repeat(2), "nothing is held open between samples");
}
