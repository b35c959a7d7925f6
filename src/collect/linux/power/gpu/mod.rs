//! GPUs → `gpu`, and for each `power`, `temperature`, `fan`, `voltage`.
//!
//! amdgpu, i915 and xe report in sysfs, NVIDIA's driver through NVML. A GPU that sleeps is not read, and one that is idle
//! and may sleep is left alone for long enough to fall asleep.

mod drm;
mod nvml;
mod state;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use anyhow::Result;

use super::energy_counter::Reading;
use super::hwmon;
use super::sysfs::{asleep, word};
use super::zones::Platform;
use crate::collect::{Collector, Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{FAN, GPU, Gpu, Kind, POWER, Power, Reason, TEMPERATURE, Temperature, VOLTAGE};
use drm::Device;
use nvml::{LIBRARY, Nvml};
use state::{State, Values};

/// Reads every GPU.
pub struct GpuCollector {
    roots: Roots,
    nvml: Nvml,
    states: BTreeMap<String, State>,
    platform: Platform,
}

impl GpuCollector {
    /// Reads below these roots. `library` is the path of NVML; without it, NVML is used for this machine only.
    pub fn new(roots: &Roots, library: Option<&Path>, platform: Platform) -> Self {
        let nvml = match library {
            Some(path) => Nvml::new(Some(path)),
            None => Nvml::new((!roots.foreign).then_some(Path::new(LIBRARY))),
        };
        Self { roots: roots.clone(), nvml, states: BTreeMap::new(), platform }
    }

    fn report_device(&mut self, device: &Device, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let mut gpu = Gpu { gpu: device.id.clone(), source: source(&device.driver), ..Gpu::default() };
        let state = self.states.entry(device.id.clone()).or_default();
        if let Some(status) = asleep(&device.folder) {
            gpu.runtime_status = Some(status);
            state.asleep();
            return sample.emit(&gpu, out);
        }
        gpu.runtime_status =
            word(device.folder.join("power/runtime_status")).filter(|it| it != "unsupported");
        if state.quiet_until.is_some_and(|until| Instant::now() < until) {
            return sample.emit(&gpu, out);
        }
        let mut values = Values { gpu, ..Values::default() };
        match device.driver.as_str() {
            "nvidia" => {
                if let Err(why) = self.nvml.read(&device.id, &mut values) {
                    out.status(sample.ts, &format!("nvml {}", device.id), why.reason, &why.detail)?;
                }
            }
            driver => drm::read(driver, device, &mut values),
        }
        state.idle(&mut values);
        state.rest(&device.folder, &values.gpu);
        let reading = state.energy(values.energy);
        self.report_values(&device.id, values, reading, sample, out)
    }

    /// Reports NVIDIA's devices that are not on the bus, as under WSL, and returns how many there are. Their power state
    /// is unknown, so the library is closed after each sample.
    fn report_unlisted(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<usize> {
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
            let reading = self.states.entry(id.clone()).or_default().energy(values.energy);
            self.report_values(&id, values, reading, sample, out)?;
        }
        Ok(count)
    }

    fn report_values(
        &self,
        id: &str,
        values: Values,
        reading: Option<Reading>,
        sample: &Sample<'_>,
        out: &mut Emitter,
    ) -> Result<()> {
        let Values { gpu, power_watts, temperature_celsius, integrated, chips, .. } = values;
        let source = gpu.source.clone();
        sample.emit(&gpu, out)?;
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
        if let Some(temperature_celsius) = temperature_celsius {
            let record = Temperature {
                sensor_id: format!("{id}/gpu"),
                component: "gpu",
                source,
                temperature_celsius,
                ..Temperature::default()
            };
            sample.emit(&record, out)?;
        }
        chips.iter().try_for_each(|chip| hwmon::report(chip, sample, out))
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
        let folder = self.roots.sys.join("class/drm");
        let devices = match Device::all(&self.roots.sys) {
            Ok(devices) => devices,
            Err(error) => return unreadable(out, sample.ts, &folder.to_string_lossy(), &error),
        };
        let on_the_bus = devices.iter().any(|device| device.driver == "nvidia");
        let others = if on_the_bus { 0 } else { self.report_unlisted(sample, out)? };
        if devices.is_empty() && others == 0 {
            return out.status(sample.ts, &folder.to_string_lossy(), Reason::Absent, "no GPU");
        }
        self.states.retain(|id, _| others > 0 || devices.iter().any(|device| device.id == *id));
        for device in &devices {
            self.report_device(device, sample, out)?;
        }
        // While it is open, the library keeps every device awake that it has read.
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
