//! `--preset journald`: turns an entry, as `journalctl -o json` prints it, into a `log` record.
//!
//! This is not a jq program, which would take eight times as long as journalctl itself.

use std::borrow::Cow;

use super::line::{Line, Value};
use crate::common::time::Timestamp;

/// The names of the values of `PRIORITY`, as in syslog.
const SEVERITIES: [&str; 8] = ["emerg", "alert", "crit", "err", "warning", "notice", "info", "debug"];

/// Fields that are not attributes. Names that begin with two underscores are not either.
const ENVELOPE: [&str; 4] = ["PRIORITY", "MESSAGE", "_HOSTNAME", "_MACHINE_ID"];

/// Fields with a name in OpenTelemetry's semantic conventions, and whether that attribute is an integer.
const CONVENTIONS: [(&str, &str, bool); 12] = [
    ("_PID", "process.pid", true),
    ("_UID", "process.user.id", true),
    ("TID", "thread.id", true),
    ("CODE_LINE", "code.line.number", true),
    ("CODE_FILE", "code.file.path", false),
    ("CODE_FUNC", "code.function.name", false),
    ("CONTAINER_ID_FULL", "container.id", false),
    ("CONTAINER_NAME", "container.name", false),
    ("_CMDLINE", "process.command_line", false),
    ("_COMM", "process.executable.name", false),
    ("_EXE", "process.executable.path", false),
    ("_SYSTEMD_CGROUP", "process.linux.cgroup", false),
];

/// Appends the record for an entry. A line that is a `log` record is appended as it is, so that dead letters can be
/// delivered again with the same options.
///
/// # Errors
/// If the line is neither.
pub fn map(line: &[u8], out: &mut Vec<u8>) -> Result<(), String> {
    let entry = Line::parse(line)?;
    if entry.kind() == Some("log") {
        out.extend_from_slice(line);
        return Ok(());
    }
    let time = entry.str("__REALTIME_TIMESTAMP").ok_or("not an entry of journalctl -o json")?;
    let ns = time.parse::<u64>().ok().and_then(|us| us.checked_mul(1000));
    let ts = ns.ok_or_else(|| format!("__REALTIME_TIMESTAMP is not a number of microseconds: {time}"))?;
    out.extend_from_slice(b"{\"ts\":\"");
    Timestamp(ts).write(out);
    out.extend_from_slice(b"\",\"kind\":\"log\"");
    let severity = entry.str("PRIORITY").and_then(|text| text.parse::<usize>().ok());
    let fields = [
        ("host", entry.get("_HOSTNAME").and_then(text)),
        ("severity", severity.and_then(|number| SEVERITIES.get(number)).map(|name| Cow::Borrowed(*name))),
        ("body", entry.get("MESSAGE").and_then(text)),
    ];
    for (name, value) in fields {
        if let Some(value) = value {
            out.push(b',');
            string(out, name);
            out.push(b':');
            string(out, &value);
        }
    }
    out.extend_from_slice(b",\"attributes\":{");
    let mut separator = &b""[..];
    for (name, value) in &entry.fields {
        if name.starts_with("__") || ENVELOPE.contains(&&**name) || is_shadowed(&entry, name) {
            continue;
        }
        let known = CONVENTIONS.iter().find(|(field, ..)| field == name);
        let key = match known {
            Some((_, key, _)) => Cow::Borrowed(*key),
            None => format!("journald.{}", name.trim_start_matches('_').to_ascii_lowercase()).into(),
        };
        let Some(value) = json(value, known.is_some_and(|(.., integer)| *integer)) else { continue };
        out.extend_from_slice(separator);
        string(out, &key);
        out.push(b':');
        out.extend_from_slice(&value);
        separator = b",";
    }
    out.push(b'}');
    let resource = [("host.id", entry.str("_MACHINE_ID")), ("service.name", service(&entry))];
    let mut open = &b",\"resource\":{"[..];
    for (key, value) in resource {
        if let Some(value) = value {
            out.extend_from_slice(open);
            string(out, key);
            out.push(b':');
            string(out, value);
            open = b",";
        }
    }
    if open == b"," {
        out.push(b'}');
    }
    out.push(b'}');
    Ok(())
}

/// The service that wrote an entry: its unit, or the name that it gives itself.
fn service<'e>(entry: &'e Line<'_>) -> Option<&'e str> {
    let unit = entry.str("_SYSTEMD_UNIT").map(|unit| unit.strip_suffix(".service").unwrap_or(unit));
    unit.or_else(|| entry.str("SYSLOG_IDENTIFIER")).filter(|name| !name.is_empty())
}

/// Whether a field that a program wrote would become the same attribute as a field of the journal itself (`_NAME`).
fn is_shadowed(entry: &Line<'_>, name: &str) -> bool {
    let is_own = |own: &str| own.strip_prefix('_') == Some(name);
    let is_elsewhere =
        |own: &str| ENVELOPE.contains(&own) || CONVENTIONS.iter().any(|(field, ..)| *field == own);
    entry.fields.iter().any(|(own, _)| is_own(own) && !is_elsewhere(own))
}

/// The text of a field: a string; an array of bytes, if they are not all printable; or an array of several values,
/// which become lines. `None` for null, which stands for a field that is too long.
fn text<'v>(value: &'v Value<'_>) -> Option<Cow<'v, str>> {
    match value {
        Value::Str(text) => Some(Cow::Borrowed(text)),
        Value::Array(values) => {
            let byte = |value: &Value<'_>| value.as_u64().and_then(|byte| u8::try_from(byte).ok());
            let bytes: Option<Vec<_>> = values.iter().map(byte).collect();
            Some(match bytes {
                Some(bytes) => String::from_utf8_lossy(&bytes).into_owned().into(),
                None => values.iter().filter_map(text).collect::<Vec<_>>().join("\n").into(),
            })
        }
        _ => None,
    }
}

/// The value of an attribute as JSON: a string, an integer, or an array of strings.
fn json(value: &Value<'_>, integer: bool) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    match value {
        Value::Array(values) if values.iter().any(|value| value.as_u64().is_none()) => {
            out.push(b'[');
            for (index, value) in values.iter().filter_map(text).enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                string(&mut out, &value);
            }
            out.push(b']');
        }
        _ => match text(value)? {
            number if integer && number.parse::<i64>().is_ok_and(|parsed| parsed.to_string() == number) => {
                out.extend_from_slice(number.as_bytes());
            }
            text => string(&mut out, &text),
        },
    }
    Some(out)
}

fn string(out: &mut Vec<u8>, text: &str) {
    // Writing to memory does not fail.
    let _ = serde_json::to_writer(out, text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mapped(entry: &serde_json::Value) -> serde_json::Value {
        let mut out = Vec::new();
        map(entry.to_string().as_bytes(), &mut out).unwrap();
        serde_json::from_slice(&out).unwrap()
    }

    /// tests/ship_input.rs compares the real output of journalctl; these are forms that it rarely has.
    #[test]
    fn a_program_cannot_replace_the_fields_of_the_journal() {
        let entry = json!({
            "__REALTIME_TIMESTAMP": "1764288000123456", "TRANSPORT": "forged", "_TRANSPORT": "stdout", "PID": "7",
            "_PID": "8", "UNIT": "x.service", "TID": "no number",
        });
        let attributes = json!({
            "journald.transport": "stdout", "journald.pid": "7", "process.pid": 8, "journald.unit": "x.service",
            "thread.id": "no number",
        });
        assert_eq!(mapped(&entry)["attributes"], attributes);
    }

    #[test]
    fn the_unit_is_the_service() {
        for (unit, identifier, id, resource) in [
            (json!("ssh.service"), json!("sshd"), json!(null), json!({"service.name": "ssh"})),
            (json!("a.timer"), json!(null), json!("m"), json!({"service.name": "a.timer", "host.id": "m"})),
            (json!(null), json!("kernel"), json!(null), json!({"service.name": "kernel"})),
            (json!(null), json!(""), json!("m"), json!({"host.id": "m"})),
            (json!(null), json!(null), json!(null), json!(null)),
        ] {
            let entry = json!({
                "__REALTIME_TIMESTAMP": "1", "_SYSTEMD_UNIT": unit, "SYSLOG_IDENTIFIER": identifier,
                "_MACHINE_ID": id,
            });
            assert_eq!(mapped(&entry)["resource"], resource);
        }
    }

    #[test]
    fn what_is_no_entry_is_refused_and_a_log_record_passes() {
        let refused = |line: &str| map(line.as_bytes(), &mut Vec::new()).is_err();
        assert!(refused("{}"));
        assert!(refused(r#"{"__REALTIME_TIMESTAMP":"-1"}"#));
        assert!(refused(r#"{"__REALTIME_TIMESTAMP":"18446744073709551615"}"#));
        assert!(refused(r#"{"kind":"metric"}"#));
        let record = json!({"kind": "log", "ts": "2026-11-20T20:45:00Z", "body": "x"});
        assert_eq!(mapped(&record), record);
    }
}
