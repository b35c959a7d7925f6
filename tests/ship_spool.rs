//! `tele-ship --spool`: committed lines are delivered whatever happens: crashes, outages, full disks, damaged files.

#![cfg(feature = "http")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value as Any;
use prost::Message;
use rustix::process::Signal;
use serde_json::Value;
use support::spool::{Random, Spool, kill_at_random};
use support::tables::sqlite3;
use support::{Answer, Capture, Request, Ship, SmallDisk, free_port, poll, program};

const WAIT: Duration = Duration::from_secs(60);

/// A `log` record with that body.
fn log(n: u64) -> String {
    format!("{{\"ts\":\"2026-11-20T20:45:00Z\",\"kind\":\"log\",\"host\":\"h\",\"body\":\"{n}\"}}\n")
}

fn logs(range: std::ops::Range<u64>) -> String {
    range.map(log).collect()
}

/// The numbers in a request.
fn numbers(request: &Request) -> Vec<u64> {
    let message = ExportLogsServiceRequest::decode(&*request.plain()).expect("a request for logs");
    let records = message.resource_logs.into_iter().flat_map(|r| r.scope_logs).flat_map(|s| s.log_records);
    let number =
        |any| if let Any::StringValue(text) = any { text.parse().unwrap() } else { panic!("{any:?}") };
    records.map(|record| number(record.body.and_then(|body| body.value).expect("a body"))).collect()
}

/// How often each number arrived.
fn arrived(server: &Capture) -> BTreeMap<u64, u32> {
    let mut counts = BTreeMap::new();
    for number in server.requests().iter().flat_map(numbers) {
        *counts.entry(number).or_default() += 1;
    }
    counts
}

fn once(range: std::ops::Range<u64>) -> BTreeMap<u64, u32> {
    range.map(|n| (n, 1)).collect()
}

/// A spool with these lines, which no server has got: left by a process that was killed.
fn filled(spool: &Spool, lines: u64) {
    let url = format!("http://127.0.0.1:{}", free_port());
    let args = ["--otlp", &url, "--spool", &spool.arg(), "--stats", "50ms", "--batch-lines", "100"];
    let mut ship = Ship::start(&args);
    // Several blocks: at most one commit in 25 ms.
    for part in 0..4 {
        ship.feed(logs(part * lines / 4..(part + 1) * lines / 4));
        ship.wait_for_count("read", (part + 1) * lines / 4);
    }
    ship.signal(Signal::KILL);
    assert_eq!(ship.wait().code, None);
}

/// Starts again with a server that works, and ends.
fn delivered(spool: &Spool) -> (support::Ended, Capture) {
    let server = Capture::script([]);
    let ended = Ship::run(&["--otlp", &server.url(), "--spool", &spool.arg(), "--drain", "20s"], "");
    (ended, server)
}

#[test]
fn lines_survive_a_kill_and_are_delivered_once() {
    let spool = Spool::new();
    filled(&spool, 1000);
    // Plain lines, which jq reads.
    let text: String = spool.files(".ndjson").iter().map(|path| fs::read_to_string(path).unwrap()).collect();
    assert_eq!(text, logs(0..1000));
    for path in spool.files("").iter().filter(|path| path.is_file()) {
        let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    let (ended, server) = delivered(&spool);
    assert_eq!((ended.code, ended.lines()), (Some(0), [1000, 1000, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(arrived(&server), once(0..1000));
    let cursor = spool.cursor("otlp-logs").unwrap();
    assert_eq!((cursor["next"].as_u64(), &cursor["open"]), (Some(1000), &serde_json::json!([])));
    // Nothing is delivered again.
    let (ended, server) = delivered(&spool);
    assert_eq!((ended.code, ended.lines(), server.requests().len()), (Some(0), [0; 5], 0));
}

#[test]
fn a_spool_belongs_to_one_process() {
    let spool = Spool::new();
    let server = Capture::script([]);
    let mut first = Ship::start(&["--otlp", &server.url(), "--spool", &spool.arg(), "--batch-age", "50ms"]);
    first.feed(log(0));
    server.wait(1, WAIT);
    let second = Ship::run(&["--otlp", &server.url(), "--spool", &spool.arg()], log(1));
    assert_eq!(second.code, Some(1));
    assert_eq!(first.end().code, Some(0));
    assert_eq!(arrived(&server), once(0..1));
    let small = Ship::run(&["--otlp", &server.url(), "--spool", &spool.arg(), "--spool-max", "1MiB"], "");
    assert_eq!(small.code, Some(2), "a usage error");
}

#[test]
fn a_destination_that_is_down_does_not_hold_back_the_others() {
    let (spool, dir) = (Spool::new(), tempfile::tempdir().unwrap());
    let db = dir.path().join("a.db");
    let url = format!("http://127.0.0.1:{}", free_port());
    // Far more lines than fit into the memory of one sink.
    let args = ["--otlp", &url, "--sqlite", db.to_str().unwrap(), "--spool", &spool.arg()];
    let more = ["--queue-bytes", "64KiB", "--batch-bytes", "16KiB", "--drain", "1s"];
    let ended = Ship::run(&[&args[..], &more].concat(), logs(0..20_000));
    assert_eq!(ended.code, Some(1));
    assert_eq!(sqlite3(&db, "SELECT count(*), count(DISTINCT body) FROM log"), ["20000|20000"]);
    let otlp = ended.stats.iter().find(|stats| stats["sink"] == "otlp").unwrap();
    assert_eq!((otlp["read"].as_u64(), otlp["pending"].as_u64()), (Some(20_000), Some(20_000)));
    // The spool keeps what the other has not got, and knows what SQLite has.
    assert_eq!(spool.cursor("sqlite").unwrap()["next"], 20_000);
    let (ended, server) = delivered(&spool);
    assert_eq!((ended.code, ended.lines()), (Some(0), [20_000, 20_000, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(arrived(&server), once(0..20_000));
}

#[test]
fn segments_are_deleted_although_a_signal_has_no_lines() {
    let spool = Spool::new();
    let server = Capture::script([]);
    let args =
        ["--otlp", &server.url(), "--spool", &spool.arg(), "--spool-max", "16MiB", "--max-line", "1MiB"];
    // 40 MB of logs through segments of 1 MiB.
    let line = |n: u64| log(n).replace("\"kind\"", &format!("\"pad\":\"{}\",\"kind\"", "x".repeat(9_900)));
    let ended = Ship::run(&args, (0..4000).map(line).collect::<String>());
    assert_eq!((ended.code, ended.lines()), (Some(0), [4000, 4000, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(arrived(&server), once(0..4000));
    let left = spool.files(".ndjson");
    assert!(left.len() <= 2, "{left:?}");
}

#[test]
fn sigterm_leaves_what_is_not_delivered_for_the_next_start() {
    let spool = Spool::new();
    let server = Capture::with(|request| {
        let first = numbers(request)[0];
        if first < 200 { Answer::ok() } else { Answer::status(503) }
    });
    let args = ["--otlp", &server.url(), "--spool", &spool.arg(), "--batch-lines", "100", "--drain", "1s"];
    let mut ship = Ship::start(&[&args[..], &["--stats", "50ms"]].concat());
    ship.feed(logs(0..1000));
    ship.wait_for_count("delivered", 200);
    ship.signal(Signal::TERM);
    let begun = Instant::now();
    let ended = ship.wait();
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert_eq!((ended.code, ended.lines()), (Some(1), [1000, 200, 0, 800, 0]), "{}", ended.stderr);
    let (ended, server) = delivered(&spool);
    assert_eq!((ended.code, ended.lines()), (Some(0), [800, 800, 0, 0, 0]));
    assert_eq!(arrived(&server), once(200..1000));
}

/// A counter that goes back, so that the bytes depend on what was delivered before; and lines without a time.
fn counters(range: std::ops::Range<u64>) -> String {
    let line = |n: u64| {
        let reads = [10, 20, 5, 6, 30, 2, 3, 4][n as usize % 8];
        let (minute, second) = (n / 60 % 60, n % 60);
        format!(
            "{{\"ts\":\"2026-11-20T20:{minute:02}:{second:02}Z\",\"kind\":\"disk\",\"host\":\"h\",\"device\":\"a\",\
             \"start_ts\":\"2026-11-01T00:00:00Z\",\"reads\":{reads}}}\n{{\"message\":{n}}}\n"
        )
    };
    range.map(line).collect()
}

#[test]
fn a_restart_repeats_the_batches_byte_for_byte() {
    let spool = Spool::new();
    // The first batches are delivered. Then requests over a size are refused, and nothing is answered.
    let delivered = Arc::new(Mutex::new(Vec::new()));
    let accepted = delivered.clone();
    let first = Capture::with(move |request| {
        let mut accepted = accepted.lock().unwrap();
        match (accepted.len(), request.body.len()) {
            (..6, _) => {
                accepted.push(request.body.clone());
                Answer::ok()
            }
            (_, 1200..) => Answer::status(413),
            _ => Answer::silence(),
        }
    });
    let args = ["--spool", &spool.arg(), "--batch-lines", "30", "--in-flight", "8", "--compression", "none"];
    let mut ship = Ship::start(&[&["--otlp", &first.url()], &args[..]].concat());
    ship.feed(counters(0..300));
    let is_settled = || {
        let sent = first.requests();
        let split = sent.iter().filter(|request| request.body.len() >= 1200).count();
        // Two requests of each signal are in flight, of lines that were split.
        (split >= 2 && sent.len() >= 6 + split + 2).then_some(())
    };
    poll(WAIT, is_settled).expect("requests");
    std::thread::sleep(Duration::from_millis(300));
    ship.signal(Signal::KILL);
    ship.wait();
    let known = delivered.lock().unwrap();
    let mut unanswered = first.requests();
    unanswered.retain(|request| request.body.len() < 1200 && !known.contains(&request.body));
    assert!(unanswered.len() >= 2);

    let second = Capture::script([]);
    let ended = Ship::run(&[&["--otlp", &second.url()], &args[..]].concat(), "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    let sent = second.requests();
    for request in &unanswered {
        let same = |other: &&Request| other.path == request.path && other.body == request.body;
        assert_eq!(sent.iter().filter(same).count(), 1, "{} of {} bytes", request.path, request.body.len());
    }
    // Nothing that the first server has was sent again.
    assert!(sent.iter().all(|request| !known.contains(&request.body)));
}

/// Changes a file, starts again, and gives how the run ended and what arrived.
fn after(damage: impl FnOnce(&Spool)) -> (support::Ended, BTreeMap<u64, u32>, Spool) {
    let spool = Spool::new();
    filled(&spool, 1000);
    damage(&spool);
    let (ended, server) = delivered(&spool);
    // A second start finds nothing to do, and new lines are delivered.
    let url = server.url();
    let again = Ship::run(&["--otlp", &url, "--spool", &spool.arg()], log(5000));
    assert_eq!((again.code, again.lines()), (Some(0), [1, 1, 0, 0, 0]), "{}", again.stderr);
    let mut counts = arrived(&server);
    assert_eq!(counts.remove(&5000), Some(1));
    (ended, counts, spool)
}

fn append(path: &Path, bytes: &[u8]) {
    fs::OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn a_torn_tail_is_cut_off() {
    for tear in [&b"{\"kind\":\"log\",\"bo"[..], b"{\"kind\":\"log\",\"body\":\"77777\"}\n"] {
        let (ended, counts, _) = after(|spool| append(&spool.files(".ndjson")[0], tear));
        assert_eq!((ended.code, ended.lines()), (Some(0), [1000, 1000, 0, 0, 0]), "{}", ended.stderr);
        assert_eq!(counts, once(0..1000));
        assert!(ended.stderr.contains(&format!(" {} bytes", tear.len())), "{}", ended.stderr);
    }
    // A torn index entry.
    let (ended, counts, _) = after(|spool| append(&spool.files(".index")[0], &[7; 21]));
    assert_eq!((ended.code, counts), (Some(0), once(0..1000)));
}

#[test]
fn a_flipped_bit_costs_one_block_which_is_set_aside() {
    let (ended, counts, spool) = after(|spool| {
        let path = &spool.files(".ndjson")[0];
        let mut bytes = fs::read(path).unwrap();
        bytes[100] ^= 4;
        fs::write(path, bytes).unwrap();
    });
    let [read, delivered, rejected, pending, dropped] = ended.lines();
    assert_eq!((ended.code, read, rejected, pending), (Some(1), 1000, 0, 0), "{}", ended.stderr);
    assert!((1..=500).contains(&dropped) && delivered == 1000 - dropped, "{:?}", ended.lines());
    assert_eq!(counts, once(dropped..1000));
    let aside: usize = spool
        .files(".damaged")
        .iter()
        .map(|path| fs::read(path).unwrap().split(|b| *b == b'\n').count() - 1)
        .sum();
    assert_eq!(aside as u64, dropped);
    // A bit in the index.
    let (ended, counts, _) = after(|spool| {
        let path = &spool.files(".index")[0];
        let mut bytes = fs::read(path).unwrap();
        bytes[3] ^= 4;
        fs::write(path, bytes).unwrap();
    });
    let [read, delivered, _, _, dropped] = ended.lines();
    assert!(read == 1000 && dropped >= 1 && delivered == 1000 - dropped, "{:?}", ended.lines());
    assert_eq!(counts, once(dropped..1000));
}

#[test]
fn a_missing_segment_is_counted_as_dropped() {
    let (ended, counts, _) = after(|spool| fs::remove_file(&spool.files(".ndjson")[0]).unwrap());
    assert_eq!((ended.code, ended.lines()), (Some(1), [1000, 0, 0, 0, 1000]), "{}", ended.stderr);
    assert_eq!((ended.count("dropped_damaged"), counts), (1000, once(0..0)));
    // Without its index, its lines cannot be checked.
    let (ended, counts, spool) = after(|spool| fs::remove_file(&spool.files(".index")[0]).unwrap());
    assert_eq!((ended.code, ended.lines()), (Some(1), [1000, 0, 0, 0, 1000]), "{}", ended.stderr);
    assert_eq!(counts, once(0..0));
    assert_eq!(fs::read_to_string(&spool.files(".damaged")[0]).unwrap(), logs(0..1000));
}

#[test]
fn a_cursor_that_cannot_be_true_is_set_aside() {
    let future = |spool: &Spool| {
        let path = spool.path().join("otlp-logs.cursor");
        let text = fs::read_to_string(&path).unwrap();
        let next = format!("\"next\":{}", spool.cursor("otlp-logs").unwrap()["next"]);
        assert!(text.contains(&next));
        fs::write(&path, text.replace(&next, "\"next\":999999")).unwrap();
    };
    let empty = |spool: &Spool| fs::write(spool.path().join("otlp-logs.cursor"), "").unwrap();
    let damages: [&dyn Fn(&Spool); 2] = [&future, &empty];
    for damage in damages {
        let (ended, counts, spool) = after(damage);
        assert_eq!((ended.code, ended.lines()), (Some(0), [1000, 1000, 0, 0, 0]), "{}", ended.stderr);
        assert_eq!(counts, once(0..1000));
        assert!(!spool.files(".cursor.damaged").is_empty());
    }
    // A cursor that is whole and ahead of the lines: offsets are not used again.
    let (ended, counts, spool) = after(|spool| {
        let (_, server) = delivered(spool);
        assert_eq!(arrived(&server), once(0..1000));
        for path in spool.files(".ndjson").iter().chain(&spool.files(".index")) {
            fs::remove_file(path).unwrap();
        }
    });
    assert_eq!((ended.code, counts), (Some(0), once(0..0)));
    assert!(spool.files(".ndjson")[0].ends_with(format!("{:020}.ndjson", 1000)));
}

#[test]
fn a_full_spool_stops_reading_and_goes_on() {
    let spool = Spool::new();
    let up = Arc::new(Mutex::new(false));
    let is_up = up.clone();
    let server =
        Capture::with(move |_| if *is_up.lock().unwrap() { Answer::ok() } else { Answer::status(503) });
    let args = ["--otlp", &server.url(), "--spool", &spool.arg(), "--spool-max", "16MiB"];
    let mut ship = Ship::start(&[&args[..], &["--max-line", "1MiB"]].concat());
    let mut stdin = ship.take_stdin();
    let feeder = std::thread::spawn(move || {
        // 50 MB.
        for n in 0..500 {
            let line =
                |n: u64| log(n).replace("\"kind\"", &format!("\"pad\":\"{}\",\"kind\"", "x".repeat(9_900)));
            stdin.write_all((10 * n..10 * n + 10).map(line).collect::<String>().as_bytes()).unwrap();
        }
    });
    ship.wait_for("full");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!feeder.is_finished(), "reading stops");
    let size: u64 = spool.files("").iter().map(|path| path.metadata().unwrap().len()).sum();
    assert!(size <= 17 << 20, "{size}");
    *up.lock().unwrap() = true;
    feeder.join().unwrap();
    let ended = ship.wait();
    assert_eq!((ended.code, ended.lines()), (Some(0), [5000, 5000, 0, 0, 0]), "{}", ended.stderr);
    // Requests that were refused are among these.
    let counts = arrived(&server);
    assert!((0..5000).all(|n| counts.contains_key(&n)));
}

#[test]
fn a_full_disk_stops_reading_and_goes_on() {
    let Some(disk) = SmallDisk::mount("8m") else { return };
    let (dir, ballast) = (disk.path().join("spool"), disk.path().join("ballast"));
    fs::write(&ballast, vec![0; 5 << 20]).unwrap();
    let server = Capture::script([]);
    let url = format!("http://127.0.0.1:{}", free_port());
    let args = ["--spool", dir.to_str().unwrap(), "--drain", "20s", "--stats", "100ms"];
    let mut ship = Ship::start(&[&["--otlp", &url], &args[..]].concat());
    let mut stdin = ship.take_stdin();
    let (count, lines) = (40_000, logs(0..40_000));
    let feeder = std::thread::spawn(move || drop(stdin.write_all(lines.as_bytes())));
    ship.wait_for("full");
    let is_waiting = Instant::now();
    std::thread::sleep(Duration::from_secs(11));
    fs::remove_file(&ballast).unwrap();
    let seconds = is_waiting.elapsed().as_secs();
    feeder.join().unwrap();
    ship.wait_for_count("read", count);
    ship.signal(Signal::KILL);
    let ended = ship.wait();
    let reports = ended.stderr.lines().filter(|line| line.contains("full")).count() as u64;
    assert!((2..=1 + seconds / 10 + 1).contains(&reports), "one line every 10 s: {}", ended.stderr);
    // Nothing is lost.
    let ended = Ship::run(&[&["--otlp", &server.url()], &args[..]].concat(), "");
    assert_eq!((ended.code, ended.lines()), (Some(0), [count, count, 0, 0, 0]), "{}", ended.stderr);
    assert_eq!(arrived(&server), once(0..count));
}

/// The JSON lines and the exit code of `tele-ship spool`.
fn inspect(what: &str, spool: &Spool) -> (Option<i32>, Vec<Value>) {
    let run = std::process::Command::new(program!("tele-ship"))
        .args(["spool", what, &spool.arg()])
        .output()
        .unwrap();
    let lines = run.stdout.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    (run.status.code(), lines.map(|line| serde_json::from_slice(line).expect("JSON")).collect())
}

#[test]
fn status_verify_and_drain() {
    let spool = Spool::new();
    assert_eq!(inspect("status", &spool).0, Some(1), "no directory");
    filled(&spool, 1000);
    for what in ["status", "verify"] {
        let (code, lines) = inspect(what, &spool);
        assert_eq!((code, lines.len()), (Some(0), 4));
        let numbers =
            ["first", "end", "lines", "damaged_lines", "torn_bytes"].map(|name| lines[0][name].as_u64());
        assert_eq!(numbers, [0, 1000, 1000, 0, 0].map(Some));
        let row =
            |row: &Value| (row["signal"].as_str().unwrap().to_owned(), row["pending"].as_u64().unwrap());
        assert!(lines[1..].iter().all(|row| row["sink"] == "otlp"));
        let rows: BTreeMap<_, _> = lines[1..].iter().map(row).collect();
        assert_eq!(
            rows,
            [("logs", 1000), ("metrics", 0), ("traces", 0)].map(|(name, n)| (name.into(), n)).into()
        );
    }
    // Damage is found, and nothing is changed.
    let path = &spool.files(".ndjson")[0];
    let bytes = fs::read(path).unwrap();
    let mut damaged = bytes.clone();
    damaged[50] ^= 1;
    fs::write(path, &damaged).unwrap();
    let (code, lines) = inspect("verify", &spool);
    let lost = lines[0]["damaged_lines"].as_u64().unwrap();
    assert_eq!((code, lines[0]["lines"].as_u64().unwrap() + lost), (Some(1), 1000));
    assert!(lost > 0);
    assert_eq!(fs::read(path).unwrap(), damaged);
    fs::write(path, bytes).unwrap();

    let server = Capture::script([]);
    let drained = Ship::run(&["spool", "drain", &spool.arg(), "--otlp", &server.url()], "");
    assert_eq!((drained.code, drained.lines()), (Some(0), [1000, 1000, 0, 0, 0]), "{}", drained.stderr);
    assert_eq!(arrived(&server), once(0..1000));
    assert!(inspect("status", &spool).1[1..].iter().all(|row| row["pending"] == 0));
}

#[test]
fn only_a_spool_can_be_drained() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).to_str().unwrap().to_owned();
    fs::create_dir(path("other")).unwrap();
    fs::write(path("other/app.ndjson"), "{}\n").unwrap();
    let drain = |name: &str| Ship::run(&["spool", "drain", &path(name), "--stdout"], "").code;
    for (name, files) in [("other", 1), ("none", 0)] {
        assert_eq!(drain(name), Some(1), "{name}");
        assert_eq!(fs::read_dir(path(name)).map_or(0, |files| files.count()), files, "{name}");
    }
    assert!(!dir.path().join("none").exists());
    // One without lines.
    assert_eq!(Ship::run(&["--stdout", "--spool", &path("empty")], "").code, Some(0));
    assert_eq!(drain("empty"), Some(0));
}

/// Kills the program `kills` times while it delivers `lines` numbered lines to a server that fails at random.
fn killed(kills: u64, lines: u64) {
    let spool = Spool::new();
    let stored = Arc::new(Mutex::new(vec![0u32; lines as usize]));
    let (into, mut moods) = (stored.clone(), Random(7));
    let server = Capture::with(move |request| match moods.below(10) {
        0 => Answer::status(503),
        1 => Answer::hangup(),
        mood => {
            numbers(request).iter().for_each(|n| into.lock().unwrap()[*n as usize] += 1);
            Answer::ok().after(Duration::from_millis(if mood == 2 { 100 } else { 0 }))
        }
    });
    // How often each line may arrive.
    let mut allowed = vec![1u32; lines as usize];
    let worst = kill_at_random(&spool, &["--otlp", &server.url()], kills, lines, log, || {
        for batch in
            spool.cursor("otlp-logs").iter().flat_map(|cursor| cursor["open"].as_array().unwrap().clone())
        {
            let (first, end) = (batch["first"].as_u64().unwrap(), batch["end"].as_u64().unwrap());
            allowed[first as usize..end as usize].iter_mut().for_each(|times| *times += 1);
        }
    });
    let stored = stored.lock().unwrap();
    let lost: Vec<_> = (0..lines as usize).filter(|n| stored[*n] == 0).collect();
    assert!(lost.is_empty(), "{} lines are lost, the first is {:?}", lost.len(), lost.first());
    let surplus: Vec<_> = (0..lines as usize).filter(|n| stored[*n] > allowed[*n]).collect();
    assert!(surplus.is_empty(), "{} lines arrived too often, the first is {}", surplus.len(), surplus[0]);
    let twice = stored.iter().filter(|times| **times > 1).count();
    eprintln!(
        "{kills} kills, {lines} lines: {twice} arrived more than once; at most {worst} bytes were read and not committed"
    );
}

#[test]
fn twenty_kills_lose_no_committed_line() {
    killed(20, 60_000);
}

#[test]
fn two_hundred_kills_lose_no_committed_line() {
    if support::require_long() {
        killed(200, 1_000_000);
    }
}
