//! /sys/class/hwmon → `temperature`, `fan`, `voltage`, and `power` of what measures it
//! (kernel `Documentation/hwmon/sysfs-interface.rst`).

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::chip::{Chip, chips};
use super::sysfs::scaled;
use super::zone::slug;
use crate::collect::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{FAN, Fan, Kind, POWER, Power, Reason, TEMPERATURE, Temperature, VOLTAGE, Voltage};

/// Whether anything can be so warm: drivers tell by other numbers what is not connected or not set, as by all bits of
/// a limit that a disk does not have.
pub fn is_temperature(celsius: f64) -> bool {
    celsius > -273.15 && celsius < 1000.0
}

/// What some controllers tell of a fan that they do not know the speed of (kernel `thinkpad_acpi.c`).
const NO_SPEED: f64 = 65535.0;

/// Lists and reads the chips anew each time, as they come and go with their devices.
pub struct HwmonCollector {
    sys: PathBuf,
}

impl HwmonCollector {
    /// Of that tree.
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
        let place = self.sys.join("class/hwmon");
        match chips(&self.sys) {
            Ok(chips) if chips.is_empty() => {
                out.status(sample.ts, &place.to_string_lossy(), Reason::Absent, "no sensor here")
            }
            Ok(chips) => {
                // Thermal zones and graphics processors are read where the others of their kind are.
                let read = |chip: &&Chip| !chip.is_thermal_zone() && !chip.is_card();
                chips.iter().filter(read).try_for_each(|chip| {
                    if let Some(status) = chip.asleep() {
                        return tell_asleep(chip, &status, sample, out);
                    }
                    tell(chip, sample, out)?;
                    // A battery's power is told with it.
                    if chip.component == "battery" { Ok(()) } else { powers(chip, sample, out) }
                })
            }
            Err(error) => unreadable(out, sample.ts, &place.to_string_lossy(), &error),
        }
    }
}

fn tell_asleep(chip: &Chip, status: &str, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
    let detail = format!("{}: {status}; it is not read, as that would wake it", chip.id);
    out.status(sample.ts, &chip.folder.to_string_lossy(), Reason::Unsupported, &detail)
}

/// All that a chip measures but power. Its device must be awake.
///
/// # Errors
/// If stdout fails.
pub fn tell(chip: &Chip, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
    let limit = |input: &str, file: &str| {
        scaled(chip.folder.join(format!("{input}_{file}")), 1e3).ok().filter(|limit| is_temperature(*limit))
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
        (value < NO_SPEED).then(|| Fan {
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

/// What a chip says of power; a card's is told with the card.
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

/// Says once that a value cannot be one.
///
/// # Errors
/// If stdout fails.
pub fn tell_impossible(path: &Path, value: f64, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
    let detail = format!("{value} is none that can be; not connected?");
    out.status(sample.ts, &path.to_string_lossy(), Reason::Invalid, &detail)
}

/// Every input of one kind, as a record; once a status record of what cannot be read.
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
            let detail = "its driver says that the sensor has a fault; not connected?";
            out.status(sample.ts, &path.to_string_lossy(), Reason::Invalid, detail)?;
            continue;
        }
        match scaled(&path, divisor) {
            Ok(value) => match record(&input, value) {
                Some(record) => out.emit(sample.ts, &record)?,
                None => tell_impossible(&path, value, sample, out)?,
            },
            // The driver says that nothing is connected there.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => unreadable(out, sample.ts, &path.to_string_lossy(), &error)?,
        }
    }
    Ok(())
}
