//! An embedded database: one table per kind, a column per field, an index on `ts`.
//!
//! A batch is one transaction. The file is in WAL mode, so that the ordinary
//! `sqlite3` reads it while it is written. What is no record (no `kind`, no `ts`)
//! goes as it is into the table `other`. A line without `ts` gets the time at which it was read.

mod file;
mod names;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::ready;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{ErrorCode, ToSql, TransactionBehavior};

use self::file::{Failure, File, explain};
use self::rows::{Cell, MOST_TABLES, Row, Shapes};
use self::schema::{OTHER, Table};
use super::{Batch, Encoded, Request, Sending, Sink, Verdict};
use crate::common::diag::log;

/// The sink.
pub struct Sqlite {
    file: File,
    shapes: Shapes,
    /// By shape number; as of `version`.
    tables: HashMap<usize, Table>,
    version: i64,
    /// That there are too many kinds has been said.
    told: bool,
}

impl Sqlite {
    /// Opens the database, creating it if need be.
    ///
    /// # Errors
    /// If it cannot be opened, or is none of ours.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path)
            .map_err(|failure| anyhow!("{}; name another file with --sqlite", explain(path, &failure)))?;
        let sink = Self { file, shapes: Shapes::default(), tables: HashMap::new(), version: -1, told: false };
        sink.with_tables().map_err(|failure| anyhow!("{}", explain(path, &failure)))
    }

    fn with_tables(mut self) -> Result<Self, Failure> {
        self.shapes.set_tables(schema::tables(&self.file.db)?);
        Ok(self)
    }

    fn store(&mut self, rows: &[Row]) -> Result<(), Failure> {
        if self.file.reopen_if_moved()? {
            self.version = -1;
            self.shapes.set_tables(schema::tables(&self.file.db)?);
        }
        let Self { file, shapes, tables, version, .. } = self;
        let transaction = file.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let current = || transaction.pragma_query_value(None, "schema_version", |row| row.get(0));
        if *version != current()? {
            tables.clear();
        }
        // Until the commit, tables may be known that will not be there.
        *version = -1;
        for row in rows {
            let shape = shapes.get(row.shape);
            let table = match tables.entry(row.shape) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Table::open(&transaction, shape)?),
            };
            table.insert(&transaction, shape, row)?;
        }
        let current = current()?;
        transaction.commit()?;
        *version = current;
        Ok(())
    }
}

impl Sqlite {
    /// What the machine, another process or a person causes can pass; the rest is a line's own fault.
    fn verdict(&self, failure: &Failure) -> Verdict {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
            NotADatabase, OutOfMemory, PermissionDenied, ReadOnly, SchemaChanged, SystemIoFailure,
        };
        let passes = match failure {
            Failure::Foreign(_) => true,
            Failure::Sqlite(error) => matches!(
                error.sqlite_error_code(),
                Some(
                    CannotOpen
                        | DatabaseBusy
                        | DatabaseCorrupt
                        | DatabaseLocked
                        | DiskFull
                        | FileLockingProtocolFailed
                        | NotADatabase
                        | OutOfMemory
                        | PermissionDenied
                        | ReadOnly
                        | SchemaChanged
                        | SystemIoFailure
                )
            ),
        };
        if passes {
            Verdict::Retry { after: None, reason: self.file.explain(failure) }
        } else {
            Verdict::Split { reason: failure.to_string() }
        }
    }
}

impl Sink for Sqlite {
    type Body = Vec<Row>;

    fn name(&self) -> &'static str {
        "sqlite"
    }

    fn encode(&mut self, batch: &Batch) -> Encoded<Vec<Row>> {
        let (mut body, mut lines, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..batch.len() {
            match self.shapes.row(batch, index) {
                Ok(row) => {
                    body.push(row);
                    lines.push(index);
                }
                Err(reason) => rejected.push((index, reason)),
            }
        }
        if self.shapes.overflowed && !std::mem::replace(&mut self.told, true) {
            log(format_args!(
                "sqlite: more than {MOST_TABLES} kinds: lines of further ones go whole into the table `{OTHER}`"
            ));
        }
        let items = body.len() as u64;
        let requests = if body.is_empty() { vec![] } else { vec![Request { body, lines, items }] };
        Encoded { requests, rejected, empty: Vec::new() }
    }

    fn send(&mut self, body: &Vec<Row>) -> Sending {
        let stored = self.store(body);
        Box::pin(ready(stored.map_or_else(|failure| self.verdict(&failure), |()| Verdict::DELIVERED)))
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

/// `$XDG_DATA_HOME/telepipe/telemetry.db`, where that is `~/.local/share` unless set; creates the folders.
///
/// # Errors
/// If there is no home, or a folder cannot be made.
pub fn default_path() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let folder = data.context("no home directory; name a destination: --sqlite FILE, --otlp or --stdout")?;
    let folder = folder.join("telepipe");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join("telemetry.db"))
}
