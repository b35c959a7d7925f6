//! Temperatures, fans, voltages, and what the system makes of them.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};
use crate::common::time::Timestamp;

/// The body of a `temperature` record: the smc sampler of `powermetrics`, or hwmon and thermal zones of Linux
/// (kernel `Documentation/hwmon/sysfs-interface.rst`, `drivers/thermal`).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Temperature {
    /// Which sensor: `cpu_die`, `coretemp.0/coretemp/temp1`, `thermal_zone0`.
    pub sensor_id: String,
    /// Of what: `cpu`, `gpu`, `disk`, `other`.
    pub component: &'static str,
    /// What its driver or board calls it.
    pub label: Option<String>,
    /// The chip or driver: `smc`, `coretemp`, `nvme`.
    pub source: String,
    /// How warm it is.
    pub temperature_celsius: f64,
    /// From where on it is too warm.
    pub high_celsius: Option<f64>,
    /// From where on it takes harm.
    pub critical_celsius: Option<f64>,
}

impl Record for Temperature {
    const KIND: &'static Kind = &TEMPERATURE;
}

/// Each sample, for each sensor.
pub const TEMPERATURE: Kind = Kind::metrics::<Temperature>(
    "temperature",
    "What a sensor says of temperature",
    Temporality::Delta,
    &[Metric::gauge("temperature_celsius", "hw.temperature", "Cel")
        .prometheus("powermetrics_{component}_temperature_celsius", 1.0)],
)
.about(&[
    ("sensor_id", "hw.id"),
    ("component", "hw.type"),
    ("label", "hw.name"),
    ("source", "telepipe.source"),
])
.labels(&[("sensor_id", "sensor_id")]);

/// The body of a `fan` record.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Fan {
    /// Which fan: `fan0`, `nct6775.656/nct6779/fan2`.
    pub sensor_id: String,
    /// What its driver or board calls it.
    pub label: Option<String>,
    /// The chip or driver.
    pub source: String,
    /// Turns a minute.
    pub speed_rpm: f64,
}

impl Record for Fan {
    const KIND: &'static Kind = &FAN;
}

/// Each sample, for each fan.
pub const FAN: Kind = Kind::metrics::<Fan>(
    "fan",
    "How fast a fan turns",
    Temporality::Delta,
    &[Metric::gauge("speed_rpm", "hw.fan.speed", "rpm")],
)
.about(&[("sensor_id", "hw.id"), ("label", "hw.name"), ("source", "telepipe.source")]);

/// The body of a `voltage` record.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Voltage {
    /// Which input: `nct6775.656/nct6779/in0`.
    pub sensor_id: String,
    /// What its driver or board calls it.
    pub label: Option<String>,
    /// The chip or driver.
    pub source: String,
    /// Volts.
    pub voltage_volts: f64,
}

impl Record for Voltage {
    const KIND: &'static Kind = &VOLTAGE;
}

/// Each sample, for each input.
pub const VOLTAGE: Kind = Kind::metrics::<Voltage>(
    "voltage",
    "The voltage of an input",
    Temporality::Delta,
    &[Metric::gauge("voltage_volts", "hw.voltage", "V")],
)
.about(&[("sensor_id", "hw.id"), ("label", "hw.name"), ("source", "telepipe.source")]);

/// The body of a `thermal_pressure` record: the level of macOS; on Linux what x86 processors count
/// (kernel `arch/x86/kernel/cpu/mce/therm_throt.c`), one record for each package.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ThermalPressure {
    /// Which package (Linux): `package-0`.
    pub package: Option<String>,
    /// Boot, since when Linux counts.
    pub start_ts: Option<Timestamp>,
    /// How often a core was held back because it was hot, of all cores of the package (Linux).
    pub core_throttles: Option<u64>,
    /// How often the package was held back because it was hot (Linux).
    pub package_throttles: Option<u64>,
    /// As the system calls it: `Nominal`, `Moderate`, `Heavy`, `Trapping`, `Sleeping`.
    pub level: Option<String>,
    /// The processor's level (Intel).
    pub cpu_level: Option<i64>,
    /// The graphics processor's level (Intel).
    pub gpu_level: Option<i64>,
    /// The level of what is connected (Intel).
    pub io_level: Option<i64>,
    /// The limit on the processor's frequency (Intel).
    pub cpu_plimit: Option<f64>,
    /// The limit on the graphics processor inside (Intel).
    pub gpu_plimit: Option<f64>,
    /// The limit on a second graphics processor (Intel).
    pub gpu2_plimit: Option<f64>,
    /// How often the processor was held back because something was hot.
    pub prochots: Option<u64>,
}

impl Record for ThermalPressure {
    const KIND: &'static Kind = &THERMAL_PRESSURE;
}

/// Each sample.
pub const THERMAL_PRESSURE: Kind = Kind::metrics::<ThermalPressure>(
    "thermal_pressure",
    "How far the system holds itself back because of heat",
    Temporality::Cumulative,
    &[
        Metric::counter("core_throttles", "telepipe.thermal.throttles", "{event}")
            .with(&[("hw.type", "cpu")])
            .prometheus("node_cpu_core_throttles_total", 1.0),
        Metric::counter("package_throttles", "telepipe.thermal.throttles", "{event}")
            .with(&[("hw.type", "package")])
            .prometheus("node_cpu_package_throttles_total", 1.0),
        Metric::gauge("cpu_level", "telepipe.thermal.level", "1").with(&[("hw.type", "cpu")]),
        Metric::gauge("gpu_level", "telepipe.thermal.level", "1").with(&[("hw.type", "gpu")]),
        Metric::gauge("io_level", "telepipe.thermal.level", "1").with(&[("hw.type", "io")]),
        Metric::gauge("prochots", "telepipe.thermal.prochots", "{event}"),
    ],
)
.about(&[("level", "telepipe.thermal.pressure"), ("package", "hw.id")])
.labels(&[("package", "package")]);
