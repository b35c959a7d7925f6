//! Energy of processors → `power`, and with `--per-process` → `process_power`.
//!
//! From perf's `power` PMU; else from powercap; else from hwmon chips that count energy.

use std::collections::BTreeMap;
use std::io;

use anyhow::Result;

use super::Platform;
use super::energy_chips::EnergyChips;
use super::meter::{Meter, Moment, Reading};
use super::perf::Perf;
use super::places::{Counted, Known, Place, places};
use super::powercap::Powercap;
use super::share::Share;
use super::zone::{Zone, path};
use crate::collect::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{Kind, POWER, PROCESS_POWER, Power, Reason};

/// Where the counters of zones are.
pub trait Counters {
    /// The value of the field `source`.
    fn name(&self) -> &'static str;

    /// The folder of all of them.
    fn place(&self) -> String;

    /// The zones there are now.
    ///
    /// # Errors
    /// If they cannot be listed.
    fn zones(&mut self) -> io::Result<Vec<Zone>>;

    /// What `status` records call the counter of a zone.
    fn source(&self, zone: &Zone) -> String;

    /// The counter of a zone.
    ///
    /// # Errors
    /// What the system says.
    fn read(&mut self, zone: &Zone) -> io::Result<u64>;

    /// True if a counter was 0 when it was opened, and not at boot.
    fn counts_from_now(&self) -> bool {
        false
    }
}

/// Reads the best source there is.
pub struct RaplCollector {
    roots: Roots,
    source: Option<Box<dyn Counters>>,
    meters: BTreeMap<String, Meter>,
    known: Known,
    share: Option<Share>,
    platform: Platform,
}

/// A zone that could be read.
struct Read {
    zone: Zone,
    raw: u64,
    reading: Reading,
    from_now: bool,
}

impl Read {
    fn counted(&self) -> Counted<'_> {
        let Self { zone, raw, reading, from_now } = self;
        Counted { zone, raw: *raw, used: reading.used_joules, from_now: *from_now }
    }
}

impl RaplCollector {
    /// Of these trees; `per_process` splits the packages' energy.
    pub fn new(roots: &Roots, per_process: bool, platform: Platform) -> Self {
        let share = per_process.then(|| Share::new(roots));
        let (meters, known) = (BTreeMap::new(), Known::default());
        Self { roots: roots.clone(), source: None, meters, known, share, platform }
    }

    /// The first source that has a zone which can be read; if none has, the one that says best why.
    fn choose(&self) -> Box<dyn Counters> {
        // What perf counts is always of this machine.
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

    /// Reads every zone; says once of each that cannot be read.
    fn read(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<(Vec<Zone>, Vec<Read>)> {
        let mut source = self.source.take().unwrap_or_else(|| self.choose());
        let zones = match source.zones() {
            Ok(zones) if zones.is_empty() => {
                let detail = "no zone of energy here; virtual machines have none, and some processors";
                out.status(sample.ts, &source.place(), Reason::Absent, detail)?;
                zones
            }
            Ok(zones) => zones,
            Err(error) if error.kind() == io::ErrorKind::NotFound && !self.roots.foreign => {
                let detail =
                    "no counters of energy here; a virtual machine has none, elsewhere load intel_rapl_msr";
                out.status(sample.ts, &source.place(), Reason::Absent, detail)?;
                Vec::new()
            }
            Err(error) => {
                unreadable(out, sample.ts, &source.place(), &error)?;
                if error.kind() != io::ErrorKind::NotFound {
                    // The zones are there as before.
                    self.source = Some(source);
                    return Ok((Vec::new(), Vec::new()));
                }
                Vec::new()
            }
        };
        let from_now = source.counts_from_now();
        let mut before = std::mem::take(&mut self.meters);
        let mut found = Vec::new();
        for zone in &zones {
            let old = before.remove(&zone.id);
            match source.read(zone) {
                Ok(raw) => {
                    let at = Moment::now();
                    let (meter, reading) = self.meter(old, zone, raw, at, sample, from_now);
                    self.meters.insert(zone.id.clone(), meter);
                    found.push(Read { zone: zone.clone(), raw, reading, from_now });
                }
                Err(error) => {
                    unreadable(out, sample.ts, &source.source(zone), &error)?;
                    // What it counts meanwhile is in the next reading.
                    self.meters.extend(old.map(|old| (zone.id.clone(), old)));
                }
            }
        }
        for id in before.into_keys() {
            let detail = format!("the zone {id} went away; what it counted until then was told");
            out.status(sample.ts, &format!("{} {id}", source.place()), Reason::Absent, &detail)?;
        }
        self.source = Some(source);
        Ok((zones, found))
    }

    fn meter(
        &self,
        old: Option<Meter>,
        zone: &Zone,
        raw: u64,
        at: Moment,
        sample: &Sample<'_>,
        from_now: bool,
    ) -> (Meter, Reading) {
        if let Some(mut meter) = old {
            let reading = meter.advance(raw, at);
            return (meter, reading);
        }
        let start = if from_now { Some(at.ts) } else { sample.boot };
        let meter = Meter::new(raw, zone.range, zone.per_joule, start, at);
        let reading = meter.first();
        (meter, reading)
    }

    fn tell(
        &self,
        zones: &[Zone],
        found: &[Read],
        places: &[Place],
        sample: &Sample<'_>,
        out: &mut Emitter,
    ) -> Result<()> {
        let source = self.source.as_ref().map_or("", |source| source.name());
        for (it, place) in found.iter().zip(places) {
            let parent = place.parent.as_ref().and_then(|id| zones.iter().find(|zone| zone.id == *id));
            let reading = &it.reading;
            let record = Power {
                start_ts: reading.start_ts,
                domain: it.zone.domain(),
                zone: Some(path(zones, &it.zone)),
                parent: parent.map(|zone| path(zones, zone)),
                source: source.into(),
                counted: place.counted,
                energy_joules: Some(reading.energy_joules),
                power_watts: reading.power_watts,
                interval_s: reading.interval_s,
                suspended_s: reading.suspended_s,
            };
            out.emit(sample.ts, &record)?;
        }
        Ok(())
    }
}

/// What all packages have used since the sample before, each once, and in which time; `None` also where a reading
/// had failed, so that this one is of a longer time.
fn of_packages(found: &[Read], places: &[Place], interval_s: Option<f64>) -> Option<(f64, f64)> {
    let package = |it: &&(&Read, &Place)| it.0.zone.domain() == "package";
    let whole = |it: &&(&Read, &Place)| {
        // One that repeats another has that as its parent, without lying in it.
        let repeats = it.1.parent.as_ref().and_then(|id| found.iter().find(|other| other.zone.id == *id));
        repeats.is_none_or(|other| other.zone.domain() != "package")
    };
    let all: Vec<_> = found.iter().zip(places).collect();
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
        source.map_or_else(|| "nothing".into(), |source| format!("{} ({})", source.name(), source.place()))
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let (zones, found) = self.read(sample, out)?;
        let all: Vec<_> = found.iter().map(Read::counted).collect();
        let places = places(&all, &mut self.known);
        let psys = |it: (&Read, &Place)| it.0.zone.domain() == "psys" && it.1.counted;
        self.platform.set(found.iter().zip(&places).any(psys));
        if sample.wants(&POWER) {
            self.tell(&zones, &found, &places, sample, out)?;
        }
        match &mut self.share {
            Some(share) => share.collect(of_packages(&found, &places, sample.interval_s()), sample, out),
            None => Ok(()),
        }
    }
}
