//! The tables on the server: their columns, as `DESCRIBE TABLE` lists them, and their creation.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;

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
             SETTINGS ttl_only_drop_parts = 1, non_replicated_deduplication_window = 1000"
        )
    }
}

/// The server and the tables that are known there.
pub struct Tables {
    /// The server.
    pub server: Server,
    /// Whether to create tables and columns that are missing, and how.
    pub creation: Option<Creation>,
    known: Mutex<HashMap<String, Arc<Table>>>,
    /// Tables and columns reported as missing.
    lacks: std::sync::Mutex<HashSet<(String, String)>>,
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

impl Tables {
    /// Nothing is known yet.
    pub fn new(server: Server, creation: Option<Creation>) -> Self {
        Self { server, creation, known: Mutex::new(HashMap::new()), lacks: Default::default() }
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
        // Held while the server is asked, so that requests in flight do not all ask.
        let mut known = self.known.lock().await;
        if let Some(table) = known.get(name) {
            return Ok(table.clone());
        }
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
        let table = Arc::new(table);
        known.insert(name.to_owned(), table.clone());
        Ok(table)
    }

    /// Runs a statement that is the same for all lines, so that none is at fault if it fails.
    async fn define(&self, sql: &str) -> Result<(), Failure> {
        let defined = self.server.query(sql).await;
        defined.map(drop).map_err(|failure| Failure { cause: Cause::Outside, ..failure })
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
        self.forget(name).await;
        self.get(name, |_| Vec::new()).await
    }

    /// Describes the table again before it is used next.
    pub async fn forget(&self, name: &str) {
        self.known.lock().await.remove(name);
    }

    /// Reports, once for each, that a table has no column for these fields.
    pub fn report_lack(&self, table: &str, fields: impl Iterator<Item = String>) {
        let mut lacks = self.lacks.lock().unwrap_or_else(PoisonError::into_inner);
        let new: Vec<_> = fields.filter(|field| lacks.insert((table.to_owned(), field.clone()))).collect();
        if !new.is_empty() {
            log(format_args!(
                "clickhouse: the table {table} has no column for {}; --create adds columns",
                excerpt(new.join(", ").as_bytes())
            ));
        }
    }

    async fn describe(&self, name: &str) -> Result<Table, Failure> {
        let sql = format!("DESCRIBE TABLE {} FORMAT JSONEachRow", self.server.table(name));
        let answer = self.server.query(&sql).await?;
        let lines = answer.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let mut columns = Vec::new();
        for line in lines {
            let Ok(Described { name, sql_type, default_type }) = serde_json::from_slice(line) else {
                let reason =
                    format!("{}: it does not describe tables as ClickHouse does", self.server.name());
                return Err(Failure::of(Cause::Outside, reason));
            };
            if !matches!(default_type.as_str(), "MATERIALIZED" | "ALIAS") {
                columns.push(Column { name, sql_type });
            }
        }
        Ok(Table { columns })
    }
}
