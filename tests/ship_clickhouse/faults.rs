//! Faults of a server: what is sent again, what is divided, and what is stored in the end.

use std::io::Write;
use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::engine::Engine;
use crate::support::spool::Spool;
use crate::support::{Answer, Capture, Request, Ship, http_date, poll};

/// What a server answers to everything but inserts: it keeps its days in UTC and has a table with these columns.
fn answer_to_question(request: &Request) -> Option<Answer> {
    let question = String::from_utf8_lossy(&request.body);
    if question.contains("timezone()") {
        return Some(
            Answer::ok()
                .body("zone UTC\nversion 26.9\nsetting async_insert\nsetting insert_deduplication_token\n"),
        );
    }
    let column = |name: &str, sql_type: &str| format!("{}\n", json!({ "name": name, "type": sql_type }));
    let columns = column("ts", "DateTime64(9)") + &column("kind", "String") + &column("n", "Int64");
    if question.contains("system.tables") {
        let engine =
            json!({ "engine": "ReplicatedMergeTree", "engine_full": "ReplicatedMergeTree", "usual": "0" });
        return Some(Answer::ok().body(engine.to_string()));
    }
    question.starts_with("DESCRIBE").then(|| Answer::ok().body(columns))
}

fn server(mut answers: impl FnMut(&Request) -> Answer + Send + 'static) -> Capture {
    Capture::with(move |request| answer_to_question(request).unwrap_or_else(|| answers(request)))
}

fn inserts(server: &Capture) -> Vec<Request> {
    server.requests().into_iter().filter(|request| request.path.contains("INSERT")).collect()
}

/// The value of a query parameter.
fn parameter(request: &Request, name: &str) -> String {
    let url = telepipe::http::Url::parse(&format!("http://x{}", request.path)).unwrap();
    let found = url.query_pairs().find(|(known, _)| known == name);
    found.unwrap_or_else(|| panic!("no {name} in {}", request.path)).1.into_owned()
}

fn line(n: u32) -> String {
    format!("{}\n", json!({ "ts": "2026-11-20T20:45:00.000000001Z", "kind": "k", "n": n }))
}

fn numbers(body: &[u8]) -> Vec<u64> {
    let rows = String::from_utf8(body.to_vec()).unwrap();
    rows.lines().map(|row| serde_json::from_str::<Value>(row).unwrap()["n"].as_u64().unwrap()).collect()
}

#[test]
fn only_an_empty_200_without_an_exception_is_success() {
    let exception = |code: u16| format!("Code: {code}. DB::Exception: no. (NAME) (version 26.9)\n");
    let mut answers = vec![
        // The exception comes after the status, or in a header.
        Answer::ok().body(exception(241)),
        Answer::ok().header("X-ClickHouse-Exception-Code", "252"),
        Answer::status(500).header("X-ClickHouse-Exception-Code", "242").body(exception(242)),
        Answer::status(500).body(exception(159)),
        // No answers of ClickHouse.
        Answer::ok().body("<html>Log in</html>"),
        Answer::status(301).header("Location", "http://elsewhere.example/"),
        Answer::status(503).header("Retry-After", "0"),
        Answer::hangup(),
    ]
    .into_iter();
    let count = answers.len();
    let server = server(move |_| answers.next().unwrap_or_else(Answer::ok));
    let ended = Ship::run(&["--clickhouse", &server.url(), "--table", "t"], line(1) + &line(2));
    assert_eq!((ended.code, ended.lines()), (Some(0), [2, 2, 0, 0, 0]), "{}", ended.stderr);
    let inserts = inserts(&server);
    assert_eq!(inserts.len(), count + 1);
    let sum = |size: fn(&Request) -> usize| inserts.iter().map(size).sum::<usize>() as u64;
    let bytes = [sum(|insert| insert.plain().len()), sum(|insert| insert.body.len())];
    assert_eq!([ended.count("body_bytes"), ended.count("sent_bytes")], bytes);
    let token = parameter(&inserts[0], "insert_deduplication_token");
    for insert in &inserts {
        assert_eq!(parameter(insert, "insert_deduplication_token"), token);
        assert_eq!(parameter(insert, "async_insert"), "0");
        assert!(!insert.path.contains("best_effort"), "a setting that the server does not have");
        assert_eq!(numbers(&insert.plain()), [1, 2]);
    }
}

#[test]
fn bad_data_is_divided_down_to_the_line() {
    let is_bad = |request: &Request| String::from_utf8(request.plain()).unwrap().contains("\"n\":37}");
    let server = server(move |request| match is_bad(request) {
        true => Answer::status(400)
            .header("X-ClickHouse-Exception-Code", "27")
            .body("Code: 27. DB::Exception: Cannot parse \x1b[2J input\nat row 1"),
        false => Answer::ok(),
    });
    let dir = tempfile::tempdir().unwrap();
    let letters = dir.path().join("letters");
    let input: String = (0..100).map(line).collect();
    let args = ["--clickhouse", &server.url(), "--table", "t", "--dead-letter", letters.to_str().unwrap()];
    let ended = Ship::run(&args, input);
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    assert_eq!((ended.count("delivered"), ended.count("dead_lettered")), (99, 1));
    let (bad, good): (Vec<_>, Vec<_>) = inserts(&server).into_iter().partition(is_bad);
    let mut stored: Vec<_> = good.iter().flat_map(|request| numbers(&request.plain())).collect();
    stored.sort_unstable();
    assert_eq!(stored, (0..100).filter(|n| *n != 37).collect::<Vec<_>>());
    assert_eq!(numbers(&bad.last().unwrap().plain()), [37]);
    assert!(bad.len() < 10, "{} attempts", bad.len());
    let mut tokens: Vec<_> =
        good.iter().chain(&bad).map(|request| parameter(request, "insert_deduplication_token")).collect();
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), good.len() + bad.len(), "each insert has a token of its own");
    let letters = std::fs::read_to_string(letters).unwrap();
    assert!(letters.contains("\"n\":37}") || letters.contains("\\\"n\\\":37}"), "{letters}");
    assert!(!letters.contains('\x1b') && !ended.stderr.contains('\x1b'));
}

#[test]
fn days_are_inserts_of_their_own() {
    let server = server(|_| Answer::ok());
    let at = |ts: &str, n: u32| format!("{}\n", json!({ "ts": ts, "kind": "k", "n": n }));
    let input = at("2026-11-20T23:59:59.999999999Z", 1)
        + &at("2026-11-21T00:00:00Z", 2)
        + &at("2026-11-20T00:00:00Z", 3);
    assert_eq!(Ship::run(&["--clickhouse", &server.url(), "--table", "t"], input).code, Some(0));
    let inserts = inserts(&server);
    let rows: Vec<_> = inserts.iter().map(|insert| numbers(&insert.plain())).collect();
    assert_eq!(rows, [vec![1, 3], vec![2]]);
    let token = |insert| parameter(insert, "insert_deduplication_token");
    assert_ne!(token(&inserts[0]), token(&inserts[1]));
}

#[test]
fn credentials_are_headers_and_nothing_else() {
    // By the server, and by a proxy in front of it.
    refuse(|| {
        Answer::status(403)
            .header("X-ClickHouse-Exception-Code", "516")
            .body("Code: 516. DB::Exception: me: Authentication failed")
    });
    refuse(|| Answer::status(401).body("who are you?"));
}

/// Ships a line to a server whose first answer refuses the credentials.
fn refuse(first: fn() -> Answer) {
    let mut refused = false;
    let server = Capture::with(move |request| match std::mem::replace(&mut refused, true) {
        false => first(),
        true => answer_to_question(request).unwrap_or_else(Answer::ok),
    });
    let variables =
        [("CLICKHOUSE_URL", &*server.url()), ("CLICKHOUSE_USER", "me"), ("CLICKHOUSE_PASSWORD", "s3cret")];
    let mut ship = Ship::start_with(&["--clickhouse", "--table", "t"], &variables);
    ship.feed(line(1));
    ship.wait_for("CLICKHOUSE_PASSWORD");
    let ended = ship.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert!(!ended.stderr.contains("s3cret"));
    for request in server.requests() {
        assert_eq!(request.header("x-clickhouse-user"), Some("me"));
        assert_eq!(request.header("x-clickhouse-key"), Some("s3cret"));
        assert!(!request.path.contains("s3cret") && request.header("authorization").is_none());
    }
}

#[test]
fn empty_answers_to_questions_are_no_answers() {
    // What is asked first is answered by nothing, then in part, then as ClickHouse does.
    let mut facts = ["", "zone UTC\n", "version 26.9\n"].into_iter();
    let mut columns = [""].into_iter();
    let server = Capture::with(move |request| {
        let next = match String::from_utf8_lossy(&request.body) {
            question if question.contains("timezone()") => facts.next(),
            question if question.starts_with("DESCRIBE") => columns.next(),
            _ => None,
        };
        next.map(|body| Answer::ok().body(body))
            .unwrap_or_else(|| answer_to_question(request).unwrap_or_else(Answer::ok))
    });
    let ended = Ship::run(&["--clickhouse", &server.url(), "--table", "t"], line(1));
    assert_eq!((ended.code, ended.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", ended.stderr);
    let asked = |part: &str| {
        let requests = server.requests().into_iter();
        requests.filter(|request| String::from_utf8_lossy(&request.body).contains(part)).count()
    };
    assert_eq!((asked("timezone()"), asked("DESCRIBE"), inserts(&server).len()), (4, 2, 1));

    let nothing = Capture::with(|_| Answer::ok());
    let url = nothing.url();
    for table in [&["--table", "t"][..], &[]] {
        let args = [&["--clickhouse", &*url, "--drain", "500ms"], table].concat();
        let ended = Ship::run(&args, line(1));
        assert_eq!((ended.code, ended.count("delivered")), (Some(1), 0), "{}", ended.stderr);
    }
    assert_eq!(inserts(&nothing).len(), 0);
}

#[test]
fn a_date_in_retry_after_is_waited_for() {
    let mut first = true;
    let server = server(move |_| match std::mem::replace(&mut first, false) {
        true => Answer::status(503).header("Retry-After", &http_date(3)),
        false => Answer::ok(),
    });
    let ended = Ship::run(&["--clickhouse", &server.url(), "--table", "t"], line(1));
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let inserts = inserts(&server);
    // The date has whole seconds.
    assert!(inserts[1].at - inserts[0].at >= Duration::from_millis(1900));
}

#[test]
fn an_insert_with_a_lost_answer_is_stored_once() {
    let Some(engine) = Engine::start() else { return };
    let line = |n: u32| {
        let day = 20 + n % 2;
        format!("{}\n", json!({ "ts": format!("2026-11-{day}T20:45:00.{n:09}Z"), "kind": "k", "n": n }))
    };
    let input: String = (0..1000).map(line).collect();
    let url = engine.url();
    for args in [&["--table", "t"][..], &[]] {
        engine.lose(3);
        let args = [&["--clickhouse", &url, "--create"], args].concat();
        let ended = Ship::run(&args, &input);
        assert_eq!((ended.code, ended.lines()), (Some(0), [1000, 1000, 0, 0, 0]), "{}", ended.stderr);
        assert!(ended.count("retries") >= 3, "{:?}", ended.stats);
    }
    let count =
        |table: &str, n: &str| engine.value(&format!("SELECT count(), uniqExact({n}) FROM {{db}}.{table}"));
    assert_eq!(
        (count("t", "n"), count("otel_logs", "Timestamp")),
        ("1000\t1000".into(), "1000\t1000".into())
    );
    // The same lines in another run are other lines.
    assert_eq!(Ship::run(&["--clickhouse", &url, "--table", "t"], &input).code, Some(0));
    assert_eq!(count("t", "n"), "2000\t1000");
}

#[test]
fn a_refused_table_does_not_repeat_the_rows_of_another() {
    let Some(engine) = Engine::start() else { return };
    let line = |n: u32| {
        let (name, kind) =
            if n == 33 { ("bad", "counter") } else { ("m", ["gauge", "counter"][n as usize % 2]) };
        let ts = format!("2026-11-20T20:45:00.{n:09}Z");
        format!("{}\n", json!({ "ts": ts, "kind": "metric", "name": name, "type": kind, "value": n }))
    };
    let first = Ship::run(&["--clickhouse", &engine.url(), "--create"], line(0) + &line(1));
    assert_eq!(first.code, Some(0), "{}", first.stderr);
    engine.run("ALTER TABLE {db}.otel_metrics_sum ADD CONSTRAINT c CHECK MetricName != 'bad'");
    // Without a deduplication window every row that is sent is stored.
    for table in ["gauge", "sum"] {
        engine.run(&format!(
            "ALTER TABLE {{db}}.otel_metrics_{table} MODIFY SETTING non_replicated_deduplication_window = 0"
        ));
    }
    let ended = Ship::run(&["--clickhouse", &engine.url()], (2..100).map(line).collect::<String>());
    assert_eq!((ended.code, ended.lines()), (Some(1), [98, 97, 1, 0, 0]), "{}", ended.stderr);
    let count = |table: &str| {
        engine.value(&format!("SELECT count(), uniqExact(Value) FROM {{db}}.otel_metrics_{table}"))
    };
    assert_eq!((count("gauge"), count("sum")), ("50\t50".into(), "49\t49".into()));
}

const PLAIN: &str = "(ts DateTime64(9), kind String, n UInt64) ENGINE = MergeTree ORDER BY ts";

/// Waits until a query gives this value.
fn wait_for(engine: &Engine, sql: &str, value: &str) {
    let found = poll(Duration::from_secs(60), || (engine.value(sql) == value).then_some(()));
    assert!(found.is_some(), "{sql}: {} instead of {value}", engine.value(sql));
}

#[test]
fn a_missing_table_does_not_hold_up_the_others() {
    let Some(engine) = Engine::start() else { return };
    engine.run("CREATE DATABASE {db}");
    // Every insert into it is stored, also a repeated one.
    engine.run(&format!("CREATE TABLE {{db}}.t_a {PLAIN}"));
    let line = |n: u64| {
        let kind = if n.is_multiple_of(10) { "b" } else { "a" };
        format!("{}\n", json!({ "ts": "2026-11-20T20:45:00Z", "kind": kind, "n": n }))
    };
    let (url, spool) = (engine.url(), Spool::new());
    let dir = spool.arg();
    let args = ["--clickhouse", &url, "--table", "t_{kind}", "--batch-lines", "100", "--batch-age", "50ms"];
    let args = [&args[..], &["--stats", "100ms", "--drain", "60s", "--spool", &dir]].concat();
    let counts = |table: &str| format!("SELECT count(), uniqExact(n) FROM {{db}}.{table}");

    // The first lines are for the table that is missing.
    let mut ship = Ship::start(&args);
    ship.feed(line(0));
    ship.wait_for("Code: 60");
    for part in 0..5 {
        ship.feed((1 + 200 * part..201 + 200 * part).map(line).collect::<String>());
        ship.wait_for_count("read", 201 + 200 * part);
    }
    wait_for(&engine, &counts("t_a"), "900\t900");
    ship.wait_for_count("pending", 101);
    std::thread::sleep(Duration::from_millis(300));
    ship.signal(Signal::KILL);
    assert_eq!(ship.wait().code, None);

    // After a restart, the table that has its lines gets none again.
    let mut ship = Ship::start(&args);
    ship.feed((1001..1101).map(line).collect::<String>());
    wait_for(&engine, &counts("t_a"), "990\t990");
    engine.run(&format!("CREATE TABLE {{db}}.t_b {PLAIN}"));
    let ended = ship.end();
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!((ended.count("pending"), ended.count("dropped")), (0, 0));
    assert_eq!(
        (engine.value(&counts("t_a")), engine.value(&counts("t_b"))),
        ("990\t990".into(), "111\t111".into())
    );
}

#[test]
fn a_missing_table_stops_reading_when_the_memory_is_full() {
    let Some(engine) = Engine::start() else { return };
    engine.run("CREATE DATABASE {db}");
    engine.run(&format!("CREATE TABLE {{db}}.t_a {PLAIN}"));
    let url = engine.url();
    let args = ["--clickhouse", &url, "--table", "t_{kind}", "--batch-lines", "500", "--batch-age", "50ms"];
    let args = [&args[..], &["--stats", "100ms", "--drain", "60s", "--queue-bytes", "1MiB"]].concat();
    let mut ship = Ship::start(&args);
    let mut stdin = ship.take_stdin();
    let (lines, pad) = (20_000, "x".repeat(1000));
    let writer = std::thread::spawn(move || {
        for n in 0..lines {
            let kind = ["a", "b"][n % 2];
            let line = json!({ "ts": "2026-11-20T20:45:00Z", "kind": kind, "n": n, "pad": pad });
            stdin.write_all(format!("{line}\n").as_bytes()).unwrap();
        }
    });
    let read = |ship: &Ship| ship.records().last().map_or(0, |record| record["read"].as_u64().unwrap());
    let mut before = (0, 0);
    let stopped = poll(Duration::from_secs(60), || {
        let now = read(&ship);
        before = if now > 0 && now == before.0 { (now, before.1 + 1) } else { (now, 0) };
        std::thread::sleep(Duration::from_millis(100));
        (before.1 >= 15).then_some(())
    });
    assert!(stopped.is_some() && !writer.is_finished() && before.0 < lines as u64, "{before:?}");
    engine.run(&format!("CREATE TABLE {{db}}.t_b {PLAIN}"));
    writer.join().unwrap();
    let ended = ship.wait();
    assert_eq!((ended.code, ended.lines()), (Some(0), [20_000, 20_000, 0, 0, 0]), "{}", ended.stderr);
    for table in ["t_a", "t_b"] {
        let counts = engine.value(&format!("SELECT count(), uniqExact(n) FROM {{db}}.{table}"));
        assert_eq!(counts, "10000\t10000", "{table}");
    }
}

#[test]
fn a_table_that_remembers_no_inserts_is_reported_once() {
    let Some(engine) = Engine::start() else { return };
    engine.run("CREATE DATABASE {db}");
    engine.run(&format!("CREATE TABLE {{db}}.t {PLAIN}"));
    let url = engine.url();
    let args = ["--clickhouse", &url, "--table", "t", "--batch-lines", "1"];
    let ended = Ship::run(&args, (0..3).map(line).collect::<String>());
    let reports: Vec<_> = ended.stderr.lines().filter(|line| line.contains("ALTER TABLE")).collect();
    assert_eq!((ended.code, reports.len()), (Some(0), 1), "{}", ended.stderr);

    // The statement in the message helps.
    let (_, statement) = reports[0].split_once("ALTER TABLE").unwrap();
    engine.run(&format!("ALTER TABLE{statement}"));
    engine.lose(1);
    let ended = Ship::run(&args[..4], (3..10).map(line).collect::<String>());
    assert_eq!((ended.code, ended.count("retries")), (Some(0), 1), "{}", ended.stderr);
    assert!(!ended.stderr.contains("ALTER TABLE"), "{}", ended.stderr);
    assert_eq!(engine.value("SELECT count(), uniqExact(n) FROM {db}.t"), "10\t10");
}
