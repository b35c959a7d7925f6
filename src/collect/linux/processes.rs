//! Reads /proc/PID of every process into a `processes` record, and `process` records of the top ones.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Result;
use procfs::process::MountInfo;
use rustix::fs::{AtFlags, CWD, StatxFlags};
use rustix::thread::CapabilitySet;

use super::cgroup::{self, container_id};
use super::pidstat::{self, PidStat, PidStatus};
use super::stat::ticks_per_second;
use crate::collect::text::number;
use crate::collect::{Collector, Roots, Sample, Settings, micro, unreadable};
use crate::common::emit::Emitter;
use crate::common::time::Timestamp;
use crate::record::{Kind, PROCESS, PROCESSES, Process, Processes, Reason};

/// Walks /proc: the most expensive collector, so it runs only on request.
pub struct ProcessesCollector {
    walker: Walker,
    /// The control group file system; `None` for a foreign root, which has no ids of groups.
    cgroups: Option<PathBuf>,
    top: usize,
    cmdline: bool,
    ticks_per_s: u64,
    /// Whether the mount options hide processes from us; `None` before the first sample.
    hidepid: Option<bool>,
}

/// One process of this sample.
pub struct Found {
    /// Its id.
    pub pid: u32,
    /// Its stat file.
    pub stat: PidStat,
    /// Ticks since the previous sample; in the first sample, and for a new process, since its start.
    pub used: u64,
    /// False in the first sample.
    pub rated: bool,
}

/// The processes of a sample.
#[derive(Default)]
pub struct Walk {
    /// Those that could be read, by id.
    pub found: Vec<Found>,
    /// True if at least one could not be read for lack of permission.
    pub denied: bool,
}

/// Reads the CPU time of every process.
pub struct Walker {
    proc: PathBuf,
    /// Start and CPU time of every process in the previous sample.
    before: HashMap<u32, (u64, u64)>,
    buffer: Vec<u8>,
}

impl Walker {
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        Self { proc: roots.proc.clone(), before: HashMap::new(), buffer: Vec::new() }
    }

    /// Reads every visible process. Those that end during the walk are left out.
    ///
    /// # Errors
    /// If /proc cannot be listed.
    pub fn walk(&mut self) -> io::Result<Walk> {
        let before = std::mem::take(&mut self.before);
        let mut walk = Walk { found: Vec::with_capacity(before.len() + 16), denied: false };
        for entry in fs::read_dir(&self.proc)? {
            let name = entry?.file_name();
            let Some(pid) = number(name.as_encoded_bytes()).and_then(|pid| u32::try_from(pid).ok()) else {
                continue;
            };
            let mut file = match File::open(self.proc.join(name).join("stat")) {
                Ok(file) => file,
                Err(error) => {
                    walk.denied |= error.kind() == io::ErrorKind::PermissionDenied;
                    continue;
                }
            };
            self.buffer.clear();
            let read = file.read_to_end(&mut self.buffer);
            let Some(stat) = read.ok().and_then(|_| PidStat::parse(&self.buffer)) else { continue };
            let (begin, ticks) = (stat.begin_ticks, stat.ticks());
            let already = before.get(&pid).filter(|before| before.0 == begin).map_or(0, |before| before.1);
            let used = ticks.saturating_sub(already);
            walk.found.push(Found { pid, stat, used, rated: !before.is_empty() });
        }
        walk.found.sort_unstable_by_key(|one| one.pid);
        let totals = walk.found.iter().map(|it| (it.pid, (it.stat.begin_ticks, it.stat.ticks())));
        self.before = totals.collect();
        Ok(walk)
    }
}

impl ProcessesCollector {
    /// Emits the first `top` processes by CPU and as many by memory.
    pub fn new(settings: &Settings, top: usize) -> Self {
        let ticks_per_s = ticks_per_second(&settings.roots);
        let walker = Walker::new(&settings.roots);
        let own_sys = (!settings.roots.foreign).then_some(&settings.roots.sys);
        let cgroups = own_sys.and_then(|sys| cgroup::mount(sys));
        Self { walker, cgroups, top, cmdline: settings.cmdline, ticks_per_s, hidepid: None }
    }

    fn emit(&self, one: &Found, ranks: Ranks, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let Found { pid, stat, used, rated } = one;
        let folder = self.walker.proc.join(pid.to_string());
        let file = |name| fs::read(folder.join(name)).unwrap_or_default();
        let status = PidStatus::parse(&file("status"));
        let seconds = |ticks: u64| Some(ticks as f64 / self.ticks_per_s as f64);
        let interval = sample.interval.filter(|_| *rated);
        let cpus_used = interval.map(|interval| {
            let seconds = interval.as_secs_f64().max(f64::MIN_POSITIVE);
            micro(*used as f64 / self.ticks_per_s as f64 / seconds)
        });
        let cgroup = pidstat::cgroup(&file("cgroup"));
        let mounted = self.cgroups.as_deref().zip(cgroup.as_deref());
        let record = Process {
            pid: *pid,
            ppid: stat.ppid,
            comm: stat.comm.clone(),
            cmdline: self.cmdline.then(|| cmdline(&folder)).flatten(),
            uid: status.uid,
            cgroup_id: mounted.and_then(|(mount, path)| cgroup::id(mount, path)),
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
        let cmdline = if self.cmdline { ", cmdline" } else { "" };
        format!(
            "stat of every process in {}; status, cgroup{cmdline} of the top ones",
            self.walker.proc.display()
        )
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let proc = self.walker.proc.to_string_lossy().into_owned();
        let Walk { found, denied } = match self.walker.walk() {
            Ok(walk) => walk,
            Err(error) => return unreadable(out, sample.ts, &proc, &error),
        };
        if found.is_empty() {
            let detail = "no process found; is the proc file system mounted there?";
            return out.status(sample.ts, &proc, Reason::Absent, detail);
        }
        let hidepid = *self.hidepid.get_or_insert_with(|| hides_processes(&self.walker.proc));
        if hidepid || denied {
            let cause = if hidepid { "the mount option hidepid" } else { "a permission" };
            let detail = format!(
                "{cause} hides processes of other users: no processes record, and process records of visible ones \
                 only; run as root, or join the group of the mount option gid"
            );
            out.status(sample.ts, &proc, Reason::Denied, &detail)?;
        } else if sample.wants(&PROCESSES) {
            out.emit(sample.ts, &summary(&found))?;
        }
        if sample.wants(&PROCESS) {
            for (index, ranks) in ranked(&found, self.top) {
                self.emit(&found[index], ranks, sample, out)?;
            }
        }
        Ok(())
    }
}

/// The longest command line that is reported, in bytes.
const CMDLINE_MAX: u64 = 4096;

/// The command line of a process, cut at [`CMDLINE_MAX`].
fn cmdline(folder: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(folder.join("cmdline")).ok()?.take(CMDLINE_MAX).read_to_end(&mut bytes).ok()?;
    pidstat::cmdline(&bytes, bytes.len() as u64 == CMDLINE_MAX)
}

/// Whether the proc file system mounted at `proc` hides processes from us (`hidepid`, proc(5)).
fn hides_processes(proc: &Path) -> bool {
    let statx = rustix::fs::statx(CWD, proc, AtFlags::empty(), StatxFlags::MNT_ID);
    let mnt_id =
        statx.ok().filter(|found| StatxFlags::from_bits_retain(found.stx_mask).contains(StatxFlags::MNT_ID));
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    // Without mount ids (before Linux 5.8), the last mount on a path hides the others.
    let is_it = |mount: &MountInfo| match mnt_id {
        Some(found) => u64::try_from(mount.mnt_id).ok() == Some(found.stx_mnt_id),
        None => mount.mount_point == proc,
    };
    let mut mounts = text.lines().filter_map(|line| MountInfo::from_line(line).ok());
    let Some(mount) = mounts.rfind(|mount| mount.fs_type == "proc" && is_it(mount)) else {
        return false;
    };
    let (hidden, gid) = hidepid(&mount);
    let is_member = || {
        let mut groups = rustix::process::getgroups().unwrap_or_default();
        groups.push(rustix::process::getegid());
        groups.iter().any(|group| Some(group.as_raw()) == gid)
    };
    let may_trace = rustix::thread::capabilities(None)
        .is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE));
    hidden && !may_trace && !is_member()
}

/// Whether processes are hidden, and the group that sees them all the same.
fn hidepid(mount: &MountInfo) -> (bool, Option<u32>) {
    // The options belong to the file system since Linux 5.8.
    let option = |name| mount.super_options.get(name).or_else(|| mount.mount_options.get(name))?.as_deref();
    let value = option("hidepid").unwrap_or("off");
    let gid = option("gid").map_or(Some(0), |gid| gid.parse().ok());
    (!matches!(value, "0" | "off"), gid.filter(|_| !matches!(value, "4" | "ptraceable")))
}

fn summary(found: &[Found]) -> Processes {
    let mut states = BTreeMap::new();
    for one in found {
        *states.entry(one.stat.state).or_insert(0) += 1;
    }
    let threads = found.iter().fold(0u64, |sum, one| sum.saturating_add(one.stat.threads));
    Processes { count: found.len() as u64, threads, states }
}

/// The ranks of a process, from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ranks {
    cpu: Option<u32>,
    memory: Option<u32>,
}

/// The first `top` by CPU and the first `top` by memory, each process once. A process that used nothing has no rank.
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
    fn a_reused_process_id_is_a_new_process() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            roots: Roots { proc: dir.path().into(), sys: dir.path().into(), foreign: true },
            per_cpu: false,
            top: None,
            cmdline: true,
        };
        fs::create_dir(dir.path().join("7")).unwrap();
        let write = |ticks: u64, begin: u64| {
            let line = format!("7 (x) S 1 1 1 0 -1 0 0 0 0 0 {ticks} 1 0 0 20 0 3 0 {begin} 0 9");
            fs::write(dir.path().join("7/stat"), line).unwrap();
        };
        let mut collector = ProcessesCollector::new(&settings, 5);
        let mut used = || collector.walker.walk().unwrap().found[0].used;
        write(100, 5);
        assert_eq!(used(), 101);
        write(130, 5);
        assert_eq!(used(), 30);
        write(20, 6);
        assert_eq!(used(), 21);
    }

    #[test]
    fn hidepid_in_every_spelling() {
        let line = |own: &str, of_fs: &str| {
            let line = format!("22 28 0:21 / /proc rw,{own} shared:12 - proc proc rw,{of_fs}");
            hidepid(&MountInfo::from_line(&line).unwrap())
        };
        assert_eq!(line("nosuid", "relatime"), (false, Some(0)));
        for value in ["0", "off"] {
            assert!(!line("nosuid", &format!("hidepid={value}")).0, "{value}");
        }
        for value in ["1", "2", "noaccess", "invisible"] {
            assert_eq!(line("nosuid", &format!("gid=27,hidepid={value}")), (true, Some(27)), "{value}");
        }
        assert_eq!(line("hidepid=2,gid=5", "relatime"), (true, Some(5)));
        assert_eq!(line("nosuid", "hidepid=ptraceable,gid=27"), (true, None));
    }

    #[test]
    fn command_lines_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let written = |bytes: &[u8]| {
            fs::write(dir.path().join("cmdline"), bytes).unwrap();
            cmdline(dir.path())
        };
        assert_eq!(written(b"ls\0-l\0/tmp/a b\0").as_deref(), Some("ls -l /tmp/a b"));
        assert_eq!(written(b""), None);
        let long = written(&[&b"x\0"[..], "é".repeat(5000).as_bytes()].concat()).unwrap();
        assert_eq!((long.len(), long.chars().count()), (4096, 2 + 2047));
        assert!(!long.contains('\u{fffd}'));
        assert_eq!(cmdline(&dir.path().join("none")), None);
    }
}
