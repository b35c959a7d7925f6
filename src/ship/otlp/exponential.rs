//! Exponential histograms of latency records.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use super::points::TimeRange;
use crate::record::ZERO_THRESHOLD;
use crate::ship::line::{Fields, Value};
use crate::ship::otlp::wire;

/// The exponential histogram of a record, in nanoseconds.
pub struct Exponential<'v> {
    buckets: Cow<'v, [(i32, u64)]>,
    scale: i32,
    zero_count: Option<u64>,
    sum_us: Option<f64>,
    max_us: Option<f64>,
}

/// The most buckets from the first to the last. Latencies from 1 ns to 68 s span 36 powers of two,
/// which is 1152 buckets at scale 5.
const MAX_BUCKETS: i64 = 1 << 14;

/// The scales of the SDKs' histograms (OpenTelemetry's "Base2 Exponential Bucket Histogram Aggregation").
const SCALES: RangeInclusive<i32> = -10..=20;

impl<'v> Exponential<'v> {
    /// Takes buckets, of which there are 2^scale per power of two, and the sum and maximum in
    /// microseconds. `None` if nothing is counted, or the buckets are invalid.
    pub fn new(
        buckets: &'v Value<'_>,
        scale: i32,
        zero_count: Option<u64>,
        sum_us: Option<f64>,
        max_us: Option<f64>,
    ) -> Option<Self> {
        let buckets = match buckets {
            Value::Counts(counts) => Cow::Borrowed(counts.as_slice()),
            Value::Map(fields) => Cow::Owned(ascending(fields)?),
            _ => return None,
        };
        let len = match (buckets.first(), buckets.last()) {
            (Some((low, _)), Some((high, _))) => i64::from(*high) - i64::from(*low) + 1,
            _ if zero_count.is_some_and(|count| count > 0) => 0,
            _ => return None,
        };
        let valid = len <= MAX_BUCKETS && SCALES.contains(&scale);
        valid.then_some(Self { buckets, scale, zero_count, sum_us, max_us })
    }

    /// Appends the point. The attributes are already encoded, each as field 1.
    pub fn write(&self, out: &mut Vec<u8>, time: TimeRange, attributes: &[u8]) {
        // OTLP requires the count to equal the sum of the buckets. The record's own count was read
        // at another moment and may differ.
        let nanos = |micros: Option<f64>| micros.map(nanos).filter(|nanos| nanos.is_finite());
        let counts = self.buckets.iter().map(|(_, count)| *count).chain(self.zero_count);
        let count = counts.fold(0, u64::saturating_add);
        wire::message(out, 1, |out| {
            out.extend_from_slice(attributes);
            time.write(out);
            wire::fixed64(out, 4, count);
            if let Some(sum) = nanos(self.sum_us) {
                wire::double(out, 5, sum);
            }
            wire::sint(out, 6, self.scale);
            if let Some(count) = self.zero_count {
                wire::fixed64(out, 7, count);
            }
            if let Some(&(first, _)) = self.buckets.first() {
                wire::message(out, 8, |out| {
                    let mut next = first;
                    wire::sint(out, 1, next);
                    wire::message(out, 2, |out| {
                        for &(index, count) in &*self.buckets {
                            // Each empty bucket is one zero byte.
                            if index > next {
                                out.resize(out.len() + (index - next) as usize, 0);
                            }
                            wire::varint(out, count);
                            next = index.wrapping_add(1);
                        }
                    });
                });
            }
            if let Some(max) = nanos(self.max_us) {
                wire::double(out, 13, max);
            }
            if self.zero_count.is_some() {
                wire::double(out, 14, ZERO_THRESHOLD.into());
            }
        });
    }
}

/// Sorts buckets by index. Indices such as `1` and `01` are the same bucket.
fn ascending(fields: &Fields<'_>) -> Option<Vec<(i32, u64)>> {
    let bucket = |(index, count): &(Cow<'_, str>, Value<'_>)| Some((index.parse().ok()?, count.as_u64()?));
    let mut buckets: Vec<(i32, u64)> = fields.iter().map(bucket).collect::<Option<_>>()?;
    buckets.sort_unstable();
    let mut once: Vec<(i32, u64)> = Vec::with_capacity(buckets.len());
    for (index, count) in buckets {
        match once.last_mut() {
            Some((last, sum)) if *last == index => *sum = sum.checked_add(count)?,
            _ => once.push((index, count)),
        }
    }
    Some(once)
}

/// Converts microseconds with up to three decimals to nanoseconds.
fn nanos(micros: f64) -> f64 {
    (micros * 1000.0).round()
}
