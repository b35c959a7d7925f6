//! Reads /proc/stat into `cpu` records, and with /proc/uptime into `kernel` records.

use std::collections::HashMap;

use anyhow::Result;

use crate::collect::text::{decimal, lines, number, split_word, words};
use crate::collect::{Collector, Roots, Sample, Settings, Source, rate, ratio};
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::{CPU, Cpu, KERNEL, Kernel, Kind};

/// Reads /proc/stat (kernel `fs/proc/stat.c`) and /proc/uptime.
pub struct StatCollector {
    stat: Source,
    uptime: Source,
    per_cpu: bool,
    ticks_per_s: f64,
    before: Snapshot,
}

/// One reading of /proc/stat.
#[derive(Clone, Default)]
pub struct Snapshot {
    /// The line of all CPUs together.
    total: Option<Ticks>,
    /// The numbers of the CPUs that are online, in the order of the file.
    online: Vec<u32>,
    /// The line of each CPU, with `per_cpu` only.
    pub cpus: HashMap<u32, Ticks>,
    /// The counters that are not CPU time.
    counts: Kernel,
}

impl StatCollector {
    /// Reads below `settings.roots`; opens nothing yet.
    pub fn new(settings: &Settings) -> Self {
        let Settings { roots, per_cpu, .. } = settings;
        Self {
            stat: Source::new(roots.proc.join("stat")),
            uptime: Source::new(roots.proc.join("uptime")),
            per_cpu: *per_cpu,
            ticks_per_s: ticks_per_second(roots) as f64,
            before: Snapshot::default(),
        }
    }

    fn kernel(&mut self, before: &Kernel, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        if !sample.wants(&KERNEL) {
            return Ok(());
        }
        let uptime = self.uptime.read_or_report(sample.ts, out)?.map(|bytes| decimal(split_word(bytes).0));
        if uptime == Some(None) {
            self.uptime.report_invalid(sample.ts, out, "the two numbers of uptime")?;
        }
        let per_s = |now, before| rate(now, before, sample.interval);
        let now = self.before.counts.clone();
        let record = Kernel {
            start_ts: sample.boot,
            uptime_s: uptime.flatten(),
            interval_s: sample.interval_s(),
            context_switches_per_s: per_s(now.context_switches, before.context_switches),
            interrupts_per_s: per_s(now.interrupts, before.interrupts),
            softirqs_per_s: per_s(now.softirqs, before.softirqs),
            forks_per_s: per_s(now.forks, before.forks),
            ..now
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
        // A sample that failed leaves nothing to compare the next one with.
        let before = std::mem::take(&mut self.before);
        let Some(bytes) = self.stat.read_or_report(sample.ts, out)? else { return Ok(()) };
        let Some(now) = Snapshot::parse(bytes, self.per_cpu) else {
            return self.stat.report_invalid(sample.ts, out, "the lines of /proc/stat");
        };
        if sample.wants(&CPU) {
            let records = now.records(&before, self.per_cpu, self.ticks_per_s, sample);
            records.iter().try_for_each(|record| out.emit(sample.ts, record))?;
        }
        self.before = now;
        self.kernel(&before.counts, sample, out)
    }
}

impl Snapshot {
    /// `None` if no line is known.
    pub fn parse(bytes: &[u8], per_cpu: bool) -> Option<Self> {
        let mut now = Self::default();
        let mut seen = false;
        for line in lines(bytes) {
            let (name, rest) = split_word(line);
            match name.strip_prefix(b"cpu") {
                Some(b"") => now.total = Some(Ticks::parse(rest)),
                Some(digits) => {
                    let Some(id) = number(digits).and_then(|id| u32::try_from(id).ok()) else { continue };
                    now.online.push(id);
                    if per_cpu {
                        now.cpus.insert(id, Ticks::parse(rest));
                    }
                }
                None => seen |= read_count(&mut now.counts, name, rest),
            }
        }
        (seen || now.total.is_some() || !now.online.is_empty()).then_some(now)
    }

    /// The busy and the idle ticks of all CPUs since `before`. Stolen ticks are neither: this machine did not use their
    /// energy. `None` if the set of CPUs changed, as the idle time jumps then.
    pub fn busy_and_idle(&self, before: &Self) -> Option<(u64, u64)> {
        let (now, earlier) = (self.total?, before.total?);
        let grown = |modes: &[usize]| {
            let sum =
                |ticks: Ticks| modes.iter().filter_map(|mode| ticks.0[*mode]).fold(0, u64::saturating_add);
            sum(now).saturating_sub(sum(earlier))
        };
        let comparable = self.online == before.online && now.0[IDLE].is_some();
        comparable.then(|| (grown(&BUSY), grown(&[IDLE, IOWAIT])))
    }

    /// The record of all CPUs together, then with `--per-cpu` that of each.
    ///
    /// When a CPU goes offline or comes back, the kernel counts its idle time in another way
    /// (`get_idle_time`), and the total jumps by up to the uptime: no ratios over that interval.
    fn records(&self, before: &Self, per_cpu: bool, ticks_per_s: f64, sample: &Sample<'_>) -> Vec<Cpu> {
        let record = |ticks: &Ticks, before: Option<&Ticks>| {
            let record = Cpu { start_ts: sample.boot, ..ticks.record(before, ticks_per_s) };
            Cpu { interval_s: record.utilization_ratio.and(sample.interval_s()), ..record }
        };
        let comparable = before.total.as_ref().filter(|_| before.online == self.online);
        let total = self.total.iter().map(|ticks| Cpu {
            per_cpu: per_cpu.then_some(true),
            logical_cpus: u32::try_from(self.online.len()).ok().filter(|&online| online > 0),
            ..record(ticks, comparable)
        });
        let each = self.online.iter().filter_map(|id| {
            let ticks = self.cpus.get(id)?;
            Some(Cpu { cpu: Some(*id), ..record(ticks, before.cpus.get(id)) })
        });
        total.chain(each).collect()
    }
}

/// True if the line is a counter that we report.
fn read_count(counts: &mut Kernel, name: &[u8], rest: &[u8]) -> bool {
    let field = match name {
        b"ctxt" => &mut counts.context_switches,
        b"intr" => &mut counts.interrupts,
        b"softirq" => &mut counts.softirqs,
        b"processes" => &mut counts.forks,
        b"procs_running" => &mut counts.running,
        b"procs_blocked" => &mut counts.blocked,
        _ => return false,
    };
    *field = number(split_word(rest).0);
    field.is_some()
}

/// One `cpu` line: user, nice, system, idle, iowait, irq, softirq, steal, guest, guest_nice.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Ticks([Option<u64>; 10]);

/// The modes that do not overlap: all but the last two.
const DISJOINT: usize = 8;
const IDLE: usize = 3;
const IOWAIT: usize = 4;
/// User, nice, system, irq and softirq.
const BUSY: [usize; 5] = [0, 1, 2, 5, 6];

impl Ticks {
    /// Parses the numbers after the name of the CPU.
    pub fn parse(line: &[u8]) -> Self {
        let mut ticks = Self::default();
        for (slot, word) in ticks.0.iter_mut().zip(words(line)) {
            *slot = number(word);
        }
        ticks
    }

    /// The ticks since `before`, by mode. Idle and iowait can go back by a tick: that counts as 0.
    fn since(&self, before: &Self) -> [Option<u64>; 10] {
        std::array::from_fn(|mode| Some(self.0[mode]?.saturating_sub(before.0[mode]?)))
    }

    /// The times, and the ratios if there is a sample to compare with.
    pub fn record(&self, before: Option<&Self>, ticks_per_s: f64) -> Cpu {
        let seconds = self.0.map(|ticks| Some(ticks? as f64 / ticks_per_s));
        let [user_s, nice_s, system_s, idle_s, iowait_s, irq_s, softirq_s, steal_s, guest_s, guest_nice_s] =
            seconds;
        let passed = before.map(|before| self.since(before)).unwrap_or_default();
        let total = passed[..DISJOINT].iter().flatten().fold(0, |sum: u64, &ticks| sum.saturating_add(ticks));
        let ratios = passed.map(|ticks| ratio(ticks?, total));
        let [user_ratio, nice_ratio, system_ratio, idle_ratio, iowait_ratio, ..] = ratios;
        let [.., irq_ratio, softirq_ratio, steal_ratio, guest_ratio, guest_nice_ratio] = ratios;
        let idle = passed[IDLE].map(|idle| idle.saturating_add(passed[IOWAIT].unwrap_or(0)));
        Cpu {
            user_s,
            nice_s,
            system_s,
            idle_s,
            iowait_s,
            irq_s,
            softirq_s,
            steal_s,
            guest_s,
            guest_nice_s,
            utilization_ratio: idle.and_then(|idle| ratio(total.saturating_sub(idle), total)),
            user_ratio,
            nice_ratio,
            system_ratio,
            idle_ratio,
            iowait_ratio,
            irq_ratio,
            softirq_ratio,
            steal_ratio,
            guest_ratio,
            guest_nice_ratio,
            ..Cpu::default()
        }
    }
}

/// The boot time, from the line `btime` of /proc/stat.
///
/// Read once per run: the kernel derives it from the wall clock, and a step of that
/// clock must not look like a reset of all counters.
pub fn boot_time(roots: &Roots) -> Option<Timestamp> {
    let mut stat = Source::new(roots.proc.join("stat"));
    let line = lines(stat.read().ok()?).find_map(|line| line.strip_prefix(b"btime "))?;
    Some(Timestamp(number(line.trim_ascii())?.checked_mul(1_000_000_000)?))
}

/// `USER_HZ`: the ticks of /proc per second. For a foreign root it is 100, as on every
/// architecture but Alpha.
pub fn ticks_per_second(roots: &Roots) -> u64 {
    if roots.foreign { 100 } else { rustix::param::clock_ticks_per_second().max(1) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::time::Duration;

    #[test]
    fn the_first_number_of_a_long_line_is_its_total() {
        let mut counts = Kernel::default();
        assert!(read_count(&mut counts, b"intr", b" 8885917 17 0 0"));
        assert!(read_count(&mut counts, b"ctxt", b" 38014093"));
        assert!(!read_count(&mut counts, b"procs_running", b""));
        assert!(!read_count(&mut counts, b"page", b" 1 2"));
        let expected =
            Kernel { interrupts: Some(8_885_917), context_switches: Some(38_014_093), ..Kernel::default() };
        assert_eq!(counts, expected);
    }

    #[test]
    fn busy_and_idle_ticks_of_the_same_cpus() {
        let at = |text: &str| Snapshot::parse(text.as_bytes(), false).unwrap();
        let before = at("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 1 2 3 4\n");
        let now = at("cpu  100 1 20 1000 50 3 4 500 60 1\ncpu0 1 2 3 4\n");
        assert_eq!(now.busy_and_idle(&before), Some((128, 1050)));
        assert_eq!(at("cpu 1 2 3 4\ncpu0 1 2 3 4\nintr 1 2\n").busy_and_idle(&before), Some((6, 4)));
        for text in ["cpu 1 2 3 4\ncpu0 1 2 3 4\ncpu7 1 2 3 4\n", "cpu0 1 2 3 4\n", "cpu 1 2 3\ncpu0 1 2 3\n"]
        {
            assert_eq!(at(text).busy_and_idle(&before), None, "{text}");
        }
    }

    #[test]
    fn ratios_of_the_disjoint_modes_add_up() {
        let before = Ticks::parse(b" 100 10 50 1000 20 1 2 3 40 5");
        let after = Ticks::parse(b" 130 11 60 1040 25 2 5 13 60 6");
        let cpu = after.record(Some(&before), 100.0);
        // 100 ticks: 30 user (20 of them a guest), 1 nice, 10 system, 40 idle, 5 iowait, 1, 3, 10.
        assert_eq!((cpu.user_s, cpu.guest_nice_s), (Some(1.3), Some(0.06)));
        assert_eq!((cpu.user_ratio, cpu.guest_ratio, cpu.nice_ratio), (Some(0.3), Some(0.2), Some(0.01)));
        assert_eq!((cpu.irq_ratio, cpu.softirq_ratio, cpu.steal_ratio), (Some(0.01), Some(0.03), Some(0.1)));
        assert_eq!((cpu.idle_ratio, cpu.iowait_ratio), (Some(0.4), Some(0.05)));
        assert_eq!((cpu.utilization_ratio, cpu.guest_nice_ratio), (Some(0.55), Some(0.01)));
    }

    #[test]
    fn modes_missing_from_the_line_are_absent() {
        let cpu = Ticks::parse(b" 100 10 50 1000").record(None, 100.0);
        assert_eq!((cpu.user_s, cpu.idle_s, cpu.iowait_s, cpu.steal_s), (Some(1.0), Some(10.0), None, None));
        assert_eq!((cpu.utilization_ratio, cpu.user_ratio), (None, None));
        let cpu = Ticks::parse(b" 100 x -5").record(Some(&Ticks::default()), 100.0);
        assert_eq!((cpu.user_s, cpu.nice_s, cpu.system_s, cpu.user_ratio), (Some(1.0), None, None, None));
    }

    #[test]
    fn a_mode_that_goes_back_counts_as_zero() {
        let (before, after) = (Ticks::parse(b" 10 0 0 100 50"), Ticks::parse(b" 20 0 0 130 40"));
        let cpu = after.record(Some(&before), 100.0);
        assert_eq!((cpu.user_ratio, cpu.idle_ratio, cpu.iowait_ratio), (Some(0.25), Some(0.75), Some(0.0)));
        let same = after.record(Some(&after), 100.0);
        assert_eq!((same.utilization_ratio, same.user_ratio), (None, None));
    }

    /// Utilization of all CPUs, then of each, in consecutive samples.
    fn utilization(texts: &[&str], per_cpu: bool) -> Vec<Vec<Option<f64>>> {
        let ts = Timestamp(0);
        let interval = Some(Duration::from_secs(1));
        let sample = Sample { ts, boot: None, interval, write: true, inventory: false, wanted: &|_| true };
        let mut before = Snapshot::default();
        let rows = texts.iter().map(|text| {
            let now = Snapshot::parse(text.as_bytes(), per_cpu).unwrap();
            let records = now.records(&before, per_cpu, 100.0, &sample);
            before = now;
            for record in &records {
                assert_eq!(record.interval_s.is_some(), record.utilization_ratio.is_some());
                assert_eq!(record.idle_ratio.is_some(), record.utilization_ratio.is_some());
            }
            records.iter().map(|record| record.utilization_ratio).collect()
        });
        rows.collect()
    }

    /// Seen on Linux 6.18: as CPU 1 goes offline, idle grows by 69 s and iowait falls by 32 s.
    #[test]
    fn no_ratio_of_all_cpus_over_an_interval_in_which_one_went_or_came() {
        let both = "cpu  100 0 0 1000 3300\ncpu0 50 0 0 500 1650\ncpu1 50 0 0 500 1650\n";
        let later = "cpu  150 0 0 1050 3300\ncpu0 100 0 0 500 1650\ncpu1 50 0 0 550 1650\n";
        let one = "cpu  160 0 0 7950 100\ncpu0 110 0 0 540 1650\n";
        let still_one = "cpu  185 0 0 8025 100\ncpu0 135 0 0 615 1650\n";
        let back = "cpu  190 0 0 1200 3300\ncpu0 140 0 0 620 1650\ncpu1 50 0 0 600 1650\n";
        let texts = [both, later, one, still_one, back, back];
        let total: Vec<_> = utilization(&texts, false).into_iter().map(|row| row[0]).collect();
        assert_eq!(total, [None, Some(0.5), None, Some(0.25), None, None]);
        let each = utilization(&texts, true);
        assert_eq!(each[1], [Some(0.5), Some(1.0), Some(0.0)]);
        assert_eq!(each[2], [None, Some(0.2)]);
        assert_eq!(each[4], [None, Some(0.5), None]);
    }

    proptest! {
        #[test]
        fn ratios_stay_between_0_and_1(a: [u64; 10], b: [u64; 10]) {
            let cpu = Ticks(a.map(Some)).record(Some(&Ticks(b.map(Some))), 100.0);
            for ratio in [cpu.user_ratio, cpu.idle_ratio, cpu.steal_ratio, cpu.utilization_ratio] {
                prop_assert!(ratio.is_none_or(|ratio| (0.0..=1.0).contains(&ratio)));
            }
        }

        #[test]
        fn any_bytes_are_parsed(text in "((cpu|cpu[0-9]|ctxt|intr)?[0-9 x-]{0,60}\n?|.){0,6}", per_cpu: bool) {
            Snapshot::parse(text.as_bytes(), per_cpu);
        }
    }
}
