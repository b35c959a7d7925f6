//! /sys/class/powercap → `power`: the energy counters of RAPL (kernel `drivers/powercap/intel_rapl_common.c`).

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;

use super::counter::Counter;
use super::suspend::Suspend;
use super::sys;
use crate::clock::Timestamp;
use crate::collect::{Collector, Roots, Sample, micro, unreadable};
use crate::emit::Emitter;
use crate::record::{Kind, POWER, Power, Reason};

/// Two counters this near each other at the first look are one counter under two names, in µJ. Counters of two
/// packages are apart by what they used since boot.
const MIRROR_UJ: u64 = 1_000_000;

/// A zone, which is a folder `intel-rapl:0:1`.
struct Zone {
    energy: PathBuf,
    /// `package-0/dram`, `mmio/package-0`.
    zone: String,
    domain: &'static str,
    parent: Option<String>,
    counted: bool,
    counter: Counter,
    start: Option<Timestamp>,
}

/// Reads the energy of every zone.
pub struct RaplCollector {
    folder: PathBuf,
    zones: Vec<Zone>,
    suspend: Suspend,
    looked: bool,
    /// What all packages used since the sample before, in joules.
    packages: Option<f64>,
}

impl RaplCollector {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        let folder = roots.sys.join("class/powercap");
        let zones = zones(&folder);
        Self { folder, zones, suspend: Suspend::new(roots.foreign), looked: false, packages: None }
    }

    /// What the counted packages used since the sample before, in joules.
    pub fn packages_joules(&self) -> Option<f64> {
        self.packages
    }

    /// Marks zones that say what another says, by the first readings.
    fn mark_mirrors(&mut self, readings: &[Option<u64>]) {
        for later in 1..self.zones.len() {
            let mirrored = (0..later).any(|first| {
                let (Some(one), Some(other)) = (readings[first], readings[later]) else { return false };
                let both_packages = [first, later].iter().all(|zone| self.zones[*zone].domain == "package");
                both_packages && self.zones[first].counted && one > 0 && one.abs_diff(other) < MIRROR_UJ
            });
            if mirrored {
                self.zones[later].counted = false;
            }
        }
    }
}

impl Collector for RaplCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&POWER]
    }

    fn method(&self) -> String {
        format!("{}: {} zones", self.folder.display(), self.zones.len())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        self.packages = None;
        if self.zones.is_empty() {
            let detail = "no RAPL zones: a virtual machine, or the module intel_rapl_msr is not loaded";
            return out.status(sample.ts, &self.folder.to_string_lossy(), Reason::Absent, detail);
        }
        let suspended = self.suspend.since_last();
        let mut readings = Vec::new();
        for zone in &mut self.zones {
            match sys::count(&zone.energy) {
                Ok(now) => readings.push(Some(now)),
                Err(error) => {
                    zone.counter.forget();
                    unreadable(out, sample.ts, &zone.energy.to_string_lossy(), &error)?;
                    readings.push(None);
                }
            }
        }
        if !std::mem::replace(&mut self.looked, true) {
            self.mark_mirrors(&readings);
        }
        for (zone, reading) in self.zones.iter_mut().zip(readings) {
            let Some(now) = reading else { continue };
            let added = zone.counter.read(now);
            let start = *zone.start.get_or_insert(sample.ts);
            if let ("package", true, Some(added)) = (zone.domain, zone.counted, added) {
                *self.packages.get_or_insert_default() += added as f64 / 1e6;
            }
            if sample.wants(&POWER) {
                out.emit(sample.ts, &zone.record(start, added, sample.interval, suspended))?;
            }
        }
        Ok(())
    }
}

impl Zone {
    fn record(
        &self,
        start: Timestamp,
        added: Option<u64>,
        interval: Option<Duration>,
        suspended: Option<f64>,
    ) -> Power {
        let seconds = interval.map(|interval| interval.as_secs_f64()).filter(|seconds| *seconds > 0.0);
        let watts = added.zip(seconds).map(|(added, seconds)| micro(added as f64 / 1e6 / seconds));
        Power {
            start_ts: Some(start),
            domain: self.domain.into(),
            zone: Some(self.zone.clone()),
            parent: self.parent.clone(),
            source: "powercap".into(),
            counted: self.counted,
            energy_joules: Some(self.counter.total() as f64 / 1e6),
            power_watts: watts.filter(|_| suspended.is_none()),
            interval_s: added.and(seconds).map(micro),
            suspended_s: suspended,
        }
    }
}

/// The zones of a folder, parents before their parts.
fn zones(folder: &std::path::Path) -> Vec<Zone> {
    let mut found: Vec<(String, String, Zone)> = Vec::new();
    for (entry, path) in sys::entries(folder, "") {
        // `intel-rapl:0:1` is a part of `intel-rapl:0`; what has no number is the control type.
        let Some((parent, _)) = entry.rsplit_once(':') else { continue };
        let Some(name) = sys::word(&path.join("name")) else { continue };
        let energy = path.join("energy_uj");
        if !energy.exists() {
            continue;
        }
        let above = found.iter().find(|(known, ..)| known == parent).map(|(_, _, zone)| zone.zone.clone());
        let mmio = entry.contains("mmio");
        let zone = match (&above, mmio) {
            (Some(above), _) => format!("{above}/{name}"),
            (None, true) => format!("mmio/{name}"),
            (None, false) => name.clone(),
        };
        let domain = domain(&name);
        let range = sys::count(&path.join("max_energy_range_uj")).ok();
        let counted = matches!(domain, "package" | "dram");
        let counter = Counter::new(range);
        found.push((
            entry,
            name,
            Zone { energy, zone, domain, parent: above, counted, counter, start: None },
        ));
    }
    let msr: Vec<String> =
        found.iter().filter(|(entry, ..)| !entry.contains("mmio")).map(|it| it.1.clone()).collect();
    let psys = found.iter().find(|(.., zone)| zone.domain == "psys").map(|(.., zone)| zone.zone.clone());
    let zones = found.into_iter().map(|(entry, name, mut zone)| {
        // The same registers by another way.
        if entry.contains("mmio") && msr.contains(&name) {
            zone.counted = false;
        }
        if zone.domain == "package" {
            zone.parent = psys.clone();
        }
        zone
    });
    zones.collect()
}

/// What a zone of that name measures. The energy of memory is no part of its package's.
fn domain(name: &str) -> &'static str {
    match name {
        "core" => "cpu",
        "uncore" => "uncore",
        "dram" => "dram",
        "psys" => "psys",
        _ if name.starts_with("package") => "package",
        _ => "other",
    }
}
