//! Names, units and labels in Prometheus form, by OpenTelemetry's compatibility specification.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::ship::line::{Fields, Value, get};

/// UCUM units, their names, and the base units and factors that Prometheus uses instead.
const UNITS: &[(&str, &str, &str, f64)] = &[
    ("By", "bytes", "bytes", 1.0),
    ("kBy", "kilobytes", "bytes", 1e3),
    ("KiBy", "kibibytes", "bytes", 1024.0),
    ("MBy", "megabytes", "bytes", 1e6),
    ("MiBy", "mebibytes", "bytes", 1_048_576.0),
    ("s", "seconds", "seconds", 1.0),
    ("ms", "milliseconds", "seconds", 1e-3),
    ("us", "microseconds", "seconds", 1e-6),
    ("ns", "nanoseconds", "seconds", 1e-9),
    ("min", "minutes", "seconds", 60.0),
    ("h", "hours", "seconds", 3600.0),
    ("d", "days", "seconds", 86_400.0),
    ("Cel", "celsius", "celsius", 1.0),
    ("V", "volts", "volts", 1.0),
    ("mV", "millivolts", "volts", 1e-3),
    ("A", "amperes", "amperes", 1.0),
    ("J", "joules", "joules", 1.0),
    ("W", "watts", "watts", 1.0),
    ("mW", "milliwatts", "watts", 1e-3),
    ("Hz", "hertz", "hertz", 1.0),
    ("%", "percent", "ratio", 0.01),
];

/// Returns the base unit's name in Prometheus, empty if there is none, and the factor to it.
fn unit(ucum: &str) -> (Cow<'static, str>, f64) {
    if let Some((_, _, base, factor)) = UNITS.iter().find(|(known, ..)| *known == ucum) {
        return (Cow::Borrowed(base), *factor);
    }
    if let Some(divided) = ucum.strip_suffix("/s") {
        let (name, factor) = unit(divided);
        let separator = if name.is_empty() { "" } else { "_" };
        return (Cow::Owned(format!("{name}{separator}per_second")), factor);
    }
    let annotated = ucum.starts_with('{') && ucum.ends_with('}');
    let none = annotated || ucum.is_empty() || ucum == "1";
    (Cow::Owned(if none { String::new() } else { sanitize(ucum) }), 1.0)
}

/// Converts a metric's name: dots to underscores, the base unit as a suffix, `_ratio` for
/// dimensionless gauges and `_total` for counters. Also returns the factor to the base unit.
///
/// A name without dots that ends in its unit, such as a scraped one, is kept.
pub fn family_name(name: &str, ucum: &str, counter: bool) -> (String, f64) {
    let dotted = name.contains('.');
    let mut name = sanitize(name);
    if counter && let Some(stem) = name.strip_suffix("_total") {
        name.truncate(stem.len());
    }
    let given = UNITS.iter().find(|(known, ..)| *known == ucum).map_or("", |(_, given, ..)| given);
    let has_unit = !given.is_empty() && name.ends_with(given);
    let (mut suffix, factor) = if has_unit && !dotted { ("".into(), 1.0) } else { unit(ucum) };
    if ucum == "1" && !counter && dotted {
        suffix = "ratio".into();
    }
    if !suffix.is_empty() && !name.ends_with(&*suffix) && !name.split('_').any(|part| part == suffix) {
        name = format!("{name}_{suffix}");
    }
    // `_count` is reserved for histograms: name what is counted instead.
    if dotted
        && !counter
        && let Some(stem) = name.strip_suffix("_count")
    {
        let counted = plural(&sanitize(ucum.trim_matches(['{', '}'])));
        let (before, last) = stem.rsplit_once('_').unwrap_or(("", stem));
        name =
            if plural(last) == counted { format!("{before}_{counted}") } else { format!("{stem}_{counted}") };
    }
    if counter {
        name.push_str("_total");
    }
    (name, factor)
}

fn plural(noun: &str) -> String {
    let sibilant = ["s", "x", "ch", "sh"].iter().any(|end| noun.ends_with(end));
    format!("{noun}{}", if sibilant { "es" } else { "s" })
}

/// Replaces each run of characters that names cannot have by an underscore. Labels cannot have
/// colons either, but neither do attribute keys.
pub fn sanitize(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    if name.is_empty() || name.starts_with(|first: char| first.is_ascii_digit()) {
        out.push('_');
    }
    for letter in name.chars() {
        match letter {
            ':' => out.push(letter),
            _ if letter.is_ascii_alphanumeric() => out.push(letter),
            _ if !out.ends_with('_') => out.push('_'),
            _ => {}
        }
    }
    out
}

/// Labels in the order in which they were added.
#[derive(Clone, Default)]
pub struct Labels(Vec<(String, String)>);

impl Labels {
    /// Adds a label. If two keys become one label, the values are joined.
    pub fn add(&mut self, key: &str, value: &str) {
        let label = match sanitize(key) {
            reserved if ["le", "quantile"].contains(&&*reserved) => format!("exported_{reserved}"),
            label => label,
        };
        match self.0.iter_mut().find(|(known, _)| *known == label) {
            Some((_, known)) if label == "host_name" => value.clone_into(known),
            Some((_, known)) => {
                known.push(';');
                known.push_str(value);
            }
            None => self.0.push((label, value.to_owned())),
        }
    }

    /// Adds a label with a value of any type; null is no label.
    pub fn add_value(&mut self, key: &str, value: &Value<'_>) {
        match value {
            Value::Null => {}
            Value::Str(text) => self.add(key, text),
            Value::Bool(value) => self.add(key, if *value { "true" } else { "false" }),
            Value::I64(value) => self.add(key, &value.to_string()),
            Value::U64(value) => self.add(key, &value.to_string()),
            Value::Big(digits) => self.add(key, digits),
            Value::F64(value) => self.add(key, &value.to_string()),
            Value::Array(values) => {
                let mut parts = Self::default();
                values.iter().for_each(|value| parts.add_value(key, value));
                if let Some((_, joined)) = parts.0.pop() {
                    self.add(key, &joined);
                }
            }
            Value::Map(_) | Value::Counts(_) => {}
        }
    }

    /// Adds the fields of a record that are labels, given as `(field, label)`.
    pub fn add_fields(&mut self, labels: &[(&str, &str)], fields: &Fields<'_>) {
        for (field, label) in labels {
            if let Some(value) = get(fields, field) {
                self.add_value(label, value);
            }
        }
    }

    /// The labels as in the exposition, without braces, sorted by name.
    pub fn render(&self) -> String {
        let mut sorted: Vec<_> = self.0.iter().collect();
        sorted.sort_unstable();
        let mut out = String::new();
        for (label, value) in sorted {
            let separator = if out.is_empty() { "" } else { "," };
            let _ = write!(out, "{separator}{label}=\"{}\"", escape(value, true));
        }
        out
    }
}

/// Escapes a label's value, or a help text without `quotes`.
pub fn escape(text: &str, quotes: bool) -> Cow<'_, str> {
    if !text.contains(['\\', '\n', '"']) {
        return Cow::Borrowed(text);
    }
    let escaped = text.replace('\\', "\\\\").replace('\n', "\\n");
    Cow::Owned(if quotes { escaped.replace('"', "\\\"") } else { escaped })
}
