//! Limits and defaults for endpoints, also needed without HTTP.

use std::time::Duration;

use crate::record::{Kind, METRIC, SNAPSHOT};

/// The kinds of records that endpoints give.
pub const KINDS: &[&Kind] = &[&METRIC, &SNAPSHOT];

/// The longest time limit for an answer, however long the interval is.
pub const MAX_WAIT: Duration = Duration::from_secs(10);
