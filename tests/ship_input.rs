//! `tele-ship --map`, `--preset`, `--follow` and `--replay`, and the end of an input that is cut off.

mod support;

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::stored::integer;
use support::{Ended, Ship, program, skip};

/// The log records in what `--stdout` wrote.
fn logs(stdout: &[u8]) -> Vec<Value> {
    let list = |value: &Value, name: &str| value[name].as_array().cloned().unwrap_or_default();
    let batches = stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let batches = batches.map(|line| serde_json::from_slice(line).expect("OTLP/JSON"));
    let resources = batches.flat_map(|batch: Value| list(&batch, "resourceLogs"));
    let add_resource = |resource: Value| {
        let scopes = list(&resource, "scopeLogs");
        let records = scopes.iter().flat_map(|scope| list(scope, "logRecords")).collect::<Vec<_>>();
        records.into_iter().map(move |mut record| {
            record["resource"] = resource["resource"].clone();
            record
        })
    };
    resources.flat_map(add_resource).collect()
}

/// The bodies of log records that are strings.
fn bodies(stdout: &[u8]) -> Vec<String> {
    logs(stdout).iter().map(|log| log["body"]["stringValue"].as_str().expect("a string").to_owned()).collect()
}

/// An attribute of a log record or of its resource.
fn attribute(of: &Value, key: &str) -> Value {
    let all = of["attributes"].as_array().cloned().unwrap_or_default();
    let found: Vec<_> = all.iter().filter(|pair| pair["key"] == key).collect();
    assert!(found.len() <= 1, "{key} twice: {of}");
    let Some(pair) = found.first() else { return Value::Null };
    let value = &pair["value"];
    if value["intValue"].is_null() {
        value.get("stringValue").unwrap_or(value).clone()
    } else {
        integer(&value["intValue"]).into()
    }
}

fn counts(ended: &Ended) -> [u64; 5] {
    ["read", "delivered", "empty", "rejected", "dead_lettered"].map(|name| ended.count(name))
}

fn reasons(path: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(format!("{}.reasons", path.display())).unwrap();
    let reason = |line| serde_json::from_str::<Value>(line).unwrap()["reason"].as_str().unwrap().to_owned();
    text.lines().map(reason).collect()
}

const MAP: &str = r#"if .level == "off" then empty
    elif .parts then .parts[] | {kind: "log", ts: "2026-11-20T20:45:00Z", body: .}
    elif .bare then .bare
    elif .fail then {kind: "log", body: "never"}, (.fail | error)
    else {kind: "log", ts: "2026-11-20T20:45:00Z", severity: .level, body: .msg} end"#;

#[test]
fn a_map_makes_records_of_lines_and_each_line_has_an_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let dead = dir.path().join("dead");
    let bad = [r#"{"fail":"x"}"#, "no JSON", r#"{"bare":[1]}"#];
    let input = format!(
        "{}\n{}\n\n{}\n{}\n{}\n{}\n{}",
        r#"{"level":"warn","msg":"one"}"#,
        bad[0],
        r#"{"level":"off"}"#,
        r#"{"parts":["two","three","four"]}"#,
        bad[1],
        bad[2],
        r#"{"parts":[]}"#
    );
    let args = ["--stdout", "--map", MAP, "--dead-letter", dead.to_str().unwrap()];
    let ended = Ship::run(&args, &input);
    assert_eq!(bodies(&ended.stdout), ["one", "two", "three", "four"]);
    assert_eq!(logs(&ended.stdout)[0]["severityNumber"], 13);
    assert_eq!((ended.code, counts(&ended)), (Some(1), [9, 4, 2, 0, 3]));
    let kept = std::fs::read_to_string(&dead).unwrap();
    assert_eq!(kept.lines().collect::<Vec<_>>(), bad, "as they came");
    assert_eq!(reasons(&dead).len(), 3);

    // What was refused can be delivered by a better map.
    let better =
        ["--stdout", "--map", r#"{kind: "log", body: "\(.fail)"}"#, "--input", dead.to_str().unwrap()];
    let ended = Ship::run(&better, "");
    assert_eq!((counts(&ended), bodies(&ended.stdout)), ([3, 2, 0, 1, 0], vec!["x".into(), "null".into()]));
}

#[test]
fn a_map_gives_every_generic_kind() {
    let map = r#"{kind: "metric", ts: .t, name: "n", value: .v}, {kind: "log", ts: .t, body: .v},
        {kind: "span", ts: .t, begin_ts: .t, name: "s", trace_id: ("1" * 32), span_id: ("1" * 16)}"#;
    let ended = Ship::run(&["--stdout", "--map", map], r#"{"t":"2026-11-20T20:45:00Z","v":5}"#);
    assert_eq!((ended.code, counts(&ended)), (Some(0), [3, 3, 0, 0, 0]));
    let text = String::from_utf8(ended.stdout).unwrap();
    for signal in ["resourceMetrics", "resourceLogs", "resourceSpans"] {
        assert!(text.contains(signal), "{signal}: {text}");
    }
}

#[test]
fn a_map_that_loops_or_is_wrong_harms_only_its_lines() {
    let map = r#"def forever: forever; if .loop then forever else {kind: "log", body: .n} end"#;
    let input = "{\"n\":\"a\"}\n{\"loop\":1}\n{\"n\":\"b\"}\n";
    let ended = Ship::run(&["--stdout", "--map", map], input);
    assert_eq!((counts(&ended), bodies(&ended.stdout)), ([3, 2, 0, 1, 0], vec!["a".into(), "b".into()]));
    for args in [&["--map", ".a | nosuch"][..], &["--map", ".", "--preset", "journald"], &["--follow"]] {
        let ended = Command::new(program!("tele-ship")).arg("--stdout").args(args).output().unwrap();
        assert_eq!(ended.status.code(), Some(2), "{args:?}");
    }
}

#[test]
fn an_output_may_be_as_long_as_a_line_but_no_longer() {
    let map = r#"{kind: "log", body: ("x" * .n)}"#;
    let input = "{\"n\":3000000}\n{\"n\":5000000}\n{\"n\":2}\n";
    let ended = Ship::run(&["--stdout", "--map", map, "--max-line", "4MiB"], input);
    let lengths: Vec<_> = bodies(&ended.stdout).iter().map(String::len).collect();
    assert_eq!((counts(&ended), lengths), ([3, 2, 0, 1, 0], vec![3_000_000, 2]));
}

#[test]
fn a_line_that_the_end_of_input_cuts_off_is_refused_for_that_reason() {
    let dir = tempfile::tempdir().unwrap();
    let run = |input: &str, name: &str| {
        let dead = dir.path().join(name);
        let ended = Ship::run(&["--stdout", "--dead-letter", dead.to_str().unwrap()], input);
        assert_eq!(std::fs::read_to_string(&dead).unwrap(), "{\"kind\":\"log\",\"body\":\"2\n", "{name}");
        assert_eq!((counts(&ended), bodies(&ended.stdout)), ([2, 1, 0, 0, 1], vec!["1".to_owned()]));
        reasons(&dead)
    };
    let whole = "{\"kind\":\"log\",\"body\":\"1\"}\n{\"kind\":\"log\",\"body\":\"2";
    let (cut, bad) = (run(whole, "cut"), run(&format!("{whole}\n"), "bad"));
    assert_ne!(cut, bad);

    let [first, second] = ["first", "second"].map(|name| dir.path().join(name));
    std::fs::write(&first, whole).unwrap();
    std::fs::write(&second, "{\"kind\":\"log\",\"body\":\"3\"}").unwrap();
    let dead = dir.path().join("files");
    let paths = [&first, &second, &dead].map(|path| path.to_str().unwrap());
    let args = ["--stdout", "--dead-letter", paths[2], "--input", paths[0], paths[1]];
    let ended = Ship::run(&args, "");
    assert_eq!((counts(&ended), bodies(&ended.stdout)), ([3, 2, 0, 0, 1], vec!["1".into(), "3".into()]));
    assert_eq!(reasons(&dead), cut, "the end of a file");
}

/// An entry in the journal's export format.
fn export(fields: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.extend_from_slice(name.as_bytes());
        if value.iter().all(|byte| (b' '..0x7f).contains(byte)) {
            out.push(b'=');
        } else {
            out.push(b'\n');
            out.extend_from_slice(&(value.len() as u64).to_le_bytes());
        }
        out.extend_from_slice(value);
        out.push(b'\n');
    }
    out.push(b'\n');
    out
}

/// What journalctl prints for a journal with these entries.
fn journalctl(dir: &Path, entries: &[u8], options: &[&str]) -> Option<Vec<u8>> {
    let file = dir.join("test.journal");
    let programs = ["/usr/lib/systemd/systemd-journal-remote", "/lib/systemd/systemd-journal-remote"];
    let Some(remote) = programs.iter().find(|path| Path::new(path).exists()) else {
        skip("systemd-journal-remote is not installed");
        return None;
    };
    let mut command = Command::new(remote);
    command.arg("-o").arg(&file).arg("-").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(entries).unwrap();
    assert!(child.wait().unwrap().success());
    let output =
        Command::new("journalctl").arg("--file").arg(&file).args(["-o", "json"]).args(options).output();
    Some(output.expect("journalctl").stdout)
}

#[test]
fn the_journal_becomes_log_records() {
    let dir = tempfile::tempdir().unwrap();
    let boot: (&str, &[u8]) = ("_BOOT_ID", b"0123456789abcdef0123456789abcdef");
    let long = vec![b'x'; 10_000];
    let monotonic: (&str, &[u8]) = ("__MONOTONIC_TIMESTAMP", b"1000");
    let entries = [
        export(&[
            ("__REALTIME_TIMESTAMP", b"1764288000123456"),
            monotonic,
            boot,
            ("MESSAGE", "Grüße".as_bytes()),
            ("PRIORITY", b"3"),
            ("_HOSTNAME", b"web1"),
            ("_MACHINE_ID", b"aaaabbbbccccddddaaaabbbbccccdddd"),
            ("_PID", b"4242"),
            ("_UID", b"1000"),
            ("_COMM", b"sshd"),
            ("_EXE", b"/usr/sbin/sshd"),
            ("_CMDLINE", b"sshd: root [priv]"),
            ("_SYSTEMD_CGROUP", b"/system.slice/ssh.service"),
            ("_SYSTEMD_UNIT", b"ssh.service"),
            ("_TRANSPORT", b"syslog"),
            ("SYSLOG_FACILITY", b"10"),
            ("CODE_FILE", b"a.c"),
            ("CODE_LINE", b"17"),
            ("CODE_FUNC", b"main"),
            ("TID", b"4243"),
        ]),
        export(&[
            ("__REALTIME_TIMESTAMP", b"1764288000123457"),
            monotonic,
            boot,
            ("MESSAGE", b"a\xffb\x01"),
            ("PRIORITY", b"6"),
        ]),
        export(&[
            ("__REALTIME_TIMESTAMP", b"1764288000123458"),
            monotonic,
            boot,
            ("MESSAGE", b"one"),
            ("MESSAGE", b"two"),
            ("SYSLOG_IDENTIFIER", b"backup"),
            ("TAG", b"x"),
            ("TAG", b"y\xff"),
        ]),
        export(&[
            ("__REALTIME_TIMESTAMP", b"1764288000123459"),
            monotonic,
            boot,
            ("MESSAGE", &long),
            ("PRIORITY", b"0"),
        ]),
        export(&[("__REALTIME_TIMESTAMP", b"1764288000123460"), monotonic, boot, ("PRIORITY", b"7")]),
    ]
    .concat();
    let Some(lines) = journalctl(dir.path(), &entries, &[]) else { return };
    assert_eq!(lines.iter().filter(|byte| **byte == b'\n').count(), 5);
    assert!(String::from_utf8_lossy(&lines).contains("\"MESSAGE\":null"), "a long field is null");

    let ended = Ship::run(&["--stdout", "--preset", "journald"], &lines);
    assert_eq!((ended.code, counts(&ended)), (Some(0), [5, 5, 0, 0, 0]));
    // Each service is a resource of its own.
    let by_time = |stdout: &[u8]| {
        let mut logs = logs(stdout);
        logs.sort_by_key(|log| integer(&log["timeUnixNano"]));
        logs
    };
    let logs = by_time(&ended.stdout);
    let times: Vec<_> = logs.iter().map(|log| integer(&log["timeUnixNano"])).collect();
    assert_eq!(times, (0..5).map(|n| 1_764_288_000_123_456_000 + n * 1000).collect::<Vec<_>>());
    // OpenTelemetry's numbers for syslog's priorities.
    let severities: Vec<_> = logs.iter().map(|log| log["severityNumber"].as_u64().unwrap_or(0)).collect();
    assert_eq!(severities, [17, 9, 0, 21, 5]);
    let bodies: Vec<_> = logs.iter().map(|log| log["body"]["stringValue"].as_str()).collect();
    assert_eq!(bodies[0], Some("Grüße"));
    assert_eq!(bodies[1], Some("a\u{fffd}b\u{1}"));
    let mut values: Vec<_> = bodies[2].unwrap().lines().collect();
    values.sort_unstable();
    assert_eq!((values, bodies[3], bodies[4]), (vec!["one", "two"], None, None));

    let first = &logs[0];
    for (key, value) in [
        ("process.pid", json!(4242)),
        ("process.user.id", json!(1000)),
        ("thread.id", json!(4243)),
        ("code.line.number", json!(17)),
        ("code.file.path", json!("a.c")),
        ("code.function.name", json!("main")),
        ("process.executable.name", json!("sshd")),
        ("process.executable.path", json!("/usr/sbin/sshd")),
        ("process.command_line", json!("sshd: root [priv]")),
        ("process.linux.cgroup", json!("/system.slice/ssh.service")),
        ("journald.systemd_unit", json!("ssh.service")),
        ("journald.boot_id", json!("0123456789abcdef0123456789abcdef")),
        ("journald.transport", json!("syslog")),
        ("journald.syslog_facility", json!("10")),
    ] {
        assert_eq!(attribute(first, key), value, "{key}");
    }
    assert_eq!(attribute(&first["resource"], "host.name"), "web1");
    let services: Vec<_> = logs.iter().map(|log| attribute(&log["resource"], "service.name")).collect();
    assert_eq!(services, ["ssh", "telepipe", "backup", "telepipe", "telepipe"]);
    assert_eq!(attribute(&first["resource"], "host.id"), "aaaabbbbccccddddaaaabbbbccccdddd");
    assert_eq!(first["attributes"].as_array().unwrap().len(), 14, "{first}");
    let tags = attribute(&logs[2], "journald.tag");
    let tags = tags["arrayValue"]["values"].as_array().expect("an array");
    let mut tags: Vec<_> = tags.iter().map(|tag| tag["stringValue"].as_str().unwrap()).collect();
    tags.sort_unstable();
    assert_eq!(tags, ["x", "y\u{fffd}"]);

    let Some(all) = journalctl(dir.path(), &[], &["--all"]) else { return };
    let ended = Ship::run(&["--stdout", "--preset", "journald"], &all);
    assert_eq!(by_time(&ended.stdout)[3]["body"]["stringValue"].as_str().map(str::len), Some(10_000));
}

fn log(n: usize) -> String {
    format!("{{\"kind\":\"log\",\"ts\":\"2026-11-20T20:45:00Z\",\"body\":\"{n}\"}}\n")
}

fn append(path: &Path, text: &str) {
    File::options().append(true).create(true).open(path).unwrap().write_all(text.as_bytes()).unwrap();
}

fn numbers(ended: &Ended) -> Vec<usize> {
    bodies(&ended.stdout).iter().map(|body| body.parse().unwrap()).collect()
}

#[test]
fn followed_files_are_read_through_rotation_and_truncation() {
    let dir = tempfile::tempdir().unwrap();
    let [a, old, b] = ["a", "a.1", "b"].map(|name| dir.path().join(name));
    let fourth = log(4);
    std::fs::write(&a, format!("{}{}{}{}", log(1), log(2), log(3), &fourth[..20])).unwrap();
    let args = ["--stdout", "--batch-age", "50ms", "--stats", "100ms", "--follow", "--input"];
    let ship = Ship::start(&[&args[..], &[a.to_str().unwrap(), b.to_str().unwrap()]].concat());
    ship.wait_for_count("delivered", 3);
    append(&a, &fourth[20..]);
    ship.wait_for_count("delivered", 4);

    // The program that writes the log goes on with the renamed file for a while.
    std::fs::rename(&a, &old).unwrap();
    append(&a, &log(5));
    ship.wait_for_count("delivered", 5);
    append(&old, &log(6));
    ship.wait_for_count("delivered", 6);

    File::options().write(true).open(&a).unwrap().set_len(0).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    append(&a, &log(7));
    ship.wait_for_count("delivered", 7);

    // A file that appears later, with a line that is longer than what is read at once and comes in two parts.
    let long = log(8).replace("}\n", &format!(",\"pad\":\"{}\"}}\n", "x".repeat(900_000)));
    append(&b, &long[..600_000]);
    append(&a, &log(9));
    ship.wait_for_count("delivered", 8);
    append(&b, &long[600_000..]);
    append(&b, &log(10));
    ship.wait_for_count("delivered", 10);

    // What is there at the signal is still read; the start of a line is not.
    append(&b, &format!("{}{}", log(11), &fourth[..20]));
    ship.signal(Signal::TERM);
    let ended = ship.wait();
    assert_eq!((ended.code, ended.lines()), (Some(0), [11, 11, 0, 0, 0]));
    let mut all = numbers(&ended);
    assert_eq!(all[..7], [1, 2, 3, 4, 5, 6, 7]);
    all.sort_unstable();
    assert_eq!(all, (1..=11).collect::<Vec<_>>());
}

#[test]
fn with_a_spool_a_restart_goes_on_where_the_files_were_read() {
    let dir = tempfile::tempdir().unwrap();
    let [a, old, spool] = ["a", "a.1", "spool"].map(|name| dir.path().join(name));
    let args = ["--stdout", "--batch-age", "50ms", "--stats", "100ms", "--spool", spool.to_str().unwrap()];
    let args = [&args[..], &["--follow", "--input", a.to_str().unwrap()]].concat();
    let run = |count: u64, change: &dyn Fn()| {
        let ship = Ship::start(&args);
        if count > 0 {
            ship.wait_for_count("delivered", count);
        } else {
            std::thread::sleep(Duration::from_secs(1));
        }
        change();
        ship.signal(Signal::TERM);
        let ended = ship.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        numbers(&ended)
    };
    append(&a, &log(1));
    append(&a, &log(2));
    assert_eq!(run(2, &|| ()), [1, 2]);
    assert_eq!(run(0, &|| ()), [0; 0], "nothing is new");
    // The file is rotated while nothing reads it.
    append(&a, &log(3));
    std::fs::rename(&a, &old).unwrap();
    append(&a, &log(4));
    assert_eq!(run(2, &|| append(&a, &log(5))), [3, 4, 5]);
    // Another file with the same name, and perhaps the same inode.
    std::fs::remove_file(&old).unwrap();
    std::fs::remove_file(&a).unwrap();
    append(&a, &format!("{}{}{}", log(16), log(17), log(18)));
    assert_eq!(run(3, &|| ()), [16, 17, 18]);
}

/// Every file of a folder.
fn contents(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let entries = std::fs::read_dir(dir).unwrap();
    let mut files: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn a_spool_can_be_replayed_without_a_change_and_in_spite_of_damage() {
    let dir = tempfile::tempdir().unwrap();
    let spool = dir.path().join("spool");
    let folder = spool.to_str().unwrap();
    let closed = format!("http://127.0.0.1:{}", support::free_port());
    let mut ship = Ship::start(&["--otlp", &closed, "--spool", folder, "--drain", "500ms"]);
    for half in [0..500, 500..1000] {
        ship.feed(half.map(log).collect::<String>());
        std::thread::sleep(Duration::from_millis(500));
    }
    assert_eq!(ship.end().code, Some(1), "the lines stay");
    let before = contents(&spool);
    let replay = || Ship::run(&["--stdout", "--replay", folder], "");
    let ended = replay();
    assert_eq!((ended.code, numbers(&ended)), (Some(0), (0..1000).collect()));
    assert!(contents(&spool) == before, "the spool has changed");

    let segment =
        &before.iter().find(|(path, _)| path.extension().is_some_and(|it| it == "ndjson")).unwrap().0;
    let file = File::options().write(true).open(segment).unwrap();
    file.write_all_at(b"7", log(0).find("0\"}").unwrap() as u64).unwrap();
    append(segment, "{\"torn\":");
    let ended = replay();
    assert_eq!(ended.code, Some(1), "damage is no success");
    let whole = numbers(&ended);
    assert!(
        whole.len() >= 500 && whole.is_sorted() && whole.iter().all(|n| (1..1000).contains(n)),
        "{whole:?}"
    );
    assert_eq!(ended.count("rejected"), 0);

    std::fs::remove_file(segment.with_extension("index")).unwrap();
    let ended = replay();
    assert_eq!(
        (ended.code, ended.lines()),
        (Some(1), [1001, 1000, 1, 0, 0]),
        "without checksums, all is read"
    );
    let same = Command::new(program!("tele-ship"))
        .args(["--stdout", "--spool", folder, "--replay", folder])
        .output();
    assert_eq!(same.unwrap().status.code(), Some(2));
}

#[test]
fn files_of_otlp_json_are_replayed_oldest_first() {
    let dir = tempfile::tempdir().unwrap();
    let otlp = |n: usize| {
        let record = json!({"timeUnixNano": "1764288000123456789", "body": {"stringValue": n.to_string()}});
        format!("{}\n", json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [record]}]}]}))
    };
    let gzip = |text: String| {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        out.write_all(text.as_bytes()).unwrap();
        out.finish().unwrap()
    };
    let zstd = |text: String| zstd::encode_all(text.as_bytes(), 3).unwrap();
    let files = [
        ("z.json", (otlp(0) + &otlp(1)).into_bytes()),
        ("y.jsonl.gz", [gzip(otlp(2)), gzip(otlp(3))].concat()),
        ("x.json.zst", zstd(otlp(4))),
        ("a.ndjson", otlp(5).trim_end().to_owned().into_bytes()),
        ("b.txt", b"not read\n".to_vec()),
        ("c.json", otlp(6).into_bytes()),
    ];
    for (age, (name, bytes)) in files.iter().enumerate() {
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + age as u64);
        File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
    }
    let folder = dir.path().to_str().unwrap();
    let ended = Ship::run(&["--stdout", "--replay", folder], "");
    assert_eq!((ended.code, numbers(&ended)), (Some(0), (0..7).collect()));

    // A file that is cut off: what comes before is delivered.
    std::fs::write(dir.path().join("d.json.gz"), &gzip(otlp(8).repeat(1000))[..60]).unwrap();
    let ended = Ship::run(&["--stdout", "--replay", folder], "");
    assert_eq!((ended.code, &numbers(&ended)[..7]), (Some(1), &[0, 1, 2, 3, 4, 5, 6][..]));
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    assert_eq!(Ship::run(&["--stdout", "--replay", empty.to_str().unwrap()], "").code, Some(1));
}
