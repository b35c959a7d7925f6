//! Graphics processors → `gpu`, and of each `power`, `temperature`, `fan`, `voltage`.
//!
//! amdgpu, i915 and xe say it in sysfs, NVIDIA's driver by NVML. One that sleeps is not asked anything, and one
//! that idles and may sleep is left alone for long enough that it can fall asleep.

mod card;
mod nvml;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::Platform;
use super::chip::Chip;
use super::hwmon;
use super::meter::{Meter, Moment, Reading};
use super::sysfs::{asleep, folder, folders, number, numbered, word};
use crate::collect::{Collector, Roots, Sample, micro};
use crate::emit::Emitter;
use crate::record::{FAN, GPU, Gpu, Kind, POWER, Power, Reason, TEMPERATURE, Temperature, VOLTAGE};
use nvml::Nvml;

/// The library that the driver brings.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// A device of the class of displays and accelerators for graphics.
#[derive(Clone, Debug, PartialEq)]
struct Device {
    /// Its PCI address, or its name among the cards.
    id: String,
    /// What the kernel drives it with.
    driver: String,
    /// Its folder.
    folder: PathBuf,
    /// Its folder among the cards, if it is one.
    card: Option<PathBuf>,
}

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
    chip: Option<Chip>,
}

/// What is remembered of one.
#[derive(Default)]
struct Past {
    meter: Option<Meter>,
    idle_ms: Option<(u64, Instant)>,
    /// Until when it is left alone.
    quiet_until: Option<Instant>,
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

    /// What sysfs says of a device without asking it.
    fn devices(&self) -> io::Result<Vec<Device>> {
        let sys = &self.roots.sys;
        let cards = match numbered(&sys.join("class/drm"), "card") {
            Ok(cards) => cards,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut found: Vec<Device> = Vec::new();
        for (at, card) in cards {
            let Some(device) = folder(&card.join("device")) else { continue };
            let (slot, driver) = (uevent(&device, "PCI_SLOT_NAME"), uevent(&device, "DRIVER"));
            let id = slot.unwrap_or_else(|| format!("card{at}"));
            found.push(Device { id, driver: driver.unwrap_or_default(), folder: device, card: Some(card) });
        }
        for (id, folder) in folders(&sys.join("bus/pci/devices"), "").unwrap_or_default() {
            let is =
                |file: &str, begin: &str| word(folder.join(file)).is_some_and(|text| text.starts_with(begin));
            let known = found.iter().any(|device| device.id == id);
            // 0x03: displays, and accelerators that have none (3D controllers).
            if !known && is("vendor", "0x10de") && is("class", "0x03") {
                let driver = uevent(&folder, "DRIVER").unwrap_or_default();
                found.push(Device { id, driver, folder, card: None });
            }
        }
        Ok(found)
    }

    fn tell_one(&mut self, device: &Device, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let mut gpu = Gpu { gpu: device.id.clone(), source: source(&device.driver), ..Gpu::default() };
        let past = self.past.entry(device.id.clone()).or_default();
        if let Some(status) = asleep(&device.folder) {
            gpu.runtime_status = Some(status);
            *past = Past { meter: past.meter.take(), ..Past::default() };
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
        past.idle(&mut values, sample);
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
        let Values { gpu, power_watts, temperature_celsius, integrated, chip, .. } = values;
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
        chip.map_or(Ok(()), |chip| hwmon::tell(&chip, sample, out))
    }
}

impl Past {
    /// The energy counter's reading.
    fn energy(&mut self, energy: Option<(u64, f64)>) -> Option<Reading> {
        let (raw, per_joule) = energy?;
        let at = Moment::now();
        match &mut self.meter {
            Some(meter) => Some(meter.advance(raw, at)),
            // When it began to count (the driver was loaded) is not told.
            None => Some(self.meter.insert(Meter::new(raw, None, per_joule, None, at)).first()),
        }
    }

    /// The parts of the interval that follow from the counter of idle time.
    fn idle(&mut self, values: &mut Values, sample: &Sample<'_>) {
        let now = values.idle_ms.map(|ms| (ms, Instant::now()));
        let before = std::mem::replace(&mut self.idle_ms, now);
        if let (Some((ms, at)), Some((ms_before, at_before))) = (now, before)
            && let Some(idle) = ms.checked_sub(ms_before)
        {
            let passed = (at - at_before).as_secs_f64() * 1e3;
            let ratio = micro((idle as f64 / passed.max(1.0)).min(1.0));
            values.gpu.idle_ratio = Some(ratio);
            values.gpu.active_ratio = Some(micro(1.0 - ratio));
            values.gpu.interval_s = sample.interval_s();
        }
    }

    /// Each question is a use, after which a device stays awake for its `autosuspend_delay_ms`. One that has
    /// nothing to do and may sleep gets three times as long without any.
    fn rest(&mut self, device: &Path, gpu: &Gpu) {
        let may_sleep = word(device.join("power/control")).is_some_and(|control| control == "auto")
            && gpu.runtime_status.is_some();
        let idle = gpu.utilization_ratio == Some(0.0) || gpu.active_ratio.is_some_and(|ratio| ratio < 0.01);
        let delay = number(device.join("power/autosuspend_delay_ms")).unwrap_or(5000).clamp(1000, 60_000);
        self.quiet_until = (may_sleep && idle).then(|| Instant::now() + Duration::from_millis(3 * delay));
    }
}

/// A line of the file `uevent`, which the kernel answers without the device.
fn uevent(device: &Path, key: &str) -> Option<String> {
    let text = word(device.join("uevent"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.map(str::to_owned)
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
        let devices = match self.devices() {
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
