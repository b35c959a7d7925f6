//! The dictionary `gpu`.

use super::tree::Dict;
use super::{Reader, active, residency, set, states};
use crate::collect::powermetrics::bounds;

impl Reader<'_> {
    pub(super) fn gpu(&mut self, number: u64, gpu: Dict<'_>) {
        for (key, value) in gpu.iter() {
            if key == "gpu_energy" || key == "gpu_power" {
                self.power("gpu", key, value, "gpu.");
                continue;
            }
            let record = self.sample.gpu(number);
            let understood = match (key, value.number()) {
                // In MHz, in spite of its name; what cannot be that is what the name says.
                ("freq_hz", Some(number)) => {
                    let hertz = bounds::hertz(number * 1e6).or_else(|| bounds::hertz(number));
                    set(&mut record.frequency_hz, hertz)
                }
                ("idle_ratio", Some(idle)) => set(&mut record.idle_ratio, bounds::ratio(idle)),
                ("busy_ratio", Some(busy)) => set(&mut record.utilization_ratio, bounds::ratio(busy)),
                ("idle_ns" | "c_state_ns" | "freq_ratio", _) => true,
                ("name", _) => set(&mut record.name, value.text().map(str::to_owned)),
                ("dvfm_states", _) => set(&mut record.residency, residency(value)),
                ("sw_requested_state", _) => set(&mut record.requested, states(value, "sw_req_state")),
                ("sw_state", _) => set(&mut record.states, states(value, "sw_state")),
                ("c_state_ratio", Some(ratio)) => set(&mut record.c_state_ratio, bounds::ratio(ratio)),
                _ => false,
            };
            if !understood {
                self.unknown("gpu.", key, value);
            }
        }
        let record = self.sample.gpu(number);
        if let Some(idle) = record.idle_ratio.filter(|_| gpu.whole) {
            record.active_ratio = active(1.0 - idle, &mut record.residency);
        }
    }
}
