//! `tele-ship --sqlite`: what `sqlite3` reads from the tables is what was in the lines.

#![cfg(all(feature = "http", feature = "sqlite"))]

mod support;

use std::path::Path;
use std::process::Command;
use std::time::Duration;

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
    let Some(disk) = SmallDisk::mount("1m") else { return };
    let (db, ballast) = (disk.path().join("a.db"), disk.path().join("ballast"));
    std::fs::write(&ballast, vec![0; 700 << 10]).unwrap();
    let line = |n| {
        format!(
            "{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"k\",\"host\":\"h\",\"n\":{n},\"text\":\"{:0>99}\"}}\n",
            n
        )
    };
    let lines: String = (0..1500).map(line).collect();
    let mut ship = Ship::start(&["--sqlite", db.to_str().unwrap(), "--batch-lines", "100"]);
    ship.feed(&lines);
    ship.wait_for("full");
    let before = sqlite3(&db, "SELECT count(*) FROM k")[0].parse::<u64>().unwrap();
    assert!(before > 0 && before < 1500, "{before}");
    std::fs::remove_file(&ballast).unwrap();
    let ended = ship.end();
    assert_eq!((ended.code, ended.lines()), (Some(0), [1500, 1500, 0, 0, 0]), "{}", ended.stderr);
    assert!(ended.stderr.contains("full"), "{}", ended.stderr);
    assert_stored(&db, lines.as_bytes());
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
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let parent = dir.path().join("telepipe");
    let db = parent.join("x.db");
    let ended = Ship::run(&["--sqlite", db.to_str().unwrap()], "{}\n");
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(std::fs::metadata(&parent).unwrap().permissions().mode() & 0o777, 0o700);
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
        ship.feed("{}");
        let ended = ship.end();
        let db = dir.path().join(path);
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
