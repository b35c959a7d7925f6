//! Runs every example of the README, the man pages and the help as written, with stand-ins for what another machine
//! has: `sudo`, `ssh`, the servers, a Mac's programs. Long intervals are shortened.

mod support;

use std::io::Write as _;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use support::{Answer, Capture, GrpcServer};

const README: &str = include_str!("../README.md");
const PROGRAMS: [&str; 8] =
    ["scrape", "vmstat-json", "pmstat", "iolat", "schedlat", "pagefault-trace", "syscall-trace", "tele-ship"];

/// Makes a folder with the programs that the README installs, a `sudo` and an `ssh` that run the command here, and a
/// Mac's `vm_stat` and `powermetrics`, and a `journalctl` that prints one entry. It is the home directory too.
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
    std::fs::write(dir.join("app.log"), "{\"time\":\"2026-11-20T20:45:00Z\",\"msg\":\"ready\"}\n").unwrap();
    let journalctl = r#"echo '{"__REALTIME_TIMESTAMP":"1764288000123456","MESSAGE":"ready"}'"#;
    let scripts = [
        ("sudo", "exec \"$@\""),
        ("ssh", "shift 1\nexec \"$@\""),
        ("vm_stat", vm_stat),
        ("powermetrics", powermetrics),
        ("journalctl", journalctl),
    ];
    for (name, script) in scripts {
        let path = bin.join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let secret = dir.join(".otlp-headers");
    std::fs::write(&secret, "Authorization: Bearer nobody\n").unwrap();
    std::fs::set_permissions(secret, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Runs a script in a shell, and interrupts it after some seconds as a user would.
fn run(script: &str, dir: &Path, server: &str) -> Output {
    let script = script
        .replace("http://collector:4318", server)
        .replace("http://localhost:9100", server)
        .replace("https://otel.example.com", server)
        .replace("http://clickhouse:8123", server)
        .replace("http://db1:9100", server)
        .replace("http://db2:9100", server)
        .replace("-i 60s", "-i 1s")
        .replace("-i 50s", "-i 1s")
        .replace("--duration 60s", "--duration 2s")
        .replace("-i 15s", "-i 1s")
        // When interrupted, jq loses what it buffers for a reader that is not a terminal.
        .replace("jq -", "jq --unbuffered -");
    // The shell stays, so that it is the child that `timeout` signals.
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

/// A fenced block of the README: its commands, and the lines that it shows as their output.
struct Block {
    commands: String,
    shown: Vec<String>,
}

/// The `sh` and `console` blocks of a section. In a `console` block, commands begin with `$`.
fn blocks(section: &str) -> Vec<Block> {
    let (_, rest) = README.split_once(&format!("## {section}\n")).unwrap();
    let text = rest.split("\n## ").next().unwrap();
    let fences = text.split("```").skip(1).step_by(2);
    fences
        .map(|fence| {
            let (language, body) = fence.split_once('\n').unwrap();
            let (commands, shown): (Vec<_>, Vec<_>) =
                body.lines().partition(|line| language == "sh" || line.starts_with("$ "));
            assert!(["sh", "console"].contains(&language), "{language}");
            let commands = commands.iter().map(|line| format!("{}\n", line.trim_start_matches("$ ")));
            Block { commands: commands.collect(), shown: shown.into_iter().map(str::to_owned).collect() }
        })
        .collect()
}

/// The names of the fields of a JSON object; the number of columns of any other line.
fn shape(line: &str) -> String {
    match serde_json::from_str(line) {
        Ok(serde_json::Value::Object(fields)) => fields.keys().cloned().collect::<Vec<_>>().join(","),
        _ => line.split(['|', ' ', '\t']).filter(|word| !word.is_empty()).count().to_string(),
    }
}

/// The command lines under EXAMPLES in a program's help, which are those in its man page.
fn examples(program: &str) -> Vec<String> {
    let help = Command::new(assert_cmd::cargo::cargo_bin(program)).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (_, rest) = help.split_once("Examples:\n").unwrap();
    rest.lines()
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .map(str::to_owned)
        .collect()
}

/// Writes to the disk of the build folder several times a second until it is dropped.
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
                // Read from the disk, not from the page cache.
                rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
                file.read_exact_at(&mut [0; 4096], 0).unwrap();
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

/// Every file below, with its length and the time of its last change.
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

/// Runs a script, checks that it succeeds and that something came of it, and gives its stdout.
fn check(script: &str, dir: &Path) -> Option<String> {
    let tracer =
        ["iolat", "schedlat", "pagefault-trace", "syscall-trace"].iter().any(|name| script.contains(name));
    if tracer && !support::require_root() {
        return None;
    }
    let server = Capture::with(|request| {
        let metrics = "# TYPE node_load1 gauge\nnode_load1 0.5\n";
        match () {
            () if request.path == "/metrics" => Answer::ok().body(metrics),
            // ClickHouse is asked for its time zone first, then for the columns of a table.
            () if request.body.starts_with(b"SELECT concat('zone ") => {
                Answer::ok().body("zone UTC\nversion 26.9\n")
            }
            () if request.body.starts_with(b"DESCRIBE") => {
                Answer::ok().body(r#"{"name":"ts","type":"DateTime64(9)"}"#)
            }
            () => Answer::ok(),
        }
    });
    const GRPC: &str = "grpc://localhost:4317";
    let grpc = if script.contains(GRPC) { Some(GrpcServer::script(&[])?) } else { None };
    let script = &grpc.as_ref().map_or_else(|| script.to_owned(), |grpc| script.replace(GRPC, &grpc.url()));
    // On an idle disk iolat has nothing to report.
    let _busy = script.contains("iolat").then(BusyDisk::start);
    let before = contents(dir);
    let output = run(script, dir, &server.url());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let code = output.status.code();
    assert!(code == Some(0) || code == Some(124), "{script}: {code:?}\n{stderr}");
    for line in stderr.lines() {
        let fine = [
            "records written",
            "lines read",
            "jq: error: writing output",
            "calls that wait by design",
            // With a filter, status records go to stderr.
            "\"kind\":\"status\"",
        ];
        assert!(fine.iter().any(|text| line.contains(text)) || line.trim().is_empty(), "{script}: {stderr}");
    }
    let stored = contents(dir) != before;
    let sent = !server.requests().is_empty() || grpc.is_some_and(|grpc| !grpc.requests().is_empty());
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let empty = stdout.lines().find(|line| *line == "null" || line.contains(":null"));
    assert_eq!(empty, None, "{script}: selects a field that no record has");
    // There may be no slow request, no full file system and, in a virtual machine, no energy counter.
    let no_counters = script.contains("pmstat") && stderr.contains("\"source\":\"/sys/class/powercap\"");
    // A filter may select nothing; the status record on stderr then shows that the program measured.
    let measured = stderr.contains("\"reason\":\"active\"");
    let rare = script.contains("--events") || script.contains("> 0.9") || no_counters || measured;
    assert!(rare || stored || sent || !output.stdout.is_empty(), "{script}: no output, no file, no request");
    Some(stdout)
}

#[test]
fn the_examples_of_the_readme_run() {
    let blocks = blocks("Examples");
    assert!(blocks.len() >= 8);
    assert!(blocks.iter().filter(|block| !block.shown.is_empty()).count() >= 4);
    for block in blocks {
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        let Some(stdout) = check(&block.commands, dir.path()) else { continue };
        // The output in the README must have the fields, or columns, of the real output.
        let printed: Vec<_> = stdout.lines().map(shape).collect();
        for line in &block.shown {
            assert!(printed.contains(&shape(line)), "{}shows {line}\nprints {stdout}", block.commands);
        }
    }
}

#[test]
fn the_programs_and_pages_can_be_installed() {
    let block = blocks("Install").remove(0).commands;
    let dir = tempfile::tempdir().unwrap();
    prepare(dir.path());
    let installed = dir.path().join("installed");
    std::fs::create_dir(&installed).unwrap();
    let built = assert_cmd::cargo::cargo_bin("scrape");
    let lines = block.lines().filter(|line| line.starts_with("sudo install "));
    let script: String = lines.map(|line| format!("{line} || exit 1\n")).collect();
    let script = script
        .replace("target/release", built.parent().unwrap().to_str().unwrap())
        .replace("/usr/local/share/man", &format!("{}/man", installed.display()))
        .replace("/usr/local/bin", installed.to_str().unwrap())
        .replace(" man/*", concat!(" ", env!("CARGO_MANIFEST_DIR"), "/man/*"));
    let output = run(&script, dir.path(), "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    for program in PROGRAMS {
        let version = Command::new(installed.join(program)).arg("--version").output().unwrap();
        assert!(version.stdout.starts_with(program.as_bytes()), "{program}: {version:?}");
        assert!(installed.join(format!("man/man1/{program}.1")).is_file(), "{program}");
    }
    assert!(installed.join("man/man7/telepipe.7").is_file());
}

#[test]
fn the_examples_of_the_man_pages_run() {
    for program in PROGRAMS {
        let examples = examples(program);
        assert!(!examples.is_empty(), "{program} has no examples");
        // An example may query what the one before it stored.
        let dir = tempfile::tempdir().unwrap();
        prepare(dir.path());
        for example in examples {
            check(&example, dir.path());
        }
    }
}

fn generated(program: &str, what: &str) -> String {
    let output =
        Command::new(assert_cmd::cargo::cargo_bin(program)).args(["--generate", what]).output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn headings(page: &str) -> Vec<&str> {
    page.lines()
        .filter_map(|line| line.strip_prefix(".SH "))
        .map(|heading| heading.trim_matches('"'))
        .collect()
}

/// The overview lists each program and each kind of record with the programs that write it, and the shared options.
#[test]
fn the_overview_is_complete() {
    let page = generated("scrape", "overview").replace("\\-", "-");
    let once: std::collections::BTreeSet<_> = headings(&page).into_iter().collect();
    assert_eq!(once.len(), headings(&page).len());
    for section in
        ["NAME", "RECORDS", "SHARED OPTIONS", "FILTER", "EXIT STATUS", "SIGNALS", "ENVIRONMENT", "SEE ALSO"]
    {
        assert!(once.contains(section), "{section} of {once:?}");
    }
    for program in PROGRAMS {
        let schema: serde_json::Value = serde_json::from_str(&generated(program, "schema")).unwrap();
        for kind in schema["$defs"].as_object().unwrap().keys() {
            let line = page.lines().find(|line| line.starts_with(&format!("\\fB{kind}\\fR (")));
            assert!(line.is_some_and(|line| line.contains(&format!("{program}(1)"))), "{kind}: {line:?}");
        }
    }
    for option in
        ["interval", "count", "once", "duration", "filter", "raw-output", "filter-all", "host", "proc-root"]
    {
        assert!(page.contains(&format!("--{option}")), "{option}");
    }
}

/// Each option of each page has a description.
#[test]
fn no_option_is_without_text() {
    for program in PROGRAMS {
        for what in ["man", "overview"] {
            let page = generated(program, what);
            let lines: Vec<_> = page.lines().collect();
            for option in lines.windows(3).filter(|lines| lines[0] == ".TP") {
                let text = option[2].trim();
                assert!(!text.is_empty() && text != ".TP", "{program} {what}: {}", option[1]);
            }
        }
    }
}

/// -h fits on a screen, and each option has its line.
#[test]
fn the_short_help_fits_a_screen() {
    for program in PROGRAMS {
        let help = Command::new(assert_cmd::cargo::cargo_bin(program)).arg("-h").output().unwrap();
        let lines = String::from_utf8(help.stdout).unwrap().lines().count();
        assert!((15..=44).contains(&lines), "{program}: {lines}");
    }
}

/// Each section once, in the order of man-pages(7).
#[test]
fn a_man_page_has_each_section_once() {
    for program in PROGRAMS {
        let page = generated(program, "man");
        let headings = headings(&page);
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

/// Paths in backquotes exist, where NAME is any of the names of a program, a record or a collector.
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
            let names = ["iolat", "io", "disk", "sqlite"].map(|name| root.join(path.replace("NAME", name)));
            assert!(names.iter().any(|path| path.exists()), "there is no {path}");
            count += 1;
        }
    }
    assert!(count > 15, "{count}");
}
