//! `span` records.

use super::wire;
use crate::ship::line::{Line, Value};

/// `SPAN_KIND_INTERNAL`: records do not say another.
const INTERNAL: u64 = 1;

/// Appends a span that ended at `end` and began at `begin`, as field 2 of `ScopeSpans`.
///
/// # Errors
/// Which field is missing or makes no sense; nothing is appended then.
pub fn write(out: &mut Vec<u8>, line: &Line<'_>, begin: u64, end: u64) -> Result<(), String> {
    let required = |field: &str| line.str(field).ok_or(format!("span without {field}"));
    let trace = id::<16>("trace_id", required("trace_id")?)?;
    let span = id::<8>("span_id", required("span_id")?)?;
    let parent = match line.str("parent_span_id") {
        None | Some("") => None,
        Some(text) => Some(id::<8>("parent_span_id", text)?),
    };
    let name = required("name")?;
    let code = match line.str("status") {
        None | Some("unset") => 0,
        Some("ok") => 1,
        Some("error") => 2,
        Some(other) => return Err(format!("span of status `{other}`")),
    };
    wire::message(out, 2, |out| {
        wire::bytes(out, 1, &trace);
        wire::bytes(out, 2, &span);
        if let Some(parent) = parent {
            wire::bytes(out, 4, &parent);
        }
        wire::text(out, 5, name);
        wire::uint(out, 6, INTERNAL);
        wire::fixed64(out, 7, begin);
        wire::fixed64(out, 8, end);
        if let Some(attributes) = line.get("attributes").and_then(Value::as_map) {
            wire::key_values(out, 9, attributes);
        }
        let message = line.str("status_message").unwrap_or("");
        if code != 0 || !message.is_empty() {
            wire::message(out, 15, |out| {
                wire::text(out, 2, message);
                wire::uint(out, 3, code);
            });
        }
    });
    Ok(())
}

/// An id of N bytes in hexadecimal; all zeros is none.
///
/// # Errors
/// If it is not that; the message names the field.
pub fn id<const N: usize>(field: &str, text: &str) -> Result<[u8; N], String> {
    let bytes = hex(text).and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
    bytes.filter(|id| *id != [0; N]).ok_or_else(|| format!("{field} is not {} hexadecimal digits", 2 * N))
}

/// Bytes of hexadecimal digits of either case.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8)).collect()
}
