//! Batteries and adapters.

use super::prelude::*;

/// The body of a `battery` record: the battery sampler of `powermetrics`, or /sys/class/power_supply
/// (kernel `Documentation/ABI/testing/sysfs-class-power`).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Battery {
    /// The device: `BAT0`, `AC`, `battery`.
    pub device: String,
    /// `battery`, `mains`, `ups` or `usb`.
    pub supply_type: String,
    /// The name of the model.
    pub name: Option<String>,
    /// `charging`, `discharging`, `full`, `not charging`.
    pub status: Option<String>,
    /// Whether an adapter is connected.
    pub online: Option<bool>,
    /// The charge, as a part of the full charge.
    pub charge_ratio: Option<f64>,
    /// The charge, in ampere-hours.
    pub charge_ah: Option<f64>,
    /// The full charge, in ampere-hours.
    pub charge_full_ah: Option<f64>,
    /// The stored energy, in joules.
    pub energy_joules: Option<f64>,
    /// The energy when full, in joules.
    pub energy_full_joules: Option<f64>,
    /// The energy when full and new, in joules.
    pub energy_design_joules: Option<f64>,
    /// The power into or out of it; `status` shows which.
    pub power_watts: Option<f64>,
    /// The voltage.
    pub voltage_volts: Option<f64>,
    /// The current into or out of it.
    pub current_amperes: Option<f64>,
    /// The temperature.
    pub temperature_celsius: Option<f64>,
    /// The number of charge cycles.
    pub cycles: Option<u64>,
    /// Brightness of the screen, as a part of the maximum (macOS).
    pub backlight_ratio: Option<f64>,
    /// Brightness of the keyboard, as a part of the maximum (macOS).
    pub keyboard_backlight_ratio: Option<f64>,
}

/// Each sample, for each one.
pub const BATTERY: Kind = Kind::delta::<Battery>("battery", "A battery or an adapter: charge, power, state")
    .about(&[("device", "hw.id"), ("supply_type", "hw.type"), ("status", "hw.state")])
    .metrics(&[
        Metric::gauge("charge_ratio", "hw.battery.charge", "1"),
        Metric::gauge("energy_joules", "telepipe.battery.energy", "J"),
        Metric::gauge("power_watts", "telepipe.battery.power", "W"),
        Metric::gauge("temperature_celsius", "hw.temperature", "Cel"),
        Metric::gauge("voltage_volts", "hw.voltage", "V"),
    ]);
