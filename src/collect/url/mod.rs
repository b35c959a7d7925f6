//! HTTP endpoints → `metric` records (Prometheus and OpenMetrics text) and
//! `snapshot` records (JSON).
//!
//! All endpoints are asked at once. One that fails says so in one `status`
//! record, and in another when it answers again; the others go on. `host` stays
//! the host that asks, as in all records of a run; the attribute `instance`, or the field
//! `url` of a snapshot, is the endpoint.

#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod collector;
#[cfg(feature = "http")]
mod fetch;

use std::time::Duration;

use anyhow::Result;

use super::Collector;
use crate::common::stop::Stop;
use crate::record::{Kind, METRIC, Reason, SNAPSHOT};

/// The kinds that endpoints give.
pub const KINDS: &[&Kind] = &[&METRIC, &SNAPSHOT];

/// The longest wait for an answer, however long the interval is.
pub const MAX_WAIT: Duration = Duration::from_secs(10);

/// The collector of these URLs, each of which may take up to `wait` to answer.
///
/// # Errors
/// [`crate::common::program::Usage`] for what is no URL; what the system or the TLS library refuses.
#[cfg(feature = "http")]
pub fn collector(urls: &[String], wait: Duration, stop: &Stop) -> Result<Box<dyn Collector>> {
    Ok(Box::new(collector::UrlCollector::new(urls, wait, stop)?))
}

/// There is none in a program that was built without HTTP.
///
/// # Errors
/// Always.
#[cfg(not(feature = "http"))]
pub fn collector(_: &[String], _: Duration, _: &Stop) -> Result<Box<dyn Collector>> {
    anyhow::bail!("--url: this program was built without HTTP; build it with `cargo build --features http`")
}

/// An endpoint, as records name it.
pub struct Endpoint {
    /// The URL without user name and password.
    pub url: String,
    /// `host:port`, which Prometheus calls the instance.
    pub instance: String,
}

/// Why an endpoint gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// In a word.
    pub reason: Reason,
    /// What happened, and what a person can do about it.
    pub detail: String,
}

impl Failure {
    /// For that reason.
    pub fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}
