//! Compares every value of recorded trees with the raw files.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::support::{self, poll, program, records};
use super::{disk, net, read, rows, scrape, tcp};

const KINDS: &str = "disk,netdev,tcp,udp,sockets";

/// The recorded /proc trees that are present.
fn trees() -> Vec<PathBuf> {
    let Some(samples) = support::samples() else { return vec![] };
    let trees = ["live_6.18_vm/t0", "live_6.18_vm/t1", "prometheus-procfs_tree/fixtures/proc"];
    trees.map(|tree| samples.join("procfs").join(tree)).into_iter().filter(|tree| tree.is_dir()).collect()
}

fn over(proc: &Path, sys: &Path, kinds: &str) -> Vec<Value> {
    let (proc, sys) = (proc.to_str().unwrap(), sys.to_str().unwrap());
    scrape(&["--once", "--only", kinds, "--proc-root", proc, "--sys-root", sys])
}

#[test]
fn every_device_and_interface() {
    for tree in trees() {
        let empty = tempfile::tempdir().unwrap();
        let found = over(&tree, empty.path(), KINDS);
        let disks = rows(&read(tree.join("diskstats")), 0, 2);
        let quiet =
            |name: &str| ["loop", "ram", "zram", "sr", "fd", "nbd"].iter().any(|slot| name.starts_with(slot));
        for (name, counts) in &disks {
            let record = found.iter().find(|record| record["device"] == **name);
            match record {
                Some(record) => disk::assert_counts(record, counts, counts),
                None => assert!(quiet(name) && counts.iter().all(|count| *count == 0.0), "{name}"),
            }
        }
        let interfaces = rows(&read(tree.join("net/dev")), 2, 0);
        assert_eq!(records::of(&found, "netdev").len(), interfaces.len());
        for record in records::of(&found, "netdev") {
            let counts = &interfaces[record["interface"].as_str().unwrap()];
            let values = net::FIELDS.map(|field| records::number(record, field));
            assert_eq!(values.to_vec(), *counts);
        }
    }
}

#[test]
fn every_counter_and_socket() {
    for tree in trees() {
        let empty = tempfile::tempdir().unwrap();
        let found = over(&tree, empty.path(), KINDS);
        let text = |name: &str| fs::read_to_string(tree.join("net").join(name)).unwrap_or_default();
        let record =
            |kind: &str| records::of(&found, kind).first().map_or(Value::Null, |record| (*record).clone());
        let (tcp, udp) = (record("tcp"), record("udp"));
        for (field, name) in tcp::SNMP_TCP {
            assert_eq!(tcp[field].as_f64(), tcp::column(&text("snmp"), "Tcp", name), "{field}");
        }
        for (field, name) in tcp::NETSTAT {
            assert_eq!(tcp[field].as_f64(), tcp::column(&text("netstat"), "TcpExt", name), "{field}");
        }
        for (field, name) in tcp::UDP {
            assert_eq!(
                udp[format!("ipv4_{field}")].as_f64(),
                tcp::column(&text("snmp"), "Udp", name),
                "{field}"
            );
            let ours = udp[format!("ipv6_{field}")].as_f64();
            assert_eq!(ours, tcp::pair(&text("snmp6"), &format!("Udp6{name}")), "{field}");
        }
        for (field, file, state) in
            [("ipv4_sockets", "tcp", ("listen", " 0A ")), ("ipv6_sockets", "tcp6", ("closed", " 07 "))]
        {
            let (name, code) = state;
            let expected = text(file).lines().skip(1).filter(|line| line.contains(code)).count();
            assert_eq!(
                tcp[field][name].as_u64().unwrap_or(0) as usize,
                expected,
                "{field} of {}",
                tree.display()
            );
        }
        sockets(&record("sockets"), &[text("sockstat"), text("sockstat6")].concat());
    }
}

/// `TCP: inuse 1 …`: the value after a name.
fn sockets(record: &Value, text: &str) {
    let value = |label: &str, name: &str| -> Option<f64> {
        let line = text.lines().find_map(|line| line.strip_prefix(label)?.strip_prefix(": "))?;
        let words: Vec<_> = line.split(' ').collect();
        words[words.iter().position(|word| *word == name)? + 1].parse().ok()
    };
    for (field, label, name) in [
        ("used", "sockets", "used"),
        ("tcp_in_use", "TCP", "inuse"),
        ("tcp_orphan", "TCP", "orphan"),
        ("tcp_time_wait", "TCP", "tw"),
        ("tcp_allocated", "TCP", "alloc"),
        ("udp_in_use", "UDP", "inuse"),
        ("raw6_in_use", "RAW6", "inuse"),
        ("frag_memory_bytes", "FRAG", "memory"),
        ("frag6_in_use", "FRAG6", "inuse"),
        ("udplite6_in_use", "UDPLITE6", "inuse"),
        ("tcp6_in_use", "TCP6", "inuse"),
        ("udp6_in_use", "UDP6", "inuse"),
    ] {
        assert_eq!(record[field].as_f64(), value(label, name), "{field}");
    }
    // In these trees the page size is 4 KiB, if scrape can derive it.
    if !record["tcp_memory_bytes"].is_null() {
        assert_eq!(record["tcp_memory_bytes"].as_f64(), value("TCP", "mem").map(|pages| pages * 4096.0));
        assert_eq!(record["udp_memory_bytes"].as_f64(), value("UDP", "mem").map(|pages| pages * 4096.0));
    }
}

/// A tree that has /sys/block and no /proc/diskstats.
#[test]
fn sysfs_instead_of_diskstats() {
    let Some(samples) = support::samples() else { return };
    let dir = tempfile::tempdir().unwrap();
    let block = samples.join("procfs/live_6.18_vm/t1/sys_block");
    std::os::unix::fs::symlink(&block, dir.path().join("block")).unwrap();
    let found = over(dir.path(), dir.path(), "disk");
    let stat: Vec<f64> =
        read(block.join("vda/stat")).split_whitespace().map(|word| word.parse().unwrap()).collect();
    let record = records::one(&found, "disk");
    assert_eq!(
        (&record["device"], &record["type"], &record["whole"]),
        (&"vda".into(), &"disk".into(), &true.into())
    );
    disk::assert_counts(record, &stat, &stat);
}

/// One machine at two moments: the rates are those between the two files.
#[test]
fn two_snapshots_give_the_rates_between_them() {
    let Some(samples) = support::samples() else { return };
    let snapshot = |name: &str| samples.join("procfs/live_6.18_vm").join(name).join("diskstats");
    let dir = tempfile::tempdir().unwrap();
    let diskstats = dir.path().join("diskstats");
    fs::copy(snapshot("t0"), &diskstats).unwrap();
    let mut child = Command::new(program!("scrape"))
        .args(["-i", "700ms", "-n", "4", "--only", "disk", "--proc-root"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = child.stdout.take().unwrap();
    let mut output = vec![0; 4096];
    let first = stdout.read(&mut output).unwrap();
    output.truncate(first);
    // Overwrites the file with text of at least the same length, so that no reader finds it empty.
    let file = fs::OpenOptions::new().write(true).open(&diskstats).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, read(snapshot("t1")).as_bytes(), 0).unwrap();
    stdout.read_to_end(&mut output).unwrap();
    assert!(poll(Duration::from_secs(10), || child.try_wait().unwrap()).expect("it ends").success());
    let mut found = records::parse(&output);
    found.retain(|record| record["kind"] == "disk");
    let row = |name: &str| -> BTreeMap<_, _> { rows(&read(snapshot(name)), 0, 2) };
    let (t0, t1) = (&row("t0")["vda"], &row("t1")["vda"]);
    // On a slow machine the second sample may still see the old counts.
    let second =
        found.iter().find(|record| records::number(record, "writes") == t1[4]).expect("the new counts");
    disk::assert_counts(second, t1, t1);
    let interval = records::number(second, "interval_s");
    let grown = |index: usize| t1[index] - t0[index];
    for (field, expected) in [
        ("reads_per_s", grown(0) / interval),
        ("writes_per_s", grown(4) / interval),
        ("queue_depth", grown(10) / 1e3 / interval),
        ("read_bytes_per_s", grown(2) * 512.0 / interval),
        ("write_bytes_per_s", grown(6) * 512.0 / interval),
        ("utilization_ratio", (grown(9) / 1e3 / interval).min(1.0)),
        ("write_mean_us", grown(7) * 1e3 / grown(4)),
    ] {
        let value = records::number(second, field);
        assert!((value - expected).abs() <= 1e-3 * expected.max(1.0), "{field}: {value}, not {expected}");
        assert!(expected > 0.0, "{field} proves nothing");
    }
}

/// Each missing source is reported once, not with every sample.
#[test]
fn missing_sources_are_reported_once() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_str().unwrap();
    let roots = ["--proc-root", path, "--sys-root", path];
    let found = scrape(&[&["-n", "3", "-i", "20ms", "--only", KINDS], &roots[..]].concat());
    let mut sources: Vec<_> = found.iter().map(|record| record["source"].as_str().unwrap()).collect();
    let count = sources.len();
    sources.sort_unstable();
    sources.dedup();
    assert_eq!(sources.len(), count, "{found:?}");
    for name in [
        "diskstats",
        "net/dev",
        "net/snmp",
        "net/netstat",
        "net/tcp",
        "net/tcp6",
        "net/snmp6",
        "net/sockstat",
    ] {
        assert!(sources.iter().any(|source| source.ends_with(name)), "{name} is not among {sources:?}");
    }
    assert!(found.iter().all(|record| record["kind"] == "status" && record["reason"] == "absent"));
}
