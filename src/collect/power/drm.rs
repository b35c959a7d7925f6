//! /sys/class/drm → `gpu`: amdgpu, i915 and xe (kernel `drivers/gpu/drm/amd/pm/amdgpu_pm.c`,
//! `drivers/gpu/drm/i915/gt/intel_gt_sysfs_pm.c`, `drivers/gpu/drm/xe/xe_gt_freq.c`).

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::sys;
use crate::collect::{Collector, Roots, Sample, micro};
use crate::emit::Emitter;
use crate::record::{GPU, Gpu, Kind, Reason};

/// Reads every card that is awake.
pub struct DrmCollector {
    folder: PathBuf,
    /// Milliseconds in the deepest idle state, of Intel.
    idle_ms: HashMap<String, u64>,
}

impl DrmCollector {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        Self { folder: roots.sys.join("class/drm"), idle_ms: HashMap::new() }
    }

    /// Intel counts the time in RC6, and not that of work.
    fn idle(&mut self, card: &str, idle_ms: Option<u64>, sample: &Sample<'_>, record: &mut Gpu) {
        let Some(now) = idle_ms else { return };
        let before = self.idle_ms.insert(card.to_owned(), now);
        let passed = before.and_then(|before| now.checked_sub(before));
        if let (Some(passed), Some(interval)) =
            (passed, sample.interval.filter(|interval| !interval.is_zero()))
        {
            let ratio = micro((passed as f64 / 1e3 / interval.as_secs_f64()).min(1.0));
            (record.idle_ratio, record.active_ratio) = (Some(ratio), Some(micro(1.0 - ratio)));
            record.interval_s = sample.interval_s();
        }
    }
}

impl Collector for DrmCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&GPU]
    }

    fn method(&self) -> String {
        self.folder.display().to_string()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let mut told = false;
        for (card, path) in sys::entries(&self.folder, "card") {
            // `card0-DP-1` is a connector.
            if card["card".len()..].parse::<u32>().is_err() {
                continue;
            }
            let device = sys::resolve(path.join("device"));
            let Some(driver) = driver(&device) else { continue };
            told = true;
            let status = sys::word(&device.join("power/runtime_status"));
            let mut record =
                Gpu { gpu: address(&device).unwrap_or(card.clone()), source: driver, ..Gpu::default() };
            record.runtime_status = status;
            if sys::asleep(&device) {
                self.idle_ms.remove(&card);
            } else if record.source == "amdgpu" {
                amdgpu(&device, &mut record);
            } else {
                let idle = intel(&path, &device, &mut record);
                self.idle(&card, idle, sample, &mut record);
            }
            if sample.wants(&GPU) {
                out.emit(sample.ts, &record)?;
            }
        }
        if told {
            return Ok(());
        }
        let detail = "no graphics card of amdgpu, i915 or xe";
        out.status(sample.ts, &self.folder.to_string_lossy(), Reason::Absent, detail)
    }
}

/// The driver, if it is one that we know.
fn driver(device: &Path) -> Option<String> {
    let uevent = sys::word(&device.join("uevent"))?;
    let driver = uevent.lines().find_map(|line| line.strip_prefix("DRIVER="))?;
    ["amdgpu", "i915", "xe"].contains(&driver).then(|| driver.to_owned())
}

fn address(device: &Path) -> Option<String> {
    let uevent = sys::word(&device.join("uevent"))?;
    uevent.lines().find_map(|line| line.strip_prefix("PCI_SLOT_NAME=")).map(str::to_owned)
}

fn amdgpu(device: &Path, record: &mut Gpu) {
    let count = |name: &str| sys::count(&device.join(name)).ok();
    let percent = |name: &str| sys::number(&device.join(name)).map(|percent| micro(percent / 100.0));
    record.name = sys::word(&device.join("product_name"));
    record.utilization_ratio = percent("gpu_busy_percent");
    record.memory_utilization_ratio = percent("mem_busy_percent");
    record.memory_used_bytes = count("mem_info_vram_used");
    record.memory_total_bytes = count("mem_info_vram_total");
    record.frequency_hz = sys::word(&device.join("pp_dpm_sclk")).and_then(|text| chosen(&text));
    record.memory_frequency_hz = sys::word(&device.join("pp_dpm_mclk")).and_then(|text| chosen(&text));
}

/// Hertz of the line that a star marks: `1: 991Mhz *`.
fn chosen(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_end().strip_suffix('*'))?;
    let megahertz = line.split_once(':')?.1.trim().to_ascii_lowercase();
    megahertz.strip_suffix("mhz")?.trim().parse::<u64>().ok()?.checked_mul(1_000_000)
}

/// Frequency, and milliseconds in RC6 where they are counted.
fn intel(card: &Path, device: &Path, record: &mut Gpu) -> Option<u64> {
    let megahertz = [
        card.join("gt_act_freq_mhz"),
        card.join("gt/gt0/rps_act_freq_mhz"),
        device.join("tile0/gt0/freq0/act_freq"),
    ];
    record.frequency_hz = megahertz.iter().find_map(|path| sys::count(path).ok()?.checked_mul(1_000_000));
    let idle = [
        card.join("power/rc6_residency_ms"),
        card.join("gt/gt0/rc6_residency_ms"),
        device.join("tile0/gt0/gtidle/idle_residency_ms"),
    ];
    idle.iter().find_map(|path| sys::count(path).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_star_marks_the_frequency() {
        assert_eq!(chosen("0: 852Mhz \n1: 991Mhz *\n2: 1084Mhz \n"), Some(991_000_000));
        assert_eq!((chosen("0: 852Mhz\n"), chosen("*"), chosen("")), (None, None, None));
    }
}
