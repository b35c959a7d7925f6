//! /sys/class/hwmon → `temperature`, `fan`, `voltage` and `power`
//! (kernel `Documentation/hwmon/sysfs-interface.rst`).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::chip::{Chip, chips};
use super::sysfs::scaled;
use super::zones::slug;
use crate::collect::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{FAN, Fan, Kind, POWER, Power, Reason, TEMPERATURE, Temperature, VOLTAGE, Voltage};

/// Whether a sensor can measure this temperature. Drivers report sensors that are not connected as -128, 255 or as a
/// register with all bits set (kernel `drivers/hwmon/lm90.c`, `drivers/nvme/host/hwmon.c`).
pub fn is_temperature(celsius: f64) -> bool {
    celsius > -100.0 && celsius < 200.0
}

/// The speed that some controllers report for a fan that they cannot measure (kernel `thinkpad_acpi.c`).
const NO_SPEED: f64 = 65535.0;

/// Lists the chips for each sample, because they come and go with their devices.
pub struct HwmonCollector {
    sys: PathBuf,
}

impl HwmonCollector {
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        Self { sys: roots.sys.clone() }
    }
}

impl Collector for HwmonCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&TEMPERATURE, &FAN, &VOLTAGE, &POWER]
    }

    fn method(&self) -> String {
        format!("chips in {}", self.sys.join("class/hwmon").display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let folder = self.sys.join("class/hwmon");
        match chips(&self.sys) {
            Ok(chips) if chips.is_empty() => {
                out.status(sample.ts, &folder.to_string_lossy(), Reason::Absent, "no sensors")
            }
            Ok(chips) => {
                // The collectors of thermal zones and GPUs read their chips.
                let read = |chip: &&Chip| !chip.is_thermal_zone() && !chip.is_card();
                chips.iter().filter(read).try_for_each(|chip| {
                    if let Some(status) = chip.asleep() {
                        let detail = format!("{} is {status}; reading it would wake it", chip.id);
                        return out.status(
                            sample.ts,
                            &chip.folder.to_string_lossy(),
                            Reason::Unsupported,
                            &detail,
                        );
                    }
                    report(chip, sample, out)?;
                    // The power of a battery is in its battery record.
                    if chip.component == "battery" { Ok(()) } else { powers(chip, sample, out) }
                })
            }
            Err(error) => unreadable(out, sample.ts, &folder.to_string_lossy(), &error),
        }
    }
}

/// Writes everything but power that a chip measures. Its device must be awake.
///
/// # Errors
/// If stdout fails.
pub fn report(chip: &Chip, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
    let limit = |input: &str, file: &str| {
        // A limit of 0 is one that was never set.
        scaled(chip.folder.join(format!("{input}_{file}")), 1e3)
            .ok()
            .filter(|&limit| limit > 0.0 && is_temperature(limit))
    };
    let source = || chip.name.clone();
    let id = |input: &str| format!("{}/{input}", chip.id);
    each(chip, sample, out, ("temp", &TEMPERATURE, 1e3), |input, value| {
        is_temperature(value).then(|| Temperature {
            sensor_id: id(input),
            component: chip.component,
            label: chip.label(input),
            source: source(),
            temperature_celsius: value,
            high_celsius: limit(input, "max"),
            critical_celsius: limit(input, "crit"),
        })
    })?;
    each(chip, sample, out, ("fan", &FAN, 1.0), |input, value| {
        (0.0..NO_SPEED).contains(&value).then(|| Fan {
            sensor_id: id(input),
            label: chip.label(input),
            source: source(),
            speed_rpm: value,
        })
    })?;
    each(chip, sample, out, ("in", &VOLTAGE, 1e3), |input, value| {
        Some(Voltage {
            sensor_id: id(input),
            label: chip.label(input),
            source: source(),
            voltage_volts: value,
        })
    })
}

/// Writes the power that a chip measures. The GPU collector does it for GPUs.
fn powers(chip: &Chip, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
    let gpu = chip.component == "gpu";
    each(chip, sample, out, ("power", &POWER, 1e6), |input, value| {
        Some(Power {
            domain: if gpu { "gpu".into() } else { chip.label(input).map_or("other".into(), |it| slug(&it)) },
            counted: gpu && chip.is_discrete(),
            zone: Some(format!("{}/{input}", chip.id)),
            source: "hwmon".into(),
            power_watts: Some(value),
            ..Power::default()
        })
    })
}

/// Reports once that a value is impossible.
///
/// # Errors
/// If stdout fails.
pub fn report_impossible(path: &Path, value: f64, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
    let detail = format!("{value} is impossible; the sensor may not be connected");
    out.status(sample.ts, &path.to_string_lossy(), Reason::Invalid, &detail)
}

/// Writes a record for each input with this prefix, and a status record once for what cannot be read.
fn each<R: crate::record::Record>(
    chip: &Chip,
    sample: &Sample<'_>,
    out: &mut Emitter,
    (prefix, kind, divisor): (&str, &Kind, f64),
    record: impl Fn(&str, f64) -> Option<R>,
) -> Result<()> {
    if !sample.wants(kind) {
        return Ok(());
    }
    for input in chip.inputs(prefix) {
        let path = chip.file(&input);
        if chip.is_faulty(&input) {
            let detail = "the driver reports a fault; the sensor may not be connected";
            out.status(sample.ts, &path.to_string_lossy(), Reason::Invalid, detail)?;
            continue;
        }
        match scaled(&path, divisor) {
            Ok(value) => match record(&input, value) {
                Some(record) => out.emit(sample.ts, &record)?,
                None => report_impossible(&path, value, sample, out)?,
            },
            // The driver has no sensor there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unreadable(out, sample.ts, &path.to_string_lossy(), &error)?,
        }
    }
    Ok(())
}
