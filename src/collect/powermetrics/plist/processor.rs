//! The dictionary `processor`: clusters of Apple's processors, packages and cores of Intel's, and power.

use super::tree::{Dict, Value};
use super::{Reader, active, residency, set, states};
use crate::collect::powermetrics::bounds;
use crate::record::CpuPower;

impl Reader<'_> {
    pub(super) fn processor(&mut self, processor: Dict<'_>) {
        for (key, value) in processor.iter() {
            if let Some(name) = key.strip_suffix("_power").or_else(|| key.strip_suffix("_energy")) {
                self.power(name, key, value, "processor.");
                continue;
            }
            match (key, value.number()) {
                ("clusters", _) => value.dicts().for_each(|cluster| self.cluster(cluster)),
                ("packages", _) => {
                    let packages = value.dicts().enumerate();
                    packages.for_each(|(number, package)| self.package(number as u64, package));
                }
                ("package_watts", Some(watts)) if bounds::watts(watts).is_some() => {
                    self.sample.memory_apart = true;
                    self.sample.power("package", None, watts);
                }
                ("package_joules" | "cpu_power_zones_engaged", Some(_)) => {}
                (
                    "freq_hz" | "freq_ratio" | "instr_retired" | "instr_per_clk" | "llc_flushed_ratio",
                    Some(_),
                ) => {
                    if !component(self.sample.cpu("system", "system"), key, value) {
                        self.unknown("processor.", key, value);
                    }
                }
                _ => self.unknown("processor.", key, value),
            }
        }
    }

    fn cluster(&mut self, cluster: Dict<'_>) {
        let Some(name) = cluster.get("name").and_then(Value::text) else {
            return self.missing("processor.clusters.", "name");
        };
        self.sample.cluster(name);
        for (key, value) in cluster.iter() {
            match key {
                // What the scheduler would like of it, and whether the rest is counted by the hardware.
                "name" | "hw_resid_counters" | "requested_mhz" | "recommended_cores" => {}
                "power" | "energy" => self.power(name, &format!("_{key}"), value, "processor.clusters."),
                "cpus" => {
                    for cpu in value.dicts() {
                        self.cpu(cpu, Some(name), "processor.clusters.cpus.");
                    }
                }
                _ if component(self.sample.cluster(name), key, value) => {}
                _ => self.unknown("processor.clusters.", key, value),
            }
        }
        complete(self.sample.cluster(name), cluster);
        if !cluster.whole {
            self.sample.unfinished.push(name.to_owned());
        }
    }

    fn cpu(&mut self, cpu: Dict<'_>, cluster: Option<&str>, path: &str) {
        let number = cpu.get("cpu").and_then(Value::number).filter(|number| *number >= 0.0);
        let Some(number) = number else {
            self.sample.unfinished.extend(cluster.map(str::to_owned));
            return self.missing(path, "cpu");
        };
        let name = format!("cpu{number}");
        self.sample.cpu("cpu", &name).cluster = cluster.map(str::to_owned);
        for (key, value) in cpu.iter() {
            match key {
                "cpu" | "duty_cycles" => {}
                _ if component(self.sample.cpu("cpu", &name), key, value) => {}
                _ => self.unknown(path, key, value),
            }
        }
        complete(self.sample.cpu("cpu", &name), cpu);
    }

    /// Of Intel.
    fn package(&mut self, number: u64, package: Dict<'_>) {
        let name = format!("package{number}");
        for (key, value) in package.iter() {
            match key {
                "package" => {}
                "cores" => {
                    for (number, core) in value.dicts().enumerate() {
                        self.core(number, core);
                    }
                }
                _ if component(self.sample.cpu("package", &name), key, value) => {}
                _ => self.unknown("processor.packages.", key, value),
            }
        }
        complete(self.sample.cpu("package", &name), package);
    }

    fn core(&mut self, number: usize, core: Dict<'_>) {
        let number = core.get("core").and_then(Value::number).unwrap_or(number as f64);
        let name = format!("core{number}");
        for (key, value) in core.iter() {
            match key {
                "core" => {}
                "cpus" => {
                    for cpu in value.dicts() {
                        self.cpu(cpu, None, "processor.packages.cores.cpus.");
                    }
                }
                _ if component(self.sample.cpu("core", &name), key, value) => {}
                _ => self.unknown("processor.packages.cores.", key, value),
            }
        }
        complete(self.sample.cpu("core", &name), core);
    }
}

/// A key that CPUs, cores, clusters and packages have; false if it is none.
fn component(cpu: &mut CpuPower, key: &str, value: Value<'_>) -> bool {
    let number = value.number();
    let ratio = number.and_then(bounds::ratio);
    match (key, number) {
        ("freq_hz", Some(hz)) => return set(&mut cpu.frequency_hz, bounds::hertz(hz)),
        ("freq_ratio", Some(number)) => return set(&mut cpu.nominal_ratio, bounds::nominal(number)),
        ("idle_ratio", Some(_)) => return set(&mut cpu.idle_ratio, ratio),
        ("down_ratio", Some(_)) => return set(&mut cpu.down_ratio, ratio),
        ("online_ratio", Some(_)) => return set(&mut cpu.online_ratio, ratio),
        ("c_state_ratio", Some(_)) => return set(&mut cpu.c_state_ratio, ratio),
        ("llc_flushed_ratio", Some(_)) => return set(&mut cpu.llc_flushed_ratio, ratio),
        ("instr_retired" | "instructions_retired", Some(0.0..)) => cpu.instructions = number,
        ("instr_per_clk" | "instructions_per_clock", Some(0.0..)) => cpu.instructions_per_cycle = number,
        ("idle_ns" | "down_ns" | "online_ns" | "requested_ns" | "c_state_ns" | "cycles", Some(_)) => {}
        ("dvfm_states", _) => return set(&mut cpu.residency, residency(value)),
        ("c_states", _) => {
            return set(&mut cpu.c_state, states(value, "c_state").or_else(|| states(value, "name")));
        }
        _ => return false,
    }
    true
}

/// What follows from all keys: how long it was active, unless a key is missing.
fn complete(cpu: &mut CpuPower, from: Dict<'_>) {
    let down_is_missing = cpu.down_ratio.is_none() && from.get("down_ns").is_some();
    if let Some(idle) = cpu.idle_ratio.filter(|_| from.whole && !down_is_missing) {
        let part = 1.0 - idle - cpu.down_ratio.unwrap_or(0.0);
        cpu.active_ratio = active(part, &mut cpu.residency);
    }
}
