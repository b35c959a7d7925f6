//! cpufreq and cpuidle → `cpu_power`, for each online CPU and for each group of CPUs that share a clock.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::residency::{BusyCpus, Residency, frequencies, idle_states};
use super::sysfs::{folder, list, number, numbered, read, word};
use crate::collect::{Collector, Roots, Sample, mean, micro, unreadable};
use crate::common::emit::Emitter;
use crate::record::{CPU_POWER, CpuPower, Kind, Reason};

/// Reads the folder of each CPU (kernel `drivers/cpufreq/cpufreq.c`, `cpufreq_stats.c`, `drivers/cpuidle/sysfs.c`).
pub struct CpuCollector {
    folder: PathBuf,
    /// The core types of a hybrid processor: their letters, and the files that list their CPUs.
    kinds: [(&'static str, PathBuf); 2],
    /// By CPU: the counts of its idle states.
    idle: BTreeMap<u32, Residency<String>>,
    busy: BusyCpus,
    /// By policy: the counts of its frequencies.
    frequencies: BTreeMap<PathBuf, Residency<u64>>,
}

/// CPUs that share a clock.
struct Policy {
    record: CpuPower,
    /// The active ratios of its online CPUs.
    actives: Vec<Option<f64>>,
    cpus: usize,
}

impl CpuCollector {
    /// Reads below these roots.
    pub fn new(roots: &Roots) -> Self {
        let kind = |letter, name: &str| (letter, roots.sys.join("devices").join(name).join("cpus"));
        Self {
            folder: roots.sys.join("devices/system/cpu"),
            kinds: [kind("P", "cpu_core"), kind("E", "cpu_atom")],
            idle: BTreeMap::new(),
            busy: BusyCpus::new(roots),
            frequencies: BTreeMap::new(),
        }
    }

    /// The record of a cpufreq policy, which is the same for all its CPUs.
    fn policy(&mut self, folder: &Path, sample: &Sample<'_>) -> Policy {
        // The files are in kilohertz.
        let hertz =
            |file: &str| number(folder.join(file)).and_then(|khz| khz.checked_mul(1000)).filter(|&hz| hz > 0);
        let now = ["scaling_cur_freq", "cpuinfo_cur_freq", "cpuinfo_avg_freq"].into_iter().find_map(hertz);
        let states = read(folder.join("stats/time_in_state")).ok().map(|bytes| frequencies(&bytes));
        let residency =
            states.and_then(|states| self.frequencies.entry(folder.to_owned()).or_default().shares(states));
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned());
        let cpus = word(folder.join("related_cpus"))
            .map_or(1, |text| text.split_whitespace().flat_map(list).count());
        let record = CpuPower {
            component: "cluster",
            cluster: name.clone(),
            core: name.unwrap_or_default(),
            frequency_hz: now,
            frequency_min_hz: hertz("scaling_min_freq"),
            frequency_max_hz: hertz("scaling_max_freq"),
            governor: word(folder.join("scaling_governor")),
            interval_s: residency.as_ref().and(sample.interval_s()),
            residency,
            ..CpuPower::default()
        };
        Policy { record, actives: Vec::new(), cpus }
    }

    fn kind_of(&self, cpu: u32) -> Option<String> {
        let has = |path: &PathBuf| word(path).is_some_and(|text| list(&text).contains(&cpu));
        self.kinds.iter().find(|(_, path)| has(path)).map(|(letter, _)| (*letter).to_owned())
    }

    /// The record of one CPU; `None` if neither cpufreq nor cpuidle knows it.
    fn cpu(
        &mut self,
        cpu: u32,
        path: &Path,
        policy: Option<&Policy>,
        sample: &Sample<'_>,
    ) -> Option<CpuPower> {
        let states = idle_states(&path.join("cpuidle"));
        if policy.is_none() && states.is_none() {
            return None;
        }
        let shared = policy.filter(|policy| policy.cpus > 1);
        let mut record = CpuPower {
            component: "cpu",
            core: format!("cpu{cpu}"),
            cluster_kind: self.kind_of(cpu),
            ..policy.map(|policy| policy.record.clone()).unwrap_or_default()
        };
        record.cluster = shared.and_then(|policy| policy.record.cluster.clone());
        let ratios =
            states.and_then(|states| self.idle.entry(cpu).or_default().ratios(states, sample.interval));
        // A CPU without any count may have slept through the interval.
        let known = |ratios: &BTreeMap<_, f64>| {
            ratios.values().any(|&ratio| ratio > 0.0) || self.busy.ran_throughout(cpu)
        };
        if let Some(ratios) = ratios.filter(known) {
            let idle = ratios.values().sum::<f64>().min(1.0);
            record.idle_ratio = Some(micro(idle));
            record.active_ratio = Some(micro(1.0 - idle));
            record.c_state = Some(ratios);
            record.interval_s = sample.interval_s();
        }
        Some(record)
    }
}

impl Collector for CpuCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&CPU_POWER]
    }

    fn method(&self) -> String {
        format!("cpufreq and cpuidle in {}", self.folder.display())
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let folder_name = self.folder.to_string_lossy().into_owned();
        let cpus = match numbered(&self.folder, "cpu") {
            Ok(cpus) => cpus,
            Err(error) => return unreadable(out, sample.ts, &folder_name, &error),
        };
        let mut policies: BTreeMap<PathBuf, Policy> = BTreeMap::new();
        let (mut found, mut clocked) = (false, false);
        self.busy.read();
        for (cpu, path) in cpus {
            if word(path.join("online")).is_some_and(|online| online == "0") {
                self.idle.remove(&cpu);
                continue;
            }
            let policy_folder = folder(&path.join("cpufreq")).map(|it| it.canonicalize().unwrap_or(it));
            if let Some(policy_folder) = &policy_folder
                && !policies.contains_key(policy_folder)
            {
                let policy = self.policy(policy_folder, sample);
                policies.insert(policy_folder.clone(), policy);
            }
            clocked |= policy_folder.is_some();
            let policy = policy_folder.as_ref().and_then(|path| policies.get(path));
            let Some(record) = self.cpu(cpu, &path, policy, sample) else { continue };
            found = true;
            if let Some(policy) = policy_folder.and_then(|path| policies.get_mut(&path)) {
                policy.actives.push(record.active_ratio);
            }
            // The first sample has no ratios of idle states.
            let measured =
                record.frequency_hz.is_some() || record.governor.is_some() || record.c_state.is_some();
            if measured {
                sample.emit(&record, out)?;
            }
        }
        for policy in policies.into_values().filter(|policy| policy.cpus > 1) {
            let Policy { mut record, actives, .. } = policy;
            record.core_active_ratio = mean(&actives);
            sample.emit(&record, out)?;
        }
        match (found, clocked) {
            (true, true) => Ok(()),
            (true, false) => {
                let detail = "no cpufreq, so frequencies are not reported; virtual machines have none";
                out.status(sample.ts, &format!("{folder_name}/cpufreq"), Reason::Absent, detail)
            }
            (false, _) => {
                let detail = "neither cpufreq nor cpuidle; virtual machines often have none";
                out.status(sample.ts, &folder_name, Reason::Absent, detail)
            }
        }
    }
}
