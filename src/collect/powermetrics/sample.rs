//! A sample of `powermetrics`, whichever format it came in.

use std::collections::BTreeMap;
use std::mem::take;

use super::value::bounds;
use crate::collect::{mean, micro};
use crate::common::time::Timestamp;
use crate::record::{Battery, CpuPower, Fan, Gpu, Task, Temperature, ThermalPressure};

/// Mean power of a domain.
#[derive(Clone, Debug, PartialEq)]
pub struct DomainPower {
    /// `cpu`, `gpu`, `cluster` …
    pub domain: String,
    /// Its name, if there are several.
    pub zone: Option<String>,
    /// Watts.
    pub watts: f64,
}

/// One sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    /// When it ended, to the second.
    pub ts: Option<Timestamp>,
    /// Its length, in seconds.
    pub elapsed_s: Option<f64>,
    /// Whether it sums up the samples, or all time since boot.
    pub summary: bool,
    /// Whether the package's power is without that of memory (Intel).
    pub memory_apart: bool,
    /// Clusters that may lack CPUs, because something was cut off or not understood.
    pub unfinished: Vec<String>,
    /// Power by domain.
    pub powers: Vec<DomainPower>,
    /// CPUs, clusters, packages.
    pub cpus: Vec<CpuPower>,
    /// Graphics processors.
    pub gpus: Vec<Gpu>,
    /// Sensors of temperature.
    pub temperatures: Vec<Temperature>,
    /// Fans.
    pub fans: Vec<Fan>,
    /// Thermal pressure and limits.
    pub pressure: Option<ThermalPressure>,
    /// The battery, and the brightness of what it feeds.
    pub battery: Option<Battery>,
    /// Processes and coalitions.
    pub tasks: Vec<Task>,
}

impl Sample {
    /// Whether it has nothing but its time.
    pub fn is_empty(&self) -> bool {
        let Self { powers, cpus, gpus, temperatures, fans, pressure, battery, tasks, .. } = self;
        let lists = [powers.len(), cpus.len(), gpus.len(), temperatures.len(), fans.len(), tasks.len()];
        lists.iter().all(|length| *length == 0) && pressure.is_none() && battery.is_none()
    }

    /// Finds or adds a component.
    pub fn cpu(&mut self, component: &'static str, core: &str) -> &mut CpuPower {
        let found = self.cpus.iter().rposition(|cpu| cpu.component == component && cpu.core == core);
        let index = found.unwrap_or_else(|| {
            self.cpus.push(CpuPower { component, core: core.to_owned(), ..CpuPower::default() });
            self.cpus.len() - 1
        });
        &mut self.cpus[index]
    }

    /// Finds or adds a cluster.
    pub fn cluster(&mut self, name: &str) -> &mut CpuPower {
        let cluster = self.cpu("cluster", name);
        if cluster.cluster.is_none() {
            cluster.cluster = Some(name.to_owned());
            let kind = name.split('-').next().unwrap_or(name).trim_end_matches(|c: char| c.is_ascii_digit());
            cluster.cluster_kind = Some(kind.to_owned());
        }
        cluster
    }

    /// Finds or adds a graphics processor.
    pub fn gpu(&mut self, number: u64) -> &mut Gpu {
        let name = format!("gpu{number}");
        let found = self.gpus.iter().position(|gpu| gpu.gpu == name);
        let index = found.unwrap_or_else(|| {
            self.gpus.push(Gpu { gpu: name, source: "powermetrics".into(), ..Gpu::default() });
            self.gpus.len() - 1
        });
        &mut self.gpus[index]
    }

    /// Finds or adds the battery.
    pub fn battery(&mut self) -> &mut Battery {
        self.battery.get_or_insert_with(|| Battery {
            device: "battery".into(),
            supply_type: "battery".into(),
            ..Battery::default()
        })
    }

    /// Sets the charge from `percent_charge`, which on Intel is in milliampere-hours, so thousands when full.
    pub fn charge(&mut self, value: f64) {
        let battery = self.battery();
        if value <= 100.0 {
            battery.charge_ratio = Some(micro(value / 100.0));
        } else {
            battery.charge_ah = Some(micro(value / 1000.0));
        }
    }

    /// Adds a temperature of the smc sampler (Intel); false if it is out of range.
    pub fn temperature(&mut self, label: &str, celsius: f64) -> bool {
        let sensor_id = label.to_ascii_lowercase().replace(' ', "_");
        let component = ["cpu", "gpu"].into_iter().find(|component| sensor_id.starts_with(component));
        self.temperatures.extend(bounds::celsius(celsius).map(|temperature_celsius| Temperature {
            component: component.unwrap_or("other"),
            sensor_id,
            label: Some(label.to_owned()),
            source: "smc".into(),
            temperature_celsius,
            ..Temperature::default()
        }));
        bounds::celsius(celsius).is_some()
    }

    /// Adds a fan of the smc sampler (Intel); false if its speed is out of range.
    pub fn fan(&mut self, label: Option<&str>, rpm: f64) -> bool {
        let (sensor_id, label) = (format!("fan{}", self.fans.len()), label.map(str::to_owned));
        let fan = |speed_rpm| Fan { sensor_id, label, source: "smc".into(), speed_rpm };
        self.fans.extend(bounds::rpm(rpm).map(fan));
        bounds::rpm(rpm).is_some()
    }

    /// Sets a thermal level or limit of the smc sampler (Intel) by its key in property lists; false if the key is
    /// unknown, or the number out of range.
    pub fn thermal(&mut self, key: &str, number: f64) -> bool {
        let (limit, pressure) = (bounds::level(number), self.pressure.get_or_insert_default());
        let level = limit.map(|level| level as i64);
        match key {
            "cpu_thermal_level" => set(&mut pressure.cpu_level, level),
            "gpu_thermal_level" => set(&mut pressure.gpu_level, level),
            "io_thermal_level" => set(&mut pressure.io_level, level),
            "cpu_plimit" => set(&mut pressure.cpu_plimit, limit),
            "num_prochots" => set(&mut pressure.prochots, bounds::count(number)),
            // With or without the name of the GPU.
            _ if key.starts_with("gpu2_plimit") => set(&mut pressure.gpu2_plimit, limit),
            _ if key.starts_with("gpu_plimit") => set(&mut pressure.gpu_plimit, limit),
            _ => false,
        }
    }

    /// Whether the charge is in milliampere-hours: if it is above 100, or was so before on this machine (`known`).
    pub fn in_milliampere_hours(&mut self, known: bool) -> bool {
        let Some(battery) = &mut self.battery else { return known };
        if known && let Some(ratio) = battery.charge_ratio.take() {
            battery.charge_ah = Some(micro(ratio * 100.0 / 1000.0));
        }
        known || battery.charge_ah.is_some()
    }

    /// Adds the power of a domain. Some are printed twice: the first one counts.
    pub fn power(&mut self, domain: &str, zone: Option<&str>, watts: f64) {
        let same = |known: &DomainPower| known.domain == domain && known.zone.as_deref() == zone;
        if watts.is_finite() && !self.powers.iter().any(same) {
            let (domain, zone) = (domain.to_owned(), zone.map(str::to_owned));
            self.powers.push(DomainPower { domain, zone, watts: micro(watts) });
        }
    }

    /// Computes what needs the whole sample: residencies of one meaning, and the use of clusters.
    pub fn complete(&mut self) {
        self.drop_empty();
        let mut used: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
        for cpu in &mut self.cpus {
            normalize(&mut cpu.residency, cpu.active_ratio);
            if let ("cpu", Some(cluster)) = (cpu.component, &cpu.cluster) {
                used.entry(cluster.clone()).or_default().push(cpu.active_ratio);
            }
        }
        let unfinished = take(&mut self.unfinished);
        let whole = |cpu: &&mut CpuPower| cpu.component == "cluster" && !unfinished.contains(&cpu.core);
        for cluster in self.cpus.iter_mut().filter(whole) {
            // Unknown if that of any CPU is.
            cluster.core_active_ratio = used.get(&cluster.core).and_then(|parts| mean(parts));
        }
        for gpu in &mut self.gpus {
            normalize(&mut gpu.residency, gpu.active_ratio);
            of_active(&mut gpu.requested, gpu.active_ratio);
        }
    }

    /// Drops components that have only a name, because their rows could not be read.
    fn drop_empty(&mut self) {
        self.cpus.retain_mut(|cpu| {
            let names = (take(&mut cpu.core), cpu.cluster.take(), cpu.cluster_kind.take());
            let empty = *cpu == CpuPower { component: cpu.component, ..CpuPower::default() };
            (cpu.core, cpu.cluster, cpu.cluster_kind) = names;
            !empty
        });
        self.gpus.retain_mut(|gpu| {
            let names = (take(&mut gpu.gpu), take(&mut gpu.source));
            let empty = *gpu == Gpu::default();
            (gpu.gpu, gpu.source) = names;
            !empty
        });
        self.pressure = self.pressure.take().filter(|pressure| *pressure != ThermalPressure::default());
    }
}

/// Sets a field to a value, if there is one, and returns whether there is.
pub fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let is_value = value.is_some();
    if is_value {
        *field = value;
    }
    is_value
}

/// Makes residencies parts of all time. Some versions print parts of the active time, which sum to 1 although the
/// active time is less. Residencies that sum to 1 are dropped if the active time is not known.
fn normalize(parts: &mut Option<BTreeMap<u64, f64>>, active: Option<f64>) {
    let Some(residency) = parts else { return };
    let sum: f64 = residency.values().sum();
    let Some(active) = active else {
        if sum > 0.999 {
            *parts = None;
        }
        return;
    };
    if (sum - 1.0).abs() < (sum - active).abs() {
        for part in residency.values_mut() {
            *part = micro(*part * active / sum);
        }
    }
}

/// Makes requested states parts of the active time. macOS 11 prints parts of all time, which sum to the active time.
fn of_active(parts: &mut Option<BTreeMap<String, f64>>, active: Option<f64>) {
    let Some(requested) = parts else { return };
    let sum: f64 = requested.values().sum();
    let Some(active) = active else {
        if sum < 0.99 {
            *parts = None;
        }
        return;
    };
    if sum > 0.0 && (sum - active).abs() < (sum - 1.0).abs() {
        requested.values_mut().for_each(|part| *part = micro(*part / sum));
    }
}

/// The domain of a name such as `CPU` or `Clusters Total`, and its zone if it is one of several.
pub fn domain(name: &str) -> (String, Option<&str>) {
    if name.ends_with("-Cluster") {
        return ("cluster".into(), Some(name));
    }
    if name == "Clusters Total" {
        return ("cpu".into(), None);
    }
    let word = name.split('(').next().unwrap_or(name).trim().to_ascii_lowercase();
    (word.replace(|c: char| !c.is_ascii_alphanumeric(), "_"), None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn residencies_become_parts_of_all_time() {
        for (parts, active, expected) in [
            ([0.4, 0.6], 0.1, [0.04, 0.06]),
            ([0.04, 0.06], 0.1, [0.04, 0.06]),
            ([0.4, 0.6], 1.0, [0.4, 0.6]),
            ([0.0, 0.0], 0.0, [0.0, 0.0]),
        ] {
            let mut residency = Some(BTreeMap::from([(1, parts[0]), (2, parts[1])]));
            normalize(&mut residency, Some(active));
            assert_eq!(residency.unwrap().into_values().collect::<Vec<_>>(), expected);
        }
    }

    #[test]
    fn requested_states_become_parts_of_the_active_time() {
        for (parts, active, expected) in [
            ([0.25, 0.75], Some(0.1), Some([0.25, 0.75])),
            ([0.25, 0.75], None, Some([0.25, 0.75])),
            ([0.025, 0.075], Some(0.1), Some([0.25, 0.75])),
            ([0.025, 0.075], None, None),
            ([0.0, 0.0], Some(0.0), Some([0.0, 0.0])),
            ([0.4, 0.6], Some(1.0), Some([0.4, 0.6])),
        ] {
            let mut requested = Some(BTreeMap::from([("1".into(), parts[0]), ("2".into(), parts[1])]));
            of_active(&mut requested, active);
            let expected = expected.map(Vec::from);
            assert_eq!(
                requested.map(|map| map.into_values().collect::<Vec<_>>()),
                expected,
                "{parts:?} {active:?}"
            );
        }
    }

    #[test]
    fn domains() {
        assert_eq!(domain("CPU"), ("cpu".into(), None));
        assert_eq!(domain("P1-Cluster"), ("cluster".into(), Some("P1-Cluster")));
        assert_eq!(domain("Clusters Total"), ("cpu".into(), None));
        assert_eq!(domain("SoC Fabric"), ("soc_fabric".into(), None));
    }
}
