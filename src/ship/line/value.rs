//! JSON values that borrow from the line they were read from.

use std::borrow::Cow;

/// The fields of an object in their order. A repeated name keeps its first position and its last value.
pub type Fields<'a> = Vec<(Cow<'a, str>, Value<'a>)>;

/// A JSON value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'a> {
    /// `null`
    Null,
    /// `true`, `false`
    Bool(bool),
    /// An integer within `i64`.
    I64(i64),
    /// An integer above `i64::MAX`, never a smaller one.
    U64(u64),
    /// An integer outside both ranges, as its digits.
    Big(&'a str),
    /// Every other number; finite.
    F64(f64),
    /// A string.
    Str(Cow<'a, str>),
    /// An array.
    Array(Vec<Value<'a>>),
    /// An object, unless it is stored as `Counts`.
    Map(Fields<'a>),
    /// A non-empty object with ascending integers as keys and counts as values, such as a
    /// histogram's buckets. Such an object may also be stored as `Map`.
    Counts(Vec<(i32, u64)>),
}

/// Returns the field `name`.
pub fn get<'f, 'a>(fields: &'f Fields<'a>, name: &str) -> Option<&'f Value<'a>> {
    fields.iter().find(|(field, _)| field == name).map(|(_, value)| value)
}

/// Converts counts back to the fields they were read from.
fn fields_of<'a>(counts: &[(i32, u64)]) -> impl Iterator<Item = (Cow<'a, str>, Value<'a>)> {
    let value = |count| i64::try_from(count).map_or(Value::U64(count), Value::I64);
    counts.iter().map(move |&(index, count)| (Cow::Owned(index.to_string()), value(count)))
}

impl<'a> Value<'a> {
    /// The string, if the value is one.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Str(text) => Some(text),
            _ => None,
        }
    }

    /// The fields, if the value is an object.
    pub fn as_map(&self) -> Option<Cow<'_, Fields<'a>>> {
        match self {
            Self::Map(fields) => Some(Cow::Borrowed(fields)),
            Self::Counts(counts) => Some(Cow::Owned(fields_of(counts).collect())),
            _ => None,
        }
    }

    /// The elements, if the value is an array.
    pub fn as_array(&self) -> Option<&[Value<'a>]> {
        match self {
            Self::Array(values) => Some(values),
            _ => None,
        }
    }

    /// The number as the nearest double.
    pub fn as_f64(&self) -> Option<f64> {
        match *self {
            Self::I64(value) => Some(value as f64),
            Self::U64(value) => Some(value as f64),
            Self::F64(value) => Some(value),
            Self::Big(digits) => digits.parse().ok(),
            _ => None,
        }
    }

    /// The number, if it is an integer within `u64`.
    pub fn as_u64(&self) -> Option<u64> {
        match *self {
            Self::I64(value) => u64::try_from(value).ok(),
            Self::U64(value) => Some(value),
            _ => None,
        }
    }

    /// The number, if it is an integer within `i64`.
    pub fn as_i64(&self) -> Option<i64> {
        match *self {
            Self::I64(value) => Some(value),
            _ => None,
        }
    }
}
