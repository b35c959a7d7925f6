//! The database file: opens it, follows it when it is moved, and explains why it cannot be used.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};

/// Marks a database as written by tele-ship (`PRAGMA application_id`): "tpip".
pub const APPLICATION_ID: i32 = 0x7470_6970;

/// How long one attempt waits for a lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How long a database may be locked when it is opened. Another process may be creating it, which takes seconds on a
/// busy disk.
const OPEN_WAIT: Duration = Duration::from_secs(10);

/// The size above which the write-ahead log is emptied. SQLite itself does so only when nobody reads.
const LOG_LIMIT: u64 = 64 << 20;

/// How often to try while somebody keeps reading.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// The identity of a file, independent of its name: device and inode.
type Identity = (u64, u64);

/// An open database.
pub struct File {
    path: PathBuf,
    /// The connection.
    pub db: Connection,
    /// `None` while the file is gone and no new one is open.
    identity: Option<Identity>,
    /// When emptying the write-ahead log was tried last.
    emptied: Option<Instant>,
}

/// Why a database cannot be used.
#[derive(Debug)]
pub enum Failure {
    /// It is the database of another program, with this application id.
    Foreign(i32),
    /// The write-ahead log has this many bytes and cannot be emptied, because another process reads from it.
    Log(u64),
    /// A batch takes more than half of the size that the database may have.
    Size,
    /// SQLite failed.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    /// Whether another process holds a lock.
    fn is_lock(&self) -> bool {
        let Self::Sqlite(error) = self else { return false };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign(id) => write!(
                f,
                "database of another program (application_id {id}), left unchanged; to add tables to it anyway, \
                 run 'PRAGMA application_id = {APPLICATION_ID}' on it with sqlite3"
            ),
            Self::Log(bytes) => write!(
                f,
                "the write-ahead log has reached {}, and cannot be emptied while another process is in a transaction",
                ByteSize(*bytes)
            ),
            Self::Size => f.write_str("it needs more than half of the size of the database (--max-size)"),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

impl File {
    /// Opens or creates the database.
    ///
    /// # Errors
    /// If it cannot be opened, or belongs to another program.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        // An absolute path is always a file, unlike `:memory:` or `file:…`.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        create_parent(&path);
        let db = connect(&path)?;
        let identity = identity(&path);
        Ok(Self { path, db, identity, emptied: None })
    }

    /// A database in memory, which is never replaced by a new one.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub fn in_memory() -> Result<Self, Failure> {
        Ok(Self { path: PathBuf::new(), db: Connection::open_in_memory()?, identity: None, emptied: None })
    }

    /// Opens a new database if the file was renamed or removed. True if it did.
    ///
    /// # Errors
    /// If the new file cannot be opened, or belongs to another program. The next call tries again.
    pub fn reopen_if_moved(&mut self) -> Result<bool, Failure> {
        let is_in_memory = self.path.as_os_str().is_empty();
        if is_in_memory || (self.identity.is_some() && self.identity == identity(&self.path)) {
            return Ok(false);
        }
        // The write-ahead log has the old name. Move its content to the old file before a new one takes the name.
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.identity = None;
        self.db = Connection::open_in_memory()?;
        self.db = connect(&self.path)?;
        self.identity = identity(&self.path);
        Ok(true)
    }

    /// Empties the write-ahead log if it is long, which has to wait for readers in a transaction.
    ///
    /// # Errors
    /// If it has `most` bytes or more and somebody keeps reading, or SQLite fails.
    pub fn limit_log(&mut self, most: u64) -> Result<(), Failure> {
        let mut name = self.path.clone().into_os_string();
        name.push("-wal");
        let size = || std::fs::metadata(&name).map_or(0, |file| file.len());
        let (bytes, is_due) = (size(), self.emptied.is_none_or(|at| at.elapsed() >= LOG_INTERVAL));
        if bytes < LOG_LIMIT.min(most) || (bytes < most && !is_due) {
            return Ok(());
        }
        self.emptied = Some(Instant::now());
        self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        if size() < most { Ok(()) } else { Err(Failure::Log(bytes)) }
    }

    /// Describes a failure: the file, and the system's reason where SQLite gives none.
    pub fn explain(&self, failure: &Failure) -> String {
        explain(&self.path, failure)
    }
}

/// As [`File::explain`], for a file that could not be opened.
pub fn explain(path: &Path, failure: &Failure) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = path.display();
    // SQLite repeats the name of a file that it cannot open.
    let text = failure.to_string().replace(&format!(": {name}"), "");
    cause(&path, failure)
        .map_or_else(|| format!("{name}: {text}"), |cause| format!("{name}: {text}: {cause}"))
}

/// Creates the directory of a new database, for its owner only. Not more than one level: a mistyped path must not
/// create a tree. An error shows when the file is opened.
fn create_parent(path: &Path) {
    if let Some(parent) = path.parent() {
        let _ = std::fs::DirBuilder::new().mode(0o700).create(parent);
    }
}

fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // For its owner only, and SQLite gives its other files the same mode. An error shows when the file is opened.
    let _ = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(LOCK_WAIT)?;
    db.set_prepared_statement_cache_capacity(256);
    if db.is_readonly(rusqlite::MAIN_DB)? {
        let text = Some("cannot be written".to_owned());
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), text).into());
    }
    let end = Instant::now() + OPEN_WAIT;
    while let Err(failure) = prepare(&mut db) {
        if !failure.is_lock() || Instant::now() >= end {
            return Err(failure);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(db)
}

fn prepare(db: &mut Connection) -> Result<(), Failure> {
    if db.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))? == 0 {
        // Costs nothing measurable, and a file that is bounded later can become smaller.
        db.pragma_update(None, "auto_vacuum", "incremental")?;
    }
    claim(db)?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    Ok(db.pragma_update(None, "synchronous", "normal")?)
}

/// Marks an empty database, and refuses that of another program before anything in it changes.
fn claim(db: &mut Connection) -> Result<(), Failure> {
    let id = |db: &Connection| db.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0));
    if id(db)? == APPLICATION_ID {
        return Ok(());
    }
    // Under the lock: another process may be creating it.
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    match id(&transaction)? {
        APPLICATION_ID => Ok(()),
        0 if tables == 0 => {
            transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
            Ok(transaction.commit()?)
        }
        id => Err(Failure::Foreign(id)),
    }
}

/// The system's reason, where SQLite gives none, and what to do about it.
fn cause(path: &Path, failure: &Failure) -> Option<String> {
    let Failure::Sqlite(error) = failure else { return None };
    match error.sqlite_error_code()? {
        ErrorCode::DiskFull => return Some("waiting for free space on its file system".into()),
        ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {}
        _ => return None,
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    if let Err(error) = file {
        let parent = path.parent().filter(|parent| !parent.exists()).and_then(Path::to_str);
        let quoted = parent.and_then(|parent| shlex::try_quote(parent).ok());
        return Some(
            quoted.map_or(error.to_string(), |parent| format!("{error}; create it with mkdir -p {parent}")),
        );
    }
    // SQLite creates two more files in the same directory.
    let folder = path.parent()?;
    let access = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    Some(format!("the directory {}: {}", folder.display(), io::Error::from(access.err()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_that_another_process_creates_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new.db");
        let other = Connection::open(&path).unwrap();
        other.execute_batch("BEGIN EXCLUSIVE").unwrap();
        let held = LOCK_WAIT + Duration::from_millis(500);
        let opened = std::thread::scope(|scope| {
            let opening = scope.spawn(|| File::open(&path));
            std::thread::sleep(held);
            other.execute_batch("COMMIT").unwrap();
            opening.join().unwrap()
        });
        let file = opened.unwrap_or_else(|failure| panic!("{failure}"));
        let mode: String = file.db.pragma_query_value(None, "journal_mode", |row| row.get(0)).unwrap();
        assert_eq!(mode, "wal");
    }
}
