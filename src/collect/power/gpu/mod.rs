//! Graphics processors → `gpu`, and of each `power`, `temperature`, `fan`, `voltage`.
//!
//! amdgpu, i915 and xe say it in sysfs, NVIDIA's driver by NVML. One that sleeps is not asked anything, and one
//! that idles and may sleep is left alone for long enough that it can fall asleep.

mod card;
mod device;
mod nvml;
mod past;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::Platform;
use super::chip::Chip;
use super::hwmon;
use super::meter::Reading;
use super::sysfs::{asleep, word};
use crate::collect::{Collector, Roots, Sample};
use crate::common::emit::Emitter;
use crate::record::{FAN, GPU, Gpu, Kind, POWER, Power, Reason, TEMPERATURE, Temperature, VOLTAGE};
use device::Device;
use nvml::Nvml;
use past::Past;

/// The library that the driver brings.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// What was read of one.
#[derive(Default)]
struct Values {
    gpu: Gpu,
    /// A counter of energy: its value, and counts for one joule.
    energy: Option<(u64, f64)>,
    /// Power as the device itself says.
    power_watts: Option<f64>,
    /// A counter of idle milliseconds.
    idle_ms: Option<u64>,
    temperature_celsius: Option<f64>,
    /// Whether its power is in that of the processor's package.
    integrated: bool,
    chips: Vec<Chip>,
}

/// Reads every graphics processor.
pub struct GpuCollector {
    roots: Roots,
    nvml: Nvml,
    past: BTreeMap<String, Past>,
    platform: Platform,
}

impl GpuCollector {
    /// Of that tree. `library` is where NVML is; without it, NVML is asked of this machine only.
    pub fn new(roots: &Roots, library: Option<&Path>, platform: Platform) -> Self {
        let nvml = match library {
            Some(path) => Nvml::new(Some(path)),
            None => Nvml::new((!roots.foreign).then_some(Path::new(LIBRARY))),
        };
        Self { roots: roots.clone(), nvml, past: BTreeMap::new(), platform }
    }

    fn tell_one(&mut self, device: &Device, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let mut gpu = Gpu { gpu: device.id.clone(), source: source(&device.driver), ..Gpu::default() };
        let past = self.past.entry(device.id.clone()).or_default();
        if let Some(status) = asleep(&device.folder) {
            gpu.runtime_status = Some(status);
            past.asleep();
            return if sample.wants(&GPU) { out.emit(sample.ts, &gpu) } else { Ok(()) };
        }
        gpu.runtime_status =
            word(device.folder.join("power/runtime_status")).filter(|it| it != "unsupported");
        if past.quiet_until.is_some_and(|until| Instant::now() < until) {
            return if sample.wants(&GPU) { out.emit(sample.ts, &gpu) } else { Ok(()) };
        }
        let mut values = Values { gpu, ..Values::default() };
        match device.driver.as_str() {
            "nvidia" => {
                if let Err(why) = self.nvml.read(&device.id, &mut values) {
                    out.status(sample.ts, &format!("nvml {}", device.id), why.reason, &why.detail)?;
                }
            }
            driver => card::read(driver, device, &mut values),
        }
        past.idle(&mut values);
        past.rest(&device.folder, &values.gpu);
        let reading = past.energy(values.energy);
        self.tell_values(&device.id, values, reading, sample, out)
    }

    /// NVIDIA's devices that are not on the bus, as under WSL: how many there are. Whether they sleep cannot be seen,
    /// so that the library is let go of each time.
    fn tell_unlisted(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<usize> {
        let found = match self.nvml.read_all() {
            Ok(found) => found,
            Err(why) => {
                out.status(sample.ts, LIBRARY, why.reason, &why.detail)?;
                Vec::new()
            }
        };
        self.nvml.close();
        let count = found.len();
        for (id, mut values) in found {
            (values.gpu.gpu, values.gpu.source) = (id.clone(), source("nvidia"));
            let reading = self.past.entry(id.clone()).or_default().energy(values.energy);
            self.tell_values(&id, values, reading, sample, out)?;
        }
        Ok(count)
    }

    fn tell_values(
        &self,
        id: &str,
        values: Values,
        reading: Option<Reading>,
        sample: &Sample<'_>,
        out: &mut Emitter,
    ) -> Result<()> {
        let Values { gpu, power_watts, temperature_celsius, integrated, chips, .. } = values;
        let source = gpu.source.clone();
        if sample.wants(&GPU) {
            out.emit(sample.ts, &gpu)?;
        }
        let reading_given = reading.is_some();
        let reading = reading.unwrap_or_default();
        if sample.wants(&POWER) && (reading_given || power_watts.is_some()) {
            let power = Power {
                start_ts: reading.start_ts,
                domain: "gpu".into(),
                zone: Some(id.to_owned()),
                parent: self.platform.contains_all().then(|| "psys".into()),
                source: source.clone(),
                counted: !integrated && !self.platform.contains_all(),
                energy_joules: reading_given.then_some(reading.energy_joules),
                power_watts: if reading_given { reading.power_watts } else { power_watts },
                interval_s: reading.interval_s,
                suspended_s: reading.suspended_s,
            };
            out.emit(sample.ts, &power)?;
        }
        if let Some(temperature_celsius) = temperature_celsius
            && sample.wants(&TEMPERATURE)
        {
            let sensor_id = format!("{id}/gpu");
            let record = Temperature {
                sensor_id,
                component: "gpu",
                source,
                temperature_celsius,
                ..Temperature::default()
            };
            out.emit(sample.ts, &record)?;
        }
        chips.iter().try_for_each(|chip| hwmon::tell(chip, sample, out))
    }
}

/// The value of the field `source`.
fn source(driver: &str) -> String {
    match driver {
        "nvidia" => "nvml".into(),
        "" => "sysfs".into(),
        driver => driver.to_owned(),
    }
}

impl Collector for GpuCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&GPU, &POWER, &TEMPERATURE, &FAN, &VOLTAGE]
    }

    fn method(&self) -> String {
        format!("cards in {}, and NVML", self.roots.sys.join("class/drm").display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let place = self.roots.sys.join("class/drm");
        let devices = match Device::all(&self.roots.sys) {
            Ok(devices) => devices,
            Err(error) => {
                return crate::collect::unreadable(out, sample.ts, &place.to_string_lossy(), &error);
            }
        };
        let on_the_bus = devices.iter().any(|device| device.driver == "nvidia");
        let others = if on_the_bus { 0 } else { self.tell_unlisted(sample, out)? };
        if devices.is_empty() && others == 0 {
            return out.status(
                sample.ts,
                &place.to_string_lossy(),
                Reason::Absent,
                "no graphics processor here",
            );
        }
        self.past.retain(|id, _| others > 0 || devices.iter().any(|device| device.id == *id));
        for device in &devices {
            self.tell_one(device, sample, out)?;
        }
        // An open library keeps every NVIDIA device awake that it has looked at.
        let may_sleep = |device: &Device| {
            let control = word(device.folder.join("power/control"));
            device.driver == "nvidia" && control.is_some_and(|control| control == "auto")
        };
        if devices.iter().any(may_sleep) {
            self.nvml.close();
        }
        Ok(())
    }
}
