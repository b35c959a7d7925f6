//! Reads /proc/loadavg into `load` records.

use anyhow::Result;
use procfs::{FromRead, LoadAverage};

use super::{Collector, Roots, Sample, Source};
use crate::common::emit::Emitter;
use crate::record::{Kind, LOAD, Load};

/// Reads /proc/loadavg (kernel `fs/proc/loadavg.c`).
pub struct LoadCollector(Source);

impl LoadCollector {
    /// Reads below `roots`; opens nothing yet.
    pub fn new(roots: &Roots) -> Self {
        Self(Source::new(roots.proc.join("loadavg")))
    }
}

impl Collector for LoadCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&LOAD]
    }

    fn method(&self) -> String {
        self.0.path().display().to_string()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Some(bytes) = self.0.read_or_report(sample.ts, out)? else { return Ok(()) };
        match parse(bytes) {
            Some(load) if sample.wants(&LOAD) => out.emit(sample.ts, &load),
            Some(_) => Ok(()),
            None => self.0.report_invalid(sample.ts, out, "the five fields of loadavg"),
        }
    }
}

fn parse(bytes: &[u8]) -> Option<Load> {
    let load = LoadAverage::from_read(bytes).ok()?;
    Some(Load {
        load_1m: hundredths(load.one),
        load_5m: hundredths(load.five),
        load_15m: hundredths(load.fifteen),
        running_tasks: Some(load.cur.into()),
        total_tasks: Some(load.max.into()),
        last_pid: Some(load.latest_pid.into()),
    })
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
        let load = parse(b"0.07 12.50 3.00 2/345 6789\n").unwrap();
        assert_eq!((load.load_1m, load.load_5m, load.load_15m), (0.07, 12.5, 3.0));
        assert_eq!((load.running_tasks, load.total_tasks, load.last_pid), (Some(2), Some(345), Some(6789)));
        for short in [&b""[..], b"0.07", b"0.07 12.50 3.00 2/345", b"a b c d/e f"] {
            assert!(parse(short).is_none());
        }
    }
}
