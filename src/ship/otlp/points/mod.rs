//! Data points on the wire, each as field 1 of its metric's data.

mod exponential;
mod histogram;

pub use self::exponential::Exponential;
pub use self::histogram::{Histogram, Summary};

use super::wire;
use crate::ship::line::Value;

/// A number of a data point.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// `as_int`
    Int(i64),
    /// `as_double`
    Double(f64),
}

impl Number {
    /// The number that the value is, an integer if it is one and fits.
    pub fn new(value: &Value<'_>) -> Option<Self> {
        value.as_i64().map(Self::Int).or_else(|| value.as_f64().map(Self::Double))
    }

    /// The value times the factor, as a double. `None` if it is no number, or the product is none.
    pub fn scaled(value: &Value<'_>, factor: f64) -> Option<Self> {
        Some(value.as_f64()? * factor).filter(|value| value.is_finite()).map(Self::Double)
    }

    /// True if this is less.
    pub fn is_below(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int(this), Self::Int(other)) => this < other,
            (this, other) => this.as_f64() < other.as_f64(),
        }
    }

    /// The nearest double.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
        }
    }
}

/// When a point's value began, 0 if unknown or meaningless, and when it was measured.
#[derive(Clone, Copy)]
pub struct Span {
    /// `start_time_unix_nano`
    pub start: u64,
    /// `time_unix_nano`
    pub end: u64,
}

impl Span {
    fn len(self) -> usize {
        if self.start == 0 { 9 } else { 18 }
    }

    fn write(self, out: &mut Vec<u8>) {
        if self.start != 0 {
            wire::fixed64(out, 2, self.start);
        }
        wire::fixed64(out, 3, self.end);
    }
}

/// A `NumberDataPoint`; the attributes are complete fields 7.
pub fn number(out: &mut Vec<u8>, span: Span, value: Number, attributes: [&[u8]; 2]) {
    let len = span.len() + 9 + attributes[0].len() + attributes[1].len();
    out.reserve(len + 4);
    out.push(0x0a);
    wire::varint(out, len as u64);
    span.write(out);
    match value {
        Number::Int(value) => wire::fixed64(out, 6, value as u64),
        Number::Double(value) => wire::double(out, 4, value),
    }
    out.extend_from_slice(attributes[0]);
    out.extend_from_slice(attributes[1]);
}
