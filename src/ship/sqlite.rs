//! Writes to a SQLite database: one table per kind, a column per field, an index on `ts`.
//!
//! A batch is one transaction. The file is in WAL mode, so that `sqlite3` can read it meanwhile. Lines that are not
//! records (no `kind` or no `ts`) go unchanged to the table `other`, except OTLP/JSON with spans, which become rows of
//! `span`. A line without `ts` gets the time at which it was read.

mod file;
mod retention;
mod rows;
mod schema;
mod spans;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::ready;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use rusqlite::{ErrorCode, TransactionBehavior};

use self::file::{Failure, File, explain};
use self::retention::{Bounds, Retention, page_count};
use self::rows::{MAX_TABLES, Row, Shapes};
use self::schema::{OTHER, Table};
use super::check::{self, Report};
use super::{Batch, Encoded, Request, Sending, Sink, Verdict, dry_run};
use crate::common::diag::log;
use crate::common::program::Usage;
use crate::common::units::{age, size};

/// What the default database keeps.
const DEFAULT_KEEP: Duration = Duration::from_secs(7 * 86_400);
const DEFAULT_MAX_SIZE: u64 = 2 << 30;
/// The smallest `--max-size`: some hundred empty tables take that much.
const MIN_MAX_SIZE: u64 = 4 << 20;

/// The options of `--sqlite`.
#[derive(Args, Clone, Debug, Default)]
pub struct SqliteArgs {
    /// Write to a SQLite database, one table per kind
    ///
    /// Without any destination, tele-ship writes to $XDG_DATA_HOME/telepipe/telemetry.db, and keeps the last 7 days
    /// there, in at most 2GiB.
    #[arg(long, value_name = "FILE", help_heading = "Destinations")]
    pub sqlite: Option<PathBuf>,

    /// Delete rows of the SQLite database that are older than this
    ///
    /// Default: 7d without any destination; with --sqlite, rows are kept.
    #[arg(long, value_name = "TIME", hide_short_help = true, value_parser = age, help_heading = "SQLite")]
    keep: Option<Duration>,

    /// Delete the oldest rows of the SQLite database when it reaches this size
    ///
    /// Default: 2GiB without any destination; with --sqlite, there is no limit. It must be at least 4MiB.
    #[arg(long, value_name = "SIZE", hide_short_help = true, value_parser = size, help_heading = "SQLite")]
    max_size: Option<usize>,
}

impl SqliteArgs {
    /// Whether an option bounds the database.
    pub fn has_bounds(&self) -> bool {
        !self.bounds().is_empty()
    }

    fn bounds(&self) -> Bounds {
        Bounds { keep: self.keep, max_size: self.max_size.map(|size| size as u64) }
    }

    /// Opens or creates the database: the default one if no file is given. In a dry run nothing is created.
    ///
    /// # Errors
    /// If it cannot be opened, or belongs to another program, or an option is wrong.
    pub fn open(&self, dry_run: bool) -> Result<Sqlite> {
        let mut bounds = self.bounds();
        if bounds.max_size.is_some_and(|size| size < MIN_MAX_SIZE) {
            bail!(Usage("--max-size must be at least 4MiB".to_owned()));
        }
        if dry_run {
            return Sqlite::in_memory();
        }
        let path = match &self.sqlite {
            Some(path) => path.clone(),
            None => {
                bounds.keep.get_or_insert(DEFAULT_KEEP);
                bounds.max_size.get_or_insert(DEFAULT_MAX_SIZE);
                default_path()?
            }
        };
        if self.sqlite.is_none() {
            let path = path.display();
            log(format_args!(
                "no destination given: writing to {path}, which keeps {bounds} (--keep, --max-size)"
            ));
        } else if !bounds.is_empty() {
            log(format_args!("sqlite: {} keeps {bounds}", path.display()));
        }
        Sqlite::open(&path, bounds)
    }

    /// Opens the database if there is one. Nothing is created.
    ///
    /// # Errors
    /// If no file is given and there is no home directory.
    pub fn check(&self, report: &mut Report<'_>) -> Result<()> {
        let path = self.sqlite.clone().map_or_else(default_path, Ok)?;
        let (what, folder) = (format!("sqlite {}", path.display()), check::parent(&path));
        let opened = match path.exists() {
            true => File::open(&path).map(|_| String::new()).map_err(|failure| failure.to_string()),
            // The folder is created, too, if only that is missing.
            false if folder.is_dir() => check::creatable(&path),
            false => check::creatable(folder),
        };
        if report.step(&what, "open", opened) {
            report.step(
                &what,
                "room",
                check::room(if folder.is_dir() { folder } else { check::parent(folder) }),
            );
        }
        Ok(())
    }
}

/// The sink.
pub struct Sqlite {
    file: File,
    retention: Retention,
    shapes: Shapes,
    /// By shape number, as of schema `version`.
    tables: HashMap<usize, Table>,
    version: i64,
    /// That there are too many kinds was logged.
    overflow_logged: bool,
}

impl Sqlite {
    /// Opens or creates the database.
    ///
    /// # Errors
    /// If it cannot be opened, or belongs to another program.
    pub fn open(path: &Path, bounds: Bounds) -> Result<Self> {
        let file = File::open(path).map_err(|failure| anyhow!("--sqlite {}", explain(path, &failure)))?;
        Self::new(file, bounds).with_tables().map_err(|failure| anyhow!("{}", explain(path, &failure)))
    }

    /// A database in memory, which only shows rows.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn in_memory() -> Result<Self> {
        let failed = |failure: Failure| anyhow!("{failure}");
        Self::new(File::in_memory().map_err(failed)?, Bounds::default()).with_tables().map_err(failed)
    }

    fn new(file: File, bounds: Bounds) -> Self {
        Self {
            file,
            retention: Retention::new(bounds),
            shapes: Shapes::default(),
            tables: HashMap::new(),
            version: -1,
            overflow_logged: false,
        }
    }

    fn with_tables(mut self) -> Result<Self, Failure> {
        self.shapes.set_tables(schema::tables(&self.file.db)?);
        Ok(self)
    }

    /// Stores the rows, and deletes old ones if there are bounds.
    fn store(&mut self, rows: &[Row]) -> Result<(), Failure> {
        if self.file.reopen_if_moved()? {
            self.version = -1;
            self.shapes.set_tables(schema::tables(&self.file.db)?);
        }
        self.file.limit_log(self.retention.bounds.max_size.unwrap_or(u64::MAX))?;
        for attempt in 0.. {
            if self.insert(rows)? {
                break;
            }
            if !self.retention.make_room(&mut self.file.db, attempt)? {
                return Err(Failure::Size);
            }
        }
        // The rows are stored. If deleting keeps failing, the first batch without room reports it.
        let _ = self.retention.trim(&mut self.file.db);
        Ok(())
    }

    /// Stores the rows; false if the database would exceed its size.
    fn insert(&mut self, rows: &[Row]) -> Result<bool, Failure> {
        let Self { file, retention, shapes, tables, version, .. } = self;
        let transaction = file.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let current = || transaction.pragma_query_value(None, "schema_version", |row| row.get(0));
        if *version != current()? {
            tables.clear();
        }
        // If the transaction is rolled back, the tables that it created are gone.
        *version = -1;
        let pages = page_count(&transaction)?;
        let mut sorted: Vec<_> = rows.iter().collect();
        sorted.sort_by_key(|row| row.shape);
        for rows in sorted.chunk_by(|a, b| a.shape == b.shape) {
            let shape = shapes.get(rows[0].shape);
            let table = match tables.entry(rows[0].shape) {
                Entry::Occupied(entry) => entry.into_mut(),
                Entry::Vacant(entry) => entry.insert(Table::open(&transaction, shape)?),
            };
            table.insert(&transaction, shape, rows)?;
        }
        if retention.is_exceeded(&transaction, pages)? {
            return Ok(false);
        }
        let current = current()?;
        transaction.commit()?;
        *version = current;
        Ok(true)
    }

    /// A cause outside, such as a lock or a full disk, can go away; anything else is the fault of a line.
    fn verdict(&self, failure: &Failure) -> Verdict {
        use ErrorCode::{
            CannotOpen, DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, FileLockingProtocolFailed,
            NotADatabase, OutOfMemory, PermissionDenied, ReadOnly, SchemaChanged, SystemIoFailure,
        };
        let is_temporary = match failure {
            Failure::Foreign(_) | Failure::Log(_) => true,
            Failure::Size => false,
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
        if is_temporary {
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

    fn is_local(&self) -> bool {
        true
    }

    fn encode(&mut self, batch: &Batch) -> Encoded<Vec<Row>> {
        let (mut body, mut lines, mut rejected) = (Vec::new(), Vec::new(), Vec::new());
        for index in 0..batch.len() {
            match self.shapes.add_rows(&mut body, batch, index) {
                Ok(()) => lines.push(index),
                Err(reason) => rejected.push((index, reason)),
            }
        }
        if self.shapes.overflowed && !std::mem::replace(&mut self.overflow_logged, true) {
            log(format_args!(
                "sqlite: more than {MAX_TABLES} kinds; lines of further kinds go to the table `{OTHER}`"
            ));
        }
        let items = body.len() as u64;
        let requests = if body.is_empty() { vec![] } else { vec![Request { body, lines, items }] };
        Encoded { requests, rejected, empty: Vec::new() }
    }

    /// The rows, as the tables of a database in memory have them.
    fn preview(&mut self, batch: &Batch) -> Encoded<Vec<u8>> {
        let mut encoded = self.encode(batch);
        let Some(Request { body, lines, items }) = encoded.requests.pop() else {
            return encoded.map(|_| Vec::new());
        };
        match self.store(&body).and_then(|()| Ok(schema::take_rows(&self.file.db)?)) {
            Ok(rows) => {
                let mut body = Vec::new();
                rows.iter()
                    .for_each(|(table, row)| dry_run::show(&mut body, "sqlite", table, row.as_bytes()));
                Encoded { requests: vec![Request { body, lines, items }], ..encoded.map(|_| Vec::new()) }
            }
            Err(failure) => {
                let reason = failure.to_string();
                encoded.rejected.extend(lines.into_iter().map(|line| (line, reason.clone())));
                encoded.map(|_| Vec::new())
            }
        }
    }

    fn send(&mut self, body: &Vec<Row>) -> Sending {
        let stored = self.store(body);
        Box::pin(ready(stored.map_or_else(|failure| self.verdict(&failure), |()| Verdict::DELIVERED)))
    }
}

/// `$XDG_DATA_HOME/telepipe/telemetry.db`; the variable defaults to `~/.local/share`. Creates the directories.
///
/// # Errors
/// If there is no home directory, or a directory cannot be created.
fn default_path() -> Result<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = variable("XDG_DATA_HOME").or_else(|| Some(variable("HOME")?.join(".local/share")));
    let folder = data.context("no home directory; use --sqlite FILE, --otlp or --stdout")?;
    let folder = folder.join("telepipe");
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    Ok(folder.join("telemetry.db"))
}
