//! `span` records.

use std::borrow::Cow;

use super::{accessors, wire};
use crate::common::time::Timestamp;
use crate::ship::line::{Fields, Value};

/// The kinds by their number in OTLP, starting with `SPAN_KIND_INTERNAL` = 1.
const KINDS: [&str; 5] = ["internal", "server", "client", "producer", "consumer"];

/// Appends a span that took from `begin` to `end`, as field 2 of `ScopeSpans`.
///
/// # Errors
/// Which field is missing or invalid; nothing is appended then.
pub fn write(out: &mut Vec<u8>, fields: &Fields<'_>, begin: u64, end: u64) -> Result<(), String> {
    let trace = accessors::id::<16>("trace_id", accessors::required(fields, "trace_id")?)?;
    let span = accessors::id::<8>("span_id", accessors::required(fields, "span_id")?)?;
    let parent = accessors::text(fields, "parent_span_id")?.filter(|text| !text.is_empty());
    let parent = parent.map(|text| accessors::id::<8>("parent_span_id", text)).transpose()?;
    let state = accessors::text(fields, "trace_state")?.unwrap_or_default();
    let name = accessors::required(fields, "name")?;
    let kind = 1 + accessors::one_of(fields, "span_kind", &KINDS)? as u64;
    let code = accessors::one_of(fields, "status", &["unset", "ok", "error"])? as u64;
    let message = accessors::text(fields, "status_message")?.unwrap_or_default();
    let attributes = accessors::map(fields, "attributes")?;
    let events = elements(fields, "events", event)?;
    let links = elements(fields, "links", link)?;
    if begin > end {
        return Err("begin_ts is after ts, the end".into());
    }
    wire::message(out, 2, |out| {
        wire::bytes(out, 1, &trace);
        wire::bytes(out, 2, &span);
        wire::text(out, 3, state);
        if let Some(parent) = parent {
            wire::bytes(out, 4, &parent);
        }
        wire::text(out, 5, name);
        wire::uint(out, 6, kind);
        wire::fixed64(out, 7, begin);
        wire::fixed64(out, 8, end);
        if let Some(attributes) = &attributes {
            wire::key_values(out, 9, attributes);
        }
        events.iter().for_each(|event| wire::bytes(out, 11, event));
        links.iter().for_each(|link| wire::bytes(out, 13, link));
        if code != 0 || !message.is_empty() {
            wire::message(out, 15, |out| {
                wire::text(out, 2, message);
                wire::uint(out, 3, code);
            });
        }
    });
    Ok(())
}

/// Encodes each element of an array of objects.
fn elements(
    fields: &Fields<'_>,
    name: &str,
    encode: fn(&Fields<'_>) -> Result<Vec<u8>, String>,
) -> Result<Vec<Vec<u8>>, String> {
    let element = |(index, value): (usize, &Value<'_>)| {
        let fields: Cow<'_, Fields<'_>> = value.as_map().ok_or(format!("{name}[{index}] is not a map"))?;
        encode(&fields).map_err(|error| format!("{name}[{index}]: {error}"))
    };
    accessors::array(fields, name)?.iter().enumerate().map(element).collect()
}

fn event(fields: &Fields<'_>) -> Result<Vec<u8>, String> {
    let time = accessors::required(fields, "ts")?.parse::<Timestamp>();
    let Timestamp(time) = time.map_err(|error| format!("ts is not an RFC 3339 time: {error}"))?;
    let (name, attributes) = (accessors::required(fields, "name")?, accessors::map(fields, "attributes")?);
    let mut out = Vec::new();
    wire::fixed64(&mut out, 1, time);
    wire::text(&mut out, 2, name);
    if let Some(attributes) = attributes {
        wire::key_values(&mut out, 3, &attributes);
    }
    Ok(out)
}

fn link(fields: &Fields<'_>) -> Result<Vec<u8>, String> {
    let trace = accessors::id::<16>("trace_id", accessors::required(fields, "trace_id")?)?;
    let span = accessors::id::<8>("span_id", accessors::required(fields, "span_id")?)?;
    let state = accessors::text(fields, "trace_state")?.unwrap_or_default();
    let attributes = accessors::map(fields, "attributes")?;
    let mut out = Vec::new();
    wire::bytes(&mut out, 1, &trace);
    wire::bytes(&mut out, 2, &span);
    wire::text(&mut out, 3, state);
    if let Some(attributes) = attributes {
        wire::key_values(&mut out, 4, &attributes);
    }
    Ok(out)
}
