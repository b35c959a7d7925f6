//! The property list that `powermetrics -f plist` prints → [`Sample`].
//!
//! Energies are in mJ, powers in mW. `gpu` repeats two keys, which a tree of values does not mind, and its `freq_hz`
//! is in MHz, as are the frequencies of all `dvfm_states`.

mod gpu;
mod processor;
mod smc;
mod tree;

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::bounds;
use super::sample::{Sample, domain};
use crate::collect::micro;
use crate::common::diag::excerpt;
use crate::common::time::Timestamp;
use crate::record::Task;
use tree::{Dict, Tree, Value};

/// What a document gave.
#[derive(Debug, Default, PartialEq)]
pub struct Document {
    /// The sample, if there was anything of one.
    pub sample: Option<Sample>,
    /// The machine.
    pub model: Option<String>,
    /// Paths of keys that were not understood, and lines after something that cannot be. Not empty where the end is
    /// missing.
    pub unknown: Vec<String>,
}

/// Reads one document. Of one that is cut off, what is whole.
pub fn read(bytes: &[u8]) -> Document {
    // The standard library's own lossy way is slow where nothing is lost.
    let text = str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed);
    let (tree, rest) = Tree::read(&text);
    let mut document = Document::default();
    if let Some(rest) = rest {
        let lines = rest.lines().map(str::trim).filter(|line| !line.is_empty());
        document.unknown.extend(lines.map(|line| excerpt(line.as_bytes())));
        if document.unknown.is_empty() {
            document.unknown.push("a property list whose end is missing".into());
        }
    }
    let Some(top) = tree.top().and_then(Value::dict) else {
        if rest.is_none() {
            document.unknown.push("a property list that is no dictionary".into());
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

/// What other programs measure, and what says nothing of power.
const ELSEWHERE: [&str; 17] = [
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
    /// What is not understood is counted, unless it says itself that there is nothing: a part of no time at all.
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
                // One, or on Intel several.
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
                other => ELSEWHERE.contains(&other),
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
                // Of the keyboard the brightest is not told.
                ("backlight_level" | "backlight_level_max" | "keyboard_backlight_level", Some(_)) => {}
                _ => self.unknown("battery.", key, value),
            }
        }
        let get = |key: &str| battery.get(key).and_then(Value::number);
        if let Some((level, most)) = get("backlight_level").zip(get("backlight_level_max")) {
            self.sample.battery().backlight_ratio = bounds::ratio(level / most);
        }
    }

    /// Power where it is there, else energy over the time.
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
                // An energy may have come first.
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
        // A coalition is the sum of its tasks.
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
}

/// Sets a field where there is a value, and says whether there is.
fn set<T>(field: &mut Option<T>, value: Option<T>) -> bool {
    let understood = value.is_some();
    if understood {
        *field = value;
    }
    understood
}

/// Parts of the time by frequency; `freq` is in MHz everywhere. Of a list that was cut off the sum would mislead.
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

/// The active part of the time. The parts of the frequencies sum up to it, on some systems to 1; where they do
/// neither, something is missing, and neither is told.
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

/// Parts of the time by the state of that name.
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
