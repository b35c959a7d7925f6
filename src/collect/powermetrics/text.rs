//! The text that `powermetrics` prints, line by line.
//!
//! A header (`*** Sampled system activity …`) begins a sample; star lines name its sections, of which each is there
//! once. Rows are told apart by what they say, not by the section that they are in, so that fragments can be read.

use jiff::fmt::strtime;
use nom::Parser as _;
use nom::bytes::complete::{tag, take_until};
use nom::character::complete::space0;
use nom::sequence::{delimited, preceded, terminated};

use super::sample::{Sample, domain};
use super::tasks::Columns;
use super::value::{
    Parsed, frequencies, frequency, nominal, number, numbered, percent, plain, ratio_and, states, watts,
    whole, with_unit,
};
use crate::clock::Timestamp;
use crate::collect::micro;
use crate::record::{CpuPower, Fan, Temperature, ThermalPressure};

/// What became of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Understood {
    /// All of it.
    Yes,
    /// Its beginning; the rest is cut off or strange.
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

/// Takes line after line.
#[derive(Default)]
pub struct Text {
    sample: Sample,
    /// Whether there was a header, or a row.
    begun: bool,
    sections: Vec<Vec<u8>>,
    /// Whether the section has had a row.
    rows: bool,
    columns: Option<Columns>,
    cluster: Option<String>,
    /// The CPU of the last row, to which rows without a number belong (Intel).
    cpu: Option<String>,
}

impl Text {
    /// A line without its newline, and a sample where the line begins the next one.
    pub fn line(&mut self, line: &[u8]) -> (Understood, Option<Sample>) {
        let trimmed = line.trim_ascii();
        if trimmed.is_empty() {
            self.columns = None;
            return (Yes, None);
        }
        if let Some(header) = header(trimmed) {
            let done = self.finish();
            self.begun = true;
            (self.sample.ts, self.sample.elapsed_s, self.sample.summary) = header;
            return (Yes, done);
        }
        if trimmed.starts_with(b"***") {
            return self.section(trimmed);
        }
        let understood = self.row(line);
        self.rows |= understood != No;
        (understood, None)
    }

    /// The sample that the end completes.
    pub fn finish(&mut self) -> Option<Sample> {
        let Self { mut sample, begun, .. } = std::mem::take(self);
        sample.complete();
        (begun && !sample.is_empty()).then_some(sample)
    }

    /// A section that comes again is of another sample, whose header is missing.
    fn section(&mut self, line: &[u8]) -> (Understood, Option<Sample>) {
        let Some(name) = line.strip_suffix(b"***").map(|_| line.to_vec()) else { return (No, None) };
        self.columns = None;
        self.cluster = None;
        self.cpu = None;
        let mut done = None;
        let again = self.sections.contains(&name);
        if again && (self.rows || self.sections.last() != Some(&name)) {
            done = self.finish();
        }
        if !self.sections.contains(&name) {
            self.sections.push(name);
        }
        self.rows = false;
        self.begun = true;
        (Yes, done)
    }

    fn row(&mut self, line: &[u8]) -> Understood {
        if let Some(columns) = &self.columns {
            let task = columns.task(line, self.sample.elapsed_s);
            let understood = task.is_some();
            self.sample.tasks.extend(task);
            return understood.into();
        }
        if line.first() == Some(&b'\t') {
            return interrupts(line.trim_ascii()).into();
        }
        let line = line.trim_ascii();
        if let Some(columns) = Columns::read(line) {
            self.columns = Some(columns);
            self.begun = true;
            return Yes;
        }
        if line.starts_with(b"proc_pidpath ") {
            // What the program says on stderr, where both go to one place.
            return Yes;
        }
        let Ok(text) = str::from_utf8(line) else { return No };
        let Some((name, value)) = text.split_once(':') else {
            return self.gpu_name(text).into();
        };
        let understood = self.pair(name.trim_end(), value.as_bytes().trim_ascii());
        self.begun |= understood != No;
        understood
    }

    fn gpu_name(&mut self, text: &str) -> bool {
        let found = text.strip_prefix("GPU ").and_then(numbered);
        let Some((number, rest)) = found else { return false };
        let Some(name) = rest.strip_prefix("name ") else { return false };
        self.sample.gpu(number).name = Some(name.trim().to_owned());
        self.begun = true;
        true
    }

    /// A row of a name and a value.
    fn pair(&mut self, name: &str, value: &[u8]) -> Understood {
        if let Some((cluster, what)) = name.split_once("-Cluster ")
            && cluster.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit())
        {
            return self.of_cluster(&name[..cluster.len() + "-Cluster".len()], what, value);
        }
        if let Some(name) =
            name.strip_suffix(" Power").or_else(|| name.split_once(" Power (").map(|(it, _)| it))
        {
            return self.power(name, value);
        }
        let first = name.split(' ').next().unwrap_or("");
        match first {
            "CPU" | "cpu" | "Core" | "Package" | "System" | "LLC" | "Intel" => {
                self.of_processor(first, name, value)
            }
            "GPU"
                if !name.contains("Plimit") && !name.ends_with("level") && !name.ends_with("temperature") =>
            {
                self.of_gpu(name["GPU".len()..].trim_start(), value)
            }
            _ => self.others(name, value).into(),
        }
    }

    fn power(&mut self, name: &str, value: &[u8]) -> Understood {
        let Some(watts) = watts(value) else { return No };
        let (domain, zone) = domain(name);
        self.sample.power(&domain, zone, watts);
        Yes
    }

    fn of_cluster(&mut self, name: &str, what: &str, value: &[u8]) -> Understood {
        self.cluster = Some(name.to_owned());
        if what == "Power" {
            return self.power(name, value);
        }
        component(self.sample.cluster(name), what, value)
    }

    /// Rows of CPUs, and of Intel's cores and packages.
    fn of_processor(&mut self, first: &str, name: &str, value: &[u8]) -> Understood {
        let rest = name[first.len()..].trim_start();
        if let Some((number, what)) = numbered(rest) {
            return match first {
                "CPU" | "cpu" => self.of_cpu(number, what, value),
                "Core" => component(self.sample.cpu("core", &format!("core{number}")), what, value),
                "Package" => component(self.sample.cpu("package", &format!("package{number}")), what, value),
                _ => No,
            };
        }
        match (first, rest) {
            ("CPU", "Average frequency as fraction of nominal") => {
                let Some(cpu) = self.cpu.clone() else { return No };
                component(self.sample.cpu("cpu", &cpu), rest, value)
            }
            ("System", _) => component(self.sample.cpu("system", "system"), rest, value),
            ("LLC", "flushed residency") => {
                let ratio = whole(percent, value);
                self.sample.cpu("system", "system").llc_flushed_ratio = ratio;
                ratio.is_some().into()
            }
            ("Intel", _) if rest.starts_with("energy model derived package power") => {
                self.power("Package", value)
            }
            _ => self.others(name, value).into(),
        }
    }

    fn of_cpu(&mut self, number: u64, what: &str, value: &[u8]) -> Understood {
        if what.is_empty() {
            // The heading of a CPU's interrupts.
            return value.is_empty().into();
        }
        let name = format!("cpu{number}");
        if what == "duty cycles/s" {
            self.cpu = Some(name);
            return value.starts_with(b"active/idle [").into();
        }
        let cluster = self.cluster.clone();
        let cpu = self.sample.cpu("cpu", &name);
        if cpu.cluster.is_none() {
            cpu.cluster = cluster;
        }
        let understood = component(cpu, what, value);
        self.cpu = Some(name);
        understood
    }

    fn of_gpu(&mut self, name: &str, value: &[u8]) -> Understood {
        let (number, what) = numbered(name).unwrap_or((0, name));
        let gpu = self.sample.gpu(number);
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
            "GPU Busy" => set(&mut gpu.utilization_ratio, whole(percent, value)),
            "C-state residency" => match ratio_and(value, |it| Ok((&it[it.len()..], ()))) {
                Some((ratio, _)) => set(&mut gpu.c_state_ratio, Some(ratio)),
                None => No,
            },
            _ if what.starts_with("average active frequency as fraction of nominal") => {
                set(&mut gpu.frequency_hz, nominal(value).map(|(_, hz)| hz))
            }
            _ => No,
        }
    }

    /// Battery, heat, and what is measured elsewhere.
    fn others(&mut self, name: &str, value: &[u8]) -> bool {
        match name {
            "Machine model" | "SMC version" | "EFI version" | "OS version" | "Boot arguments"
            | "Boot time" => true,
            "Battery" => {
                let charge = value.strip_prefix(b"percent_charge:").and_then(number).filter(|it| *it >= 0.0);
                charge.map(|charge| self.sample.charge(charge)).is_some()
            }
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
                    self.pressure().level = Some(level);
                }
                one_word
            }
            _ => self.smc(name, value).is_some(),
        }
    }

    fn pressure(&mut self) -> &mut ThermalPressure {
        self.sample.pressure.get_or_insert_default()
    }

    /// Rows of the smc sampler (Intel).
    fn smc(&mut self, name: &str, value: &[u8]) -> Option<()> {
        if let Some(label) = name.strip_suffix(" temperature") {
            let id = label.to_ascii_lowercase().replace(' ', "_");
            self.sample.temperatures.push(Temperature {
                component: if id.starts_with("cpu") {
                    "cpu"
                } else if id.starts_with("gpu") {
                    "gpu"
                } else {
                    "other"
                },
                sensor_id: id,
                label: Some(label.to_owned()),
                source: "smc".into(),
                temperature_celsius: with_unit(value, "C")?,
                ..Temperature::default()
            });
            return Some(());
        }
        if name == "Fan" || name.starts_with("Fan ") {
            let speed_rpm = with_unit(value, "rpm")?;
            let sensor_id = format!("fan{}", self.sample.fans.len());
            let label = name.strip_prefix("Fan ").map(str::to_owned);
            self.sample.fans.push(Fan { sensor_id, label, source: "smc".into(), speed_rpm });
            return Some(());
        }
        let number = number(value)?;
        let pressure = self.pressure();
        match name {
            "CPU Thermal level" => pressure.cpu_level = Some(number as i64),
            "GPU Thermal level" => pressure.gpu_level = Some(number as i64),
            "IO Thermal level" => pressure.io_level = Some(number as i64),
            "CPU Plimit" => pressure.cpu_plimit = Some(number),
            "GPU Plimit" | "GPU Plimit (Int)" => pressure.gpu_plimit = Some(number),
            _ if name.starts_with("GPU2 Plimit") => pressure.gpu2_plimit = Some(number),
            "Number of prochots" => pressure.prochots = Some(number as u64),
            _ => return None,
        }
        Some(())
    }
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
        "Online" => set(&mut cpu.online_ratio, whole(percent, value)),
        "instructions retired" => set(&mut cpu.instructions, number(value)),
        "instructions per clock" => set(&mut cpu.instructions_per_cycle, number(value)),
        "C-state residency" => listed(value, states, &mut cpu.c_state_ratio, &mut cpu.c_state),
        "Average frequency as fraction of nominal" => match nominal(value) {
            Some((ratio, hz)) => {
                (cpu.nominal_ratio, cpu.frequency_hz) = (Some(ratio), Some(hz));
                Yes
            }
            None => No,
        },
        _ => No,
    }
}

fn set<T>(field: &mut Option<T>, value: Option<T>) -> Understood {
    let understood = value.is_some();
    if understood {
        *field = value;
    }
    understood.into()
}

/// A ratio with its list.
fn listed<'a, T>(
    value: &'a [u8],
    list: impl Fn(&'a [u8]) -> Parsed<'a, T>,
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

/// `910 (range 0-1024)`, `104 (off 0 on range 32-512)`: the part of the most.
fn level(value: &[u8]) -> Option<f64> {
    let range =
        delimited((space0, tag("("), take_until("range "), tag("range "), plain, tag("-")), plain, tag(")"));
    let read = |bytes| (plain, range).parse(bytes);
    let (_, (value, most)): (_, (f64, f64)) = read(value).ok()?;
    (most > 0.0).then(|| micro(value / most))
}

/// `3.89 packets/s, 375.67 bytes/s`, and what disks say, without a comma. `scrape` measures these.
fn traffic(value: &[u8], units: [&str; 2]) -> bool {
    let text = String::from_utf8_lossy(value).replace(',', " ");
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    matches!(words[..], [one, unit, other, second]
        if [unit, second] == units && number(one.as_bytes()).is_some() && number(other.as_bytes()).is_some())
}

/// `Total IRQ: 2057.23 interrupts/sec`, `|-> IPI: …`, `Vector 0x46(SMC): …`.
fn interrupts(line: &[u8]) -> bool {
    let Some(colon) = line.iter().rposition(|&byte| byte == b':') else { return false };
    let named = [&b"Total IRQ"[..], b"|-> ", b"Vector "].iter().any(|name| line.starts_with(name));
    named && with_unit(&line[colon + 1..], "interrupts/sec").is_some()
}

type Header = (Option<Timestamp>, Option<f64>, bool);

/// `*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (1001.02ms elapsed) ***`
fn header(line: &[u8]) -> Option<Header> {
    let what = |bytes| {
        preceded((tag("***"), space0), terminated(take_until(" system activity"), tag(" system activity")))
            .parse(bytes)
    };
    let (rest, what): (_, &[u8]) = Parsed::<'_, &[u8]>::ok(what(line))?;
    let text = str::from_utf8(rest).ok()?;
    if !text.ends_with("***") {
        return None;
    }
    let mut groups =
        text.split('(').skip(1).filter_map(|group| group.split_once(')').map(|(group, _)| group));
    let ts = groups.clone().find_map(date);
    let elapsed = groups.find_map(|group| number(group.strip_suffix("ms elapsed")?.as_bytes()));
    Some((ts, elapsed.filter(|ms| *ms > 0.0).map(|ms| micro(ms / 1000.0)), what != b"Sampled"))
}

/// `Tue Sep 29 19:44:14 2026 +0800`, as `ctime` pads it.
fn date(text: &str) -> Option<Timestamp> {
    let words: Vec<_> = text.split_ascii_whitespace().collect();
    let time = strtime::parse("%a %b %d %H:%M:%S %Y %z", words.join(" ")).ok()?.to_timestamp().ok()?;
    u64::try_from(time.as_nanosecond()).ok().map(Timestamp)
}
