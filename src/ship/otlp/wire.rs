//! Writes protobuf directly into a buffer.
//!
//! Building generated messages for data points and then encoding them would cost several times as
//! much. Field numbers are those of opentelemetry-proto; the tests decode all output with its
//! generated types.

use prost::encoding::{encode_varint, encoded_len_varint};

use crate::ship::line::{Fields, Value};

/// Appends length-delimited bytes.
pub fn bytes(out: &mut Vec<u8>, field: u32, bytes: &[u8]) {
    head(out, field, bytes.len());
    out.extend_from_slice(bytes);
}

/// Appends a string, unless it is empty: proto3 omits default values.
pub fn text(out: &mut Vec<u8>, field: u32, text: &str) {
    if !text.is_empty() {
        bytes(out, field, text.as_bytes());
    }
}

/// Appends a `fixed64`, an `sfixed64`, or the bits of a `double`, as a field below 16.
pub fn fixed64(out: &mut Vec<u8>, field: u32, value: u64) {
    debug_assert!(field < 16);
    let mut bytes = [(field << 3 | 1) as u8; 9];
    bytes[1..].copy_from_slice(&value.to_le_bytes());
    out.extend_from_slice(&bytes);
}

/// Appends a `fixed32`.
pub fn fixed32(out: &mut Vec<u8>, field: u32, value: u32) {
    key(out, field, 5);
    out.extend_from_slice(&value.to_le_bytes());
}

/// Appends a `double`.
pub fn double(out: &mut Vec<u8>, field: u32, value: f64) {
    fixed64(out, field, value.to_bits());
}

/// Appends a `uint32`, `uint64`, `int64`, `bool` or enum.
pub fn uint(out: &mut Vec<u8>, field: u32, value: u64) {
    key(out, field, 0);
    varint(out, value);
}

/// Appends an `sint32`.
pub fn sint(out: &mut Vec<u8>, field: u32, value: i32) {
    uint(out, field, u64::from(((value << 1) ^ (value >> 31)) as u32));
}

/// Appends a packed field of `fixed64` or `double` bits, unless there are no values.
pub fn packed<T>(out: &mut Vec<u8>, field: u32, values: &[T], bits: impl Fn(&T) -> u64) {
    if !values.is_empty() {
        message(out, field, |out| {
            values.iter().for_each(|value| out.extend_from_slice(&bits(value).to_le_bytes()))
        });
    }
}

/// Appends a message: `write` appends its contents, before which the length is then inserted. For a long message,
/// [`head`] costs less.
pub fn message(out: &mut Vec<u8>, field: u32, write: impl FnOnce(&mut Vec<u8>)) {
    key(out, field, 2);
    let start = out.len();
    out.push(0);
    write(out);
    let len = out.len() - start - 1;
    if len < 0x80 {
        out[start] = len as u8;
    } else {
        let more = encoded_len_varint(len as u64) - 1;
        out.resize(out.len() + more, 0);
        out.copy_within(start + 1..start + 1 + len, start + 1 + more);
        encode_varint(len as u64, &mut &mut out[start..]);
    }
}

/// Appends what precedes the `len` bytes of a message.
pub fn head(out: &mut Vec<u8>, field: u32, len: usize) {
    key(out, field, 2);
    varint(out, len as u64);
}

/// The length of a message of `len` bytes with its head, as a field below 16.
pub fn framed(len: usize) -> usize {
    1 + encoded_len_varint(len as u64) + len
}

/// Appends a varint.
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

/// Appends a `KeyValue`.
pub fn key_value(out: &mut Vec<u8>, field: u32, key: &str, value: &Value<'_>) {
    message(out, field, |out| {
        bytes(out, 1, key.as_bytes());
        any_value(out, 2, value);
    });
}

/// Appends a `KeyValue` with a string as its value.
pub fn key_text(out: &mut Vec<u8>, field: u32, key: &str, value: &str) {
    message(out, field, |out| {
        bytes(out, 1, key.as_bytes());
        message(out, 2, |out| bytes(out, 1, value.as_bytes()));
    });
}

/// Appends an `AnyValue`. Null is the empty value. An integer outside `i64` is a decimal string, as
/// the specification requires.
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

/// Appends a `KeyValue` per field.
pub fn key_values(out: &mut Vec<u8>, field: u32, fields: &Fields<'_>) {
    for (key, value) in fields {
        key_value(out, field, key, value);
    }
}
