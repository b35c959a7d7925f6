//! The dictionary `smc` (Intel): temperatures, fans, limits.

use super::tree::Dict;
use super::{Reader, set};
use crate::collect::powermetrics::bounds;
use crate::record::{Fan, Temperature, ThermalPressure};

impl Reader<'_> {
    pub(super) fn smc(&mut self, smc: Dict<'_>) {
        for (key, value) in smc.iter() {
            let understood = value.number().is_some_and(|number| self.sensor(key, number));
            if !understood {
                self.unknown("smc.", key, value);
            }
        }
    }

    fn sensor(&mut self, key: &str, number: f64) -> bool {
        let sample = &mut *self.sample;
        match key {
            "fan" if bounds::rpm(number).is_some() => {
                let sensor_id = format!("fan{}", sample.fans.len());
                sample.fans.push(Fan { sensor_id, source: "smc".into(), speed_rpm: number, label: None });
                true
            }
            "cpu_die" | "gpu_die" if bounds::celsius(number).is_some() => {
                sample.temperatures.push(Temperature {
                    sensor_id: key.to_owned(),
                    component: if key == "cpu_die" { "cpu" } else { "gpu" },
                    label: Some(if key == "cpu_die" { "CPU die" } else { "GPU die" }.into()),
                    source: "smc".into(),
                    temperature_celsius: number,
                    ..Temperature::default()
                });
                true
            }
            _ => pressure(sample.pressure.get_or_insert_default(), key, number),
        }
    }
}

fn pressure(pressure: &mut ThermalPressure, key: &str, number: f64) -> bool {
    let (level, limit) = (bounds::level(number).map(|level| level as i64), bounds::level(number));
    match key {
        "cpu_thermal_level" => set(&mut pressure.cpu_level, level),
        "gpu_thermal_level" => set(&mut pressure.gpu_level, level),
        "io_thermal_level" => set(&mut pressure.io_level, level),
        "cpu_plimit" => set(&mut pressure.cpu_plimit, limit),
        "num_prochots" => set(&mut pressure.prochots, bounds::count(number)),
        // With the name of the one that it is of, or without.
        _ if key.starts_with("gpu2_plimit") => set(&mut pressure.gpu2_plimit, limit),
        _ if key.starts_with("gpu_plimit") => set(&mut pressure.gpu_plimit, limit),
        // What the fans are to cool to, and what a level would be if it were set by hand.
        _ => key.ends_with("_fan_target") || key.starts_with("simulated_"),
    }
}
