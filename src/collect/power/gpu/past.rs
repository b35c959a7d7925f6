//! What is remembered of a graphics processor from one sample to the next.

use std::path::Path;
use std::time::{Duration, Instant};

use super::Values;
use crate::collect::micro;
use crate::collect::power::meter::{Meter, Moment, Reading};
use crate::collect::power::sysfs::{number, word};
use crate::record::Gpu;

/// What is remembered of one.
#[derive(Default)]
pub struct Past {
    meter: Option<Meter>,
    idle_ms: Option<(u64, Instant)>,
    /// Until when it is left alone.
    pub quiet_until: Option<Instant>,
}

impl Past {
    /// It sleeps: only its energy goes on from where it was.
    pub fn asleep(&mut self) {
        *self = Self { meter: self.meter.take(), ..Self::default() };
    }

    /// The energy counter's reading.
    pub fn energy(&mut self, energy: Option<(u64, f64)>) -> Option<Reading> {
        let (raw, per_joule) = energy?;
        let at = Moment::now();
        match &mut self.meter {
            Some(meter) => Some(meter.advance(raw, at)),
            // When it began to count (the driver was loaded) is not told.
            None => Some(self.meter.insert(Meter::new(raw, None, per_joule, None, at)).first()),
        }
    }

    /// The parts of the time since the last look, of which a rest is part, that follow from the counter of idle time.
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

    /// Each question is a use, after which a device stays awake for its `autosuspend_delay_ms`. One that has
    /// nothing to do and may sleep gets three times as long without any.
    pub fn rest(&mut self, device: &Path, gpu: &Gpu) {
        let may_sleep = word(device.join("power/control")).is_some_and(|control| control == "auto")
            && gpu.runtime_status.is_some();
        let idle = gpu.utilization_ratio == Some(0.0) || gpu.active_ratio.is_some_and(|ratio| ratio < 0.01);
        let delay = number(device.join("power/autosuspend_delay_ms")).unwrap_or(5000).clamp(1000, 60_000);
        self.quiet_until = (may_sleep && idle).then(|| Instant::now() + Duration::from_millis(3 * delay));
    }
}
