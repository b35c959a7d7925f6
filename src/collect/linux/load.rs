//! Reads /proc/loadavg into `load` records.

use procfs::{FromRead, LoadAverage};

use super::file::FileRecord;
use crate::record::Load;

impl FileRecord for Load {
    const FILE: &'static str = "loadavg";
    const EXPECTED: &'static str = "the five fields of loadavg";

    fn parse(bytes: &[u8]) -> Option<Self> {
        let load = LoadAverage::from_read(bytes).ok()?;
        Some(Self {
            load_1m: hundredths(load.one),
            load_5m: hundredths(load.five),
            load_15m: hundredths(load.fifteen),
            running_tasks: Some(load.cur.into()),
            total_tasks: Some(load.max.into()),
            last_pid: Some(load.latest_pid.into()),
        })
    }
}

/// The kernel prints two decimals; widening the `f32` would add digits.
fn hundredths(value: f32) -> f64 {
    (f64::from(value) * 100.0).round() / 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_fields_or_nothing() {
        let load = Load::parse(b"0.07 12.50 3.00 2/345 6789\n").unwrap();
        assert_eq!((load.load_1m, load.load_5m, load.load_15m), (0.07, 12.5, 3.0));
        assert_eq!((load.running_tasks, load.total_tasks, load.last_pid), (Some(2), Some(345), Some(6789)));
        for short in [&b""[..], b"0.07", b"0.07 12.50 3.00 2/345", b"a b c d/e f"] {
            assert!(Load::parse(short).is_none());
        }
    }
}
