//! /proc/PID for every process → `processes`, and `process` for those at the top.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::Read;
use std::path::PathBuf;

use anyhow::Result;

use super::cgroup::{self, container_id};
use super::pidstat::{self, PidStat, PidStatus};
use super::text::number;
use super::{Collector, Sample, Settings, micro, ticks_per_second, unreadable};
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::{Kind, PROCESS, PROCESSES, Process, Processes, Reason};

/// Walks /proc, which is the dearest thing that `scrape` can do, and is done only if asked for.
pub struct ProcessesCollector {
    proc: PathBuf,
    /// Where the control groups are; of another machine's, the inode numbers are not kept in a tree.
    cgroups: Option<PathBuf>,
    top: usize,
    ticks_per_s: u64,
    /// Start and CPU time of every process in the sample before.
    before: HashMap<u32, (u64, u64)>,
    buffer: Vec<u8>,
}

/// One process of this sample.
struct Found {
    pid: u32,
    stat: PidStat,
    /// Ticks since the sample before; in the first, and for a new process, since its start.
    used: u64,
    /// False in the first.
    rated: bool,
}

impl ProcessesCollector {
    /// The `top` processes by CPU and as many by memory are told one by one.
    pub fn new(settings: &Settings, top: usize) -> Self {
        let ticks_per_s = ticks_per_second(&settings.roots);
        let proc = settings.roots.proc.clone();
        let here = (!settings.roots.foreign).then_some(&settings.roots.sys);
        let cgroups = here.and_then(|sys| cgroup::mount(sys));
        Self { proc, cgroups, top, ticks_per_s, before: HashMap::new(), buffer: Vec::new() }
    }

    /// Every process that can be seen. One that ends meanwhile is not among them.
    fn walk(&mut self) -> std::io::Result<Vec<Found>> {
        let before = std::mem::take(&mut self.before);
        let mut found = Vec::with_capacity(before.len() + 16);
        for entry in fs::read_dir(&self.proc)? {
            let name = entry?.file_name();
            let Some(pid) = number(name.as_encoded_bytes()).and_then(|pid| u32::try_from(pid).ok()) else {
                continue;
            };
            let Ok(mut file) = File::open(self.proc.join(name).join("stat")) else { continue };
            self.buffer.clear();
            let read = file.read_to_end(&mut self.buffer);
            let Some(stat) = read.ok().and_then(|_| PidStat::parse(&self.buffer)) else { continue };
            let (begin, ticks) = (stat.begin_ticks, stat.ticks());
            let already = before.get(&pid).filter(|before| before.0 == begin).map_or(0, |before| before.1);
            found.push(Found { pid, stat, used: ticks.saturating_sub(already), rated: !before.is_empty() });
        }
        found.sort_unstable_by_key(|one| one.pid);
        self.before = found.iter().map(|it| (it.pid, (it.stat.begin_ticks, it.stat.ticks()))).collect();
        Ok(found)
    }

    fn tell(&self, one: &Found, ranks: Ranks, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Found { pid, stat, used, rated } = one;
        let folder = self.proc.join(pid.to_string());
        let file = |name| fs::read(folder.join(name)).unwrap_or_default();
        let status = PidStatus::parse(&file("status"));
        let seconds = |ticks: u64| Some(ticks as f64 / self.ticks_per_s as f64);
        // What a process that is new has used, it has used within the interval.
        let interval = sample.interval.filter(|_| *rated);
        let cpus_used = interval.map(|interval| {
            let most = interval.as_secs_f64().max(f64::MIN_POSITIVE);
            micro(*used as f64 / self.ticks_per_s as f64 / most)
        });
        let cgroup = pidstat::cgroup(&file("cgroup"));
        let record = Process {
            pid: *pid,
            ppid: stat.ppid,
            comm: stat.comm.clone(),
            uid: status.uid,
            cgroup_id: self
                .cgroups
                .as_deref()
                .zip(cgroup.as_deref())
                .and_then(|(at, path)| cgroup::id(at, path)),
            container_id: cgroup.as_deref().and_then(container_id).map(str::to_owned),
            cgroup,
            state: stat.state,
            start_ts: sample.boot.and_then(|boot| self.begin(boot, stat.begin_ticks)),
            cpu_rank: ranks.cpu,
            memory_rank: ranks.memory,
            threads: Some(stat.threads),
            user_s: seconds(stat.user_ticks),
            system_s: seconds(stat.system_ticks),
            minor_faults: stat.minor_faults,
            major_faults: stat.major_faults,
            rss_bytes: status.rss_bytes,
            swap_bytes: status.swap_bytes,
            virtual_bytes: stat.virtual_bytes.filter(|&bytes| bytes > 0),
            interval_s: cpus_used.and(sample.interval_s()),
            cpus_used,
        };
        out.emit(sample.ts, &record)
    }

    fn begin(&self, boot: Timestamp, ticks: u64) -> Option<Timestamp> {
        let nanos = ticks.checked_mul(1_000_000_000 / self.ticks_per_s)?;
        Some(Timestamp(boot.0.checked_add(nanos)?))
    }
}

impl Collector for ProcessesCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&PROCESSES, &PROCESS]
    }

    fn method(&self) -> String {
        format!("stat, status and cgroup of every process in {}", self.proc.display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let found = match self.walk() {
            Ok(found) => found,
            Err(error) => return unreadable(out, sample.ts, &self.proc.to_string_lossy(), &error),
        };
        if found.is_empty() {
            let folder = self.proc.to_string_lossy();
            return out.status(sample.ts, &folder, Reason::Absent, "it shows no process; is it mounted?");
        }
        if sample.wants(&PROCESSES) {
            out.emit(sample.ts, &summary(&found))?;
        }
        if sample.wants(&PROCESS) {
            for (index, ranks) in ranked(&found, self.top) {
                self.tell(&found[index], ranks, sample, out)?;
            }
        }
        Ok(())
    }
}

fn summary(found: &[Found]) -> Processes {
    let mut states = BTreeMap::new();
    for one in found {
        *states.entry(one.stat.state).or_insert(0) += 1;
    }
    let threads = found.iter().fold(0u64, |sum, one| sum.saturating_add(one.stat.threads));
    Processes { count: found.len() as u64, threads, states }
}

/// The places of a process, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ranks {
    cpu: Option<u32>,
    memory: Option<u32>,
}

/// The first `top` by CPU and the first `top` by memory, each process once. One that used nothing has no place.
fn ranked(found: &[Found], top: usize) -> BTreeMap<usize, Ranks> {
    let mut ranks: BTreeMap<usize, Ranks> = BTreeMap::new();
    let by = |key: fn(&Found) -> u64| {
        let mut order: Vec<_> = (0..found.len()).filter(|&index| key(&found[index]) > 0).collect();
        order.sort_by_key(|&index| (std::cmp::Reverse(key(&found[index])), found[index].pid));
        order.truncate(top);
        (1..).zip(order)
    };
    for (rank, index) in by(|one| one.used) {
        ranks.entry(index).or_default().cpu = Some(rank);
    }
    for (rank, index) in by(|one| one.stat.rss_pages) {
        ranks.entry(index).or_default().memory = Some(rank);
    }
    ranks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(pid: u32, state: &'static str, used: u64, rss_pages: u64) -> Found {
        let line = format!("{pid} (x) S 1 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 3 0 5 0 {rss_pages}");
        let stat = PidStat { state, ..PidStat::parse(line.as_bytes()).unwrap() };
        Found { pid, stat, used, rated: true }
    }

    #[test]
    fn counted_by_state_and_ranked_twice() {
        let all = [
            found(1, "sleeping", 5, 10),
            found(2, "idle", 0, 0),
            found(3, "running", 9, 20),
            found(4, "running", 0, 30),
            found(5, "sleeping", 5, 5),
        ];
        let summary = summary(&all);
        assert_eq!((summary.count, summary.threads), (5, 15));
        assert_eq!(summary.states, BTreeMap::from([("idle", 1), ("running", 2), ("sleeping", 2)]));
        let rank = |cpu, memory| Ranks { cpu, memory };
        let expected = [(0, rank(Some(2), None)), (2, rank(Some(1), Some(2))), (3, rank(None, Some(1)))];
        assert_eq!(ranked(&all, 2), BTreeMap::from(expected));
        assert_eq!(ranked(&all, 0), BTreeMap::new());
        assert_eq!(ranked(&all, 99).len(), 4);
    }

    #[test]
    fn a_process_id_that_was_given_out_again_is_another_process() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            roots: super::super::Roots { proc: dir.path().into(), sys: dir.path().into(), foreign: true },
            per_cpu: false,
            top: None,
        };
        fs::create_dir(dir.path().join("7")).unwrap();
        let write = |ticks: u64, begin: u64| {
            let line = format!("7 (x) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 1 0 0 20 0 3 0 {begin} 0 9");
            fs::write(dir.path().join("7/stat"), line).unwrap();
        };
        let mut collector = ProcessesCollector::new(&settings, 5);
        let mut used = || collector.walk().unwrap()[0].used;
        write(100, 5);
        assert_eq!(used(), 101);
        write(130, 5);
        assert_eq!(used(), 30);
        write(20, 6);
        assert_eq!(used(), 21);
    }
}
