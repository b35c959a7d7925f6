//! `span` records.

use super::{said, wire};
use crate::ship::line::Line;

/// `SPAN_KIND_INTERNAL`: records do not say another.
const INTERNAL: u64 = 1;

/// Appends a span that ended at `end` and began at `begin`, as field 2 of `ScopeSpans`.
///
/// # Errors
/// Which field is missing or makes no sense; nothing is appended then.
pub fn write(out: &mut Vec<u8>, line: &Line<'_>, begin: u64, end: u64) -> Result<(), String> {
    let fields = &line.fields;
    let required = |field: &str| said::text(fields, field)?.ok_or(format!("{field} is missing"));
    let trace = id::<16>("trace_id", required("trace_id")?)?;
    let span = id::<8>("span_id", required("span_id")?)?;
    let parent = said::text(fields, "parent_span_id")?.filter(|text| !text.is_empty());
    let parent = parent.map(|text| id::<8>("parent_span_id", text)).transpose()?;
    let name = required("name")?;
    let code = said::one_of(fields, "status", &["unset", "ok", "error"])? as u64;
    let message = said::text(fields, "status_message")?.unwrap_or_default();
    let attributes = said::map(fields, "attributes")?;
    if begin > end {
        return Err("begin_ts is after ts, the end".into());
    }
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
        if let Some(attributes) = &attributes {
            wire::key_values(out, 9, attributes);
        }
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
