//! `--table`: what a table has is what was in the lines.

use std::process::Command;

use serde_json::{Value, json};

use crate::engine::Engine;
use crate::support::{Ship, program};

/// Whether a row has every field of a record.
fn is_row_of(record: &Value, row: &Value) -> bool {
    record.as_object().unwrap().iter().filter(|(name, _)| *name != "kind").all(|(name, value)| {
        let stored = &row[name];
        match value {
            Value::Number(number) => stored.as_f64() == number.as_f64(),
            Value::String(text) if name == "ts" || name.ends_with("_ts") => {
                stored.as_str().is_some_and(|stored| stored.replace(' ', "T") + "Z" == *text)
            }
            value => stored == value,
        }
    })
}

#[test]
fn every_kind_of_scrape_has_a_table_with_all_values() {
    let Some(engine) = Engine::start() else { return };
    let output = Command::new(program!("scrape")).args(["-n", "3", "-i", "200ms"]).output().unwrap();
    let url = engine.url();
    let ended =
        Ship::run(&["--clickhouse", &url, "--table", "t_{kind}", "--create", "--ttl", "90d"], &output.stdout);
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);

    let text = String::from_utf8(output.stdout).unwrap();
    let mut records: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(ended.count("delivered"), records.len() as u64);
    records.sort_by_key(|record| record["kind"].to_string());
    for of_kind in records.chunk_by(|a, b| a["kind"] == b["kind"]) {
        let kind = of_kind[0]["kind"].as_str().unwrap();
        let rows = engine.rows(&format!("SELECT * FROM {{db}}.t_{kind}"));
        assert_eq!(rows.len(), of_kind.len(), "{kind}");
        for record in of_kind {
            assert!(rows.iter().any(|row| is_row_of(record, row)), "no row for {record} in {rows:?}");
        }
    }
    let columns = engine.rows("DESCRIBE TABLE {db}.t_memory");
    let sql_type = |name: &str| columns.iter().find(|column| column["name"] == name).unwrap()["type"].clone();
    assert_eq!((sql_type("ts"), sql_type("host")), (json!("DateTime64(9)"), json!("LowCardinality(String)")));
    assert_eq!(sql_type("total_bytes"), "Nullable(UInt64)");
    let created = engine.value("SHOW CREATE TABLE {db}.t_memory");
    assert!(created.contains("toIntervalSecond(7776000)"), "{created}");
}

const TS: &str = "2026-11-20T20:45:00.000000001Z";

#[test]
fn one_table_takes_lines_of_all_kinds_and_new_fields() {
    let Some(engine) = Engine::start() else { return };
    let url = engine.url();
    let args = ["--clickhouse", &url, "--table", "t", "--create"];
    let first = [
        json!({ "ts": TS, "kind": "odd", "host": "h", "i": 1, "f": 0.1, "s": "it's\n\"é\" \u{1F600}", "b": true, "a": [1, null],
                "m": { "k": 1.5 }, "n": null, "deep": { "k": [{ "l": 1 }] }, "with.dot": 5, "back`tick\\": 6 }),
        json!({ "ts": "2026-11-20T21:45:00.000000002+01:00", "kind": "load", "host": "h", "load_1m": 1, "i": -9_223_372_036_854_775_808_i64 }),
        json!({ "big": 18_446_744_073_709_551_615_u64, "mixed": 1 }),
        json!({ "ts": null, "mixed": "x" }),
        json!({ "resourceLogs": [] }),
    ];
    let text = |lines: &[Value]| lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let before = telepipe::common::time::Timestamp::now();
    let ended = Ship::run(&args, text(&first));
    assert_eq!((ended.code, ended.count("delivered")), (Some(0), 5), "{}", ended.stderr);
    let rows = engine.rows("SELECT * FROM {db}.t WHERE kind = 'odd'");
    let row = &rows[0];
    assert_eq!((row["i"].as_i64(), row["f"].as_f64(), row["b"].as_bool()), (Some(1), Some(0.1), Some(true)));
    assert_eq!((&row["s"], &row["a"], &row["m"]), (&first[0]["s"], &first[0]["a"], &first[0]["m"]));
    assert_eq!((&row["with.dot"], &row["back`tick\\"], row.get("n")), (&json!(5), &json!(6), None));
    assert_eq!(serde_json::from_str::<Value>(row["deep"].as_str().unwrap()).unwrap(), first[0]["deep"]);
    let value = |column: &str, kind: &str| {
        engine.value(&format!("SELECT {column} FROM {{db}}.t WHERE kind = '{kind}'"))
    };
    assert_eq!(value("ts, load_1m, i", "load"), "2026-11-20 20:45:00.000000002\t1\t-9223372036854775808");
    let others = engine.value(
        "SELECT big, mixed, toUnixTimestamp64Nano(ts) FROM {db}.t WHERE kind = '' ORDER BY mixed NULLS LAST",
    );
    let others: Vec<Vec<_>> = others.lines().map(|row| row.split('\t').collect()).collect();
    assert_eq!((&others[0][..2], &others[1][..2]), (&["18446744073709551615", "1"][..], &["\\N", "x"][..]));
    assert!(others.iter().all(|row| row[2].parse::<u64>().unwrap() >= before.0), "{others:?}");

    // A number that ClickHouse would store as another one is refused; a new field becomes a column.
    let second = [
        json!({ "ts": TS, "kind": "new", "host": "h", "i": 18_446_744_073_709_551_615_u64 }),
        json!({ "ts": TS, "kind": "new", "host": "h", "i": 2, "added": "x" }),
        json!({ "ts": "yesterday", "kind": "new" }),
        json!({ "ts": TS, "kind": "nameless", "": 1 }),
        json!({ "ts": TS, "kind": "dots", "n.a": [1], "n.b": [1, 2] }),
        json!({ "ts": TS, "kind": "new", "host": "h", "f": "text" }),
    ];
    let ended = Ship::run(&args, text(&second));
    assert_eq!((ended.code, ended.lines()), (Some(1), [6, 2, 4, 0, 0]), "{}", ended.stderr);
    assert_eq!((value("i, added", "new"), value("`n.b`", "dots")), ("2\tx".into(), "[1,2]".into()));

    // Without --create a table stays as it is.
    let ended =
        Ship::run(&args[..4], text(&[json!({ "ts": TS, "kind": "last", "i": 3, "unknown_field": 1 })]));
    assert_eq!((ended.code, value("i", "last")), (Some(0), "3".into()), "{}", ended.stderr);
    assert!(ended.stderr.contains("unknown_field"), "{}", ended.stderr);
}

#[test]
fn lines_that_are_not_records_have_a_table() {
    let Some(engine) = Engine::start() else { return };
    let lines = [
        json!({ "ts": TS, "kind": "odd kind`", "x": 1 }),
        json!({ "ts": TS, "kind": "other", "x": 1 }),
        json!({ "ts": TS, "kind": "k".repeat(300), "x": 1 }),
        json!({ "kind": "Pod", "spec": { "a": [1] } }),
        json!({ "resourceSpans": [] }),
        json!({ "ts": TS, "msg": "x" }),
    ];
    let input: String = lines.iter().map(|line| format!("{line}\n")).collect();
    let ended = Ship::run(&["--clickhouse", &engine.url(), "--table", "{kind}_rows", "--create"], input);
    assert_eq!((ended.code, ended.count("delivered")), (Some(0), 6), "{}", ended.stderr);
    assert_eq!(engine.value("SELECT x FROM {db}.`odd kind\\`_rows`"), "1");
    let mut stored: Vec<Value> = engine
        .rows("SELECT json FROM {db}.other_rows")
        .iter()
        .map(|row| serde_json::from_str(row["json"].as_str().unwrap()).unwrap())
        .collect();
    stored.sort_by_key(Value::to_string);
    let mut expected = lines[1..].to_vec();
    expected.sort_by_key(Value::to_string);
    assert_eq!(stored, expected);
}
