//! `vmstat-json` over recorded output of `vm_stat`, over trees, over a cgroup, and on this machine against procps.
#![cfg(target_os = "linux")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::records::{number, of, one, parse, records, run};
use support::{program, samples};

fn fixture(name: &str) -> String {
    format!("{}/tests/fixtures/vm_stat/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn input(path: &str, more: &[&str]) -> Vec<Value> {
    records(program!("vmstat-json"), &[&["--input", path, "--host", "mac"][..], more].concat())
}

/// The 22 counts that both systems have.
const COMMON: [&str; 22] = [
    "pages_free",
    "pages_active",
    "pages_inactive",
    "pages_speculative",
    "pages_throttled",
    "pages_wired",
    "pages_purgeable",
    "pages_file_backed",
    "pages_anonymous",
    "pages_compressor_stored",
    "pages_compressor_occupied",
    "faults",
    "pages_cow_faults",
    "pages_zero_filled",
    "pages_reactivated",
    "pages_purged",
    "pages_decompressed",
    "pages_compressed",
    "page_ins",
    "page_outs",
    "swap_ins",
    "swap_outs",
];

#[test]
fn the_one_shot_form_gives_every_row() {
    let lines = input(&fixture("one_shot.txt"), &[]);
    let record = one(&lines, "vmstat");
    let expected: [u64; 22] = [
        10_000,
        400_000,
        390_000,
        5000,
        10,
        120_000,
        11_000,
        295_000,
        500_000,
        330_000,
        110_000,
        6_000_000_001,
        170_000_002,
        4_000_000_003,
        21_000_004,
        2_000_005,
        7_000_006,
        16_000_007,
        49_000_008,
        1_000_009,
        11,
        12,
    ];
    for (name, expected) in COMMON.iter().zip(expected) {
        assert_eq!(record[name], expected, "{name}");
    }
    assert_eq!(record["page_size_bytes"], 16_384);
    assert_eq!(record["compressor_stored_bytes"], 330_000u64 * 16_384);
    assert_eq!(record["compressor_occupied_bytes"], 110_000u64 * 16_384);
    assert_eq!(record["consistent"], true);
    for absent in ["precision", "start_ts", "interval_s", "faults_per_s", "rows"] {
        assert!(record.get(absent).is_none(), "{absent}");
    }
    assert!(of(&lines, "lost").is_empty());
}

#[test]
fn each_oddity_of_the_format_is_read() {
    // File, samples, and of the last: field, value.
    for (name, samples, field, expected) in [
        ("tagged.txt", 1, "/rows/tagged_pages_active", 4321),
        ("tagged.txt", 1, "/rows/tagged_storage_pages_free", 99),
        ("tagged.txt", 1, "/pages_wired", 120_000),
        ("old_one_shot.txt", 1, "/rows/object_cache_lookups", 50),
        ("old_one_shot.txt", 1, "/page_outs", 1102),
        ("ten_columns.txt", 2, "/pages_zero_filled", 700_700),
        ("ten_columns.txt", 2, "/pages_wired", 40_010),
        ("eleven_columns.txt", 2, "/pages_speculative", 5001),
        ("eleven_columns.txt", 2, "/active_bytes", 1_247_000 * 4096),
        ("eleven_columns.txt", 2, "/precision/pages_active", 1000),
        ("eleven_columns.txt", 2, "/precision/pages_zero_filled", 1_000_000),
        ("eleven_columns.txt", 2, "/faults", 1_004_217_707),
        ("interval.txt", 4, "/pages_compressor_occupied", 110_000),
        ("interval.txt", 4, "/page_ins", 6004),
        ("interval.txt", 4, "/precision/faults", 1000),
        ("interval.txt", 4, "/faults", 505_014_150),
    ] {
        let lines = input(&fixture(name), &[]);
        let found = of(&lines, "vmstat");
        assert_eq!(found.len(), samples, "{name}");
        assert_eq!(
            found[samples - 1].pointer(field).and_then(Value::as_u64),
            Some(expected),
            "{name} {field}"
        );
        assert!(of(&lines, "lost").is_empty(), "{name}: {lines:?}");
    }
}

#[test]
fn pages_that_do_not_add_up_are_inconsistent() {
    let text = fs::read_to_string(fixture("one_shot.txt")).unwrap().replace("400000.", "400001.");
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("changed");
    fs::write(&path, text).unwrap();
    assert_eq!(one(&input(path.to_str().unwrap(), &[]), "vmstat")["consistent"], false);
}

#[test]
fn rates_use_the_given_interval() {
    let lines = input(&fixture("interval.txt"), &["-i", "2s"]);
    let found = of(&lines, "vmstat");
    assert!(found[0].get("faults_per_s").is_none());
    assert_eq!(number(found[1], "faults_per_s"), 50.0);
    assert_eq!(number(found[1], "interval_s"), 2.0);
    // Rows 1 and 3 have 505014K, so the increase in between is unknown.
    let faults: Vec<_> = found.iter().map(|record| (&record["faults"], &record["faults_per_s"])).collect();
    let expected =
        [(505_014_000, None), (505_014_100, Some(50.0)), (505_014_100, None), (505_014_150, Some(25.0))];
    assert_eq!(
        faults,
        expected.map(|(total, rate)| (json!(total), json!(rate))).each_ref().map(|(a, b)| (a, b))
    );
    assert_eq!(number(found[2], "pages_cow_faults_per_s"), 10.0);
    assert_eq!(number(found[3], "page_ins_per_s"), 0.0);
}

#[test]
fn unknown_lines_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("mixed");
    fs::write(
        &path,
        "uptime: 3 days\nMach Virtual Memory Statistics: (page size of 4096 bytes)\nPages free: 7.\n?\n",
    )
    .unwrap();
    let output = run(program!("vmstat-json"), &["--input", path.to_str().unwrap(), "-v"]);
    let lines = parse(&output.stdout);
    assert_eq!(
        (one(&lines, "lost")["count"].clone(), one(&lines, "vmstat")["pages_free"].clone()),
        (2.into(), 7.into())
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("not understood: uptime: 3 days"), "{stderr}");
    assert!(output.status.success());
}

#[test]
fn a_pipe_is_read_as_it_comes() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let mut child = Command::new(program!("vmstat-json"))
        .args(["--input", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let text = fs::read_to_string(fixture("ten_columns.txt")).unwrap();
    let mut given = text.lines();
    for line in given.by_ref().take(3) {
        writeln!(stdin, "{line}").unwrap();
    }
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["pages_free"], 10_000);
    writeln!(stdin, "{}", given.next().unwrap()).unwrap();
    let second: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(second["faults"], 500_500);
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

#[test]
fn every_recorded_vm_stat_is_understood() {
    let Some(samples) = samples() else { return };
    let mut seen = 0;
    for entry in fs::read_dir(samples.join("vm_stat")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "txt") || path.ends_with("README.txt") {
            continue;
        }
        let lines = input(path.to_str().unwrap(), &[]);
        assert!(of(&lines, "lost").is_empty(), "{path:?}: {lines:?}");
        let text = fs::read_to_string(&path).unwrap();
        let rows =
            text.lines().filter(|line| line.trim_start().starts_with(|c: char| c.is_ascii_digit())).count();
        let found = of(&lines, "vmstat");
        assert_eq!(found.len(), rows.max(1), "{path:?}");
        for record in found {
            // Older systems do not print all of these counts.
            let whole = record.get("pages_anonymous").is_some();
            assert_eq!(record.get("consistent"), whole.then_some(&Value::Bool(true)), "{path:?} {record}");
        }
        seen += 1;
    }
    assert!(seen >= 5, "{seen}");
}

fn tree(proc: &Path, sys: &Path, more: &[&str]) -> Vec<Value> {
    let roots = ["--proc-root", proc.to_str().unwrap(), "--sys-root", sys.to_str().unwrap(), "--once"];
    records(program!("vmstat-json"), &[&roots[..], more].concat())
}

#[test]
fn a_linux_tree_has_the_values_of_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let (proc, sys) = (dir.path().join("proc"), dir.path().join("sys"));
    fs::create_dir_all(&proc).unwrap();
    fs::create_dir_all(sys.join("block/zram0")).unwrap();
    fs::write(proc.join("stat"), "btime 1700000000\n").unwrap();
    let vmstat = "nr_free_pages 100\nnr_anon_pages 50\nnr_shmem 5\nnr_active_anon 7\nnr_active_file 8\npgfault 900\n\
        pgpgin 128\npswpin 3\nnr_brand_new 4\n";
    fs::write(proc.join("vmstat"), vmstat).unwrap();
    let meminfo = "MemTotal: 64000 kB\nAnonPages: 3200 kB\nHugePages_Total: 6\nHugepagesize: 2048 kB\n";
    fs::write(proc.join("meminfo"), meminfo).unwrap();
    fs::write(proc.join("swaps"), "Filename Type Size Used Priority\n/dev/sda2 partition 1000 10 -2\n")
        .unwrap();
    fs::write(sys.join("block/zram0/mm_stat"), "655360 1000 131072 0 131072 2 0 0 0\n").unwrap();
    let lines = tree(&proc, &sys, &[]);
    let record = one(&lines, "vmstat");
    for (pointer, expected) in [
        // 3200 kB in 50 pages, so pages have 64 KiB.
        ("/page_size_bytes", 65_536),
        ("/pages_free", 100),
        ("/free_bytes", 6_553_600),
        ("/pages_active", 15),
        ("/pages_anonymous", 55),
        ("/faults", 900),
        ("/page_ins", 2),
        ("/swap_ins", 3),
        ("/pages_compressor_stored", 10),
        ("/pages_compressor_occupied", 2),
        ("/vmstat/nr_brand_new", 4),
        ("/meminfo/mem_total_bytes", 65_536_000),
        ("/meminfo/huge_pages_total", 6),
        ("/meminfo/hugepagesize_bytes", 2_097_152),
    ] {
        assert_eq!(record.pointer(pointer).and_then(Value::as_u64), Some(expected), "{pointer}: {record}");
    }
    assert_eq!(record["start_ts"], "2023-11-14T22:13:20.000000000Z");
    for absent in ["pages_speculative", "pages_inactive", "pages_wired", "pages_cow_faults"] {
        assert!(record.get(absent).is_none(), "{absent}");
    }
    let swap = one(&lines, "swap");
    assert_eq!((swap["used_bytes"].as_u64(), swap["priority"].as_i64()), (Some(10_240), Some(-2)));
    assert_eq!(one(&lines, "zram")["compressed_bytes"], 1000);
}

#[test]
fn recorded_trees_are_read_whole() {
    let Some(samples) = samples() else { return };
    let proc = samples.join("procfs/live_6.18_vm/t0");
    let lines = tree(&proc, &samples.join("sysfs/live_6.18_vm_cpu0"), &[]);
    let record = one(&lines, "vmstat");
    let text = fs::read_to_string(proc.join("vmstat")).unwrap();
    for line in text.lines() {
        let (name, value) = line.split_once(' ').unwrap();
        assert_eq!(record["vmstat"][name].to_string(), value.trim(), "{name}");
    }
    assert_eq!(record["page_size_bytes"], 4096);
    let rows = fs::read_to_string(proc.join("meminfo")).unwrap().lines().count();
    assert_eq!(record["meminfo"].as_object().unwrap().len(), rows);
}

#[test]
fn a_cgroup_is_read_by_folder_and_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("fs/cgroup/app.slice");
    fs::create_dir_all(&folder).unwrap();
    fs::write(dir.path().join("fs/cgroup/cgroup.controllers"), "memory\n").unwrap();
    let stat = "anon 8192\nfile 20480\nshmem 4096\nactive_anon 4096\nactive_file 8192\npgfault 77\nworkingset_nodes 2\n";
    fs::write(folder.join("memory.stat"), stat).unwrap();
    fs::write(folder.join("memory.current"), "40960\n").unwrap();
    fs::write(folder.join("memory.max"), "max\n").unwrap();
    for path in ["/app.slice", "app.slice", folder.to_str().unwrap()] {
        let lines = tree(dir.path(), dir.path(), &["--cgroup", path]);
        let record = one(&lines, "vmstat");
        assert_eq!(record["cgroup"], path);
        assert_eq!(record["anonymous_bytes"], 12_288);
        assert_eq!(
            (record["file_backed_bytes"].as_u64(), record["faults"].as_u64()),
            (Some(16_384), Some(77))
        );
        assert_eq!(record["memory_stat"]["memory_current_bytes"], 40_960);
        assert!(record["memory_stat"].get("memory_max_bytes").is_none());
        assert!(record.get("vmstat").is_none());
    }
    // One that disappears has a status; one that never existed is wrong usage, as for the tracers.
    fs::remove_file(folder.join("memory.stat")).unwrap();
    let gone = tree(dir.path(), dir.path(), &["--cgroup", "/app.slice"]);
    assert_eq!(one(&gone, "status")["reason"], "absent");
}

#[test]
fn a_cgroup_that_is_not_there_is_wrong_usage() {
    let dir = tempfile::tempdir().unwrap();
    let wrong = |expected: &str| {
        let root = dir.path().to_str().unwrap();
        let args = ["--proc-root", root, "--sys-root", root, "--once", "--cgroup", "/nope"];
        let output = run(program!("vmstat-json"), &args);
        assert_eq!((output.status.code(), output.stdout.len()), (Some(2), 0));
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert!(stderr.starts_with("vmstat-json: --cgroup /nope: ") && stderr.contains(expected), "{stderr}");
    };
    wrong("");
    fs::create_dir_all(dir.path().join("fs/cgroup")).unwrap();
    fs::write(dir.path().join("fs/cgroup/cgroup.controllers"), "memory\n").unwrap();
    wrong(&dir.path().join("fs/cgroup/nope").display().to_string());
}

/// The output of procps' `vmstat -s` and `free -b`, by its words.
fn procps() -> (HashMap<String, u64>, HashMap<String, u64>) {
    let text = |program: &str, arg: &str| {
        let output = Command::new(program).arg(arg).output().expect("procps");
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = text("vmstat", "-s");
    let totals = lines.lines().filter_map(|line| {
        let (value, name) = line.trim().split_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    });
    let free = text("free", "-b");
    let mut free = free.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let names: Vec<String> = free.next().unwrap().into_iter().map(str::to_owned).collect();
    let memory = free.next().unwrap();
    let memory = names.into_iter().zip(memory[1..].iter().map(|value| value.parse().unwrap()));
    (totals.collect(), memory.collect())
}

#[test]
fn this_machine_lies_between_two_runs_of_procps() {
    let (before, free_before) = procps();
    let lines = records(program!("vmstat-json"), &["--once"]);
    let (after, free_after) = procps();
    let record = one(&lines, "vmstat");
    for (field, name) in [
        ("/vmstat/pgpgin", "K paged in"),
        ("/vmstat/pgpgout", "K paged out"),
        ("/swap_ins", "pages swapped in"),
    ] {
        let value = record.pointer(field).and_then(Value::as_u64).unwrap();
        assert!((before[name]..=after[name]).contains(&value), "{field}: {value} {before:?} {after:?}");
    }
    assert_eq!(record["meminfo"]["mem_total_bytes"], free_before["total"]);
    // Other processes change these in between, by much less than this.
    for (name, word) in [("mem_free_bytes", "free"), ("mem_available_bytes", "available")] {
        let value = number(&record["meminfo"], name);
        let [one, other] = [free_before[word] as f64, free_after[word] as f64];
        let near = one.min(other) - 512e6..=one.max(other) + 512e6;
        assert!(near.contains(&value), "{name}: {value}, {near:?}");
    }
}

#[test]
fn faults_of_a_known_number_are_counted() {
    let look = || number(one(&records(program!("vmstat-json"), &["--once"]), "vmstat"), "faults");
    // Minor and major faults of this process, from its stat file.
    let own = || {
        let stat = fs::read_to_string("/proc/self/stat").unwrap();
        let fields: Vec<u64> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .skip(1)
            .map(|n| n.parse().unwrap_or(0))
            .collect();
        fields[6] + fields[8]
    };
    let (before, own_before) = (look(), own());
    std::hint::black_box(vec![1u8; 64 << 20]);
    let (own_after, after) = (own(), look());
    assert!(after - before >= (own_after - own_before) as f64, "{before} {after} {own_before} {own_after}");
}

#[test]
fn the_second_sample_has_rates() {
    let lines = records(program!("vmstat-json"), &["-n", "2", "-i", "100ms"]);
    let [first, second] = of(&lines, "vmstat")[..] else { panic!("{lines:?}") };
    assert!(first.get("faults_per_s").is_none() && first.get("growth_per_s").is_none());
    let expected = (number(second, "faults") - number(first, "faults")) / number(second, "interval_s");
    assert!((number(second, "faults_per_s") - expected).abs() < 0.01 + expected * 1e-4);
    let rate = second["growth_per_s"]["pgfault"].as_f64().unwrap();
    assert!((rate - number(second, "faults_per_s")).abs() < 1e-6);
}
