//! Property tests: every value of every line can be read back, whatever the names and values.

use super::*;
use proptest::prelude::*;
use rusqlite::Connection;
use serde_json::{Map, Value, json};

fn value() -> impl Strategy<Value = Value> {
    let number = prop_oneof![
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        (-1e300..1e300).prop_map(Value::from)
    ];
    let scalar = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        number,
        "\\PC{0,4}".prop_map(Value::from)
    ];
    prop_oneof![4 => scalar.clone(), 1 => prop::collection::vec(scalar, 0..3).prop_map(Value::from)]
}

/// Kinds and fields from few letters, so that their names collide in every way.
fn record() -> impl Strategy<Value = Value> {
    let name = prop_oneof!["[aAbB^\"0\0 ]{0,3}", Just("ts".into()), Just("TS".into()), Just("rowid".into())];
    let fields = prop::collection::vec((name.clone(), value()), 0..8);
    (name, fields).prop_map(|(kind, fields)| {
        let mut record: Map<_, _> = fields.into_iter().filter(|(name, _)| name != "ts").collect();
        record.insert("ts".into(), json!("2026-11-20T20:45:00Z"));
        record.insert("kind".into(), kind.into());
        record.into()
    })
}

fn values(db: &Connection) -> i64 {
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table'";
    let mut tables = db.prepare(tables).unwrap();
    let names = tables.query_map([], |row| row.get::<_, String>(0)).unwrap().map(Result::unwrap);
    let count = |table: String| {
        let columns = "SELECT group_concat('count(\"' || replace(name, '\"', '\"\"') || '\")', '+') FROM pragma_table_info(?1)";
        let sum: String = db.query_row(columns, [&table], |row| row.get(0)).unwrap();
        let table = rows::quoted(&table);
        db.query_row(&format!("SELECT {sum} FROM {table}"), [], |row| row.get::<_, i64>(0)).unwrap()
    };
    names.map(count).sum()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// No line is refused, and no value is lost or overwrites another.
    #[test]
    fn every_value_of_every_line_is_stored(records in prop::collection::vec(record(), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let mut sink = Sqlite::open(&dir.path().join("a.db"), Bounds::default()).unwrap();
        for half in [&records[..records.len() / 2], &records[records.len() / 2..]] {
            let mut batch = Batch::new();
            half.iter().enumerate().for_each(|(n, record)| batch.push(n as u64, record.to_string().as_bytes()));
            let encoded = sink.encode(&batch);
            prop_assert!(encoded.rejected.is_empty(), "{:?}", encoded.rejected);
            for request in encoded.requests {
                sink.store(&request.body).unwrap();
            }
        }
        let fields = records.iter().flat_map(|record| record.as_object().unwrap());
        let expected = fields.filter(|(name, value)| *name != "kind" && !value.is_null()).count();
        prop_assert_eq!(values(&sink.file.db), i64::try_from(expected).unwrap());
    }
}
