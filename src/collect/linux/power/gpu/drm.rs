//! GPUs in /sys/class/drm, and what amdgpu, i915 and xe report there (kernel `Documentation/gpu/amdgpu/thermal.rst`,
//! `drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c`, `drivers/gpu/drm/xe/xe_gt_freq.c`, `xe_gt_idle.c`).

use std::io;
use std::path::{Path, PathBuf};

use super::state::Values;
use crate::collect::linux::power::chip::Chip;
use crate::collect::linux::power::sysfs::{folder, folders, number, numbered, scaled, word};

/// A GPU as sysfs lists it. Listing does not wake it.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    /// Its PCI address, or its card name.
    pub id: String,
    /// Its kernel driver.
    pub driver: String,
    /// Its folder.
    pub folder: PathBuf,
    /// Its folder in /sys/class/drm, if it is a card.
    pub card: Option<PathBuf>,
}

impl Device {
    /// Lists the cards, and NVIDIA's devices that are not cards.
    ///
    /// # Errors
    /// If the cards cannot be listed.
    pub fn all(sys: &Path) -> io::Result<Vec<Self>> {
        let cards = match numbered(&sys.join("class/drm"), "card") {
            Ok(cards) => cards,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let mut found: Vec<Self> = Vec::new();
        for (at, card) in cards {
            let Some(device) = folder(&card.join("device")) else { continue };
            let (slot, driver) = (uevent(&device, "PCI_SLOT_NAME"), uevent(&device, "DRIVER"));
            let id = slot.unwrap_or_else(|| format!("card{at}"));
            found.push(Self { id, driver: driver.unwrap_or_default(), folder: device, card: Some(card) });
        }
        for (id, folder) in folders(&sys.join("bus/pci/devices"), "").unwrap_or_default() {
            let is =
                |file: &str, begin: &str| word(folder.join(file)).is_some_and(|text| text.starts_with(begin));
            let known = found.iter().any(|device| device.id == id);
            // PCI class 0x03: displays and 3D controllers.
            if !known && is("vendor", "0x10de") && is("class", "0x03") {
                let driver = uevent(&folder, "DRIVER").unwrap_or_default();
                found.push(Self { id, driver, folder, card: None });
            }
        }
        Ok(found)
    }
}

/// A value in the file `uevent`, which the kernel answers without the device.
fn uevent(device: &Path, key: &str) -> Option<String> {
    let text = word(device.join("uevent"))?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.map(str::to_owned)
}

/// Reads the files of a device's driver; for unknown drivers only its hwmon chips.
pub fn read(driver: &str, device: &Device, values: &mut Values) {
    values.chips = chips(&device.folder, driver);
    match driver {
        "amdgpu" => amdgpu(&device.folder, values),
        "i915" => i915(device.card.as_deref().unwrap_or(&device.folder), values),
        "xe" => xe(&device.folder, values),
        _ => {}
    }
    let Some(chip) = values.chips.first() else { return };
    let input = |file: &str| number(chip.folder.join(file));
    values.energy = input("energy1_input").map(|uj| (uj, 1e6));
    values.power_watts = scaled(chip.file("power1"), 1e6).ok();
    values.integrated = !chip.is_discrete();
}

/// The hwmon chips of a device, the one with the driver's name first: a card with several tiles has one more for each.
fn chips(device: &Path, driver: &str) -> Vec<Chip> {
    let found = folders(&device.join("hwmon"), "hwmon").unwrap_or_default();
    let mut chips: Vec<_> = found.into_iter().map(|(name, folder)| Chip::new(&name, folder)).collect();
    chips.sort_by_key(|chip| chip.name != driver);
    chips
}

fn amdgpu(device: &Path, values: &mut Values) {
    // Firmware that does not know reports a 16-bit register with all bits set.
    let percent =
        |file: &str| scaled(device.join(file), 100.0).ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    let hertz = |file: &str| values.chips.first().and_then(|chip| number(chip.folder.join(file)));
    let level = |file: &str| current_level(&word(device.join(file))?);
    let gpu = &mut values.gpu;
    gpu.name = word(device.join("product_name"));
    gpu.utilization_ratio = percent("gpu_busy_percent");
    gpu.memory_utilization_ratio = percent("mem_busy_percent");
    gpu.memory_used_bytes = number(device.join("mem_info_vram_used"));
    gpu.memory_total_bytes = number(device.join("mem_info_vram_total"));
    gpu.frequency_hz = hertz("freq1_input").or_else(|| level("pp_dpm_sclk"));
    gpu.memory_frequency_hz = hertz("freq2_input").or_else(|| level("pp_dpm_mclk"));
}

/// The frequency of the line with the star: `1: 991Mhz *`.
fn current_level(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.trim_end().ends_with('*'))?;
    let (_, value) = line.split_once(':')?;
    let megahertz = value.trim_end_matches([' ', '*']).trim().to_ascii_lowercase();
    megahertz.strip_suffix("mhz")?.parse::<u64>().ok()?.checked_mul(1_000_000)
}

fn i915(card: &Path, values: &mut Values) {
    let first = |files: [&str; 2]| files.iter().find_map(|file| number(card.join(file)));
    let megahertz = first(["gt/gt0/rps_act_freq_mhz", "gt_act_freq_mhz"]);
    values.gpu.frequency_hz = hertz(megahertz);
    values.idle_ms = first(["gt/gt0/rc6_residency_ms", "power/rc6_residency_ms"]);
}

/// 0 means idle, not a frequency.
fn hertz(megahertz: Option<u64>) -> Option<u64> {
    megahertz.filter(|&mhz| mhz > 0)?.checked_mul(1_000_000)
}

fn xe(device: &Path, values: &mut Values) {
    let gt = device.join("tile0/gt0");
    values.gpu.frequency_hz = hertz(number(gt.join("freq0/act_freq")));
    values.idle_ms = number(gt.join("gtidle/idle_residency_ms"));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_level_with_the_star() {
        assert_eq!(current_level("0: 852Mhz \n1: 991Mhz *\n2: 1084Mhz \n"), Some(991_000_000));
        assert_eq!(current_level("S: 15Mhz *\n0: 200Mhz\n"), Some(15_000_000));
        for text in ["", "0: 852Mhz", "0: *", "0 852Mhz *", "0: 99999999999999Mhz *"] {
            assert_eq!(current_level(text), None, "{text}");
        }
    }
}
