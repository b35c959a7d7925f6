//! Bounds a database in age and size: deletes the oldest rows of all tables.
//!
//! Each transaction deletes a limited number of rows, up to one point in time in every table, so that the newest
//! rows are always left. New rows use the free pages; a file that is larger than its bound becomes smaller if it
//! has `auto_vacuum`, as new ones do.

use std::fmt;
use std::time::{Duration, Instant};

use bytesize::ByteSize;
use jiff::SignedDuration;
use rusqlite::{Connection, OptionalExtension, Result, TransactionBehavior};

use super::rows::{marked, quoted};
use crate::common::time::Timestamp;

const DAY: Duration = Duration::from_secs(86_400);
/// How long deleting may delay a batch.
const TRIM_TIME: Duration = Duration::from_millis(100);
/// How often to look for rows that are too old.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// The rows of a transaction: few at first, since a row can be large, and then twice as many each time.
const FIRST_ROWS: usize = 64;
const MAX_ROWS: usize = 4096;
/// How many pages are returned to the file system at a time.
const VACUUM_PAGES: u64 = 256;
/// At most this much of the size limit is kept free, so that a batch has room.
const MAX_RESERVE: u64 = 64 << 20;

/// What a database keeps.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Rows with a `ts` older than this are deleted.
    pub keep: Option<Duration>,
    /// The size of the file, in bytes.
    pub max_size: Option<u64>,
}

impl Bounds {
    /// Whether there is no bound.
    pub fn is_empty(&self) -> bool {
        self.keep.is_none() && self.max_size.is_none()
    }
}

/// `the last 7 days, in at most 2.0 GiB`
impl fmt::Display for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keep {
            Some(keep) if keep > DAY && keep.as_nanos().is_multiple_of(DAY.as_nanos()) => {
                write!(f, "the last {} days", keep.as_secs() / DAY.as_secs())?;
            }
            Some(keep) => write!(f, "the last {:#}", SignedDuration::try_from(keep).unwrap_or_default())?,
            None => f.write_str("the newest rows")?,
        }
        self.max_size.map_or(Ok(()), |size| write!(f, ", in at most {}", ByteSize(size)))
    }
}

/// Keeps a database within its bounds.
#[derive(Debug)]
pub struct Retention {
    /// What it keeps.
    pub bounds: Bounds,
    checked: Option<Instant>,
}

impl Retention {
    /// For a database with these bounds.
    pub fn new(bounds: Bounds) -> Self {
        Self { bounds, checked: None }
    }

    /// Deletes rows that are too old or too many, for about [`TRIM_TIME`]. The rest follows after the next batch.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn trim(&mut self, db: &mut Connection) -> Result<()> {
        let end = Instant::now() + TRIM_TIME;
        let due = self.checked.is_none_or(|at| at.elapsed() >= CHECK_INTERVAL);
        if let Some(keep) = self.bounds.keep.filter(|_| due) {
            let oldest =
                Timestamp::now().0.saturating_sub(u64::try_from(keep.as_nanos()).unwrap_or(u64::MAX));
            let oldest = Timestamp(oldest).to_string();
            while Instant::now() < end {
                if delete_before(db, &oldest)? == 0 {
                    self.checked = Some(Instant::now());
                    break;
                }
            }
        }
        let Some(max) = self.bounds.max_size else { return Ok(()) };
        shrink(db, max - reserve(max), Some(end))?;
        truncate(db, max, end)
    }

    /// Whether the database is larger than its bound, and than it was with `before` pages.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn is_exceeded(&self, db: &Connection, before: u64) -> Result<bool> {
        let Some(max) = self.bounds.max_size else { return Ok(false) };
        let pages = pages(db)?;
        Ok(pages.all > before && pages.all * pages.size > max)
    }

    /// Makes room for a batch that did not fit, more if it is not the first attempt. False if there is as much room
    /// as a batch may have, which is half of the database. A file that exceeds its bound keeps its size meanwhile.
    ///
    /// # Errors
    /// If SQLite fails.
    pub fn make_room(&self, db: &mut Connection, attempt: u32) -> Result<bool> {
        let Some(max) = self.bounds.max_size else { return Ok(false) };
        let room = reserve(max).saturating_mul(1 << attempt.min(32)).min(max / 2);
        let pages = pages(db)?;
        shrink(db, max.max(pages.all * pages.size) - room, None)?;
        Ok(attempt == 0 || room < max / 2)
    }
}

fn reserve(max: u64) -> u64 {
    (max / 8).min(MAX_RESERVE)
}

/// The pages of a database.
struct Pages {
    size: u64,
    all: u64,
    free: u64,
}

fn pages(db: &Connection) -> Result<Pages> {
    let pragma =
        |name: &str| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    Ok(Pages { size: pragma("page_size")?, all: pragma("page_count")?, free: pragma("freelist_count")? })
}

/// The number of pages of the file.
///
/// # Errors
/// If SQLite fails.
pub fn page_count(db: &Connection) -> Result<u64> {
    Ok(pages(db)?.all)
}

/// Deletes the oldest rows until the used pages take at most `size` bytes, there are no more rows, or `end` has come.
fn shrink(db: &mut Connection, size: u64, end: Option<Instant>) -> Result<()> {
    let mut rows = FIRST_ROWS;
    loop {
        let pages = pages(db)?;
        let is_small = (pages.all - pages.free.min(pages.all)) * pages.size <= size;
        if is_small || end.is_some_and(|end| Instant::now() >= end) || delete_oldest(db, rows)? == 0 {
            return Ok(());
        }
        rows = (2 * rows).min(MAX_ROWS);
    }
}

/// Returns free pages to the file system while the file is larger than `size`, until `end`.
fn truncate(db: &Connection, size: u64, end: Instant) -> Result<()> {
    let mut before = u64::MAX;
    loop {
        let pages = pages(db)?;
        let excess = (pages.all * pages.size).saturating_sub(size).div_ceil(pages.size);
        if excess == 0 || pages.all >= before || Instant::now() >= end {
            return Ok(());
        }
        before = pages.all;
        db.execute_batch(&format!("PRAGMA incremental_vacuum({})", excess.min(VACUUM_PAGES)))?;
    }
}

/// Deletes up to about `rows` of the oldest rows; returns how many.
fn delete_oldest(db: &mut Connection, rows: usize) -> Result<usize> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let tables = tables(&transaction)?;
    // All tables are emptied up to a time before which none has more than `each` rows.
    let mut each = rows / tables.len().max(1);
    let first = loop {
        let mut first: Option<String> = None;
        for table in &tables {
            let sql = format!("SELECT ts FROM {} WHERE ts > '' ORDER BY ts LIMIT 1 OFFSET ?1", quoted(table));
            let ts =
                transaction.prepare_cached(&sql)?.query_row([each as i64], |row| row.get(0)).optional()?;
            first = match (first, ts) {
                (Some(a), Some(b)) => Some(std::cmp::min(a, b)),
                (a, b) => a.or(b),
            };
        }
        if each == 0 || first.is_some() {
            break first;
        }
        each /= 4;
    };
    let Some(first) = first else { return Ok(0) };
    let mut deleted = 0;
    for table in &tables {
        let sql = format!("DELETE FROM {} WHERE ts > '' AND ts < ?1", quoted(table));
        deleted += transaction.prepare_cached(&sql)?.execute([&first])?;
    }
    if deleted == 0 {
        // More rows than that have the same time.
        deleted = delete_some(&transaction, &tables, "<=", &first, rows)?;
    }
    transaction.commit()?;
    Ok(deleted)
}

/// Deletes some rows older than `ts`; returns how many.
fn delete_before(db: &mut Connection, ts: &str) -> Result<usize> {
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let deleted = delete_some(&transaction, &tables(&transaction)?, "<", ts, MAX_ROWS)?;
    transaction.commit()?;
    Ok(deleted)
}

fn delete_some(db: &Connection, tables: &[String], before: &str, ts: &str, most: usize) -> Result<usize> {
    let mut deleted = 0;
    for table in tables {
        let table = quoted(table);
        let sql = format!(
            "DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE ts > '' AND ts {before} ?1 \
             ORDER BY ts LIMIT ?2)"
        );
        if deleted < most {
            deleted += db.prepare_cached(&sql)?.execute((ts, (most - deleted) as i64))?;
        }
    }
    Ok(deleted)
}

/// The tables that tele-ship created, by their index on `ts`.
fn tables(db: &Connection) -> Result<Vec<String>> {
    let sql = "SELECT name, tbl_name FROM sqlite_schema WHERE type = 'index' AND substr(name, 1, 4) = '^ts:'";
    let mut query = db.prepare_cached(sql)?;
    let rows = query.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    let ours = rows.filter(|row| row.as_ref().map_or(true, |(index, table)| *index == marked("ts", table)));
    ours.map(|row| Ok(row?.1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table of ours with `rows` rows of `bytes` bytes; `ts` gives the time of each.
    fn fill(db: &Connection, table: &str, rows: u32, bytes: u32, ts: fn(u32) -> String) {
        let (name, index) = (quoted(table), quoted(&marked("ts", table)));
        let create = format!("CREATE TABLE {name} (ts TEXT, x BLOB); CREATE INDEX {index} ON {name} (ts)");
        db.execute_batch(&create).unwrap();
        let mut insert = db.prepare(&format!("INSERT INTO {name} VALUES (?1, randomblob(?2))")).unwrap();
        for row in 0..rows {
            insert.execute((ts(row), bytes)).unwrap();
        }
    }

    fn count(db: &Connection, table: &str) -> u32 {
        db.query_row(&format!("SELECT count(*) FROM {}", quoted(table)), [], |row| row.get(0)).unwrap()
    }

    fn used(db: &Connection) -> u64 {
        let pages = pages(db).unwrap();
        (pages.all - pages.free) * pages.size
    }

    #[test]
    fn rows_of_one_time_go_little_by_little() {
        let mut db = Connection::open_in_memory().unwrap();
        fill(&db, "k", 20_000, 100, |_| "2026-11-20T20:45:00Z".into());
        let half = used(&db) / 2;
        shrink(&mut db, half, None).unwrap();
        assert!(used(&db) <= half && count(&db, "k") > 7_000, "{}", count(&db, "k"));
    }

    #[test]
    fn large_rows_go_one_by_one() {
        let mut db = Connection::open_in_memory().unwrap();
        fill(&db, "a", 200, 100_000, |row| format!("2026-11-20T20:{:02}:{:02}Z", row / 60, row % 60));
        let most = used(&db) / 10 * 9;
        shrink(&mut db, most, None).unwrap();
        assert!(used(&db) <= most && (100..=180).contains(&count(&db, "a")), "{}", count(&db, "a"));
    }

    #[test]
    fn tables_of_others_are_left_alone() {
        let mut db = Connection::open_in_memory().unwrap();
        fill(&db, "Own \"^", 500, 100, |row| format!("2026-11-20T20:45:00.{row:09}Z"));
        db.execute_batch("CREATE TABLE theirs (ts TEXT); INSERT INTO theirs VALUES ('2000')").unwrap();
        shrink(&mut db, 0, None).unwrap();
        assert_eq!((count(&db, "Own \"^"), count(&db, "theirs")), (0, 1));
    }

    #[test]
    fn bounds_are_readable() {
        let text = |keep, max_size| Bounds { keep, max_size }.to_string();
        assert_eq!(text(Some(7 * DAY), Some(2 << 30)), "the last 7 days, in at most 2.0 GiB");
        assert_eq!(text(Some(DAY / 2), None), "the last 12h");
        assert_eq!(text(None, Some(4 << 20)), "the newest rows, in at most 4.0 MiB");
    }
}
