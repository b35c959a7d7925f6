//! One line of input, parsed into fields that borrow from it.
//!
//! [`Line::parse`] takes a line without its newline; [`Line::class`] distinguishes
//! records, OTLP/JSON and other objects.

mod compact;
mod read;
mod value;

use std::collections::HashMap;
use std::sync::LazyLock;

use memchr::memmem::Finder;

pub use self::value::{Fields, Value, get};

use crate::common::time::Timestamp;
use crate::record::{Generic, KINDS, Kind, Mapping};

/// A signal of OTLP, which has its own request and path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `ExportMetricsServiceRequest` to `/v1/metrics`
    Metrics,
    /// `ExportLogsServiceRequest` to `/v1/logs`
    Logs,
    /// `ExportTraceServiceRequest` to `/v1/traces`
    Traces,
}

impl Signal {
    /// In the order in which requests are sent.
    pub const ALL: [Self; 3] = [Self::Metrics, Self::Logs, Self::Traces];

    /// The path that OTLP/HTTP appends to the endpoint.
    pub const fn path(self) -> &'static str {
        match self {
            Self::Metrics => "v1/metrics",
            Self::Logs => "v1/logs",
            Self::Traces => "v1/traces",
        }
    }

    /// The only field of the request, as proto3 JSON may spell it.
    pub const fn fields(self) -> [&'static str; 2] {
        match self {
            Self::Metrics => ["resourceMetrics", "resource_metrics"],
            Self::Logs => ["resourceLogs", "resource_logs"],
            Self::Traces => ["resourceSpans", "resource_spans"],
        }
    }
}

/// A value for each signal, in the order of [`Signal::ALL`].
pub type BySignal<T> = [T; Signal::ALL.len()];

impl Signal {
    /// The name in file names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Metrics => "metrics",
            Self::Logs => "logs",
            Self::Traces => "traces",
        }
    }

    /// The signal that a line is for, found without parsing most lines. A line that is not valid counts as a log.
    pub fn of_line(line: &[u8]) -> Self {
        static KIND: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"kind\""));
        static RESOURCE: LazyLock<Finder> = LazyLock::new(|| Finder::new("\"resource"));
        // Telepipe's programs begin every line with these two fields.
        let kind = line.strip_prefix(b"{\"ts\":\"").and_then(|rest| {
            let (_, rest) = rest.split_at_checked(memchr::memchr(b'"', rest)?)?;
            let name = rest.strip_prefix(b"\",\"kind\":\"")?;
            let name = std::str::from_utf8(&name[..memchr::memchr(b'"', name)?]).ok()?;
            KIND_BY_NAME.get(name)
        });
        if let Some(kind) = kind {
            return Self::of_kind(kind);
        }
        if KIND.find(line).is_none() && RESOURCE.find(line).is_none() {
            return Self::Logs;
        }
        let Ok(line) = Line::parse(line) else { return Self::Logs };
        match line.class() {
            Class::Record(kind) => Self::of_kind(kind),
            Class::Otlp => line.signals().next().unwrap_or(Self::Logs),
            Class::Object => Self::Logs,
        }
    }

    fn of_kind(kind: &Kind) -> Self {
        match kind.mapping {
            Mapping::Metrics { .. } | Mapping::Generic(Generic::Metric) => Self::Metrics,
            Mapping::Generic(Generic::Span) => Self::Traces,
            Mapping::Log { .. } | Mapping::Generic(Generic::Log | Generic::Snapshot) => Self::Logs,
        }
    }
}

/// The content of a line.
#[derive(Clone, Copy)]
pub enum Class {
    /// A record of a known kind.
    Record(&'static Kind),
    /// OTLP/JSON, the file format of the OpenTelemetry Collector.
    Otlp,
    /// Any other object.
    Object,
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// All fields, including `ts`, `kind` and `host`.
    pub fields: Fields<'a>,
}

impl<'a> Line<'a> {
    /// Parses a line.
    ///
    /// # Errors
    /// If it is not UTF-8, not JSON or not an object.
    pub fn parse(line: &'a [u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(line).map_err(|error| format!("not UTF-8: {error}"))?;
        let fields = compact::object(text).map_or_else(|| read::object(text), Ok);
        fields.map(|fields| Self { fields }).map_err(|error| {
            let message = error.to_string();
            if error.is_data() {
                format!("not a JSON object but {}", type_name(text.trim_ascii_start()))
            } else if message.contains("surrogate") || message.contains("end of hex escape") {
                format!("not JSON: lone surrogate in a string: {message}")
            } else if message.starts_with("number out of range") {
                format!("a {message}")
            } else {
                format!("not JSON: {message}")
            }
        })
    }

    /// The field `name`.
    pub fn get(&self, name: &str) -> Option<&Value<'a>> {
        get(&self.fields, name)
    }

    /// The field `name`, if it is a string.
    pub fn str(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }

    /// The field `name`, if it is an RFC 3339 time.
    pub fn time(&self, name: &str) -> Option<Timestamp> {
        self.str(name)?.parse().ok()
    }

    /// The field `ts`.
    pub fn ts(&self) -> Option<Timestamp> {
        self.time("ts")
    }

    /// The field `kind`.
    pub fn kind(&self) -> Option<&str> {
        self.str("kind")
    }

    /// The field `host`.
    pub fn host(&self) -> Option<&str> {
        self.str("host")
    }

    /// Classifies the line. A record needs `ts`, unless its kind is generic: other programs use
    /// the name `kind` too.
    pub fn class(&self) -> Class {
        match self.kind() {
            Some(name) => match KIND_BY_NAME.get(name) {
                Some(kind) if matches!(kind.mapping, Mapping::Generic(_)) || self.str("ts").is_some() => {
                    Class::Record(kind)
                }
                _ => Class::Object,
            },
            None if self.has_signal() => Class::Otlp,
            None => Class::Object,
        }
    }

    /// Whether a field of OTLP/JSON is there; null means that it is empty.
    fn has_signal(&self) -> bool {
        let is_signal = |name| matches!(self.get(name), Some(Value::Array(_) | Value::Null));
        Signal::ALL.into_iter().flat_map(Signal::fields).any(is_signal)
    }

    /// The signals that have an array in their OTLP/JSON field.
    pub fn signals(&self) -> impl Iterator<Item = Signal> {
        let is_array = |name| matches!(self.get(name), Some(Value::Array(_)));
        Signal::ALL.into_iter().filter(move |signal| signal.fields().into_iter().any(is_array))
    }
}

/// Names the type of a JSON value by its first character.
fn type_name(text: &str) -> &'static str {
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use proptest::prelude::*;

    #[test]
    fn fields_keep_their_order_and_borrow() {
        let text =
            br#" {"b":1,"a":2,"e":"\u00e9","n":null,"a":"x","m":{"k":[true,-1,1.0,18446744073709551615]}} "#;
        let line = Line::parse(text).unwrap();
        let names: Vec<_> = line.fields.iter().map(|(name, _)| &**name).collect();
        assert_eq!(names, ["b", "a", "e", "n", "m"]);
        assert!(matches!(line.get("a"), Some(Value::Str(Cow::Borrowed("x")))), "the last value wins");
        assert!(matches!(line.get("e"), Some(Value::Str(Cow::Owned(text))) if text == "é"));
        assert_eq!(line.get("none"), None);
        let fields = line.get("m").unwrap().as_map().unwrap();
        let inner = get(&fields, "k").unwrap().as_array().unwrap();
        assert_eq!(inner, [Value::Bool(true), Value::I64(-1), Value::F64(1.0), Value::U64(u64::MAX)]);
        assert_eq!(inner.iter().map(Value::as_u64).collect::<Vec<_>>(), [None, None, None, Some(u64::MAX)]);
    }

    #[test]
    fn invalid_lines_are_refused_with_a_reason() {
        let why = |line: &[u8]| Line::parse(line).unwrap_err();
        assert!(why(b"").starts_with("not JSON: EOF"));
        assert!(why(b"{\"a\":1").starts_with("not JSON: EOF"));
        assert!(why(b"{\"a\":1}{}").starts_with("not JSON: trailing"));
        assert!(why(b"{\"a\":1e400}").starts_with("a number out of range"));
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
    }

    #[test]
    fn classes() {
        let class = |line: &str| match Line::parse(line.as_bytes()).unwrap().class() {
            Class::Record(kind) => kind.name.to_owned(),
            Class::Otlp => "otlp".to_owned(),
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
            (r#"{"resourceMetrics":[]}"#, "otlp"),
            (r#"{"resourceLogs":[{}]}"#, "otlp"),
            (r#"{"resource_spans":[],"x":1}"#, "otlp"),
            (r#"{"resourceSpans":{}}"#, "object"),
            ("{}", "object"),
        ] {
            assert_eq!(class(line), expected, "{line}");
        }
    }

    #[test]
    fn signals_of_lines() {
        for (line, signal) in [
            (r#"{"ts":"2026-11-20T20:45:00Z","kind":"load","host":"h"}"#, Signal::Metrics),
            (r#" {"host":"h","kind":"load","ts":"2026-11-20T20:45:00Z"}"#, Signal::Metrics),
            (r#"{"kind":"load"}"#, Signal::Logs),
            (r#"{"kind":"metric","name":"a","value":1}"#, Signal::Metrics),
            (r#"{"ts":"2026-11-20T20:45:00Z","kind":"span"}"#, Signal::Traces),
            (r#"{"ts":"2026-11-20T20:45:00Z","kind":"exec"}"#, Signal::Logs),
            (r#"{"ts":"2026-11-20T20:45:00Z","kind":"unknown"}"#, Signal::Logs),
            (r#"{"resourceMetrics":[]}"#, Signal::Metrics),
            (r#"{"resource_spans":[{}]}"#, Signal::Traces),
            (r#"{"message":"kind of resource"}"#, Signal::Logs),
            (r#"{"ts":"2026-11-20T20:45:00Z","kind":"lo"#, Signal::Logs),
            (r#"{"ts":""#, Signal::Logs),
            ("", Signal::Logs),
        ] {
            assert_eq!(Signal::of_line(line.as_bytes()), signal, "{line}");
        }
    }

    proptest! {
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
