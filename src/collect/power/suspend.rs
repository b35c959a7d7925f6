//! How long the machine was suspended: CLOCK_BOOTTIME goes on, CLOCK_MONOTONIC does not.

use rustix::time::{ClockId, clock_gettime};

/// Less than this is the time between two looks at clocks.
const NOISE_S: f64 = 0.01;

/// Remembers the difference of the two clocks.
pub struct Suspend {
    before: Option<f64>,
    foreign: bool,
}

impl Suspend {
    /// Of another machine nothing is known.
    pub fn new(foreign: bool) -> Self {
        Self { before: None, foreign }
    }

    /// The seconds suspended since the last call; `None` if there were none.
    pub fn since_last(&mut self) -> Option<f64> {
        if self.foreign {
            return None;
        }
        let seconds = |clock| {
            let time = clock_gettime(clock);
            time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
        };
        let (monotonic, boot) = (seconds(ClockId::Monotonic), seconds(ClockId::Boottime));
        self.suspended(boot - monotonic)
    }

    fn suspended(&mut self, difference: f64) -> Option<f64> {
        let grown = difference - self.before.replace(difference)?;
        (grown > NOISE_S).then(|| crate::collect::micro(grown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_that_part_tell_of_suspension() {
        let mut suspend = Suspend::new(false);
        let told = [5.0, 5.0001, 65.0001, 65.0].map(|difference| suspend.suspended(difference));
        assert_eq!(told, [None, None, Some(60.0), None]);
    }
}
