//! Reads the rows of all sections but the table of tasks, by their names: a recording may lack the heading of a
//! section, so it is not needed.

use nom::Parser as _;
use nom::bytes::complete::{tag, take_until};
use nom::character::complete::space0;
use nom::sequence::delimited;

use super::sample::{self, Sample, domain};
use super::value::{
    ParseResult, bounds, frequencies, frequency, is_nan, nominal, number, numbered, percent, plain,
    ratio_and, states, steps, watts, whole, with_unit,
};
use crate::record::CpuPower;

/// How much of a line was understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Understood {
    /// All of it, or it is skipped on purpose.
    Yes,
    /// Its beginning; the rest is cut off or damaged.
    Partly,
    /// Nothing.
    No,
}

use Understood::{No, Partly, Yes};

impl From<bool> for Understood {
    fn from(all: bool) -> Self {
        if all { Yes } else { No }
    }
}

/// The rows of one sample.
#[derive(Default)]
pub struct Rows {
    /// The sample that they make up.
    pub sample: Sample,
    /// The cluster, package and CPU of the last row that named one. Rows without a name belong to them.
    cluster: Option<String>,
    package: Option<String>,
    cpu: Option<String>,
    /// Whether the last row was that of a cluster or CPU.
    last_of_cpu: bool,
    /// The indentation of the last row, if it was skipped. Rows below it that are indented further are too.
    details: Option<usize>,
}

impl Rows {
    /// Begins a new section.
    pub fn section(&mut self) {
        (self.cluster, self.package, self.cpu, self.details) = (None, None, None, None);
    }

    /// The sample, complete.
    pub fn finish(mut self) -> Sample {
        // Rows of power follow the CPUs. Without them, CPUs of the last cluster may be missing.
        self.sample.unfinished.extend(self.cluster.filter(|_| self.last_of_cpu));
        self.sample.complete();
        self.sample
    }

    /// Takes a row.
    pub fn row(&mut self, line: &[u8]) -> Understood {
        let indentation = line.len() - line.trim_ascii_start().len();
        if self.details.is_some_and(|heading| indentation > heading) {
            return Yes;
        }
        self.details = None;
        if line.starts_with(b"\t") {
            return interrupts(line.trim_ascii()).into();
        }
        let Ok(text) = str::from_utf8(line.trim_ascii()) else { return No };
        let name = before(text, b':');
        let Some(value) = text.get(name.len() + 1..) else {
            return (self.gpu_name(text) || self.limit(text)).into();
        };
        let (name, value) = (name.trim_ascii_end(), value.trim_ascii());
        match self.pair(name, value.as_bytes()) {
            No if is_nan(value) => Yes,
            No if is_detail(name) => {
                self.details = Some(indentation);
                Yes
            }
            understood => understood,
        }
    }

    /// A row of a name and a value.
    fn pair(&mut self, name: &str, value: &[u8]) -> Understood {
        self.last_of_cpu = false;
        let first = before(name, b' ');
        if let Some(cluster) = first.strip_suffix("-Cluster")
            && let Some(what) = name.get(first.len() + 1..)
            && cluster.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        {
            self.last_of_cpu = true;
            return self.cluster(first, what, value);
        }
        // `Combined Power (CPU + GPU + ANE)`
        if let Some(name) = before(name, b'(').trim_ascii_end().strip_suffix(" Power") {
            return self.power(name, value);
        }
        let of_smc = || name.contains("Plimit") || name.ends_with("level") || name.ends_with("temperature");
        match first {
            "GPU" if !of_smc() => self.gpu(name["GPU".len()..].trim_start(), value),
            "CPU" | "cpu" | "Core" | "Cores" | "Package" | "System" | "LLC" | "Intel" | "Avg" | "CPU/GPU" => {
                self.processor(first, name, value)
            }
            "ANE" => quantity(value).into(),
            _ => self.other(name, value).into(),
        }
    }

    fn power(&mut self, name: &str, value: &[u8]) -> Understood {
        let Some(watts) = watts(value) else { return No };
        let (domain, zone) = domain(name);
        self.sample.power(&domain, zone, watts);
        Yes
    }

    fn cluster(&mut self, name: &str, what: &str, value: &[u8]) -> Understood {
        self.cluster = Some(name.to_owned());
        if what == "Power" {
            return self.power(name, value);
        }
        component(self.sample.cluster(name), what, value)
    }

    /// Rows of CPUs, and of Intel's cores and packages.
    fn processor(&mut self, first: &str, name: &str, value: &[u8]) -> Understood {
        let rest = name[first.len()..].trim_start();
        if let Some((number, what)) = numbered(rest) {
            return match first {
                "CPU" | "cpu" => self.cpu(number, what, value),
                "Core" => component(self.sample.cpu("core", &format!("core{number}")), what, value),
                "Package" => {
                    let name = format!("package{number}");
                    let understood = component(self.sample.cpu("package", &name), what, value);
                    self.package = Some(name);
                    understood
                }
                _ => No,
            };
        }
        match (first, rest) {
            ("CPU", "Average frequency as fraction of nominal") => {
                let Some(cpu) = &self.cpu else { return No };
                component(self.sample.cpu("cpu", cpu), rest, value)
            }
            ("System", _) => component(self.sample.cpu("system", "system"), rest, value),
            // In no record: how much of the time both ran, and the mean number of active cores.
            ("CPU/GPU", "Overlap") => whole(percent, value).is_some().into(),
            ("Avg", "Num of Cores Active") => number(value).is_some().into(),
            ("Cores", "Active") => {
                set(&mut self.sample.cpu("system", "system").active_ratio, whole(percent, value))
            }
            ("LLC", "flushed residency") => {
                set(&mut self.sample.cpu("system", "system").llc_flushed_ratio, whole(percent, value))
            }
            ("Intel", _) => match rest.strip_prefix("energy model derived ") {
                Some(part) => self.energy_model(part, value),
                None => No,
            },
            _ => self.other(name, value).into(),
        }
    }

    /// `package power (CPUs+GT+SA)`, which is without the power of memory.
    fn energy_model(&mut self, part: &str, value: &[u8]) -> Understood {
        let name = match part.split(" power").next() {
            Some("package") => "Package",
            Some("CPU core") => "CPU",
            Some("GT") => "GPU",
            Some("DRAM") => "DRAM",
            _ => return No,
        };
        self.sample.memory_apart = true;
        self.power(name, value)
    }

    fn cpu(&mut self, number: u64, what: &str, value: &[u8]) -> Understood {
        if what.is_empty() {
            // The heading of a CPU's interrupts.
            return value.is_empty().into();
        }
        let name = format!("cpu{number}");
        if what == "duty cycles/s" {
            self.cpu = Some(name);
            return value.starts_with(b"active/idle [").into();
        }
        self.last_of_cpu = true;
        let cpu = self.sample.cpu("cpu", &name);
        if cpu.cluster.is_none() {
            cpu.cluster.clone_from(&self.cluster);
        }
        let understood = component(cpu, what, value);
        self.cpu = Some(name);
        understood
    }

    /// `CPU LIMIT MAX_TURBO_LIMIT`, below `Performance Limited Due to:` (Intel).
    fn limit(&mut self, text: &str) -> bool {
        let Some((limited, reason)) = text.split_once(" LIMIT ") else { return false };
        let is_word = |word: &str| {
            !word.is_empty()
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_/-+".contains(&byte))
        };
        let reason = reason.trim();
        if !is_word(limited) || !is_word(reason) {
            return false;
        }
        let (reasons, reason) = match limited {
            "GPU" | "GT" => (&mut self.sample.gpu(0).limit_reasons, reason.to_owned()),
            _ => {
                let cpu = match &self.package {
                    Some(package) => self.sample.cpu("package", package),
                    None => self.sample.cpu("system", "system"),
                };
                let of_cpu = limited == "CPU";
                let reason = if of_cpu { reason.to_owned() } else { format!("{limited} {reason}") };
                (&mut cpu.limit_reasons, reason)
            }
        };
        let reasons = reasons.get_or_insert_default();
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
        true
    }

    /// `GPU 0 name IntelIG`
    fn gpu_name(&mut self, text: &str) -> bool {
        let found = text.strip_prefix("GPU ").and_then(numbered);
        let Some((number, rest)) = found else { return false };
        let Some(name) = rest.strip_prefix("name ") else { return false };
        self.sample.gpu(number).name = Some(name.trim().to_owned());
        true
    }

    /// The first GPU has no number on Apple's processors.
    fn gpu(&mut self, name: &str, value: &[u8]) -> Understood {
        let number = numbered(name);
        let (index, what) = number.unwrap_or((0, name));
        let gpu = self.sample.gpu(index);
        match what {
            "HW active frequency" | "active frequency" => set(&mut gpu.frequency_hz, whole(frequency, value)),
            "HW active residency" | "active residency" => {
                listed(value, frequencies, &mut gpu.active_ratio, &mut gpu.residency)
            }
            "idle residency" => set(&mut gpu.idle_ratio, whole(percent, value)),
            "requested frequency" => {
                let found = whole(frequencies, value);
                let found =
                    found.map(|map| map.into_iter().map(|(hz, part)| (hz.to_string(), part)).collect());
                set(&mut gpu.requested, found)
            }
            "SW requested state" => set(&mut gpu.requested, whole(states, value)),
            "SW state" => set(&mut gpu.states, whole(states, value)),
            // Intel: the package's own count, then that of the graphics driver.
            "Active" => set(&mut gpu.active_ratio, whole(percent, value)),
            "P-state residency" => set(&mut gpu.residency, whole(steps, value)),
            "GPU Busy" => set(&mut gpu.utilization_ratio, whole(percent, value)),
            "C-state residency" => match ratio_and(value, |it| Ok((&it[it.len()..], ()))) {
                Some((ratio, _)) => set(&mut gpu.c_state_ratio, Some(ratio)),
                None => No,
            },
            _ if what.starts_with("average active frequency as fraction of nominal") => {
                set(&mut gpu.frequency_hz, nominal(value).map(|(_, hz)| hz))
            }
            // Other counts of the drivers of Intel and AMD: display, power saving, duty cycles.
            _ => (number.is_some() && quantity(value)).into(),
        }
    }

    /// Rows of the machine, the battery, and of what other programs measure.
    fn other(&mut self, name: &str, value: &[u8]) -> bool {
        match name {
            "Machine model"
            | "SMC version"
            | "EFI version"
            | "OS version"
            | "Boot arguments"
            | "Boot time"
            | "Performance Limited Due to" => true,
            "Battery" => {
                let charge = value.strip_prefix(b"percent_charge:").and_then(number).filter(|it| *it >= 0.0);
                charge.map(|charge| self.sample.charge(charge)).is_some()
            }
            // Without its range, a level has no meaning.
            "Backlight level" | "Keyboard Backlight level" if number(value).is_some() => true,
            "Backlight level" => {
                let ratio = level(value);
                ratio.map(|_| self.sample.battery().backlight_ratio = ratio).is_some()
            }
            "Keyboard Backlight level" => {
                let ratio = level(value);
                ratio.map(|_| self.sample.battery().keyboard_backlight_ratio = ratio).is_some()
            }
            "out" | "in" => traffic(value, ["packets/s", "bytes/s"]),
            "read" | "write" => traffic(value, ["ops/s", "KBytes/s"]),
            "Current pressure level" => {
                let level = String::from_utf8_lossy(value).into_owned();
                let one_word = !level.is_empty() && level.bytes().all(|byte| byte.is_ascii_alphabetic());
                if one_word {
                    self.sample.pressure.get_or_insert_default().level = Some(level);
                }
                one_word
            }
            _ => self.smc(name, value),
        }
    }

    /// Rows of the smc sampler (Intel).
    fn smc(&mut self, name: &str, value: &[u8]) -> bool {
        if let Some(label) = name.strip_suffix(" temperature") {
            return with_unit(value, "C").is_some_and(|celsius| self.sample.temperature(label, celsius));
        }
        if name == "Fan" || name.starts_with("Fan ") {
            let label = name.strip_prefix("Fan ");
            return with_unit(value, "rpm").is_some_and(|rpm| self.sample.fan(label, rpm));
        }
        let key = name.replace("Number of", "num").to_ascii_lowercase().replace(' ', "_");
        number(value).is_some_and(|number| self.sample.thermal(&key, number))
    }
}

/// The text before the first such character, or all of it. Faster than `split`.
fn before(text: &str, ascii: u8) -> &str {
    &text[..memchr::memchr(ascii, text.as_bytes()).unwrap_or(text.len())]
}

/// Rows of `--show-cpu-qos`, `--show-cpu-scalability`, `--show-pstates`, `--show-hwp-capability` and
/// `--show-extra-power-info`, which are in no record, and targets of fans.
pub fn is_detail(name: &str) -> bool {
    const DETAILS: [&str; 10] = [
        "qos",
        "scalab",
        "p-state",
        "pstate",
        "hwp",
        "requested",
        "recommended",
        "core count",
        "zones engaged",
        "fan target",
    ];
    let lower = name.to_ascii_lowercase();
    !lower.starts_with("gpu")
        && (lower.starts_with("simulated") || DETAILS.iter().any(|it| lower.contains(it)))
}

/// Any value of one number: `93%`, `400 MHz`, `3 (6.00/second)`, or a list of states or frequencies.
fn quantity(value: &[u8]) -> bool {
    whole(percent, value).is_some()
        || whole(frequency, value).is_some()
        || with_unit(value, "").is_some()
        || whole(states, value).is_some()
        || ratio_and(value, frequencies).is_some_and(|(_, list)| list.is_ok())
}

/// A row of a CPU, a core, a cluster or a package.
fn component(cpu: &mut CpuPower, what: &str, value: &[u8]) -> Understood {
    match what {
        "frequency" | "HW active frequency" | "active frequency" => {
            set(&mut cpu.frequency_hz, whole(frequency, value))
        }
        "active residency" | "HW active residency" => {
            listed(value, frequencies, &mut cpu.active_ratio, &mut cpu.residency)
        }
        "idle residency" => set(&mut cpu.idle_ratio, whole(percent, value)),
        "down residency" => set(&mut cpu.down_ratio, whole(percent, value)),
        // A part of the time, or the CPUs of the cluster: `4-8`.
        "Online" if is_range(value) => Yes,
        "Online" => set(&mut cpu.online_ratio, whole(percent, value)),
        "instructions retired" => set(&mut cpu.instructions, number(value).filter(|count| *count >= 0.0)),
        "instructions per clock" => {
            set(&mut cpu.instructions_per_cycle, number(value).filter(|it| *it >= 0.0))
        }
        "C-state residency" => listed(value, states, &mut cpu.c_state_ratio, &mut cpu.c_state),
        "Average frequency as fraction of nominal" => {
            let (ratio, hz) = nominal(value).unzip();
            set(&mut cpu.frequency_hz, hz);
            set(&mut cpu.nominal_ratio, ratio)
        }
        _ => No,
    }
}

/// `0-3`, `4,6-8`.
fn is_range(value: &[u8]) -> bool {
    value.first().is_some_and(u8::is_ascii_digit)
        && value.iter().all(|byte| byte.is_ascii_digit() || b"-, ".contains(byte))
}

fn set<T>(field: &mut Option<T>, value: Option<T>) -> Understood {
    sample::set(field, value).into()
}

/// A ratio with its list.
fn listed<'a, T>(
    value: &'a [u8],
    list: impl Fn(&'a [u8]) -> ParseResult<'a, T>,
    ratio: &mut Option<f64>,
    parts: &mut Option<T>,
) -> Understood {
    let Some((found, list)) = ratio_and(value, list) else { return No };
    *ratio = Some(found);
    match list {
        Ok(list) => {
            *parts = list;
            Yes
        }
        Err(()) => Partly,
    }
}

/// `910 (range 0-1024)`, `104 (off 0 on range 32-512)`, as a part of the maximum.
fn level(value: &[u8]) -> Option<f64> {
    let range =
        delimited((space0, tag("("), take_until("range "), tag("range "), plain, tag("-")), plain, tag(")"));
    let read = |bytes| (plain, range).parse(bytes);
    let (_, (value, most)): (_, (f64, f64)) = read(value).ok()?;
    (most > 0.0).then(|| bounds::ratio(value / most))?
}

/// `3.89 packets/s, 375.67 bytes/s`; disks have no comma. `scrape` measures these.
fn traffic(value: &[u8], units: [&str; 2]) -> bool {
    let text = String::from_utf8_lossy(value).replace(',', " ");
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    matches!(words[..], [one, unit, other, second]
        if [unit, second] == units && number(one.as_bytes()).is_some() && number(other.as_bytes()).is_some())
}

/// `Total IRQ: 2057.23 interrupts/sec`, `|-> IPI: …`, `Vector 0x46(SMC): …`.
fn interrupts(line: &[u8]) -> bool {
    let Some(colon) = line.iter().rposition(|&byte| byte == b':') else { return false };
    let prefixes = [&b"Total IRQ"[..], b"|-> ", b"Vector "];
    prefixes.iter().any(|prefix| line.starts_with(prefix))
        && with_unit(&line[colon + 1..], "interrupts/sec").is_some()
}
