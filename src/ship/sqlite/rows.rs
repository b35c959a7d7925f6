//! Converts lines to rows, without regard to the tables in the database.
//!
//! A row belongs to a shape, one for each kind; its cells belong to the shape's fields. Both go by number. A line is
//! one row, except that each span of OTLP/JSON is one.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};

use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use serde::ser::Error as _;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;

use super::spans;
use crate::common::time::Timestamp;
use crate::record::{self, SPAN};
use crate::ship::Batch;
use crate::ship::line::{Class, Line, Value};

/// The most fields of a kind. One with more uses names as data: the rest share a column.
const MAX_FIELDS: usize = 1000;
/// The most tables. Lines of further kinds go to the table of lines that are not records.
pub const MAX_TABLES: usize = 500;

/// A value, in a form that SQLite stores exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// An integer that fits.
    Int(i64),
    /// Stored as 0 or 1.
    Bool(bool),
    /// A finite number.
    Real(f64),
    /// The digits of an integer that does not fit.
    Digits(String),
    /// A string.
    Text(String),
    /// The JSON of an array or object.
    Json(String),
}

/// One row.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// The number of its shape.
    pub shape: usize,
    /// Field numbers and values. Null has no cell.
    pub cells: Vec<(usize, Cell)>,
    /// Names and values of fields beyond the limit.
    pub beyond: Vec<(String, Cell)>,
}

impl Row {
    #[inline]
    fn push(&mut self, shape: &mut Shape, name: &str, cell: Cell) {
        match shape.field(name, self.cells.len()) {
            Some(field) => self.cells.push((field, cell)),
            None => self.beyond.push((name.to_owned(), cell)),
        }
    }
}

/// The fields of a kind seen so far.
pub struct Shape {
    /// The kind; `None` for lines that are not records.
    pub kind: Option<String>,
    /// Field names, by number.
    pub fields: Vec<String>,
    numbers: HashMap<String, usize>,
    /// The numbers of the fields of the previous row, which are nearly always the same.
    order: Vec<usize>,
}

/// All shapes seen so far.
#[derive(Default)]
pub struct Shapes {
    shapes: Vec<Shape>,
    /// By kind.
    numbers: HashMap<String, usize>,
    /// The shape of lines that are not records.
    other: Option<usize>,
    /// The tables that exist or will be created, without `other`.
    tables: HashSet<String>,
    /// A kind was seen beyond the limit of tables.
    pub overflowed: bool,
}

impl Shapes {
    /// Sets which tables exist in the database.
    pub fn set_tables(&mut self, names: HashSet<String>) {
        self.tables = names;
        self.tables.extend(self.shapes.iter().filter_map(|shape| shape.kind.clone()));
    }

    /// The shape with this number.
    pub fn get(&self, number: usize) -> &Shape {
        &self.shapes[number]
    }

    /// Adds the rows of line `index` of a batch.
    ///
    /// # Errors
    /// If it is not a JSON object.
    pub fn add_rows(&mut self, rows: &mut Vec<Row>, batch: &Batch, index: usize) -> Result<(), String> {
        let (bytes, received) = (batch.line(index), batch.received(index));
        let line = Line::parse(bytes)?;
        if line.kind().is_none() && matches!(line.class(), Class::Otlp) {
            let spans = spans::records(&line);
            if !spans.is_empty() {
                for span in spans {
                    let span = span.to_string();
                    rows.push(self.row(span.as_bytes(), &Line::parse(span.as_bytes())?, received));
                }
                return Ok(());
            }
        }
        rows.push(self.row(bytes, &line, received));
        Ok(())
    }

    fn row(&mut self, bytes: &[u8], line: &Line<'_>, received: Timestamp) -> Row {
        let received = || Cell::Text(received.to_string());
        let (is_record, is_span) = match line.class() {
            Class::Record(kind) => (true, kind.name == SPAN.name),
            Class::Otlp => (false, false),
            Class::Object => (line.str("ts").is_some(), false),
        };
        let Some(number) = line.kind().filter(|_| is_record).and_then(|kind| self.number(kind)) else {
            let shape = *self.other.get_or_insert_with(|| add(&mut self.shapes, None));
            let ts = line.str("ts").map_or_else(received, |ts| Cell::Text(time(ts)));
            let json = String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
            return Row { shape, cells: vec![(0, ts), (1, Cell::Json(json))], beyond: Vec::new() };
        };
        let mut row = Row { shape: number, cells: Vec::with_capacity(line.fields.len()), beyond: Vec::new() };
        let shape = &mut self.shapes[number];
        if line.str("ts").is_none() {
            row.cells.push((0, received()));
        }
        for (name, value) in &line.fields {
            let cell = match value {
                Value::Null => continue,
                _ if name == "kind" => continue,
                Value::Str(text) if name == "ts" || name.ends_with("_ts") => Cell::Text(time(text)),
                value => cell(value),
            };
            row.push(shape, name, cell);
        }
        if is_span && let Some(duration) = spans::duration(line) {
            row.push(shape, spans::DURATION, Cell::Int(duration));
        }
        row
    }

    /// Whether a kind has a table or can get one.
    fn has_room(&mut self, kind: &str) -> bool {
        let known = self.tables.contains(kind) || self.tables.contains(&marked("kind", kind));
        let room = known || record::kind(kind).is_some() || self.tables.len() < MAX_TABLES;
        if room && !known {
            self.tables.insert(kind.to_owned());
        }
        self.overflowed |= !room;
        room
    }

    /// The shape of a kind; `None` if there is no room for its table.
    fn number(&mut self, kind: &str) -> Option<usize> {
        if let Some(number) = self.numbers.get(kind) {
            return Some(*number);
        }
        self.has_room(kind).then(|| {
            let number = add(&mut self.shapes, Some(kind.to_owned()));
            self.numbers.insert(kind.to_owned(), number);
            number
        })
    }
}

fn add(shapes: &mut Vec<Shape>, kind: Option<String>) -> usize {
    shapes.push(Shape::new(kind));
    shapes.len() - 1
}

/// A time as telepipe writes it, with nine digits, so that times sort as text. Any other text is unchanged.
fn time(text: &str) -> String {
    const LENGTH: usize = "2026-11-20T20:45:00.000000000Z".len();
    let other = if text.len() == LENGTH { None } else { text.parse::<Timestamp>().ok() };
    other.map_or_else(|| text.to_owned(), |time| time.to_string())
}

impl Shape {
    fn new(kind: Option<String>) -> Self {
        let first = if kind.is_some() { ["ts", "host"] } else { ["ts", "json"] };
        let numbers = first.iter().enumerate().map(|(number, name)| ((*name).to_owned(), number)).collect();
        Self { kind, fields: first.map(str::to_owned).to_vec(), numbers, order: Vec::new() }
    }

    /// The number of a field that is cell `at` of a row; `None` beyond the limit.
    fn field(&mut self, name: &str, at: usize) -> Option<usize> {
        if let Some(number) = self.order.get(at).filter(|number| self.fields[**number] == name) {
            return Some(*number);
        }
        let number = match self.numbers.get(name) {
            Some(number) => *number,
            None if self.fields.len() >= MAX_FIELDS => return None,
            None => {
                self.fields.push(name.to_owned());
                self.numbers.insert(name.to_owned(), self.fields.len() - 1);
                self.fields.len() - 1
            }
        };
        self.order.truncate(at);
        self.order.push(number);
        Some(number)
    }
}

impl Cell {
    /// The value as JSON.
    pub fn json(&self) -> String {
        match self {
            Self::Int(value) => value.to_string(),
            Self::Bool(value) => value.to_string(),
            // Serializing a number or a string cannot fail.
            Self::Real(value) => serde_json::to_string(value).unwrap_or_default(),
            Self::Text(text) => serde_json::to_string(text).unwrap_or_default(),
            Self::Digits(text) | Self::Json(text) => text.clone(),
        }
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Bool(value) => ValueRef::Integer(i64::from(*value)),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Digits(text) | Self::Text(text) | Self::Json(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

fn cell(value: &Value<'_>) -> Cell {
    match value {
        Value::Bool(value) => Cell::Bool(*value),
        Value::I64(value) => Cell::Int(*value),
        Value::U64(value) => Cell::Digits(value.to_string()),
        Value::Big(digits) => Cell::Digits((*digits).to_owned()),
        Value::F64(value) => Cell::Real(*value),
        Value::Str(text) => Cell::Text(Cow::clone(text).into_owned()),
        Value::Null | Value::Array(_) | Value::Map(_) | Value::Counts(_) => {
            // Serializing to a string cannot fail.
            Cell::Json(serde_json::to_string(&Json(value)).unwrap_or_default())
        }
    }
}

/// Serializes a value as the JSON that it was parsed from.
struct Json<'a>(&'a Value<'a>);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            Value::U64(value) => serializer.serialize_u64(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::Big(digits) => match RawValue::from_string((*digits).to_owned()) {
                Ok(raw) => raw.serialize(serializer),
                Err(error) => Err(S::Error::custom(error)),
            },
            Value::Str(text) => serializer.serialize_str(text),
            Value::Array(values) => serializer.collect_seq(values.iter().map(Json)),
            Value::Map(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, Json(value))))
            }
            Value::Counts(counts) => serializer.collect_map(counts.iter().copied()),
        }
    }
}

/// Whether a kind or field can give its own name to its table or column.
///
/// SQLite compares names without regard to case, reserves some, and gives a column one type. If the plain name
/// cannot be used, [`marked`] makes another; no plain name begins with `^`, so the two never meet.
pub fn plain(name: &str) -> bool {
    let prefixed = name.get(..7).is_some_and(|start| start.eq_ignore_ascii_case("sqlite_"));
    let reserved = prefixed || ["rowid", "oid", "_rowid_"].iter().any(|own| name.eq_ignore_ascii_case(own));
    !(name.is_empty() || name.starts_with('^') || name.contains('\0') || reserved)
}

/// The name `^what:name`, with `^` before every capital letter. Different names stay different, even without regard
/// to case.
pub fn marked(what: &str, name: &str) -> String {
    let mut marked = format!("^{what}:");
    for letter in name.chars() {
        match letter {
            '^' => marked.push_str("^^"),
            '\0' => marked.push_str("^0"),
            'A'..='Z' => marked.extend(['^', letter]),
            _ => marked.push(letter),
        }
    }
    marked
}

/// Quotes a name for SQL.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn different_names_stay_different(a in "[aAbB^0\0\"]{0,5}", b in "[aAbB^0\0\"]{0,5}") {
            let fold = |name: &str| marked("number", name).to_ascii_lowercase();
            prop_assert_eq!(a == b, fold(&a) == fold(&b));
            prop_assert!(!plain(&marked("number", &a)));
            prop_assert!(!marked("number", &a).contains('\0'));
        }
    }

    #[test]
    fn reserved_names_are_not_plain() {
        for name in ["", "rowid", "OID", "sqlite_master", "SQLite_x", "^a", "a\0b"] {
            assert!(!plain(name), "{name}");
        }
        for name in ["a", "sqlite", "select", "a b\"c", "ünï", "éééé"] {
            assert!(plain(name), "{name}");
        }
        assert_eq!(quoted("a\"b"), "\"a\"\"b\"");
    }

    fn rows(lines: &[&str]) -> (Shapes, Vec<Row>) {
        let mut batch = Batch::new();
        lines.iter().enumerate().for_each(|(offset, line)| batch.push(offset as u64, line.as_bytes()));
        let mut shapes = Shapes::default();
        let mut rows = Vec::new();
        (0..lines.len()).for_each(|index| shapes.add_rows(&mut rows, &batch, index).unwrap());
        (shapes, rows)
    }

    #[test]
    fn values_keep_their_exact_form() {
        let (shapes, rows) = rows(&[concat!(
            r#"{"ts":"2026-11-20T20:45:00Z","kind":"x","i":-5,"u":18446744073709551615,"v":-123456789012345678901234567890,"f":0.5,"b":true,"#,
            r#""n":null,"a":[1,2.5,"é\n",1000000000000000000000],"m":{"z":1,"a":{"y":null}}}"#
        )]);
        let text = |text: &str| Cell::Text(text.into());
        let cells: Vec<_> = rows[0].cells.iter().map(|(_, cell)| cell.clone()).collect();
        assert_eq!(
            cells,
            [
                text("2026-11-20T20:45:00.000000000Z"),
                Cell::Int(-5),
                Cell::Digits("18446744073709551615".into()),
                Cell::Digits("-123456789012345678901234567890".into()),
                Cell::Real(0.5),
                Cell::Bool(true),
                Cell::Json(r#"[1,2.5,"é\n",1000000000000000000000]"#.into()),
                Cell::Json(r#"{"z":1,"a":{"y":null}}"#.into()),
            ]
        );
        assert_eq!(shapes.get(0).fields, ["ts", "host", "i", "u", "v", "f", "b", "a", "m"]);
    }

    #[test]
    fn lines_that_are_not_records_are_kept_whole() {
        let (shapes, rows) = rows(&["{}", r#" {"kind":"Pod","x":1} "#, r#"{"kind":5,"ts":"t"}"#]);
        assert!(rows.iter().all(|row| shapes.get(row.shape).kind.is_none()));
        assert_eq!(rows[1].cells[1], (1, Cell::Json(r#"{"kind":"Pod","x":1}"#.into())));
        assert_eq!(rows[2].cells[0], (0, Cell::Text("t".into())));
        assert!(matches!(&rows[0].cells[0], (0, Cell::Text(ts)) if ts.len() == 30));
    }

    #[test]
    fn fields_beyond_the_limit_are_kept_by_name() {
        let mut line = String::from(r#"{"ts":"t","kind":"x""#);
        (0..1500).for_each(|number| line += &format!(r#","f{number}":{number}"#));
        let (shapes, rows) = rows(&[&format!("{line}}}")]);
        assert_eq!((shapes.get(0).fields.len(), rows[0].cells.len(), rows[0].beyond.len()), (1000, 999, 502));
        assert_eq!(rows[0].beyond[501], ("f1499".into(), Cell::Int(1499)));
    }

    #[test]
    fn kinds_beyond_the_limit_share_a_table() {
        let line = |kind: &str| format!(r#"{{"ts":"t","kind":"{kind}","x":1}}"#);
        let lines: Vec<_> =
            (0..600).map(|n| line(&format!("k{n}"))).chain([line("load"), line("k5")]).collect();
        let (shapes, rows) = rows(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        let kinds: Vec<_> = rows.iter().map(|row| shapes.get(row.shape).kind.as_deref()).collect();
        assert_eq!((kinds[499], kinds[500], kinds[599]), (Some("k499"), None, None));
        assert_eq!(kinds[600..], [Some("load"), Some("k5")]);
        assert!(shapes.overflowed);
        assert_eq!(rows[550].cells[1], (1, Cell::Json(line("k550"))));
    }
}
