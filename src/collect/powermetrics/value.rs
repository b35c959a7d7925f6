//! Values as `powermetrics` prints them in text: `93%`, `.43%`, `1020 MHz`, `12.39W`, lists in parentheses; and the
//! range in which each kind of value is credible.

use std::collections::BTreeMap;

use nom::Parser as _;
use nom::branch::alt;
use nom::bytes::complete::{tag, tag_no_case, take_while1};
use nom::character::complete::{char, space0, u64 as integer};
use nom::combinator::{all_consuming, map_opt, opt, rest};
use nom::multi::{fold_many0, many0};
use nom::number::complete::double;
use nom::sequence::{delimited, preceded, terminated};
use nom::{IResult, error::Error};

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

/// A number without a sign: `12`, `12.5`, `.43`.
pub fn plain(bytes: &[u8]) -> ParseResult<'_, f64> {
    let digits = take_while1(|byte: u8| byte.is_ascii_digit() || byte == b'.');
    preceded(space0, map_opt(digits, |word| str::from_utf8(word).ok()?.parse().ok())).parse(bytes)
}

/// A number with sign and exponent.
fn scientific(bytes: &[u8]) -> ParseResult<'_, f64> {
    preceded(space0, double).parse(bytes)
}

/// `93.5%` as 0.935; fails above 101 %.
pub fn percent(bytes: &[u8]) -> ParseResult<'_, f64> {
    map_opt(terminated(plain, char('%')), |value| bounds::ratio(value / 100.0)).parse(bytes)
}

/// Hertz of `1020 MHz`, `2335.26 Mhz`, `1.2 GHz`.
pub fn frequency(bytes: &[u8]) -> ParseResult<'_, u64> {
    let unit = alt((tag_no_case("MHz"), tag_no_case("GHz"), tag_no_case("KHz")));
    let read = (plain, preceded(space0, unit));
    map_opt(read, |(value, unit): (f64, &[u8])| {
        let factor = match unit[0].to_ascii_lowercase() {
            b'g' => 1e9,
            b'm' => 1e6,
            _ => 1e3,
        };
        bounds::hertz(value * factor)
    })
    .parse(bytes)
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
pub fn steps(bytes: &[u8]) -> ParseResult<'_, BTreeMap<u64, f64>> {
    let part = (frequency, preceded((space0, char(':')), percent));
    let list = delimited(space0, part, (space0, opt(char(','))));
    let add = |mut map: BTreeMap<u64, f64>, (frequency, part)| {
        let sum = map.entry(frequency).or_default();
        *sum = micro(*sum + part);
        map
    };
    fold_many0(list, BTreeMap::new, add).parse(bytes)
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
    use super::*;

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
