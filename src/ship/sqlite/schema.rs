//! The tables of a database: which there are, and which column takes which cell.
//!
//! A kind of ours gets its whole table at once, typed by its declaration; a kind
//! of somebody else's grows a column per field, typed by the first value. A value
//! that its column could not keep exactly (a string among numbers, an integer
//! above `i64::MAX`) goes to a column of its own beside it: see [`super::names`].

use std::collections::{HashMap, HashSet};

use rusqlite::{Connection, Result};

use super::names::{marked, plain, quoted};
use super::rows::{Cell, Row, Shape};
use crate::record;
use crate::record::{body_schema, json_type};

/// The table of lines that are no records.
pub const OTHER: &str = "other";
/// The column of the fields for which there is no other: no field's own or marked name is like it.
const MORE: &str = "^more";
/// At this many columns no field gets another; SQLite itself takes 2000.
const MOST_COLUMNS: usize = 1000;
/// Integers up to here are exact as floating point.
const EXACT: u64 = 1 << 53;

/// What a column holds without changing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Integer,
    Real,
    Number,
    Text,
    Json,
    Anything,
}

impl Holds {
    /// By the rules of SQLite's type affinity (datatype3.html, section 3.1).
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

    /// These declarations read well in DuckDB too, which takes them at their word.
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

    /// For a column that begins with this cell.
    fn first(cell: &Cell) -> Self {
        match cell {
            Cell::Bool(_) => Self::Integer,
            Cell::Int(_) | Cell::Real(_) => Self::Number,
            Cell::Text(_) | Cell::Digits(_) => Self::Text,
            Cell::Json(_) => Self::Json,
        }
    }

    /// For the column beside one that does not accept this cell, and its mark.
    fn beside(cell: &Cell) -> (Self, &'static str) {
        match cell {
            Cell::Int(_) | Cell::Real(_) | Cell::Bool(_) => (Self::Number, "number"),
            Cell::Text(_) | Cell::Digits(_) => (Self::Text, "text"),
            Cell::Json(_) => (Self::Json, "json"),
        }
    }
}

/// One table, as far as it has been needed.
pub struct Table {
    name: String,
    /// The statement that inserts a row; parameter n is column n, from 1.
    insert: String,
    columns: Vec<(String, Holds)>,
    by_name: HashMap<String, usize>,
    declared: HashMap<String, Holds>,
    /// By field number: the column of its own name, and those beside it.
    slots: Vec<[Option<usize>; 4]>,
}

impl Table {
    /// Opens or creates the table of a shape.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn open(db: &Connection, shape: &Shape) -> Result<Self> {
        let declared = declared(shape.kind.as_deref());
        let name = Self::name(db, shape.kind.as_deref())?;
        let find = "SELECT name, type FROM pragma_table_info(?1)";
        let mut columns = Vec::new();
        for column in db.prepare_cached(find)?.query_map([&name], |row| Ok((row.get(0)?, row.get(1)?)))? {
            let (name, sql_type): (String, String) = column?;
            columns.push((name, Holds::declared(&sql_type)));
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

    /// The column, from 0, that takes `cell` of the shape's field; adds it if there is
    /// none, unless there are too many.
    ///
    /// # Errors
    /// What SQLite says of adding a column.
    fn column(&mut self, db: &Connection, shape: &Shape, field: usize, cell: &Cell) -> Result<Option<usize>> {
        while self.slots.len() <= field {
            let name = &shape.fields[self.slots.len()];
            let find = |name: &str| self.by_name.get(name).copied();
            let own = plain(name).then(|| find(name)).flatten();
            let beside = ["number", "text", "json"].map(|what| find(&marked(what, name)));
            self.slots.push([own, beside[0], beside[1], beside[2]]);
        }
        let (holds, what) = Holds::beside(cell);
        let beside = match what {
            "number" => 1,
            "text" => 2,
            _ => 3,
        };
        let [own, ..] = self.slots[field];
        if let Some(own) = own.filter(|own| self.columns[*own].1.accepts(cell)) {
            return Ok(Some(own));
        }
        if let Some(column) = self.slots[field][beside] {
            return Ok(Some(column));
        }
        if self.columns.len() >= MOST_COLUMNS {
            return Ok(None);
        }
        let name = &shape.fields[field];
        let declared = self.declared.get(name).copied().filter(|holds| holds.accepts(cell));
        let free =
            own.is_none() && plain(name) && !self.columns.iter().any(|(n, _)| n.eq_ignore_ascii_case(name));
        let (slot, name, holds) = if free {
            (0, name.clone(), declared.unwrap_or(Holds::first(cell)))
        } else {
            (beside, marked(what, name), holds)
        };
        let column = self.add(db, name, holds)?;
        self.slots[field][slot] = Some(column);
        Ok(Some(column))
    }

    /// Adds a row.
    ///
    /// # Errors
    /// What SQLite says.
    pub fn insert(&mut self, db: &Connection, shape: &Shape, row: &Row) -> Result<()> {
        let (mut places, mut more) = (Vec::with_capacity(row.cells.len()), Vec::new());
        for (field, cell) in &row.cells {
            match self.column(db, shape, *field, cell)? {
                Some(column) => places.push((column, cell)),
                None => more.push((shape.fields[*field].as_str(), cell)),
            }
        }
        more.extend(row.beyond.iter().map(|(name, cell)| (name.as_str(), cell)));
        let more = if more.is_empty() { None } else { Some(self.more(db, &more)?) };
        places.extend(more.iter().map(|(column, cell)| (*column, cell)));
        let mut insert = db.prepare_cached(&self.insert)?;
        insert.clear_bindings();
        for (column, cell) in places {
            insert.raw_bind_parameter(column + 1, cell)?;
        }
        insert.raw_execute().map(|_| ())
    }

    /// The column of the fields that have none, and what to put there: an object of them.
    ///
    /// # Errors
    /// What SQLite says of adding a column.
    fn more(&mut self, db: &Connection, fields: &[(&str, &Cell)]) -> Result<(usize, Cell)> {
        let column = match self.by_name.get(MORE) {
            Some(column) => *column,
            None => self.add(db, MORE.into(), Holds::Json)?,
        };
        // Writing a string to a string cannot fail.
        let name = |name: &str| serde_json::to_string(name).unwrap_or_default();
        let fields: Vec<_> =
            fields.iter().map(|(field, cell)| format!("{}:{}", name(field), cell.json())).collect();
        Ok((column, Cell::Json(format!("{{{}}}", fields.join(",")))))
    }

    fn add(&mut self, db: &Connection, name: String, holds: Holds) -> Result<usize> {
        let (table, column) = (quoted(&self.name), quoted(&name));
        db.execute(&format!("ALTER TABLE {table} ADD COLUMN {column} {}", holds.sql()), [])?;
        self.by_name.insert(name.clone(), self.columns.len());
        self.columns.push((name, holds));
        self.prepare();
        Ok(self.columns.len() - 1)
    }

    fn prepare(&mut self) {
        let names: Vec<_> = self.columns.iter().map(|(name, _)| quoted(name)).collect();
        let places = vec!["?"; names.len()].join(",");
        self.insert = format!("INSERT INTO {} ({}) VALUES ({places})", quoted(&self.name), names.join(","));
    }
}

/// The names of the tables that there are, but the one of lines that are no records.
///
/// # Errors
/// What SQLite says.
pub fn tables(db: &Connection) -> Result<HashSet<String>> {
    let mut tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table' AND name <> ?1")?;
    tables.query_map([OTHER], |row| row.get(0))?.collect()
}

fn create(db: &Connection, name: &str, columns: &[(String, Holds)]) -> Result<()> {
    let list: Vec<_> =
        columns.iter().map(|(name, holds)| format!("{} {}", quoted(name), holds.sql())).collect();
    let table = quoted(name);
    db.execute(&format!("CREATE TABLE {table} ({})", list.join(", ")), [])?;
    let index = quoted(&marked("ts", name));
    db.execute(&format!("CREATE INDEX IF NOT EXISTS {index} ON {table} (ts)"), [])?;
    Ok(())
}

/// The columns that a kind's declaration asks for; of a kind that is not ours, the first two.
fn declared(kind: Option<&str>) -> Vec<(String, Holds)> {
    let Some(kind) = kind else {
        return vec![("ts".into(), Holds::Text), ("json".into(), Holds::Json)];
    };
    let mut columns = vec![("ts".into(), Holds::Text), ("host".into(), Holds::Text)];
    let Some(kind) = record::kind(kind) else { return columns };
    let schema = body_schema(kind);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let holds = match json_type(property) {
            "integer" | "boolean" => Holds::Integer,
            "number" => Holds::Real,
            "string" => Holds::Text,
            "array" | "object" => Holds::Json,
            _ => continue,
        };
        columns.push((name.clone(), holds));
    }
    columns
}
