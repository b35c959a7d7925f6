//! The tables of a database, and which column stores which cell.
//!
//! The table of a declared kind is created complete, with the declared types. The table of any other kind gets a
//! column for each new field, typed by its first value. A value that a column cannot store exactly (a string among
//! numbers, an integer above `i64::MAX`) goes to a second column with a marked name.

use std::collections::{HashMap, HashSet};

use rusqlite::types::ValueRef;
use rusqlite::{CachedStatement, Connection, Result};
use serde_json::{Map, Value};

use super::rows::{Cell, Row, Shape, marked, plain, quoted};
use super::spans;
use crate::record::{self, body_schema, json_type};

/// The table of lines that are not records.
pub const OTHER: &str = "other";
/// The column of fields beyond the limit. No plain or marked name equals it.
const MORE: &str = "^more";
/// The most columns of a table. SQLite allows 2000.
const MAX_COLUMNS: usize = 1000;
/// Integers up to this are exact as floating point.
const EXACT: u64 = 1 << 53;

/// The values that a column stores unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnType {
    Integer,
    Real,
    Number,
    Text,
    Json,
    Anything,
}

impl ColumnType {
    /// From a declared type, by SQLite's rules of type affinity (datatype3.html, section 3.1).
    fn declared(sql_type: &str) -> Self {
        let sql_type = sql_type.to_ascii_uppercase();
        let any = |parts: &[&str]| parts.iter().any(|part| sql_type.contains(part));
        match () {
            () if any(&["INT"]) => Self::Integer,
            () if any(&["JSON"]) => Self::Json,
            () if any(&["CHAR", "CLOB", "TEXT"]) => Self::Text,
            () if any(&["BLOB"]) || sql_type.is_empty() => Self::Anything,
            () if any(&["REAL", "FLOA", "DOUB"]) => Self::Real,
            () => Self::Number,
        }
    }

    /// The declared type. DuckDB takes these literally, and reads them well too.
    fn sql(self) -> &'static str {
        match self {
            Self::Integer => "INTEGER",
            Self::Real => "REAL",
            Self::Number => "NUMERIC",
            Self::Text => "TEXT",
            Self::Json => "JSON TEXT",
            Self::Anything => "BLOB",
        }
    }

    fn accepts(self, cell: &Cell) -> bool {
        match (self, cell) {
            (Self::Anything, _)
            | (Self::Integer | Self::Number, Cell::Int(_) | Cell::Bool(_))
            | (Self::Real | Self::Number, Cell::Real(_))
            | (Self::Text, Cell::Text(_) | Cell::Digits(_))
            | (Self::Json, Cell::Json(_)) => true,
            (Self::Real, Cell::Int(value)) => value.unsigned_abs() <= EXACT,
            _ => false,
        }
    }

    /// The type of a new column whose first value is this cell.
    fn first(cell: &Cell) -> Self {
        match cell {
            Cell::Bool(_) => Self::Integer,
            Cell::Int(_) | Cell::Real(_) => Self::Number,
            Cell::Text(_) | Cell::Digits(_) => Self::Text,
            Cell::Json(_) => Self::Json,
        }
    }

    /// The type and the mark of the second column, for a cell that the first does not accept.
    fn fallback(cell: &Cell) -> (Self, &'static str) {
        match cell {
            Cell::Int(_) | Cell::Real(_) | Cell::Bool(_) => (Self::Number, "number"),
            Cell::Text(_) | Cell::Digits(_) => (Self::Text, "text"),
            Cell::Json(_) => (Self::Json, "json"),
        }
    }
}

/// An open table.
pub struct Table {
    name: String,
    /// The statement that inserts a row. Parameter n is column n, from 1.
    insert: String,
    columns: Vec<(String, ColumnType)>,
    by_name: HashMap<String, usize>,
    declared: HashMap<String, ColumnType>,
    /// By field number: the column with the plain name, and those with marked names.
    slots: Vec<[Option<usize>; 4]>,
}

impl Table {
    /// Opens or creates the table of a shape.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn open(db: &Connection, shape: &Shape) -> Result<Self> {
        let declared = declared(shape.kind.as_deref());
        let name = Self::name(db, shape.kind.as_deref())?;
        let find = "SELECT name, type FROM pragma_table_info(?1)";
        let mut columns = Vec::new();
        for column in db.prepare_cached(find)?.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (name, sql_type): (String, String) = column?;
            columns.push((name, ColumnType::declared(&sql_type)));
        }
        if columns.is_empty() {
            columns.clone_from(&declared);
            create(db, &name, &columns)?;
        }
        let mut table = Self {
            name,
            insert: String::new(),
            by_name: columns.iter().enumerate().map(|(n, (name, _))| (name.clone(), n)).collect(),
            columns,
            declared: declared.into_iter().collect(),
            slots: Vec::new(),
        };
        table.prepare();
        Ok(table)
    }

    /// The name of a kind's table, whether it exists or not.
    fn name(db: &Connection, kind: Option<&str>) -> Result<String> {
        let Some(kind) = kind else { return Ok(OTHER.into()) };
        let taken = "SELECT count(*) FROM sqlite_schema WHERE name = ?1 COLLATE NOCASE AND (name <> ?1 OR type <> 'table')";
        let usable = plain(kind) && !kind.eq_ignore_ascii_case(OTHER);
        let taken: i64 = db.prepare_cached(taken)?.query_row([kind], |row| row.get(0))?;
        let exists = "SELECT count(*) FROM sqlite_schema WHERE name = ?1 AND type = 'table'";
        let exists: i64 = db.prepare_cached(exists)?.query_row([kind], |row| row.get(0))?;
        Ok(if usable && (exists > 0 || taken == 0) { kind.into() } else { marked("kind", kind) })
    }

    /// The column, from 0, for a cell of a field. Adds it if there is none; `None` if there are too many.
    ///
    /// # Errors
    /// If a column cannot be added.
    fn column(&mut self, db: &Connection, shape: &Shape, field: usize, cell: &Cell) -> Result<Option<usize>> {
        while self.slots.len() <= field {
            let name = &shape.fields[self.slots.len()];
            let find = |name: &str| self.by_name.get(name).copied();
            let own = plain(name).then(|| find(name)).flatten();
            let columns = ["number", "text", "json"].map(|what| find(&marked(what, name)));
            self.slots.push([own, columns[0], columns[1], columns[2]]);
        }
        let (sql_type, what) = ColumnType::fallback(cell);
        let second = match what {
            "number" => 1,
            "text" => 2,
            _ => 3,
        };
        let [own, ..] = self.slots[field];
        if let Some(own) = own.filter(|own| self.columns[*own].1.accepts(cell)) {
            return Ok(Some(own));
        }
        if let Some(column) = self.slots[field][second] {
            return Ok(Some(column));
        }
        if self.columns.len() >= MAX_COLUMNS {
            return Ok(None);
        }
        let name = &shape.fields[field];
        let declared = self.declared.get(name).copied().filter(|sql_type| sql_type.accepts(cell));
        let free =
            own.is_none() && plain(name) && !self.columns.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let (slot, name, sql_type) = if free {
            (0, name.clone(), declared.unwrap_or(ColumnType::first(cell)))
        } else {
            (second, marked(what, name), sql_type)
        };
        let column = self.add(db, name, sql_type)?;
        self.slots[field][slot] = Some(column);
        Ok(Some(column))
    }

    /// Adds rows.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn insert(&mut self, db: &Connection, shape: &Shape, rows: &[&Row]) -> Result<()> {
        let mut insert: Option<(usize, CachedStatement<'_>)> = None;
        let (mut bound, mut before, mut stale) = (Vec::new(), Vec::new(), true);
        for row in rows {
            let mut more = Vec::new();
            std::mem::swap(&mut bound, &mut before);
            bound.clear();
            for (field, cell) in &row.cells {
                let column = self.column(db, shape, *field, cell)?;
                bound.push(column);
                if column.is_none() {
                    more.push((shape.fields[*field].as_str(), cell));
                }
            }
            more.extend(row.beyond.iter().map(|(name, cell)| (name.as_str(), cell)));
            let more = if more.is_empty() { None } else { Some(self.more(db, &more)?) };
            let columns = self.columns.len();
            let insert = match &mut insert {
                Some((known, insert)) if *known == columns => insert,
                other => {
                    stale = true;
                    &mut other.insert((columns, db.prepare_cached(&self.insert)?)).1
                }
            };
            if stale || bound != before {
                insert.clear_bindings();
            }
            stale = more.is_some();
            let cells =
                bound.iter().zip(&row.cells).filter_map(|(column, (_, cell))| Some(((*column)?, cell)));
            for (column, cell) in cells.chain(more.iter().map(|(column, cell)| (*column, cell))) {
                insert.raw_bind_parameter(column + 1, cell)?;
            }
            insert.raw_execute()?;
        }
        Ok(())
    }

    /// The column of fields beyond the limit, and its value: an object of these fields.
    ///
    /// # Errors
    /// If a column cannot be added.
    fn more(&mut self, db: &Connection, fields: &[(&str, &Cell)]) -> Result<(usize, Cell)> {
        let column = match self.by_name.get(MORE) {
            Some(column) => *column,
            None => self.add(db, MORE.into(), ColumnType::Json)?,
        };
        // Serializing a string cannot fail.
        let name = |name: &str| serde_json::to_string(name).unwrap_or_default();
        let fields: Vec<_> =
            fields.iter().map(|(field, cell)| format!("{}:{}", name(field), cell.json())).collect();
        Ok((column, Cell::Json(format!("{{{}}}", fields.join(",")))))
    }

    fn add(&mut self, db: &Connection, name: String, sql_type: ColumnType) -> Result<usize> {
        let (table, column) = (quoted(&self.name), quoted(&name));
        db.execute(&format!("ALTER TABLE {table} ADD COLUMN {column} {}", sql_type.sql()), [])?;
        self.by_name.insert(name.clone(), self.columns.len());
        self.columns.push((name, sql_type));
        self.prepare();
        Ok(self.columns.len() - 1)
    }

    fn prepare(&mut self) {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| quoted(name)).collect();
        let values = vec!["?"; names.len()].join(",");
        self.insert = format!("INSERT INTO {} ({}) VALUES ({values})", quoted(&self.name), names.join(","));
    }
}

/// The names of the existing tables, without the one of lines that are not records.
///
/// # Errors
/// If SQLite fails.
pub fn tables(db: &Connection) -> Result<HashSet<String>> {
    let mut tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> ?1")?;
    tables.query_map([OTHER], |row| row.get(0))?.collect()
}

/// Removes all rows; returns their tables, and their values as JSON.
///
/// # Errors
/// If SQLite fails.
pub fn take_rows(db: &Connection) -> Result<Vec<(String, String)>> {
    let mut names: Vec<_> = tables(db)?.into_iter().collect();
    names.sort();
    names.push(OTHER.into());
    let exists = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = ?1";
    let mut taken = Vec::new();
    for name in names {
        if db.query_row(exists, [&name], |row| row.get::<_, i64>(0))? == 0 {
            continue;
        }
        let mut select = db.prepare(&format!("SELECT * FROM {} ORDER BY rowid", quoted(&name)))?;
        let columns: Vec<String> = select.column_names().map(str::to_owned).collect();
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let mut object = Map::new();
            for (index, column) in columns.iter().enumerate() {
                let value = match row.get_ref(index)? {
                    ValueRef::Null => continue,
                    ValueRef::Integer(value) => value.into(),
                    ValueRef::Real(value) => value.into(),
                    ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into(),
                };
                object.insert(column.clone(), value);
            }
            taken.push((name.clone(), Value::Object(object).to_string()));
        }
        db.execute(&format!("DELETE FROM {}", quoted(&name)), [])?;
    }
    Ok(taken)
}

fn create(db: &Connection, name: &str, columns: &[(String, ColumnType)]) -> Result<()> {
    let list: Vec<_> =
        columns.iter().map(|(name, sql_type)| format!("{} {}", quoted(name), sql_type.sql())).collect();
    let table = quoted(name);
    db.execute(&format!("CREATE TABLE {table} ({})", list.join(", ")), [])?;
    let index = quoted(&marked("ts", name));
    db.execute(&format!("CREATE INDEX IF NOT EXISTS {index} ON {table} (ts)"), [])?;
    if name == record::SPAN.name {
        let index = quoted(&marked("trace_id", name));
        db.execute(&format!("CREATE INDEX IF NOT EXISTS {index} ON {table} (trace_id)"), [])?;
    }
    Ok(())
}

/// The columns of a declared kind; the first two of any other.
fn declared(kind: Option<&str>) -> Vec<(String, ColumnType)> {
    let Some(kind) = kind else {
        return vec![("ts".into(), ColumnType::Text), ("json".into(), ColumnType::Json)];
    };
    let mut columns = vec![("ts".into(), ColumnType::Text), ("host".into(), ColumnType::Text)];
    let Some(kind) = record::kind(kind) else { return columns };
    let schema = body_schema(kind);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let sql_type = match json_type(property) {
            "integer" | "boolean" => ColumnType::Integer,
            "number" => ColumnType::Real,
            "string" => ColumnType::Text,
            "array" | "object" => ColumnType::Json,
            _ => continue,
        };
        columns.push((name.clone(), sql_type));
    }
    if kind.name == record::SPAN.name {
        columns.push((spans::DURATION.into(), ColumnType::Integer));
    }
    columns
}
