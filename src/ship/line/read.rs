//! How serde builds a [`Value`]: strings borrowed where they can be.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::{Fields, Value};

/// An object at the top of a line.
pub(super) struct Object<'a>(pub(super) Fields<'a>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        read_fields(map, 32).map(Object)
    }
}

fn read_fields<'de, A: MapAccess<'de>>(mut map: A, expected: usize) -> Result<Fields<'de>, A::Error> {
    let mut fields = Fields::with_capacity(expected);
    let mut seen = Seen::default();
    while let Some((Text(name), value)) = map.next_entry()? {
        let repeated = fields.len() < FEW && seen.maybe(&name);
        match fields.iter_mut().find(|(known, _)| repeated && *known == name) {
            Some((_, first)) => *first = value,
            None => fields.push((name, value)),
        }
    }
    if fields.len() > FEW {
        fields = last_of_each(fields);
    }
    Ok(fields)
}

/// Up to this many fields, looking through them for a repeated name costs less than a map.
const FEW: usize = 64;

/// Which names there may have been: a bit per name, so that few are looked for in vain.
#[derive(Default)]
struct Seen([u64; 16]);

impl Seen {
    /// Adds a name; false if it is certainly new.
    fn maybe(&mut self, name: &str) -> bool {
        let bytes = name.as_bytes();
        let word = match (bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last)) => {
                u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29)
            }
            _ => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        let hash = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54; // 2^64 over the golden ratio
        let (place, bit) = ((hash / 64) as usize, 1 << (hash % 64));
        let known = self.0[place] & bit != 0;
        self.0[place] |= bit;
        known
    }
}

/// The same for many fields.
fn last_of_each(fields: Fields<'_>) -> Fields<'_> {
    let mut places: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(fields.len());
    let mut once = Fields::with_capacity(fields.len());
    for (name, value) in fields {
        match places.get(&name) {
            Some(&place) => once[place] = (name, value),
            None => {
                places.insert(name.clone(), once.len());
                once.push((name, value));
            }
        }
    }
    once
}

/// A string, borrowed unless it holds escapes.
struct Text<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for Text<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Value::I64(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(value).map_or(Value::U64(value), Value::I64))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Self::Value, E> {
        if value.is_finite() { Ok(Value::F64(value)) } else { Err(E::custom("number out of range")) }
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Str(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Str(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        read_fields(map, 0).map(Value::Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `serde_json::Value` keeps the last of each name too, which jq does as well.
    #[test]
    fn of_a_repeated_name_the_last_counts() {
        for others in [0, 5, FEW - 2, FEW - 1, FEW, 500] {
            let mut text = String::from(r#"{"a":1,"escaped\u0021":1"#);
            (0..others).for_each(|n| text += &format!(r#","field_{n}":{n}"#));
            text += r#","escaped!":2,"a":{"b":1,"b":2,"c":3},"z":null}"#;
            let Object(fields) = serde_json::from_str(&text).unwrap();
            let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(fields.len(), expected.as_object().unwrap().len(), "{others}");
            assert_eq!((&*fields[0].0, &*fields[1].0), ("a", "escaped!"));
            let inner = [("b".into(), Value::I64(2)), ("c".into(), Value::I64(3))];
            assert_eq!((&fields[0].1, &fields[1].1), (&Value::Map(inner.into()), &Value::I64(2)));
        }
    }
}
