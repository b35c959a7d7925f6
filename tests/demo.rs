//! `scripts/demo` as a new user runs it, with the programs under test instead of a release build.
#![cfg(feature = "sqlite")]

mod support;

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use telepipe::record::body_schema;
use telepipe::record::kind;

const DEMO: &str = include_str!("../scripts/demo");

/// The kinds that the demo shows, each with its columns.
fn shown() -> impl Iterator<Item = (&'static str, Vec<&'static str>)> {
    let (_, list) = DEMO.split_once("done <<END\n").unwrap();
    let (list, _) = list.split_once("\nEND\n").unwrap();
    list.lines().map(|line| {
        let (kind, columns) = line.split_once(' ').unwrap();
        (kind, columns.split(' ').collect())
    })
}

fn script(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Runs a line in the repository. cargo has nothing to build there, and without root sudo refuses.
fn run(line: &str, dir: &Path) -> Output {
    let path = format!("{}:{}", dir.join("bin").display(), std::env::var("PATH").unwrap());
    let mut command = Command::new("timeout");
    command.args(["60", "bash", "-c", line]).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.env("PATH", path).env("CARGO_TARGET_DIR", dir.join("target"));
    command.env("XDG_DATA_HOME", dir.join("data")).env_remove("SUDO_USER").output().unwrap()
}

fn sqlite(database: &Path, sql: &str) -> String {
    let output = Command::new("sqlite3").arg(database).arg(sql).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn it_shows_every_kind_that_it_has_stored() {
    // scripts/test installs what the demo needs; a test alone installs nothing.
    if support::require_env("TELEPIPE_PYTHON").is_none() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (bin, release) = (dir.path().join("bin"), dir.path().join("target/release"));
    std::fs::create_dir_all(&bin).unwrap();
    std::fs::create_dir_all(&release).unwrap();
    for program in ["scrape", "iolat", "tele-ship"] {
        std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin(program), release.join(program)).unwrap();
    }
    script(&bin.join("cargo"), &format!("[ \"$1\" = build ] || exec '{}' \"$@\"", env!("CARGO")));
    if !rustix::process::geteuid().is_root() {
        script(&bin.join("sudo"), "exit 1");
    }

    let output = run("scripts/demo", dir.path());
    let (text, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stderr}");

    let database = dir.path().join("data/telepipe/telemetry.db");
    let tables = sqlite(&database, "SELECT name FROM sqlite_master WHERE type = 'table'");
    let tables: Vec<_> = tables.lines().filter(|name| kind(name).is_some()).collect();
    assert!(["cpu", "memory", "disk", "load"].iter().all(|name| tables.contains(name)), "{tables:?}");
    for table in tables {
        let count = sqlite(&database, &format!("SELECT count(*) FROM \"{table}\""));
        let heading = format!("{table} (records: {}; the newest:)\n", count.trim());
        assert!(text.contains(&heading), "{heading}{text}");
    }
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    if let Some(total) = meminfo.split_whitespace().nth(1) {
        let total = (total.parse::<u64>().unwrap() * 1024).to_string();
        assert!(text.contains(&total), "no {total} in {text}");
    }

    let (_, further) = text.split_once("Look further:\n").unwrap();
    assert!(further.lines().count() >= 3, "{further}");
    for line in further.lines() {
        let output = run(line, dir.path());
        // On an idle disk iolat has nothing to report.
        assert!(!output.stdout.is_empty() || line.contains("iolat"), "{line}");
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn what_it_shows_exists() {
    let mut kinds = 0;
    for (name, columns) in shown() {
        let schema = body_schema(kind(name).unwrap_or_else(|| panic!("there is no {name}")));
        for column in columns {
            assert_ne!(schema["properties"][column], Value::Null, "{name} has no {column}");
        }
        kinds += 1;
    }
    assert!(kinds >= 15, "{kinds}");
}
