//! Makes a [`Sample`] of a property list that `powermetrics -f plist` prints.
//!
//! Energies are in mJ, powers in mW. `gpu` repeats two keys, and its `freq_hz` is in MHz, as are the frequencies of
//! all `dvfm_states`.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::rows::is_detail;
use super::sample::{Sample, domain, set};
use super::tree::{Dict, Tree, Value};
use super::value::bounds;
use crate::collect::micro;
use crate::common::diag::excerpt;
use crate::common::time::Timestamp;
use crate::record::{CpuPower, Task};

/// The contents of a list.
#[derive(Debug, Default, PartialEq)]
pub struct Document {
    /// The sample, unless it would be empty.
    pub sample: Option<Sample>,
    /// The model of the machine.
    pub model: Option<String>,
    /// Paths of keys that were not understood.
    pub unknown: Vec<String>,
    /// Lines after an error. Not empty if the end is missing.
    pub unread: Vec<String>,
}

/// Reads one list. If it is cut off, what is whole is used.
pub fn read(bytes: &[u8]) -> Document {
    // Faster than `from_utf8_lossy` alone for valid text.
    let text = str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    let (tree, rest) = Tree::read(&text);
    let mut document = Document::default();
    if let Some(rest) = rest {
        let lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
        document.unread.extend(lines.map(|line| excerpt(line.as_bytes())));
        if document.unread.is_empty() {
            document.unread.push("a property list without its end".into());
        }
    }
    let Some(top) = tree.top().and_then(Value::dict) else {
        if rest.is_none() {
            document.unread.push("a property list that is not a dictionary".into());
        }
        return document;
    };
    document.model = top.get("hw_model").and_then(Value::text).map(str::to_owned);
    let mut sample = Sample::default();
    Reader { sample: &mut sample, unknown: &mut document.unknown, elapsed_s: elapsed(top) }.top(top);
    sample.complete();
    document.sample = (!sample.is_empty()).then_some(sample);
    document
}

fn elapsed(top: Dict<'_>) -> Option<f64> {
    top.get("elapsed_ns").and_then(Value::number).and_then(|ns| bounds::length(ns / 1e9))
}

/// Keys that are skipped: other programs measure them, or they are not about power, frequency or heat.
const SKIPPED: [&str; 19] = [
    "hw_model",
    "efi_version",
    "kern_version",
    "kern_osversion",
    "kern_bootargs",
    "kern_boottime",
    "network",
    "disk",
    "interrupts",
    "int_sources",
    "sfi",
    "devices",
    "bandwidth_counters",
    "agpm_stats",
    "gpu_agpm_stats",
    "gpu_dcc_stats",
    "nvme_ssd",
    "io_throttle_ssd",
    "smc_version",
];

struct Reader<'a> {
    sample: &'a mut Sample,
    unknown: &'a mut Vec<String>,
    elapsed_s: Option<f64>,
}

impl Reader<'_> {
    /// Counts a key that was not understood, unless its value is a NaN, from a division by zero.
    fn unknown(&mut self, path: &str, key: &str, value: Value<'_>) {
        if !value.has_nan() {
            self.missing(path, key);
        }
    }

    fn missing(&mut self, path: &str, key: &str) {
        self.unknown.push(format!("{path}{key}"));
    }

    fn top(&mut self, top: Dict<'_>) {
        self.sample.elapsed_s = self.elapsed_s;
        for (key, value) in top.iter() {
            let understood = match key {
                "elapsed_ns" => self.elapsed_s.is_some(),
                "is_delta" => {
                    self.sample.summary = value.bool() == Some(false);
                    true
                }
                "timestamp" => self.timestamp(value).is_some(),
                "battery" => value.dict().map(|battery| self.battery(battery)).is_some(),
                "processor" => value.dict().map(|processor| self.processor(processor)).is_some(),
                // One dictionary, or several on Intel.
                "gpu" | "GPU" => {
                    let all: Vec<_> = value.dict().into_iter().chain(value.dicts()).collect();
                    all.iter().enumerate().for_each(|(number, gpu)| self.gpu(number as u64, *gpu));
                    !all.is_empty() || value.is_whole_array()
                }
                "thermal_pressure" => self.thermal_pressure(value).is_some(),
                "smc" => value.dict().map(|smc| self.smc(smc)).is_some(),
                "tasks" | "coalitions" => {
                    value.dicts().for_each(|task| self.task(task));
                    true
                }
                "all_tasks" | "dead_tasks" => value.dict().map(|task| self.task(task)).is_some(),
                other => SKIPPED.contains(&other),
            };
            if !understood {
                self.unknown("", key, value);
            }
        }
    }

    fn timestamp(&mut self, value: Value<'_>) -> Option<()> {
        self.sample.ts = Some(value.date()?.parse::<Timestamp>().ok()?);
        Some(())
    }

    fn thermal_pressure(&mut self, value: Value<'_>) -> Option<()> {
        let level = value.text()?.to_owned();
        self.sample.pressure.get_or_insert_default().level = Some(level);
        Some(())
    }

    fn battery(&mut self, battery: Dict<'_>) {
        for (key, value) in battery.iter() {
            let number = value.number().filter(|number| *number >= 0.0);
            match (key, number) {
                ("percent_charge", Some(charge)) => self.sample.charge(charge),
                // The maximum of the keyboard is not in the list.
                ("backlight_level" | "backlight_level_max" | "keyboard_backlight_level", Some(_)) => {}
                _ => self.unknown("battery.", key, value),
            }
        }
        let get = |key: &str| battery.get(key).and_then(Value::number);
        if let Some((level, most)) = get("backlight_level").zip(get("backlight_level_max")) {
            self.sample.battery().backlight_ratio = bounds::ratio(level / most);
        }
    }

    /// Takes a power, or an energy as the mean power over the sample.
    fn power(&mut self, name: &str, key: &str, value: Value<'_>, path: &str) {
        let name = if name == "combined" || name.contains('-') {
            name.to_owned()
        } else {
            name.to_ascii_uppercase()
        };
        let (domain, zone) = domain(&name);
        let number = value.number().filter(|number| *number >= 0.0);
        let in_bounds = |watts: &f64| bounds::watts(*watts).is_some();
        match (number, self.elapsed_s) {
            (Some(milliwatts), _) if key.ends_with("_power") && in_bounds(&(milliwatts / 1000.0)) => {
                // It replaces the one that an energy gave.
                self.sample.powers.retain(|known| known.domain != domain || known.zone.as_deref() != zone);
                self.sample.power(&domain, zone, milliwatts / 1000.0);
            }
            (Some(millijoules), Some(elapsed))
                if !key.ends_with("_power") && in_bounds(&(millijoules / 1000.0 / elapsed)) =>
            {
                self.sample.power(&domain, zone, millijoules / 1000.0 / elapsed);
            }
            (Some(_), None) if !key.ends_with("_power") => {}
            _ => self.unknown(path, key, value),
        }
    }

    fn task(&mut self, task: Dict<'_>) {
        let get = |name: &str| task.get(name).and_then(Value::number);
        let Some(comm) = task.get("name").and_then(Value::text) else {
            return self.missing("tasks.", "name");
        };
        // A coalition is replaced by its tasks.
        let mut tasks = task.get("tasks").into_iter().flat_map(Value::dicts).peekable();
        if tasks.peek().is_some() {
            return tasks.for_each(|task| self.task(task));
        }
        let mut within = |name: &str, bound: fn(f64) -> Option<f64>| {
            let number = get(name)?;
            let within = bound(number);
            if within.is_none() {
                self.unknown.push(format!("tasks.{name}"));
            }
            within
        };
        let processors = |ms: f64| bounds::processors(ms / 1000.0).map(micro);
        self.sample.tasks.push(Task {
            pid: get("pid").filter(|pid| *pid >= 0.0).map(|pid| pid as u64),
            comm: comm.to_owned(),
            cpu_ratio: within("cputime_ms_per_s", processors),
            user_ratio: within("cputime_userland_ratio", bounds::ratio),
            gpu_ratio: within("gputime_ms_per_s", processors),
            interrupt_wakeups_per_s: within("intr_wakeups_per_s", bounds::per_second),
            package_wakeups_per_s: within("idle_wakeups_per_s", bounds::per_second),
            energy_impact: within("energy_impact_per_s", bounds::per_second)
                .or_else(|| within("energy_impact", bounds::per_second)),
            interval_s: self.elapsed_s,
        });
    }

    /// Clusters of Apple's processors, packages and cores of Intel's, and power.
    fn processor(&mut self, processor: Dict<'_>) {
        for (key, value) in processor.iter() {
            if let Some(name) = key.strip_suffix("_power").or_else(|| key.strip_suffix("_energy")) {
                self.power(name, key, value, "processor.");
                continue;
            }
            match (key, value.number()) {
                ("clusters", _) => value.dicts().for_each(|cluster| self.cluster(cluster)),
                ("packages", _) => {
                    value.dicts().enumerate().for_each(|(number, it)| self.package(number, it))
                }
                ("package_watts", Some(watts)) if bounds::watts(watts).is_some() => {
                    self.sample.memory_apart = true;
                    self.sample.power("package", None, watts);
                }
                ("package_joules" | "cpu_power_zones_engaged", Some(_)) => {}
                (
                    "freq_hz" | "freq_ratio" | "instr_retired" | "instr_per_clk" | "llc_flushed_ratio",
                    Some(_),
                ) if component(self.sample.cpu("system", "system"), key, value) => {}
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
                // Requests of the scheduler, and whether hardware counts the residency.
                "name" | "hw_resid_counters" | "requested_mhz" | "recommended_cores" => {}
                "power" | "energy" => self.power(name, &format!("_{key}"), value, "processor.clusters."),
                "cpus" => value.dicts().for_each(|cpu| self.cpu(cpu, Some(name), "processor.clusters.cpus.")),
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

    /// A package of Intel.
    fn package(&mut self, number: usize, package: Dict<'_>) {
        let name = format!("package{number}");
        for (key, value) in package.iter() {
            match key {
                "package" => {}
                "cores" => value.dicts().enumerate().for_each(|(number, core)| self.core(number, core)),
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
                "cpus" => value.dicts().for_each(|cpu| self.cpu(cpu, None, "processor.packages.cores.cpus.")),
                _ if component(self.sample.cpu("core", &name), key, value) => {}
                _ => self.unknown("processor.packages.cores.", key, value),
            }
        }
        complete(self.sample.cpu("core", &name), core);
    }

    fn gpu(&mut self, number: u64, gpu: Dict<'_>) {
        for (key, value) in gpu.iter() {
            if key == "gpu_energy" || key == "gpu_power" {
                self.power("gpu", key, value, "gpu.");
                continue;
            }
            let record = self.sample.gpu(number);
            let understood = match (key, value.number()) {
                // In MHz, in spite of its name. A value too high for MHz is in Hz.
                ("freq_hz", Some(number)) => {
                    let hertz = bounds::hertz(number * 1e6).or_else(|| bounds::hertz(number));
                    set(&mut record.frequency_hz, hertz)
                }
                ("idle_ratio", Some(idle)) => set(&mut record.idle_ratio, bounds::ratio(idle)),
                ("busy_ratio", Some(busy)) => set(&mut record.utilization_ratio, bounds::ratio(busy)),
                ("idle_ns" | "c_state_ns" | "freq_ratio", _) => true,
                ("name", _) => set(&mut record.name, value.text().map(str::to_owned)),
                ("dvfm_states", _) => set(&mut record.residency, residency(value)),
                ("sw_requested_state", _) => set(&mut record.requested, states(value, "sw_req_state")),
                ("sw_state", _) => set(&mut record.states, states(value, "sw_state")),
                ("c_state_ratio", Some(ratio)) => set(&mut record.c_state_ratio, bounds::ratio(ratio)),
                _ => false,
            };
            if !understood {
                self.unknown("gpu.", key, value);
            }
        }
        let record = self.sample.gpu(number);
        if let Some(idle) = record.idle_ratio.filter(|_| gpu.whole) {
            record.active_ratio = active(1.0 - idle, &mut record.residency);
        }
    }

    /// Temperatures, fans and limits (Intel).
    fn smc(&mut self, smc: Dict<'_>) {
        for (key, value) in smc.iter() {
            let understood = value.number().is_some_and(|number| self.sensor(key, number));
            if !understood {
                self.unknown("smc.", key, value);
            }
        }
    }

    fn sensor(&mut self, key: &str, number: f64) -> bool {
        match key {
            "fan" => self.sample.fan(None, number),
            "cpu_die" => self.sample.temperature("CPU die", number),
            "gpu_die" => self.sample.temperature("GPU die", number),
            // Target temperatures of fans, and levels that were set by hand for tests.
            _ if key.ends_with("_fan_target") || key.starts_with("simulated_") => true,
            _ => self.sample.thermal(key, number),
        }
    }
}

/// Takes a key of a CPU, core, cluster or package; false if it is not understood.
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
        // Why it is throttled.
        (_, None) if key.contains("limit") && value.is_whole_array() => {
            cpu.limit_reasons = Some(value.texts().map(str::to_owned).collect());
        }
        _ => return is_detail(key),
    }
    true
}

/// Computes the active part from the idle and down parts, unless a key is missing.
fn complete(cpu: &mut CpuPower, from: Dict<'_>) {
    let down_is_missing = cpu.down_ratio.is_none() && from.get("down_ns").is_some();
    if let Some(idle) = cpu.idle_ratio.filter(|_| from.whole && !down_is_missing) {
        let part = 1.0 - idle - cpu.down_ratio.unwrap_or(0.0);
        cpu.active_ratio = active(part, &mut cpu.residency);
    }
}

/// Parts of the time by frequency; `freq` is in MHz everywhere. `None` for a list that was cut off, whose sum would
/// mislead.
fn residency(value: Value<'_>) -> Option<BTreeMap<u64, f64>> {
    if !value.is_whole_array() {
        return None;
    }
    let mut map = BTreeMap::new();
    for state in value.dicts() {
        let hertz = bounds::hertz(state.get("freq")?.number()? * 1e6)?;
        let part = bounds::ratio(state.get("used_ratio")?.number()?)?;
        let sum: &mut f64 = map.entry(hertz).or_default();
        *sum = micro(*sum + part);
    }
    Some(map)
}

/// The active part of the time. The parts of the frequencies sum to it, on some systems to 1. If they do neither,
/// something is missing, and both are dropped.
fn active(part: f64, residency: &mut Option<BTreeMap<u64, f64>>) -> Option<f64> {
    if let Some(frequencies) = residency {
        let sum: f64 = frequencies.values().sum();
        if [1.0, part].iter().all(|whole| (sum - whole).abs() > 0.001) {
            *residency = None;
            return None;
        }
    }
    Some(micro(part.max(0.0)))
}

/// Parts of the time by state; `name` is the key of the state's name.
fn states(value: Value<'_>, name: &str) -> Option<BTreeMap<String, f64>> {
    let pairs = value.dicts().map(|state| {
        let part = state
            .get("used_ratio")
            .or_else(|| state.get("c_state_ratio"))?
            .number()
            .and_then(bounds::ratio)?;
        Some((state.get(name)?.text()?.to_owned(), part))
    });
    if value.is_whole_array() { pairs.collect() } else { None }
}
