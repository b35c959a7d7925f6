//! Recordings that are cut off, or have lines missing or bytes changed: nothing breaks, and no number is invented.

use std::collections::HashSet;

use proptest::prelude::*;

use super::super::Sample;
use super::{FILES, parse};

/// All numbers of a sample that were measured and not computed.
fn numbers(samples: &[Sample]) -> Vec<f64> {
    let mut all = Vec::new();
    for sample in samples {
        all.extend(sample.elapsed_s);
        all.extend(sample.powers.iter().map(|power| power.watts));
        for cpu in &sample.cpus {
            all.extend(cpu.frequency_hz.map(|hz| hz as f64));
            all.extend(
                [cpu.idle_ratio, cpu.down_ratio, cpu.online_ratio, cpu.c_state_ratio].into_iter().flatten(),
            );
            all.extend(cpu.residency.iter().flat_map(|parts| parts.keys()).map(|hz| *hz as f64));
        }
        for gpu in &sample.gpus {
            all.extend(gpu.frequency_hz.map(|hz| hz as f64));
            all.extend([gpu.idle_ratio, gpu.utilization_ratio, gpu.c_state_ratio].into_iter().flatten());
            all.extend(gpu.residency.iter().flat_map(|parts| parts.keys()).map(|hz| *hz as f64));
        }
        all.extend(
            sample.battery.iter().flat_map(|battery| [battery.charge_ratio, battery.charge_ah]).flatten(),
        );
        all.extend(sample.temperatures.iter().map(|sensor| sensor.temperature_celsius));
        all.extend(sample.fans.iter().map(|fan| fan.speed_rpm));
        all.extend(sample.tasks.iter().filter_map(|task| task.energy_impact));
    }
    all
}

/// Those that text prints and that are computed from a list.
fn active(samples: &[Sample]) -> Vec<f64> {
    let cpus = samples.iter().flat_map(|sample| &sample.cpus).filter_map(|cpu| cpu.active_ratio);
    let gpus = samples.iter().flat_map(|sample| &sample.gpus).filter_map(|gpu| gpu.active_ratio);
    cpus.chain(gpus).collect()
}

/// What each number is of, and all that it may be: those that are computed too. Samples are not told apart.
fn facts(samples: &[Sample]) -> HashSet<(String, i64)> {
    let mut all = HashSet::new();
    let mut parts = |name: &str, what: &str, parts: &Option<std::collections::BTreeMap<u64, f64>>| {
        let parts = parts.iter().flatten();
        all.extend(parts.map(|(hz, part)| (format!("{name} {what} {hz}"), rounded(*part))));
    };
    for sample in samples {
        sample.cpus.iter().for_each(|cpu| parts(&cpu.core, "residency", &cpu.residency));
        sample.gpus.iter().for_each(|gpu| parts(&gpu.gpu, "residency", &gpu.residency));
    }
    let mut add = |name: &str, what: &str, value: Option<f64>| {
        all.extend(value.map(|value| (format!("{name} {what}"), rounded(value))));
    };
    for sample in samples {
        for cpu in &sample.cpus {
            add(&cpu.core, "active", cpu.active_ratio);
            add(&cpu.core, "active of its cores", cpu.core_active_ratio);
        }
        sample.gpus.iter().for_each(|gpu| add(&gpu.gpu, "active", gpu.active_ratio));
        if let Some(battery) = &sample.battery {
            add("battery", "backlight", battery.backlight_ratio);
            add("battery", "keyboard", battery.keyboard_backlight_ratio);
        }
    }
    all.extend(numbers(samples).into_iter().map(|value| ("measured".to_owned(), rounded(value))));
    all
}

/// What a changed recording says that the whole one does not.
fn told_anew(changed: &[u8], whole: &[u8]) -> Vec<(String, i64)> {
    let whole = facts(&parse(whole).0);
    facts(&parse(changed).0).into_iter().filter(|fact| !whole.contains(fact)).collect()
}

/// Numbers as they are printed, in every unit that they may have.
fn printed(bytes: &[u8]) -> HashSet<i64> {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| !(c.is_ascii_digit() || c == '.'));
    let values = words.filter_map(|word| word.trim_end_matches('.').parse::<f64>().ok());
    values
        .flat_map(|value| [1e-6, 1e-3, 1e-2, 1.0, 1e3, 1e6, 1e9].map(|factor| rounded(value * factor)))
        .collect()
}

fn rounded(value: f64) -> i64 {
    (value * 1e6).round() as i64
}

fn invented(bytes: &[u8]) -> Option<f64> {
    let printed = printed(bytes);
    let samples = parse(bytes).0;
    numbers(&samples).into_iter().chain(active(&samples)).find(|value| !printed.contains(&rounded(*value)))
}

#[test]
fn a_line_missing_or_twice_invents_nothing() {
    for file in FILES[..4].iter().chain(&FILES[5..]) {
        let lines: Vec<_> = file.split_inclusive(|&byte| byte == b'\n').collect();
        for at in 0..lines.len() {
            for times in [0, 2] {
                let changed = [&lines[..at], &vec![lines[at]; times], &lines[at + 1..]].concat().concat();
                let what = format!("{times} times {}", String::from_utf8_lossy(lines[at]));
                assert_eq!(told_anew(&changed, file), [], "{what}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_beginning_of_text_gives_a_beginning(which in 0usize..3, part in 0.0..1.0f64) {
        let text = FILES[which];
        let cut = (text.len() as f64 * part) as usize;
        let unknown = parse(&text[..cut]).1;
        prop_assert!(unknown.len() <= 1, "{:?}", unknown);
        prop_assert_eq!(told_anew(&text[..cut], text), [], "at {}", cut);
    }

    #[test]
    fn any_beginning_of_a_list_gives_a_beginning(which in 3usize..6, part in 0.0..1.0f64) {
        let list = FILES[which];
        let cut = (list.len() as f64 * part) as usize;
        prop_assert_eq!(told_anew(&list[..cut], list), [], "at {}", cut);
    }

    #[test]
    fn a_changed_byte_invents_nothing(which in 0usize..3, at: prop::sample::Index, byte: u8) {
        let mut text = FILES[which].to_vec();
        let at = at.index(text.len());
        text[at] = byte;
        prop_assert_eq!(invented(&text), None);
    }

    #[test]
    fn a_changed_byte_of_a_list_breaks_nothing(which in 3usize..6, at: prop::sample::Index, byte: u8) {
        let mut list = FILES[which].to_vec();
        let at = at.index(list.len());
        list[at] = byte;
        parse(&list);
    }

    #[test]
    fn no_bytes_break_it(text in "((CPU|GPU|E-Cluster|Battery|Fan|Name  ID|\\*\\*\\*) ?[0-9]{0,3}( Power| HW active residency| frequency)?: ?[0-9.]{0,6}(%|mW| MHz)?( \\([0-9 :MHz%]{0,9}\\)?)?\n|<\\?xml|<dict>|</plist>\n|.){0,9}") {
        parse(text.as_bytes());
    }

    #[test]
    fn no_bytes_of_any_kind_break_it(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse(&bytes);
        parse(&[&b"<?xml?><plist><dict>"[..], &bytes].concat());
    }
}
