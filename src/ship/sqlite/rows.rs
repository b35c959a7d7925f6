//! From lines to rows, before anything is known about tables: a row belongs to
//! a shape (one per kind), and its cells to the shape's fields, both by number.

use std::borrow::Cow;
use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::ship::Batch;
use crate::ship::line::{Class, Line, Value};

/// A kind with more fields than this uses names as data, which no table can hold.
const MOST_FIELDS: usize = 1000;

/// One value, in one of the forms in which SQLite keeps it exactly.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// Any integer up to `i64::MAX`.
    Int(i64),
    /// Kept as 0 or 1.
    Bool(bool),
    /// Finite.
    Real(f64),
    /// A string; also an integer above `i64::MAX`, in its digits.
    Text(String),
    /// An array or object, as JSON.
    Json(String),
}

/// One row.
#[derive(Debug, PartialEq)]
pub struct Row {
    /// Which shape.
    pub shape: usize,
    /// The shape's field numbers, and the values. Null is no cell.
    pub cells: Vec<(usize, Cell)>,
}

/// The fields that the lines of one kind have had so far.
pub struct Shape {
    /// The value of `kind`; `None` for lines that are not records.
    pub kind: Option<String>,
    /// By number.
    pub fields: Vec<String>,
    numbers: HashMap<String, usize>,
}

/// All shapes so far.
#[derive(Default)]
pub struct Shapes {
    shapes: Vec<Shape>,
    numbers: HashMap<Option<String>, usize>,
}

impl Shapes {
    /// The shape of that number.
    pub fn get(&self, number: usize) -> &Shape {
        &self.shapes[number]
    }

    /// Makes a row of line `index`.
    ///
    /// # Errors
    /// Why it cannot be one.
    pub fn row(&mut self, batch: &Batch, index: usize) -> Result<Row, String> {
        let bytes = batch.line(index);
        let line = Line::parse(bytes)?;
        let received = || Cell::Text(batch.received.to_string());
        let is_record = match line.class() {
            Class::Record(_) => true,
            Class::Otlp(_) => false,
            Class::Object => line.str("ts").is_some(),
        };
        let Some(kind) = line.kind().filter(|_| is_record) else {
            let shape = self.number(None);
            let ts = line.str("ts").map_or_else(received, |ts| Cell::Text(ts.to_owned()));
            let json = String::from_utf8_lossy(bytes.trim_ascii()).into_owned();
            return Ok(Row { shape, cells: vec![(0, ts), (1, Cell::Json(json))] });
        };
        let number = self.number(Some(kind));
        let shape = &mut self.shapes[number];
        let mut cells = Vec::with_capacity(line.fields.len());
        if line.str("ts").is_none() {
            cells.push((0, received()));
        }
        for (name, value) in &line.fields {
            if name != "kind" && !matches!(value, Value::Null) {
                cells.push((shape.field(name)?, cell(value)));
            }
        }
        Ok(Row { shape: number, cells })
    }

    fn number(&mut self, kind: Option<&str>) -> usize {
        let key = kind.map(str::to_owned);
        *self.numbers.entry(key.clone()).or_insert_with(|| {
            self.shapes.push(Shape::new(key));
            self.shapes.len() - 1
        })
    }
}

impl Shape {
    fn new(kind: Option<String>) -> Self {
        let first = if kind.is_some() { ["ts", "host"] } else { ["ts", "json"] };
        let numbers = first.iter().enumerate().map(|(number, name)| ((*name).to_owned(), number)).collect();
        Self { kind, fields: first.map(str::to_owned).to_vec(), numbers }
    }

    fn field(&mut self, name: &str) -> Result<usize, String> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        if self.fields.len() >= MOST_FIELDS {
            return Err(format!("a field too many: this kind has had {MOST_FIELDS} names of fields"));
        }
        self.fields.push(name.to_owned());
        self.numbers.insert(name.to_owned(), self.fields.len() - 1);
        Ok(self.fields.len() - 1)
    }
}

fn cell(value: &Value<'_>) -> Cell {
    match value {
        Value::Bool(value) => Cell::Bool(*value),
        Value::I64(value) => Cell::Int(*value),
        Value::U64(value) => Cell::Text(value.to_string()),
        Value::F64(value) => Cell::Real(*value),
        Value::Str(text) => Cell::Text(Cow::clone(text).into_owned()),
        Value::Null | Value::Array(_) | Value::Map(_) => {
            // Writing to a string cannot fail.
            Cell::Json(serde_json::to_string(&Json(value)).unwrap_or_default())
        }
    }
}

/// A value as the JSON that it was.
struct Json<'a>(&'a Value<'a>);

impl Serialize for Json<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Null => serializer.serialize_unit(),
            Value::Bool(value) => serializer.serialize_bool(*value),
            Value::I64(value) => serializer.serialize_i64(*value),
            Value::U64(value) => serializer.serialize_u64(*value),
            Value::F64(value) => serializer.serialize_f64(*value),
            Value::Str(text) => serializer.serialize_str(text),
            Value::Array(values) => serializer.collect_seq(values.iter().map(Json)),
            Value::Map(fields) => {
                serializer.collect_map(fields.iter().map(|(name, value)| (name, Json(value))))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(lines: &[&str]) -> (Shapes, Vec<Row>) {
        let mut batch = Batch::new();
        lines.iter().enumerate().for_each(|(offset, line)| batch.push(offset as u64, line.as_bytes()));
        let mut shapes = Shapes::default();
        let rows = (0..lines.len()).map(|index| shapes.row(&batch, index).unwrap()).collect();
        (shapes, rows)
    }

    #[test]
    fn every_form_of_value() {
        let (shapes, rows) = rows(&[concat!(
            r#"{"ts":"2026-11-20T20:45:00Z","kind":"x","i":-5,"u":18446744073709551615,"f":0.5,"b":true,"#,
            r#""n":null,"a":[1,2.5,"é\n"],"m":{"z":1,"a":{"y":null}}}"#
        )]);
        let text = |text: &str| Cell::Text(text.into());
        let cells: Vec<_> = rows[0].cells.iter().map(|(_, cell)| cell.clone()).collect();
        assert_eq!(
            cells,
            [
                text("2026-11-20T20:45:00Z"),
                Cell::Int(-5),
                text("18446744073709551615"),
                Cell::Real(0.5),
                Cell::Bool(true),
                Cell::Json(r#"[1,2.5,"é\n"]"#.into()),
                Cell::Json(r#"{"z":1,"a":{"y":null}}"#.into()),
            ]
        );
        assert_eq!(shapes.get(0).fields, ["ts", "host", "i", "u", "f", "b", "a", "m"]);
    }

    #[test]
    fn what_is_no_record_is_kept_whole() {
        let (shapes, rows) = rows(&["{}", r#" {"kind":"Pod","x":1} "#, r#"{"kind":5,"ts":"t"}"#]);
        assert!(rows.iter().all(|row| shapes.get(row.shape).kind.is_none()));
        assert_eq!(rows[1].cells[1], (1, Cell::Json(r#"{"kind":"Pod","x":1}"#.into())));
        assert_eq!(rows[2].cells[0], (0, Cell::Text("t".into())));
        assert!(matches!(&rows[0].cells[0], (0, Cell::Text(ts)) if ts.len() == 30));
    }

    #[test]
    fn names_that_are_data_are_refused() {
        let mut line = String::from(r#"{"ts":"t","kind":"x""#);
        (0..999).for_each(|number| line += &format!(r#","f{number}":1"#));
        let mut batch = Batch::new();
        batch.push(0, format!("{line}}}").as_bytes());
        let error = Shapes::default().row(&batch, 0).unwrap_err();
        assert!(error.contains("1000"), "{error}");
    }
}
