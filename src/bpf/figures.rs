//! The figures of one distribution, as records give them.

use super::hist::Histogram;
use crate::clock::Micros;

const THOUSANDTHS: [u64; 5] = [500, 900, 950, 990, 999];

/// Sum, mean, percentiles and maximum; all but the sum are absent where nothing was counted.
pub struct Figures {
    /// The sum of all.
    pub sum: Micros,
    /// Its mean.
    pub mean: Option<Micros>,
    /// p50, p90, p95, p99, p99.9.
    pub percentiles: [Option<Micros>; 5],
    /// The longest.
    pub max: Option<Micros>,
}

impl Figures {
    /// Of what was counted, in nanoseconds. Where no longest is known, it is what the histogram says of it.
    pub fn of(histogram: &Histogram, sum_ns: u64, max_ns: u64) -> Self {
        let count = histogram.count();
        let max_ns = max_ns.max(histogram.floor_of_max());
        let known = |ns| (count > 0).then_some(Micros(ns));
        Self {
            sum: Micros(sum_ns),
            mean: sum_ns.checked_div(count).map(Micros),
            percentiles: histogram.percentiles(THOUSANDTHS, max_ns).map(known),
            max: known(max_ns),
        }
    }
}
