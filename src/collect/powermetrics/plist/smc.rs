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
                self.unknown("smc.", key);
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
    match key {
        "cpu_thermal_level" => pressure.cpu_level = Some(number as i64),
        "gpu_thermal_level" => pressure.gpu_level = Some(number as i64),
        "io_thermal_level" => pressure.io_level = Some(number as i64),
        "cpu_plimit" => pressure.cpu_plimit = Some(number),
        "gpu_plimit" => pressure.gpu_plimit = Some(number),
        "gpu2_plimit" => pressure.gpu2_plimit = Some(number),
        "num_prochots" => return set(&mut pressure.prochots, bounds::count(number)),
        _ => return false,
    }
    true
}
