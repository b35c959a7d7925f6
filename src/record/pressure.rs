//! The `pressure` record: pressure stall information (PSI).

use super::prelude::*;

/// The body of a `pressure` record, from /proc/pressure (kernel `Documentation/accounting/psi.rst`).
///
/// `some` is time in which at least one task was stalled, `full` time in which all
/// tasks that were not idle were stalled. `full` is undefined for cpu and absent there;
/// irq has only `full`.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Pressure {
    /// The scarce resource: `cpu`, `memory`, `io`, `irq`.
    pub resource: &'static str,
    /// Boot.
    pub start_ts: Option<Timestamp>,
    /// Part of the time with at least one task stalled: mean over 10 seconds.
    pub some_avg10_ratio: Option<f64>,
    /// The same over 60 seconds.
    pub some_avg60_ratio: Option<f64>,
    /// The same over 300 seconds.
    pub some_avg300_ratio: Option<f64>,
    /// Seconds with at least one task stalled.
    pub some_s: Option<f64>,
    /// Part of the time with all tasks stalled: mean over 10 seconds.
    pub full_avg10_ratio: Option<f64>,
    /// The same over 60 seconds.
    pub full_avg60_ratio: Option<f64>,
    /// The same over 300 seconds.
    pub full_avg300_ratio: Option<f64>,
    /// Seconds with all tasks stalled.
    pub full_s: Option<f64>,
    /// Length of the interval of the ratios below, in seconds.
    pub interval_s: Option<f64>,
    /// Part of the interval with at least one task stalled.
    pub some_ratio: Option<f64>,
    /// Part of the interval with all tasks stalled.
    pub full_ratio: Option<f64>,
}

const STALLS: &str = "system.linux.psi.pressure";

const fn mean(field: &'static str, of: Pairs) -> Metric {
    Metric::gauge(field, STALLS, "1").with(of)
}

/// One per sample and resource. The metric names are those proposed for the semantic
/// conventions, which have none yet.
pub const PRESSURE: Kind = Kind::cumulative::<Pressure>(
    "pressure",
    "Time in which tasks were stalled for lack of CPU, memory or I/O (PSI)",
)
.about(&[("resource", "system.psi.resource")])
.metrics(&[
    mean("some_avg10_ratio", &[("system.psi.stall_type", "some"), ("system.psi.window", "10s")]),
    mean("some_avg60_ratio", &[("system.psi.stall_type", "some"), ("system.psi.window", "60s")]),
    mean("some_avg300_ratio", &[("system.psi.stall_type", "some"), ("system.psi.window", "300s")]),
    mean("full_avg10_ratio", &[("system.psi.stall_type", "full"), ("system.psi.window", "10s")]),
    mean("full_avg60_ratio", &[("system.psi.stall_type", "full"), ("system.psi.window", "60s")]),
    mean("full_avg300_ratio", &[("system.psi.stall_type", "full"), ("system.psi.window", "300s")]),
    Metric::counter("some_s", "system.linux.psi.total_time", "s")
        .with(&[("system.psi.stall_type", "some")])
        .prometheus("node_pressure_{resource}_waiting_seconds_total"),
    Metric::counter("full_s", "system.linux.psi.total_time", "s")
        .with(&[("system.psi.stall_type", "full")])
        .prometheus("node_pressure_{resource}_stalled_seconds_total"),
]);
