//! Rows of graphics processors.

use super::Text;
use super::Understood::{self, No};
use super::processor::{listed, set};
use crate::collect::powermetrics::value::{
    frequencies, frequency, nominal, numbered, percent, ratio_and, states, steps, whole, with_unit,
};

impl Text {
    /// `GPU 0 name IntelIG`
    pub(super) fn gpu_name(&mut self, text: &str) -> bool {
        let found = text.strip_prefix("GPU ").and_then(numbered);
        let Some((number, rest)) = found else { return false };
        let Some(name) = rest.strip_prefix("name ") else { return false };
        self.sample.gpu(number).name = Some(name.trim().to_owned());
        self.begun = true;
        true
    }

    /// The first one has no number on Apple's processors.
    pub(super) fn of_gpu(&mut self, name: &str, value: &[u8]) -> Understood {
        let (number, what) = numbered(name).unwrap_or((0, name));
        let gpu = self.sample.gpu(number);
        match what {
            "HW active frequency" | "active frequency" => set(&mut gpu.frequency_hz, whole(frequency, value)),
            "HW active residency" | "active residency" => {
                listed(value, frequencies, &mut gpu.active_ratio, &mut gpu.residency)
            }
            "idle residency" => set(&mut gpu.idle_ratio, whole(percent, value)),
            "requested frequency" => {
                let found = whole(frequencies, value);
                let found =
                    found.map(|map| map.into_iter().map(|(hz, part)| (hz.to_string(), part)).collect());
                set(&mut gpu.requested, found)
            }
            "SW requested state" => set(&mut gpu.requested, whole(states, value)),
            "SW state" => set(&mut gpu.states, whole(states, value)),
            // Intel: what the package says of its graphics, and what the graphics' driver says.
            "Active" => set(&mut gpu.active_ratio, whole(percent, value)),
            "P-state residency" => set(&mut gpu.residency, whole(steps, value)),
            "GPU Busy" => set(&mut gpu.utilization_ratio, whole(percent, value)),
            "C-state residency" => match ratio_and(value, |it| Ok((&it[it.len()..], ()))) {
                Some((ratio, _)) => set(&mut gpu.c_state_ratio, Some(ratio)),
                None => No,
            },
            _ if what.starts_with("average active frequency as fraction of nominal") => {
                set(&mut gpu.frequency_hz, nominal(value).map(|(_, hz)| hz))
            }
            _ => of_display(what, value).into(),
        }
    }
}

/// What the driver of Intel's graphics tells of the display, its power saving and its throttling, which is no power.
fn of_display(what: &str, value: &[u8]) -> bool {
    let begins = [
        "[PSR] ",
        "DC6 ",
        "DPB ",
        "Throttle ",
        "Slice switch",
        "FPS",
        "PPFM on",
        "FB Test Case",
        "HW average",
    ];
    let slices = || what.strip_suffix(" on").is_some_and(|it| it.contains("Slice"));
    let named = begins.iter().any(|begin| what.starts_with(begin)) || slices();
    named && (whole(percent, value).is_some() || with_unit(value, "").is_some())
}
