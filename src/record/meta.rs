//! Records about the measurement itself: sources that cannot be read, and records that were lost.

use super::prelude::*;

/// Whether a source can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The privilege to read it is missing.
    Denied,
    /// It does not exist on this machine.
    Absent,
    /// It exists, but this program cannot use it.
    Unsupported,
    /// Its contents could not be parsed.
    Invalid,
    /// It is being measured, by `method`.
    Active,
}

/// The body of a `status` record.
#[serde_with::skip_serializing_none]
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Status {
    /// The source: a path, a kernel interface or a program.
    pub source: String,
    /// Why it cannot be read, or `active` if it is being measured.
    pub reason: Reason,
    /// How an active source is measured, such as `tp_btf`, `raw_tp`, `perf_event` or `energy_uj`.
    pub method: Option<String>,
    /// What to do about it, or more on how it is measured.
    pub detail: String,
}

/// Written once per source and run.
pub const STATUS: Kind = Kind::log::<Status>(
    "status",
    "A source that cannot be read, and why; or how it is being measured",
    Severity::Is(Level::Info),
);

/// The body of a `lost` record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Lost {
    /// What lost records: a ring buffer, a map, the line limit.
    pub source: String,
    /// Number of records lost since the previous `lost` record of this source.
    pub count: u64,
}

/// Written when something was dropped.
pub const LOST: Kind =
    Kind::delta::<Lost>("lost", "The number of records lost since the previous one of this source")
        .about(&[("source", "telepipe.source")])
        .metrics(&[Metric::counter("count", "telepipe.lost", "{record}")]);
