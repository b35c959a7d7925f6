//! The steps of `tele-ship check` for ClickHouse: a query, and the tables.

use super::otel::Kind;
use super::server::{Cause, Failure};
use super::tables::WINDOW;
use super::{ClickHouse, Shape};
use crate::ship::check::Report;

impl ClickHouse {
    /// Reaches the server, runs a query, and looks for the tables.
    pub async fn check(&self, report: &mut Report<'_>) {
        let tables = &self.shared.tables;
        let what = format!("clickhouse {}", tables.server.name());
        if !tables.server.reach(&what, report) {
            return;
        }
        let answer = tables.server.query("SELECT 1 FORMAT TabSeparated").await;
        let answer = match answer {
            Ok(body) if body.trim_ascii() == b"1" => Ok(String::new()),
            Ok(_) => Err("it does not answer as ClickHouse does; correct the URL".to_owned()),
            Err(failure) => Err(failure.reason),
        };
        if !report.step(&what, "query", answer) {
            return;
        }
        let names: Vec<&str> = match &self.shape {
            Shape::Otel(_) => Kind::ALL.map(Kind::table).to_vec(),
            Shape::Lines(lines) if lines.by_kind() => {
                report.step(
                    &what,
                    "tables",
                    Ok("one for each kind, not known before there are lines".to_owned()),
                );
                return;
            }
            Shape::Lines(lines) => vec![lines.pattern()],
        };
        for name in names {
            let step = format!("table {name}");
            report.step(&what, &step, self.table(name).await.unwrap_or_else(|failure| Err(failure.reason)));
        }
    }

    /// Whether a table exists or can be created, and what it does with repeated inserts.
    async fn table(&self, name: &str) -> Result<Result<String, String>, Failure> {
        let tables = &self.shared.tables;
        match (tables.describe(name).await, tables.creation) {
            (Ok(_), _) => {}
            (Err(Failure { cause: Cause::NoTable, .. }), Some(_)) => return self.creatable(name).await,
            (Err(failure), _) => return Err(failure),
        }
        Ok(Ok(match tables.forgets_inserts(name).await {
            Some(false) => "recognises repeated inserts".to_owned(),
            Some(true) => format!("stores repeated inserts twice; set {WINDOW} = 1000"),
            None => String::new(),
        }))
    }

    /// Whether the user may create a table. Servers before 24.9 lack CHECK GRANT; they are taken to allow it.
    async fn creatable(&self, name: &str) -> Result<Result<String, String>, Failure> {
        let server = &self.shared.tables.server;
        let of = server.database().map_or_else(String::new, |database| format!("{database}."));
        let granted = server.query(&format!("CHECK GRANT CREATE TABLE ON {of}* FORMAT TabSeparated")).await;
        let denied = matches!(&granted, Ok(answer) if answer.trim_ascii() == b"0");
        Ok(match denied {
            true => Err(format!("{name} does not exist, and the user may not create it; grant CREATE TABLE")),
            false => Ok("will be created".to_owned()),
        })
    }
}
