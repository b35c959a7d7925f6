//! What a value can be: beyond, it was garbled on its way, and is not told.

use std::ops::RangeInclusive;

use crate::collect::micro;

fn within(value: f64, range: RangeInclusive<f64>) -> Option<f64> {
    range.contains(&value).then_some(value)
}

/// A part of a whole; measured at two times, it may be a little more than all.
pub fn ratio(value: f64) -> Option<f64> {
    within(value, 0.0..=1.01).map(micro)
}

/// A frequency as a ratio of the nominal one.
pub fn nominal(value: f64) -> Option<f64> {
    within(value, 0.0..=10.0).map(micro)
}

/// Below 100 GHz.
pub fn hertz(value: f64) -> Option<u64> {
    within(value, 0.0..=1e11).map(|hertz| hertz.round() as u64)
}

/// Below 100 kW.
pub fn watts(value: f64) -> Option<f64> {
    within(value, 0.0..=1e5)
}

/// From absolute zero to where nothing is solid.
pub fn celsius(value: f64) -> Option<f64> {
    within(value, -273.15..=1000.0)
}

/// Turns a minute.
pub fn rpm(value: f64) -> Option<f64> {
    within(value, 0.0..=1e5)
}

/// How many; exact up to 2^53.
pub fn count(value: f64) -> Option<u64> {
    within(value, 0.0..=9_007_199_254_740_992.0).map(|count| count as u64)
}

/// Time on processors, in processors: thousands of them.
pub fn processors(value: f64) -> Option<f64> {
    within(value, 0.0..=1e4)
}

/// How many a second, or what is made of such counts.
pub fn per_second(value: f64) -> Option<f64> {
    within(value, 0.0..=1e9)
}

/// A level or limit of heat; those that are known are below 256.
pub fn level(value: f64) -> Option<f64> {
    within(value, 0.0..=1000.0)
}

/// Seconds; a record holds microseconds, of which there must be one.
pub fn length(seconds: f64) -> Option<f64> {
    within(micro(seconds), 1e-6..=1e9)
}
