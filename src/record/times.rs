//! How long what an interval counted took: the same figures in every record of latency.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use crate::common::time::Micros;

/// Sum, mean, percentiles and maximum; all but the sum are absent where nothing was counted.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Times {
    /// The sum of all their times.
    pub sum_us: Micros,
    /// The mean.
    pub mean_us: Option<Micros>,
    /// Half of them took at most this long.
    pub p50_us: Option<Micros>,
    /// 90 % of them took at most this long.
    pub p90_us: Option<Micros>,
    /// 95 % of them took at most this long.
    pub p95_us: Option<Micros>,
    /// 99 % of them took at most this long.
    pub p99_us: Option<Micros>,
    /// 99.9 % of them took at most this long.
    pub p999_us: Option<Micros>,
    /// The longest, exactly.
    pub max_us: Option<Micros>,
}
