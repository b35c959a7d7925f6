//! NVIDIA's management library, loaded at run time → `gpu`, `power`, `temperature`.
//!
//! While the library is open it keeps every card awake. So it is opened for each sample, after a look at
//! `runtime_status` of every card, and closed again; where a card sleeps it is not opened at all.

use std::collections::HashMap;
use std::ffi::{CStr, c_char, c_int, c_uint, c_ulonglong, c_void};
use std::path::{Path, PathBuf};

use anyhow::Result;
use libloading::{Library, Symbol};

use super::counter::Counter;
use super::sys;
use crate::clock::Timestamp;
use crate::collect::{Collector, Roots, Sample, micro};
use crate::emit::Emitter;
use crate::record::{GPU, Gpu, Kind, POWER, Power, Reason, TEMPERATURE, Temperature};

/// The library, by the name that its own clients use.
const LIBRARY: &str = "libnvidia-ml.so.1";

/// What the interface calls `nvmlDevice_t`.
type Device = *mut c_void;
type Code = c_int;

#[repr(C)]
#[derive(Default)]
struct Utilization {
    gpu: c_uint,
    memory: c_uint,
}

#[repr(C)]
#[derive(Default)]
struct Memory {
    total: c_ulonglong,
    free: c_ulonglong,
    used: c_ulonglong,
}

/// `nvmlPciInfo_t`.
#[repr(C)]
struct Pci {
    legacy: [c_char; 16],
    numbers: [c_uint; 5],
    address: [c_char; 32],
}

/// Temperature of the chip; clock of the multiprocessors; clock of the memory.
const TEMPERATURE_GPU: c_uint = 0;
const CLOCK_SM: c_uint = 1;
const CLOCK_MEM: c_uint = 2;

/// What a card says.
#[derive(Default)]
struct Card {
    address: Option<String>,
    name: Option<String>,
    milliwatts: Option<c_uint>,
    millijoules: Option<u64>,
    celsius: Option<c_uint>,
    utilization: Option<Utilization>,
    memory: Option<Memory>,
    megahertz: Option<c_uint>,
    memory_megahertz: Option<c_uint>,
}

/// The library while it is open.
struct Nvml {
    library: Library,
    /// Whether it has to be closed.
    open: bool,
}

impl Nvml {
    /// `None` if there is no library, `Err` with its code if it has nothing to say.
    fn open() -> Option<Result<Self, Code>> {
        // SAFETY: the library's initializers are those of the driver that this machine uses; there is no other
        // way to load it, and its name is not taken from any input.
        let library = unsafe { Library::new(LIBRARY) }.ok()?;
        let mut nvml = Self { library, open: false };
        let code = nvml.call(b"nvmlInit_v2\0", |function: &Symbol<'_, unsafe extern "C" fn() -> Code>| {
            // SAFETY: takes nothing, as nvml.h declares it.
            unsafe { function() }
        });
        Some(match code {
            Some(0) => {
                nvml.open = true;
                Ok(nvml)
            }
            code => Err(code.unwrap_or(-1)),
        })
    }

    /// Calls a function, if the library has it.
    fn call<T, R>(&self, name: &[u8], call: impl FnOnce(&Symbol<'_, T>) -> R) -> Option<R> {
        // SAFETY: callers name the type that nvml.h declares for the function.
        let function = unsafe { self.library.get::<T>(name) }.ok()?;
        Some(call(&function))
    }

    /// A function that writes one value through a pointer.
    fn get<T: Default>(&self, name: &[u8], device: Device) -> Option<T> {
        let mut value = T::default();
        let code = self.call(name, |function: &Symbol<'_, unsafe extern "C" fn(Device, *mut T) -> Code>| {
            // SAFETY: `device` is a handle of this library, and `value` has the type that the function writes.
            unsafe { function(device, &raw mut value) }
        });
        (code == Some(0)).then_some(value)
    }

    /// A function that also takes which of several values.
    fn get_which(&self, name: &[u8], device: Device, which: c_uint) -> Option<c_uint> {
        let mut value = 0;
        let code = self.call(
            name,
            |function: &Symbol<'_, unsafe extern "C" fn(Device, c_uint, *mut c_uint) -> Code>| {
                // SAFETY: as above; `which` is a constant of nvml.h.
                unsafe { function(device, which, &raw mut value) }
            },
        );
        (code == Some(0)).then_some(value)
    }

    fn name(&self, device: Device) -> Option<String> {
        let mut name: [c_char; 96] = [0; 96];
        let length = name.len() as c_uint;
        let code = self.call(
            b"nvmlDeviceGetName\0",
            |function: &Symbol<'_, unsafe extern "C" fn(Device, *mut c_char, c_uint) -> Code>| {
                // SAFETY: the buffer has the length that is told; the function ends what it writes with NUL.
                unsafe { function(device, name.as_mut_ptr(), length) }
            },
        );
        (code == Some(0)).then(|| text(&name))
    }

    fn address(&self, device: Device) -> Option<String> {
        let mut pci = Pci { legacy: [0; 16], numbers: [0; 5], address: [0; 32] };
        let code = self.call(
            b"nvmlDeviceGetPciInfo_v3\0",
            |function: &Symbol<'_, unsafe extern "C" fn(Device, *mut Pci) -> Code>| {
                // SAFETY: `pci` has the layout of nvmlPciInfo_t.
                unsafe { function(device, &raw mut pci) }
            },
        );
        // `00000000:45:00.0`, where sysfs has four digits first.
        let address = text(&pci.address).to_ascii_lowercase();
        (code == Some(0)).then(|| address.strip_prefix("0000").unwrap_or(&address).to_owned())
    }

    fn cards(&self) -> Vec<Card> {
        let mut count = 0;
        self.call(
            b"nvmlDeviceGetCount_v2\0",
            |function: &Symbol<'_, unsafe extern "C" fn(*mut c_uint) -> Code>| {
                // SAFETY: writes one unsigned int.
                unsafe { function(&raw mut count) }
            },
        );
        (0..count).filter_map(|index| self.card(index)).collect()
    }

    fn card(&self, index: c_uint) -> Option<Card> {
        let mut device: Device = std::ptr::null_mut();
        let code = self.call(
            b"nvmlDeviceGetHandleByIndex_v2\0",
            |function: &Symbol<'_, unsafe extern "C" fn(c_uint, *mut Device) -> Code>| {
                // SAFETY: writes one handle, which is valid until the library is closed.
                unsafe { function(index, &raw mut device) }
            },
        );
        if code != Some(0) {
            return None;
        }
        Some(Card {
            address: self.address(device),
            name: self.name(device),
            milliwatts: self.get(b"nvmlDeviceGetPowerUsage\0", device),
            millijoules: self.get::<c_ulonglong>(b"nvmlDeviceGetTotalEnergyConsumption\0", device),
            celsius: self.get_which(b"nvmlDeviceGetTemperature\0", device, TEMPERATURE_GPU),
            utilization: self.get(b"nvmlDeviceGetUtilizationRates\0", device),
            memory: self.get(b"nvmlDeviceGetMemoryInfo\0", device),
            megahertz: self.get_which(b"nvmlDeviceGetClockInfo\0", device, CLOCK_SM),
            memory_megahertz: self.get_which(b"nvmlDeviceGetClockInfo\0", device, CLOCK_MEM),
        })
    }
}

impl Drop for Nvml {
    fn drop(&mut self) {
        if !self.open {
            return;
        }
        self.call(b"nvmlShutdown\0", |function: &Symbol<'_, unsafe extern "C" fn() -> Code>| {
            // SAFETY: takes nothing, and no handle is used after it.
            unsafe { function() }
        });
    }
}

fn text(bytes: &[c_char]) -> String {
    let bytes: Vec<u8> = bytes.iter().map(|byte| byte.to_ne_bytes()[0]).collect();
    CStr::from_bytes_until_nul(&bytes).map(|text| text.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Asks the library at every sample.
pub struct NvmlCollector {
    devices: PathBuf,
    foreign: bool,
    energies: HashMap<String, (Counter, Timestamp)>,
}

impl NvmlCollector {
    /// Of this machine; of another tree there is no library.
    pub fn new(roots: &Roots) -> Self {
        let devices = roots.sys.join("bus/pci/devices");
        Self { devices, foreign: roots.foreign, energies: HashMap::new() }
    }

    fn tell(&mut self, index: usize, card: Card, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let id = card.address.unwrap_or_else(|| format!("gpu{index}"));
        let hertz = |megahertz: Option<c_uint>| megahertz.map(|it| u64::from(it) * 1_000_000);
        let percent = |it: c_uint| micro(f64::from(it) / 100.0);
        out.emit(
            sample.ts,
            &Gpu {
                gpu: id.clone(),
                name: card.name.clone(),
                source: "nvml".into(),
                frequency_hz: hertz(card.megahertz),
                memory_frequency_hz: hertz(card.memory_megahertz),
                utilization_ratio: card.utilization.as_ref().map(|it| percent(it.gpu)),
                memory_utilization_ratio: card.utilization.as_ref().map(|it| percent(it.memory)),
                memory_used_bytes: card.memory.as_ref().map(|it| it.used),
                memory_total_bytes: card.memory.as_ref().map(|it| it.total),
                ..Gpu::default()
            },
        )?;
        if let Some(celsius) = card.celsius {
            out.emit(
                sample.ts,
                &Temperature {
                    sensor_id: id.clone(),
                    component: "gpu",
                    label: card.name,
                    source: "nvml".into(),
                    temperature_celsius: f64::from(celsius),
                    ..Temperature::default()
                },
            )?;
        }
        if card.milliwatts.is_none() && card.millijoules.is_none() {
            return Ok(());
        }
        let energy = card.millijoules.map(|now| {
            let (counter, start) =
                self.energies.entry(id.clone()).or_insert_with(|| (Counter::new(None), sample.ts));
            counter.read(now);
            (counter.total() as f64 / 1e3, *start)
        });
        out.emit(
            sample.ts,
            &Power {
                start_ts: energy.map(|(_, start)| start),
                domain: "gpu".into(),
                zone: Some(id),
                source: "nvml".into(),
                counted: true,
                energy_joules: energy.map(|(joules, _)| joules),
                power_watts: card.milliwatts.map(|it| micro(f64::from(it) / 1e3)),
                ..Power::default()
            },
        )
    }
}

impl Collector for NvmlCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&GPU, &POWER, &TEMPERATURE]
    }

    fn method(&self) -> String {
        LIBRARY.into()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if self.foreign || !sample.write {
            return Ok(());
        }
        let cards = cards(&self.devices);
        let sleeping: Vec<_> = cards.iter().filter(|(_, path)| sys::asleep(path)).collect();
        if !sleeping.is_empty() {
            return sleeping.into_iter().try_for_each(|(address, _)| {
                let status = Some("suspended".to_owned());
                let source = "nvml".to_owned();
                out.emit(
                    sample.ts,
                    &Gpu { gpu: address.clone(), source, runtime_status: status, ..Gpu::default() },
                )
            });
        }
        match Nvml::open() {
            None if cards.is_empty() => {
                out.status(sample.ts, LIBRARY, Reason::Absent, "no NVIDIA card, and no driver of one")
            }
            None => {
                out.status(sample.ts, LIBRARY, Reason::Absent, "there is a card; install NVIDIA's driver")
            }
            Some(Err(code)) => {
                let detail =
                    format!("the library does not start: code {code} of nvml.h; does the driver run?");
                out.status(sample.ts, LIBRARY, Reason::Unsupported, &detail)
            }
            Some(Ok(nvml)) => {
                let cards = nvml.cards();
                drop(nvml);
                cards
                    .into_iter()
                    .enumerate()
                    .try_for_each(|(index, card)| self.tell(index, card, sample, out))
            }
        }
    }
}

/// NVIDIA's display controllers on the PCI bus.
fn cards(devices: &Path) -> Vec<(String, PathBuf)> {
    let mut found = sys::entries(devices, "");
    found.retain(|(_, path)| {
        let is =
            |file: &str, begins: &str| sys::word(&path.join(file)).is_some_and(|it| it.starts_with(begins));
        is("vendor", "0x10de") && is("class", "0x03")
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_are_found_by_vendor_and_class_and_may_sleep() {
        let dir = tempfile::tempdir().unwrap();
        for (address, vendor, class, status) in [
            ("0000:01:00.0", "0x10de", "0x030000", "suspended"),
            ("0000:02:00.0", "0x10de", "0x030200", "active"),
            ("0000:01:00.1", "0x10de", "0x040300", "suspended"),
            ("0000:03:00.0", "0x8086", "0x030000", "suspended"),
        ] {
            let device = dir.path().join(address);
            std::fs::create_dir_all(device.join("power")).unwrap();
            for (file, text) in [("vendor", vendor), ("class", class), ("power/runtime_status", status)] {
                std::fs::write(device.join(file), format!("{text}\n")).unwrap();
            }
        }
        let cards = cards(dir.path());
        let told: Vec<_> =
            cards.iter().map(|(address, path)| (address.as_str(), sys::asleep(path))).collect();
        assert_eq!(told, [("0000:01:00.0", true), ("0000:02:00.0", false)]);
    }
}
