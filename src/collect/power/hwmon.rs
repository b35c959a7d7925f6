//! /sys/class/hwmon and /sys/class/thermal → `temperature`, `fan`, `voltage`, and `power` of chips that measure it
//! (kernel `Documentation/hwmon/sysfs-interface.rst`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::counter::Counter;
use super::sys;
use crate::clock::Timestamp;
use crate::collect::{Collector, Roots, Sample, micro};
use crate::emit::Emitter;
use crate::record::{FAN, Fan, Kind, POWER, Power, Reason, TEMPERATURE, Temperature, VOLTAGE, Voltage};

/// Reads every sensor whose device is awake.
pub struct HwmonCollector {
    hwmon: PathBuf,
    thermal: PathBuf,
    /// Whether RAPL counts the packages, which drivers of hwmon may count too.
    rapl: bool,
    energies: HashMap<String, (Counter, Timestamp)>,
}

impl HwmonCollector {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        let class = roots.sys.join("class");
        let rapl = !sys::entries(&class.join("powercap"), "intel-rapl:").is_empty();
        Self { hwmon: class.join("hwmon"), thermal: class.join("thermal"), rapl, energies: HashMap::new() }
    }

    fn chip(&mut self, id: &str, path: &Path, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let source = sys::word(&path.join("name")).unwrap_or_else(|| id.to_owned());
        let card = match source.as_str() {
            // A card has a limit of its own; graphics inside of a package has that of the package.
            "amdgpu" | "nouveau" | "radeon" => path.join("power1_cap").exists(),
            // Cards only; graphics inside of a package has no sensors.
            "i915" | "xe" => true,
            _ => false,
        };
        for (file, input) in sys::entries(path, "") {
            let Some((sensor, kind)) = file.rsplit_once('_') else { continue };
            // Only what is counted needs a look before the one that is told.
            let wanted = sample.write || sensor.starts_with("energy");
            if !matches!(kind, "input" | "average") || !wanted {
                continue;
            }
            let Some(value) = sys::number(&input) else { continue };
            let of = |what: &str| sys::number(&path.join(format!("{sensor}_{what}")));
            let label = sys::word(&path.join(format!("{sensor}_label")));
            let sensor_id = format!("{id}/{sensor}");
            let source = source.clone();
            match sensor.trim_end_matches(|c: char| c.is_ascii_digit()) {
                "temp" => out.emit(
                    sample.ts,
                    &Temperature {
                        component: component(&source, label.as_deref()),
                        sensor_id,
                        label,
                        source,
                        temperature_celsius: micro(value / 1000.0),
                        high_celsius: of("max").map(|value| micro(value / 1000.0)),
                        critical_celsius: of("crit").map(|value| micro(value / 1000.0)),
                    },
                )?,
                "fan" => out.emit(sample.ts, &Fan { sensor_id, label, source, speed_rpm: value })?,
                "in" => {
                    let voltage_volts = micro(value / 1000.0);
                    out.emit(sample.ts, &Voltage { sensor_id, label, source, voltage_volts })?;
                }
                // In µW; where a chip has a mean and a value of the moment, the mean comes first.
                "power" if kind == "average" || !path.join(format!("{sensor}_average")).exists() => {
                    let power = Power {
                        power_watts: Some(micro(value / 1e6)),
                        ..self.power(&source, label, sensor_id, card)
                    };
                    out.emit(sample.ts, &power)?;
                }
                "energy" => {
                    let power = self.power(&source, label, sensor_id, card);
                    self.energy(value, power, sample, out)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Graphics cards are no part of a package; what other chips measure may be anything, and is not summed.
    fn power(&self, source: &str, label: Option<String>, zone: String, card: bool) -> Power {
        // The chip of a card, whose own reading contains it.
        let part = label.as_deref() == Some("pkg");
        let gpu = matches!(source, "amdgpu" | "nouveau" | "i915" | "xe" | "radeon");
        let energy_of_cpu =
            source == "amd_energy" && label.as_deref().is_some_and(|it| it.starts_with("Esocket"));
        Power {
            domain: if gpu { "gpu".into() } else { label.unwrap_or_else(|| source.to_owned()) },
            zone: Some(zone),
            source: "hwmon".into(),
            counted: (card && !part) || (energy_of_cpu && !self.rapl),
            ..Power::default()
        }
    }

    /// In µJ, 64 bits wide.
    fn energy(&mut self, value: f64, mut power: Power, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let sensor_id = power.zone.clone().unwrap_or_default();
        let (counter, start) =
            self.energies.entry(sensor_id).or_insert_with(|| (Counter::new(None), sample.ts));
        let added = counter.read(value as u64);
        let seconds = sample.interval.map(|interval| interval.as_secs_f64()).filter(|seconds| *seconds > 0.0);
        power.start_ts = Some(*start);
        power.energy_joules = Some(counter.total() as f64 / 1e6);
        power.power_watts = added.zip(seconds).map(|(added, seconds)| micro(added as f64 / 1e6 / seconds));
        power.interval_s = added.and(seconds).map(micro);
        if sample.wants(&POWER) {
            out.emit(sample.ts, &power)?;
        }
        Ok(())
    }
}

impl Collector for HwmonCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&TEMPERATURE, &FAN, &VOLTAGE, &POWER]
    }

    fn method(&self) -> String {
        format!("{}, {}", self.hwmon.display(), self.thermal.display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let (chips, zones) =
            (sys::entries(&self.hwmon, "hwmon"), sys::entries(&self.thermal, "thermal_zone"));
        if chips.is_empty() && zones.is_empty() {
            let detail = "no sensors: a virtual machine, or no driver for them is loaded";
            return out.status(sample.ts, &self.hwmon.to_string_lossy(), Reason::Absent, detail);
        }
        for (id, path) in chips {
            // A driver wakes its device to ask it.
            if !sys::asleep(&sys::resolve(path.join("device"))) {
                self.chip(&id, &path, sample, out)?;
            }
        }
        for (id, path) in zones.into_iter().filter(|_| sample.write) {
            let Some(value) = sys::number(&path.join("temp")) else { continue };
            let label = sys::word(&path.join("type"));
            out.emit(
                sample.ts,
                &Temperature {
                    component: component("thermal", label.as_deref()),
                    sensor_id: id,
                    label,
                    source: "thermal".into(),
                    temperature_celsius: micro(value / 1000.0),
                    ..Temperature::default()
                },
            )?;
        }
        Ok(())
    }
}

/// Of what a sensor tells the temperature, as far as drivers' names say.
fn component(source: &str, label: Option<&str>) -> &'static str {
    match source {
        "coretemp" | "k10temp" | "k8temp" | "zenpower" | "cpu_thermal" | "fam15h_power" => "cpu",
        "amdgpu" | "nouveau" | "i915" | "xe" | "radeon" => "gpu",
        "nvme" | "drivetemp" => "disk",
        "thermal" => match label {
            Some(label) if label.starts_with("cpu") || label.contains("x86_pkg") => "cpu",
            Some(label) if label.starts_with("gpu") => "gpu",
            _ => "other",
        },
        _ => "other",
    }
}
