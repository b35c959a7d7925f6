use proptest::prelude::*;

use super::counts::{FIELDS, LEVELS};
use super::*;

/// The samples, and how many lines were not understood.
fn position(name: &str) -> usize {
    FIELDS.iter().position(|field| *field == name).unwrap()
}

fn parse(bytes: &[u8]) -> (Vec<Sample>, usize) {
    let (mut parser, mut samples, mut unknown) = (Parser::default(), Vec::new(), 0);
    let mut take = |taken| match taken {
        Parsed::Sample(sample) => samples.push(*sample),
        Parsed::No => unknown += 1,
        Parsed::Yes => {}
    };
    let (whole, rest) = match bytes.iter().rposition(|&byte| byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (&bytes[..0], bytes),
    };
    for line in whole.split(|&byte| byte == b'\n') {
        take(parser.line(line));
    }
    if !rest.is_empty() {
        take(parser.rest(rest));
    }
    take(parser.finish());
    (samples, unknown)
}

fn get(sample: &Sample, name: &str) -> Option<u64> {
    sample.counts.0[position(name)].map(|printed| printed.value)
}

const ONE_SHOT: &[u8] = include_bytes!("../../../tests/fixtures/vm_stat/one_shot.txt");
const INTERVAL: &[u8] = include_bytes!("../../../tests/fixtures/vm_stat/interval.txt");
const ELEVEN: &[u8] = include_bytes!("../../../tests/fixtures/vm_stat/eleven_columns.txt");

#[test]
fn totals_stay_totals_after_a_repeated_header() {
    let (samples, unknown) = parse(INTERVAL);
    assert_eq!((samples.len(), unknown), (4, 0));
    let series = |name| samples.iter().map(|sample| get(sample, name)).collect::<Vec<_>>();
    assert_eq!(series("pages_free"), [Some(10_000), Some(10_001), Some(10_002), Some(10_003)]);
    assert_eq!(series("pages_cow_faults"), [1_000_000, 1_000_010, 1_000_030, 1_000_030].map(Some));
    assert_eq!(series("faults"), [505_014_000, 505_014_100, 505_014_100, 505_014_150].map(Some));
    assert_eq!(series("swap_outs"), [90, 91, 91, 91].map(Some));
    assert!(samples.iter().all(|sample| sample.counts.consistent() == Some(true)));
}

const HEADER: &str =
    "Mach Virtual Memory Statistics: (page size of 4096 bytes)\nfree active faults swapins\n";

/// For each sample: faults, their increase, and the increase of swap-ins.
fn faults(text: &str) -> Vec<(u64, Option<Printed>, Option<u64>)> {
    let (samples, unknown) = parse(text.as_bytes());
    assert_eq!(unknown, 0);
    let added = |sample: &Sample, name| sample.added.as_ref().and_then(|added| added.0[position(name)]);
    let of_sample = |sample: &Sample| {
        let swapped = added(sample, "swap_ins").map(|it| it.value);
        (get(sample, "faults").unwrap(), added(sample, "faults"), swapped)
    };
    samples.iter().map(of_sample).collect()
}

#[test]
fn totals_follow_a_header_even_after_a_restart() {
    let text = format!("{HEADER}1 2 10001000 7\n1 2 5 1\n{HEADER}1 2 20 9\n1 2 3 4\n");
    let first = (10_001_000, None, None);
    let second = (10_001_005, Some(Printed::exact(5)), Some(1));
    // No increase is known, although one of the totals is above its previous value.
    assert_eq!(faults(&text), [first, second, (20, None, None), (23, Some(Printed::exact(3)), Some(4))]);
    // Only the header was lost.
    let title = HEADER.lines().next().unwrap();
    assert_eq!(faults(&format!("{HEADER}1 2 300 7\n{title}\n1 2 310 8\n"))[1].0, 310);
}

#[test]
fn rounded_totals_do_not_decrease_and_have_no_exact_increase() {
    let text = format!("{HEADER}1 2 10000K 7\n1 2 999 0\n{HEADER}1 2 10001K 9\n{HEADER}1 2 10001K 9\n");
    let rough = |value, step| Some(Printed { value, step });
    let samples = faults(&text);
    assert_eq!(samples[1], (10_000_999, Some(Printed::exact(999)), Some(0)));
    assert_eq!(samples[2], (10_001_000, rough(1, 1999), Some(2)));
    assert_eq!(samples[3], (10_001_000, rough(0, 1999), Some(0)));
}

#[test]
fn steps_add_up() {
    let (samples, _) = parse(ELEVEN);
    let faults = |sample: &Sample| sample.counts.0[position("faults")];
    assert_eq!(faults(&samples[0]), Some(Printed { value: 1_004_215_000, step: 1000 }));
    assert_eq!(faults(&samples[1]), Some(Printed { value: 1_004_217_707, step: 1000 }));
    assert_eq!(get(&samples[0], "pages_zero_filled"), Some(12_000_000));
    let two = Printed { value: 3000, step: 1000 }.plus(Printed { value: 2000, step: 1000 });
    assert_eq!(two, Some(Printed { value: 5000, step: 1999 }));
    assert_eq!(Printed::exact(u64::MAX).plus(Printed::exact(1)), None);
}

#[test]
fn a_repeated_row_begins_a_sample_of_unknown_page_size() {
    let rows = b"Mach Virtual Memory Statistics: (page size of 4096 bytes)\nPages free: 1.\nPages free: 1.\nPages free: 2.\n";
    let (samples, unknown) = parse(rows);
    assert_eq!((samples.len(), unknown), (2, 0));
    assert_eq!((samples[0].page_size, samples[1].page_size), (Some(4096), None));
    assert_eq!((get(&samples[0], "pages_free"), get(&samples[1], "pages_free")), (Some(1), Some(2)));
}

#[test]
fn repeated_unknown_rows_do_not_begin_a_sample() {
    let rows = b"Mach Virtual Memory Statistics: (page size of 4096 bytes)\nPages free: 1.\nTagged: 5.\n\
        Tagged: 6.\nPages active: 2.\n";
    let (samples, unknown) = parse(rows);
    assert_eq!((samples.len(), unknown, samples[0].page_size), (1, 1, Some(4096)));
    assert_eq!((get(&samples[0], "pages_free"), get(&samples[0], "pages_active")), (Some(1), Some(2)));
}

#[test]
fn old_names_and_the_suffix_g() {
    let text = b"Mach Virtual Memory Statistics: (page size of 4096 bytes, cache hits 0%)\n\
        free active inac wire faults copy zerofill reactive pageins pageout\n1 2 3 4 5G 6 7 8 9 10\n";
    let (samples, unknown) = parse(text);
    assert_eq!((samples.len(), unknown, get(&samples[0], "pages_zero_filled")), (1, 0, Some(7)));
    assert_eq!(
        samples[0].counts.0[position("faults")],
        Some(Printed { value: 5_000_000_000, step: 1_000_000_000 })
    );
}

#[test]
fn a_number_that_was_cut_off_is_not_read() {
    let end = INTERVAL.len();
    // The last row ends with `0 ` and a newline.
    assert_eq!(parse(&INTERVAL[..end - 2]).0.len(), 4, "the last number is whole");
    assert_eq!(parse(&INTERVAL[..end - 12]), {
        let (mut all, _) = parse(INTERVAL);
        all.pop();
        (all, 1)
    });
    let cut = ONE_SHOT.iter().rposition(|&byte| byte == b'.').unwrap();
    let (samples, unknown) = parse(&ONE_SHOT[..cut]);
    assert_eq!((get(&samples[0], "swap_ins"), get(&samples[0], "swap_outs"), unknown), (Some(11), None, 1));
}

/// All numbers of the samples are numbers of the text, or sums of numbers in one column.
fn invented(bytes: &[u8], samples: &[Sample], summed: bool) -> Option<u64> {
    let text = String::from_utf8_lossy(bytes);
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let printed: std::collections::HashSet<u64> = words
        .flat_map(|word| {
            let (digits, step) = match word.as_bytes().last() {
                Some(b'K') => (&word[..word.len() - 1], 1000),
                Some(b'M') => (&word[..word.len() - 1], 1_000_000),
                Some(b'G') => (&word[..word.len() - 1], 1_000_000_000),
                _ => (word, 1),
            };
            digits.parse::<u64>().ok()?.checked_mul(step)
        })
        .collect();
    let most = if summed { LEVELS } else { counts::COUNT };
    samples
        .iter()
        .flat_map(|sample| sample.counts.0[..most].iter().flatten())
        .map(|printed| printed.value)
        .find(|value| !printed.contains(value))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_beginning_gives_a_beginning(cut in 0usize..4000, which in 0usize..3) {
        let text = [ONE_SHOT, INTERVAL, ELEVEN][which];
        let cut = cut.min(text.len());
        let (all, _) = parse(text);
        let (some, unknown) = parse(&text[..cut]);
        prop_assert!(unknown <= 1);
        for (sample, whole) in some.iter().zip(&all) {
            for (count, expected) in sample.counts.0.iter().zip(&whole.counts.0) {
                prop_assert!(count.is_none() || count == expected);
            }
        }
    }

    #[test]
    fn a_changed_byte_invents_nothing(at in 0usize..4000, byte: u8, which in 0usize..3) {
        let mut text = [ONE_SHOT, INTERVAL, ELEVEN][which].to_vec();
        let at = at % text.len();
        text[at] = byte;
        let (samples, _) = parse(&text);
        prop_assert_eq!(invented(&text, &samples, which > 0), None);
    }

    #[test]
    fn a_line_missing_or_twice_invents_nothing(line in 0usize..30, twice: bool, which in 0usize..3) {
        let text = [ONE_SHOT, INTERVAL, ELEVEN][which];
        let mut lines: Vec<_> = text.split_inclusive(|&byte| byte == b'\n').collect();
        let line = line % lines.len();
        if twice { lines.insert(line, lines[line]) } else { lines.remove(line); }
        let text = lines.concat();
        let (samples, _) = parse(&text);
        prop_assert_eq!(invented(&text, &samples, which > 0), None);
    }

    #[test]
    fn no_bytes_break_it(text in "((Mach Virtual Memory Statistics:|Pages free:|free|active|[0-9]{1,20}[KM]?|[.() \n]|.){0,5}\n){0,6}") {
        parse(text.as_bytes());
    }
}
