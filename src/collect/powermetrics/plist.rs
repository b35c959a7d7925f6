//! The property list that `powermetrics -f plist` prints → [`Sample`].
//!
//! Energies are in mJ, powers in mW. `gpu` repeats two keys, which a tree of values does not mind, and its `freq_hz`
//! is in MHz, as are the frequencies of all `dvfm_states`.

use std::collections::BTreeMap;
use std::time::UNIX_EPOCH;

use plist::{Dictionary, Value};

use super::sample::{Sample, domain};
use crate::clock::Timestamp;
use crate::collect::micro;
use crate::record::{CpuPower, Fan, Task, Temperature, ThermalPressure};

/// What a document gave.
#[derive(Debug, Default, PartialEq)]
pub struct Document {
    /// The sample, if there was anything of one.
    pub sample: Option<Sample>,
    /// Paths of keys that were not understood.
    pub unknown: Vec<String>,
    /// Whether its end was missing, or it was no list at all.
    pub broken: bool,
}

/// Reads one document. Of one that is cut off, what is whole.
pub fn read(bytes: &[u8]) -> Document {
    let (value, broken) = match Value::from_reader_xml(bytes) {
        Ok(value) => (Some(value), false),
        Err(_) => (Value::from_reader_xml(&repaired(bytes)[..]).ok(), true),
    };
    let mut document = Document { broken, ..Document::default() };
    let Some(Value::Dictionary(top)) = value else {
        document.broken = true;
        return document;
    };
    let mut sample = Sample::default();
    Reader { sample: &mut sample, unknown: &mut document.unknown, elapsed_s: elapsed(&top) }.top(&top);
    sample.complete();
    document.sample = (!sample.is_empty()).then_some(sample);
    document
}

/// The longest beginning that consists of whole values, with what is open in it closed.
fn repaired(bytes: &[u8]) -> Vec<u8> {
    let (mut open, mut end, mut closing) = (Vec::<&[u8]>::new(), 0, Vec::new());
    let mut at = 0;
    while let Some(start) = memchr::memchr(b'<', &bytes[at..]).map(|offset| at + offset) {
        let Some(stop) = memchr::memchr(b'>', &bytes[start..]).map(|offset| start + offset) else { break };
        let tag = &bytes[start + 1..stop];
        let mut key = false;
        at = stop + 1;
        let name = tag.split(|byte| byte.is_ascii_whitespace()).next().unwrap_or(tag);
        if tag.starts_with(b"?") || tag.starts_with(b"!") {
            end = at;
            continue;
        }
        if let Some(name) = tag.strip_prefix(b"/") {
            if open.pop() != Some(name) {
                break;
            }
            key = name == b"key";
        } else if !tag.ends_with(b"/") {
            open.push(name);
        }
        // A key alone has no value yet, and inside of a value nothing is whole.
        let inside = open.last().is_some_and(|name| !matches!(*name, b"plist" | b"dict" | b"array"));
        if !key && !inside {
            end = at;
            closing = open.clone();
        }
    }
    let mut whole = bytes[..end].to_vec();
    for name in closing.iter().rev() {
        whole.extend_from_slice(b"</");
        whole.extend_from_slice(name);
        whole.push(b'>');
    }
    whole
}

fn elapsed(top: &Dictionary) -> Option<f64> {
    top.get("elapsed_ns").and_then(float).filter(|ns| *ns > 0.0).map(|ns| micro(ns / 1e9))
}

/// A number of either type.
fn float(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Integer(number) => {
            number.as_signed().map(|n| n as f64).or(number.as_unsigned().map(|n| n as f64))
        }
        Value::Real(number) => Some(*number),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

fn dictionaries(value: &Value) -> impl Iterator<Item = &Dictionary> {
    value.as_array().into_iter().flatten().filter_map(Value::as_dictionary)
}

/// What other programs measure, and what says nothing of power.
const ELSEWHERE: [&str; 12] = [
    "hw_model",
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
    "smc_version",
];

struct Reader<'a> {
    sample: &'a mut Sample,
    unknown: &'a mut Vec<String>,
    elapsed_s: Option<f64>,
}

impl Reader<'_> {
    fn unknown(&mut self, path: &str, key: &str) {
        self.unknown.push(format!("{path}{key}"));
    }

    fn top(&mut self, top: &Dictionary) {
        self.sample.elapsed_s = self.elapsed_s;
        for (key, value) in top {
            let understood = match key.as_str() {
                "elapsed_ns" => self.elapsed_s.is_some(),
                "is_delta" => {
                    self.sample.summary = value.as_boolean() == Some(false);
                    true
                }
                "timestamp" => self.timestamp(value).is_some(),
                "battery" => value.as_dictionary().map(|battery| self.battery(battery)).is_some(),
                "processor" => value.as_dictionary().map(|processor| self.processor(processor)).is_some(),
                "gpu" => value.as_dictionary().map(|gpu| self.gpu(0, gpu)).is_some(),
                "GPU" => {
                    dictionaries(value).enumerate().for_each(|(number, gpu)| self.gpu(number as u64, gpu));
                    true
                }
                "thermal_pressure" => self.thermal_pressure(value).is_some(),
                "smc" => value.as_dictionary().map(|smc| self.smc(smc)).is_some(),
                "tasks" | "coalitions" => {
                    dictionaries(value).for_each(|task| self.task(task));
                    true
                }
                "all_tasks" | "dead_tasks" => value.as_dictionary().map(|task| self.task(task)).is_some(),
                other => ELSEWHERE.contains(&other),
            };
            if !understood {
                self.unknown("", key);
            }
        }
    }

    fn timestamp(&mut self, value: &Value) -> Option<()> {
        let time = std::time::SystemTime::from(value.as_date()?).duration_since(UNIX_EPOCH).ok()?;
        self.sample.ts = u64::try_from(time.as_nanos()).ok().map(Timestamp);
        Some(())
    }

    fn thermal_pressure(&mut self, value: &Value) -> Option<()> {
        let level = value.as_string()?.to_owned();
        self.sample.pressure.get_or_insert_default().level = Some(level);
        Some(())
    }

    fn battery(&mut self, battery: &Dictionary) {
        for (key, value) in battery {
            let number = float(value).filter(|number| *number >= 0.0);
            match (key.as_str(), number) {
                ("percent_charge", Some(charge)) => self.sample.charge(charge),
                ("backlight_level" | "backlight_level_max" | "keyboard_backlight_level", _) => {}
                _ => self.unknown("battery.", key),
            }
        }
    }

    fn processor(&mut self, processor: &Dictionary) {
        for (key, value) in processor {
            if let Some(name) = key.strip_suffix("_power").or_else(|| key.strip_suffix("_energy")) {
                self.power(name, key, value, "processor.");
                continue;
            }
            let number = float(value);
            match (key.as_str(), number) {
                ("clusters", _) => dictionaries(value).for_each(|cluster| self.cluster(cluster)),
                ("packages", _) => {
                    let packages = dictionaries(value).enumerate();
                    packages.for_each(|(number, package)| self.package(number as u64, package));
                }
                ("package_watts", Some(watts)) => self.sample.power("package", None, watts),
                ("package_joules", Some(_)) => {}
                (
                    "freq_hz" | "freq_ratio" | "instr_retired" | "instr_per_clk" | "llc_flushed_ratio",
                    Some(_),
                ) => {
                    component(self.sample.cpu("system", "system"), key, value);
                }
                _ => self.unknown("processor.", key),
            }
        }
    }

    /// Power where it is there, else energy over the time.
    fn power(&mut self, name: &str, key: &str, value: &Value, path: &str) {
        let name = if name == "combined" || name.contains('-') {
            name.to_owned()
        } else {
            name.to_ascii_uppercase()
        };
        let (domain, zone) = domain(&name);
        match (float(value), self.elapsed_s) {
            (Some(milliwatts), _) if key.ends_with("_power") => {
                // An energy may have come first.
                self.sample.powers.retain(|known| known.domain != domain || known.zone.as_deref() != zone);
                self.sample.power(&domain, zone, milliwatts / 1000.0);
            }
            (Some(millijoules), Some(elapsed)) => {
                self.sample.power(&domain, zone, millijoules / 1000.0 / elapsed);
            }
            (Some(_), None) => {}
            (None, _) => self.unknown(path, key),
        }
    }

    fn cluster(&mut self, cluster: &Dictionary) {
        let Some(name) = cluster.get("name").and_then(Value::as_string) else {
            return self.unknown("processor.clusters.", "name");
        };
        self.sample.cluster(name);
        for (key, value) in cluster {
            match key.as_str() {
                "name" | "hw_resid_counters" => {}
                "power" | "energy" => self.power(name, &format!("_{key}"), value, "processor.clusters."),
                "cpus" => {
                    for cpu in dictionaries(value) {
                        self.cpu(cpu, Some(name), "processor.clusters.cpus.");
                    }
                }
                _ if component(self.sample.cluster(name), key, value) => {}
                _ => self.unknown("processor.clusters.", key),
            }
        }
    }

    fn cpu(&mut self, cpu: &Dictionary, cluster: Option<&str>, path: &str) {
        let number = cpu.get("cpu").and_then(float).filter(|number| *number >= 0.0);
        let Some(number) = number else { return self.unknown(path, "cpu") };
        let name = format!("cpu{number}");
        self.sample.cpu("cpu", &name).cluster = cluster.map(str::to_owned);
        for (key, value) in cpu {
            match key.as_str() {
                "cpu" | "duty_cycles" => {}
                _ if component(self.sample.cpu("cpu", &name), key, value) => {}
                _ => self.unknown(path, key),
            }
        }
    }

    /// Of Intel.
    fn package(&mut self, number: u64, package: &Dictionary) {
        let name = format!("package{number}");
        for (key, value) in package {
            match key.as_str() {
                "package" => {}
                "cores" => {
                    for (number, core) in dictionaries(value).enumerate() {
                        self.core(number, core);
                    }
                }
                _ if component(self.sample.cpu("package", &name), key, value) => {}
                _ => self.unknown("processor.packages.", key),
            }
        }
    }

    fn core(&mut self, number: usize, core: &Dictionary) {
        let number = core.get("core").and_then(float).unwrap_or(number as f64);
        let name = format!("core{number}");
        for (key, value) in core {
            match key.as_str() {
                "core" => {}
                "cpus" => {
                    for cpu in dictionaries(value) {
                        self.cpu(cpu, None, "processor.packages.cores.cpus.");
                    }
                }
                _ if component(self.sample.cpu("core", &name), key, value) => {}
                _ => self.unknown("processor.packages.cores.", key),
            }
        }
    }

    fn gpu(&mut self, number: u64, gpu: &Dictionary) {
        for (key, value) in gpu {
            if key == "gpu_energy" || key == "gpu_power" {
                self.power("gpu", key, value, "gpu.");
                continue;
            }
            let number_of = float(value);
            let record = self.sample.gpu(number);
            match (key.as_str(), number_of) {
                ("freq_hz", Some(mhz)) => record.frequency_hz = Some((mhz * 1e6).round() as u64),
                ("idle_ratio", Some(idle)) => {
                    (record.idle_ratio, record.active_ratio) = (Some(micro(idle)), Some(micro(1.0 - idle)));
                }
                ("busy_ratio", Some(busy)) => record.utilization_ratio = Some(micro(busy)),
                ("idle_ns", _) => {}
                ("name", _) => record.name = value.as_string().map(str::to_owned),
                ("dvfm_states", _) => record.residency = residency(value),
                ("sw_requested_state", _) => record.requested = states(value, "sw_req_state"),
                ("sw_state", _) => record.states = states(value, "sw_state"),
                ("c_state_ratio", Some(ratio)) => record.c_state_ratio = Some(micro(ratio)),
                _ => self.unknown("gpu.", key),
            }
        }
    }

    fn smc(&mut self, smc: &Dictionary) {
        for (key, value) in smc {
            let Some(number) = float(value) else {
                self.unknown("smc.", key);
                continue;
            };
            let sample = &mut *self.sample;
            match key.as_str() {
                "fan" => {
                    let sensor_id = format!("fan{}", sample.fans.len());
                    sample.fans.push(Fan { sensor_id, source: "smc".into(), speed_rpm: number, label: None });
                }
                "cpu_die" | "gpu_die" => sample.temperatures.push(Temperature {
                    sensor_id: key.clone(),
                    component: if key == "cpu_die" { "cpu" } else { "gpu" },
                    label: Some(if key == "cpu_die" { "CPU die" } else { "GPU die" }.into()),
                    source: "smc".into(),
                    temperature_celsius: number,
                    ..Temperature::default()
                }),
                _ => {
                    if !smc_pressure(sample.pressure.get_or_insert_default(), key, number) {
                        self.unknown("smc.", key);
                    }
                }
            }
        }
    }

    fn task(&mut self, task: &Dictionary) {
        let get = |name: &str| task.get(name).and_then(float);
        let Some(comm) = task.get("name").and_then(Value::as_string) else {
            return self.unknown("tasks.", "name");
        };
        let ratio = |name: &str| get(name).map(|ms| micro(ms / 1000.0));
        self.sample.tasks.push(Task {
            pid: get("pid").filter(|pid| *pid >= 0.0).map(|pid| pid as u64),
            comm: comm.to_owned(),
            cpu_ratio: ratio("cputime_ms_per_s"),
            user_ratio: get("cputime_userland_ratio").map(micro),
            gpu_ratio: ratio("gputime_ms_per_s"),
            interrupt_wakeups_per_s: get("intr_wakeups_per_s"),
            package_wakeups_per_s: get("idle_wakeups_per_s"),
            energy_impact: get("energy_impact_per_s").or_else(|| get("energy_impact")),
            interval_s: self.elapsed_s,
        });
        if let Some(tasks) = task.get("tasks") {
            dictionaries(tasks).for_each(|task| self.task(task));
        }
    }
}

fn smc_pressure(pressure: &mut ThermalPressure, key: &str, number: f64) -> bool {
    match key {
        "cpu_thermal_level" => pressure.cpu_level = Some(number as i64),
        "gpu_thermal_level" => pressure.gpu_level = Some(number as i64),
        "io_thermal_level" => pressure.io_level = Some(number as i64),
        "cpu_plimit" => pressure.cpu_plimit = Some(number),
        "gpu_plimit" => pressure.gpu_plimit = Some(number),
        "gpu2_plimit" => pressure.gpu2_plimit = Some(number),
        "num_prochots" => pressure.prochots = Some(number as u64),
        _ => return false,
    }
    true
}

/// A key that CPUs, cores, clusters and packages have; false if it is none.
fn component(cpu: &mut CpuPower, key: &str, value: &Value) -> bool {
    let number = float(value);
    let ratio = number.map(micro);
    match (key, number) {
        ("freq_hz", Some(hz)) => cpu.frequency_hz = Some(hz.round() as u64),
        ("freq_ratio", Some(_)) => cpu.nominal_ratio = ratio,
        ("idle_ratio", Some(_)) => cpu.idle_ratio = ratio,
        ("down_ratio", Some(_)) => cpu.down_ratio = ratio,
        ("online_ratio", Some(_)) => cpu.online_ratio = ratio,
        ("c_state_ratio", Some(_)) => cpu.c_state_ratio = ratio,
        ("llc_flushed_ratio", Some(_)) => cpu.llc_flushed_ratio = ratio,
        ("instr_retired" | "instructions_retired", Some(_)) => cpu.instructions = number,
        ("instr_per_clk" | "instructions_per_clock", Some(_)) => cpu.instructions_per_cycle = number,
        ("idle_ns" | "down_ns" | "online_ns" | "requested_ns" | "c_state_ns" | "cycles", Some(_)) => {}
        ("dvfm_states", _) => cpu.residency = residency(value),
        ("c_states", _) => cpu.c_state = states(value, "c_state").or_else(|| states(value, "name")),
        _ => return false,
    }
    if ["idle_ratio", "down_ratio"].contains(&key)
        && let Some(idle) = cpu.idle_ratio
    {
        cpu.active_ratio = Some(micro((1.0 - idle - cpu.down_ratio.unwrap_or(0.0)).max(0.0)));
    }
    true
}

/// `freq` is in MHz everywhere.
fn residency(value: &Value) -> Option<BTreeMap<u64, f64>> {
    let mut map = BTreeMap::new();
    for state in dictionaries(value) {
        let (mhz, part) = (float(state.get("freq")?)?, float(state.get("used_ratio")?)?);
        let sum: &mut f64 = map.entry((mhz * 1e6).round() as u64).or_default();
        *sum = micro(*sum + part);
    }
    Some(map)
}

fn states(value: &Value, name: &str) -> Option<BTreeMap<String, f64>> {
    let pairs = dictionaries(value).map(|state| {
        let part = state.get("used_ratio").or_else(|| state.get("c_state_ratio")).and_then(float)?;
        Some((state.get(name)?.as_string()?.to_owned(), micro(part)))
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_that_is_cut_off_is_closed_where_it_is_whole() {
        for (cut, expected) in [
            (
                "<plist><dict><key>a</key><integer>1</integer><key>b</key><dict><key>c</key><integer>2",
                "<plist><dict><key>a</key><integer>1</integer><key>b</key><dict></dict></dict></plist>",
            ),
            (
                "<plist><dict><key>a</key><array><true/><inte",
                "<plist><dict><key>a</key><array><true/></array></dict></plist>",
            ),
            ("<plist><dict><key>a</ke", "<plist><dict></dict></plist>"),
            ("<plist><dict></array>", "<plist><dict></dict></plist>"),
            ("<pli", ""),
        ] {
            assert_eq!(String::from_utf8(repaired(cut.as_bytes())).unwrap(), expected, "{cut}");
        }
    }
}
