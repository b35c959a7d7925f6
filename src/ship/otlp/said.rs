//! What a record that describes itself says in a field.
//!
//! Null is as good as no field. Anything else than what belongs there is an
//! error that names the field: left out in silence, it would be missed by nobody
//! until it is needed.

use std::borrow::Cow;

use super::points::Number;
use crate::ship::line::{Fields, Value, get};

/// A string.
pub fn text<'f>(fields: &'f Fields<'_>, name: &str) -> Result<Option<&'f str>, String> {
    said(fields, name, "a string", Value::as_str)
}

/// A map.
pub fn map<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<Option<Cow<'f, Fields<'a>>>, String> {
    said(fields, name, "a map", Value::as_map)
}

/// An array.
pub fn array<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<Option<&'f [Value<'a>]>, String> {
    said(fields, name, "an array", Value::as_array)
}

/// An array of numbers, as doubles; no field is an empty one.
pub fn numbers<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<&'f [Value<'a>], String> {
    let values = array(fields, name)?.unwrap_or_default();
    let all = values.iter().all(|value| value.as_f64().is_some());
    all.then_some(values).ok_or_else(|| format!("{name} has an element that is not a number"))
}

/// An array of counts; no field is an empty one.
pub fn counts<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<&'f [Value<'a>], String> {
    let values = array(fields, name)?.unwrap_or_default();
    let all = values.iter().all(|value| value.as_u64().is_some());
    all.then_some(values).ok_or_else(|| format!("{name} has an element that is not a count"))
}

/// A number.
pub fn number(fields: &Fields<'_>, name: &str) -> Result<Option<Number>, String> {
    said(fields, name, "a number", |value| Number::new(value))
}

/// A whole number that is not negative.
pub fn count(fields: &Fields<'_>, name: &str) -> Result<Option<u64>, String> {
    said(fields, name, "a count", |value| value.as_u64())
}

/// The place among `names` of what it says, or the first.
pub fn one_of(fields: &Fields<'_>, name: &str, names: &[&str]) -> Result<usize, String> {
    let Some(text) = text(fields, name)? else { return Ok(0) };
    let place = names.iter().position(|known| *known == text);
    place.ok_or_else(|| format!("{name} is `{text}`, which is none of {}", names.join(", ")))
}

fn said<'f, 'a, T>(
    fields: &'f Fields<'a>,
    name: &str,
    what: &str,
    read: impl FnOnce(&'f Value<'a>) -> Option<T>,
) -> Result<Option<T>, String> {
    match get(fields, name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| format!("{name} is not {what}")),
    }
}
