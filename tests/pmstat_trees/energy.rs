//! Energy: which zones are in the sum, wraps, zones that cannot be read, and shares of processes.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::process::Command;

use serde_json::Value;

use super::named;
use super::support::program;
use super::support::records::{number, of};
use super::tree::{Tree, ended};

const SOCKET: &str = "class/powercap/intel-rapl:0/energy_uj";
const MEMORY: &str = "class/powercap/intel-rapl:0:0/energy_uj";

/// The zones in the sum.
fn counted(records: &[Value]) -> Vec<&str> {
    let power = of(records, "power").into_iter().filter(|record| record["counted"] == true);
    power.map(|record| record["zone"].as_str().unwrap()).collect()
}

fn zone<'a>(records: &'a [Value], name: &str) -> &'a Value {
    named(records, "power", "zone", name)
}

#[test]
fn the_sum_has_every_joule_once() {
    let tree = Tree::of("laptop.tree");
    let records = tree.once();
    assert_eq!(counted(&records), ["psys"]);
    let parent = |name: &str| zone(&records, name)["parent"].as_str();
    assert_eq!(parent("package-0"), Some("psys"));
    assert_eq!(parent("mmio/package-0"), Some("package-0"));
    assert_eq!(parent("package-0/core"), Some("package-0"));
    assert_eq!(parent("0000:03:00.0"), Some("psys"));
    assert_eq!(zone(&records, "package-0/uncore")["domain"], "uncore");

    // A board that has not connected `psys`.
    tree.set("class/powercap/intel-rapl:1/energy_uj", "0\n");
    assert_eq!(counted(&tree.once()), ["package-0", "0000:03:00.0"]);

    let records = Tree::of("server.tree").once();
    assert_eq!(counted(&records), ["package-0-die-0", "package-0-die-0/dram", "package-1", "package-1/dram"]);
    assert_eq!(zone(&records, "package-0-die-1")["parent"], "package-0-die-0");
}

#[test]
fn each_zone_wraps_at_its_own_range() {
    let tree = Tree::of("server.tree");
    let [first, second] = tree.twice(&[], || {
        for (path, value) in [
            (SOCKET, 49_671_150u64),
            ("class/powercap/intel-rapl:1/energy_uj", 49_671_270),
            (MEMORY, 11_000_387),
            ("class/powercap/intel-rapl:2/energy_uj", 1_200_000_000),
        ] {
            tree.set(path, &format!("{value}\n"));
        }
    });
    let used = |name: &str| {
        let (before, after) = (zone(&first, name), zone(&second, name));
        assert!(before["power_watts"].is_null() && before["interval_s"].is_null());
        let used = number(after, "energy_joules") - number(before, "energy_joules");
        assert!((number(after, "power_watts") * number(after, "interval_s") - used).abs() < 1e-3, "{after}");
        used
    };
    // The package: 262143.328850 - 262143 + 49.671150, the memory by 65712.999613 - 65712 + 11.000387.
    assert!((used("package-0-die-0") - 50.0).abs() < 1e-6);
    assert!((used("package-0-die-0/dram") - 12.0).abs() < 1e-6);
    assert!((used("package-1") - 200.0).abs() < 1e-6);
    assert!((used("package-1/dram") - 0.0).abs() < 1e-6);
    assert_eq!(counted(&first), counted(&second));
}

#[test]
fn memory_alone_can_wrap() {
    let tree = Tree::of("server.tree");
    let [first, second] = tree.twice(&[], || tree.set(MEMORY, "387\n"));
    let energy = |records, name| number(zone(records, name), "energy_joules");
    let memory = "package-0-die-0/dram";
    assert!((energy(&second, memory) - energy(&first, memory) - 1.0).abs() < 1e-6);
    assert_eq!(energy(&second, "package-0-die-0"), energy(&first, "package-0-die-0"));
}

#[test]
fn a_zone_that_disappears_is_reported_and_the_others_go_on() {
    let tree = Tree::of("server.tree");
    let [_, second] =
        tree.twice(&[], || fs::remove_dir_all(tree.sys("class/powercap/intel-rapl:2")).unwrap());
    let gone: Vec<_> = of(&second, "status").into_iter().filter(|it| it["reason"] == "absent").collect();
    assert!(gone[0]["source"].as_str().unwrap().contains("intel-rapl:2"), "{gone:?}");
    assert_eq!(of(&second, "power").iter().filter(|it| it["zone"] == "package-1").count(), 0);
    assert_eq!(number(zone(&second, "package-0-die-0"), "power_watts"), 0.0);
}

#[test]
fn a_platform_that_begins_to_count_is_counted() {
    let tree = Tree::of("laptop.tree");
    let psys = "class/powercap/intel-rapl:1/energy_uj";
    tree.set(psys, "0\n");
    let samples = tree.times(3, &[], |sample| {
        tree.set(psys, if sample == 0 { "1500000\n" } else { "2500000\n" });
        tree.set(SOCKET, if sample == 0 { "70001500000\n" } else { "70002500000\n" });
    });
    assert_eq!(counted(&samples[0]), ["package-0", "0000:03:00.0"]);
    assert_eq!((counted(&samples[1]), counted(&samples[2])), (vec!["psys"], vec!["psys"]));
}

#[test]
fn a_reading_that_fails_loses_nothing() {
    let tree = Tree::of("server.tree");
    tree.set("../proc/stat", "cpu 1000 0 500 9000 0 0 0 0 0 0\nbtime 1700000000\n");
    let samples = tree.times(5, &[], |sample| match sample {
        0 => tree.set(MEMORY, "1000387\n"),
        1 => tree.set(MEMORY, "x\n"),
        2 => fs::remove_file(tree.sys(MEMORY)).unwrap(),
        3 => tree.set(MEMORY, "6000387\n"),
        _ => {}
    });
    let memory: Vec<_> = samples
        .iter()
        .map(|records| of(records, "power").into_iter().find(|it| it["zone"] == "package-0-die-0/dram"))
        .collect();
    for (sample, reason) in [(2, "invalid"), (3, "absent")] {
        assert!(memory[sample].is_none());
        let found = named(&samples[sample], "status", "source", tree.sys(MEMORY).to_str().unwrap());
        assert_eq!(found["reason"], reason);
    }
    let [first, second, last] = [0, 1, 4].map(|sample| memory[sample].unwrap());
    // It wrapped at 65712.999613.
    let energy = [first, second, last].map(|record| number(record, "energy_joules"));
    assert_eq!(energy, [65_712.0, 65_714.0, 65_719.0]);
    for record in [first, second, last] {
        assert_eq!(record["start_ts"], "2023-11-14T22:13:20.000000000Z");
    }
    // The power is the mean since the last successful reading.
    assert!((number(last, "power_watts") * number(last, "interval_s") - 5.0).abs() < 1e-3, "{last}");
    assert!(number(last, "interval_s") > 2.5, "{last}");
}

#[test]
fn a_counter_that_may_not_be_read_is_denied() {
    let tree = Tree::of("server.tree");
    let file = tree.sys(SOCKET);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    // Root can read everything, unless it drops its capabilities.
    let mut command = Command::new("setpriv");
    if rustix::process::geteuid().is_root() {
        command.args(["--bounding-set", "-dac_override,-dac_read_search"]);
    }
    let (sys, proc) = (tree.sys(""), tree.path().join("proc"));
    command.arg(program!("pmstat")).arg("--once").arg("--sys-root").arg(sys).arg("--proc-root").arg(proc);
    let records = ended(&mut command);
    let found = named(&records, "status", "source", file.to_str().unwrap());
    assert_eq!(found["reason"], "denied");
    assert!(found["detail"].as_str().unwrap().contains("root"), "{found}");
    // Only the second die is left to report it.
    assert_eq!(counted(&records), ["package-0-die-0/dram", "package-0-die-1", "package-1", "package-1/dram"]);
}

#[test]
fn a_counter_with_an_error_or_nonsense_is_reported() {
    let tree = Tree::of("server.tree");
    tree.set(MEMORY, "full\n");
    // Reading the speed of an interface without one gives EINVAL.
    let invalid = "/sys/class/net/lo/speed";
    assert_eq!(fs::read(invalid).unwrap_err().raw_os_error(), Some(22));
    fs::remove_file(tree.sys(SOCKET)).unwrap();
    symlink(invalid, tree.sys(SOCKET)).unwrap();
    let records = tree.once();
    let found = named(&records, "status", "source", tree.sys(SOCKET).to_str().unwrap());
    assert!(found["detail"].as_str().unwrap().contains("os error 22"), "{found}");
    let found = named(&records, "status", "source", tree.sys(MEMORY).to_str().unwrap());
    assert_eq!(found["reason"], "invalid");
    assert!(of(&records, "power").iter().all(|it| it["zone"] != "package-0-die-0/dram"));
    assert_eq!(number(zone(&records, "package-1"), "energy_joules"), 1000.0);
}

#[test]
fn chips_that_count_energy_are_the_last_resort() {
    let tree = Tree::of("server.tree");
    for (file, value) in [
        ("name", "amd_energy"),
        ("energy1_input", "5500000"),
        ("energy1_label", "Ecore000"),
        ("energy2_input", "123456789"),
        ("energy2_label", "Esocket0"),
    ] {
        tree.set(&format!("class/hwmon/hwmon0/{file}"), &format!("{value}\n"));
    }
    assert!(of(&tree.once(), "power").iter().all(|record| record["source"] == "powercap"));
    fs::remove_dir_all(tree.sys("class/powercap")).unwrap();
    let records = tree.once();
    assert_eq!(counted(&records), ["package-0"]);
    let socket = zone(&records, "package-0");
    assert_eq!((number(socket, "energy_joules"), &socket["source"]), (123.456_789, &"hwmon".into()));
    // One core, not all of them.
    assert_eq!(named(&records, "power", "domain", "core")["counted"], false);
}

#[test]
fn a_counter_of_one_core_is_not_the_processors() {
    let tree = Tree::of("laptop.tree");
    for (vendor, domain) in [("AuthenticAMD", "core"), ("HygonGenuine", "core"), ("GenuineIntel", "cpu")] {
        tree.set("../proc/cpuinfo", &format!("processor\t: 0\nvendor_id\t: {vendor}\nmodel\t\t: 33\n"));
        assert_eq!(zone(&tree.once(), "package-0/core")["domain"], domain);
    }
}

#[test]
fn processes_share_the_energy_of_packages() {
    let tree = Tree::of("server.tree");
    let process = |pid: u32, comm: &str, ticks: u64| {
        let line = format!("{pid} ({comm}) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 0 9\n");
        tree.set(&format!("../proc/{pid}/stat"), &line);
    };
    tree.set("../proc/stat", "cpu 1000 0 500 9000 0 0 0 0 0 0\nbtime 1700000000\n");
    process(10, "a b) c", 100);
    process(11, "ends", 300);
    process(12, "rests", 50);
    let [first, second] = tree.twice(&["--per-process"], || {
        // 300 joules in both packages; the die that repeats another adds nothing.
        tree.set(SOCKET, "99671150\n");
        tree.set("class/powercap/intel-rapl:1/energy_uj", "99671270\n");
        tree.set("class/powercap/intel-rapl:2/energy_uj", "1200000000\n");
        tree.set("../proc/stat", "cpu 1080 0 520 9100 0 0 0 0 0 0\nbtime 1700000000\n");
        process(10, "a b) c", 140);
        fs::remove_dir_all(tree.sys("../proc/11")).unwrap();
        process(13, "new", 30);
    });
    assert_eq!(of(&first, "process_power").len(), 0);
    let parts = of(&second, "process_power");
    let found: Vec<_> =
        parts.iter().map(|it| (it["comm"].as_str().unwrap(), number(it, "energy_joules"))).collect();
    let expected = [("a b) c", 60.0), ("new", 45.0), ("others", 45.0), ("idle", 150.0)];
    assert_eq!(found.len(), expected.len(), "{found:?}");
    for ((name, joules), (expected, parts)) in found.iter().zip(expected) {
        assert!(*name == expected && (joules - parts).abs() < 1e-6, "{found:?}");
    }
    let sum: f64 = found.iter().map(|it| it.1).sum();
    assert!((sum - 300.0).abs() < 1e-6);
    assert!(parts.iter().all(|it| it["method"] == "cpu_time"));
    assert_eq!((parts[0]["pid"].as_u64(), parts[3]["pid"].as_u64()), (Some(10), None));
}

#[test]
fn energy_of_a_longer_time_than_the_cpu_times_is_not_split() {
    let tree = Tree::of("laptop.tree");
    let ran = |ticks: u64| {
        tree.set("../proc/stat", &format!("cpu {ticks} 0 0 {ticks} 0 0 0 0 0 0\nbtime 1700000000\n"));
        tree.set(
            "../proc/10/stat",
            &format!("10 (one) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 0 0 0 20 0 1 0 5 0 9\n"),
        );
    };
    ran(1000);
    // The same counter.
    fs::remove_dir_all(tree.sys("class/powercap/intel-rapl-mmio:0")).unwrap();
    let samples = tree.times(5, &["--per-process"], |sample| {
        ran(1100 + 100 * sample as u64);
        match sample {
            1 => tree.set(SOCKET, "x\n"),
            // A reading over two seconds, then one over one second.
            2 => tree.set(SOCKET, "70020500000\n"),
            3 => tree.set(SOCKET, "70026500000\n"),
            _ => {}
        }
    });
    let joules = |records: &[Value]| -> Vec<f64> {
        of(records, "process_power").iter().map(|it| number(it, "energy_joules")).collect()
    };
    assert_eq!(joules(&samples[1]), [0.0, 0.0]);
    assert_eq!((joules(&samples[2]), joules(&samples[3])), (vec![], vec![]));
    let of_both = zone(&samples[3], "package-0");
    assert!(
        (number(of_both, "power_watts") * number(of_both, "interval_s") - 20.0).abs() < 1e-3,
        "{of_both}"
    );
    let found = joules(&samples[4]);
    assert!(found.len() == 2 && found.iter().all(|joules| (joules - 3.0).abs() < 1e-6), "{found:?}");
}
