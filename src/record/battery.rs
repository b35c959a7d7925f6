//! Batteries and adapters.

use schemars::JsonSchema;
use serde::Serialize;
use serde_with::skip_serializing_none;

use super::{Kind, Metric, Record, Temporality};

/// The body of a `battery` record: the battery sampler of `powermetrics`, or /sys/class/power_supply
/// (kernel `Documentation/ABI/testing/sysfs-class-power`).
#[skip_serializing_none]
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Battery {
    /// Which one: `BAT0`, `AC`, `battery`.
    pub device: String,
    /// `battery`, `mains`, `ups` or `usb`.
    pub supply_type: String,
    /// What it is called.
    pub name: Option<String>,
    /// `charging`, `discharging`, `full`, `not charging`.
    pub status: Option<String>,
    /// Whether an adapter is connected.
    pub online: Option<bool>,
    /// How full it is.
    pub charge_ratio: Option<f64>,
    /// What it holds, in ampere-hours.
    pub charge_ah: Option<f64>,
    /// What it holds when full, in ampere-hours.
    pub charge_full_ah: Option<f64>,
    /// What it holds, in joules.
    pub energy_joules: Option<f64>,
    /// What it holds when full, in joules.
    pub energy_full_joules: Option<f64>,
    /// What it held when it was new and full, in joules.
    pub energy_design_joules: Option<f64>,
    /// The power that goes into it or comes out of it; `status` says which.
    pub power_watts: Option<f64>,
    /// Its voltage.
    pub voltage_volts: Option<f64>,
    /// The current into it or out of it.
    pub current_amperes: Option<f64>,
    /// How warm it is.
    pub temperature_celsius: Option<f64>,
    /// How often it was charged.
    pub cycles: Option<u64>,
    /// Brightness of the screen as a part of the brightest (macOS).
    pub backlight_ratio: Option<f64>,
    /// Brightness of the keyboard as a part of the brightest (macOS).
    pub keyboard_backlight_ratio: Option<f64>,
}

impl Record for Battery {
    const KIND: &'static Kind = &BATTERY;
}

/// Each sample, for each one.
pub const BATTERY: Kind = Kind::metrics::<Battery>(
    "battery",
    "A battery or an adapter: how full, how much power, which state",
    Temporality::Delta,
    &[
        Metric::gauge("charge_ratio", "hw.battery.charge", "1"),
        Metric::gauge("energy_joules", "telepipe.battery.energy", "J"),
        Metric::gauge("power_watts", "telepipe.battery.power", "W"),
        Metric::gauge("temperature_celsius", "hw.temperature", "Cel"),
        Metric::gauge("voltage_volts", "hw.voltage", "V"),
    ],
)
.about(&[("device", "hw.id"), ("supply_type", "hw.type"), ("status", "hw.state")]);
