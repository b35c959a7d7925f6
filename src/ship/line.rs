//! One line of input as borrowed fields, in the order in which they stand.
//!
//! [`Line::parse`] takes a line without its newline and borrows every string
//! that holds no escape. [`Line::class`] says what kind of line it is; what a
//! line of each class becomes is the sink's business.

mod compact;
mod read;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

use crate::common::time::Timestamp;
use crate::record::{KINDS, Kind, MAX_LINE, Signal};
use crate::ship::otlp;

/// The fields of an object, each name once: of a repeated one the last value, at the first one's place.
pub type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// Every integer that fits.
    I64(i64),
    /// An integer above `i64::MAX`, never a smaller one.
    U64(u64),
    /// An integer that is none of these, in its digits.
    Big(&'a str),
    /// Every other number; finite.
    F64(f64),
    /// A string.
    Str(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object, but for those of the next form.
    Map(Fields<'a>),
    /// Perhaps an object of counts by ascending numbers, as a histogram's buckets are: at least
    /// one, each number as Rust writes it.
    Counts(Vec<(i32, u64)>),
}

/// What a line is.
#[derive(Clone, Copy)]
pub enum Class {
    /// A record of a kind of ours, or of one that describes itself.
    Record(&'static Kind),
    /// A line of OTLP/JSON, the Collector's file format.
    Otlp(otlp::Signal),
    /// Any other object.
    Object,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// Its fields, envelope included.
    pub fields: Fields<'a>,
}

impl<'a> Line<'a> {
    /// Reads a line.
    ///
    /// # Errors
    /// Why it is not a line at all: too long, not UTF-8, not JSON, not an object.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        if line.len() > MAX_LINE {
            return Err(format!("longer than 1 MiB: {} bytes", line.len()));
        }
        let text = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
        let fields = compact::object(text).map_or_else(|| read::object(text), Ok);
        fields.map(|fields| Self { fields }).map_err(|error| {
            let said = error.to_string();
            if error.is_data() {
                format!("not a JSON object but {}", value_at(text.trim_ascii_start()))
            } else if said.contains("surrogate") || said.contains("end of hex escape") {
                format!("not JSON: half a surrogate pair in a string: {said}")
            } else {
                format!("not JSON: {said}")
            }
        })
    }

    /// The field of that name.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        get(&self.fields, name)
    }

    /// The field of that name, if it is a string.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The field of that name, if it is an RFC 3339 time.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        self.str(name)?.parse().ok()
    }

    /// When it was measured.
    pub fn ts(&self) -> Option<Timestamp> {
        self.time("ts")
    }

    /// What it says that it is.
    pub fn kind(&self) -> Option<&str> {
        self.str("kind")
    }

    /// Where it was measured.
    pub fn host(&self) -> Option<&str> {
        self.str("host")
    }

    /// What it is. An object that calls itself one of our kinds but says no
    /// time is somebody else's; kinds that describe themselves may leave it out.
    pub fn class(&self) -> Class {
        let Some(name) = self.kind() else { return self.otlp().next().map_or(Class::Object, Class::Otlp) };
        match KIND_BY_NAME.get(name) {
            Some(kind) if matches!(kind.signal, Signal::Generic(_)) || self.str("ts").is_some() => {
                Class::Record(kind)
            }
            _ => Class::Object,
        }
    }

    /// The signals of OTLP/JSON that it holds; the Collector writes one per line.
    pub fn otlp(&self) -> impl Iterator<Item = otlp::Signal> {
        let is = |name| matches!(self.get(name), Some(Value::Array(_)));
        let signals = [
            ("resourceMetrics", otlp::Signal::Metrics),
            ("resourceLogs", otlp::Signal::Logs),
            ("resourceSpans", otlp::Signal::Traces),
        ];
        signals.into_iter().filter(move |(name, _)| is(name)).map(|(_, signal)| signal)
    }
}

/// What a JSON value is, by its first character.
fn value_at(text: &str) -> &'static str {
    match text.as_bytes().first() {
        Some(b'[') => "an array",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    }
}

static KIND_BY_NAME: LazyLock<HashMap<&'static str, &'static Kind>> =
    LazyLock::new(|| KINDS.iter().map(|kind| (kind.name, *kind)).collect());

/// The field of that name.
pub fn get<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Option<&'f Value<'a>> {
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
}

/// Counts as the fields that they were.
fn fields_of<'a>(counts: &[(i32, u64)]) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> {
    let value = |count| i64::try_from(count).map_or(Value::U64(count), Value::I64);
    counts.iter().map(move |&(index, count)| (Cow::Owned(index.to_string()), value(count)))
}

impl<'a> Value<'a> {
    /// The string, if it is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The fields, if it is an object.
    pub fn as_map(&self) -> Option<Cow<'_, Fields<'a>>> {
        match self {
            Self::Map(fields) => Some(Cow::Borrowed(fields)),
            Self::Counts(counts) => Some(Cow::Owned(fields_of(counts).collect())),
            _ => None,
        }
    }

    /// The elements, if it is an array.
    pub fn as_array(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The number, if it is one, as the nearest double.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::I64(value) => Some(value as f64),
            Self::U64(value) => Some(value as f64),
            Self::F64(value) => Some(value),
            Self::Big(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The number, if it is an integer and not negative.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::I64(value) => u64::try_from(value).ok(),
            Self::U64(value) => Some(value),
            _ => None,
        }
    }

    /// The number, if it is an integer that fits.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I64(value) => Some(value),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_keep_their_order_and_borrow() {
        let text =
            br#" {"b":1,"a":2,"e":"\u00e9","n":null,"a":"x","m":{"k":[true,-1,1.0,18446744073709551615]}} "#;
        let line = Line::parse(text).unwrap();
        let names: Vec<_> = line.fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["b", "a", "e", "n", "m"]);
        assert!(matches!(line.get("a"), Some(Value::Str(Cow::Borrowed("x")))), "the last counts");
        assert!(matches!(line.get("e"), Some(Value::Str(Cow::Owned(text))) if text == "é"));
        assert_eq!(line.get("none"), None);
        let fields = line.get("m").unwrap().as_map().unwrap();
        let inner = get(&fields, "k").unwrap().as_array().unwrap();
        assert_eq!(inner, [Value::Bool(true), Value::I64(-1), Value::F64(1.0), Value::U64(u64::MAX)]);
        assert_eq!(inner.iter().map(Value::as_u64).collect::<Vec<_>>(), [None, None, None, Some(u64::MAX)]);
    }

    #[test]
    fn what_is_no_line_says_why() {
        let why = |line: &[u8]| Line::parse(line).unwrap_err();
        assert!(why(b"").starts_with("not JSON: EOF"));
        assert!(why(b"{\"a\":1").starts_with("not JSON: EOF"));
        assert!(why(b"{\"a\":1}{}").starts_with("not JSON: trailing"));
        assert!(why(b"{\"a\":1e999}").starts_with("not JSON: number out of range"));
        for (line, what) in [
            ("[]", "an array"),
            (" \"x\"", "a string"),
            ("null", "null"),
            ("-1.5", "a number"),
            ("true", "a boolean"),
        ] {
            assert_eq!(why(line.as_bytes()), format!("not a JSON object but {what}"));
        }
        for lone in [r"\ud800", r"\udc00", r"\ud800\ud800", r"x\ud800y"] {
            assert!(why(format!(r#"{{"a":"{lone}"}}"#).as_bytes()).contains("surrogate"), "{lone}");
            assert!(why(format!(r#"{{"{lone}":1}}"#).as_bytes()).contains("surrogate"), "{lone}");
        }
        assert!(why(b"{\"a\":\"\xff\"}").starts_with("not UTF-8"));
        assert!(why(&[b'{'; 1000]).starts_with("not JSON"));
        let deep = [&br#"{"a":"#[..], &[b'['; 1000], &[b']'; 1000], b"}"].concat();
        assert!(why(&deep).contains("recursion limit"));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_LINE));
        assert!(why(long.as_bytes()).starts_with("longer than 1 MiB"));
        assert!(Line::parse(&long.as_bytes()[..long.len() - 10]).unwrap_err().starts_with("not JSON"));
    }

    #[test]
    fn classes() {
        let class = |line: &str| match Line::parse(line.as_bytes()).unwrap().class() {
            Class::Record(kind) => kind.name.to_owned(),
            Class::Otlp(signal) => format!("{signal:?}"),
            Class::Object => "object".to_owned(),
        };
        for (line, expected) in [
            (r#"{"ts":"2026-11-20T20:45:00Z","kind":"load"}"#, "load"),
            (r#"{"kind":"load","ts":""}"#, "load"),
            (r#"{"kind":"load"}"#, "object"),
            (r#"{"kind":"load","ts":5}"#, "object"),
            (r#"{"kind":"Pod","ts":""}"#, "object"),
            (r#"{"kind":["load"],"ts":""}"#, "object"),
            (r#"{"kind":"metric"}"#, "metric"),
            (r#"{"resourceMetrics":[]}"#, "Metrics"),
            (r#"{"resourceLogs":[{}]}"#, "Logs"),
            (r#"{"resourceSpans":[]}"#, "Traces"),
            (r#"{"resourceSpans":{}}"#, "object"),
            ("{}", "object"),
        ] {
            assert_eq!(class(line), expected, "{line}");
        }
    }

    proptest! {
        /// Numbers are those that the standard library reads, to the last bit.
        #[test]
        fn numbers_are_exact(double in any::<f64>(), digits in "-?(0|[1-9][0-9]{0,24})\\.[0-9]{1,25}(e-?[0-9]{1,2})?") {
            prop_assume!(double.is_finite());
            for text in [format!("{double:?}"), format!("{double:.20e}"), digits] {
                let line = format!("{{\"a\":{text}}}");
                let read = Line::parse(line.as_bytes()).unwrap().get("a").and_then(Value::as_f64).unwrap();
                prop_assert_eq!(read.to_bits(), text.parse::<f64>().unwrap().to_bits(), "{}", text);
            }
        }
    }
}
