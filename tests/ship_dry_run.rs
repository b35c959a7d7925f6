//! `tele-ship --dry-run`: what it shows is what is sent without it, and nothing else happens.

#![cfg(all(feature = "http", feature = "sqlite"))]

mod support;

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use support::records::parse;
use support::{Capture, Ship, program};

/// Measurements, a log, a span, and a line that is no record.
const LINES: &str = concat!(
    r#"{"ts":"2026-11-20T20:45:00.000000000Z","kind":"cpu","host":"h","utilization_ratio":0.25}"#,
    "\n",
    r#"{"ts":"2026-11-20T20:45:00.000000000Z","kind":"load","host":"h","load_1m":1.5}"#,
    "\n",
    r#"{"ts":"2026-11-20T20:45:01.000000000Z","kind":"log","host":"h","severity":"warn","body":"hot"}"#,
    "\n",
    r#"{"ts":"2026-11-20T20:45:02.000000000Z","kind":"span","host":"h","trace_id":"0af7651916cd43dd8448eb211c80319c","#,
    r#""span_id":"b7ad6b7169203331","name":"check","begin_ts":"2026-11-20T20:45:00Z"}"#,
    "\n",
    r#"{"ts":"2026-11-20T20:45:03.000000000Z","x":[1,2]}"#,
    "\n",
);

/// What is shown for a sink: where it goes, and the data.
fn shown(stdout: &[u8], sink: &str) -> Vec<(String, Value)> {
    let lines = parse(stdout).into_iter().filter(|line| line["sink"] == sink);
    let mut shown: Vec<_> =
        lines.map(|line| (line["to"].as_str().unwrap().to_owned(), line["data"].clone())).collect();
    shown.sort_by_key(|(to, data)| (to.clone(), data.to_string()));
    shown
}

/// Runs with these options, and with --dry-run too, which must not reach the server.
fn twice(args: &[&str], server: &Capture) -> Vec<u8> {
    let dry = Ship::run(&[args, &["--dry-run"]].concat(), LINES);
    assert_eq!((dry.code, server.connections()), (Some(0), 0), "{}", dry.stderr);
    assert!(dry.stats.is_empty(), "{:?}", dry.stats);
    let ended = Ship::run(args, LINES);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    dry.stdout
}

fn received(server: &Capture) -> Vec<(String, Value)> {
    let requests = server.requests();
    let json = |body: &[u8]| serde_json::from_slice::<Value>(body).unwrap();
    let mut received: Vec<_> = requests
        .iter()
        .map(|request| (format!("{}{}", server.url(), request.path), json(&request.plain())))
        .collect();
    received.sort_by_key(|(to, data)| (to.clone(), data.to_string()));
    received
}

#[test]
fn otlp_is_shown_as_it_is_sent() {
    let server = Capture::script([]);
    let stdout = twice(&["--otlp", &server.url(), "--protocol", "http/json"], &server);
    let [mut shown, mut received] = [shown(&stdout, "otlp"), received(&server)];
    assert_eq!(shown.len(), 3);
    // Two lines have no time of observation of their own, but that of the run.
    for (_, data) in shown.iter_mut().chain(&mut received) {
        for resource in data["resourceLogs"].as_array_mut().into_iter().flatten() {
            for log in resource["scopeLogs"][0]["logRecords"].as_array_mut().unwrap() {
                log.as_object_mut().unwrap().remove("observedTimeUnixNano").unwrap();
            }
        }
    }
    assert_eq!(shown, received);
}

#[test]
fn posts_to_a_monitoring_server_are_shown() {
    let server = Capture::script([]);
    let url = format!("{}/metrics", server.url());
    let stdout = twice(&["--monitor", &url], &server);
    let shown = shown(&stdout, "monitor");
    assert_eq!((shown.len(), &shown[0].1["cpu"]), (1, &json!(25.0)));
    assert_eq!(shown, received(&server));
}

#[test]
fn rows_of_sqlite_are_shown() {
    let dir = tempfile::tempdir().unwrap();
    let db = dir.path().join("new/a.db");
    let args = ["--sqlite", db.to_str().unwrap()];
    let dry = Ship::run(&[&args[..], &["--dry-run"]].concat(), LINES);
    assert_eq!((dry.code, db.parent().unwrap().exists()), (Some(0), false), "{}", dry.stderr);
    assert_eq!(Ship::run(&args, LINES).code, Some(0));
    let mut stored = Vec::new();
    for table in ["cpu", "load", "log", "other", "span"] {
        let output =
            Command::new("sqlite3").arg("-json").arg(&db).arg(format!("SELECT * FROM {table}")).output();
        for row in serde_json::from_slice::<Vec<Value>>(&output.unwrap().stdout).unwrap() {
            let mut row = row.as_object().unwrap().clone();
            row.retain(|_, value| !value.is_null());
            stored.push((table.to_owned(), Value::Object(row)));
        }
    }
    assert_eq!(stored.len(), 5);
    assert_eq!(shown(&dry.stdout, "sqlite"), stored);
}

#[test]
fn rows_of_clickhouse_are_shown() {
    let server = Capture::script([]);
    let url = server.url();
    let dry = Ship::run(&["--clickhouse", &url, "--table", "t_{kind}", "--dry-run"], LINES);
    let expected = ["cpu", "load", "log", "span", "other"].map(|kind| format!("t_{kind}"));
    let rows = shown(&dry.stdout, "clickhouse");
    for (table, line) in expected.into_iter().zip(parse(LINES.as_bytes())) {
        let row = &rows.iter().find(|(to, _)| *to == table).unwrap().1;
        let is_other = table == "t_other";
        let row =
            if is_other { serde_json::from_str(row["json"].as_str().unwrap()).unwrap() } else { row.clone() };
        assert_eq!(row, line);
    }
    let dry = Ship::run(&["--clickhouse", &url, "--dry-run"], LINES);
    let rows = shown(&dry.stdout, "clickhouse");
    let of = |table: &str| rows.iter().filter(|(to, _)| to == table).map(|(_, row)| row).collect::<Vec<_>>();
    let gauges: Vec<_> =
        of("otel_metrics_gauge").iter().map(|row| json!([row["TimeUnix"], row["Value"]])).collect();
    assert_eq!(gauges, [json!(["2026-11-20T20:45:00.000000000Z", 1.5])]);
    let span = of("otel_traces")[0];
    assert_eq!((&span["SpanName"], &span["Duration"]), (&json!("check"), &json!(2_000_000_000)));
    let logs = of("otel_logs");
    assert!(logs.len() == 3 && logs.iter().any(|log| log["Body"] == "hot"), "{logs:?}");
    assert_eq!(server.connections(), 0);
}

#[test]
fn it_ends_with_the_first_batch_and_leaves_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let server = Capture::script([]);
    let otlp = server.url().replace("http://", "http://user:secret@");
    let (spool, letters) = (path("spool"), path("letters"));
    let args = ["--dry-run", "--otlp", &otlp, "--stdout", "--spool", &spool, "--dead-letter", &letters];
    let home = path("home");
    for (args, sinks) in [(&args[..], vec!["otlp", "stdout"]), (&args[..1], vec!["sqlite"])] {
        let args = [args, &["--batch-lines", "3"]].concat();
        let mut ship = Ship::start_with(&args, &[("XDG_DATA_HOME", &home), ("HOME", &home)]);
        ship.feed(LINES);
        // stdin stays open.
        let ended = ship.wait();
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        for sink in &sinks {
            assert!(!shown(&ended.stdout, sink).is_empty(), "{sink}");
        }
        let text = String::from_utf8(ended.stdout).unwrap();
        // The fourth line is not of the first batch.
        assert!(text.contains("hot") && !text.contains("check"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
    assert_eq!((std::fs::read_dir(dir.path()).unwrap().count(), server.connections()), (0, 0));
}

#[test]
fn a_reader_that_leaves_is_no_lack_of_lines() {
    // The first sample has nothing to post, and the others come too late.
    for lines in [0, 1] {
        let mut command = Command::new(program!("tele-ship"));
        command.args(["--dry-run", "--monitor", "--batch-age", "50ms"]);
        let pipes = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut ship = pipes.spawn().unwrap();
        let input: String = LINES.split_inclusive('\n').skip(1).take(lines).collect();
        let mut stdin = ship.stdin.take().unwrap();
        drop(ship.stdout.take());
        let _ = stdin.write_all(input.as_bytes());
        // stdin stays open: the program ends because its reader has left.
        let output = ship.wait_with_output().unwrap();
        assert_eq!((output.status.code(), output.stderr), (Some(0), Vec::new()), "{lines}");
    }
}

#[test]
fn lines_that_would_be_refused_are_reported() {
    let ended = Ship::run(&["--dry-run", "--otlp", "http://127.0.0.1:1"], "nonsense\n");
    assert_eq!((ended.code, ended.stdout.len()), (Some(1), 0));
    assert!(ended.stderr.contains("nonsense"), "{}", ended.stderr);
    // A first sample has no rates to post.
    let ended = Ship::run(&["--dry-run", "--monitor"], LINES.lines().nth(1).unwrap());
    assert_eq!((ended.code, ended.stdout.len()), (Some(0), 0));
    assert!(ended.stderr.contains("monitor"), "{}", ended.stderr);
}
