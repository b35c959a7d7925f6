//! What recordings give; that damaged ones invent nothing is in `tests/damaged.rs`.

mod damaged;

use super::*;
use crate::common::lines::{Block, Splitter};
use crate::record::MAX_LINE;

const FILES: [&[u8]; 6] = [
    include_bytes!("../../../tests/fixtures/powermetrics/apple.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/old.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/intel.txt"),
    include_bytes!("../../../tests/fixtures/powermetrics/apple.plist"),
    include_bytes!("../../../tests/fixtures/powermetrics/stream.plist"),
    include_bytes!("../../../tests/fixtures/powermetrics/intel.plist"),
];

/// The samples of it, and how many lines or keys were not understood.
fn parse(bytes: &[u8]) -> (Vec<Sample>, Vec<String>) {
    let (mut samples, mut unknown) = (Vec::new(), Vec::new());
    let mut tell = |told| match told {
        Output::Sample(sample) => samples.push(*sample),
        Output::Unknown { what, .. } => unknown.push(what),
    };
    let (mut parser, mut lines) = (Parser::default(), Splitter::new(MAX_LINE));
    let fed: Result<(), ()> = lines.feed_blocks(bytes, |block| {
        let (Block::Lines(bytes) | Block::Part { bytes, .. }) = block;
        parser.lines(bytes, &mut tell);
        Ok(())
    });
    fed.unwrap();
    if let Some(rest) = lines.partial() {
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
    let mut records = recording::Records::default();
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

/// A list, without the blanks after its end.
fn stripped() -> &'static [u8] {
    FILES[3].trim_ascii_end()
}

#[test]
fn lists_are_parted_wherever_they_end() {
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
    // Text whose last line has no end, before a list, and the other way around.
    let text = FILES[0].trim_ascii_end();
    let header = text.windows(4).position(|bytes| bytes == b"*** ").unwrap();
    let (samples, unknown) = parse(&[text, stripped(), text, &text[header..]].concat());
    assert_eq!((samples.len(), unknown), (4, Vec::new()));
}

#[test]
fn a_mark_of_the_byte_order_is_no_part_of_a_file() {
    for file in FILES {
        assert_eq!(parse(&[BYTE_ORDER_MARK, file].concat()), parse(file));
    }
}

#[test]
fn a_list_that_is_cut_off_takes_no_text_with_it() {
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
fn lines_of_a_list_after_one_that_cannot_be_are_counted() {
    let text = String::from_utf8(FILES[3].to_vec()).unwrap();
    let (before, after) = text.split_once("<key>gpu</key>").unwrap();
    let lines = after.lines().filter(|line| !line.is_empty()).count();
    assert_eq!(parse(format!("{before}<oh/>{after}").as_bytes()).1.len(), lines);
}

#[test]
fn how_long_a_processor_was_active_follows_only_from_all_that_is_known_of_it() {
    let find = |samples: &[Sample], name: &str| samples[0].cpus.iter().find(|cpu| cpu.core == name).cloned();
    let active = |bytes: &[u8]| find(&parse(bytes).0, "P0-Cluster").and_then(|cluster| cluster.active_ratio);
    assert_eq!(active(FILES[3]), Some(0.05));
    assert_eq!(active(&FILES[3][..2471]), None);
    let text = str::from_utf8(FILES[3]).unwrap();
    let down = "<key>down_ratio</key><real>0.87</real>\n";
    assert!(text.contains(down));
    let without = text.replace(down, "");
    assert_eq!(active(without.as_bytes()), None);
    // What an older system tells has no times, and the frequencies alone contradict.
    assert_eq!(active(without.replace("down_ns", "idle_ns").as_bytes()), None);
    // Two of a cluster's four CPUs are not the cluster.
    let (cut, _) = text.split_once("<key>cpu</key><integer>1</integer>").unwrap();
    let cluster = find(&parse(cut.as_bytes()).0, "E-Cluster").unwrap();
    assert_eq!((cluster.active_ratio, cluster.core_active_ratio), (None, None));
}

#[test]
fn a_recording_begins_where_its_first_row_does() {
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
fn a_battery_that_was_told_in_milliampere_hours_stays_so_when_it_is_nearly_empty() {
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
        let told: Vec<_> = samples.iter().map(charge).collect();
        assert_eq!(told, [(Some(0.12), None), (Some(0.096), None), (None, Some(0.96))]);
        assert_eq!(unknown, Vec::<String>::new());
    }
}

#[test]
fn noise_is_no_row_wherever_it_comes() {
    for file in &FILES[..3] {
        let text = str::from_utf8(file).unwrap();
        let noisy = text.replace('\n', "\nproc_pidpath 1460 failed(0)\nSecond underflow occured.\n");
        let (quiet, with_noise) = (parse(file), parse(noisy.as_bytes()));
        assert_eq!(with_noise, quiet);
    }
}

#[test]
fn values_that_cannot_be_are_counted_and_not_told() {
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
    // In bounds, the same are told.
    for case in [cpu("idle_ratio", "0.5"), smc("cpu_die", "40"), smc("num_prochots", "0")] {
        let (samples, unknown) = list(&case);
        assert_eq!((samples.len(), unknown.len()), (1, 0), "{case}");
    }
}

/// As a part of no time at all is.
#[test]
fn what_a_division_by_zero_gave_is_not_told_and_not_counted() {
    for (row, unknown) in [
        ("E-Cluster instructions per clock: nan", 0),
        ("CPU 0 active residency: -nan%", 0),
        ("CPU 0 frequency: nan MHz", 0),
        ("CPU 0 frequency: nano MHz", 1),
    ] {
        let told = parse(format!("**** Processor usage ****\n{row}\n").as_bytes());
        assert_eq!((told.0.len(), told.1.len()), (0, unknown), "{row}");
    }
    let text = str::from_utf8(FILES[3]).unwrap();
    let (of, nan) = ("<key>idle_ratio</key><real>0.75</real>", "<key>idle_ratio</key><real>nan</real>");
    assert!(text.contains(of));
    let (samples, unknown) = parse(text.replace(of, nan).as_bytes());
    assert_eq!(unknown, Vec::<String>::new());
    assert_eq!((samples[0].gpus[0].idle_ratio, samples[0].gpus[0].active_ratio), (None, None));
}

#[test]
fn coalitions_are_told_only_where_their_tasks_are_not() {
    let told = |bytes: &[u8]| {
        let (samples, unknown) = parse(bytes);
        assert_eq!(unknown, Vec::<String>::new());
        let tasks = samples.into_iter().flat_map(|sample| sample.tasks);
        tasks.map(|task| (task.comm, task.pid, task.cpu_ratio)).collect::<Vec<_>>()
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
    assert_eq!((told(old.as_bytes()), told(moved.as_bytes())), (expected.to_vec(), expected.to_vec()));
    let text = "*** Running tasks ***\n\nName                  ID     CPU ms/s\n\
        daemon                7      4.00\n\
        org.example.browser   8      300.00\n\
        \x20 Browser             600    200.00\n\
        \x20 Helper              601    100.00\n\
        quiet                 9      1.00\n\
        ALL_TASKS             -2     305.00\n";
    assert_eq!(told(text.as_bytes()), expected);
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
    assert_eq!(told(list.as_bytes()), expected[..4]);
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
