//! Latency records as exponential histograms, bucket for bucket.

use super::Span;
use crate::ship::line::Fields;
use crate::ship::otlp::wire;

/// An exponential histogram of nanoseconds, as records have it.
pub struct Exponential<'f, 'a> {
    /// Bucket index to count.
    pub buckets: &'f Fields<'a>,
    /// 2^scale buckets per power of two.
    pub scale: i32,
    /// The sum, in microseconds.
    pub sum_us: Option<f64>,
    /// The largest value, in microseconds.
    pub max_us: Option<f64>,
}

/// More buckets than this between the first and the last are no latency
/// distribution: 68 s over 1 ns is 36 powers of two, 1152 buckets at scale 5.
const MAX_BUCKETS: i64 = 1 << 14;

impl Exponential<'_, '_> {
    /// The point, of the dense buckets that begin at `offset`; the attributes are complete fields 1.
    pub fn write(&self, out: &mut Vec<u8>, span: Span, attributes: &[u8], offset: i32, dense: &[u64]) {
        // OTLP wants the count to be the buckets' sum, which a record's own count,
        // read at another moment, need not be.
        let count = dense.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        wire::message(out, 1, |out| {
            out.extend_from_slice(attributes);
            span.write(out);
            wire::fixed64(out, 4, count);
            if let Some(sum) = self.sum_us {
                wire::double(out, 5, nanos(sum));
            }
            wire::sint(out, 6, self.scale);
            wire::message(out, 8, |out| {
                wire::sint(out, 1, offset);
                wire::message(out, 2, |out| dense.iter().for_each(|count| wire::varint(out, *count)));
            });
            if let Some(max) = self.max_us {
                wire::double(out, 13, nanos(max));
            }
        });
    }

    /// Fills `dense` with the counts from the lowest index, which it returns, to
    /// the highest. `None` if there are none, or they make no sense.
    pub fn dense(&self, dense: &mut Vec<u64>) -> Option<i32> {
        let index = |field: &str| field.parse::<i32>().ok();
        let mut bounds: Option<(i32, i32)> = None;
        for (field, _) in self.buckets {
            let at = index(field)?;
            bounds = Some(bounds.map_or((at, at), |(low, high)| (low.min(at), high.max(at))));
        }
        let (low, high) = bounds?;
        let len = i64::from(high) - i64::from(low) + 1;
        if len > MAX_BUCKETS {
            return None;
        }
        dense.clear();
        dense.resize(usize::try_from(len).ok()?, 0);
        for (field, count) in self.buckets {
            let slot = &mut dense[(index(field)? - low) as usize];
            *slot = slot.checked_add(count.as_u64()?)?;
        }
        Some(low)
    }
}

/// Microseconds of at most three decimals, back in nanoseconds.
fn nanos(micros: f64) -> f64 {
    (micros * 1000.0).round()
}
