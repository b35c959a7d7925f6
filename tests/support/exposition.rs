//! Converts the samples of a Prometheus exposition, parsed by the client library for Python, and `metric` records
//! into one form, so that tests can compare them; and starts a node exporter.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::support::{free_port, in_ci, poll, python, skip};

const ORACLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/prometheus_oracle.py");

/// The records of one kind.
pub fn of_kind<'a>(records: &'a [Value], kind: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == kind).collect()
}

/// Runs the oracle, a Python script with the Prometheus client library; `None` where the library is missing.
pub fn oracle(args: &[&str], input: &[u8]) -> Option<Vec<u8>> {
    let probe = python()?.args(["-c", "import prometheus_client"]).output().unwrap();
    if !probe.status.success() {
        assert!(!in_ci(), "TELEPIPE_PYTHON has no prometheus-client");
        skip("TELEPIPE_PYTHON has no prometheus-client");
        return None;
    }
    let mut child =
        python()?.arg(ORACLE).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success(), "the oracle failed");
    Some(output.stdout)
}

/// Values and descriptions by name, labels and bound; a sample can occur several times.
pub type Samples = BTreeMap<String, Vec<(f64, String)>>;

fn key(name: &str, labels: &BTreeMap<String, String>, bound: Option<f64>) -> String {
    format!("{name} {labels:?} {bound:?}")
}

/// The samples that the library parsed.
pub fn library_samples(lines: &[u8]) -> Samples {
    let mut samples = Samples::new();
    for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        let sample: Value = serde_json::from_slice(line).unwrap();
        let labels = serde_json::from_value(sample["labels"].clone()).unwrap();
        let bound = sample["bound"].as_str().map(|bound| bound.parse().unwrap());
        let value: f64 = sample["value"].as_str().unwrap().parse().unwrap();
        let metric_type = match sample["type"].as_str().unwrap() {
            known @ ("counter" | "histogram" | "summary") => known,
            _ => "gauge",
        };
        let about = format!("{metric_type}: {}", sample["help"].as_str().unwrap());
        let name = sample["name"].as_str().unwrap();
        samples.entry(key(name, &labels, bound)).or_default().push((value, about));
    }
    samples
}

/// The samples of `metric` records.
pub fn record_samples(records: &[Value], instance: &str) -> Samples {
    let mut samples = Samples::new();
    for record in of_kind(records, "metric") {
        let mut labels: BTreeMap<String, String> =
            serde_json::from_value(record["attributes"].clone()).unwrap();
        assert_eq!(labels.remove("instance").as_deref(), Some(instance));
        if let Some(own) = labels.remove("exported_instance") {
            labels.insert("instance".into(), own);
        }
        let (name, kind) = (record["name"].as_str().unwrap(), record["type"].as_str().unwrap());
        let about = format!("{kind}: {}", record["description"].as_str().unwrap_or(""));
        let mut add = |suffix: &str, bound: Option<f64>, value: f64| {
            let key = key(&format!("{name}{suffix}"), &labels, bound);
            samples.entry(key).or_default().push((value, about.clone()));
        };
        for (field, suffix) in [("value", ""), ("count", "_count"), ("sum", "_sum")] {
            if let Some(value) = record[field].as_f64() {
                add(suffix, None, value);
            }
        }
        let numbers = |field: &str| -> Vec<f64> {
            let list = record[field].as_array().into_iter().flatten();
            list.map(|number| number.as_f64().unwrap()).collect()
        };
        let mut upto = 0.0;
        let bounds = numbers("bounds").into_iter().chain([f64::INFINITY]);
        for (bound, count) in bounds.zip(numbers("bucket_counts")) {
            upto += count;
            add("_bucket", Some(bound), upto);
        }
        for (quantile, value) in numbers("quantiles").into_iter().zip(numbers("values")) {
            add("", Some(quantile), value);
        }
    }
    samples
}

/// Asserts the same keys, values and descriptions.
///
/// # Panics
/// With the differences.
pub fn assert_same(ours: &Samples, theirs: &Samples) {
    let missing: Vec<_> = theirs.iter().filter(|(key, value)| ours.get(*key) != Some(value)).collect();
    let more: Vec<_> = ours.iter().filter(|(key, value)| theirs.get(*key) != Some(value)).collect();
    assert!(missing.is_empty() && more.is_empty(), "not ours: {missing:#?}\nnot theirs: {more:#?}");
}

/// The body of the answer to a GET.
pub fn get(address: &str, path: &str) -> Vec<u8> {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let head = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n").unwrap();
    answer.split_off(head + 4)
}

/// A child process, killed when dropped.
pub struct Ended(pub Child);

impl Drop for Ended {
    fn drop(&mut self) {
        // Both fail only if the process has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts a node exporter on a free port; returns it with its address.
pub fn node_exporter() -> Option<(Ended, String)> {
    for name in ["prometheus-node-exporter", "node_exporter"] {
        let address = format!("127.0.0.1:{}", free_port());
        let mut command = Command::new(name);
        command.arg(format!("--web.listen-address={address}")).stdout(Stdio::null()).stderr(Stdio::null());
        let Ok(child) = command.spawn() else { continue };
        let child = Ended(child);
        poll(Duration::from_secs(20), || TcpStream::connect(&address).ok()).expect("it listens");
        return Some((child, address));
    }
    assert!(!in_ci(), "prometheus-node-exporter is not installed");
    skip("prometheus-node-exporter is not installed");
    None
}
