//! Energy of processors → `power`, and with `--per-process` → `process_power`.
//!
//! Uses the first source that works: perf's `power` PMU, powercap, hwmon chips that count energy.

use std::collections::BTreeMap;
use std::io;

use anyhow::Result;

use super::dedup::{Accounting, History, Measured, account};
use super::energy_counter::{EnergyCounter, Moment};
use super::energy_sources::{EnergyChips, Powercap};
use super::perf::Perf;
use super::share::Share;
use super::zones::{EnergySource, Platform, Zone, path};
use crate::collect::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{Kind, POWER, PROCESS_POWER, Power, Reason};

/// Reads every zone of the best source.
pub struct RaplCollector {
    roots: Roots,
    source: Option<Box<dyn EnergySource>>,
    counters: BTreeMap<String, EnergyCounter>,
    history: History,
    share: Option<Share>,
    platform: Platform,
}

impl RaplCollector {
    /// Reads below these roots; `per_process` splits the packages' energy.
    pub fn new(roots: &Roots, per_process: bool, platform: Platform) -> Self {
        let share = per_process.then(|| Share::new(roots));
        let (counters, history) = (BTreeMap::new(), History::default());
        Self { roots: roots.clone(), source: None, counters, history, share, platform }
    }

    /// Chooses the first source with a readable zone; without any, powercap, whose errors explain most.
    fn choose(&self) -> Box<dyn EnergySource> {
        // perf always counts on this machine.
        if !self.roots.foreign
            && let Ok(perf) = Perf::open(&self.roots.sys)
        {
            return Box::new(perf);
        }
        let mut powercap = Powercap::new(&self.roots);
        let mut chips = EnergyChips::new(&self.roots.sys);
        let zones = powercap.zones().unwrap_or_default();
        let readable = zones.iter().any(|zone| powercap.read(zone).is_ok());
        if !readable && chips.zones().is_ok_and(|zones| !zones.is_empty()) {
            return Box::new(chips);
        }
        Box::new(powercap)
    }

    /// Reads every zone; reports each that cannot be read once.
    fn read(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<(Vec<Zone>, Vec<Measured>)> {
        let mut source = self.source.take().unwrap_or_else(|| self.choose());
        let zones = match source.zones() {
            Ok(zones) if zones.is_empty() => {
                let detail = "no energy zones; virtual machines and some processors have none";
                out.status(sample.ts, &source.folder(), Reason::Absent, detail)?;
                zones
            }
            Ok(zones) => zones,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.roots.foreign => {
                let detail = "no energy counters; virtual machines have none, on other machines load the module intel_rapl_msr";
                out.status(sample.ts, &source.folder(), Reason::Absent, detail)?;
                Vec::new()
            }
            Err(error) => {
                unreadable(out, sample.ts, &source.folder(), &error)?;
                if error.kind() != io::ErrorKind::NotFound {
                    // The zones are still there.
                    self.source = Some(source);
                    return Ok((Vec::new(), Vec::new()));
                }
                Vec::new()
            }
        };
        let from_open = source.counts_from_open();
        let mut before = std::mem::take(&mut self.counters);
        let mut found = Vec::new();
        for zone in &zones {
            let mut counter = before.remove(&zone.id);
            match source.read(zone) {
                Ok(raw) => {
                    let at = Moment::now();
                    let start = if from_open { Some(at.ts) } else { sample.boot };
                    let new = || EnergyCounter::new(raw, zone.range, zone.per_joule, start, at);
                    let reading = match &mut counter {
                        Some(counter) => counter.advance(raw, at),
                        None => counter.insert(new()).first(),
                    };
                    found.push(Measured { zone: zone.clone(), raw, reading, from_open });
                }
                // The next reading includes what it counts until then.
                Err(error) => unreadable(out, sample.ts, &source.counter(zone), &error)?,
            }
            self.counters.extend(counter.map(|counter| (zone.id.clone(), counter)));
        }
        for id in before.into_keys() {
            let detail = format!("the zone {id} disappeared; everything until its last reading was reported");
            out.status(sample.ts, &format!("{} {id}", source.folder()), Reason::Absent, &detail)?;
        }
        self.source = Some(source);
        Ok((zones, found))
    }
}

/// The joules that all packages have used since the previous sample, each counted once, and the seconds since then.
/// `None` also if a reading failed before, so that this one covers a longer time.
fn package_energy(
    found: &[Measured],
    accounts: &[Accounting],
    interval_s: Option<f64>,
) -> Option<(f64, f64)> {
    let package = |it: &&(&Measured, &Accounting)| it.0.zone.domain() == "package";
    let whole = |it: &&(&Measured, &Accounting)| {
        // A package that repeats another has that one as its parent.
        let repeats = it.1.parent.as_ref().and_then(|id| found.iter().find(|other| other.zone.id == *id));
        repeats.is_none_or(|other| other.zone.domain() != "package")
    };
    let all: Vec<_> = found.iter().zip(accounts).collect();
    let used: Vec<_> = all.iter().filter(package).filter(whole).collect();
    let longest = used.iter().filter_map(|it| it.0.reading.interval_s).fold(0.0, f64::max);
    if interval_s.is_some_and(|interval_s| longest > 1.5 * interval_s) {
        return None;
    }
    let sum: Option<f64> = used.iter().map(|it| it.0.reading.used_joules).sum();
    let reading = &used.first()?.0.reading;
    sum.zip(reading.interval_s.filter(|_| reading.suspended_s.is_none()))
}

impl Collector for RaplCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&POWER, &PROCESS_POWER]
    }

    fn method(&self) -> String {
        let source = self.source.as_ref();
        source.map_or_else(
            || "no energy counters".into(),
            |source| format!("{} ({})", source.name(), source.folder()),
        )
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let (zones, found) = self.read(sample, out)?;
        let accounts = account(&found, &mut self.history);
        let psys = |it: (&Measured, &Accounting)| it.0.zone.domain() == "psys" && it.1.counted;
        self.platform.set(found.iter().zip(&accounts).any(psys));
        let source = self.source.as_ref().map_or("", |source| source.name());
        for (it, account) in found.iter().zip(&accounts) {
            let parent = account.parent.as_ref().and_then(|id| zones.iter().find(|zone| zone.id == *id));
            let reading = &it.reading;
            let record = Power {
                start_ts: reading.start_ts,
                domain: it.zone.domain(),
                zone: Some(path(&zones, &it.zone)),
                parent: parent.map(|zone| path(&zones, zone)),
                source: source.into(),
                counted: account.counted,
                energy_joules: Some(reading.energy_joules),
                power_watts: reading.power_watts,
                interval_s: reading.interval_s,
                suspended_s: reading.suspended_s,
            };
            sample.emit(&record, out)?;
        }
        match &mut self.share {
            Some(share) => share.collect(package_energy(&found, &accounts, sample.interval_s()), sample, out),
            None => Ok(()),
        }
    }
}
