//! What a program says about itself: a source that could not be read, and what was lost.

use schemars::JsonSchema;
use serde::Serialize;

use super::{Kind, Level, Metric, Record, Severity, Temporality};

/// Why a source gives nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The privilege to read it is missing.
    Denied,
    /// It does not exist here.
    Absent,
    /// It exists but cannot be measured this way.
    Unsupported,
    /// What it holds could not be understood.
    Invalid,
    /// It works; `method` is how it is measured.
    Active,
}

/// The body of a `status` record.
#[serde_with::skip_serializing_none]
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Status {
    /// What was to be read: a path, a kernel interface, a program.
    pub source: String,
    /// Why it gives nothing, or `active` if it is being measured.
    pub reason: Reason,
    /// How an active source is measured, such as `tp_btf`, `raw_tp`, `perf_event` or `energy_uj`.
    pub method: Option<String>,
    /// What a person can do about it, or more about how it is measured.
    pub detail: String,
}

impl Record for Status {
    const KIND: &'static Kind = &STATUS;
}

/// Once per source and run.
pub const STATUS: Kind = Kind::log::<Status>(
    "status",
    "A source that cannot be read, and why; or how it is being measured",
    Severity::Is(Level::Info),
);

/// The body of a `lost` record.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Lost {
    /// Where records were lost: a ring buffer, a map, the line limit.
    pub source: String,
    /// How many, since the last such record of this source.
    pub count: u64,
}

impl Record for Lost {
    const KIND: &'static Kind = &LOST;
}

/// Whenever something was dropped.
pub const LOST: Kind = Kind::metrics::<Lost>(
    "lost",
    "What was measured and dropped since the last such record",
    Temporality::Delta,
    &[Metric::counter("count", "telepipe.lost", "{record}")],
)
.about(&[("source", "telepipe.source")]);
