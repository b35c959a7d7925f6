//! Log records: events, `log` and `snapshot` records, and objects of other programs.

use std::collections::HashMap;

use super::names::Names;
use super::{accessors, wire};
use crate::record::{KINDS, Kind, Level, Mapping, Severity};
use crate::ship::line::{Line, Value, get};

/// Writes the kinds that are log records.
pub struct Logs {
    names: Names,
    renamed: HashMap<(&'static str, &'static str), &'static str>,
}

/// Fields that become fields of the log record or of its resource, not attributes.
const ENVELOPE: [&str; 3] = ["ts", "kind", "host"];

impl Logs {
    /// Collects the attribute keys.
    pub fn new(names: Names) -> Self {
        let logs = KINDS.iter().filter(|kind| matches!(kind.mapping, Mapping::Log { .. }));
        let renamed =
            logs.flat_map(|kind| kind.attributes.iter().map(|(field, key)| ((kind.name, *field), *key)));
        Self { names, renamed: renamed.collect() }
    }

    /// Appends a record of `kind` as an event, with its fields as attributes.
    pub fn record(&self, out: &mut Vec<u8>, kind: &'static Kind, line: &Line<'_>, ts: u64) {
        let level = match &kind.mapping {
            Mapping::Log { severity } => level(severity, line),
            Mapping::Metrics { .. } | Mapping::Generic(_) => Level::Info,
        };
        wire::message(out, 2, |out| {
            wire::fixed64(out, 1, ts);
            wire::uint(out, 2, level as u64);
            wire::text(out, 3, level.text());
            for (field, value) in &line.fields {
                if ENVELOPE.contains(&&**field) || *value == Value::Null {
                    continue;
                }
                match self.renamed.get(&(kind.name, &**field)) {
                    Some(key) => self.names.write(out, 6, key, value),
                    None => wire::key_value(out, 6, field, value),
                }
            }
            wire::fixed64(out, 11, ts);
            wire::text(out, 12, kind.name);
        });
    }
}

/// Further such fields of a `log` record.
const LOG_FIELDS: [&str; 3] = ["severity", "body", "resource"];

/// Appends a `log` record. All of its fields are optional. Unknown fields become attributes, as
/// does a trace context that is not valid.
///
/// # Errors
/// Which field is invalid; nothing is appended then.
pub fn generic(out: &mut Vec<u8>, line: &Line<'_>, ts: u64) -> Result<(), String> {
    let severity = line.get("severity");
    if !matches!(severity, None | Some(Value::Null | Value::Str(_) | Value::I64(0..=24))) {
        return Err("severity is neither a name nor a number from 1 to 24".into());
    }
    let attributes = line.get("attributes").and_then(Value::as_map);
    let trace = line.str("trace_id").and_then(|text| accessors::id::<16>("trace_id", text).ok());
    let span = line.str("span_id").and_then(|text| accessors::id::<8>("span_id", text).ok());
    wire::message(out, 2, |out| {
        wire::fixed64(out, 1, ts);
        write_severity(out, severity);
        if let Some(body) = line.get("body") {
            wire::any_value(out, 5, body);
        }
        if let Some(attributes) = &attributes {
            wire::key_values(out, 6, attributes);
        }
        for (field, value) in &line.fields {
            let known = match &**field {
                "trace_id" => trace.is_some(),
                "span_id" => span.is_some(),
                "attributes" => attributes.is_some(),
                field => ENVELOPE.contains(&field) || LOG_FIELDS.contains(&field),
            };
            let repeated = || attributes.as_ref().is_some_and(|attributes| get(attributes, field).is_some());
            if !known && *value != Value::Null && !repeated() {
                wire::key_value(out, 6, field, value);
            }
        }
        for (number, id) in [(9, trace.as_ref().map(|id| &id[..])), (10, span.as_ref().map(|id| &id[..]))] {
            if let Some(id) = id {
                wire::bytes(out, number, id);
            }
        }
        wire::fixed64(out, 11, ts);
    });
    Ok(())
}

/// Appends a `snapshot`. Its `data` is the body.
///
/// # Errors
/// Which field is invalid; nothing is appended then.
pub fn snapshot(out: &mut Vec<u8>, line: &Line<'_>, ts: u64) -> Result<(), String> {
    let url = accessors::text(&line.fields, "url")?;
    wire::message(out, 2, |out| {
        wire::fixed64(out, 1, ts);
        wire::any_value(out, 5, line.get("data").unwrap_or(&Value::Null));
        if let Some(url) = url {
            wire::key_text(out, 6, "url.full", url);
        }
        wire::fixed64(out, 11, ts);
        wire::text(out, 12, "snapshot");
    });
    Ok(())
}

/// Appends any other object as the body of a log record. `ts` is the time that it names, if any,
/// and `received` when its line was read.
pub fn object(out: &mut Vec<u8>, line: &Line<'_>, ts: Option<u64>, received: u64) {
    wire::message(out, 2, |out| {
        if let Some(ts) = ts {
            wire::fixed64(out, 1, ts);
        }
        write_severity(out, ["severity", "level"].iter().find_map(|field| line.get(field)));
        wire::message(out, 5, |out| wire::message(out, 6, |out| wire::key_values(out, 1, &line.fields)));
        wire::fixed64(out, 11, received);
    });
}

/// Appends the severity as a number of the data model, and as the text given.
fn write_severity(out: &mut Vec<u8>, severity: Option<&Value<'_>>) {
    match severity {
        Some(Value::Str(text)) => {
            if let Some(number) = severity_number(text) {
                wire::uint(out, 2, number);
            }
            wire::text(out, 3, text);
        }
        Some(Value::I64(number @ 1..=24)) => wire::uint(out, 2, *number as u64),
        _ => {}
    }
}

/// Returns the number of a severity name of OpenTelemetry, syslog or common loggers.
fn severity_number(text: &str) -> Option<u64> {
    const NAMES: [(&str, u64); 17] = [
        ("trace", 1),
        ("debug", 5),
        ("info", 9),
        ("information", 9),
        ("informational", 9),
        ("notice", 10),
        ("warn", 13),
        ("warning", 13),
        ("err", 17),
        ("error", 17),
        ("crit", 18),
        ("critical", 18),
        ("alert", 19),
        ("fatal", 21),
        ("panic", 21),
        ("emerg", 21),
        ("emergency", 21),
    ];
    let (name, step) = match text.as_bytes() {
        [name @ .., step @ b'2'..=b'4'] => (&text[..name.len()], u64::from(step - b'1')),
        _ => (text, 0),
    };
    let found = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, number)| number + step)
}

fn level(severity: &Severity, line: &Line<'_>) -> Level {
    match *severity {
        Severity::Is(level) => level,
        Severity::ByMultiple(field, default, multiples) => {
            // Compare whole nanoseconds: the product of a decimal may be slightly too large.
            let nanos = |us: f64| (us * 1000.0).round();
            let number = |field| line.get(field).and_then(Value::as_f64).map(nanos);
            let threshold = number("threshold_us").filter(|ns| *ns > 0.0).unwrap_or(nanos(default));
            let reached =
                |(times, _): &&(f64, Level)| number(field).is_some_and(|value| value >= times * threshold);
            let highest = multiples.iter().filter(reached).max_by(|a, b| a.0.total_cmp(&b.0));
            highest.map_or(Level::Debug, |(_, level)| *level)
        }
    }
}
