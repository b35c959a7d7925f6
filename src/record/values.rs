//! Field types that several kinds share: hexadecimal numbers, and maps with shared keys.

use std::borrow::Cow;
use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

use crate::common::time::inline_schema;

/// A number written as `"0x7ffc1a2b"`: addresses and arguments, which JavaScript would round.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hex(pub u64);

impl Serialize for Hex {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = *b"0x0000000000000000";
        let digits = (16 - self.0.leading_zeros() as usize / 4).max(1);
        for (digit, byte) in text[2..2 + digits].iter_mut().rev().enumerate() {
            *byte = b"0123456789abcdef"[(self.0 >> (4 * digit)) as usize & 15];
        }
        serializer.serialize_str(str::from_utf8(&text[..2 + digits]).unwrap_or_default())
    }
}

inline_schema!(Hex, { "type": "string", "pattern": "^0x[0-9a-f]{1,16}$" });

/// The row names of a table, in order.
///
/// Tables with the same rows share one allocation: a program that wakes once a second finds its
/// memory cold, and each allocation costs time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RowNames {
    text: Arc<str>,
    ends: Arc<[usize]>,
}

impl RowNames {
    /// The number of names.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// True if there are no names.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The name at `index`.
    ///
    /// # Panics
    /// If there are not that many.
    pub fn get(&self, index: usize) -> &str {
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        &self.text[start..self.ends[index]]
    }
}

impl<S: AsRef<str>> FromIterator<S> for RowNames {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        let mut text = String::new();
        let add = |name: S| {
            text.push_str(name.as_ref());
            text.len()
        };
        let ends = names.into_iter().map(add).collect();
        Self { text: text.into(), ends }
    }
}

/// A map from some of the names to values, serialized as an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows<T = u64> {
    names: RowNames,
    /// Index of the name, and the value.
    values: Vec<(usize, T)>,
}

impl<T: Copy> Rows<T> {
    /// Takes values with the indices of their names.
    pub fn new(names: RowNames, values: Vec<(usize, T)>) -> Self {
        Self { names, values }
    }

    /// Names and values, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, T)> {
        self.values.iter().map(|(index, value)| (self.names.get(*index), *value))
    }
}

impl<S: AsRef<str>, T> FromIterator<(S, T)> for Rows<T> {
    fn from_iter<I: IntoIterator<Item = (S, T)>>(rows: I) -> Self {
        let (names, values): (Vec<S>, Vec<T>) = rows.into_iter().unzip();
        Self { names: names.into_iter().collect(), values: values.into_iter().enumerate().collect() }
    }
}

impl<T: Copy + Serialize> Serialize for Rows<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter())
    }
}

impl<T: JsonSchema> JsonSchema for Rows<T> {
    fn schema_name() -> Cow<'static, str> {
        "Rows".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_formatted_as_by_the_standard_library() {
        for number in [0, 1, 15, 16, 0x7ffc_1a2b, u64::MAX, 1 << 63, 0x0fff_ffff_ffff_ffff] {
            assert_eq!(serde_json::to_string(&Hex(number)).unwrap(), format!("\"{number:#x}\""));
        }
    }
}
