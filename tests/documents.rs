//! What README, man pages and help tell a reader to type is run here, as it stands: only the hosts, the folders
//! and the long waits are made small, and `sudo` and `ssh` are stood in for.

mod support;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use support::{Answer, Capture};

const README: &str = include_str!("../README.md");
const PROGRAMS: [&str; 8] =
    ["scrape", "vmstat-json", "pmstat", "iolat", "schedlat", "pagefault-trace", "syscall-trace", "tele-ship"];

/// A folder with our programs, and a `sudo` and an `ssh` that run the command here, and a Mac's
/// `vm_stat` and `powermetrics`.
fn prepare(dir: &Path) {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    for program in PROGRAMS {
        std::os::unix::fs::symlink(assert_cmd::cargo::cargo_bin(program), bin.join(program)).unwrap();
    }
    let vm_stat = concat!("exec cat ", env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/vm_stat/interval.txt");
    let powermetrics =
        concat!("exec cat ", env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/powermetrics/apple.plist");
    std::fs::write(dir.join("powermetrics.txt"), include_str!("fixtures/powermetrics/apple.txt")).unwrap();
    let scripts = [
        ("sudo", "exec \"$@\""),
        ("ssh", "shift 1\nexec \"$@\""),
        ("vm_stat", vm_stat),
        ("powermetrics", powermetrics),
    ];
    for (name, script) in scripts {
        use std::os::unix::fs::PermissionsExt;
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    std::fs::write(dir.join(".otlp-headers"), "Authorization: Bearer nobody\n").unwrap();
}

/// Runs it as a shell would, and interrupts it after some seconds as a person would.
fn type_in(script: &str, dir: &Path, server: &str) -> Output {
    let script = script
        .replace("http://collector:4318", server)
        .replace("http://localhost:9100", server)
        .replace("https://otel.example.com", server)
        .replace("http://db1:9100", server)
        .replace("http://db2:9100", server)
        .replace("/var/lib/telepipe", ".")
        .replace("-i 60s", "-i 1s")
        .replace("-i 15s", "-i 1s")
        // Interrupted, jq would lose what it holds back for a reader that is no terminal.
        .replace("jq -", "jq --unbuffered -");
    // `timeout` signals its child, then the group: a shell that stays keeps the second from the program.
    let script = format!("{script}\nexit $?");
    let bin = dir.join("bin");
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    Command::new("timeout")
        .args(["--signal=INT", "--kill-after=10", "4", "bash", "-c", &script])
        .current_dir(dir)
        .env("PATH", path)
        .env("HOME", dir)
        .env("XDG_DATA_HOME", dir)
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", server)
        .output()
        .unwrap()
}

/// The indented blocks of a section of the README.
fn blocks(section: &str) -> Vec<String> {
    let (_, rest) = README.split_once(&format!("## {section}\n")).unwrap();
    let text = rest.split("\n## ").next().unwrap();
    let paragraphs = text.split("\n\n").filter(|paragraph| paragraph.trim_matches('\n').starts_with("    "));
    paragraphs.map(|block| block.lines().map(|line| format!("{}\n", line.trim())).collect()).collect()
}

/// The command lines under EXAMPLES of a program's help, which are those of its man page.
fn examples(program: &str) -> Vec<String> {
    let help = Command::new(assert_cmd::cargo::cargo_bin(program)).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, rest) = help.split_once("Examples:\n").unwrap();
    rest.lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(str::to_owned)
        .collect()
}

/// Writes to the disk below the build, several times a second, for as long as it lives.
struct BusyDisk {
    stop: Arc<AtomicBool>,
    writer: Option<JoinHandle<()>>,
}

impl BusyDisk {
    fn start() -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::clone(&stop);
        let writer = std::thread::spawn(move || {
            let mut file = tempfile::tempfile_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
            while !asked.load(Ordering::Relaxed) {
                file.write_all(&[0; 4096]).unwrap();
                file.sync_data().unwrap();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Self { stop, writer: Some(writer) }
    }
}

impl Drop for BusyDisk {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

/// Each file below, how long it is, and when it was written.
fn contents(dir: &Path) -> Vec<(PathBuf, u64, Option<SystemTime>)> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        let about = entry.metadata().unwrap();
        if about.is_dir() {
            files.extend(contents(&entry.path()));
        }
        files.push((entry.path(), about.len(), about.modified().ok()));
    }
    files.sort();
    files
}

fn check(script: &str, dir: &Path) {
    let tracer =
        ["iolat", "schedlat", "pagefault-trace", "syscall-trace"].iter().any(|name| script.contains(name));
    if tracer && !support::require_root() {
        return;
    }
    let server = Capture::with(|request| {
        let metrics = "# TYPE node_load1 gauge\nnode_load1 0.5\n";
        if request.path == "/metrics" { Answer::ok().body(metrics) } else { Answer::ok() }
    });
    // An idle disk has nothing to tell.
    let _busy = script.contains("iolat").then(BusyDisk::start);
    let before = contents(dir);
    let output = type_in(script, dir, &server.url());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(code == Some(0) || code == Some(124), "{script}: {code:?}\n{stderr}");
    for line in stderr.lines() {
        let fine = [
            "no destination was named",
            "records written",
            "lines read",
            "jq: error: writing output",
            "calls that wait by design are left out",
        ];
        assert!(fine.iter().any(|text| line.contains(text)) || line.trim().is_empty(), "{script}: {stderr}");
    }
    let stored = contents(dir) != before;
    let sent = !server.requests().is_empty();
    let stdout = String::from_utf8_lossy(&output.stdout);
    let empty = stdout.lines().find(|line| *line == "null" || line.contains(":null"));
    assert_eq!(empty, None, "{script}: picks what a record does not have");
    // Slow requests and full file systems may not exist in these seconds.
    let rare = script.contains("--events") || script.contains("> 0.9");
    assert!(rare || stored || sent || !output.stdout.is_empty(), "{script}: nothing came of it");
}

#[test]
fn the_pipelines_of_the_readme_run() {
    let blocks = blocks("One pipeline per wish");
    assert!(blocks.len() >= 8, "{blocks:?}");
    for block in blocks {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        check(&block, dir.path());
    }
}

#[test]
fn the_programs_can_be_installed() {
    let line = README.lines().find(|line| line.trim().starts_with("sudo install ")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let installed = dir.path().join("installed");
    std::fs::create_dir(&installed).unwrap();
    let built = assert_cmd::cargo::cargo_bin("scrape");
    let line = line
        .replace("target/release", built.parent().unwrap().to_str().unwrap())
        .replace("/usr/local/bin", installed.to_str().unwrap());
    let output = type_in(&line, dir.path(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for program in PROGRAMS {
        let version = Command::new(installed.join(program)).arg("--version").output().unwrap();
        assert!(version.stdout.starts_with(program.as_bytes()), "{program}: {version:?}");
    }
}

#[test]
fn the_examples_of_the_man_pages_run() {
    for program in PROGRAMS {
        let examples = examples(program);
        assert!(!examples.is_empty(), "{program} has no examples");
        // One may look at what the one before has stored.
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        for example in examples {
            check(&example, dir.path());
        }
    }
}

/// A page as `man` prints it: each section once, in the order that man-pages(7) and ours have.
#[test]
fn a_man_page_has_each_section_once() {
    for program in PROGRAMS {
        let page = Command::new(assert_cmd::cargo::cargo_bin(program)).args(["--generate", "man"]).output();
        let page = String::from_utf8(page.unwrap().stdout).unwrap();
        let headings = page.lines().filter_map(|line| line.strip_prefix(".SH "));
        let headings: Vec<_> = headings.map(|heading| heading.trim_matches('"')).collect();
        let once: std::collections::BTreeSet<_> = headings.iter().collect();
        assert_eq!(once.len(), headings.len(), "{program}: {headings:?}");
        let mut rest = headings.iter();
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "FIELDS",
            "EXAMPLES",
            "OVERHEAD",
            "CAVEATS",
            "SEE ALSO",
        ] {
            assert!(rest.any(|heading| *heading == section), "{program}: {section} of {headings:?}");
        }
    }
}

/// What the documents name is there: paths in backquotes, NAME being that of a program that has such a part.
#[test]
fn files_that_the_documents_name_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for text in [README, include_str!("../CONTRIBUTING.md")] {
        let folders = ["src/", "tests/", "bpf/", "man/", "scripts/", "./scripts/", ".ci/"];
        for quoted in text.split('`').skip(1).step_by(2) {
            let path = quoted.split(' ').next().unwrap();
            if !folders.iter().any(|folder| path.starts_with(folder)) {
                continue;
            }
            let stands_for =
                ["iolat", "io", "disk", "sqlite"].map(|name| root.join(path.replace("NAME", name)));
            assert!(stands_for.iter().any(|path| path.exists()), "there is no {path}");
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}
