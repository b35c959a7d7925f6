//! /sys/class/power_supply → `battery`, and `power` of a discharging battery
//! (kernel `Documentation/ABI/testing/sysfs-class-power`).

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::hwmon::is_temperature;
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
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        Self { folder: roots.sys.join("class/power_supply") }
    }
}

/// Reads the files of one supply.
fn read(device: &str, folder: &Path) -> Battery {
    let text = |file: &str| word(folder.join(file));
    // -1, and a 16-bit or 32-bit register with all bits set, mean that the driver does not know.
    let unknown = |raw: f64| [-1.0, 65_535.0, 2_147_483_647.0, 4_294_967_295.0].contains(&raw);
    let value = |file: &str, divisor: f64| {
        scaled(folder.join(file), 1.0).ok().filter(|&raw| !unknown(raw)).map(|raw| raw / divisor)
    };
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
        charge_ratio: value("capacity", 100.0).filter(|ratio| (0.0..=1.0).contains(ratio)).or_else(of_full),
        charge_ah: value("charge_now", 1e6),
        charge_full_ah: value("charge_full", 1e6),
        energy_joules: joules("energy_now"),
        energy_full_joules: joules("energy_full"),
        energy_design_joules: joules("energy_full_design"),
        // Some drivers report a discharge as negative. The status has the direction.
        power_watts: value("power_now", 1e6).map(f64::abs).or_else(product),
        voltage_volts: voltage,
        current_amperes: current,
        temperature_celsius: value("temp", 10.0).filter(|&celsius| is_temperature(celsius)),
        // Batteries that do not count report 0 or all bits set.
        cycles: number(folder.join("cycle_count")).filter(|&cycles| (1..65_535).contains(&cycles)),
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
        let folder_name = self.folder.to_string_lossy();
        let supplies = match folders(&self.folder, "") {
            Ok(supplies) => supplies,
            Err(error) => return unreadable(out, sample.ts, &folder_name, &error),
        };
        if supplies.is_empty() {
            return out.status(sample.ts, &folder_name, Reason::Absent, "no battery and no adapter");
        }
        for (device, folder) in supplies {
            if number(folder.join("present")) == Some(0) {
                continue;
            }
            let record = read(&device, &folder);
            sample.emit(&record, out)?;
            // A mouse's battery has the scope Device.
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

    #[test]
    fn sentinels_of_drivers_are_unknown() {
        let dir = tempfile::tempdir().unwrap();
        for (file, text) in [
            ("type", "Battery"),
            ("capacity", "255"),
            ("power_now", "-1"),
            ("energy_now", "65535"),
            ("energy_full", "4294967295"),
            ("voltage_now", "2147483647"),
            ("temp", "-2731"),
            ("cycle_count", "65535"),
        ] {
            std::fs::write(dir.path().join(file), format!("{text}\n")).unwrap();
        }
        let expected = Battery { device: "BAT0".into(), supply_type: "battery".into(), ..Battery::default() };
        assert_eq!(read("BAT0", dir.path()), expected);
    }
}
