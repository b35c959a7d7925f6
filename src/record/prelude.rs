//! The names that every declaration of a kind uses.

pub use schemars::JsonSchema;
pub use serde::Serialize;
pub use serde_with::skip_serializing_none;

pub use super::table::{Kind, Level, Metric, Pairs, Severity, Temporality};
pub use super::times::{Distribution, Times};
pub use super::values::{Hex, Rows};
pub use crate::common::time::{Micros, Timestamp};
