//! /sys/class/thermal → `temperature`; throttle counts of x86 processors → `thermal_pressure`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use anyhow::Result;

use super::hwmon::{is_temperature, report_impossible};
use super::sysfs::{number, numbered, scaled, word};
use crate::collect::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{Kind, Reason, TEMPERATURE, THERMAL_PRESSURE, Temperature, ThermalPressure};

/// Reads the thermal zones (kernel `Documentation/driver-api/thermal/sysfs-api.rst`) and how often processors were
/// throttled (`arch/x86/kernel/cpu/mce/therm_throt.c`).
pub struct ThermalCollector {
    zones: PathBuf,
    cpus: PathBuf,
}

impl ThermalCollector {
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        Self { zones: roots.sys.join("class/thermal"), cpus: roots.sys.join("devices/system/cpu") }
    }

    fn temperatures(&self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let folder_name = self.zones.to_string_lossy();
        let zones = match numbered(&self.zones, "thermal_zone") {
            Ok(zones) => zones,
            Err(error) => return unreadable(out, sample.ts, &folder_name, &error),
        };
        if zones.is_empty() {
            return out.status(sample.ts, &folder_name, Reason::Absent, "no thermal zones");
        }
        for (zone, folder) in zones {
            let path = folder.join("temp");
            match scaled(&path, 1e3) {
                Ok(value) if !is_temperature(value) => report_impossible(&path, value, sample, out)?,
                Ok(value) => {
                    let label = word(folder.join("type"));
                    let record = Temperature {
                        sensor_id: format!("thermal_zone{zone}"),
                        component: component(label.as_deref().unwrap_or_default()),
                        label,
                        source: "thermal".into(),
                        temperature_celsius: value,
                        ..Temperature::default()
                    };
                    out.emit(sample.ts, &record)?;
                }
                Err(error) => unreadable(out, sample.ts, &path.to_string_lossy(), &error)?,
            }
        }
        Ok(())
    }

    /// Writes a record per package. A core's threads share its count, which is added once.
    fn throttled(&self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let mut packages: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut cores = BTreeSet::new();
        for (cpu, folder) in numbered(&self.cpus, "cpu").unwrap_or_default() {
            let count = |file: &str| number(folder.join("thermal_throttle").join(file));
            let (Some(core), Some(package)) = (count("core_throttle_count"), count("package_throttle_count"))
            else {
                continue;
            };
            let id = |file: &str| number(folder.join("topology").join(file));
            let package_id = id("physical_package_id").unwrap_or(0);
            let sums = packages.entry(package_id).or_default();
            if cores.insert((package_id, id("core_id").unwrap_or_else(|| cpu.into()))) {
                sums.0 = sums.0.saturating_add(core);
            }
            sums.1 = sums.1.max(package);
        }
        for (package, (core_throttles, package_throttles)) in packages {
            let record = ThermalPressure {
                package: Some(format!("package-{package}")),
                start_ts: sample.boot,
                core_throttles: Some(core_throttles),
                package_throttles: Some(package_throttles),
                ..ThermalPressure::default()
            };
            out.emit(sample.ts, &record)?;
        }
        Ok(())
    }
}

fn component(kind: &str) -> &'static str {
    let kind = kind.to_ascii_lowercase();
    let has = |words: &[&str]| words.iter().any(|word| kind.contains(word));
    match () {
        () if has(&["pkg_temp", "cpu", "tcpu", "soc", "bcm2"]) => "cpu",
        () if has(&["gpu"]) => "gpu",
        () if has(&["iwlwifi", "wifi", "wlan"]) => "network",
        () if has(&["bat"]) => "battery",
        () => "other",
    }
}

impl Collector for ThermalCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&TEMPERATURE, &THERMAL_PRESSURE]
    }

    fn method(&self) -> String {
        format!("{}, and throttle counts in {}", self.zones.display(), self.cpus.display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if sample.wants(&TEMPERATURE) {
            self.temperatures(sample, out)?;
        }
        if sample.wants(&THERMAL_PRESSURE) { self.throttled(sample, out) } else { Ok(()) }
    }
}
