//! An embedded database: one table per kind, a column per field, an index on `ts`.
//!
//! A batch is one transaction. The file is in WAL mode, so that the ordinary
//! `sqlite3` reads it while it is written. What is no record (no `kind`, no `ts`)
//! goes as it is into the table `other`. A line without `ts` gets the time at which it was read.

mod names;
mod rows;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::future::{Future, ready};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, ErrorCode, OpenFlags, ToSql, TransactionBehavior};

use self::rows::{Cell, Row, Shapes};
use self::schema::Table;
use super::{Batch, Encoded, Request, Sink, Verdict};

/// How long one attempt waits for somebody else's lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// The sink.
pub struct Sqlite {
    path: PathBuf,
    db: Connection,
    inode: u64,
    shapes: Shapes,
    /// By shape number; as of `version`.
    tables: HashMap<usize, Table>,
    version: i64,
}

impl Sqlite {
    /// Opens the database, creating it if need be.
    ///
    /// # Errors
    /// If it cannot be opened, or is none.
    pub fn open(path: &Path) -> Result<Self> {
        let (db, inode) = connect(path).with_context(|| {
            format!("cannot use {} as a database; name another file with --sqlite", path.display())
        })?;
        let path = path.to_owned();
        Ok(Self { path, db, inode, shapes: Shapes::default(), tables: HashMap::new(), version: -1 })
    }

    /// Follows a file that was renamed or removed: what comes now belongs into a new one.
    fn reopen_if_moved(&mut self) -> rusqlite::Result<()> {
        if std::fs::metadata(&self.path).map_or(0, |file| file.ino()) != self.inode {
            // What is still in the log belongs into the file that was moved, and the log goes by
            // the old name: it must be gone before a new database has that name.
            let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
            self.db = Connection::open_in_memory()?;
            (self.db, self.inode) = connect(&self.path)?;
            self.version = -1;
        }
        Ok(())
    }

    fn store(&mut self, rows: &[Row]) -> rusqlite::Result<()> {
        self.reopen_if_moved()?;
        let Self { db, shapes, tables, version, .. } = self;
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let current = || transaction.pragma_query_value(None, "schema_version", |row| row.get(0));
        if *version != current()? {
            tables.clear();
        }
        // Until the commit, tables may be known that will not be there.
        *version = -1;
        let mut columns = Vec::new();
        for Row { shape: number, cells } in rows {
            let shape = shapes.get(*number);
            let table = match tables.entry(*number) {
                std::collections::hash_map::Entry::Occupied(entry) => entry.into_mut(),
                std::collections::hash_map::Entry::Vacant(entry) => {
                    entry.insert(Table::open(&transaction, shape)?)
                }
            };
            columns.clear();
            for (field, cell) in cells {
                columns.push(table.column(&transaction, shape, *field, cell)?);
            }
            let mut insert = transaction.prepare_cached(&table.insert)?;
            insert.clear_bindings();
            for (column, (_, cell)) in columns.iter().zip(cells) {
                insert.raw_bind_parameter(column + 1, cell)?;
            }
            insert.raw_execute()?;
        }
        let current = current()?;
        transaction.commit()?;
        *version = current;
        Ok(())
    }
}

fn connect(path: &Path) -> rusqlite::Result<(Connection, u64)> {
    // Not `:memory:` and not `file:…`, whatever it is called: always a file.
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(&path, flags)?;
    db.busy_timeout(LOCK_WAIT)?;
    db.set_prepared_statement_cache_capacity(256);
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    db.pragma_update(None, "synchronous", "normal")?;
    let inode = std::fs::metadata(&path).map_or(0, |file| file.ino());
    Ok((db, inode))
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
        let items = body.len() as u64;
        let requests = if body.is_empty() { vec![] } else { vec![Request { body, lines, items }] };
        Encoded { requests, rejected }
    }

    fn send(&mut self, body: &Vec<Row>) -> impl Future<Output = Verdict> {
        ready(self.store(body).map_or_else(|error| verdict(&error, &self.path), |()| Verdict::DELIVERED))
    }
}

/// What the machine or another process causes can pass; the rest is a line's own fault.
fn verdict(error: &rusqlite::Error, path: &Path) -> Verdict {
    use ErrorCode::{
        CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
        NotADatabase, OutOfMemory, PermissionDenied, ReadOnly, SchemaChanged, SystemIoFailure,
    };
    match error.sqlite_error_code() {
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
            | SystemIoFailure,
        ) => Verdict::Retry { after: None, reason: format!("{}: {error}", path.display()) },
        _ => Verdict::Split { reason: error.to_string() },
    }
}

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Int(value) => ValueRef::Integer(*value),
            Self::Bool(value) => ValueRef::Integer(i64::from(*value)),
            Self::Real(value) => ValueRef::Real(*value),
            Self::Text(text) | Self::Json(text) => ValueRef::Text(text.as_bytes()),
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
