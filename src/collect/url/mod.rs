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
mod limits;

#[cfg(feature = "http")]
pub use collector::collector;
pub use limits::{KINDS, MAX_WAIT};

/// Stands in for the collector in a program built without HTTP.
///
/// # Errors
/// Always.
#[cfg(not(feature = "http"))]
pub fn collector(
    _: &[String],
    _: std::time::Duration,
    _: &crate::common::stop::Stop,
) -> anyhow::Result<Box<dyn super::Collector>> {
    anyhow::bail!("--url: this program was built without HTTP; build it with `cargo build --features http`")
}
