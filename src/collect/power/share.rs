//! The packages' energy, split among processes by their CPU time → `process_power`.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;

use anyhow::Result;

use crate::collect::pidstat::PidStat;
use crate::collect::text::{number, split_word, words};
use crate::collect::{Roots, Sample, unreadable};
use crate::common::emit::Emitter;
use crate::record::{PROCESS_POWER, ProcessPower, Reason};

/// Remembers the CPU time of every process and of all CPUs.
pub struct Share {
    proc: PathBuf,
    /// By process id: its start time and its ticks.
    before: HashMap<u32, (u64, u64)>,
    all_before: Option<AllCpus>,
}

/// Ticks of all CPUs together.
#[derive(Clone, Debug, PartialEq)]
struct AllCpus {
    busy: u64,
    idle: u64,
    /// The numbers of the CPUs that are online.
    online: Vec<u64>,
}

/// Ticks of a process in the interval.
#[derive(Clone, Debug, PartialEq)]
struct Used {
    pid: u32,
    comm: String,
    ticks: u64,
}

impl Share {
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        Self { proc: roots.proc.clone(), before: HashMap::new(), all_before: None }
    }

    /// Splits the packages' energy. `whole` is the energy in joules, and the seconds that it covers.
    ///
    /// # Errors
    /// If stdout fails.
    pub fn collect(
        &mut self,
        whole: Option<(f64, f64)>,
        sample: &Sample<'_>,
        out: &mut Emitter,
    ) -> Result<()> {
        let path = self.proc.join("stat");
        let now = match fs::read(&path) {
            Ok(bytes) => all_cpus(&bytes),
            Err(error) => return unreadable(out, sample.ts, &path.to_string_lossy(), &error),
        };
        let used = self.walk();
        let before = std::mem::replace(&mut self.all_before, now.clone());
        let (Some(now), Some(before)) = (now, before) else { return Ok(()) };
        let Some((joules, seconds)) = whole else {
            let detail = "no package energy could be read, so there is none to split";
            return out.status(sample.ts, "--per-process", Reason::Absent, detail);
        };
        // When a CPU goes offline or comes back, the kernel counts its idle time in another way, and the sum jumps.
        if sample.wants(&PROCESS_POWER) && seconds > 0.0 && now.online == before.online {
            let busy = now.busy.saturating_sub(before.busy);
            let idle = now.idle.saturating_sub(before.idle);
            for part in split(joules, seconds, &used, busy, idle) {
                out.emit(sample.ts, &part)?;
            }
        }
        Ok(())
    }

    /// The ticks of every process since the previous sample; of a new process, since it started.
    fn walk(&mut self) -> Vec<Used> {
        let before = std::mem::take(&mut self.before);
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.proc).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let pid = number(name.as_encoded_bytes()).and_then(|pid| u32::try_from(pid).ok());
            let Some(pid) = pid else { continue };
            let Ok(bytes) = fs::read(self.proc.join(name).join("stat")) else { continue };
            let Some(stat) = PidStat::parse(&bytes) else { continue };
            let (begin, ticks) = (stat.begin_ticks, stat.ticks());
            let already = before.get(&pid).filter(|before| before.0 == begin).map_or(0, |before| before.1);
            self.before.insert(pid, (begin, ticks));
            all.push(Used { pid, comm: stat.comm, ticks: ticks.saturating_sub(already) });
        }
        all.sort_unstable_by_key(|one| (std::cmp::Reverse(one.ticks), one.pid));
        all
    }
}

/// The parts, largest first. Busy time that belongs to none of these processes (interrupts, processes that ended) is
/// `others`, and the rest is `idle`, so that the parts add up to the whole.
fn split(joules: f64, seconds: f64, used: &[Used], busy: u64, idle: u64) -> Vec<ProcessPower> {
    let known = used.iter().fold(0u64, |sum, one| sum.saturating_add(one.ticks));
    let others = busy.saturating_sub(known);
    // Ticks of processes and of CPUs are counted separately and can differ a little.
    let all = busy.max(known).saturating_add(idle);
    if all == 0 {
        return Vec::new();
    }
    let part = |pid: Option<u32>, comm: &str, ratio: f64, joules: f64| ProcessPower {
        pid: pid.map(u64::from),
        comm: comm.to_owned(),
        energy_joules: joules,
        power_watts: joules / seconds,
        cpu_ratio: ratio,
        method: "cpu_time",
        interval_s: seconds,
    };
    let ratio = |ticks: u64| ticks as f64 / all as f64;
    let running = used.iter().filter(|one| one.ticks > 0);
    let mut parts: Vec<_> = running
        .map(|one| part(Some(one.pid), &one.comm, ratio(one.ticks), joules * ratio(one.ticks)))
        .collect();
    if others > 0 {
        parts.push(part(None, "others", ratio(others), joules * ratio(others)));
    }
    let split: f64 = parts.iter().map(|part| part.energy_joules).sum();
    parts.push(part(None, "idle", ratio(idle), (joules - split).max(0.0)));
    parts
}

/// Parses the line `cpu` of /proc/stat: user, nice, system, idle, iowait, irq, softirq, steal; and the numbers of the
/// CPUs below it. Steal time is neither busy nor idle: this machine did not use that energy.
fn all_cpus(bytes: &[u8]) -> Option<AllCpus> {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let (name, rest) = split_word(lines.next()?);
    let ticks: Vec<u64> = words(rest).map_while(number).take(7).collect();
    let [user, nice, system, idle, rest @ ..] = &ticks[..] else { return None };
    let sum = |ticks: &[&u64]| ticks.iter().fold(0u64, |sum, ticks| sum.saturating_add(**ticks));
    let (iowait, interrupts) = rest.split_first().unwrap_or((&0, &[]));
    let interrupts = sum(&interrupts.iter().collect::<Vec<_>>());
    let (busy, idle) = (sum(&[user, nice, system, &interrupts]), sum(&[idle, iowait]));
    let online = lines.map_while(|line| number(split_word(line).0.strip_prefix(b"cpu")?)).collect();
    (name == b"cpu").then_some(AllCpus { busy, idle, online })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn used(pid: u32, ticks: u64) -> Used {
        Used { pid, comm: format!("c{pid}"), ticks }
    }

    #[test]
    fn splits_by_cpu_time_and_leaves_the_rest_to_idle() {
        let parts = split(100.0, 2.0, &[used(7, 50), used(8, 30), used(9, 0)], 100, 100);
        let shares: Vec<_> =
            parts.iter().map(|it| (it.comm.as_str(), it.energy_joules, it.power_watts)).collect();
        assert_eq!(
            shares,
            [("c7", 25.0, 12.5), ("c8", 15.0, 7.5), ("others", 10.0, 5.0), ("idle", 50.0, 25.0)]
        );
        assert_eq!((parts[0].pid, parts[3].pid, parts[0].cpu_ratio), (Some(7), None, 0.25));
        assert!(split(1.0, 1.0, &[], 0, 0).is_empty());
    }

    #[test]
    fn the_modes_of_all_cpus() {
        let text = b"cpu  100 1 20 1000 50 3 4 500 60 1\ncpu0 1 2 3 4\n";
        assert_eq!(all_cpus(text), Some(AllCpus { busy: 128, idle: 1050, online: vec![0] }));
        let online = b"cpu 1 2 3 4\ncpu0 1 2 3 4\ncpu7 1 2 3 4\nintr 1 2\ncpu8";
        assert_eq!(all_cpus(online), Some(AllCpus { busy: 6, idle: 4, online: vec![0, 7] }));
        assert_eq!((all_cpus(b""), all_cpus(b"intr 1 2 3 4 5"), all_cpus(b"cpu 1 2 3")), (None, None, None));
    }

    proptest! {
        #[test]
        fn the_parts_are_the_whole(
            joules in 0.0..1e6f64,
            ticks in prop::collection::vec(0u64..10_000, 0..40),
            busy in 0u64..100_000,
            idle in 0u64..100_000,
        ) {
            let used: Vec<_> = (1..).zip(&ticks).map(|(pid, ticks)| used(pid, *ticks)).collect();
            let parts = split(joules, 1.0, &used, busy, idle);
            let sum: f64 = parts.iter().map(|part| part.energy_joules).sum();
            let ratios: f64 = parts.iter().map(|part| part.cpu_ratio).sum();
            prop_assert!(parts.is_empty() || (sum - joules).abs() <= 1e-9 * joules.max(1e-9));
            prop_assert!(parts.is_empty() || (ratios - 1.0).abs() < 1e-9);
            prop_assert!(parts.iter().all(|part| part.energy_joules >= 0.0));
        }
    }
}
