//! The fields that every record of an interval's latencies has.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use crate::common::time::Micros;

/// Sum, mean, percentiles and maximum; all but the sum are absent where nothing was counted.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Times {
    /// The sum of the times.
    pub sum_us: Micros,
    /// The mean.
    pub mean_us: Option<Micros>,
    /// The median.
    pub p50_us: Option<Micros>,
    /// The 90th percentile.
    pub p90_us: Option<Micros>,
    /// The 95th percentile.
    pub p95_us: Option<Micros>,
    /// The 99th percentile.
    pub p99_us: Option<Micros>,
    /// The 99.9th percentile.
    pub p999_us: Option<Micros>,
    /// The longest time, exact.
    pub max_us: Option<Micros>,
}

/// The distribution of the times: OTLP's exponential histogram of nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Distribution {
    /// OTLP's scale of the histogram: 2^scale buckets per power of two.
    pub scale: i32,
    /// How many took at most 128 ns. They are in no bucket, and 0 in the percentiles.
    pub zero_count: u64,
    /// OTLP's bucket index and the number of times in that bucket, in nanoseconds. The last bucket
    /// includes everything longer than 68.7 s.
    pub buckets: BTreeMap<i32, u64>,
}
