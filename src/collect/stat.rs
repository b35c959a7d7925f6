//! /proc/stat → `cpu`, and with /proc/uptime → `kernel`.

use std::collections::HashMap;

use anyhow::Result;

use super::cpu::Ticks;
use super::text::{decimal, lines, number, split_word};
use super::{Collector, Roots, Sample, Settings, Source, rate, ticks_per_second};
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::{CPU, Cpu, KERNEL, Kernel, Kind};

/// Reads /proc/stat (kernel `fs/proc/stat.c`) and /proc/uptime.
pub struct StatCollector {
    stat: Source,
    uptime: Source,
    per_cpu: bool,
    ticks_per_s: f64,
    /// By CPU; `None` is all together.
    cpus: HashMap<Option<u32>, Ticks>,
    counts: Counts,
}

/// The other lines of /proc/stat.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Counts {
    context_switches: Option<u64>,
    interrupts: Option<u64>,
    softirqs: Option<u64>,
    forks: Option<u64>,
    running: Option<u64>,
    blocked: Option<u64>,
}

impl StatCollector {
    /// Of that tree.
    pub fn new(settings: &Settings) -> Self {
        let Settings { roots, per_cpu, .. } = settings;
        Self {
            stat: Source::new(roots.proc.join("stat")),
            uptime: Source::new(roots.proc.join("uptime")),
            per_cpu: *per_cpu,
            ticks_per_s: ticks_per_second(roots) as f64,
            cpus: HashMap::new(),
            counts: Counts::default(),
        }
    }

    fn kernel(&mut self, before: Counts, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let now = self.counts;
        if !sample.wants(&KERNEL) {
            return Ok(());
        }
        let uptime = self.uptime.read_or_tell(sample.ts, out)?.map(|bytes| decimal(split_word(bytes).0));
        if uptime == Some(None) {
            self.uptime.tell_invalid(sample.ts, out, "the two numbers of uptime")?;
        }
        let per_s = |now, before| rate(now, before, sample.interval);
        let record = Kernel {
            start_ts: sample.boot,
            context_switches: now.context_switches,
            interrupts: now.interrupts,
            softirqs: now.softirqs,
            forks: now.forks,
            running: now.running,
            blocked: now.blocked,
            uptime_s: uptime.flatten(),
            interval_s: sample.interval_s(),
            context_switches_per_s: per_s(now.context_switches, before.context_switches),
            interrupts_per_s: per_s(now.interrupts, before.interrupts),
            softirqs_per_s: per_s(now.softirqs, before.softirqs),
            forks_per_s: per_s(now.forks, before.forks),
        };
        out.emit(sample.ts, &record)
    }
}

impl Collector for StatCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&CPU, &KERNEL]
    }

    fn method(&self) -> String {
        format!("{} and {}", self.stat.path().display(), self.uptime.path().display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        // Only the sample just before counts: what was away has no rates when it is back.
        let before = std::mem::take(&mut self.cpus);
        let counts_before = std::mem::take(&mut self.counts);
        let Some(bytes) = self.stat.read_or_tell(sample.ts, out)? else { return Ok(()) };
        let online = lines(bytes).take_while(|line| line.starts_with(b"cpu")).count().saturating_sub(1);
        let mut counts = Counts::default();
        let mut seen = false;
        for line in lines(bytes) {
            let (name, rest) = split_word(line);
            let Some(cpu) = name.strip_prefix(b"cpu") else {
                seen |= counts.read(name, rest);
                continue;
            };
            let id = match number(cpu).and_then(|id| u32::try_from(id).ok()) {
                Some(_) if !self.per_cpu => continue,
                None if !cpu.is_empty() => continue,
                id => id,
            };
            seen = true;
            let ticks = Ticks::parse(rest);
            self.cpus.insert(id, ticks);
            if sample.wants(&CPU) {
                let times = ticks.record(before.get(&id), self.ticks_per_s);
                let record = Cpu { cpu: id, start_ts: sample.boot, ..times };
                let interval_s = record.utilization_ratio.and(sample.interval_s());
                let all = id.is_none();
                let per_cpu = (self.per_cpu && all).then_some(true);
                let logical_cpus = u32::try_from(online).ok().filter(|&online| all && online > 0);
                out.emit(sample.ts, &Cpu { interval_s, per_cpu, logical_cpus, ..record })?;
            }
        }
        if !seen {
            return self.stat.tell_invalid(sample.ts, out, "the lines of /proc/stat");
        }
        self.counts = counts;
        self.kernel(counts_before, sample, out)
    }
}

impl Counts {
    /// True if the line is one of ours.
    fn read(&mut self, name: &[u8], rest: &[u8]) -> bool {
        let field = match name {
            b"ctxt" => &mut self.context_switches,
            b"intr" => &mut self.interrupts,
            b"softirq" => &mut self.softirqs,
            b"processes" => &mut self.forks,
            b"procs_running" => &mut self.running,
            b"procs_blocked" => &mut self.blocked,
            _ => return false,
        };
        *field = number(split_word(rest).0);
        field.is_some()
    }
}

/// When the system started, as `btime` of /proc/stat has it; `None` if it does not say.
///
/// Read once per run: the kernel derives it from the wall clock, and a step of that
/// clock must not look as if all counters had begun anew.
pub fn boot_time(roots: &Roots) -> Option<Timestamp> {
    let mut stat = Source::new(roots.proc.join("stat"));
    let line = lines(stat.read().ok()?).find_map(|line| line.strip_prefix(b"btime "))?;
    Some(Timestamp(number(line.trim_ascii())?.checked_mul(1_000_000_000)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn counts_take_the_sum_of_a_long_line() {
        let mut counts = Counts::default();
        assert!(counts.read(b"intr", b" 8885917 17 0 0"));
        assert!(counts.read(b"ctxt", b" 38014093"));
        assert!(!counts.read(b"procs_running", b""));
        assert!(!counts.read(b"page", b" 1 2"));
        let expected = Counts { interrupts: Some(8_885_917), context_switches: Some(38_014_093), ..counts };
        assert_eq!(counts, expected);
    }

    proptest! {
        #[test]
        fn no_bytes_break_it(line in proptest::collection::vec(any::<u8>(), 0..80)) {
            let (name, rest) = split_word(&line);
            Counts::default().read(name, rest);
        }
    }
}
