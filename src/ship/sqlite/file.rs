//! The file of a database: whose it is, how it is opened, and why it cannot be.

use std::fmt;
use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior, ffi};

/// Says in the header of a database that it is ours (`PRAGMA application_id`): "tpip".
pub const APPLICATION_ID: i32 = 0x7470_6970;

/// How long one attempt waits for somebody else's lock.
const LOCK_WAIT: Duration = Duration::from_secs(1);

/// How long a database may be locked when it is opened: whoever else makes it just now waits for a disk, and a busy
/// one takes seconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// Which file it is, whatever its name: device and inode.
type Identity = (u64, u64);

/// An open database.
pub struct File {
    path: PathBuf,
    /// The connection.
    pub db: Connection,
    /// `None` while the file is gone and no other is open.
    identity: Option<Identity>,
}

/// Why a database cannot be used.
#[derive(Debug)]
pub enum Failure {
    /// It holds what is not ours.
    Foreign(i32),
    /// What SQLite says.
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

impl Failure {
    /// Whether somebody else's lock is all that is in the way.
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
                "it is a database of another program (application_id {id}), which is left as it is; to add \
                 tables to it all the same, run sqlite3 on it with 'PRAGMA application_id = {APPLICATION_ID}'"
            ),
            Self::Sqlite(error) => error.fmt(f),
        }
    }
}

impl File {
    /// Opens the database, creating it if need be.
    ///
    /// # Errors
    /// If it cannot be opened, or is none of ours.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        // Not `:memory:` and not `file:…`, whatever it is called: always a file.
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let db = connect(&path)?;
        let identity = identity(&path);
        Ok(Self { path, db, identity })
    }

    /// Follows a file that was renamed or removed: what comes now belongs into a new one. True if it did.
    ///
    /// # Errors
    /// If there is one that cannot be opened, or is none of ours; the next call tries again.
    pub fn reopen_if_moved(&mut self) -> Result<bool, Failure> {
        if self.identity.is_some() && self.identity == identity(&self.path) {
            return Ok(false);
        }
        // What is still in the log belongs into the file that was moved, and the log goes by
        // the old name: it must be gone before a new database has that name.
        let _ = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        self.identity = None;
        self.db = Connection::open_in_memory()?;
        self.db = connect(&self.path)?;
        self.identity = identity(&self.path);
        Ok(true)
    }

    /// A failure as text that says which file, and what the system says of it where SQLite does not.
    pub fn explain(&self, failure: &Failure) -> String {
        explain(&self.path, failure)
    }
}

/// The same, of a file that could not be opened.
pub fn explain(path: &Path, failure: &Failure) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let name = path.display();
    // Of a file that it cannot open, SQLite repeats the name.
    let text = failure.to_string().replace(&format!(": {name}"), "");
    cause(&path, failure)
        .map_or_else(|| format!("{name}: {text}"), |cause| format!("{name}: {text}: {cause}"))
}

fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(LOCK_WAIT)?;
    db.set_prepared_statement_cache_capacity(256);
    if db.is_readonly(rusqlite::MAIN_DB)? {
        let text = Some("cannot be written".to_owned());
        return Err(rusqlite::Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_READONLY), text).into());
    }
    let end = Instant::now() + PATIENCE;
    while let Err(failure) = prepare(&mut db) {
        if !failure.is_lock() || Instant::now() >= end {
            return Err(failure);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(db)
}

fn prepare(db: &mut Connection) -> Result<(), Failure> {
    claim(db)?;
    db.pragma_update_and_check(None, "journal_mode", "wal", |_| Ok(()))?;
    Ok(db.pragma_update(None, "synchronous", "normal")?)
}

/// Makes an empty database ours, and refuses one that is somebody else's before anything is changed in it.
fn claim(db: &mut Connection) -> Result<(), Failure> {
    let id = |db: &Connection| db.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0));
    if id(db)? == APPLICATION_ID {
        return Ok(());
    }
    // Under the lock: another process may be making it just now.
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

/// What the system says, where SQLite says only that it cannot.
fn cause(path: &Path, failure: &Failure) -> Option<String> {
    let Failure::Sqlite(error) = failure else { return None };
    match error.sqlite_error_code()? {
        ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied => {}
        _ => return None,
    }
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
    if let Err(error) = file {
        return Some(error.to_string());
    }
    // It keeps a log and an index beside the file.
    let folder = path.parent()?;
    let access = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    Some(format!("the folder {}: {}", folder.display(), io::Error::from(access.err()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_somebody_else_makes_is_waited_for() {
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
