//! A gRPC server that answers by a script: grpcio, by `grpc_server.py`.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::python;

/// A running server, which ends when dropped.
pub struct GrpcServer {
    child: Child,
    port: u16,
    requests: Arc<Mutex<Vec<Value>>>,
}

impl GrpcServer {
    /// Gives these answers in turn, then success; see `grpc_server.py` for answers and options. `None` without Python.
    ///
    /// # Panics
    /// If it does not start.
    pub fn start(options: &Value, answers: &[Value]) -> Option<Self> {
        let mut child = python()?
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/grpc_server.py"))
            .arg(options.to_string())
            .env("GRPC_VERBOSITY", "NONE") // failed handshakes are expected
            .args(answers.iter().map(Value::to_string))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python runs");
        let mut lines =
            BufReader::new(child.stdout.take().expect("its stdout")).lines().map_while(Result::ok);
        let port = lines.next().expect("its port").parse().expect("a port");
        let requests = Arc::new(Mutex::new(vec![]));
        let kept = requests.clone();
        std::thread::spawn(move || {
            lines.for_each(|line| kept.lock().unwrap().push(serde_json::from_str(&line).expect("a request")));
        });
        Some(Self { child, port, requests })
    }

    /// With these answers and no options.
    pub fn script(answers: &[Value]) -> Option<Self> {
        Self::start(&json!({}), answers)
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `grpc://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.address())
    }

    /// Every request that it took so far: `signal`, `metadata`, `left_s` and `message`.
    pub fn requests(&self) -> Vec<Value> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for GrpcServer {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
