//! Reads a database of `tele-ship` with the `sqlite3` command, and turns the rows back into lines by the rules of
//! the man page.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Map, Value, json};

/// Runs `sqlite3`; returns its output, one row per line.
pub fn sqlite3(db: &Path, sql: &str) -> Vec<String> {
    let output = Command::new("sqlite3")
        .args(["-readonly", "-cmd", ".timeout 5000"])
        .arg(db)
        .arg(sql)
        .output()
        .expect("the sqlite3 command");
    assert!(output.status.success(), "{sql}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8").lines().map(str::to_owned).collect()
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// The names in the first column, which can contain any character.
fn names(db: &Path, sql: &str) -> Vec<String> {
    sqlite3(db, sql).iter().map(|hex| String::from_utf8(unhex(hex)).unwrap()).collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
}

/// Decodes `^what:name`, where `^` precedes capitals; any other name is itself.
fn unmarked(name: &str) -> (String, Option<&str>) {
    let Some((what, rest)) = name.strip_prefix('^').and_then(|rest| rest.split_once(':')) else {
        return (name.into(), None);
    };
    let (mut plain, mut letters) = (String::new(), rest.chars());
    while let Some(letter) = letters.next() {
        let letter = if letter == '^' { letters.next().unwrap() } else { letter };
        plain.push(if letter == '0' && rest.contains("^0") { '\0' } else { letter });
    }
    (plain, Some(what))
}

/// The rows of every table, in order, as the fields of the lines; by kind.
fn read_back(db: &Path) -> HashMap<Option<String>, Vec<Map<String, Value>>> {
    let mut all = HashMap::new();
    for table in names(db, "SELECT hex(name) FROM sqlite_schema WHERE type = 'table'") {
        let kind = if table == "other" { None } else { Some(unmarked(&table).0) };
        let columns = names(db, &format!("SELECT hex(name) FROM pragma_table_info({})", literal(&table)));
        let types = sqlite3(db, &format!("SELECT type FROM pragma_table_info({})", literal(&table)));
        let cell = |name: &String| {
            let name = quoted(name);
            format!(
                "typeof({name}) || ' ' || CASE typeof({name}) WHEN 'text' THEN hex({name}) ELSE quote({name}) END"
            )
        };
        let cells = columns.iter().map(cell).collect::<Vec<_>>().join(", ");
        let rows = sqlite3(db, &format!("SELECT {cells} FROM {} ORDER BY rowid", quoted(&table)));
        let rows = rows.iter().map(|row| {
            let cells = row.split('|').zip(columns.iter().zip(&types));
            let values = cells.filter_map(|(cell, (name, sql_type))| Some((name, value(cell, sql_type)?)));
            let mut row = Map::new();
            for (name, value) in values {
                match value {
                    Value::Object(more) if name == "^more" => row.extend(more),
                    value => drop(row.insert(unmarked(name).0, value)),
                }
            }
            row
        });
        all.insert(kind, rows.collect());
    }
    all
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// `integer 5`, `real 0.5`, `text 6869`, `null NULL`.
fn value(cell: &str, sql_type: &str) -> Option<Value> {
    let (class, text) = cell.split_once(' ').unwrap();
    let string = || String::from_utf8(unhex(text)).unwrap();
    match class {
        "null" => None,
        "integer" => Some(json!(text.parse::<i64>().unwrap())),
        "real" => Some(json!(text.parse::<f64>().unwrap())),
        "text" if sql_type.contains("JSON") => Some(serde_json::from_str(&string()).unwrap()),
        "text" => Some(string().into()),
        _ => panic!("{cell}"),
    }
}

/// Whether a stored value equals that of the line: numbers can have another form, and a boolean is 0 or 1.
fn same(line: &Value, row: &Value) -> bool {
    match (line, row) {
        (Value::Bool(line), row) => *row == json!(i64::from(*line)),
        (Value::Number(number), Value::String(digits)) => number.is_u64() && number.to_string() == *digits,
        (Value::Number(line), Value::Number(row)) => {
            let integers = line.as_i64().zip(row.as_i64());
            integers.map_or(line.as_f64() == row.as_f64(), |(line, row)| line == row)
        }
        _ => line == row,
    }
}

/// Whether a stored time is that of the line, with nine digits, so that times sort as text; what is no time is stored
/// as it is.
fn same_time(line: &Value, row: &Value) -> bool {
    match line.as_str().map(str::parse::<jiff::Timestamp>) {
        Some(Ok(time)) => *row == format!("{time:.9}"),
        _ => same(line, row),
    }
}

/// Asserts that the tables contain every field of every line, and nothing else.
pub fn assert_stored(db: &Path, lines: &[u8]) -> usize {
    let mut stored = read_back(db);
    let mut rows: HashMap<_, _> =
        stored.iter_mut().map(|(kind, rows)| (kind.clone(), rows.drain(..))).collect();
    let lines: Vec<Value> = super::records::parse(lines);
    for line in &lines {
        let record = line["ts"].as_str().and(line["kind"].as_str()).map(str::to_owned);
        let row =
            rows.get_mut(&record).and_then(Iterator::next).unwrap_or_else(|| panic!("no row for {line}"));
        let mut fields = line.as_object().unwrap().clone();
        if record.is_none() {
            assert_eq!(row["json"], *line);
            continue;
        }
        fields.retain(|name, value| name != "kind" && !value.is_null());
        for (name, value) in &fields {
            let stored = row.get(name).unwrap_or_else(|| panic!("{name} of {line} is not in {row:?}"));
            let is_time = name == "ts" || name.ends_with("_ts");
            let ok = if is_time { same_time(value, stored) } else { same(value, stored) };
            assert!(ok, "{name}: {value} became {stored}");
        }
        assert_eq!(row.len(), fields.len(), "{row:?}\n{line}");
    }
    assert!(rows.into_values().all(|mut rest| rest.next().is_none()), "rows without a line");
    lines.len()
}
