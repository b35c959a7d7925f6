//! Data points in protobuf, each as field 1 of its metric's data.

use super::accessors::Number;
use super::wire;

/// The time of a data point.
#[derive(Clone, Copy)]
pub struct TimeRange {
    /// `start_time_unix_nano`; 0 if unknown or not applicable.
    pub start: u64,
    /// `time_unix_nano`
    pub end: u64,
}

impl TimeRange {
    fn len(self) -> usize {
        if self.start == 0 { 9 } else { 18 }
    }

    /// Appends fields 2 and 3, which all points have in common.
    pub fn write(self, out: &mut Vec<u8>) {
        if self.start != 0 {
            wire::fixed64(out, 2, self.start);
        }
        wire::fixed64(out, 3, self.end);
    }
}

/// Appends a `NumberDataPoint`. The attributes are encoded as fields 7.
#[inline]
pub fn number(out: &mut Vec<u8>, time: TimeRange, value: Number, attributes: [&[u8]; 2]) {
    let len = time.len() + 9 + attributes[0].len() + attributes[1].len();
    out.reserve(len + 4);
    out.push(0x0a);
    wire::varint(out, len as u64);
    time.write(out);
    match value {
        Number::Int(value) => wire::fixed64(out, 6, value as u64),
        Number::Double(value) => wire::double(out, 4, value),
    }
    out.extend_from_slice(attributes[0]);
    out.extend_from_slice(attributes[1]);
}
