//! Typed access to the fields of a record that describes itself.
//!
//! A null field counts as absent. A field of the wrong type is an error that names it, so that a
//! mistake is noticed when the record is written and not when somebody needs it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::ship::line::{Fields, Value, get};

/// The value of a data point.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub enum Number {
    /// `as_int`
    Int(i64),
    /// `as_double`
    Double(f64),
}

impl Number {
    /// Converts a JSON number, to an integer if it is one within `i64`.
    #[inline]
    pub fn new(value: &Value<'_>) -> Option<Self> {
        value.as_i64().map(Self::Int).or_else(|| value.as_f64().map(Self::Double))
    }

    /// Multiplies a JSON number by a factor. `None` if it is not a number, or the product is not
    /// finite.
    #[inline]
    pub fn scaled(value: &Value<'_>, factor: f64) -> Option<Self> {
        Some(value.as_f64()? * factor).filter(|value| value.is_finite()).map(Self::Double)
    }

    /// True if this number is less than `other`.
    pub fn is_below(self, other: Self) -> bool {
        match (self, other) {
            (Self::Int(this), Self::Int(other)) => this < other,
            (this, other) => this.as_f64() < other.as_f64(),
        }
    }

    /// The nearest double.
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Int(value) => value as f64,
            Self::Double(value) => value,
        }
    }
}

/// Reads a string.
pub fn text<'f>(fields: &'f Fields<'_>, name: &str) -> Result<Option<&'f str>, String> {
    typed(fields, name, "a string", Value::as_str)
}

/// Reads a string that must be there.
pub fn required<'f>(fields: &'f Fields<'_>, name: &str) -> Result<&'f str, String> {
    text(fields, name)?.ok_or_else(|| format!("{name} is missing"))
}

/// Reads a map.
pub fn map<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<Option<Cow<'f, Fields<'a>>>, String> {
    typed(fields, name, "a map", Value::as_map)
}

/// Reads an array; absent is empty.
pub fn array<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<&'f [Value<'a>], String> {
    typed(fields, name, "an array", Value::as_array).map(Option::unwrap_or_default)
}

/// Reads an array of numbers; absent is empty.
pub fn numbers<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<&'f [Value<'a>], String> {
    let values = array(fields, name)?;
    let all = values.iter().all(|value| value.as_f64().is_some());
    all.then_some(values).ok_or_else(|| format!("{name} has an element that is not a number"))
}

/// Reads an array of counts; absent is empty.
pub fn counts<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Result<&'f [Value<'a>], String> {
    let values = array(fields, name)?;
    let all = values.iter().all(|value| value.as_u64().is_some());
    all.then_some(values).ok_or_else(|| format!("{name} has an element that is not a count"))
}

/// Reads a number.
pub fn number(fields: &Fields<'_>, name: &str) -> Result<Option<Number>, String> {
    typed(fields, name, "a number", |value| Number::new(value))
}

/// Reads an integer that is not negative.
pub fn count(fields: &Fields<'_>, name: &str) -> Result<Option<u64>, String> {
    typed(fields, name, "a count", |value| value.as_u64())
}

/// Reads one of `names` and returns its index; absent is the first.
pub fn one_of(fields: &Fields<'_>, name: &str, names: &[&str]) -> Result<usize, String> {
    let Some(text) = text(fields, name)? else { return Ok(0) };
    let index = names.iter().position(|known| *known == text);
    index.ok_or_else(|| format!("{name} is `{text}`, not one of {}", names.join(", ")))
}

fn typed<'f, 'a, T>(
    fields: &'f Fields<'a>,
    name: &str,
    expected: &str,
    read: impl FnOnce(&'f Value<'a>) -> Option<T>,
) -> Result<Option<T>, String> {
    match get(fields, name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => read(value).map(Some).ok_or_else(|| format!("{name} is not {expected}")),
    }
}

/// Decodes an id of N bytes in hexadecimal, which must not be all zeros.
///
/// # Errors
/// If it is anything else. The message names the field.
pub fn id<const N: usize>(field: &str, text: &str) -> Result<[u8; N], String> {
    let bytes = hex(text).and_then(|bytes| <[u8; N]>::try_from(bytes).ok());
    bytes.filter(|id| *id != [0; N]).ok_or_else(|| format!("{field} is not {} hexadecimal digits", 2 * N))
}

/// Decodes hexadecimal digits of either case.
pub fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(pair[0])? << 4 | digit(*pair.get(1)?)?) as u8)).collect()
}
