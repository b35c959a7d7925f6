//! /sys/class/power_supply → `battery`, and `power` of a battery that the machine runs on
//! (kernel `Documentation/ABI/testing/sysfs-class-power`).

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::sysfs::{folders, number, scaled, word};
use crate::collect::{Collector, Roots, Sample, micro, unreadable};
use crate::common::emit::Emitter;
use crate::record::{BATTERY, Battery, Kind, POWER, Power, Reason};

/// Joules in a microwatt-hour.
const MICROWATT_HOUR: f64 = 0.0036;

/// Reads every battery and adapter.
pub struct SupplyCollector {
    folder: PathBuf,
}

impl SupplyCollector {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        Self { folder: roots.sys.join("class/power_supply") }
    }
}

/// What the files of one supply say.
fn read(device: &str, folder: &Path) -> Battery {
    let text = |file: &str| word(folder.join(file));
    let value = |file: &str, divisor: f64| scaled(folder.join(file), divisor).ok();
    let joules = |file: &str| value(file, 1.0).map(|uwh| micro(uwh * MICROWATT_HOUR));
    let (voltage, current) = (value("voltage_now", 1e6), value("current_now", 1e6).map(f64::abs));
    let product = || Some(micro(voltage? * current?));
    let charge = value("charge_now", 1e6).zip(value("charge_full", 1e6));
    let energy = joules("energy_now").zip(joules("energy_full"));
    let of_full = || energy.or(charge).filter(|(_, full)| *full > 0.0).map(|(now, full)| micro(now / full));
    Battery {
        device: device.to_owned(),
        supply_type: text("type").unwrap_or_else(|| "unknown".into()).to_ascii_lowercase(),
        name: text("model_name"),
        status: text("status").map(|status| status.to_ascii_lowercase()).filter(|status| status != "unknown"),
        online: number(folder.join("online")).map(|online| online > 0),
        charge_ratio: value("capacity", 100.0).or_else(of_full),
        charge_ah: value("charge_now", 1e6),
        charge_full_ah: value("charge_full", 1e6),
        energy_joules: joules("energy_now"),
        energy_full_joules: joules("energy_full"),
        energy_design_joules: joules("energy_full_design"),
        // Some drivers give what flows out a sign; which way it flows, the status says.
        power_watts: value("power_now", 1e6).map(f64::abs).or_else(product),
        voltage_volts: voltage,
        current_amperes: current,
        temperature_celsius: value("temp", 10.0),
        // Those that do not count say 0.
        cycles: number(folder.join("cycle_count")).filter(|&cycles| cycles > 0),
        ..Battery::default()
    }
}

impl Collector for SupplyCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&BATTERY, &POWER]
    }

    fn method(&self) -> String {
        self.folder.display().to_string()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let place = self.folder.to_string_lossy();
        let supplies = match folders(&self.folder, "") {
            Ok(supplies) => supplies,
            Err(error) => return unreadable(out, sample.ts, &place, &error),
        };
        if supplies.is_empty() {
            return out.status(sample.ts, &place, Reason::Absent, "no battery and no adapter here");
        }
        for (device, folder) in supplies {
            if number(folder.join("present")) == Some(0) {
                continue;
            }
            let record = read(&device, &folder);
            if sample.wants(&BATTERY) {
                out.emit(sample.ts, &record)?;
            }
            // A mouse's battery is of scope Device.
            let of_machine = word(folder.join("scope")).is_none_or(|scope| scope != "Device");
            let feeds = record.supply_type == "battery" && record.status.as_deref() == Some("discharging");
            if of_machine && feeds && record.power_watts.is_some() && sample.wants(&POWER) {
                let power = Power {
                    domain: "battery".into(),
                    zone: Some(device),
                    source: "power_supply".into(),
                    power_watts: record.power_watts,
                    ..Power::default()
                };
                out.emit(sample.ts, &power)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charge_and_current_without_energy_and_power() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("type", "Battery"),
            ("status", "Not charging"),
            ("voltage_now", "12000000"),
            ("current_now", "-1500000"),
            ("charge_now", "2000000"),
            ("charge_full", "4000000"),
            ("temp", "305"),
            ("cycle_count", "0"),
        ] {
            std::fs::write(dir.path().join(file), format!("{text}\n")).unwrap();
        }
        let battery = read("BAT1", dir.path());
        assert_eq!((battery.power_watts, battery.current_amperes), (Some(18.0), Some(1.5)));
        assert_eq!((battery.charge_ratio, battery.charge_ah), (Some(0.5), Some(2.0)));
        assert_eq!((battery.temperature_celsius, battery.cycles), (Some(30.5), None));
        assert_eq!((battery.energy_joules, battery.status.as_deref()), (None, Some("not charging")));
    }
}
