//! Reads /proc/pressure into `pressure` records.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::collect::text::{decimal, lines, number, split_word, words};
use crate::collect::{Collector, Roots, Sample, Source, in_a_given_tree, micro, unreadable};
use crate::common::emit::Emitter;
use crate::record::{Kind, PRESSURE, Pressure, Reason};

/// Reads /proc/pressure/* (kernel `kernel/sched/psi.c`).
pub struct PressureCollector {
    folder: PathBuf,
    resources: [(&'static str, Source, Stalls); 4],
}

/// The stalls of one resource, in microseconds since boot.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Stalls {
    some: Option<u64>,
    full: Option<u64>,
}

impl PressureCollector {
    /// Reads below `roots`; opens nothing yet.
    pub fn new(roots: &Roots) -> Self {
        let folder = roots.proc.join("pressure");
        let resource = |name| (name, Source::new(folder.join(name)), Stalls::default());
        Self { resources: ["cpu", "memory", "io", "irq"].map(resource), folder }
    }
}

impl Collector for PressureCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&PRESSURE]
    }

    fn method(&self) -> String {
        self.folder.display().to_string()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        for (resource, source, stalls) in &mut self.resources {
            // A sample that failed leaves nothing to compare the next one with.
            let before = std::mem::take(stalls);
            let bytes = match source.read() {
                Ok(bytes) => bytes,
                // Kernels before 6.1, and those without CONFIG_IRQ_TIME_ACCOUNTING, have no irq.
                Err(_) if *resource == "irq" => continue,
                Err(error) => {
                    report(&self.folder, &error, sample, out)?;
                    continue;
                }
            };
            let Some((mut record, now)) = parse(resource, bytes) else {
                source.report_invalid(sample.ts, out, "the lines of pressure stall information")?;
                continue;
            };
            *stalls = now;
            if sample.wants(&PRESSURE) {
                record.start_ts = sample.boot;
                record.interval_s = sample.interval_s();
                record.some_ratio = part(now.some, before.some, sample);
                record.full_ratio = part(now.full, before.full, sample);
                out.emit(sample.ts, &record)?;
            }
        }
        Ok(())
    }
}

/// Reports one record for the whole directory, with a hint about the kernel's configuration.
fn report(folder: &Path, error: &io::Error, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
    let folder = folder.to_string_lossy();
    let reason = match error.kind() {
        // The hint is of no use for a recorded tree.
        _ if in_a_given_tree(&folder) => return unreadable(out, sample.ts, &folder, error),
        io::ErrorKind::NotFound => Reason::Absent,
        io::ErrorKind::Unsupported => Reason::Unsupported,
        _ => return unreadable(out, sample.ts, &folder, error),
    };
    let hint = "needs Linux 4.20 with CONFIG_PSI, and on some distributions psi=1 at boot";
    out.status(sample.ts, &folder, reason, &format!("{error}; {hint}"))
}

/// The part of the interval that was stalled; at most 1, although the two clocks are not
/// read at the same moment.
fn part(now: Option<u64>, before: Option<u64>, sample: &Sample<'_>) -> Option<f64> {
    let stalled = now?.checked_sub(before?)? as f64;
    let passed = sample.interval?.as_secs_f64() * 1e6;
    (passed > 0.0).then(|| micro((stalled / passed).min(1.0)))
}

/// Parses both lines, `some avg10=0.12 avg60=0.00 avg300=0.00 total=12345` and `full …`: means in percent, totals
/// in microseconds. `None` if neither has a total.
fn parse(resource: &'static str, bytes: &[u8]) -> Option<(Pressure, Stalls)> {
    let (mut record, mut stalls) = (Pressure { resource, ..Pressure::default() }, Stalls::default());
    for line in lines(bytes) {
        let (kind, rest) = split_word(line);
        // The kernel prints zeros for cpu here, as `full` is undefined for the whole system.
        if kind == b"full" && resource == "cpu" {
            continue;
        }
        for word in words(rest) {
            let Some(equals) = word.iter().position(|&byte| byte == b'=') else { continue };
            let value = &word[equals + 1..];
            match (kind, &word[..equals]) {
                (b"some", b"avg10") => record.some_avg10_ratio = percent(value),
                (b"some", b"avg60") => record.some_avg60_ratio = percent(value),
                (b"some", b"avg300") => record.some_avg300_ratio = percent(value),
                (b"some", b"total") => stalls.some = number(value),
                (b"full", b"avg10") => record.full_avg10_ratio = percent(value),
                (b"full", b"avg60") => record.full_avg60_ratio = percent(value),
                (b"full", b"avg300") => record.full_avg300_ratio = percent(value),
                (b"full", b"total") => stalls.full = number(value),
                _ => {}
            }
        }
    }
    [record.some_s, record.full_s] = [stalls.some, stalls.full].map(|us| us.map(|us| us as f64 / 1e6));
    (stalls != Stalls::default()).then_some((record, stalls))
}

fn percent(word: &[u8]) -> Option<f64> {
    decimal(word).map(|percent| micro(percent / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TEXT: &[u8] = b"some avg10=12.34 avg60=0.01 avg300=100.00 total=66729239\n\
        full avg10=0.50 avg60=0.00 avg300=0.00 total=7\n";

    #[test]
    fn percent_and_microseconds() {
        let (io, stalls) = parse("io", TEXT).unwrap();
        assert_eq!((io.some_avg10_ratio, io.some_avg60_ratio), (Some(0.1234), Some(0.0001)));
        assert_eq!((io.some_avg300_ratio, io.some_s), (Some(1.0), Some(66.729239)));
        assert_eq!((io.full_avg10_ratio, io.full_s), (Some(0.005), Some(0.000_007)));
        assert_eq!(stalls, Stalls { some: Some(66_729_239), full: Some(7) });
        let (cpu, stalls) = parse("cpu", TEXT).unwrap();
        assert_eq!((cpu.full_avg10_ratio, cpu.full_s, stalls.full), (None, None, None));
    }

    #[test]
    fn malformed_lines_are_absent() {
        for text in [&b""[..], b"some", b"some avg10=0.00", b"full total=x", b"total=5"] {
            assert!(parse("io", text).is_none(), "{text:?}");
        }
        let (io, _) = parse("io", b"some avg10=nan avg60 avg300=1e999 total=5 more=1").unwrap();
        assert_eq!((io.some_avg10_ratio, io.some_avg300_ratio), (None, None));
        assert_eq!((io.some_s, io.full_s), (Some(0.000_005), None));
    }

    proptest! {
        #[test]
        fn any_bytes_are_parsed(text in "((some|full) ?(avg10|total)?=?[0-9.]{0,21}\n?|.){0,6}") {
            parse("io", text.as_bytes());
        }
    }
}
