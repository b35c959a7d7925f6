//! `tele-ship check`, with servers that answer, refuse, or are not there.

#![cfg(all(feature = "http", feature = "sqlite"))]

mod support;

use std::net::TcpListener;

use serde_json::json;
use support::{Answer, Capture, Checked, GrpcServer, Ship, poll};

const SIGNALS: [&str; 3] = ["metrics", "logs", "traces"];

/// The steps to a server by plain HTTP, and then these.
fn steps<'a>(then: &[(&'a str, bool)]) -> Vec<(&'a str, bool)> {
    [&[("resolve", true), ("connect", true)], then].concat()
}

fn all(is_ok: bool) -> Vec<(&'static str, bool)> {
    steps(&SIGNALS.map(|signal| (signal, is_ok)))
}

#[test]
fn a_healthy_server_gets_an_empty_request_for_each_signal() {
    let server = Capture::script([]);
    let checked = Checked::run(&["--otlp", &server.url()], &[]);
    assert_eq!((checked.code, checked.steps()), (Some(0), all(true)), "{:?}", checked.lines);
    let requests = server.requests();
    let paths: Vec<_> = requests.iter().map(|request| &*request.path).collect();
    assert_eq!(paths, ["/v1/metrics", "/v1/logs", "/v1/traces"]);
    // An empty protobuf message has no bytes.
    assert!(requests.iter().all(|request| request.plain().is_empty()));

    let Some(grpc) = GrpcServer::script(&[]) else { return };
    let checked = Checked::run(&["--otlp", &grpc.url()], &[]);
    assert_eq!((checked.code, checked.steps()), (Some(0), all(true)), "{:?}", checked.lines);
    let requests = grpc.requests();
    assert_eq!(requests.iter().map(|request| &request["signal"]).collect::<Vec<_>>(), SIGNALS);
    assert!(requests.iter().all(|request| request["message"] == json!({})));
}

#[test]
fn credentials_that_are_refused() {
    let server = Capture::with(|_| Answer::status(401));
    let headers = [("OTEL_EXPORTER_OTLP_HEADERS", "authorization=s3cret")];
    let checked = Checked::run(&["--otlp", &server.url().replace("//", "//me:s3cret@")], &headers);
    assert_eq!((checked.code, checked.steps()), (Some(1), all(false)));
    assert!(
        checked.lines[2].contains("401") && checked.lines[2].contains("--header-file"),
        "{:?}",
        checked.lines
    );

    // PERMISSION_DENIED for metrics only.
    let Some(grpc) = GrpcServer::script(&[json!({"code": 7, "message": "no"})]) else { return };
    let checked = Checked::run(&["--otlp", &grpc.url()], &[]);
    let expected = steps(&[("metrics", false), ("logs", true), ("traces", true)]);
    assert_eq!((checked.code, checked.steps()), (Some(1), expected));
    assert!(checked.lines[2].contains("PERMISSION_DENIED"), "{:?}", checked.lines);
}

#[test]
fn servers_that_are_not_there() {
    let closed = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = closed.local_addr().unwrap().to_string();
    drop(closed);
    for option in ["--otlp", "--clickhouse", "--monitor"] {
        let checked = Checked::run(&[option, &format!("http://{address}")], &[]);
        assert_eq!((checked.code, checked.steps()), (Some(1), vec![("resolve", true), ("connect", false)]));
        assert!(checked.lines[1].contains(&address), "{:?}", checked.lines);
        let checked = Checked::run(&[option, "http://collector.invalid"], &[]);
        assert_eq!((checked.code, checked.steps()), (Some(1), vec![("resolve", false)]));
        assert!(checked.lines[0].contains("collector.invalid"), "{:?}", checked.lines);
    }
}

#[test]
fn one_destination_that_fails_does_not_hide_the_others() {
    let (server, gone) = (Capture::script([]), Capture::with(|_| Answer::status(404)));
    let checked = Checked::run(&["--otlp", &server.url(), "--monitor", &gone.url()], &[]);
    let expected = [all(true), steps(&[("request", false)])].concat();
    assert_eq!((checked.code, checked.steps()), (Some(1), expected), "{:?}", checked.lines);
    let [request] = &gone.requests()[..] else { panic!() };
    assert_eq!((&*request.method, request.body.len()), ("OPTIONS", 0));
}

/// A server with the tables of the exporter, which remember inserts or do not.
#[test]
fn tables_of_clickhouse() {
    let column = json!({"name": "Timestamp", "type": "DateTime64(9)"}).to_string();
    for (there, options, expected) in
        [(true, &[][..], true), (false, &["--create"][..], true), (false, &[], false)]
    {
        let column = column.clone();
        let server = Capture::with(move |request| {
            let question = String::from_utf8_lossy(&request.body).into_owned();
            assert!(!question.starts_with("CREATE") && !question.starts_with("INSERT"), "{question}");
            match question.split(' ').next() {
                Some("DESCRIBE") if there => Answer::ok().body(column.clone()),
                Some("DESCRIBE") => Answer::status(404)
                    .header("X-ClickHouse-Exception-Code", "60")
                    .body("Code: 60. DB::Exception: no table. (UNKNOWN_TABLE)"),
                _ => Answer::ok().body("1\n"),
            }
        });
        let checked = Checked::run(&[&["--clickhouse", &server.url()], options].concat(), &[]);
        let found = checked.steps();
        assert_eq!(found[..3], steps(&[("query", true)]), "{:?}", checked.lines);
        assert_eq!(found.len(), 3 + 7, "{found:?}");
        assert!(found[3..].iter().all(|(name, is_ok)| name.starts_with("table otel_") && *is_ok == expected));
        assert_eq!(checked.code, Some(if expected { 0 } else { 1 }));
    }
}

#[test]
fn files_are_not_created_and_locks_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    let (database, spool) = (path("a.db"), path("spool"));
    let fine = vec![("open", true), ("room", true)];
    let checked = Checked::run(&["--sqlite", &database, "--spool", &spool], &[]);
    assert_eq!((checked.code, checked.steps()), (Some(0), [fine.clone(), fine.clone()].concat()));
    assert_eq!(dir.path().read_dir().unwrap().count(), 0);
    let checked = Checked::run(&["--sqlite", &path("a/b/c.db")], &[]);
    assert_eq!((checked.code, checked.steps()), (Some(1), vec![("open", false)]));
    std::fs::write(path("text.db"), "x".repeat(5000)).unwrap();
    let checked = Checked::run(&["--sqlite", &path("text.db")], &[]);
    assert_eq!((checked.code, checked.steps()), (Some(1), vec![("open", false)]));

    let ship = Ship::start(&["--sqlite", &database, "--spool", &spool]);
    assert!(
        poll(std::time::Duration::from_secs(30), || std::path::Path::new(&database).exists().then_some(()))
            .is_some()
    );
    let checked = Checked::run(&["--sqlite", &database, "--spool", &spool], &[]);
    let expected = [vec![("open", false)], fine.clone()].concat();
    assert_eq!((checked.code, checked.steps()), (Some(1), expected), "{:?}", checked.lines);
    assert_eq!(ship.end().code, Some(0));
    let checked = Checked::run(&["--sqlite", &database, "--spool", &spool], &[]);
    assert_eq!(
        (checked.code, checked.steps()),
        (Some(0), [fine.clone(), fine].concat()),
        "{:?}",
        checked.lines
    );
}
