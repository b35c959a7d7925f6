//! Parses a line of the Prometheus text format 0.0.4 or of OpenMetrics 1.0 text.
//!
//! The formats differ in the unit of timestamps, which stay text here, and in
//! exemplars, which are skipped. Quoted names, which Prometheus 3 writes if a name
//! is not an identifier, are supported.

use std::borrow::Cow;

use nom::branch::alt;
use nom::bytes::complete::{tag, take_till1, take_while, take_while1};
use nom::character::complete::{anychar, char, satisfy, space0, space1};
use nom::combinator::{eof, map, map_opt, opt, recognize, rest, verify};
use nom::multi::{many0_count, separated_list0};
use nom::sequence::{delimited, preceded, separated_pair, terminated};
use nom::{IResult, Parser};
use serde_json::Number;

/// Label names and values, in the order of the line.
pub type Labels<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// A parsed line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line<'a> {
    /// An empty line or a comment.
    Comment,
    /// `# EOF`, the end of an OpenMetrics text.
    Eof,
    /// `# HELP`, `# TYPE` or `# UNIT`, with the family and the text.
    Meta(Meta, Cow<'a, str>, Cow<'a, str>),
    /// A number of a series.
    Sample(Sample<'a>),
}

/// The keyword of a comment about a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Meta {
    /// A description.
    Help,
    /// The type: counter, gauge, histogram …
    Type,
    /// The unit: seconds, bytes …
    Unit,
}

/// One number of one series.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample<'a> {
    /// The name, including suffixes such as `_bucket`.
    pub name: Cow<'a, str>,
    /// All labels, including `le` and `quantile`.
    pub labels: Labels<'a>,
    /// The number; `None` for NaN and infinities, which JSON cannot represent.
    pub value: Option<Number>,
    /// The time, unparsed.
    pub timestamp: Option<&'a str>,
}

/// Parses a line without its newline; `None` if it is malformed.
pub fn line(text: &str) -> Option<Line<'_>> {
    let text = text.trim_matches([' ', '\t', '\r']);
    if text.is_empty() {
        return Some(Line::Comment);
    }
    if text.starts_with('#') {
        // The format defines all other lines with this sign as comments.
        return Some(meta(text).map_or(Line::Comment, |(_, meta)| meta));
    }
    sample(text).ok().map(|(_, sample)| Line::Sample(sample))
}

fn meta(input: &str) -> IResult<&str, Line<'_>> {
    let keyword = alt((
        map(tag("HELP"), |_| Meta::Help),
        map(tag("TYPE"), |_| Meta::Type),
        map(tag("UNIT"), |_| Meta::Unit),
    ));
    let name = alt((quoted, map(identifier, Cow::Borrowed)));
    let text = alt((preceded(space1, rest), eof));
    let about = (terminated(keyword, space1), name, text)
        .map(|(meta, name, text): (_, _, &str)| Line::Meta(meta, name, unescaped(text)));
    preceded((char('#'), space1), alt((map(terminated(tag("EOF"), eof), |_| Line::Eof), about))).parse(input)
}

fn sample(input: &str) -> IResult<&str, Sample<'_>> {
    let (input, bare) = opt(identifier).parse(input)?;
    let (input, entries) = opt(preceded(space0, label_set)).parse(input)?;
    let (input, _) = if entries.is_some() { space0(input)? } else { space1(input)? };
    let (input, value) = map_opt(token, number).parse(input)?;
    let (input, timestamp) = opt(preceded(space1, token)).parse(input)?;
    let exemplar = preceded((space1, char('#')), rest);
    let (input, _) = alt((exemplar, eof)).parse(input)?;
    let mut name = bare.map(Cow::Borrowed);
    let mut labels = Vec::new();
    for (key, text) in entries.unwrap_or_default() {
        match text {
            Some(text) => labels.push((key, text)),
            None if name.is_none() => name = Some(key),
            None => return Err(reject(input)),
        }
    }
    let name = name.ok_or_else(|| reject(input))?;
    Ok((input, Sample { name, labels, value, timestamp }))
}

fn reject(input: &str) -> nom::Err<nom::error::Error<&str>> {
    nom::Err::Error(nom::error::Error::new(input, nom::error::ErrorKind::Verify))
}

/// An entry between the braces: a label, or a quoted metric name, which has no value.
type Entry<'a> = (Cow<'a, str>, Option<Cow<'a, str>>);

fn label_set(input: &str) -> IResult<&str, Vec<Entry<'_>>> {
    let key = || alt((quoted, map(label_name, Cow::Borrowed)));
    let equals = || delimited(space0, char('='), space0);
    let label = separated_pair(key(), equals(), quoted).map(|(key, value)| (key, Some(value)));
    let entry = alt((label, map(quoted, |name| (name, None))));
    let comma = || delimited(space0, char(','), space0);
    let entries = terminated(separated_list0(comma(), entry), opt(comma()));
    delimited((char('{'), space0), entries, (space0, char('}'))).parse(input)
}

fn identifier(input: &str) -> IResult<&str, &str> {
    let first = satisfy(|c| c.is_ascii_alphabetic() || c == '_' || c == ':');
    recognize((first, take_while(|c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':'))).parse(input)
}

fn label_name(input: &str) -> IResult<&str, &str> {
    verify(identifier, |name: &str| !name.contains(':')).parse(input)
}

fn quoted(input: &str) -> IResult<&str, Cow<'_, str>> {
    let plain = map(take_while1(|c| c != '"' && c != '\\'), |_| ());
    let escape = map(preceded(char('\\'), anychar), |_| ());
    let text = recognize(many0_count(alt((plain, escape))));
    map(delimited(char('"'), text, char('"')), unescaped).parse(input)
}

/// A word that does not begin an exemplar.
fn token(input: &str) -> IResult<&str, &str> {
    verify(take_till1(|c| c == ' ' || c == '\t'), |word: &str| !word.starts_with('#')).parse(input)
}

/// Replaces `\\`, `\"` and `\n`; keeps any other backslash.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let next = if c == '\\' { chars.clone().next() } else { None };
        match next {
            Some('\\' | '"') => out.extend(chars.next()),
            Some('n') => {
                chars.next();
                out.push('\n');
            }
            _ => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// `None` if the text is not a number, `Some(None)` for NaN and infinities.
///
/// Integers stay integers, also `1.76548e+06`, which is how Go writes integers from a million
/// on, up to the limit of a double. `17.0` is a float: Python writes every number like this.
fn number(text: &str) -> Option<Option<Number>> {
    let whole = text.parse::<u64>().map(Number::from).or_else(|_| text.parse::<i64>().map(Number::from));
    if let Ok(whole) = whole {
        return Some(Some(whole));
    }
    let float = text.parse::<f64>().ok()?;
    if float.fract() == 0.0 && float.abs() < EXACT && text.contains(['e', 'E']) {
        return Some(Some(Number::from(float as i64)));
    }
    Some(Number::from_f64(float))
}

/// 2^53: a double represents every integer below it.
pub const EXACT: f64 = 9_007_199_254_740_992.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Sample<'_> {
        match line(text) {
            Some(Line::Sample(sample)) => sample,
            other => panic!("{text}: {other:?}"),
        }
    }

    fn labels(text: &str) -> Vec<(String, String)> {
        read(text).labels.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
    }

    #[test]
    fn samples() {
        let plain = read("up 1");
        assert_eq!((plain.name.as_ref(), plain.value, plain.timestamp), ("up", Some(1.into()), None));
        let full = read(" a:b_c { x = \"1\" , y=\"\", }\t-2.5e3  1395066363000 ");
        assert_eq!((full.name.as_ref(), full.timestamp), ("a:b_c", Some("1395066363000")));
        assert_eq!(full.value, Some((-2500).into()));
        assert_eq!(labels("a{x=\"1\",y=\"\"}3"), [("x".into(), "1".into()), ("y".into(), String::new())]);
        assert_eq!(labels("a{} 3"), []);
        for (text, value) in [
            ("a 18446744073709551615", "18446744073709551615"),
            ("a -9223372036854775808", "-9223372036854775808"),
            ("a 1.76548e+06", "1765480"),
            ("a 9.007199254740991e+15", "9007199254740991"),
            ("a 1e16", "1e+16"),
            ("a 17.0", "17.0"),
            ("a 1.5e0", "1.5"),
        ] {
            assert_eq!(read(text).value.unwrap().to_string(), value, "{text}");
        }
        for text in ["a NaN", "a +Inf", "a -Inf", "a nan"] {
            assert_eq!(read(text).value, None, "{text}");
        }
    }

    #[test]
    fn escapes() {
        let found = labels(r#"a{p="C:\\d\n\"e\" \x",q="}"} 1"#);
        assert_eq!(found, [("p".into(), "C:\\d\n\"e\" \\x".into()), ("q".into(), "}".into())]);
        let help = line(r"# HELP a  two\nlines, one \\").unwrap();
        assert_eq!(help, Line::Meta(Meta::Help, "a".into(), "two\nlines, one \\".into()));
    }

    #[test]
    fn quoted_names() {
        let sample = read(r#"{"http.requests", "é"="1", b="2"} 3 # {id="x"} 0.5 1.5"#);
        assert_eq!((sample.name.as_ref(), sample.timestamp), ("http.requests", None));
        assert_eq!(sample.labels, [("é".into(), "1".into()), ("b".into(), "2".into())]);
        let meta = line(r#"# TYPE "http.requests" counter"#).unwrap();
        assert_eq!(meta, Line::Meta(Meta::Type, "http.requests".into(), "counter".into()));
    }

    #[test]
    fn exemplars_are_skipped() {
        let sample = read(r#"a_bucket{le="0.1"} 8 1.25 # {trace_id="K"} 0.067 1.2"#);
        assert_eq!((sample.value, sample.timestamp), (Some(8.into()), Some("1.25")));
    }

    #[test]
    fn comments_and_malformed_lines() {
        for text in ["", "  ", "#", "# nothing", "#HELP a b", "# TYPE", "# EOF soon"] {
            assert_eq!(line(text), Some(Line::Comment), "{text}");
        }
        assert_eq!(line("# EOF"), Some(Line::Eof));
        for text in [
            "a",
            "a b",
            "1a 2",
            "a{ 1",
            "a{x} 1",
            "a{x=1} 1",
            "a{x=\"1} 1",
            "a 1 2 3",
            "{} 1",
            "{x=\"1\"} 1",
            "a{\"b\"} 1",
            "a{x=\"1\" y=\"2\"} 1",
            "a{:=\"1\"} 1",
            "<html>",
            "a 0x",
            "a  # 1",
        ] {
            assert_eq!(line(text), None, "{text}");
        }
    }
}
