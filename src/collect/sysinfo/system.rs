//! Reads the machine as a whole into `host`, `cpu`, `load` and `memory` records.

use ::sysinfo::{CpuRefreshKind, MINIMUM_CPU_UPDATE_INTERVAL, MemoryRefreshKind, Product, System};
use anyhow::Result;

use crate::collect::text::text;
use crate::collect::{Collector, Sample, micro, ratio};
use crate::common::emit::Emitter;
use crate::record::{CPU, Cpu, HOST, Host, Kind, LOAD, Load, MEMORY, Memory};

/// The collector of the machine as a whole.
pub struct SystemCollector {
    system: System,
    per_cpu: bool,
    /// Whether there is an earlier sample to compute utilization from.
    sampled: bool,
}

impl SystemCollector {
    /// Emits a `cpu` record for each CPU too, if `per_cpu`.
    pub fn new(per_cpu: bool) -> Self {
        Self { system: System::new(), per_cpu, sampled: false }
    }

    /// The record of all CPUs together, then with `--per-cpu` that of each.
    fn cpus(&mut self, sample: &Sample<'_>) -> Vec<Cpu> {
        self.system.refresh_cpu_specifics(CpuRefreshKind::nothing().with_cpu_usage());
        // The system does not update its counts more often.
        let counted = sample.interval.is_some_and(|interval| interval >= MINIMUM_CPU_UPDATE_INTERVAL);
        let known = std::mem::replace(&mut self.sampled, true) && counted;
        let used = |percent: f32| known.then(|| micro((f64::from(percent) / 100.0).clamp(0.0, 1.0)));
        let record = |used: Option<f64>| Cpu {
            interval_s: used.and(sample.interval_s()),
            utilization_ratio: used,
            idle_ratio: used.map(|used| micro(1.0 - used)),
            ..Cpu::default()
        };
        let cpus = self.system.cpus();
        let mut records = vec![Cpu {
            per_cpu: self.per_cpu.then_some(true),
            logical_cpus: u32::try_from(cpus.len()).ok(),
            ..record(used(self.system.global_cpu_usage()))
        }];
        if self.per_cpu {
            let each = (0..).zip(cpus);
            records.extend(each.map(|(id, cpu)| Cpu { cpu: Some(id), ..record(used(cpu.cpu_usage())) }));
        }
        records
    }

    fn memory(&mut self) -> Memory {
        self.system.refresh_memory_specifics(MemoryRefreshKind::everything());
        let system = &self.system;
        let (total, available) = (system.total_memory(), system.available_memory());
        let used = total.saturating_sub(available);
        Memory {
            total_bytes: Some(total),
            free_bytes: Some(system.free_memory()),
            available_bytes: Some(available),
            used_bytes: Some(used),
            swap_total_bytes: Some(system.total_swap()),
            swap_free_bytes: Some(system.free_swap()),
            swap_used_bytes: Some(system.used_swap()),
            used_ratio: ratio(used, total),
            ..Memory::default()
        }
    }
}

impl Collector for SystemCollector {
    fn kinds(&self) -> &'static [&'static Kind] {
        &[&HOST, &CPU, &LOAD, &MEMORY]
    }

    fn method(&self) -> String {
        "sysctl and host_statistics64, by the sysinfo crate".into()
    }

    fn collect(&mut self, sample: &Sample<'_>, out: &mut Emitter) -> Result<()> {
        let cpus = self.cpus(sample);
        if sample.inventory && sample.wants(&HOST) {
            let host = Host { boot_ts: sample.boot, ..host(&self.system) };
            out.emit(sample.ts, &host)?;
        }
        cpus.iter().try_for_each(|cpu| sample.emit(cpu, out))?;
        sample.emit(&load(), out)?;
        sample.emit(&self.memory(), out)?;
        Ok(())
    }
}

fn load() -> Load {
    let load = System::load_average();
    let rounded = |load: f64| (load * 100.0).round() / 100.0;
    Load {
        load_1m: rounded(load.one),
        load_5m: rounded(load.five),
        load_15m: rounded(load.fifteen),
        running_tasks: None,
        total_tasks: None,
        last_pid: None,
    }
}

fn host(system: &System) -> Host {
    let uname = rustix::system::uname();
    let word = |word: &std::ffi::CStr| text(word.to_bytes());
    let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
    let now = jiff::Zoned::now();
    Host {
        hostname: word(uname.nodename()),
        os: word(uname.sysname()),
        release: word(uname.release()),
        version: word(uname.version()),
        architecture: word(uname.machine()),
        distribution: filled(System::long_os_version()),
        distribution_id: filled(Some(System::distribution_id())),
        distribution_version: filled(System::os_version()),
        vendor: filled(Product::vendor_name()),
        model: filled(Product::name()),
        processor: filled(system.cpus().first().map(|cpu| cpu.brand().to_owned())),
        logical_cpus: u32::try_from(system.cpus().len()).ok(),
        physical_cores: System::physical_core_count().and_then(|count| u32::try_from(count).ok()),
        time_zone: now.time_zone().iana_name().map(str::to_owned),
        utc_offset_s: Some(now.offset().seconds()),
        ..Host::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::common::time::Timestamp;
    use procfs::{Current, CurrentSI, KernelStats, LoadAverage, Meminfo};
    use std::time::{Duration, Instant};

    fn sample(interval: Option<Duration>) -> Sample<'static> {
        let ts = Timestamp::now();
        Sample { ts, boot: None, interval, write: true, inventory: true, wanted: &|_| true }
    }

    #[test]
    fn memory_equals_meminfo() {
        let memory = SystemCollector::new(false).memory();
        let meminfo = Meminfo::current().unwrap();
        assert_eq!(memory.total_bytes, Some(meminfo.mem_total));
        assert_eq!(memory.swap_total_bytes, Some(meminfo.swap_total));
        let near = |ours: Option<u64>, theirs: u64| {
            assert!(ours.unwrap().abs_diff(theirs) < meminfo.mem_total / 4, "{ours:?} {theirs}");
        };
        near(memory.free_bytes, meminfo.mem_free);
        near(memory.available_bytes, meminfo.mem_available.unwrap());
    }

    #[test]
    fn load_and_host_equal_those_of_the_kernel() {
        let (before, load, after) =
            (LoadAverage::current().unwrap(), load(), LoadAverage::current().unwrap());
        let at = |load: LoadAverage| (f64::from(load.fifteen) * 100.0).round() / 100.0;
        assert!([at(before), at(after)].contains(&load.load_15m), "{load:?}");
        let mut collector = SystemCollector::new(false);
        collector.cpus(&sample(None));
        let host = host(&collector.system);
        let cpus = KernelStats::current().unwrap().cpu_time.len();
        assert_eq!((host.os.as_deref(), host.logical_cpus), (Some("Linux"), u32::try_from(cpus).ok()));
        assert!(host.processor.is_some() && host.distribution.is_some(), "{host:?}");
    }

    #[test]
    fn utilization_of_the_interval() {
        let mut collector = SystemCollector::new(true);
        let first = collector.cpus(&sample(None));
        assert!(first.len() > 1 && first.iter().all(|cpu| cpu.utilization_ratio.is_none()), "{first:?}");
        let busy = || {
            let total = KernelStats::current().unwrap().total;
            let idle = total.idle_ms() + total.iowait_ms().unwrap_or(0);
            (total.user_ms() + total.nice_ms() + total.system_ms() + idle, idle)
        };
        let (begin, before) = (Instant::now(), busy());
        // Keep one CPU busy.
        while begin.elapsed() < Duration::from_millis(700) {}
        let records = collector.cpus(&sample(Some(begin.elapsed())));
        let after = busy();
        let expected = 1.0 - (after.1 - before.1) as f64 / (after.0 - before.0) as f64;
        let found = records[0].utilization_ratio.unwrap();
        assert!((found - expected).abs() < 0.2, "{found} {expected}");
        assert_eq!((records[0].cpu, records[1].cpu, records[0].per_cpu), (None, Some(0), Some(true)));
        assert!((records[0].idle_ratio.unwrap() + found - 1.0).abs() < 1e-5);
    }
}
