//! The full JSON parser: serde visitors that build a [`Value`] and borrow strings without escapes.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashMap;
use std::fmt;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use super::value::{Fields, Value};

/// Parses an object with nothing after it.
///
/// # Errors
/// If the text is not JSON (with the position), or not an object.
pub(super) fn object(text: &str) -> serde_json::Result<Fields<'_>> {
    let source = Source { text, seen: Cell::new(0) };
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let fields = deserializer.deserialize_map(ObjectVisitor(&source))?;
    deserializer.end().map(|()| fields)
}

/// The text being parsed, to recover the digits of integers that fit no machine number.
struct Source<'de> {
    text: &'de str,
    /// Huge numbers before this offset have been returned.
    seen: Cell<usize>,
}

impl<'de> Source<'de> {
    /// The next number in the text that is at least 2^63 and fits no integer. serde_json has just
    /// passed it to a visitor as a double.
    fn next_huge(&self) -> Option<&'de str> {
        let bytes = self.text.as_bytes();
        let mut at = self.seen.get();
        while at < bytes.len() {
            match bytes[at] {
                b'"' => at = after_string(bytes, at + 1),
                b'-' | b'0'..=b'9' => {
                    let more = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                    let number = &self.text[at..at + bytes[at..].iter().take_while(more).count()];
                    at += number.len();
                    if is_huge(number) {
                        self.seen.set(at);
                        return Some(number);
                    }
                }
                _ => at += 1,
            }
        }
        None
    }
}

/// Returns the offset after the closing quote of the string that `at` lies in.
pub(super) fn after_string(bytes: &[u8], mut at: usize) -> usize {
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    at
}

const HUGE: f64 = (1u64 << 63) as f64;

fn is_huge(number: &str) -> bool {
    let fits = number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok();
    !fits && number.parse::<f64>().is_ok_and(|value| value.abs() >= HUGE)
}

struct ObjectVisitor<'s, 'de>(&'s Source<'de>);

impl<'de> Visitor<'de> for ObjectVisitor<'_, 'de> {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Object::with_capacity(32).read(map, self.0)
    }
}

/// Collects the fields of an object.
#[derive(Default)]
pub(super) struct Object<'de> {
    fields: Fields<'de>,
    seen: Seen,
}

impl<'de> Object<'de> {
    /// Empty, with capacity for `fields`.
    pub(super) fn with_capacity(fields: usize) -> Self {
        Self { fields: Fields::with_capacity(fields), seen: Seen::default() }
    }

    fn read<A: MapAccess<'de>>(mut self, mut map: A, source: &Source<'de>) -> Result<Fields<'de>, A::Error> {
        while let Some(Text(name)) = map.next_key()? {
            let value = map.next_value_seed(Reader(source))?;
            if let Some(place) = self.value(name) {
                *place = value;
            }
        }
        Ok(self.fields())
    }

    /// The fields collected.
    pub(super) fn fields(self) -> Fields<'de> {
        if self.fields.len() > FEW { last_of_each(self.fields) } else { self.fields }
    }

    /// Where the value of a field belongs: with its name, if that is known.
    ///
    /// Values are written there directly: copying them costs more than to parse them.
    #[inline(always)]
    pub(super) fn value(&mut self, name: Cow<'de, str>) -> Option<&mut Value<'de>> {
        if self.fields.len() < FEW
            && self.seen.maybe(&name)
            && let Some(index) = self.known(&name)
        {
            return Some(&mut self.fields[index].1);
        }
        self.fields.push((name, Value::Null));
        self.fields.last_mut().map(|(_, value)| value)
    }

    #[cold]
    fn known(&mut self, name: &str) -> Option<usize> {
        let index = self.fields.iter().position(|(known, _)| known == name)?;
        self.fields[index].1 = Value::Null;
        Some(index)
    }
}

/// Up to this many fields, a linear search for a repeated name costs less than a map.
const FEW: usize = 64;

/// A Bloom filter of names, so that most new names need no search.
#[derive(Default)]
struct Seen([u64; 16]);

impl Seen {
    /// Adds a name. Returns false if it is certainly new.
    fn maybe(&mut self, name: &str) -> bool {
        let bytes = name.as_bytes();
        let ends = |first: u64, last: u64| first ^ last.rotate_left(29);
        let word = match (bytes.first_chunk(), bytes.last_chunk(), bytes.first_chunk(), bytes.last_chunk()) {
            (Some(first), Some(last), ..) => ends(u64::from_le_bytes(*first), u64::from_le_bytes(*last)),
            (_, _, Some(first), Some(last)) => {
                ends(u32::from_le_bytes(*first).into(), u32::from_le_bytes(*last).into())
            }
            _ => bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
        };
        let hash = word.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 54; // 2^64 over the golden ratio
        let (word, bit) = ((hash / 64) as usize, 1 << (hash % 64));
        let known = self.0[word] & bit != 0;
        self.0[word] |= bit;
        known
    }
}

/// Keeps the last value of each name, for many fields.
fn last_of_each(fields: Fields<'_>) -> Fields<'_> {
    let mut positions: HashMap<Cow<'_, str>, usize> = HashMap::with_capacity(fields.len());
    let mut once = Fields::with_capacity(fields.len());
    for (name, value) in fields {
        match positions.get(&name) {
            Some(&position) => once[position] = (name, value),
            None => {
                positions.insert(name.clone(), once.len());
                once.push((name, value));
            }
        }
    }
    once
}

/// A string, borrowed unless it has escapes.
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

#[derive(Clone, Copy)]
struct Reader<'s, 'de>(&'s Source<'de>);

impl<'de> DeserializeSeed<'de> for Reader<'_, 'de> {
    type Value = Value<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Reader<'_, 'de> {
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
        if !value.is_finite() {
            return Err(E::custom("number out of range"));
        }
        let huge = if value.abs() >= HUGE { self.0.next_huge() } else { None };
        let digits = huge.filter(|number| !number.contains(['.', 'e', 'E']));
        Ok(digits.map_or(Value::F64(value), Value::Big))
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Str(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Str(Cow::Owned(text.to_owned())))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = seq.next_element_seed(self)? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        Object::default().read(map, self.0).map(Value::Map)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As in `serde_json::Value` and jq.
    #[test]
    fn the_last_value_of_a_repeated_name_wins() {
        for others in [0, 5, FEW - 2, FEW - 1, FEW, 500] {
            let mut text = String::from(r#"{"a":1,"escaped\u0021":1"#);
            (0..others).for_each(|n| text += &format!(r#","field_{n}":{n}"#));
            text += r#","escaped!":2,"a":{"b":1,"b":2,"c":3},"z":null}"#;
            let fields = object(&text).unwrap();
            let expected: serde_json::Value = serde_json::from_str(&text).unwrap();
            assert_eq!(fields.len(), expected.as_object().unwrap().len(), "{others}");
            assert_eq!((&*fields[0].0, &*fields[1].0), ("a", "escaped!"));
            let inner = [("b".into(), Value::I64(2)), ("c".into(), Value::I64(3))];
            assert_eq!((&fields[0].1, &fields[1].1), (&Value::Map(inner.into()), &Value::I64(2)));
        }
    }

    #[test]
    fn integers_of_any_length_keep_their_digits() {
        let (big, low) = ("123456789012345678901234567890", "-9223372036854775809");
        let text = format!(
            r#"{{"s":"\"{big}","a":[9223372036854775807,{big},1e300,-9223372036854775808,{{"x":{low}}}],"a":{big},
            "b":[18446744073709551615,18446744073709551616,9223372036854775808.0,1E400e,0]}}"#
        );
        assert!(object(&text).is_err());
        let twice = text.replace("1E400e", "-0");
        let fields = object(&twice).unwrap();
        assert_eq!(fields[1].1, Value::Big(big));
        let [max, over, double, zero, _] = fields[2].1.as_array().unwrap() else { panic!("{fields:?}") };
        assert_eq!((max, over), (&Value::U64(u64::MAX), &Value::Big("18446744073709551616")));
        assert_eq!((double, zero), (&Value::F64(HUGE), &Value::F64(-0.0)));
        let text = text.replace("\"a\":12", "\"c\":12").replace("1E400e", "1");
        let Value::Array(values) = &object(&text).unwrap()[1].1 else { panic!("{text}") };
        let inner = [("x".into(), Value::Big(low))];
        let expected = [Value::I64(i64::MAX), Value::Big(big), Value::F64(1e300), Value::I64(i64::MIN)];
        assert_eq!((&values[..4], &values[4]), (&expected[..], &Value::Map(inner.into())));
    }
}
