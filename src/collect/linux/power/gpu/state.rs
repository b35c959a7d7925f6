//! The values read of a GPU in one sample, and what is kept of it until the next.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::collect::linux::power::chip::Chip;
use crate::collect::linux::power::energy_counter::{EnergyCounter, Moment, Reading};
use crate::collect::linux::power::sysfs::{number, word};
use crate::collect::micro;
use crate::record::Gpu;

/// The readings of a GPU in one sample.
#[derive(Default)]
pub struct Values {
    /// The record, filled as far as the driver knows.
    pub gpu: Gpu,
    /// The energy counter, and its counts per joule.
    pub energy: Option<(u64, f64)>,
    /// Power in watts, as the device measures it.
    pub power_watts: Option<f64>,
    /// The counter of idle milliseconds.
    pub idle_ms: Option<u64>,
    /// The chip's temperature, unless a hwmon chip has it.
    pub temperature_celsius: Option<f64>,
    /// Its power is part of the processor package's.
    pub integrated: bool,
    /// Its hwmon chips.
    pub chips: Vec<Chip>,
}

/// The state of a GPU from one sample to the next.
#[derive(Default)]
pub struct State {
    counter: Option<EnergyCounter>,
    idle_ms: Option<(u64, Instant)>,
    /// Until when it is not read.
    pub quiet_until: Option<Instant>,
}

impl State {
    /// Forgets everything but the energy counter, because the GPU sleeps.
    pub fn asleep(&mut self) {
        *self = Self { counter: self.counter.take(), ..Self::default() };
    }

    /// Advances the energy counter.
    pub fn energy(&mut self, energy: Option<(u64, f64)>) -> Option<Reading> {
        let (raw, per_joule) = energy?;
        let at = Moment::now();
        match &mut self.counter {
            Some(counter) => Some(counter.advance(raw, at)),
            // It counts since the driver was loaded, at an unknown time.
            None => Some(self.counter.insert(EnergyCounter::new(raw, None, per_joule, None, at)).first()),
        }
    }

    /// Sets the idle and active shares of the time since the last reading, from the counter of idle time.
    pub fn idle(&mut self, values: &mut Values) {
        let now = values.idle_ms.map(|ms| (ms, Instant::now()));
        let before = std::mem::replace(&mut self.idle_ms, now);
        if let (Some((ms, at)), Some((ms_before, at_before))) = (now, before)
            && let Some(idle) = ms.checked_sub(ms_before)
        {
            let passed = (at - at_before).as_secs_f64();
            let ratio = micro((idle as f64 / 1e3 / passed.max(1e-3)).min(1.0));
            values.gpu.idle_ratio = Some(ratio);
            values.gpu.active_ratio = Some(micro(1.0 - ratio));
            values.gpu.interval_s = Some(micro(passed));
        }
    }

    /// Leaves an idle GPU alone for a while. Each reading keeps it awake for its `autosuspend_delay_ms`, so one that is
    /// idle and may sleep gets three times as long without a reading.
    pub fn rest(&mut self, device: &Path, gpu: &Gpu) {
        let may_sleep = word(device.join("power/control")).is_some_and(|control| control == "auto")
            && gpu.runtime_status.is_some();
        let idle = gpu.utilization_ratio == Some(0.0) || gpu.active_ratio.is_some_and(|ratio| ratio < 0.01);
        let delay = number(device.join("power/autosuspend_delay_ms")).unwrap_or(5000).clamp(1000, 60_000);
        self.quiet_until = (may_sleep && idle).then(|| Instant::now() + Duration::from_millis(3 * delay));
    }
}
