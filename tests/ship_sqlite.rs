//! `tele-ship --sqlite`: what `sqlite3` reads from the tables is what was in the lines.

#![cfg(all(feature = "http", feature = "sqlite"))]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::{Value, json};
use support::tables::{assert_stored, sqlite3};
use support::{Answer, Capture, Ship, SmallDisk, poll, program};

const WAIT: Duration = Duration::from_secs(20);

/// Lines with unusual values, fields and kinds.
fn odd_lines() -> String {
    let record = |fields: Value| {
        let mut record = json!({ "ts": "2026-11-20T20:45:00.000000001Z", "kind": "odd", "host": "h" });
        record.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        format!("{record}\n")
    };
    let mut lines = String::new();
    for fields in [
        json!({ "i": 1, "f": 0.1, "s": "text", "b": true, "a": [1, 2.5, "x", null], "m": { "k": { "l": [] } }, "n": null }),
        json!({ "i": -9_223_372_036_854_775_808_i64, "f": 1e308, "s": "", "b": false, "a": [], "m": {} }),
        json!({ "i": 9_223_372_036_854_775_807_i64, "f": 5e-324, "s": "it's\n\"q\" | \u{1F600}\u{0}end" }),
        json!({ "i": 18_446_744_073_709_551_615_u64, "f": 3 }),
        json!({ "i": "0012", "f": "1e5", "s": 12, "b": "true", "a": "[1]", "m": 1.5 }),
        json!({ "i": 0.1, "f": true, "s": [1], "b": 2, "a": { "x": 1 }, "m": [] }),
        json!({ "I": 1, "S": "other", "s": "own", "TS": "not ts", "Host": 1 }),
        json!({ "": 1, "a b": 2, "q\"u'o`t[e]": "x", "select": 3, "rowid": 4, "ünï": 5, "^x": 6, "^text:s": 7, "nul\u{0}": 8 }),
        json!({ "big": 9_007_199_254_740_993_i64, "third": 0.333_333_333_333_333_3, "whole": 5.0 }),
    ] {
        lines += &record(fields);
    }
    for kind in ["Odd", "ODD", "other", "sqlite_x", "", "a\"b'c", "^odd", "load ", "nul\u{0}"] {
        lines += &record(json!({ "kind": kind, "x": 1 }));
    }
    lines
        + "{}\n{\"kind\":\"Pod\",\"spec\":{\"a\":[1]}}\n {\"resourceLogs\":[]} \n{\"ts\":\"2026-11-20T20:45:00Z\",\"x\":1}\n"
}

#[test]
fn every_value_reads_back_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let path = db.to_str().unwrap();
    let output = Command::new(program!("scrape")).args(["-n", "3", "-i", "200ms"]).output().unwrap();
    let mut lines = output.stdout;
    lines.extend_from_slice(odd_lines().as_bytes());
    let ended = Ship::run(&["--sqlite", path, "--batch-lines", "7"], &lines);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let count = assert_stored(&db, &lines) as u64;
    assert_eq!((ended.count("delivered"), ended.count("accepted_items")), (count, count));
    assert!(count > 50);

    // The tables and columns of a second run are those of the first.
    let schema = sqlite3(&db, ".schema");
    let ended = Ship::run(&["--sqlite", path], &lines);
    assert_eq!((ended.code, ended.count("delivered")), (Some(0), count));
    assert_eq!(sqlite3(&db, ".schema"), schema);
    assert_stored(&db, &[lines.as_slice(), &lines].concat());
}

#[test]
fn our_kinds_have_their_types_and_an_index() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let line = r#"{"ts":"2026-11-20T20:45:00Z","kind":"load","host":"h","load_1m":1,"new":"x"}"#;
    assert_eq!(Ship::run(&["--sqlite", db.to_str().unwrap()], line).code, Some(0));
    let columns = sqlite3(&db, "SELECT name || ' ' || type FROM pragma_table_info('load')");
    let declared =
        ["ts TEXT", "host TEXT", "load_1m REAL", "load_5m REAL", "load_15m REAL", "running_tasks INTEGER"];
    assert_eq!(columns[..6], declared);
    assert_eq!(columns.last().unwrap(), "new TEXT");
    assert_eq!(sqlite3(&db, "SELECT typeof(load_1m) FROM load"), ["real"]);
    let plan = sqlite3(&db, "EXPLAIN QUERY PLAN SELECT * FROM load WHERE ts > '2026' ORDER BY ts");
    assert!(plan.iter().any(|step| step.contains("USING INDEX")), "{plan:?}");
}

#[test]
fn new_fields_become_columns_of_a_table_that_exists() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let record =
        |fields: &str| format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"k\",\"host\":\"h\"{fields}}}\n");
    Ship::run(&["--sqlite", db.to_str().unwrap()], record(",\"a\":1"));
    let mut ship = Ship::start(&["--sqlite", db.to_str().unwrap(), "--batch-age", "50ms"]);
    ship.feed(record(",\"a\":2,\"b\":\"x\""));
    assert!(poll(WAIT, || (sqlite3(&db, "SELECT count(*) FROM k") == ["2"]).then_some(())).is_some());
    // Somebody else changes the table meanwhile.
    assert!(
        Command::new("sqlite3")
            .arg(&db)
            .arg("ALTER TABLE k ADD COLUMN c INTEGER")
            .status()
            .unwrap()
            .success()
    );
    ship.feed(record(",\"c\":7,\"d\":[1]"));
    assert_eq!(ship.end().code, Some(0));
    assert_eq!(sqlite3(&db, "SELECT a, b, c, d FROM k ORDER BY rowid"), ["1|||", "2|x||", "||7|[1]"]);
}

#[test]
fn others_can_read_and_lock_while_it_writes() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let mut ship = Ship::start(&["--sqlite", db.to_str().unwrap(), "--batch-age", "20ms"]);
    let record = |n| format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"k\",\"host\":\"h\",\"n\":{n}}}\n");
    ship.feed(record(0));
    assert!(
        poll(WAIT, || db
            .exists()
            .then(|| sqlite3(&db, "SELECT count(*) FROM sqlite_schema WHERE name = 'k'"))
            .filter(|count| count == &["1"]))
        .is_some()
    );
    assert_eq!(sqlite3(&db, "PRAGMA journal_mode"), ["wal"]);
    let mut seen = 0;
    for n in 1..50 {
        ship.feed(record(n));
        let [rows, sum] = sqlite3(&db, "SELECT count(*), sum(n) FROM k")[0]
            .split('|')
            .map(|n| n.parse::<i64>().unwrap())
            .collect::<Vec<_>>()[..]
        else {
            panic!()
        };
        assert!(rows >= seen && sum == rows * (rows - 1) / 2, "{rows} rows with sum {sum} after {seen}");
        seen = rows;
        std::thread::sleep(Duration::from_millis(10));
    }
    // A writer that holds its lock for longer than one attempt waits.
    let locked = dir.path().join("locked");
    let hold = format!(
        "BEGIN IMMEDIATE; INSERT INTO k (n) VALUES (-1);\n.shell touch {}; sleep 2.5\nROLLBACK;\n",
        locked.display()
    );
    let script = dir.path().join("hold.sql");
    std::fs::write(&script, hold).unwrap();
    let mut other =
        Command::new("sqlite3").arg(&db).arg(format!(".read {}", script.display())).spawn().unwrap();
    poll(WAIT, || locked.exists().then_some(())).expect("the lock");
    ship.feed(record(50));
    let ended = ship.end();
    assert!(other.wait().unwrap().success());
    assert_eq!((ended.code, ended.lines()), (Some(0), [51, 51, 0, 0, 0]), "{}", ended.stderr);
    assert!(ended.count("retries") > 0 && ended.stderr.contains("locked"), "{}", ended.stderr);
    assert_eq!(sqlite3(&db, "SELECT count(*), sum(n) FROM k"), ["51|1275"]);
}

#[test]
fn a_full_disk_is_waited_for() {
    let Some(disk) = SmallDisk::mount("8m") else { return };
    let (db, ballast) = (disk.path().join("a.db"), disk.path().join("ballast"));
    std::fs::write(&ballast, vec![0; 7600 << 10]).unwrap();
    let line = |n| {
        format!(
            "{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"k\",\"host\":\"h\",\"n\":{n},\"text\":\"{n:0>99}\"}}\n"
        )
    };
    let lines: String = (0..6000).map(line).collect();
    let args = [
        "--sqlite",
        db.to_str().unwrap(),
        "--batch-lines",
        "100",
        "--queue-bytes",
        "64KiB",
        "--stats",
        "200ms",
    ];
    let mut ship = Ship::start(&args);
    let (mut stdin, rest) = (ship.take_stdin(), lines.clone());
    let feeder = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, rest.as_bytes()).unwrap());
    ship.wait_for("full");
    let full = Instant::now();
    let before = integers(&db, "SELECT count(*) FROM k")[0];
    assert!(before > 0 && before < 6000, "{before}");
    // Nothing more is read, and it is reported again after some 10 s, not at every attempt.
    let count = || ship.stderr().matches("full").count();
    poll(WAIT, || (count() > 1).then_some(())).expect("a second report");
    assert!((9..20).contains(&full.elapsed().as_secs()), "{:?}", full.elapsed());
    let read = |records: &[Value]| records.last().unwrap()["read"].as_u64().unwrap();
    let stopped = read(&ship.records());
    std::thread::sleep(Duration::from_secs(1));
    assert!(read(&ship.records()) == stopped && !feeder.is_finished(), "{stopped}");
    assert_eq!(count(), 2);
    std::fs::remove_file(&ballast).unwrap();
    feeder.join().unwrap();
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(0), [6000, 6000, 0, 0, 0]), "{}", ended.stderr);
    assert_stored(&db, lines.as_bytes());
}

/// `SELECT` of one row of integers.
fn integers(db: &Path, sql: &str) -> Vec<i64> {
    let row = sqlite3(db, sql).remove(0);
    row.split('|').map(|cell| cell.parse().unwrap_or_else(|_| panic!("{sql}: {row}"))).collect()
}

/// The `n`th of many lines of three kinds, one of them rare and large.
fn numbered(n: u64) -> String {
    let (kind, bytes) = match n % 100 {
        0 => ("rare", 4000),
        1..10 => ("some", 500),
        _ => ("many", 300),
    };
    let ts = format!("2026-11-20T20:{:02}:{:02}.{:03}Z", n / 60_000, n / 1000 % 60, n % 1000);
    format!("{{\"ts\":\"{ts}\",\"kind\":\"{kind}\",\"host\":\"h\",\"n\":{n},\"text\":\"{n:0bytes$}\"}}\n")
}

const MIB: i64 = 1 << 20;

#[test]
fn the_newest_rows_stay_within_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let args = ["--sqlite", db.to_str().unwrap(), "--max-size", "4MiB"];
    let (mut ship, mut written, mut n) = (Ship::start(&args), 0, 0);
    let mut watched = 0;
    while written < 40 * MIB {
        let chunk: String = (n..n + 2000).map(numbered).collect();
        (n, written) = (n + 2000, written + chunk.len() as i64);
        ship.feed(&chunk);
        // A reader is not disturbed, and finds whole batches.
        if db.exists() && sqlite3(&db, "SELECT count(*) FROM sqlite_schema WHERE name = 'rare'") == ["1"] {
            let sql = "SELECT max(n) - min(n) + 1, count(*), (SELECT page_count * page_size FROM pragma_page_count, \
                       pragma_page_size) FROM (SELECT n FROM rare UNION ALL SELECT n FROM some UNION ALL SELECT n FROM many)";
            let [range, count, bytes] = integers(&db, sql)[..] else { panic!() };
            assert!(range == count && bytes <= 4 * MIB, "{range} {count} {bytes}");
            watched += 1;
        }
    }
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(0), [n, n, 0, 0, 0]), "{}", ended.stderr);
    assert!(watched > 5, "{watched}");
    // What is left is the end of the input, without a gap, and takes most of the size.
    let all = "(SELECT n FROM rare UNION ALL SELECT n FROM some UNION ALL SELECT n FROM many)";
    let [first, last, count] =
        integers(&db, &format!("SELECT min(n), max(n), count(DISTINCT n) FROM {all}"))[..]
    else {
        panic!()
    };
    assert_eq!((last, count), (n as i64 - 1, n as i64 - first));
    assert!(count > 3_000, "{count} rows");
    assert_eq!(sqlite3(&db, "PRAGMA integrity_check"), ["ok"]);
    for file in [&db, &dir.path().join("a.db-wal")] {
        let bytes = std::fs::metadata(file).map_or(0, |file| file.len() as i64);
        assert!(bytes <= 8 * MIB, "{bytes} bytes of {}", file.display());
    }
}

/// The file becomes smaller little by little. One from before `auto_vacuum` does not grow, and its pages are used again.
#[test]
fn a_file_that_is_too_large_does_not_grow() {
    for vacuum in ["", "PRAGMA auto_vacuum = none; VACUUM"] {
        too_large(vacuum);
    }
}

fn too_large(vacuum: &str) {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let args = ["--sqlite", db.to_str().unwrap(), "--batch-lines", "500", "--max-size", "4MiB"];
    assert_eq!(Ship::run(&args[..2], (0..30_000).map(numbered).collect::<String>()).code, Some(0));
    let pages = "SELECT page_count * page_size, (page_count - freelist_count) * page_size \
                 FROM pragma_page_count, pragma_page_size, pragma_freelist_count";
    assert!(Command::new("sqlite3").arg(&db).arg(vacuum).status().unwrap().success());
    let [before, _] = integers(&db, pages)[..] else { panic!() };
    assert!(before > 8 * MIB, "{before}");
    assert_eq!(Ship::run(&args, (30_000..40_000).map(numbered).collect::<String>()).code, Some(0));
    let [after, used] = integers(&db, pages)[..] else { panic!() };
    let expected = if vacuum.is_empty() { 3 * MIB..=4 * MIB } else { before..=before };
    assert!(expected.contains(&after) && used <= 4 * MIB, "{before} {after} {used}");
    let [first, last, count] = integers(&db, "SELECT min(n), max(n), count(*) FROM some")[..] else {
        panic!()
    };
    // The newest rows of the kind, of which there are nine in a hundred lines.
    assert!(last == 39_909 && count > 100 && (last - first) * 9 <= 100 * count, "{first} {last} {count}");
}

#[test]
fn old_rows_are_deleted_only_if_asked() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let line = |days: i64, kind: &str| {
        let ts = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24 * days);
        format!("{{\"ts\":\"{ts}\"{kind},\"days\":{days}}}\n")
    };
    let lines: String = (0..12).flat_map(|days| [line(days, ""), line(days, ",\"kind\":\"k\"")]).collect();
    let args = ["--sqlite", db.to_str().unwrap(), "--keep", "7.5d"];
    assert_eq!(Ship::run(&args[..2], &lines).count("delivered"), 24);
    let days = "SELECT count(*), max(days) FROM k";
    let other = "SELECT count(*), max(json ->> 'days') FROM other";
    assert_eq!((integers(&db, days), integers(&db, other)), (vec![12, 11], vec![12, 11]));
    let ended = Ship::run(&args, &lines);
    assert_eq!((ended.code, ended.lines()), (Some(0), [24, 24, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!((integers(&db, days), integers(&db, other)), (vec![16, 7], vec![16, 7]));
}

#[test]
fn bounds_that_cannot_work_are_mistakes() {
    for args in [&["--sqlite", "/tmp/x.db", "--max-size", "3MiB"][..], &["--stdout", "--keep", "1d"]] {
        assert_eq!(Ship::start(args).wait().code, Some(2), "{args:?}");
    }
}

/// The write-ahead log is part of the size: writing waits for a reader that keeps it from being emptied.
#[test]
fn a_reader_in_a_transaction_is_waited_for_within_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let [db, reading, script] = ["a.db", "reading", "script"].map(|name| dir.path().join(name));
    let args = ["--sqlite", db.to_str().unwrap(), "--max-size", "4MiB"];
    assert_eq!(Ship::run(&args, (0..2000).map(numbered).collect::<String>()).code, Some(0));
    let count = "SELECT count(*) FROM many;";
    let hold =
        format!("BEGIN; {count}\n.shell touch {}; sleep 6\n{count} COMMIT; {count}\n", reading.display());
    std::fs::write(&script, hold).unwrap();
    let mut reader = Command::new("sqlite3");
    reader.args(["-readonly", "-cmd", ".timeout 5000"]).arg(&db).arg(format!(".read {}", script.display()));
    let reader = reader.stdout(std::process::Stdio::piped()).spawn().unwrap();
    poll(WAIT, || reading.exists().then_some(())).expect("the reader");
    let mut ship = Ship::start(&[&args[..], &["--batch-lines", "500"]].concat());
    ship.feed((2000..32_000).map(numbered).collect::<String>());
    ship.wait_for("write-ahead log");
    let log = std::fs::metadata(dir.path().join("a.db-wal")).unwrap();
    assert!(log.len() as i64 <= 6 * MIB, "{}", log.len());
    // As the database, it is only for its owner.
    assert_eq!(log.permissions().mode() & 0o777, 0o600);
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(0), [30_000, 30_000, 0, 0, 0]), "{}", ended.stderr);
    let seen = String::from_utf8(reader.wait_with_output().unwrap().stdout).unwrap();
    let seen: Vec<i64> = seen.lines().map(|line| line.parse().unwrap()).collect();
    assert!(seen.len() == 3 && seen[0] == seen[1], "{seen:?}");
    assert_eq!(integers(&db, "SELECT max(n) FROM many"), [31_999]);
    assert!(std::fs::metadata(&db).unwrap().len() as i64 <= 4 * MIB);
}

/// A line that would take most of the database does not delete everything else.
#[test]
fn a_line_larger_than_the_database_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let args = ["--sqlite", db.to_str().unwrap(), "--max-size", "4MiB"];
    let large = format!(
        "{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"many\",\"text\":\"{}\"}}\n",
        "x".repeat(5 << 20)
    );
    let ended = Ship::run(&args, [numbered(11), large, numbered(12)].concat());
    assert_eq!((ended.code, ended.lines()), (Some(1), [3, 2, 1, 0, 0]), "{}", ended.stderr);
    assert_eq!(sqlite3(&db, "SELECT n FROM many ORDER BY n"), ["11", "12"]);
}

const SPANS: &str = concat!(
    r#"{"ts":"2026-11-20T20:45:01.000000250Z","kind":"span","host":"h","trace_id":"0af7651916cd43dd8448eb211c80319c","#,
    r#""span_id":"b7ad6b7169203331","name":"check","begin_ts":"2026-11-20T20:45:00Z","status":"error","#,
    r#""status_message":"no","span_kind":"client","attributes":{"a":1}}"#,
    "\n",
    r#"{"resourceSpans":[{"resource":{"attributes":[{"key":"host.name","value":{"stringValue":"web"}},"#,
    r#"{"key":"service.name","value":{"stringValue":"shop"}}]},"scopeSpans":[{"scope":{"name":"lib","version":"2"},"spans":["#,
    r#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b174","parentSpanId":"eee19b7ec3c1b173","#,
    r#""name":"pay","kind":2,"startTimeUnixNano":"1795207500000000000","endTimeUnixNano":"1795207502500000001","#,
    r#""attributes":[{"key":"n","value":{"intValue":"7"}},{"key":"l","value":{"arrayValue":{"values":[{"doubleValue":0.5}]}}}],"#,
    r#""events":[{"timeUnixNano":"1795207501000000000","name":"e"}],"status":{"code":2,"message":"broke"}},"#,
    r#"{"traceId":"5b8efff798038103d269b633813fc60c","spanId":"eee19b7ec3c1b173","name":"root","#,
    r#""startTimeUnixNano":"1795207500000000000","endTimeUnixNano":"1795207500000000000"}]}]}]}"#,
    "\n",
    r#"{"resourceSpans":[{"scopeSpans":[{"spans":[{"spanId":"not hexadecimal"}]}]}]}"#,
    "\n",
    r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"body":{"stringValue":"x"}}]}]}]}"#,
);

#[test]
fn spans_of_any_form_are_rows_of_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let ended = Ship::run(&["--sqlite", db.to_str().unwrap()], SPANS);
    assert_eq!((ended.code, ended.lines()), (Some(0), [4, 4, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(ended.count("accepted_items"), 5);
    let rows = |columns: &str| sqlite3(&db, &format!("SELECT {columns} FROM span ORDER BY rowid"));
    assert_eq!(
        rows("host, name, trace_id, span_id, parent_span_id"),
        [
            "h|check|0af7651916cd43dd8448eb211c80319c|b7ad6b7169203331|",
            "web|pay|5b8efff798038103d269b633813fc60c|eee19b7ec3c1b174|eee19b7ec3c1b173",
            "web|root|5b8efff798038103d269b633813fc60c|eee19b7ec3c1b173|",
        ]
    );
    assert_eq!(
        rows("begin_ts, ts, duration_ns, typeof(duration_ns)"),
        [
            "2026-11-20T20:45:00.000000000Z|2026-11-20T20:45:01.000000250Z|1000000250|integer",
            "2026-11-20T20:45:00.000000000Z|2026-11-20T20:45:02.500000001Z|2500000001|integer",
            "2026-11-20T20:45:00.000000000Z|2026-11-20T20:45:00.000000000Z|0|integer",
        ]
    );
    assert_eq!(
        rows(
            "span_kind, status, status_message, attributes ->> 'n', attributes -> 'l', resource ->> '$.\"service.name\"'"
        ),
        ["client|error|no|||", "server|error|broke|7|[0.5]|shop", "|unset||||shop"]
    );
    assert_eq!(
        rows("attributes ->> 'a', events ->> '$[0].name', events ->> '$[0].ts', scope ->> 'name'"),
        ["1|||", "|e|2026-11-20T20:45:01.000000000Z|lib", "|||lib"]
    );
    // Spans that are not valid, and other signals, are kept as they came.
    assert_eq!(integers(&db, "SELECT count(*) FROM other"), [2]);
    let plan = sqlite3(&db, "EXPLAIN QUERY PLAN SELECT * FROM span WHERE trace_id = 'x'");
    assert!(plan.iter().any(|step| step.contains("USING INDEX")), "{plan:?}");
}

#[test]
fn killed_at_any_moment_it_keeps_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let line = |n| format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"k\",\"host\":\"h\",\"n\":{n}}}\n");
    let mut before = 0;
    for round in 0..5 {
        let mut ship = Ship::start(&["--sqlite", db.to_str().unwrap(), "--batch-lines", "50"]);
        let mut stdin = ship.take_stdin();
        let feeder = std::thread::spawn(move || {
            let chunk: String = (0..50).map(line).collect();
            while std::io::Write::write_all(&mut stdin, chunk.as_bytes()).is_ok() {}
        });
        let rows = || sqlite3(&db, "SELECT count(*) FROM k")[0].parse::<u64>().unwrap();
        let table = "SELECT count(*) FROM sqlite_schema WHERE name = 'k'";
        let has_table = || db.exists() && sqlite3(&db, table) == ["1"];
        poll(WAIT, || (has_table() && rows() > before).then_some(())).expect("new rows");
        std::thread::sleep(Duration::from_millis(37 * round));
        ship.signal(Signal::KILL);
        assert_eq!(ship.wait().code, None);
        feeder.join().unwrap();
        assert_eq!(sqlite3(&db, "PRAGMA integrity_check"), ["ok"]);
        let rows = rows();
        assert!(rows > before && rows.is_multiple_of(50), "{rows} after {before}");
        before = rows;
    }
}

#[test]
fn a_file_that_is_moved_away_is_followed_by_a_new_one() {
    let dir = tempfile::tempdir().unwrap();
    let [db, old] = ["a.db", "old.db"].map(|name| dir.path().join(name));
    let line = "{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"k\",\"host\":\"h\"}\n";
    let mut ship = Ship::start(&["--sqlite", db.to_str().unwrap(), "--batch-age", "20ms"]);
    ship.feed(line);
    let count = |db: &Path| sqlite3(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'k'");
    assert!(poll(WAIT, || (db.exists() && count(&db) == ["1"]).then_some(())).is_some());
    std::fs::rename(&db, &old).unwrap();
    ship.feed(line);
    ship.feed(line);
    assert_eq!(ship.end().lines(), [3, 3, 0, 0, 0]);
    for (db, rows) in [(db, "2"), (old, "1")] {
        assert_eq!(sqlite3(&db, "PRAGMA integrity_check; SELECT count(*) FROM k"), ["ok", rows]);
    }
}

#[test]
fn a_file_that_cannot_be_a_database_is_an_error_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "not a database, but longer than the header of one would be ".repeat(20)).unwrap();
    let cases = [
        (file.as_path(), ["file is not a database"; 2]),
        (dir.path(), ["Is a directory"; 2]),
        (&dir.path().join("no/such/folder/a.db"), ["No such file or directory"; 2]),
        // A folder in which even root makes no files.
        (Path::new("/sys/kernel/a.db"), ["Permission denied", "Read-only file system"]),
    ];
    for (path, why) in cases {
        let ended = Ship::start(&["--sqlite", path.to_str().unwrap()]).wait();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(
            ended.stderr.contains("--sqlite") && why.iter().any(|why| ended.stderr.contains(why)),
            "{}",
            ended.stderr
        );
        assert_eq!(ended.stderr.matches(path.to_str().unwrap()).count(), 1, "{}", ended.stderr);
    }
    assert!(std::fs::read_to_string(&file).unwrap().starts_with("not a database"));
}

/// The application id of the man page.
const APPLICATION_ID: &str = "1953524080";

#[test]
fn a_database_of_another_program_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let [db, named] = ["a.db", "named.db"].map(|name| dir.path().join(name));
    let sql = |db: &Path, sql: &str| {
        let output = Command::new("sqlite3").arg(db).arg(sql).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    sql(&db, "CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)");
    sql(&named, "PRAGMA application_id = 7; CREATE TABLE theirs (x); DROP TABLE theirs");
    for db in [&db, &named] {
        let before = std::fs::read(db).unwrap();
        let ended = Ship::start(&["--sqlite", db.to_str().unwrap()]).wait();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert!(ended.stderr.contains("another program") && ended.stderr.contains(APPLICATION_ID));
        assert_eq!(std::fs::read(db).unwrap(), before);
    }
    // With that id it is used.
    sql(&db, &format!("PRAGMA application_id = {APPLICATION_ID}"));
    let line = "{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"k\",\"host\":\"h\"}\n";
    assert_eq!(Ship::run(&["--sqlite", db.to_str().unwrap()], line).code, Some(0));
    assert_eq!(sqlite3(&db, "SELECT (SELECT count(*) FROM theirs), (SELECT count(*) FROM k)"), ["1|1"]);
    // An empty file is used.
    let empty = dir.path().join("empty.db");
    std::fs::write(&empty, "").unwrap();
    assert_eq!(Ship::run(&["--sqlite", empty.to_str().unwrap()], line).code, Some(0));
    assert_eq!(sqlite3(&empty, "PRAGMA application_id"), [APPLICATION_ID]);
}

#[test]
fn a_foreign_database_in_place_of_ours_is_not_written_to() {
    let dir = tempfile::tempdir().unwrap();
    let [db, old] = ["a.db", "old.db"].map(|name| dir.path().join(name));
    let line = "{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"k\",\"host\":\"h\"}\n";
    let mut ship = Ship::start(&["--sqlite", db.to_str().unwrap(), "--batch-age", "20ms"]);
    ship.feed(line);
    let count = |db: &Path| sqlite3(db, "SELECT count(*) FROM sqlite_schema WHERE name = 'k'");
    assert!(poll(WAIT, || (db.exists() && count(&db) == ["1"]).then_some(())).is_some());
    std::fs::rename(&db, &old).unwrap();
    assert!(Command::new("sqlite3").arg(&db).arg("CREATE TABLE theirs (x)").status().unwrap().success());
    ship.feed(line);
    ship.wait_for("another program");
    assert_eq!(count(&db), ["0"]);
    // Once it is gone, tele-ship creates a new one, and nothing was lost.
    std::fs::remove_file(&db).unwrap();
    ship.feed(line);
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(0), [3, 3, 0, 0, 0]), "{}", ended.stderr);
    assert!(ended.stderr.contains("another program"), "{}", ended.stderr);
    for (db, rows) in [(db, "2"), (old, "1")] {
        assert_eq!(sqlite3(&db, "PRAGMA application_id; SELECT count(*) FROM k"), [APPLICATION_ID, rows]);
    }
}

#[test]
fn kinds_and_fields_beyond_the_limits_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let path = db.to_str().unwrap();
    let head = |kind: &str| format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"{kind}\",\"host\":\"h\"");
    // 3000 fields of one kind, in lines of many and in lines of few, and of each type.
    let big = "123456789012345678901234567890";
    let wide: String = (0..3000).map(|n| format!(",\"f{n}\":{n}")).collect();
    let mut lines = format!("{}{wide}}}\n", head("wide"));
    for n in 0..1500 {
        lines +=
            &format!("{},\"f{n}\":\"text\",\"g{n}\":[{n}],\"h{n}\":18446744073709551615}}\n", head("wide"));
    }
    for run in 0..2 {
        let ended = Ship::run(&["--sqlite", path], &lines);
        assert_eq!((ended.code, ended.count("delivered")), (Some(0), 1501), "{run}: {}", ended.stderr);
    }
    assert_stored(&db, lines.repeat(2).as_bytes());
    let columns: u32 = sqlite3(&db, "SELECT count(*) FROM pragma_table_info('wide')")[0].parse().unwrap();
    assert!(columns <= 1001, "{columns}");
    let last = sqlite3(&db, r#"SELECT "^more" ->> 'f2999' FROM wide LIMIT 1"#);
    assert_eq!(last, ["2999"]);

    // A thousand kinds, over two runs.
    let db = dir.path().join("b.db");
    let kinds = |range: std::ops::Range<u32>| {
        range.map(|n| format!("{},\"n\":{big}}}\n", head(&format!("kind{n}")))).collect::<String>()
    };
    for (range, warned) in [(0..400, 0), (0..1000, 1)] {
        let count = u64::from(range.end);
        let ended = Ship::run(&["--sqlite", db.to_str().unwrap(), "--batch-lines", "100"], kinds(range));
        assert_eq!((ended.code, ended.count("delivered")), (Some(0), count), "{}", ended.stderr);
        assert_eq!(ended.stderr.matches("more than 500 kinds").count(), warned, "{}", ended.stderr);
    }
    let tables = sqlite3(&db, "SELECT count(*) FROM sqlite_schema WHERE type = 'table'");
    assert_eq!(
        (tables, sqlite3(&db, "SELECT count(*) FROM other")),
        (vec!["501".into()], vec!["500".into()])
    );
    assert_eq!(sqlite3(&db, r#"SELECT typeof(n), n FROM kind499"#), [format!("text|{big}")]);
    assert_eq!(sqlite3(&db, "SELECT json FROM other LIMIT 1"), [kinds(500..501).trim()]);
    // telepipe's own kinds have a table even beyond the limit.
    let ended = Ship::run(&["--sqlite", db.to_str().unwrap()], head("load") + "}");
    assert_eq!((ended.code, sqlite3(&db, "SELECT count(*) FROM load")), (Some(0), vec!["1".into()]));
}

/// As in a crontab, and the data directory does not exist yet.
#[test]
fn the_directory_of_a_new_database_is_created_for_its_owner() {
    let dir = tempfile::tempdir().unwrap();
    let parent = dir.path().join("telepipe");
    let db = parent.join("x.db");
    let ended = Ship::run(&["--sqlite", db.to_str().unwrap()], "{}\n");
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(std::fs::metadata(&parent).unwrap().permissions().mode() & 0o777, 0o700);
    assert_eq!(std::fs::metadata(&db).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(sqlite3(&db, "SELECT json FROM other"), ["{}"]);
}

#[test]
fn the_default_destination_is_in_the_data_directory() {
    let dir = tempfile::tempdir().unwrap();
    let home = dir.path().to_str().unwrap();
    for (variables, path) in [
        ([("XDG_DATA_HOME", home), ("HOME", "/nonexistent")], "telepipe/telemetry.db"),
        ([("XDG_DATA_HOME", "relative"), ("HOME", home)], ".local/share/telepipe/telemetry.db"),
    ] {
        let mut ship = Ship::start_with(&[], &variables);
        ship.feed("{}\n{\"ts\":\"2020-02-02T20:20:20Z\"}\n");
        let ended = ship.end();
        let db = dir.path().join(path);
        // It keeps 7 days.
        assert_eq!(ended.count("delivered"), 2);
        assert!(ended.code == Some(0) && ended.stderr.contains(db.to_str().unwrap()), "{}", ended.stderr);
        assert_eq!(sqlite3(&db, "SELECT json FROM other"), ["{}"]);
    }
}

#[test]
fn every_destination_gets_every_line() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("a.db");
    let server = Capture::script([Answer::status(503), Answer::status(503)]);
    let args = ["--sqlite", db.to_str().unwrap(), "--stdout", "--otlp", &server.url()];
    let lines: String = (0..100)
        .map(|n| format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"log\",\"body\":\"{n}\"}}\n"))
        .collect();
    let ended = Ship::run(&args, lines.clone() + "nonsense\n");
    assert_eq!((ended.code, ended.stats.len()), (Some(1), 3));
    for stats in &ended.stats {
        assert_eq!(
            (&stats["read"], &stats["delivered"], &stats["rejected"]),
            (&json!(101), &json!(100), &json!(1))
        );
    }
    assert_stored(&db, lines.as_bytes());
    let written = support::records::parse(&ended.stdout);
    let records = &written[0]["resourceLogs"][0]["scopeLogs"][0]["logRecords"];
    assert_eq!((written.len(), records.as_array().unwrap().len()), (1, 100));
    assert_eq!(server.requests().len(), 3);
}
