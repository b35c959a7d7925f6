//! `--table`: lines as they are, a column for each field.
//!
//! The columns of our own kinds have the types that their schemas declare; those of other fields have the type that
//! suits their first values.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::json;

use super::parts::Parts;
use super::server::{Cause, Failure, quoted};
use super::tables::{Creation, Table, Tables};
use super::types::{NewColumn, Shape, declared, declared_by_any};
use crate::common::time::Timestamp;
use crate::record::{self, Mapping};
use crate::ship::line::{Class, Line, Value};
use crate::ship::{Batch, Encoded, Request};

/// What stands for the kind in the name of a table.
const KIND: &str = "{kind}";
/// The table, in the position of a kind, of lines that are not records.
const OTHER: &str = "other";
/// The most kinds with a table of their own. Lines of further kinds go to the one of lines that are not records.
const MAX_KINDS: usize = 500;

/// The longest kind with a table, in bytes: ClickHouse makes a file name of it.
const MAX_NAME: usize = 64;

/// Makes rows of lines.
pub struct Lines {
    pattern: String,
    kinds: HashSet<String>,
}

/// The rows of a request, all for one table.
pub struct Rows {
    /// The table.
    pub table: String,
    /// The kind, if the table is of one; empty for the one of lines that are not records.
    kind: Option<String>,
    /// JSON objects, each with its newline.
    text: Vec<u8>,
    /// Where each row ends, and its time.
    ends: Vec<(usize, u64)>,
    /// The fields and their values.
    fields: BTreeMap<String, Shape>,
}

impl Lines {
    /// Rows for the table `pattern`, in which `{kind}` stands for the kind.
    pub fn new(pattern: &str) -> Self {
        Self { pattern: pattern.to_owned(), kinds: HashSet::new() }
    }

    /// The name of the table, perhaps with `{kind}` in it.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }

    /// Whether each kind has a table.
    pub fn by_kind(&self) -> bool {
        self.pattern.contains(KIND)
    }

    /// Makes the rows of a batch: a request for each table.
    pub fn encode(&mut self, batch: &Batch) -> Encoded<Rows> {
        let mut requests: Vec<Request<Rows>> = Vec::new();
        let (mut index, mut rejected) = (HashMap::<Option<String>, usize>::new(), Vec::new());
        for number in 0..batch.len() {
            let line = batch.line(number).trim_ascii();
            let added = Line::parse(line).and_then(|parsed| {
                let kind = self.kind(&parsed);
                let position = *index.entry(kind).or_insert_with_key(|kind| {
                    let body = Rows::new(
                        self.pattern.replace(KIND, kind.as_deref().unwrap_or(OTHER)),
                        self.by_kind().then(|| kind.clone().unwrap_or_default()),
                    );
                    requests.push(Request { body, lines: Vec::new(), items: 0 });
                    requests.len() - 1
                });
                requests[position].body.add(line, &parsed, batch.received(number))?;
                Ok(position)
            });
            match added {
                Ok(position) => {
                    requests[position].lines.push(number);
                    requests[position].items += 1;
                }
                Err(reason) => rejected.push((number, reason)),
            }
        }
        requests.retain(|request| request.items > 0);
        Encoded { requests, rejected, empty: Vec::new() }
    }

    /// The kind of a line, where each has a table.
    fn kind(&mut self, line: &Line<'_>) -> Option<String> {
        if !self.by_kind() {
            return None;
        }
        let is_record = match line.class() {
            Class::Record(_) => true,
            Class::Otlp => false,
            Class::Object => line.str("ts").is_some(),
        };
        let is_name = |kind: &&str| (1..=MAX_NAME).contains(&kind.len()) && *kind != OTHER;
        let kind = line.kind().filter(is_name).filter(|_| is_record)?;
        let room = self.kinds.contains(kind) || record::kind(kind).is_some() || self.kinds.len() < MAX_KINDS;
        if room && !self.kinds.contains(kind) {
            self.kinds.insert(kind.to_owned());
        }
        room.then(|| kind.to_owned())
    }
}

impl Rows {
    fn new(table: String, kind: Option<String>) -> Self {
        Self { table, kind, text: Vec::new(), ends: Vec::new(), fields: BTreeMap::new() }
    }

    /// The memory that it takes.
    pub fn size(&self) -> usize {
        self.text.len() + 16 * self.ends.len()
    }

    fn add(&mut self, text: &[u8], line: &Line<'_>, received: Timestamp) -> Result<(), String> {
        let given = match line.get("ts") {
            None | Some(Value::Null) => None,
            Some(value) => {
                let text = value.as_str().ok_or("ts is not an RFC 3339 time")?;
                Some(
                    text.parse::<Timestamp>()
                        .map_err(|error| format!("ts is not an RFC 3339 time: {error}"))?,
                )
            }
        };
        if self.is_other() {
            let row = json!({ "ts": given.unwrap_or(received), "json": String::from_utf8_lossy(text) });
            self.text.extend_from_slice(row.to_string().as_bytes());
        } else {
            for (name, value) in &line.fields {
                let shape = Shape::of(value);
                match self.fields.get_mut(&**name) {
                    Some(known) if *known == shape => {}
                    Some(known) => *known = std::mem::replace(known, Shape::Nothing).and(shape),
                    None => {
                        self.fields.insert(name.clone().into_owned(), shape);
                    }
                }
            }
            match (given, line.get("ts")) {
                (Some(_), _) => self.text.extend_from_slice(text),
                (None, None) => {
                    let rest = text[1..].trim_ascii_start();
                    let comma = if rest == b"}" { "" } else { "," };
                    self.text.extend_from_slice(format!("{{\"ts\":\"{received}\"{comma}").as_bytes());
                    self.text.extend_from_slice(rest);
                }
                (None, Some(_)) => {
                    let object: Result<serde_json::Map<_, _>, _> = serde_json::from_slice(text);
                    let mut object = object.map_err(|error| error.to_string())?;
                    object.insert("ts".into(), json!(received));
                    self.text.extend_from_slice(json!(object).to_string().as_bytes());
                }
            }
        }
        self.text.push(b'\n');
        self.ends.push((self.text.len(), given.unwrap_or(received).0));
        Ok(())
    }

    /// Whether the table is that of lines that are not records.
    fn is_other(&self) -> bool {
        self.kind.as_deref() == Some("")
    }

    /// Finds the table, and creates it and its columns if that is allowed.
    ///
    /// # Errors
    /// If the server refuses, or a column cannot store what a line holds.
    pub async fn table(&self, tables: &Tables) -> Result<Arc<Table>, Failure> {
        let mut table = tables.get(&self.table, |creation| vec![self.create(tables, creation)]).await?;
        let lacks = |name: &str| self.is_stored(name) && table.sql_type(name).is_none();
        if self.fields.keys().any(|name| lacks(name)) {
            let missing: Vec<_> = self.columns().into_iter().filter(|new| lacks(&new.name)).collect();
            if tables.creation.is_some() {
                let definitions: Vec<_> = missing.iter().map(NewColumn::definition).collect();
                if !definitions.is_empty() {
                    table = tables.add(&self.table, &definitions).await?;
                }
            } else {
                tables.report_lack(&self.table, missing.into_iter().map(|new| new.name));
            }
        }
        for (name, shape) in &self.fields {
            let misfit = table.sql_type(name).and_then(|sql_type| Some((shape.misfit(sql_type)?, sql_type)));
            if let Some((value, sql_type)) = misfit {
                return Err(Failure::of(Cause::Lines, format!("{name}: {value} does not fit {sql_type}")));
            }
        }
        Ok(table)
    }

    /// The rows by day.
    pub fn write(&self, parts: &mut Parts) {
        let mut start = 0;
        for (end, time) in &self.ends {
            parts.row(0, *time).extend_from_slice(&self.text[start..*end]);
            start = *end;
        }
    }

    /// Whether a field is to have a column.
    fn is_stored(&self, name: &str) -> bool {
        self.kind.is_none() || name != "kind"
    }

    /// A column for every field that has a value.
    fn columns(&self) -> Vec<NewColumn> {
        let known = match self.kind.as_deref() {
            Some(kind) => declared(kind),
            None => declared_by_any(),
        };
        let known: HashMap<_, _> = known.iter().map(|column| (column.name.as_str(), column)).collect();
        let column = |(name, shape): (&String, &Shape)| match known.get(name.as_str()) {
            Some(column) if *shape != Shape::Nothing => Some((*column).clone()),
            // Arrays with a dot in their names would need the same length.
            _ if name.contains('.') && matches!(shape, Shape::Array(_)) => {
                Some(NewColumn::new(name, "Nullable(String)"))
            }
            _ => Some(NewColumn::new(name, &shape.sql()?)),
        };
        self.fields.iter().filter(|(name, _)| self.is_stored(name)).filter_map(column).collect()
    }

    fn create(&self, tables: &Tables, creation: &Creation) -> String {
        let host = NewColumn::new("host", "LowCardinality(String)");
        let mut columns = vec![NewColumn::new("ts", "DateTime64(9)")];
        let mut order = Vec::new();
        match self.kind.as_deref() {
            Some("") => columns.push(NewColumn::new("json", "String")),
            Some(kind) => {
                columns.push(host);
                order.push("host".to_owned());
                columns.extend_from_slice(declared(kind));
                // A series has its rows together.
                if let Some(kind) =
                    record::kind(kind).filter(|kind| matches!(kind.mapping, Mapping::Metrics { .. }))
                {
                    order.extend(kind.attributes.iter().map(|(field, _)| quoted(field)));
                }
            }
            None => {
                columns.extend([NewColumn::new("kind", "LowCardinality(String)"), host]);
                order.extend(["kind".to_owned(), "host".to_owned()]);
            }
        }
        order.push("ts".to_owned());
        let columns: Vec<_> = columns.iter().map(NewColumn::definition).collect();
        format!(
            "CREATE TABLE IF NOT EXISTS {} ({}) {}, allow_nullable_key = 1",
            tables.server.table(&self.table),
            columns.join(", "),
            creation.engine("ts", &order.join(", "))
        )
    }
}
