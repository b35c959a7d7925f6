//! Fetches HTTP endpoints into `metric` records (Prometheus and OpenMetrics text) and
//! `snapshot` records (JSON).
//!
//! All endpoints are requested in parallel. A failing endpoint becomes one `status`
//! record, and another when it answers again. `host` stays the host that scrape runs
//! on; the attribute `instance`, or the field `url` of a snapshot, names the endpoint.

#[cfg(feature = "http")]
mod answer;
#[cfg(feature = "http")]
mod collector;
#[cfg(feature = "http")]
mod fetch;

use std::time::Duration;

use crate::record::{Kind, METRIC, SNAPSHOT};

#[cfg(feature = "http")]
pub use collector::collector;

/// The kinds of records that endpoints give.
pub const KINDS: &[&Kind] = &[&METRIC, &SNAPSHOT];

/// The longest time limit for an answer, however long the interval is.
pub const MAX_WAIT: Duration = Duration::from_secs(10);

/// Stands in for the collector in a program built without HTTP.
///
/// # Errors
/// Always.
#[cfg(not(feature = "http"))]
pub fn collector(
    _: &[String],
    _: Duration,
    _: &crate::common::stop::Stop,
) -> anyhow::Result<Box<dyn super::Collector>> {
    anyhow::bail!("--url: this program was built without HTTP; build it with `cargo build --features http`")
}
