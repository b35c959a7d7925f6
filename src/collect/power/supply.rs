//! /sys/class/power_supply → `battery` (kernel `Documentation/ABI/testing/sysfs-class-power`).

use std::path::{Path, PathBuf};

use anyhow::Result;

use super::sys;
use crate::collect::{Collector, Roots, Sample, micro};
use crate::emit::Emitter;
use crate::record::{BATTERY, Battery, Kind, Reason};

/// Reads every battery and adapter.
pub struct SupplyCollector(PathBuf);

impl SupplyCollector {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        Self(roots.sys.join("class/power_supply"))
    }
}

impl Collector for SupplyCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&BATTERY]
    }

    fn method(&self) -> String {
        self.0.display().to_string()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if !sample.wants(&BATTERY) {
            return Ok(());
        }
        let found = sys::entries(&self.0, "");
        if found.is_empty() {
            let detail = "neither battery nor adapter tells of itself";
            return out.status(sample.ts, &self.0.to_string_lossy(), Reason::Absent, detail);
        }
        found.iter().try_for_each(|(device, path)| out.emit(sample.ts, &supply(device, path)))
    }
}

/// Files are in µW, µWh, µAh, µV, µA, tenths of degrees and percent.
fn supply(device: &str, path: &Path) -> Battery {
    let number = |name: &str| sys::number(&path.join(name));
    let millionth = |name: &str| number(name).map(|value| micro(value / 1e6));
    let joules = |name: &str| number(name).map(|microwatt_hours| micro(microwatt_hours * 3600.0 / 1e6));
    let word = |name: &str| sys::word(&path.join(name));
    let (voltage, current) = (millionth("voltage_now"), millionth("current_now").map(f64::abs));
    let measured = millionth("power_now").map(f64::abs);
    Battery {
        device: device.to_owned(),
        supply_type: word("type").unwrap_or_else(|| "unknown".into()).to_ascii_lowercase(),
        name: word("model_name"),
        status: word("status").map(|status| status.to_ascii_lowercase()),
        online: number("online").map(|online| online > 0.0),
        charge_ratio: number("capacity").filter(|it| (0.0..=100.0).contains(it)).map(|it| micro(it / 100.0)),
        charge_ah: millionth("charge_now"),
        charge_full_ah: millionth("charge_full"),
        energy_joules: joules("energy_now"),
        energy_full_joules: joules("energy_full"),
        energy_design_joules: joules("energy_full_design"),
        power_watts: measured.or_else(|| Some(micro(voltage? * current?))),
        voltage_volts: voltage,
        current_amperes: current,
        temperature_celsius: number("temp").map(|tenths| micro(tenths / 10.0)),
        // Many firmwares do not count, and say 0.
        cycles: number("cycle_count").filter(|cycles| *cycles > 0.0).map(|cycles| cycles as u64),
        ..Battery::default()
    }
}
