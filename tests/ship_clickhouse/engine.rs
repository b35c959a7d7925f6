//! ClickHouse's engine behind HTTP (`engine.py`), and a client that is not the one under test.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use crate::support::python;

/// A database of its own for a test. The engine behind it is shared, and ends with this process.
pub struct Engine {
    port: u16,
    /// The database's name.
    pub database: String,
}

impl Engine {
    /// A database that does not exist yet; `None`, and a message, without Python.
    pub fn start() -> Option<Self> {
        static PORT: OnceLock<Option<u16>> = OnceLock::new();
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let port = (*PORT.get_or_init(launch))?;
        Some(Self { port, database: format!("d{}", NUMBER.fetch_add(1, Ordering::Relaxed)) })
    }

    /// The server without the database.
    pub fn server(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The value of `--clickhouse`.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}/?database={}", self.port, self.database)
    }

    /// The rows of a query, in which `{db}` stands for the database.
    pub fn rows(&self, sql: &str) -> Vec<Value> {
        let answer = self.run(&format!("{sql} FORMAT JSONEachRow"));
        answer.lines().map(|line| serde_json::from_str(line).expect("a row")).collect()
    }

    /// The only value of a query.
    pub fn value(&self, sql: &str) -> String {
        self.run(sql).trim_end().to_owned()
    }

    /// Runs a statement.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, sql: &str) -> String {
        let sql = sql.replace("{db}", &self.database);
        let (status, answer) = request(self.port, "POST", "/", &[], &sql);
        assert_eq!(status, 200, "{sql}: {answer}");
        answer
    }

    /// Stores the next inserts without an answer.
    pub fn lose(&self, inserts: u32) {
        let path = format!("/lose?database={}&inserts={inserts}", self.database);
        assert_eq!(request(self.port, "GET", &path, &[], "").0, 200);
    }

    /// Lets this share of the inserts fail at random from now on. Gives how many had the token of an earlier one.
    pub fn fail(&self, percent: u32) -> u64 {
        let path = format!("/fail?database={}&percent={percent}", self.database);
        let (status, repeated) = request(self.port, "GET", &path, &[], "");
        assert_eq!(status, 200);
        repeated.parse().expect("a number")
    }
}

fn launch() -> Option<u16> {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/ship_clickhouse/engine.py");
    let mut python = python()?;
    let child = python.arg(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut child: Child = child.expect("Python starts");
    let mut port = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut port).expect("a port");
    // Not waited for: it ends when its stdin closes, which is when this process ends.
    std::mem::forget(child);
    Some(port.trim().parse().expect("a port: is chdb installed?"))
}

/// Sends a request and returns the status and the body.
pub fn request(port: u16, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a server");
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).expect("a request");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("an answer");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
        unchunked(body)
    } else {
        body.into()
    };
    (status, body)
}

fn unchunked(mut body: &str) -> String {
    let mut whole = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a chunk");
        whole += &rest[..size];
        body = rest.get(size + 2..).unwrap_or_default();
    }
    whole
}
