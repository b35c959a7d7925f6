//! OTLP's exponential histogram of nanoseconds, counted as `bpf/hist.h` does in the kernel.
//!
//! At scale `s`, bucket `i` holds the values in (2^(i/2^s), 2^((i+1)/2^s)]. The buckets range from
//! 128 ns to 2^36 ns (68.7 s). Values of at most 128 ns are counted apart, as OTLP's zero count;
//! those above the range are counted in the last bucket. A percentile is the middle of its bucket,
//! which at scale 5 is 2.2 % wide: it is within 1.1 % of the exact value.

use std::collections::BTreeMap;

use libm::exp2; // the standard library's would need libm.so at run time

/// Values of at most 2 to this power nanoseconds count as zero.
const MIN_EXPONENT: u32 = 7;
/// The last bucket ends at 2 to this power.
const MAX_EXPONENT: u32 = 36;

/// The scale of [`index`].
pub const FINE: u32 = 5;

/// The number of counters at a scale: one for zero, and the buckets.
pub const fn buckets(scale: u32) -> usize {
    (((MAX_EXPONENT - MIN_EXPONENT) as usize) << scale) + 1
}

/// The scale at which there are that many counters.
pub const fn scale(buckets: usize) -> u32 {
    ((buckets - 1) / (MAX_EXPONENT - MIN_EXPONENT) as usize).ilog2()
}

/// The lookup table of [`index`]: `hist_cells` of `bpf/hist.h`.
pub static CELLS: [u64; 64] = cells();

/// Cell `c` is a sixty-fourth of the octave from 2^36 and begins at (64 + c) · 2^30. The low five
/// bits count the bucket boundaries up to its start; the bits above them are the next boundary.
const fn cells() -> [u64; 64] {
    let mut cells = [0; 64];
    let mut below = 0;
    let mut cell = 0;
    while cell < 64 {
        while below < 31 && boundary(below + 1) <= (64 + cell as u64) << 30 {
            below += 1;
        }
        cells[cell] = boundary(below + 1) << 5 | below as u64;
        cell += 1;
    }
    cells
}

/// 2^(36 + j/32), rounded down, for `j` up to 32.
const fn boundary(j: u32) -> u64 {
    if j == 32 {
        return 1 << (MAX_EXPONENT + 1);
    }
    // 2^(j/32) is the product of those of 2^(1/2), 2^(1/4) … 2^(1/32) that the binary digits of j
    // select. All are fixed-point numbers with 62 fractional bits.
    let mut root: u128 = 2 << 62;
    let mut product: u128 = 1 << 62;
    let mut bit = 16;
    while bit > 0 {
        root = (root << 62).isqrt();
        if j & bit != 0 {
            product = (product * root) >> 62;
        }
        bit >>= 1;
    }
    (product >> (62 - MAX_EXPONENT)) as u64
}

/// The counter for `ns` at scale [`FINE`]: 0 for zero, else one more than the bucket.
pub const fn index(ns: u64) -> usize {
    if ns <= 1 << MIN_EXPONENT {
        return 0;
    }
    if ns > 1 << MAX_EXPONENT {
        return buckets(FINE) - 1;
    }
    let exponent = (ns - 1).ilog2();
    let mantissa = (ns << (MAX_EXPONENT - exponent)) - 1;
    let cell = CELLS[(mantissa >> 30) as usize & 63];
    let within = (cell & 31) as usize + (mantissa >= cell >> 5) as usize;
    (((exponent - MIN_EXPONENT) as usize) << FINE) + 1 + within
}

/// The counter at a coarser scale of what [`index`] gives.
const fn coarsen(index: usize, scale: u32) -> usize {
    let by = FINE - scale;
    (index + (1 << by) - 1) >> by
}

/// A distribution of nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    scale: u32,
    /// Zero first, then the buckets.
    counts: Vec<u64>,
}

impl Histogram {
    /// An empty histogram, at a scale of at most [`FINE`].
    pub fn new(scale: u32) -> Self {
        Self { scale, counts: vec![0; buckets(scale)] }
    }

    /// OTLP's scale.
    pub fn scale(&self) -> u32 {
        self.scale
    }

    /// Counts one value.
    pub fn record(&mut self, ns: u64) {
        self.counts[coarsen(index(ns), self.scale)] += 1;
    }

    /// Adds the counts of another histogram.
    ///
    /// # Panics
    /// If the scales differ.
    pub fn merge(&mut self, other: &Self) {
        assert_eq!(self.scale, other.scale, "histograms of different scales");
        for (mine, theirs) in self.counts.iter_mut().zip(&other.counts) {
            *mine += theirs;
        }
    }

    /// How many values were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How many of them were at most 128 ns: OTLP's zero count.
    pub fn zero_count(&self) -> u64 {
        self.counts[0]
    }

    /// Percentiles by nearest rank, in nanoseconds; `thousandths` ascend. Each is the middle of its
    /// bucket, or 0 for values that count as zero, and at most `max`, the exact maximum.
    pub fn percentiles<const N: usize>(&self, thousandths: [u64; N], max: u64) -> [u64; N] {
        let total = self.count();
        let mut seen = 0;
        let mut filled = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        let mut at = 0;
        thousandths.map(|part| {
            let rank = (total * part).div_ceil(1000).max(1);
            while seen < rank
                && let Some((counter, count)) = filled.next()
            {
                seen += count;
                at = counter;
            }
            at.checked_sub(1).map_or(0, |bucket| self.bound(bucket as f64 + 0.5).round() as u64).min(max)
        })
    }

    /// 2^(bucket/2^scale): where a bucket begins, or, halfway to the next, its geometric middle.
    fn bound(&self, bucket: f64) -> f64 {
        exp2(bucket / f64::from(1 << self.scale) + f64::from(MIN_EXPONENT))
    }

    /// The lower bound of the highest bucket in use, 0 if there is none: no maximum is below it.
    pub fn floor_of_max(&self) -> u64 {
        let highest = self.counts.iter().rposition(|count| *count > 0).unwrap_or(0);
        highest.checked_sub(1).map_or(0, |bucket| self.bound(bucket as f64) as u64)
    }

    /// OTLP's bucket index, and the count, of each bucket in use.
    pub fn sparse(&self) -> BTreeMap<i32, u64> {
        let first = (MIN_EXPONENT << self.scale) as i32;
        let buckets = self.counts[1..].iter().zip(first..);
        buckets.filter(|(count, _)| **count > 0).map(|(count, index)| (index, *count)).collect()
    }
}

/// The counters of a histogram in a map when they were last read, summed over CPUs or shards. Programs only add to them,
/// and they wrap: an interval is the difference.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    sum_ns: u64,
    buckets: Vec<u32>,
}

impl Totals {
    /// Adds the counters of one CPU or shard.
    pub fn add(&mut self, sum_ns: u64, buckets: impl ExactSizeIterator<Item = u32>) {
        self.sum_ns = self.sum_ns.wrapping_add(sum_ns);
        self.buckets.resize(buckets.len(), 0);
        for (sum, count) in self.buckets.iter_mut().zip(buckets) {
            *sum = sum.wrapping_add(count);
        }
    }

    /// Keeps `now`, and returns the values counted since these totals were read, and their sum.
    pub fn advance(&mut self, now: Self) -> (Histogram, u64) {
        let mut histogram = Histogram::new(scale(now.buckets.len()));
        self.buckets.resize(now.buckets.len(), 0);
        for (count, (now, before)) in histogram.counts.iter_mut().zip(now.buckets.iter().zip(&self.buckets)) {
            *count = now.wrapping_sub(*before).into();
        }
        let sum_ns = now.sum_ns.wrapping_sub(self.sum_ns);
        *self = now;
        (histogram, sum_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The counter by OTLP's definition: 0 up to the zero threshold, else that of the bucket with
    /// the index ceil(log2(v) · 2^s) − 1.
    fn by_logarithm(ns: u64, scale: u32) -> usize {
        if ns <= 128 {
            return 0;
        }
        let last = f64::from((MAX_EXPONENT << scale) - 1);
        let otlp = ((ns as f64).log2() * f64::from(1 << scale)).ceil() - 1.0;
        (otlp.min(last) - f64::from(MIN_EXPONENT << scale)) as usize + 1
    }

    /// base^32 as little-endian words, to compare a number with a 32nd root exactly.
    fn to_the_32nd(base: u64) -> Vec<u64> {
        let mut product = vec![1u64];
        for _ in 0..32 {
            let mut carry = 0u128;
            for word in &mut product {
                carry += u128::from(*word) * u128::from(base);
                *word = carry as u64;
                carry >>= 64;
            }
            if carry > 0 {
                product.push(carry as u64);
            }
        }
        product
    }

    fn power_of_two(exponent: u32) -> Vec<u64> {
        let mut words = vec![0; exponent as usize / 64 + 1];
        words[exponent as usize / 64] = 1 << (exponent % 64);
        words
    }

    fn at_most(a: &[u64], b: &[u64]) -> bool {
        (a.len(), a.iter().rev().collect::<Vec<_>>()) <= (b.len(), b.iter().rev().collect())
    }

    #[test]
    fn boundaries_are_exact() {
        for j in 0..=32 {
            let power = power_of_two(32 * MAX_EXPONENT + j);
            assert!(at_most(&to_the_32nd(boundary(j)), &power), "boundary {j} is too high");
            assert!(!at_most(&to_the_32nd(boundary(j) + 1), &power), "boundary {j} is too low");
        }
    }

    #[test]
    fn a_cell_holds_one_boundary() {
        for (cell, start) in (64u64..128).map(|top| top << 30).enumerate() {
            let inside = (1..32).filter(|&j| boundary(j) > start && boundary(j) < start + (1 << 30)).count();
            assert!(inside <= 1, "cell {cell} holds {inside}");
        }
    }

    #[test]
    fn values_around_every_boundary() {
        let exact = |octave: u32, j: u32| boundary(j) >> (MAX_EXPONENT - octave);
        for octave in 0..=MAX_EXPONENT {
            for j in 0..32 {
                for ns in exact(octave, j).saturating_sub(1)..=exact(octave, j) + 1 {
                    assert_eq!(index(ns), by_logarithm(ns, 5), "{ns} ns at scale 5");
                    assert_eq!(coarsen(index(ns), 3), by_logarithm(ns, 3), "{ns} ns at scale 3");
                }
            }
        }
        assert_eq!((index(0), index(128), index(129)), (0, 0, 1));
        assert_eq!((index(1 << 36), index(u64::MAX)), (928, 928));
        assert_eq!((index(256), index(257)), (32, 33), "an upper bound is inclusive");
    }

    const PARTS: [u64; 5] = [500, 900, 950, 990, 999];

    proptest! {
        #[test]
        fn indices_are_those_of_logarithms(bits in 0u32..37, low in any::<u64>()) {
            let ns = 1u64 << bits | low & ((1 << bits) - 1);
            prop_assert_eq!(index(ns), by_logarithm(ns, 5));
            prop_assert_eq!(coarsen(index(ns), 3), by_logarithm(ns, 3));
        }

        #[test]
        fn percentiles_are_within_1_1_percent(
            mut values in proptest::collection::vec((0u32..36, any::<u64>()), 1..3000)
                .prop_map(|list| list.into_iter()
                    .map(|(bits, low)| 1u64 << bits | low & ((1 << bits) - 1)).collect::<Vec<_>>())
        ) {
            let mut histogram = Histogram::new(5);
            values.iter().for_each(|ns| histogram.record(*ns));
            values.sort_unstable();
            let found = histogram.percentiles(PARTS, values[values.len() - 1]);
            for (part, found) in PARTS.into_iter().zip(found) {
                let rank = (values.len() as u64 * part).div_ceil(1000).max(1);
                let exact = values[rank as usize - 1];
                if exact <= 128 {
                    prop_assert_eq!(found, 0, "{} of {}", part, exact);
                    continue;
                }
                let error = (found as f64 - exact as f64).abs();
                // Half a nanosecond for rounding.
                prop_assert!(error <= 0.011 * exact as f64 + 0.5, "{}: {} for {}", part, found, exact);
            }
            prop_assert!(histogram.floor_of_max() <= values[values.len() - 1]);
            let zeros = values.iter().filter(|ns| **ns <= 128).count() as u64;
            prop_assert_eq!(histogram.zero_count(), zeros);
            prop_assert_eq!(histogram.sparse().values().sum::<u64>(), values.len() as u64 - zeros);
        }

        #[test]
        fn merged_is_counted_together(a in proptest::collection::vec(0u64..1 << 37, 0..200),
                                      b in proptest::collection::vec(0u64..1 << 37, 0..200)) {
            let [mut first, mut second, mut both] = [0; 3].map(|_| Histogram::new(3));
            a.iter().for_each(|ns| { first.record(*ns); both.record(*ns) });
            b.iter().for_each(|ns| { second.record(*ns); both.record(*ns) });
            first.merge(&second);
            prop_assert_eq!(&first, &both);
            prop_assert_eq!(first.count(), (a.len() + b.len()) as u64);
            prop_assert_eq!(first.sparse().values().sum::<u64>() + first.zero_count(), first.count());
        }
    }

    #[test]
    fn sparse_buckets_have_otlp_indices() {
        let mut histogram = Histogram::new(5);
        for ns in [0, 3, 128, 129, 1024, 1025, 1 << 36, u64::MAX] {
            histogram.record(ns);
        }
        let expected = [(7 * 32, 1), (10 * 32 - 1, 1), (10 * 32, 1), (36 * 32 - 1, 2)];
        assert_eq!((histogram.zero_count(), histogram.sparse()), (3, BTreeMap::from(expected)));
        assert_eq!(histogram.percentiles([375, 500], u64::MAX), [0, 129]);
    }

    #[test]
    fn without_values_all_is_zero() {
        assert_eq!(Histogram::new(5).percentiles(PARTS, 0), [0; 5]);
        assert_eq!((Histogram::new(5).floor_of_max(), Histogram::new(5).zero_count()), (0, 0));
    }
}
