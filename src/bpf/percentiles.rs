//! From a histogram to the fields that latency records share.

use super::hist::Histogram;
use crate::common::time::Micros;
use crate::record::{Distribution, Times};

const THOUSANDTHS: [u64; 5] = [500, 900, 950, 990, 999];

/// Sum, mean, percentiles and maximum. A maximum below the highest bucket in use is raised to it.
pub fn times(histogram: &Histogram, sum_ns: u64, max_ns: u64) -> Times {
    let count = histogram.count();
    let max_ns = max_ns.max(histogram.floor_of_max());
    let known = |ns| (count > 0).then_some(Micros(ns));
    let [p50_us, p90_us, p95_us, p99_us, p999_us] = histogram.percentiles(THOUSANDTHS, max_ns).map(known);
    Times {
        sum_us: Micros(sum_ns),
        mean_us: sum_ns.checked_div(count).map(Micros),
        p50_us,
        p90_us,
        p95_us,
        p99_us,
        p999_us,
        max_us: known(max_ns),
    }
}

/// The histogram itself.
pub fn distribution(histogram: &Histogram) -> Distribution {
    Distribution {
        scale: histogram.scale() as i32,
        zero_count: histogram.zero_count(),
        buckets: histogram.sparse(),
    }
}
