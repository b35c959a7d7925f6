//! A `tele-ship` with a spool that is killed at random moments, and a server that fails at random: ClickHouse has every
//! committed line once.

use serde_json::json;

use crate::engine::Engine;
use crate::support::require_long;
use crate::support::spool::{Spool, kill_at_random};

/// Lines for two tables, and two days in each.
fn line(n: u64) -> String {
    let ts = format!("2026-11-{}T20:45:00Z", 20 + n / 2 % 2);
    let line = match n % 2 {
        0 => json!({ "ts": ts, "kind": "log", "host": "h", "body": n.to_string() }),
        _ => json!({ "ts": ts, "kind": "metric", "host": "h", "name": "m", "value": n }),
    };
    format!("{line}\n")
}

/// Kills the program `kills` times. `tables` are those that it fills: their names, and the columns with the time and the number.
fn killed(args: &[&str], tables: [(&str, &str, &str); 2], kills: u64, lines: u64) {
    let Some(engine) = Engine::start() else { return };
    let url = engine.url();
    let args = [&["--clickhouse", &url, "--create", "--drain", "80s"], args].concat();
    engine.fail(40);
    let mut left = kills;
    let worst = kill_at_random(&Spool::new(), &args, kills, lines, line, || {
        left -= 1;
        if left == 0 {
            engine.fail(10);
        }
    });
    for (table, time, number) in tables {
        let counts = format!("SELECT count(), uniqExact({number}), uniq(toDate({time})) FROM {{db}}.{table}");
        assert_eq!(engine.value(&counts), format!("{0}\t{0}\t2", lines / 2), "{table}");
    }
    let repeated = engine.fail(0);
    assert!(repeated >= kills / 4, "only {repeated} inserts were repeated: nothing is shown");
    eprintln!(
        "{kills} kills, {lines} lines: {repeated} inserts were repeated; at most {worst} bytes were read and not committed"
    );
}

fn killed_as_lines(kills: u64, lines: u64) {
    killed(&["--table", "t_{kind}"], [("t_log", "ts", "body"), ("t_metric", "ts", "value")], kills, lines);
}

fn killed_as_otlp(kills: u64, lines: u64) {
    killed(
        &[],
        [("otel_logs", "Timestamp", "Body"), ("otel_metrics_gauge", "TimeUnix", "Value")],
        kills,
        lines,
    );
}

#[test]
fn twenty_kills_store_every_line_once() {
    killed_as_lines(20, 60_000);
}

#[test]
fn twenty_kills_store_every_log_record_and_point_once() {
    killed_as_otlp(20, 60_000);
}

#[test]
fn two_hundred_kills_store_every_line_once() {
    if require_long() {
        killed_as_lines(200, 1_000_000);
    }
}

#[test]
fn two_hundred_kills_store_every_log_record_and_point_once() {
    if require_long() {
        killed_as_otlp(200, 1_000_000);
    }
}
