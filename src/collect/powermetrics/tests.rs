use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

const FILES: [&[u8]; 5] = [
    include_bytes!("../../../tests/fixtures/powermetrics/apple.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/old.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/intel.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/apple.plist"),
    include_bytes!("../../../tests/fixtures/powermetrics/stream.plist"),
];

/// The samples of it, and how many lines or keys were not understood.
fn parse(bytes: &[u8]) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut unknown) = (Vec::new(), Vec::new());
    let mut tell = |told| match told {
        Told::Sample(sample) => samples.push(*sample),
        Told::Unknown(what) => unknown.push(what),
    };
    let (mut parser, mut lines) = (Parser::default(), crate::input::Lines::default());
    let fed: Result<(), ()> = lines.push(bytes, |line| {
        parser.line(line, &mut tell);
        Ok(())
    });
    fed.unwrap();
    if let Some(rest) = lines.rest() {
        parser.rest(rest, &mut tell);
    }
    parser.finish(&mut tell);
    (samples, unknown)
}

#[test]
fn text_and_list_of_the_same_facts_are_the_same_sample() {
    let ((text, unknown), (list, unknown_keys)) = (parse(FILES[0]), parse(FILES[3]));
    assert_eq!((unknown, unknown_keys), (Vec::new(), Vec::new()));
    let sorted = |mut samples: Vec<Sample>| {
        samples[0].cpus.sort_by(|one, other| one.core.cmp(&other.core));
        samples[0].powers.sort_by(|one, other| one.domain.cmp(&other.domain));
        samples
    };
    assert_eq!(sorted(text), sorted(list));
}

#[test]
fn energy_is_the_sum_over_the_samples() {
    let (samples, unknown) = parse(FILES[4]);
    assert_eq!((samples.len(), unknown), (3, Vec::new()));
    let mut records = records::Records::default();
    let energy: Vec<_> = samples.iter().map(|sample| records.powers(sample)[0].energy_joules).collect();
    assert_eq!(energy, [Some(1.5), Some(2.4), Some(2.7)]);
    assert_eq!(records.powers(&samples[0])[0].power_watts, Some(1.0));
}

#[test]
fn a_list_without_its_end_gives_what_is_whole() {
    let list = FILES[3];
    let cut = list.windows(20).position(|bytes| bytes == b"<key>thermal_pressur").unwrap();
    let (samples, unknown) = parse(&list[..cut]);
    assert_eq!((samples.len(), unknown.len()), (1, 1));
    assert_eq!((samples[0].cpus.len(), samples[0].gpus.len()), (5, 0));
    assert_eq!(samples[0].powers.len(), 4);
}

#[test]
fn a_section_that_comes_again_without_a_header_is_of_a_sample_of_unknown_length() {
    let text = b"*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (500.00ms elapsed) ***\n\
        **** Processor usage ****\nCPU Power: 5 mW\n**** Processor usage ****\nCPU Power: 7 mW\n";
    let (samples, _) = parse(text);
    assert_eq!(samples.len(), 2);
    assert_eq!((samples[0].elapsed_s, samples[1].elapsed_s), (Some(0.5), None));
    assert_eq!((samples[0].powers[0].watts, samples[1].powers[0].watts), (0.005, 0.007));
}

#[test]
fn what_is_unknown_is_told() {
    let (samples, unknown) =
        parse(b"**** New section ****\nAn odd row: 12\nCPU Power: 5\nCPU 0 frequency: x MHz\n\tBad\n");
    assert_eq!((samples.len(), unknown.len()), (0, 4));
    let list = String::from_utf8(FILES[4].to_vec()).unwrap().replace("cpu_energy", "brand_new");
    assert_eq!(parse(list.as_bytes()).1, ["processor.brand_new"; 3]);
}

/// All numbers of a sample that were measured and not computed.
fn numbers(samples: &[Sample]) -> Vec<f64> {
    let mut all = Vec::new();
    for sample in samples {
        all.extend(sample.powers.iter().map(|power| power.watts));
        for cpu in &sample.cpus {
            all.extend(cpu.frequency_hz.map(|hz| hz as f64));
            all.extend(
                [cpu.idle_ratio, cpu.down_ratio, cpu.online_ratio, cpu.c_state_ratio].into_iter().flatten(),
            );
        }
        all.extend(sample.temperatures.iter().map(|sensor| sensor.temperature_celsius));
        all.extend(sample.fans.iter().map(|fan| fan.speed_rpm));
        all.extend(sample.tasks.iter().filter_map(|task| task.energy_impact));
    }
    all
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
    numbers(&parse(bytes).0).into_iter().find(|value| !printed.contains(&rounded(*value)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_beginning_of_text_gives_a_beginning(which in 0usize..3, part in 0.0..1.0f64) {
        let text = FILES[which];
        let cut = (text.len() as f64 * part) as usize;
        let (some, unknown) = parse(&text[..cut]);
        prop_assert!(unknown.len() <= 1, "{:?}", unknown);
        let all = numbers(&parse(text).0).into_iter().map(rounded).collect::<HashSet<_>>();
        for value in numbers(&some) {
            prop_assert!(all.contains(&rounded(value)), "{} at {}", value, cut);
        }
    }

    #[test]
    fn any_beginning_of_a_list_gives_a_beginning(which in 3usize..5, part in 0.0..1.0f64) {
        let list = FILES[which];
        let (some, _) = parse(&list[..(list.len() as f64 * part) as usize]);
        let all = numbers(&parse(list).0).into_iter().map(rounded).collect::<HashSet<_>>();
        for value in numbers(&some) {
            prop_assert!(all.contains(&rounded(value)), "{}", value);
        }
    }

    #[test]
    fn a_changed_byte_invents_nothing(which in 0usize..3, at: prop::sample::Index, byte: u8) {
        let mut text = FILES[which].to_vec();
        let at = at.index(text.len());
        text[at] = byte;
        prop_assert_eq!(invented(&text), None);
    }

    #[test]
    fn a_changed_byte_of_a_list_breaks_nothing(which in 3usize..5, at: prop::sample::Index, byte: u8) {
        let mut list = FILES[which].to_vec();
        let at = at.index(list.len());
        list[at] = byte;
        parse(&list);
    }

    #[test]
    fn a_line_missing_or_twice_invents_nothing(which in 0usize..4, at: prop::sample::Index, twice: bool) {
        let mut lines: Vec<_> = FILES[which].split_inclusive(|&byte| byte == b'\n').collect();
        let at = at.index(lines.len());
        if twice { lines.insert(at, lines[at]) } else { lines.remove(at); }
        let text = lines.concat();
        prop_assert_eq!(invented(&text), None);
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
