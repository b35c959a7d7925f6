//! Writes the records of what `powermetrics` printed: which power contains which, energy over all samples, and times
//! finer than a second.

use std::collections::{BTreeMap, HashMap};

use anyhow::{Context as _, Result};

use super::sample::{DomainPower, Sample};
use super::{Parsed, Parser};
use crate::collect::micro;
use crate::common::diag::log;
use crate::common::emit::Emitter;
use crate::common::input::Input;
use crate::common::lines::{Block, Splitter};
use crate::common::time::Timestamp;
use crate::record::{MAX_LINE, Power, Reason};

/// Sections that are counted one by one; what is lost in more of them is counted together.
const MOST_SECTIONS: usize = 64;

/// Writes the records of an input.
pub struct Recording {
    parser: Parser,
    records: Records,
    verbose: bool,
    /// The number of samples that are still wanted.
    left: Option<u64>,
    /// Whether there was a sample.
    any: bool,
    /// Lines and keys that were not understood, by section.
    unknown: BTreeMap<Option<String>, u64>,
}

impl Recording {
    /// With or without records of tasks; the given number of samples, or all. `verbose` logs what is not understood.
    pub fn new(tasks: bool, verbose: bool, samples: Option<u64>) -> Self {
        let (parser, records) = (Parser::default(), Records::new(tasks));
        Self { parser, records, verbose, left: samples, any: false, unknown: BTreeMap::new() }
    }

    /// Writes the records of all of an input. False if there was something in it and none of it was understood.
    ///
    /// # Errors
    /// If the input cannot be read, or stdout fails.
    pub fn write(mut self, mut input: Input, out: &mut Emitter) -> Result<bool> {
        let mut lines = Splitter::new(MAX_LINE);
        while !self.done()
            && let Some(piece) = input.piece().context("cannot read the input")?
        {
            lines.feed_blocks(piece, |block| {
                let (Block::Lines(bytes) | Block::Part { bytes, .. }) = block;
                self.take(out, |parser, give| parser.lines(bytes, give))
            })?;
            if !input.ready() {
                out.flush()?;
            }
        }
        if let Some(rest) = lines.partial() {
            self.take(out, |parser, give| parser.rest(rest, give))?;
        }
        self.take(out, Parser::finish)?;
        for (section, count) in &self.unknown {
            out.lost(Timestamp::now(), section.as_deref().unwrap_or("powermetrics line"), *count)?;
        }
        Ok(self.any || self.unknown.is_empty())
    }

    fn done(&self) -> bool {
        self.left == Some(0)
    }

    /// Feeds a chunk to the parser and writes the records that it completes.
    fn take(
        &mut self,
        out: &mut Emitter,
        feed: impl FnOnce(&mut Parser, &mut dyn FnMut(Parsed)),
    ) -> Result<()> {
        if self.done() {
            return Ok(());
        }
        let mut outputs = Vec::new();
        feed(&mut self.parser, &mut |output| outputs.push(output));
        for output in outputs {
            match output {
                Parsed::Sample(mut sample) if !self.done() => {
                    self.any = true;
                    let written = self.records.write(&mut sample, out)?;
                    self.left = self.left.map(|left| left.saturating_sub(u64::from(written)));
                }
                Parsed::Sample(_) => {}
                Parsed::Unknown { section, what } => self.unknown(section, &what, out)?,
            }
        }
        Ok(())
    }

    /// Counts what was not understood. The first in each section is reported at once.
    fn unknown(&mut self, section: Option<String>, what: &str, out: &mut Emitter) -> Result<()> {
        if self.verbose {
            log(format_args!("not understood: {what}"));
        }
        let known = self.unknown.contains_key(&section);
        let section = section.map(|section| {
            if known || self.unknown.len() < MOST_SECTIONS { section } else { "other sections".into() }
        });
        if let Some(heading) = &section
            && !self.unknown.contains_key(&section)
        {
            let detail = "not all of this section of powermetrics is understood; -v shows the lines";
            out.status(Timestamp::now(), heading, Reason::Invalid, detail)?;
        }
        *self.unknown.entry(section).or_default() += 1;
        Ok(())
    }
}

/// Samples whose times differ by more than this from the sum of their lengths do not follow each other. Times are in
/// whole seconds.
const APART_NS: i64 = 2_000_000_000;

/// Writes the records of the samples of one stream.
#[derive(Default)]
pub(super) struct Records {
    tasks: bool,
    start: Option<Timestamp>,
    /// The end of the sample before, and by how much later its own time was.
    end: Option<Timestamp>,
    apart_ns: i64,
    energy: HashMap<(String, Option<String>), f64>,
    seen: bool,
}

impl Records {
    /// With or without records of tasks.
    pub fn new(tasks: bool) -> Self {
        Self { tasks, ..Self::default() }
    }

    /// Writes the records of a sample; false for a summary of samples that were written one by one.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn write(&mut self, sample: &mut Sample, out: &mut Emitter) -> Result<bool> {
        if sample.summary && self.seen {
            return Ok(false);
        }
        self.seen |= !sample.summary;
        let length = sample.elapsed_s.map(|seconds| (seconds * 1e9).round() as u64);
        let ts = self.time(sample.ts, length);
        self.start = self.start.or_else(|| Some(Timestamp(ts.0.checked_sub(length?)?)));
        for power in self.powers(sample) {
            out.emit(ts, &power)?;
        }
        for cpu in &mut sample.cpus {
            cpu.interval_s = sample.elapsed_s;
            out.emit(ts, cpu)?;
        }
        for gpu in &mut sample.gpus {
            gpu.interval_s = sample.elapsed_s;
            out.emit(ts, gpu)?;
        }
        sample.temperatures.iter().try_for_each(|record| out.emit(ts, record))?;
        sample.fans.iter().try_for_each(|record| out.emit(ts, record))?;
        sample.pressure.iter().try_for_each(|record| out.emit(ts, record))?;
        sample.battery.iter().try_for_each(|record| out.emit(ts, record))?;
        if self.tasks {
            sample.tasks.iter().try_for_each(|record| out.emit(ts, record))?;
        }
        Ok(true)
    }

    /// The end of a sample: the end of the one before plus its length, which is finer than its own time. If the two
    /// differ (joined recordings, a machine that slept), energy begins anew. Clocks that drift apart slowly are
    /// brought together over several samples.
    fn time(&mut self, own: Option<Timestamp>, length: Option<u64>) -> Timestamp {
        let length = length.and_then(|length| i64::try_from(length).ok());
        let sum = self.end.zip(length).and_then(|(end, length)| end.0.checked_add_signed(length));
        let ts = match (own, sum) {
            (Some(own), Some(sum)) => {
                let apart = i64::try_from(i128::from(own.0) - i128::from(sum)).unwrap_or(i64::MAX);
                if apart.saturating_sub(self.apart_ns).saturating_abs() >= APART_NS {
                    self.start = None;
                    self.energy.clear();
                    self.apart_ns = 0;
                    own
                } else {
                    let most = length.unwrap_or(0) / 2;
                    let moved = if apart.abs() < APART_NS { 0 } else { apart.clamp(-most, most) };
                    self.apart_ns = apart - moved;
                    Timestamp(sum.saturating_add_signed(moved))
                }
            }
            (Some(own), None) => own,
            (None, Some(sum)) => Timestamp(sum),
            (None, None) => return Timestamp::now(),
        };
        self.end = Some(ts);
        ts
    }

    /// The powers of a sample, with the energy since the first one.
    pub fn powers(&mut self, sample: &Sample) -> Vec<Power> {
        let has = |domain: &str| sample.powers.iter().any(|power| power.domain == domain);
        let (package, combined) = (has("package"), has("combined"));
        let parent = |power: &DomainPower| match power.domain.as_str() {
            "cluster" => Some("cpu"),
            "package" => None,
            "dram" if sample.memory_apart => None,
            _ if package => Some("package"),
            "cpu" | "gpu" | "ane" if combined => Some("combined"),
            _ => None,
        };
        let records = sample.powers.iter().map(|power| {
            let DomainPower { domain, zone, watts } = power.clone();
            let energy = sample.elapsed_s.map(|seconds| {
                let total = self.energy.entry((domain.clone(), zone.clone())).or_default();
                *total += watts * seconds;
                micro(*total)
            });
            let parent = parent(power).map(str::to_owned);
            Power {
                start_ts: self.start.filter(|_| energy.is_some()),
                counted: parent.is_none(),
                domain,
                zone,
                parent,
                source: "powermetrics".into(),
                energy_joules: energy,
                power_watts: Some(watts),
                interval_s: sample.elapsed_s,
                suspended_s: None,
            }
        });
        records.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// For two days and a half, with a wall clock that gains or loses a tenth of a second an hour.
    #[test]
    fn drifting_clocks_are_no_gap_in_time() {
        for wrong_ns in [27_000i64, -27_000] {
            let mut records = Records::default();
            let begin = 1_800_000_000_000_000_000u64;
            let powers = vec![DomainPower { domain: "cpu".into(), zone: None, watts: 2.0 }];
            let sample = Sample { elapsed_s: Some(1.0), powers, ..Sample::default() };
            let (mut before, mut energy) = (Timestamp(0), None);
            let count = 216_000u64;
            for at in 1..=count {
                let wall = begin.saturating_add_signed(at as i64 * (1_000_000_000 + wrong_ns));
                let own = Timestamp(wall - wall % 1_000_000_000);
                let ts = records.time(Some(own), Some(1_000_000_000));
                assert!(ts.0.abs_diff(wall) <= 3_000_000_000 && ts > before, "{at}: {ts:?}, not {wall}");
                (before, energy) = (ts, records.powers(&sample)[0].energy_joules);
            }
            assert_eq!(energy, Some(2.0 * count as f64));
        }
        // A jump of as much is one.
        let mut records = Records::default();
        records.energy.insert(("cpu".into(), None), 5.0);
        for (seconds, left) in [(100, 1), (101, 1), (104, 0)] {
            records.time(Some(Timestamp(seconds * 1_000_000_000)), Some(1_000_000_000));
            assert_eq!(records.energy.len(), left, "{seconds}");
        }
    }
}
