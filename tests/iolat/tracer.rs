//! Runs `iolat`, and sums up its records by operation.

use std::ops::{Deref, DerefMut};

use assert_cmd::cargo::cargo_bin;
use serde_json::Value;

use crate::support::tracer::Tracer;

pub struct Iolat(Tracer);

impl Iolat {
    /// Starts it with an interval that does not end by itself, and waits until it has attached.
    pub fn start(args: &[&str]) -> Self {
        Self(Tracer::start(&cargo_bin("iolat"), args))
    }

    /// As [`Iolat::start`], with this interval.
    pub fn start_each(interval: &str, args: &[&str]) -> Self {
        Self(Tracer::start_each(interval, &cargo_bin("iolat"), args))
    }

    /// Ends it with SIGINT, as Ctrl-C does, and returns its records.
    pub fn finish(self) -> Vec<Value> {
        self.0.finish()
    }
}

impl Deref for Iolat {
    type Target = Tracer;

    fn deref(&self) -> &Tracer {
        &self.0
    }
}

impl DerefMut for Iolat {
    fn deref_mut(&mut self) -> &mut Tracer {
        &mut self.0
    }
}

/// The records of an operation.
pub fn of<'a>(records: &'a [Value], op: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["kind"] == "io" && record["op"] == op).collect()
}

/// A field summed over the records of an operation.
pub fn total(records: &[Value], op: &str, field: &str) -> u64 {
    of(records, op).iter().filter_map(|record| record[field].as_u64()).sum()
}

/// The number of lost events, over all sources.
pub fn lost(records: &[Value]) -> u64 {
    let lost = records.iter().filter(|record| record["kind"] == "lost");
    lost.map(|record| record["count"].as_u64().unwrap()).sum()
}
