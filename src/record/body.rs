//! Serializes the body of a record: each field as `,"name":value`, after `ts`, `kind` and `host`.
//!
//! serde_json writes the values. Field names are written here without a search for characters to
//! escape, which Rust's names do not have: that search took a third of the time of a short line.

use serde::ser::{Error as _, Impossible, Serialize, SerializeMap, SerializeStruct, Serializer};
use serde_json::Error;

/// Appends the fields of a struct.
///
/// # Errors
/// If `body` is not a struct, or a value cannot be serialized.
pub fn write_fields<T: Serialize + ?Sized>(out: &mut Vec<u8>, body: &T) -> Result<(), Error> {
    body.serialize(Fields(out))
}

struct Fields<'a>(&'a mut Vec<u8>);

impl Fields<'_> {
    fn json<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        value.serialize(&mut serde_json::Serializer::new(&mut *self.0))
    }
}

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        debug_assert!(!name.bytes().any(|byte| byte < b' ' || byte == b'"' || byte == b'\\'), "{name}");
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
        self.json(value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

/// A struct with flattened fields serializes as a map.
impl SerializeMap for Fields<'_> {
    type Ok = ();
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, name: &T) -> Result<(), Error> {
        self.0.push(b',');
        self.json(name)
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.push(b':');
        self.json(value)
    }

    fn end(self) -> Result<(), Error> {
        Ok(())
    }
}

fn no_struct<T>() -> Result<T, Error> {
    Err(Error::custom("the body of a record is a struct"))
}

macro_rules! no_struct {
    ($($method:ident($($argument:ty),*) -> $result:ty;)*) => {
        $(fn $method(self, $(_: $argument),*) -> Result<$result, Error> { no_struct() })*
    };
}

impl Serializer for Fields<'_> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = Impossible<(), Error>;
    type SerializeTuple = Impossible<(), Error>;
    type SerializeTupleStruct = Impossible<(), Error>;
    type SerializeTupleVariant = Impossible<(), Error>;
    type SerializeMap = Self;
    type SerializeStruct = Self;
    type SerializeStructVariant = Impossible<(), Error>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self, Error> {
        Ok(self)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<(), Error> {
        Ok(())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), Error> {
        no_struct()
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), Error> {
        no_struct()
    }

    no_struct! {
        serialize_bool(bool) -> ();
        serialize_i8(i8) -> ();
        serialize_i16(i16) -> ();
        serialize_i32(i32) -> ();
        serialize_i64(i64) -> ();
        serialize_u8(u8) -> ();
        serialize_u16(u16) -> ();
        serialize_u32(u32) -> ();
        serialize_u64(u64) -> ();
        serialize_f32(f32) -> ();
        serialize_f64(f64) -> ();
        serialize_char(char) -> ();
        serialize_str(&str) -> ();
        serialize_bytes(&[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_variant(&'static str, u32, &'static str) -> ();
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Serialize;

    use super::*;

    #[derive(Serialize)]
    struct Inner {
        deep: BTreeMap<String, f64>,
        list: Vec<u64>,
    }

    #[derive(Serialize)]
    struct Whole {
        text: String,
        #[serde(rename = "type")]
        number: i64,
        ratio: f64,
        some: Option<u64>,
        inner: Inner,
        map: BTreeMap<u64, f64>,
    }

    #[derive(Serialize)]
    struct Flat {
        first: bool,
        #[serde(flatten)]
        inner: Inner,
    }

    #[derive(Serialize)]
    struct Nothing {}

    fn fields<T: Serialize>(body: &T) -> String {
        let mut out = Vec::new();
        write_fields(&mut out, body).unwrap();
        String::from_utf8(out).unwrap()
    }

    /// As serde_json has it, with the brace in front become a comma, and without the one at the end.
    fn expected<T: Serialize>(body: &T) -> String {
        let text = serde_json::to_string(body).unwrap();
        text.strip_suffix('}').unwrap().replacen('{', if text == "{}" { "" } else { "," }, 1)
    }

    proptest! {
        #[test]
        fn fields_are_written_as_serde_json_writes_them(
            text: String, number: i64, ratio: f64, some: Option<u64>,
            deep: BTreeMap<String, f64>, list: Vec<u64>, map: BTreeMap<u64, f64>,
        ) {
            let flat = Flat { first: true, inner: Inner { deep: deep.clone(), list: list.clone() } };
            prop_assert_eq!(fields(&flat), expected(&flat));
            let whole = Whole { text, number, ratio, some, inner: Inner { deep, list }, map };
            prop_assert_eq!(fields(&whole), expected(&whole));
        }
    }

    #[test]
    fn what_is_no_struct_is_refused() {
        assert_eq!(fields(&Nothing {}), "");
        let mut out = Vec::new();
        assert!(write_fields(&mut out, &[1, 2]).is_err() && write_fields(&mut out, "text").is_err());
        assert!(write_fields(&mut out, &Some(Nothing {})).is_err() && out.is_empty());
    }
}
