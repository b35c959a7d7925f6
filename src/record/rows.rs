//! Names and values as a map of a record. All names lie in one text, which tables that have the same ones share: a
//! program that wakes once a second finds its memory cold, and has to wait for every name that has a place of its own.

use std::sync::Arc;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};

/// Names in the order of their source.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Names {
    text: Arc<str>,
    ends: Arc<[usize]>,
}

impl Names {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The name at a place, of those that there are.
    pub fn get(&self, place: usize) -> &str {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.text[start..self.ends[place]]
    }
}

impl<S: AsRef<str>> FromIterator<S> for Names {
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

/// Some of these names with their values, written as a map.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rows<T = u64> {
    names: Names,
    /// The place of each name, and its value.
    values: Vec<(usize, T)>,
}

impl<T: Copy> Rows<T> {
    /// Values by the places of their names.
    pub fn new(names: Names, values: Vec<(usize, T)>) -> Self {
        Self { names, values }
    }

    /// Names and values in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, T)> {
        self.values.iter().map(|(place, value)| (self.names.get(*place), *value))
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
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Rows".into()
    }
    fn inline_schema() -> bool {
        true
    }
    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "additionalProperties": generator.subschema_for::<T>() })
    }
}
