//! The tables on the server: their columns, as `DESCRIBE TABLE` lists them, and their creation.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::server::{Cause, Failure, Server};
use crate::common::diag::{excerpt, log};

/// A column that an insert can fill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// Its type in SQL.
    pub sql_type: String,
}

/// A table that exists.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    /// Its columns, in order, except computed ones.
    pub columns: Vec<Column>,
}

impl Table {
    /// The type of a column.
    pub fn sql_type(&self, name: &str) -> Option<&str> {
        self.columns.iter().find(|column| column.name == name).map(|column| column.sql_type.as_str())
    }
}

/// How tables are created.
#[derive(Clone, Copy, Debug)]
pub struct Creation {
    /// How long rows are kept.
    pub ttl: Option<Duration>,
}

impl Creation {
    /// The end of a `CREATE TABLE` statement: the engine, partitions by day, the time to live, and the deduplication
    /// window. `time` is the column with the time.
    pub fn engine(&self, time: &str, order: &str) -> String {
        let ttl = self.ttl.map_or_else(String::new, |ttl| {
            format!(" TTL toDateTime({time}) + toIntervalSecond({})", ttl.as_secs().max(1))
        });
        format!(
            "ENGINE = MergeTree PARTITION BY toDate({time}) ORDER BY ({order}){ttl} \
             SETTINGS ttl_only_drop_parts = 1, {WINDOW} = 1000"
        )
    }
}

/// Tables by name. Requests for a table wait while the server describes it.
type Known = HashMap<String, Arc<OnceCell<Arc<Table>>>>;

/// The server and the tables that are known there.
pub struct Tables {
    /// The server.
    pub server: Server,
    /// Whether to create tables and columns that are missing, and how.
    pub creation: Option<Creation>,
    known: Mutex<Known>,
    /// What was reported already: a table, and what it lacks.
    lacks: Mutex<HashSet<(String, String)>>,
}

/// A row of the answer to `DESCRIBE TABLE`.
#[derive(Deserialize)]
struct Described {
    name: String,
    #[serde(rename = "type")]
    sql_type: String,
    #[serde(default)]
    default_type: String,
}

/// The setting of a table without replicas that makes it remember inserts.
pub const WINDOW: &str = "non_replicated_deduplication_window";

/// A row of `system.tables`.
#[derive(Deserialize)]
struct Engine {
    engine: String,
    /// The engine with its settings.
    engine_full: String,
    /// The default of [`WINDOW`], or nothing if the server has no such setting.
    usual: String,
}

/// Whether a table could remember inserts and does not.
fn is_forgetful(engine: &str, engine_full: &str, usual: &str) -> bool {
    let is_plain =
        engine.ends_with("MergeTree") && !engine.starts_with("Replicated") && !engine.starts_with("Shared");
    let own = engine_full.split_once(WINDOW).map(|(_, rest)| rest.trim_start_matches([' ', '=']));
    let own = own.map(|rest| rest.split(|char: char| !char.is_ascii_digit()).next().unwrap_or_default());
    is_plain && !usual.is_empty() && own.unwrap_or(usual) == "0"
}

impl Tables {
    /// Nothing is known yet.
    pub fn new(server: Server, creation: Option<Creation>) -> Self {
        Self { server, creation, known: Mutex::default(), lacks: Mutex::default() }
    }

    /// Describes a table, after creating it if that is allowed. `statements` create it.
    ///
    /// # Errors
    /// If there is no such table, or the server cannot be asked.
    pub async fn get(
        &self,
        name: &str,
        statements: impl FnOnce(&Creation) -> Vec<String>,
    ) -> Result<Arc<Table>, Failure> {
        let cell = self.known().entry(name.to_owned()).or_default().clone();
        let table = cell.get_or_try_init(|| self.find(name, statements)).await?;
        Ok(table.clone())
    }

    async fn find(
        &self,
        name: &str,
        statements: impl FnOnce(&Creation) -> Vec<String>,
    ) -> Result<Arc<Table>, Failure> {
        let table = match (self.describe(name).await, &self.creation) {
            (Err(Failure { cause: Cause::NoTable, .. }), Some(creation)) => {
                if let Some(database) = self.server.database() {
                    self.define(&format!("CREATE DATABASE IF NOT EXISTS {database}")).await?;
                }
                for statement in statements(creation) {
                    self.define(&statement).await?;
                }
                log(format_args!("clickhouse: created the table {name} at {}", self.server.name()));
                self.describe(name).await?
            }
            (described, _) => described?,
        };
        self.report_window(name).await;
        Ok(Arc::new(table))
    }

    /// Runs a statement that is the same for all lines, so that none is at fault if it fails.
    async fn define(&self, sql: &str) -> Result<(), Failure> {
        let defined = self.server.query(sql).await;
        defined.map(drop).map_err(|failure| {
            // SYNTAX_ERROR, UNKNOWN_SETTING
            let is_old = matches!(failure.code, Some(62 | 115));
            let advice =
                if is_old { "; this server is too old for --create; create the table yourself" } else { "" };
            Failure { cause: Cause::Outside, reason: format!("{}{advice}", failure.reason), ..failure }
        })
    }

    /// Adds columns, given as `name type codec`, and describes the table again.
    ///
    /// # Errors
    /// If the server refuses.
    pub async fn add(&self, name: &str, columns: &[String]) -> Result<Arc<Table>, Failure> {
        let columns: Vec<_> =
            columns.iter().map(|column| format!("ADD COLUMN IF NOT EXISTS {column}")).collect();
        let sql = format!("ALTER TABLE {} {}", self.server.table(name), columns.join(", "));
        let added = self.server.query(&sql).await;
        // BAD_ARGUMENTS, ILLEGAL_TYPE_OF_ARGUMENT, ILLEGAL_COLUMN, SYNTAX_ERROR: a field has a name that is none here.
        let is_name = |failure: &Failure| matches!(failure.code, Some(36 | 43 | 44 | 62));
        added.map_err(|failure| match is_name(&failure) {
            true => Failure { cause: Cause::Lines, ..failure },
            false => failure,
        })?;
        self.forget(name);
        self.get(name, |_| Vec::new()).await
    }

    /// Describes the table again before it is used next.
    pub fn forget(&self, name: &str) {
        self.known().remove(name);
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reports, once for each, that a table has no column for these fields.
    pub fn report_lack(&self, table: &str, fields: impl Iterator<Item = String>) {
        let new: Vec<_> = fields.filter(|field| self.is_new(table, field)).collect();
        if !new.is_empty() {
            log(format_args!(
                "clickhouse: the table {table} has no column for {}; --create adds columns",
                excerpt(new.join(", ").as_bytes())
            ));
        }
    }

    /// Reports, once, that a table stores a repeated insert twice.
    async fn report_window(&self, name: &str) {
        if self.is_new(name, "") && self.forgets_inserts(name).await == Some(true) {
            log(format_args!(
                "clickhouse: the table {name} does not recognise an insert that is repeated after a lost answer, and stores \
                 its rows twice; run ALTER TABLE {} MODIFY SETTING {WINDOW} = 1000",
                self.server.table(name)
            ));
        }
    }

    /// Whether a table could remember inserts and does not; `None` if the server does not answer the question, on
    /// which no insert depends.
    pub async fn forgets_inserts(&self, name: &str) -> Option<bool> {
        let text = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"));
        let database = self.server.database_name().map_or_else(|| "currentDatabase()".to_owned(), text);
        let sql = format!(
            "SELECT engine, engine_full, (SELECT any(value) FROM system.merge_tree_settings WHERE name = '{WINDOW}') AS usual \
             FROM system.tables WHERE database = {database} AND name = {} FORMAT JSONEachRow",
            text(name)
        );
        let answer = self.server.query(&sql).await.ok()?;
        let Engine { engine, engine_full, usual } = serde_json::from_slice(&answer).ok()?;
        Some(is_forgetful(&engine, &engine_full, &usual))
    }

    /// Whether this was not reported before.
    fn is_new(&self, table: &str, lack: &str) -> bool {
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        lacks.insert((table.to_owned(), lack.to_owned()))
    }

    /// The columns of a table.
    ///
    /// # Errors
    /// If there is no such table, or the server cannot be asked.
    pub async fn describe(&self, name: &str) -> Result<Table, Failure> {
        let sql = format!("DESCRIBE TABLE {} FORMAT JSONEachRow", self.server.table(name));
        let answer = self.server.query(&sql).await?;
        let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut columns = Vec::new();
        for line in lines {
            let Ok(Described { name, sql_type, default_type }) = serde_json::from_slice(line) else {
                return Err(self.server.stranger());
            };
            if !matches!(default_type.as_str(), "MATERIALIZED" | "ALIAS") {
                columns.push(Column { name, sql_type });
            }
        }
        // ClickHouse has no table without columns.
        if columns.is_empty() { Err(self.server.stranger()) } else { Ok(Table { columns }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_that_do_not_remember_inserts() {
        let set =
            |value| format!("MergeTree ORDER BY ts SETTINGS {WINDOW} = {value}, index_granularity = 8192");
        for (engine, full, usual, expected) in [
            ("MergeTree", "MergeTree ORDER BY ts", "0", true),
            ("MergeTree", "MergeTree ORDER BY ts", "100", false),
            ("ReplacingMergeTree", "ReplacingMergeTree ORDER BY ts", "0", true),
            ("MergeTree", &set(1000), "0", false),
            ("MergeTree", &set(0), "100", true),
            ("ReplicatedMergeTree", "ReplicatedMergeTree('/x', 'y')", "0", false),
            ("SharedMergeTree", "SharedMergeTree", "0", false),
            ("Distributed", "Distributed('c', 'd', 't')", "0", false),
            // A server without the setting.
            ("MergeTree", "MergeTree ORDER BY ts", "", false),
        ] {
            assert_eq!(is_forgetful(engine, full, usual), expected, "{engine}: {full}, {usual}");
        }
    }
}
