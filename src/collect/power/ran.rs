//! /proc/stat → which CPUs ran in the interval: cpuidle counts a stay when it ends, so that a CPU that slept all the
//! time and one that ran all the time look the same there.

use std::collections::HashMap;

use crate::collect::cpu::Ticks;
use crate::collect::text::{lines, number, split_word};
use crate::collect::{Roots, Source};

/// Remembers the modes of every CPU.
pub struct Ran {
    stat: Source,
    now: HashMap<u32, Ticks>,
    before: HashMap<u32, Ticks>,
}

/// From this part of the time on, a CPU counts as having run in all of it: ticks are coarse.
const ALL: f64 = 0.9;

impl Ran {
    /// Of that tree.
    pub fn new(roots: &Roots) -> Self {
        Self { stat: Source::new(roots.proc.join("stat")), now: HashMap::new(), before: HashMap::new() }
    }

    /// Another sample. If it cannot be read, nothing is known of any CPU.
    pub fn read(&mut self) {
        self.before = std::mem::take(&mut self.now);
        let cpu = |line: &[u8]| -> Option<(u32, Ticks)> {
            let (name, rest) = split_word(line);
            let cpu = number(name.strip_prefix(b"cpu")?)?.try_into().ok()?;
            Some((cpu, Ticks::parse(rest)))
        };
        let Ok(bytes) = self.stat.read() else { return };
        // They come first; the long line of interrupts after them is not looked at.
        let of_cpus = lines(bytes).take_while(|line| line.starts_with(b"cpu"));
        self.now = of_cpus.filter_map(cpu).collect();
    }

    /// Whether it ran in all the time since the sample before.
    pub fn all_the_time(&self, cpu: u32) -> bool {
        let Some(now) = self.now.get(&cpu) else { return false };
        now.record(self.before.get(&cpu), 1.0).utilization_ratio.is_some_and(|ratio| ratio >= ALL)
    }
}
