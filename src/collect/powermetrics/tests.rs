//! Tests of whole recordings, and of damaged ones: nothing panics, and no number is invented.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::common::lines::{Block, Splitter};
use crate::record::MAX_LINE;

const FILES: [&[u8]; 7] = [
    include_bytes!("../../../tests/fixtures/powermetrics/apple.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/old.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/intel.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/apple.plist"),
    include_bytes!("../../../tests/fixtures/powermetrics/stream.plist"),
    include_bytes!("../../../tests/fixtures/powermetrics/intel.plist"),
    include_bytes!("../../../tests/fixtures/powermetrics/all.txt"),
];

/// The samples of a recording, and the lines and keys that were not understood.
fn parse(bytes: &[u8]) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut unknown) = (Vec::new(), Vec::new());
    let mut give = |output| match output {
        Parsed::Sample(sample) => samples.push(*sample),
        Parsed::Unknown { what, .. } => unknown.push(what),
    };
    let (mut parser, mut lines) = (Parser::default(), Splitter::new(MAX_LINE));
    let fed: Result<(), ()> = lines.feed_blocks(bytes, |block| {
        let (Block::Lines(bytes) | Block::Part { bytes, .. }) = block;
        parser.lines(bytes, &mut give);
        Ok(())
    });
    fed.unwrap();
    if let Some(rest) = lines.partial() {
        parser.rest(rest, &mut give);
    }
    parser.finish(&mut give);
    (samples, unknown)
}

#[test]
fn text_and_list_give_the_same_sample() {
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
fn energy_sums_over_samples() {
    let (samples, unknown) = parse(FILES[4]);
    assert_eq!((samples.len(), unknown), (3, Vec::new()));
    let mut records = recording::Records::default();
    let energy: Vec<_> = samples.iter().map(|sample| records.powers(sample)[0].energy_joules).collect();
    assert_eq!(energy, [Some(1.5), Some(2.4), Some(2.7)]);
    assert_eq!(records.powers(&samples[0])[0].power_watts, Some(1.0));
}

#[test]
fn a_list_without_its_end_is_read_as_far_as_it_is_whole() {
    let list = FILES[3];
    let cut = list.windows(20).position(|bytes| bytes == b"<key>thermal_pressur").unwrap();
    let (samples, unknown) = parse(&list[..cut]);
    assert_eq!((samples.len(), unknown.len()), (1, 1));
    assert_eq!((samples[0].cpus.len(), samples[0].gpus.len()), (5, 0));
    assert_eq!(samples[0].powers.len(), 4);
}

/// A list, without the blanks after its end.
fn stripped() -> &'static [u8] {
    FILES[3].trim_ascii_end()
}

#[test]
fn lists_end_anywhere_in_a_line() {
    let one = parse(FILES[3]).0;
    for (between, lost) in
        [("\0", 0), ("", 0), (" \0\n", 0), ("\n\0\u{feff}", 0), (" and what is no list\0", 1)]
    {
        let all = [stripped(); 20].join(between.as_bytes());
        let (samples, unknown) = parse(&[&all[..], between.as_bytes()].concat());
        let lost = if lost == 0 { 0 } else { 20 };
        assert_eq!((samples.len(), unknown.len()), (20, lost), "{between:?}: {unknown:?}");
        assert!(samples.iter().all(|sample| *sample == one[0]));
    }
    // Text without a last newline before a list, and after one.
    let text = FILES[0].trim_ascii_end();
    let header = text.windows(4).position(|bytes| bytes == b"*** ").unwrap();
    let (samples, unknown) = parse(&[text, stripped(), text, &text[header..]].concat());
    assert_eq!((samples.len(), unknown), (4, Vec::new()));
}

#[test]
fn a_byte_order_mark_is_ignored() {
    for file in FILES {
        assert_eq!(parse(&[BYTE_ORDER_MARK, file].concat()), parse(file));
    }
}

#[test]
fn text_after_a_list_that_is_cut_off_is_read() {
    let whole = parse(FILES[1]).0;
    let cut = &FILES[3][..900];
    let of_cut = parse(cut).1.len();
    for (between, more) in [("\n", 0), ("", 0), ("\nMachine model: one\nOS version: two\n\n", 0)] {
        let (samples, unknown) = parse(&[cut, between.as_bytes(), FILES[1]].concat());
        assert_eq!(unknown.len(), of_cut + more, "{unknown:?}");
        assert_eq!(samples[samples.len() - whole.len()..], whole, "{between:?}");
    }
}

#[test]
fn lines_after_an_error_in_a_list_are_counted() {
    let text = String::from_utf8(FILES[3].to_vec()).unwrap();
    let (before, after) = text.split_once("<key>gpu</key>").unwrap();
    let lines = after.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(parse(format!("{before}<oh/>{after}").as_bytes()).1.len(), lines);
}

#[test]
fn active_time_is_computed_only_from_complete_data() {
    let find = |samples: &[Sample], name: &str| samples[0].cpus.iter().find(|cpu| cpu.core == name).cloned();
    let active = |bytes: &[u8]| find(&parse(bytes).0, "P0-Cluster").and_then(|cluster| cluster.active_ratio);
    assert_eq!(active(FILES[3]), Some(0.05));
    assert_eq!(active(&FILES[3][..2471]), None);
    let text = str::from_utf8(FILES[3]).unwrap();
    let down = "<key>down_ratio</key><real>0.87</real>\n";
    assert!(text.contains(down));
    let without = text.replace(down, "");
    assert_eq!(active(without.as_bytes()), None);
    // Lists of older versions have no times. The frequencies alone contradict.
    assert_eq!(active(without.replace("down_ns", "idle_ns").as_bytes()), None);
    // Two of a cluster's four CPUs are not the cluster.
    let (cut, _) = text.split_once("<key>cpu</key><integer>1</integer>").unwrap();
    let cluster = find(&parse(cut.as_bytes()).0, "E-Cluster").unwrap();
    assert_eq!((cluster.active_ratio, cluster.core_active_ratio), (None, None));
}

#[test]
fn joined_recordings_are_separated_at_the_first_row() {
    // The last line of the one before has no end.
    let text = [FILES[0].trim_ascii_end(), FILES[2]].concat();
    let (samples, unknown) = parse(&text);
    let expected = [parse(FILES[0]).0, parse(FILES[2]).0].concat();
    assert_eq!((samples == expected, unknown), (true, Vec::new()));
    // Rows of the next one do not become a part of one that was cut off.
    let (samples, _) = parse(b"GPU Power: 5 mW\nMachine model: MacBookPro1,1\nCPU Power: 7 mW\n");
    assert_eq!(samples.iter().map(|sample| sample.powers.len()).collect::<Vec<_>>(), [1, 1]);
}

#[test]
fn a_battery_in_milliampere_hours_stays_so_when_nearly_empty() {
    let text = |model: &str, charges: &[u32]| {
        let sample = |charge: &u32| {
            format!(
                "*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (500.00ms elapsed) ***\n\
                 Battery: percent_charge: {charge}\n"
            )
        };
        format!("Machine model: {model}\n{}", charges.iter().map(sample).collect::<String>())
    };
    let list = |model: &str, charges: &[u32]| {
        let sample = |charge: &u32| {
            format!(
                "<?xml version=\"1.0\"?>\n<plist><dict><key>hw_model</key><string>{model}</string>\
                 <key>battery</key><dict><key>percent_charge</key><integer>{charge}</integer></dict></dict></plist>\n"
            )
        };
        charges.iter().map(sample).collect::<String>()
    };
    for recording in [text, list] {
        let all = recording("MacBookPro1,1", &[120, 96]) + &recording("Mac1,1", &[96]);
        let (samples, unknown) = parse(all.as_bytes());
        let charge = |sample: &Sample| {
            sample.battery.as_ref().map(|battery| (battery.charge_ah, battery.charge_ratio)).unwrap()
        };
        let charges: Vec<_> = samples.iter().map(charge).collect();
        assert_eq!(charges, [(Some(0.12), None), (Some(0.096), None), (None, Some(0.96))]);
        assert_eq!(unknown, Vec::<String>::new());
    }
}

#[test]
fn noise_is_ignored_anywhere() {
    for file in &FILES[..3] {
        let text = str::from_utf8(file).unwrap();
        let noisy = text.replace('\n', "\nproc_pidpath 1460 failed(0)\nSecond underflow occured.\n");
        let (quiet, with_noise) = (parse(file), parse(noisy.as_bytes()));
        assert_eq!(with_noise, quiet);
    }
}

#[test]
fn values_out_of_range_are_counted_and_not_reported() {
    let rows = [
        "CPU 0 active residency: 450.00%",
        "CPU 0 idle residency: 101.5%",
        "CPU 0 frequency: 18000000000000 MHz",
        "CPU 0 instructions retired: -5",
        "CPU Power: 99999999999 mW",
        "CPU die temperature: -400.00 C",
        "Fan: -1.00 rpm",
        "Number of prochots: -1",
        "CPU Thermal level: -3",
        "IO Thermal level: 99999999",
        "CPU Plimit: -1.00",
        "GPU Plimit (Int): 1e30",
        "Backlight level: 2000 (range 0-1024)",
    ];
    for row in rows {
        let (samples, unknown) = parse(format!("**** Processor usage ****\n{row}\n").as_bytes());
        assert_eq!((samples.len(), unknown.as_slice()), (0, &[row.to_owned()][..]));
    }
    let list = |inside: &str| {
        let text = format!("<?xml version=\"1.0\"?>\n<plist><dict>\n{inside}\n</dict></plist>\n");
        parse(text.as_bytes())
    };
    let cpu = |key: &str, value: &str| {
        format!(
            "<key>processor</key><dict><key>clusters</key><array><dict><key>name</key><string>P</string>\
             <key>{key}</key><real>{value}</real></dict></array></dict>"
        )
    };
    let smc =
        |key: &str, value: &str| format!("<key>smc</key><dict><key>{key}</key><real>{value}</real></dict>");
    let cases = [
        cpu("idle_ratio", "-0.5"),
        cpu("down_ratio", "4.5"),
        cpu("freq_hz", "1.8e19"),
        cpu("freq_ratio", "-1"),
        "<key>processor</key><dict><key>cpu_power</key><real>-5</real></dict>".into(),
        "<key>processor</key><dict><key>package_watts</key><real>1e9</real></dict>".into(),
        "<key>gpu</key><dict><key>freq_hz</key><real>-400</real></dict>".into(),
        "<key>elapsed_ns</key><integer>1</integer>".into(),
        smc("cpu_die", "-400"),
        smc("fan", "-1"),
        smc("num_prochots", "-1"),
        smc("cpu_thermal_level", "-3"),
        smc("gpu2_plimit", "99999999"),
    ];
    for case in cases {
        let (samples, unknown) = list(&case);
        assert_eq!((samples.len(), unknown.len()), (0, 1), "{case} {samples:?} {unknown:?}");
    }
    // Values in range are reported.
    for case in [cpu("idle_ratio", "0.5"), smc("cpu_die", "40"), smc("num_prochots", "0")] {
        let (samples, unknown) = list(&case);
        assert_eq!((samples.len(), unknown.len()), (1, 0), "{case}");
    }
}

/// powermetrics prints nan for a ratio over zero time.
#[test]
fn nan_is_neither_reported_nor_counted() {
    for (row, unknown) in [
        ("E-Cluster instructions per clock: nan", 0),
        ("CPU 0 active residency: -nan%", 0),
        ("CPU 0 frequency: nan MHz", 0),
        ("CPU 0 frequency: nano MHz", 1),
    ] {
        let parsed = parse(format!("**** Processor usage ****\n{row}\n").as_bytes());
        assert_eq!((parsed.0.len(), parsed.1.len()), (0, unknown), "{row}");
    }
    let text = str::from_utf8(FILES[3]).unwrap();
    let (of, nan) = ("<key>idle_ratio</key><real>0.75</real>", "<key>idle_ratio</key><real>nan</real>");
    assert!(text.contains(of));
    let (samples, unknown) = parse(text.replace(of, nan).as_bytes());
    assert_eq!(unknown, Vec::<String>::new());
    assert_eq!((samples[0].gpus[0].idle_ratio, samples[0].gpus[0].active_ratio), (None, None));
}

#[test]
fn coalitions_are_replaced_by_their_tasks() {
    let found = |bytes: &[u8]| {
        let (samples, unknown) = parse(bytes);
        assert_eq!(unknown, Vec::<String>::new());
        let all = samples.into_iter().flat_map(|sample| sample.tasks);
        all.map(|task| (task.comm, task.pid, task.cpu_ratio)).collect::<Vec<_>>()
    };
    let expected = [
        ("daemon".to_owned(), None, Some(0.004)),
        ("Browser".into(), Some(600), Some(0.2)),
        ("Helper".into(), Some(601), Some(0.1)),
        ("quiet".into(), None, Some(0.001)),
        ("ALL_TASKS".into(), None, Some(0.305)),
    ];
    // As of old, when a coalition had less in its row than its tasks; and with all of it moved to the right.
    let old = "*** Running tasks ***\n\n\
        Name                  ID     CPU ms/s  User%  Deadlines (<2 ms, 2-5 ms)  Wakeups (Intr, Pkg idle)\n\
        daemon                7      4.00                                        1.00    2.00\n\
        org.example.browser   8      300.00                                      1.00    2.00\n\
        \x20 Browser             600    200.00    50.00  1.00    2.00               1.00    2.00\n\
        \x20 Helper              601    100.00    50.00  1.00    2.00               1.00    2.00\n\
        quiet                 9      1.00                                        1.00    2.00\n\
        ALL_TASKS             -2     305.00    50.00  1.00    2.00               1.00    2.00\n";
    let moved = old.replace('\n', "\n    ").replace("*** \n", "***\n");
    assert_eq!((found(old.as_bytes()), found(moved.as_bytes())), (expected.to_vec(), expected.to_vec()));
    let text = "*** Running tasks ***\n\nName                  ID     CPU ms/s\n\
        daemon                7      4.00\n\
        org.example.browser   8      300.00\n\
        \x20 Browser             600    200.00\n\
        \x20 Helper              601    100.00\n\
        quiet                 9      1.00\n\
        ALL_TASKS             -2     305.00\n";
    assert_eq!(found(text.as_bytes()), expected);
    let row = |name: &str, id: &str, ms: &str, tasks: &str| {
        format!(
            "<dict><key>{id}</key><integer>{}</integer><key>name</key><string>{name}</string>\
             <key>cputime_ms_per_s</key><real>{ms}</real>{tasks}</dict>",
            if name == "Helper" { 601 } else { 600 }
        )
    };
    let tasks = row("Browser", "pid", "200", "") + &row("Helper", "pid", "100", "");
    let list = row("daemon", "id", "4", "")
        + &row("org.example.browser", "id", "300", &format!("<key>tasks</key><array>{tasks}</array>"))
        + &row("quiet", "id", "1", "<key>tasks</key><array></array>");
    let list = format!("<?xml?>\n<plist><dict><key>coalitions</key><array>{list}</array></dict></plist>\n");
    assert_eq!(found(list.as_bytes()), expected[..4]);
}

#[test]
fn a_repeated_section_without_a_header_begins_a_sample_of_unknown_length() {
    let text = b"*** Sampled system activity (Tue Sep 29 19:44:14 2026 +0800) (500.00ms elapsed) ***\n\
        **** Processor usage ****\nCPU Power: 5 mW\n**** Processor usage ****\nCPU Power: 7 mW\n";
    let (samples, _) = parse(text);
    assert_eq!(samples.len(), 2);
    assert_eq!((samples[0].elapsed_s, samples[1].elapsed_s), (Some(0.5), None));
    assert_eq!((samples[0].powers[0].watts, samples[1].powers[0].watts), (0.005, 0.007));
}

#[test]
fn unknown_rows_and_keys_are_given() {
    let (samples, unknown) =
        parse(b"**** New section ****\nAn odd row: 12\nCPU Power: 5\nCPU 0 frequency: x MHz\n\tBad\n");
    assert_eq!((samples.len(), unknown.len()), (0, 4));
    let list = String::from_utf8(FILES[4].to_vec()).unwrap().replace("cpu_energy", "brand_new");
    assert_eq!(parse(list.as_bytes()).1, ["processor.brand_new"; 3]);
}

/// All numbers that were measured and not computed.
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

/// Active times, which text has and which are computed from lists.
fn active(samples: &[Sample]) -> Vec<f64> {
    let cpus = samples.iter().flat_map(|sample| &sample.cpus).filter_map(|cpu| cpu.active_ratio);
    let gpus = samples.iter().flat_map(|sample| &sample.gpus).filter_map(|gpu| gpu.active_ratio);
    cpus.chain(gpus).collect()
}

/// All numbers with their names, the computed ones too, of all samples together.
fn facts(samples: &[Sample]) -> HashSet<(String, i64)> {
    let mut all = HashSet::new();
    let mut parts = |name: &str, what: &str, parts: &Option<BTreeMap<u64, f64>>| {
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

/// The numbers of a changed recording that the whole one does not have.
fn new_facts(changed: &[u8], whole: &[u8]) -> Vec<(String, i64)> {
    let whole = facts(&parse(whole).0);
    facts(&parse(changed).0).into_iter().filter(|fact| !whole.contains(fact)).collect()
}

/// The printed numbers, in every unit that they may have.
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

/// A number of the samples that was not printed.
fn invented(bytes: &[u8]) -> Option<f64> {
    let printed = printed(bytes);
    let samples = parse(bytes).0;
    numbers(&samples).into_iter().chain(active(&samples)).find(|value| !printed.contains(&rounded(*value)))
}

#[test]
fn a_missing_or_repeated_line_invents_nothing() {
    for file in FILES[..4].iter().chain(&FILES[5..6]) {
        let lines: Vec<_> = file.split_inclusive(|&byte| byte == b'\n').collect();
        for at in 0..lines.len() {
            for times in [0, 2] {
                let changed = [&lines[..at], &vec![lines[at]; times], &lines[at + 1..]].concat().concat();
                let what = format!("{times} times {}", String::from_utf8_lossy(lines[at]));
                assert_eq!(new_facts(&changed, file), [], "{what}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn text_cut_anywhere_invents_nothing(which in 0usize..3, part in 0.0..1.0f64) {
        let text = FILES[which];
        let cut = (text.len() as f64 * part) as usize;
        let unknown = parse(&text[..cut]).1;
        prop_assert!(unknown.len() <= 1, "{:?}", unknown);
        prop_assert_eq!(new_facts(&text[..cut], text), [], "at {}", cut);
    }

    #[test]
    fn a_list_cut_anywhere_invents_nothing(which in 3usize..6, part in 0.0..1.0f64) {
        let list = FILES[which];
        let cut = (list.len() as f64 * part) as usize;
        prop_assert_eq!(new_facts(&list[..cut], list), [], "at {}", cut);
    }

    #[test]
    fn a_changed_byte_invents_nothing(which in 0usize..4, at: prop::sample::Index, byte: u8) {
        let mut text = [FILES[0], FILES[1], FILES[2], FILES[6]][which].to_vec();
        let at = at.index(text.len());
        text[at] = byte;
        prop_assert_eq!(invented(&text), None);
    }

    #[test]
    fn a_changed_byte_of_a_list_does_no_harm(which in 3usize..6, at: prop::sample::Index, byte: u8) {
        let mut list = FILES[which].to_vec();
        let at = at.index(list.len());
        list[at] = byte;
        parse(&list);
    }

    #[test]
    fn odd_lines_do_no_harm(text in "((CPU|GPU|E-Cluster|Battery|Fan|Name  ID|\\*\\*\\*) ?[0-9]{0,3}( Power| HW active residency| frequency)?: ?[0-9.]{0,6}(%|mW| MHz)?( \\([0-9 :MHz%]{0,9}\\)?)?\n|<\\?xml|<dict>|</plist>\n|.){0,9}") {
        parse(text.as_bytes());
    }

    #[test]
    fn any_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        parse(&bytes);
        parse(&[&b"<?xml?><plist><dict>"[..], &bytes].concat());
    }
}
