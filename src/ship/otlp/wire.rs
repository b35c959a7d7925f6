//! Protobuf, written straight into a buffer.
//!
//! Data points outnumber everything else here by far. Building a tree of
//! generated messages for them and walking it twice costs several times what
//! the bytes cost; field numbers are those of opentelemetry-proto, and the tests
//! decode everything with its generated types.

use prost::encoding::encode_varint;

use crate::ship::line::{Fields, Value};

/// A field's key and its length-delimited bytes.
pub fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    key(out, field, 2);
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// The same, unless there are none: the default is not written.
pub fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

/// `fixed64`, `sfixed64`, or the bits of a `double`.
pub fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, 1);
    out.extend_from_slice(&value.to_le_bytes());
}

/// `fixed32`.
pub fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    key(out, field, 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// `double`.
pub fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    fixed64(out, field, value.to_bits());
}

/// `uint32`, `uint64`, `int64`, `bool` or an enumeration.
pub fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

/// `sint32`.
pub fn sint(out: &mut Vec<u8>, field: u32, value: i32) {
    uint(out, field, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

/// A packed field of `fixed64` or `double` bits; none if there are no values.
pub fn packed<T>(out: &mut Vec<u8>, field: u32, values: &[T], bits: impl Fn(&T) -> u64) {
    if !values.is_empty() {
        message(out, field, |out| {
            values.iter().for_each(|value| out.extend_from_slice(&bits(value).to_le_bytes()))
        });
    }
}

/// A message, which `write` appends; its length goes before it afterwards.
pub fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, field, 2);
    let start = out.len();
    out.push(0);
    write(out);
    let len = out.len() - start - 1;
    if len < 0x80 {
        out[start] = len as u8;
    } else {
        let mut prefix = Vec::with_capacity(4);
        encode_varint(len as u64, &mut prefix);
        out.splice(start..=start, prefix);
    }
}

/// A varint: seven bits a byte, the lowest first.
pub fn varint(out: &mut Vec<u8>, value: u64) {
    if value < 0x80 {
        out.push(value as u8);
    } else {
        encode_varint(value, out);
    }
}

fn key(out: &mut Vec<u8>, field: u32, wire_type: u32) {
    varint(out, u64::from(field << 3 | wire_type));
}

/// A `KeyValue`.
pub fn key_value(out: &mut Vec<u8>, field: u32, key: &str, value: &Value<'_>) {
    message(out, field, |out| {
        bytes(out, 1, key.as_bytes());
        any_value(out, 2, value);
    });
}

/// A `KeyValue` whose value is a string.
pub fn key_text(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    message(out, field, |out| {
        bytes(out, 1, key.as_bytes());
        message(out, 2, |out| bytes(out, 1, value.as_bytes()));
    });
}

/// An `AnyValue`. Null is the empty one; an integer beyond 64 signed bits is its
/// decimal string, as the specification's mapping of arbitrary data has it.
pub fn any_value(out: &mut Vec<u8>, field: u32, value: &Value<'_>) {
    message(out, field, |out| match value {
        Value::Null => {}
        Value::Bool(value) => uint(out, 2, u64::from(*value)),
        Value::I64(value) => uint(out, 3, *value as u64),
        Value::U64(value) => bytes(out, 1, value.to_string().as_bytes()),
        Value::Big(digits) => bytes(out, 1, digits.as_bytes()),
        Value::F64(value) => double(out, 4, *value),
        Value::Str(text) => bytes(out, 1, text.as_bytes()),
        Value::Array(values) => {
            message(out, 5, |out| values.iter().for_each(|value| any_value(out, 1, value)))
        }
        Value::Map(fields) => message(out, 6, |out| key_values(out, 1, fields)),
        Value::Counts(_) => {
            let fields = value.as_map().unwrap_or_default();
            message(out, 6, |out| key_values(out, 1, &fields));
        }
    });
}

/// One `KeyValue` per field.
pub fn key_values(out: &mut Vec<u8>, field: u32, fields: &Fields<'_>) {
    for (key, value) in fields {
        key_value(out, field, key, value);
    }
}
