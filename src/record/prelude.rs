//! The names that every declaration of a kind uses.

pub use schemars::JsonSchema;
pub use serde::Serialize;
pub use serde_with::skip_serializing_none;

pub use super::table::{Kind, Level, Metric, Pairs, Severity};
pub use super::times::{Distribution, Times};
pub use super::values::{Hex, Rows};
pub use crate::common::time::{Micros, Timestamp};

/// The attributes of a process.
pub const PROCESS_ATTRIBUTES: Pairs = &[
    ("pid", "process.pid"),
    ("comm", "process.executable.name"),
    ("uid", "process.user.id"),
    ("container_id", "container.id"),
];

/// Levels of events by how many times the threshold they took.
pub const SLOW: &[(f64, Level)] = &[(0.0, Level::Info), (10.0, Level::Warn), (100.0, Level::Error)];
