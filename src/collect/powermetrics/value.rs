//! Values as `powermetrics` prints them in text: `93%`, `.43%`, `1020 MHz`, `12.39W`, lists in parentheses; and the
//! range in which each kind of value is credible.

use std::collections::BTreeMap;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_while1};
use nom::character::complete::{char, space0, u64 as integer};
use nom::combinator::{all_consuming, map_opt, opt, rest};
use nom::error::{Error, ErrorKind};
use nom::multi::many0;
use nom::number::complete::double;
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, Parser as _};

use crate::collect::micro;

/// The result of a parser of bytes.
pub type ParseResult<'a, T> = IResult<&'a [u8], T, Error<&'a [u8]>>;

/// Ranges of credible values. A value outside its range was damaged on its way and is not reported.
pub mod bounds {
    use std::ops::RangeInclusive;

    use crate::collect::micro;

    fn within(value: f64, range: RangeInclusive<f64>) -> Option<f64> {
        range.contains(&value).then_some(value)
    }

    /// A part of a whole. The time and the whole are measured one after the other, so it can be slightly above 1.
    pub fn ratio(value: f64) -> Option<f64> {
        within(value, 0.0..=1.01).map(micro)
    }

    /// A frequency as a ratio of the nominal one.
    pub fn nominal(value: f64) -> Option<f64> {
        within(value, 0.0..=10.0).map(micro)
    }

    /// Below 100 GHz.
    pub fn hertz(value: f64) -> Option<u64> {
        within(value, 0.0..=1e11).map(|hertz| hertz.round() as u64)
    }

    /// Below 100 kW.
    pub fn watts(value: f64) -> Option<f64> {
        within(value, 0.0..=1e5)
    }

    /// From absolute zero to 1000 °C.
    pub fn celsius(value: f64) -> Option<f64> {
        within(value, -273.15..=1000.0)
    }

    /// Revolutions a minute, below 100,000.
    pub fn rpm(value: f64) -> Option<f64> {
        within(value, 0.0..=1e5)
    }

    /// A count that a floating-point number holds exactly.
    pub fn count(value: f64) -> Option<u64> {
        within(value, 0.0..=9_007_199_254_740_992.0).map(|count| count as u64)
    }

    /// CPU time per time: up to 10,000 CPUs.
    pub fn processors(value: f64) -> Option<f64> {
        within(value, 0.0..=1e4)
    }

    /// A rate, or a score computed from rates.
    pub fn per_second(value: f64) -> Option<f64> {
        within(value, 0.0..=1e9)
    }

    /// A thermal level or limit; the known ones are below 256.
    pub fn level(value: f64) -> Option<f64> {
        within(value, 0.0..=1000.0)
    }

    /// Seconds: at least a microsecond, the resolution of records.
    pub fn length(seconds: f64) -> Option<f64> {
        within(micro(seconds), 1e-6..=1e9)
    }
}

/// A number without a sign: `12`, `12.5`, `.43`. The result is that of `str::parse`, which is slower: short numbers
/// are the quotient of two that are exact.
pub fn plain(bytes: &[u8]) -> ParseResult<'_, f64> {
    let bytes = after_blanks(bytes);
    let (mut digits, mut scale, mut points, mut length) = (0u64, 1.0, 0, 0);
    for byte in bytes {
        match byte {
            b'0'..=b'9' => digits = digits.wrapping_mul(10).wrapping_add(u64::from(byte - b'0')),
            b'.' => points += 1,
            _ => break,
        }
        if points > 0 && *byte != b'.' {
            scale *= 10.0;
        }
        length += 1;
    }
    let (word, rest) = bytes.split_at(length);
    let value = match length {
        0..=16 => (points <= 1 && points < length).then(|| digits as f64 / scale),
        _ => str::from_utf8(word).ok().and_then(|word| word.parse().ok()),
    };
    value.map(|value| (rest, value)).ok_or_else(|| failure(bytes))
}

/// Skips blanks and tabs. `space0` of nom is slower.
fn after_blanks(bytes: &[u8]) -> &[u8] {
    &bytes[bytes.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count()..]
}

fn failure(bytes: &[u8]) -> nom::Err<Error<&[u8]>> {
    nom::Err::Error(Error::new(bytes, ErrorKind::Fail))
}

/// A number with sign and exponent.
fn scientific(bytes: &[u8]) -> ParseResult<'_, f64> {
    match plain(bytes) {
        Ok((rest, value)) if !rest.starts_with(b"e") && !rest.starts_with(b"E") => Ok((rest, value)),
        _ => double(after_blanks(bytes)),
    }
}

/// `93.5%` as 0.935; fails above 101 %.
pub fn percent(bytes: &[u8]) -> ParseResult<'_, f64> {
    let (rest, value) = plain(bytes)?;
    let rest = rest.strip_prefix(b"%");
    rest.zip(bounds::ratio(value / 100.0)).ok_or_else(|| failure(bytes))
}

/// Hertz of `1020 MHz`, `2335.26 Mhz`, `1.2 GHz`.
pub fn frequency(bytes: &[u8]) -> ParseResult<'_, u64> {
    let (rest, value) = plain(bytes)?;
    let (factor, rest) = match after_blanks(rest) {
        [b'G' | b'g', b'H' | b'h', b'Z' | b'z', rest @ ..] => (1e9, rest),
        [b'M' | b'm', b'H' | b'h', b'Z' | b'z', rest @ ..] => (1e6, rest),
        [b'K' | b'k', b'H' | b'h', b'Z' | b'z', rest @ ..] => (1e3, rest),
        _ => return Err(failure(bytes)),
    };
    bounds::hertz(value * factor).map(|hertz| (rest, hertz)).ok_or_else(|| failure(bytes))
}

/// Watts of `12 mW`, `12.39W`, `3 uW`.
pub fn watts(bytes: &[u8]) -> Option<f64> {
    let unit = alt((tag("mW").map(|_| 1e-3), tag("uW").map(|_| 1e-6), tag("W").map(|_| 1.0)));
    let (_, (value, factor)) = all_consuming((plain, preceded(space0, unit))).parse(bytes).ok()?;
    bounds::watts(value * factor)
}

/// Runs a parser that must consume all bytes, with blanks around.
pub fn whole<'a, T>(parser: impl Fn(&'a [u8]) -> ParseResult<'a, T>, bytes: &'a [u8]) -> Option<T> {
    all_consuming(delimited(space0, parser, space0)).parse(bytes).ok().map(|(_, value)| value)
}

/// A finite number that is all of the bytes.
pub fn number(bytes: &[u8]) -> Option<f64> {
    whole(scientific, bytes).filter(|value| value.is_finite())
}

/// A number with its unit, perhaps followed by a remark in parentheses.
pub fn with_unit(bytes: &[u8], unit: &str) -> Option<f64> {
    let remark = opt((space0, char('('), rest));
    let (_, (value, ..)) =
        all_consuming((scientific, space0, tag(unit.as_bytes()), remark)).parse(bytes).ok()?;
    value.is_finite().then_some(value)
}

/// `(600 MHz: .40% 972 MHz:  99%)`.
pub fn frequencies(bytes: &[u8]) -> ParseResult<'_, BTreeMap<u64, f64>> {
    delimited((space0, char('(')), steps, (space0, char(')'))).parse(bytes)
}

/// `1100MHz: 0.00%, 1050MHz: 0.00%`. The parts of a repeated frequency are added.
pub fn steps(mut bytes: &[u8]) -> ParseResult<'_, BTreeMap<u64, f64>> {
    let mut map = BTreeMap::new();
    while let Ok((rest, hertz)) = frequency(bytes)
        && let Some(rest) = after_blanks(rest).strip_prefix(b":")
        && let Ok((rest, part)) = percent(rest)
    {
        map.entry(hertz).and_modify(|sum| *sum = micro(*sum + part)).or_insert(part);
        let rest = after_blanks(rest);
        bytes = rest.strip_prefix(b",").unwrap_or(rest);
    }
    Ok((bytes, map))
}

/// `(P1 : 100% P2 :   0%)`, `(C2: 15.64% C3: 0.00% )`.
pub fn states(bytes: &[u8]) -> ParseResult<'_, BTreeMap<String, f64>> {
    let name = take_while1(|byte: u8| byte.is_ascii_alphanumeric() || byte == b'_');
    let part = (name, preceded((space0, char(':')), percent));
    let list = many0(preceded(space0, part));
    let (left, list) = delimited((space0, char('(')), list, (space0, char(')'))).parse(bytes)?;
    let text = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    Ok((left, list.into_iter().map(|(name, part)| (text(name), part)).collect()))
}

/// A ratio, with or without a list after it. A list that is cut off gives the ratio and `Err`.
pub fn ratio_and<'a, T>(
    bytes: &'a [u8],
    list: impl Fn(&'a [u8]) -> ParseResult<'a, T>,
) -> Option<(f64, Result<Option<T>, ()>)> {
    let (left, ratio) = percent(bytes).ok()?;
    if left.trim_ascii().is_empty() {
        return Some((ratio, Ok(None)));
    }
    Some((ratio, whole(list, left).map(Some).ok_or(())))
}

/// `106.15% (2335.26 Mhz)`: a ratio of the nominal frequency, and the frequency.
pub fn nominal(bytes: &[u8]) -> Option<(f64, u64)> {
    let ratio =
        |bytes| map_opt(terminated(plain, char('%')), |value| bounds::nominal(value / 100.0)).parse(bytes);
    let read = |bytes| (ratio, delimited((space0, char('(')), frequency, char(')'))).parse(bytes);
    whole(read, bytes)
}

/// `0 frequency`: a number, and the text after it.
pub fn numbered(text: &str) -> Option<(u64, &str)> {
    let (left, number) = integer::<_, Error<&[u8]>>(text.as_bytes()).ok()?;
    Some((number, text[text.len() - left.len()..].trim_start()))
}

/// `nan`, `-nan%`, `nan MHz`: the result of a division by zero.
pub fn is_nan(value: &str) -> bool {
    let unit = value.strip_prefix('-').unwrap_or(value).strip_prefix("nan");
    unit.is_some_and(|unit| ["", "%", "MHz", "Mhz", "mW", "W"].contains(&unit.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_those_of_the_standard_library(word in "[0-9]{0,9}[.]?[0-9]{0,9}[.]?[0-9]{0,2}") {
            let value = plain(word.as_bytes()).ok().map(|(_, value)| value.to_bits());
            prop_assert_eq!(value, word.parse::<f64>().ok().map(f64::to_bits));
        }
    }

    #[test]
    fn values() {
        assert_eq!(whole(percent, b" .43%"), Some(0.0043));
        assert_eq!(
            (whole(percent, b"  0%"), whole(percent, b"100.00%"), whole(percent, b"10")),
            (Some(0.0), Some(1.0), None)
        );
        assert_eq!(
            (whole(frequency, b"0 MHz"), whole(frequency, b" 2335.26 Mhz")),
            (Some(0), Some(2_335_260_000))
        );
        assert_eq!(
            (watts(b" 12.39W"), watts(b" 4 mW"), watts(b" 4 m"), watts(b" 4")),
            (Some(12.39), Some(0.004), None, None)
        );
        assert_eq!(
            (number(b" 1.76969e+10"), number(b"-0.5"), number(b"nan"), number(b"1 2")),
            (Some(1.76969e10), Some(-0.5), None, None)
        );
        assert_eq!(
            (with_unit(b" 74.80 C", "C"), with_unit(b" 60 C (fan)", "C"), with_unit(b" 60", "C")),
            (Some(74.8), Some(60.0), None)
        );
        assert_eq!(nominal(b" 106.15% (2335.26 Mhz)"), Some((1.0615, 2_335_260_000)));
        for odd in [&b"1.2.3%"[..], b".%", b"%"] {
            assert_eq!(whole(percent, odd), None);
        }
    }

    #[test]
    fn lists() {
        let (ratio, list) =
            ratio_and(b"  6.47% (600 MHz: .40% 972 MHz:  99% 972 MHz: .5%)", frequencies).unwrap();
        assert_eq!(
            (ratio, list),
            (0.0647, Ok(Some(BTreeMap::from([(600_000_000, 0.004), (972_000_000, 0.995)]))))
        );
        assert_eq!(ratio_and(b"  6.47% (600 MHz: .40% 97", frequencies), Some((0.0647, Err(()))));
        assert_eq!(ratio_and(b"6.47%", frequencies), Some((0.0647, Ok(None))));
        let states = whole(states, b"(C2: 15.64% C3: 0.00% )").unwrap();
        assert_eq!(states, BTreeMap::from([("C2".to_owned(), 0.1564), ("C3".to_owned(), 0.0)]));
    }
}
