//! The lines of `vm_stat`: title, `Label: N.`, column header, and rows of numbers.

use nom::Parser as _;
use nom::bytes::complete::{tag, take_until};
use nom::character::complete::{char, digit1, space0};
use nom::combinator::{all_consuming, map_opt, opt, rest};
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, error::Error};

use super::counts::{Printed, column};
use crate::collect::text::{number, split_number, words};

type Output<'a, T> = IResult<&'a [u8], T, Error<&'a [u8]>>;

/// A line that is not a row of numbers.
#[derive(Debug, PartialEq)]
pub enum Line<'a> {
    /// The title, with the page size in bytes if it has one.
    Title(Option<u64>),
    /// `Label: N.`
    Row(&'a [u8], u64),
    /// `Object cache: 12 hits of 50 lookups (24% hit rate)`, up to Mac OS X 10.8.
    ObjectCache { hits: u64, lookups: u64 },
    /// The column names.
    Header(Vec<&'a [u8]>),
    /// Only blanks.
    Empty,
    /// Anything else.
    Unknown,
}

/// Classifies a line.
pub fn read(line: &[u8]) -> Line<'_> {
    let trimmed = line.trim_ascii();
    if trimmed.is_empty() {
        return Line::Empty;
    }
    if let Ok((_, size)) = title(trimmed) {
        return Line::Title(size);
    }
    if let Ok((_, (label, value))) = row(trimmed) {
        return Line::Row(label, value);
    }
    if let Ok((_, (hits, lookups))) = object_cache(trimmed) {
        return Line::ObjectCache { hits, lookups };
    }
    let names: Vec<_> = words(trimmed).collect();
    let known = names.iter().filter(|name| column(name).is_some()).count();
    if names.len() >= 2 && known * 2 > names.len() { Line::Header(names) } else { Line::Unknown }
}

/// `Mach Virtual Memory Statistics: (page size of 4096 bytes, cache hits 0%)`
fn title(line: &[u8]) -> Output<'_, Option<u64>> {
    let size = delimited(
        (space0, tag("(page size of ")),
        map_opt(digit1, |digits| number(digits).filter(|size| size.is_power_of_two() && *size >= 1024)),
        (tag(" bytes"), rest),
    );
    preceded(tag("Mach Virtual Memory Statistics:"), opt(size)).parse(line)
}

/// `Label: N.`; without the full stop, digits may be missing.
fn row(line: &[u8]) -> Output<'_, (&[u8], u64)> {
    let label = terminated(take_until(":"), char(':'));
    all_consuming((label, delimited(space0, map_opt(digit1, number), char('.')))).parse(line)
}

fn object_cache(line: &[u8]) -> Output<'_, (u64, u64)> {
    let count = |line| map_opt(digit1, number).parse(line);
    let hits = preceded((tag("Object cache:"), space0), terminated(count, tag(" hits of ")));
    (hits, terminated(count, (tag(" lookups"), rest))).parse(line)
}

/// Parses a row such as `123 1246K 12M` into `numbers`; false if the line is anything else.
pub fn read_numbers(line: &[u8], numbers: &mut Vec<Printed>) -> bool {
    numbers.clear();
    let mut line = skip_blanks(line);
    while let Some((value, rest)) = split_number(line) {
        let (printed, rest) = match rest {
            [b'K', rest @ ..] => (printed(value, 1000), rest),
            [b'M', rest @ ..] => (printed(value, 1_000_000), rest),
            [b'G', rest @ ..] => (printed(value, 1_000_000_000), rest),
            rest => (Some(Printed::exact(value)), rest),
        };
        let Some(printed) = printed else { return false };
        numbers.push(printed);
        line = skip_blanks(rest);
        if line.is_empty() {
            return true;
        }
        if line.len() == rest.len() {
            return false;
        }
    }
    false
}

/// A count in steps; `None` if it does not fit into 64 bits.
fn printed(value: u64, step: u64) -> Option<Printed> {
    Some(Printed { value: value.checked_mul(step)?, step })
}

fn skip_blanks(mut line: &[u8]) -> &[u8] {
    // Half of a row is spaces.
    while let [b' ', rest @ ..] = line {
        line = rest;
    }
    match line {
        [b'0'..=b'9', ..] => line,
        line => line.trim_ascii_start(),
    }
}

/// A name in lower case, with underscores for everything but letters and digits.
pub fn normalized(name: &[u8]) -> String {
    let mut out = String::new();
    for &byte in name {
        if byte.is_ascii_alphanumeric() {
            out.push(byte.to_ascii_lowercase() as char);
        } else if !out.is_empty() && !out.ends_with('_') {
            out.push('_');
        }
    }
    out.truncate(out.trim_end_matches('_').len());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let size = |size| Line::Title(Some(size));
        assert_eq!(read(b"Mach Virtual Memory Statistics: (page size of 16384 bytes)"), size(16384));
        let old = b" Mach Virtual Memory Statistics: (page size of 4096 bytes, cache hits 0%)";
        assert_eq!(read(old), size(4096));
        assert_eq!(
            read(b"\"Translation faults\":   6256987137."),
            Line::Row(b"\"Translation faults\"", 6256987137)
        );
        let hits = Line::ObjectCache { hits: 12, lookups: 50 };
        assert_eq!(read(b"Object cache: 12 hits of 50 lookups (24% hit rate)"), hits);
        assert_eq!(read(b" \t\r"), Line::Empty);
        for cut in [
            &b"Pages free:    12"[..],
            b"Pages fr",
            b"Pages free: 18446744073709551616.",
            b"1 2 3x",
            b"-1 2",
            b"free",
        ] {
            assert_eq!(read(cut), Line::Unknown, "{}", String::from_utf8_lossy(cut));
        }
    }

    #[test]
    fn rows_of_numbers() {
        let expected = [
            Printed::exact(7),
            Printed { value: 1_246_000, step: 1000 },
            Printed { value: 2_000_000, step: 1_000_000 },
        ];
        let mut numbers = vec![Printed::exact(1)];
        assert!(read_numbers(b"  7  1246K\t2M \r", &mut numbers));
        assert_eq!(numbers, expected);
        assert!(read_numbers(b"18446744073709551615", &mut numbers));
        assert_eq!(numbers, [Printed::exact(u64::MAX)]);
        let too_much = [&b"18446744073709551615K"[..], b"18446744073709551616", b"18446744073709551616 1"];
        for other in
            [&b""[..], b"  ", b"K", b"1 2 3x", b"-1 2", b"1 - 2", b"1 K", b"1KK", b"1K2", b"1,2", b"free"]
        {
            assert!(!read_numbers(other, &mut numbers), "{}", String::from_utf8_lossy(other));
        }
        assert!(too_much.iter().all(|row| !read_numbers(row, &mut numbers)));
    }

    #[test]
    fn names() {
        for (name, expected) in [
            (&b"\"Translation faults\""[..], "translation_faults"),
            (b"Pages copy-on-write", "pages_copy_on_write"),
            (b"Tagged pages (MTE), active", "tagged_pages_mte_active"),
            (b"\xff\"", ""),
        ] {
            assert_eq!(normalized(name), expected);
        }
    }
}
