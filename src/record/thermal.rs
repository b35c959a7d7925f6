//! Temperatures, fans, voltages, and thermal throttling.

use super::prelude::*;

/// The body of a `temperature` record: the smc sampler of `powermetrics`, or hwmon and thermal zones of Linux
/// (kernel `Documentation/hwmon/sysfs-interface.rst`, `drivers/thermal`).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Temperature {
    /// The sensor: `cpu_die`, `coretemp.0/coretemp/temp1`, `thermal_zone0`.
    pub sensor_id: String,
    /// The component that it measures: `cpu`, `gpu`, `disk`, `other`.
    pub component: &'static str,
    /// The name that its driver or the board gives it.
    pub label: Option<String>,
    /// The chip or driver: `smc`, `coretemp`, `nvme`.
    pub source: String,
    /// The temperature.
    pub temperature_celsius: f64,
    /// The temperature from which it is too hot.
    pub high_celsius: Option<f64>,
    /// The temperature from which it is damaged.
    pub critical_celsius: Option<f64>,
}

/// Each sample, for each sensor.
pub const TEMPERATURE: Kind =
    Kind::delta::<Temperature>("temperature", "The temperature that a sensor measures")
        .about(&[
            ("sensor_id", "hw.id"),
            ("component", "hw.type"),
            ("label", "hw.name"),
            ("source", "telepipe.source"),
        ])
        .labels(&[("sensor_id", "sensor_id")])
        .metrics(&[Metric::gauge("temperature_celsius", "hw.temperature", "Cel")
            .prometheus("powermetrics_{component}_temperature_celsius")]);

/// The body of a `fan` record.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Fan {
    /// The fan: `fan0`, `nct6775.656/nct6779/fan2`.
    pub sensor_id: String,
    /// The name that its driver or the board gives it.
    pub label: Option<String>,
    /// The chip or driver.
    pub source: String,
    /// Revolutions per minute.
    pub speed_rpm: f64,
}

/// Each sample, for each fan.
pub const FAN: Kind = Kind::delta::<Fan>("fan", "The speed of a fan")
    .about(&[("sensor_id", "hw.id"), ("label", "hw.name"), ("source", "telepipe.source")])
    .metrics(&[Metric::gauge("speed_rpm", "hw.fan.speed", "rpm")]);

/// The body of a `voltage` record.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Voltage {
    /// The input: `nct6775.656/nct6779/in0`.
    pub sensor_id: String,
    /// The name that its driver or the board gives it.
    pub label: Option<String>,
    /// The chip or driver.
    pub source: String,
    /// Volts.
    pub voltage_volts: f64,
}

/// Each sample, for each input.
pub const VOLTAGE: Kind = Kind::delta::<Voltage>("voltage", "The voltage of an input")
    .about(&[("sensor_id", "hw.id"), ("label", "hw.name"), ("source", "telepipe.source")])
    .metrics(&[Metric::gauge("voltage_volts", "hw.voltage", "V")]);

/// The body of a `thermal_pressure` record: the level of macOS; on Linux the throttle counts of x86 processors
/// (kernel `arch/x86/kernel/cpu/mce/therm_throt.c`), one record for each package.
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ThermalPressure {
    /// The package (Linux): `package-0`.
    pub package: Option<String>,
    /// The boot time, from which Linux counts.
    pub start_ts: Option<Timestamp>,
    /// How often cores of the package were throttled by heat, in total (Linux).
    pub core_throttles: Option<u64>,
    /// How often the package was throttled by heat (Linux).
    pub package_throttles: Option<u64>,
    /// The level, as macOS names it: `Nominal`, `Moderate`, `Heavy`, `Trapping`, `Sleeping`.
    pub level: Option<String>,
    /// The thermal level of the CPU (Intel).
    pub cpu_level: Option<i64>,
    /// The thermal level of the GPU (Intel).
    pub gpu_level: Option<i64>,
    /// The thermal level of connected devices (Intel).
    pub io_level: Option<i64>,
    /// The limit on the frequency of the CPU (Intel).
    pub cpu_plimit: Option<f64>,
    /// The limit on the internal GPU (Intel).
    pub gpu_plimit: Option<f64>,
    /// The limit on a second GPU (Intel).
    pub gpu2_plimit: Option<f64>,
    /// How often the CPU was throttled because a component was hot (PROCHOT).
    pub prochots: Option<u64>,
}

/// Each sample.
pub const THERMAL_PRESSURE: Kind =
    Kind::cumulative::<ThermalPressure>("thermal_pressure", "Throttling of the system because of heat")
        .about(&[("level", "telepipe.thermal.pressure"), ("package", "hw.id")])
        .labels(&[("package", "package")])
        .metrics(&[
            Metric::counter("core_throttles", "telepipe.thermal.throttles", "{event}")
                .with(&[("hw.type", "cpu")])
                .prometheus("node_cpu_core_throttles_total"),
            Metric::counter("package_throttles", "telepipe.thermal.throttles", "{event}")
                .with(&[("hw.type", "package")])
                .prometheus("node_cpu_package_throttles_total"),
            Metric::gauge("cpu_level", "telepipe.thermal.level", "1").with(&[("hw.type", "cpu")]),
            Metric::gauge("gpu_level", "telepipe.thermal.level", "1").with(&[("hw.type", "gpu")]),
            Metric::gauge("io_level", "telepipe.thermal.level", "1").with(&[("hw.type", "io")]),
            Metric::gauge("prochots", "telepipe.thermal.prochots", "{event}"),
        ]);
