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
