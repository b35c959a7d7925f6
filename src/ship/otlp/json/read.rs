//! OTLP/JSON to protobuf.

use super::schema::{Field, Message, Type};
use crate::ship::line::{Fields, Line, Value};
use crate::ship::otlp::{Signal, span, wire};

/// Appends what a line holds, and returns the number of its points, log records or spans.
///
/// Unknown fields are passed over and null is no value, as OTLP has it.
///
/// # Errors
/// Which field does not hold what it should; nothing is appended then, nor for no items.
pub fn read(out: &mut Vec<u8>, signal: Signal, line: &Line<'_>) -> Result<u64, String> {
    let (start, mut items) = (out.len(), 0);
    let read = fields(out, super::message(signal), &line.fields, &mut items);
    if items == 0 || read.is_err() {
        out.truncate(start);
    }
    read.map(|()| items)
}

fn fields(out: &mut Vec<u8>, message: &Message, given: &Fields<'_>, items: &mut u64) -> Result<(), String> {
    for (name, value) in given {
        let known = message.fields.iter().find(|Field(known, ..)| known == name);
        if let Some(field) = known
            && *value != Value::Null
        {
            one(out, field, value, items)?;
        }
    }
    Ok(())
}

fn one(
    out: &mut Vec<u8>,
    Field(name, number, of): &Field,
    value: &Value<'_>,
    items: &mut u64,
) -> Result<(), String> {
    let wrong = || format!("OTLP/JSON: {name} is {}", describe(value));
    match *of {
        Type::One(inner) => {
            let fields = value.as_map().ok_or_else(wrong)?;
            message(out, *number, inner, &fields, items)
        }
        Type::Many(inner) => {
            for value in value.as_array().ok_or_else(wrong)? {
                let fields = value.as_map().ok_or_else(wrong)?;
                message(out, *number, inner, &fields, items)?;
            }
            Ok(())
        }
        Type::Strings => {
            for value in value.as_array().ok_or_else(wrong)? {
                wire::bytes(out, *number, value.as_str().ok_or_else(wrong)?.as_bytes());
            }
            Ok(())
        }
        Type::Doubles | Type::Fixed64s | Type::Uint64s => {
            let values = value.as_array().ok_or_else(wrong)?;
            packed(out, *number, *of, values).ok_or_else(wrong)
        }
        of => scalar(out, *number, of, value).ok_or_else(wrong),
    }
}

fn message(
    out: &mut Vec<u8>,
    number: u32,
    inner: &Message,
    given: &Fields<'_>,
    items: &mut u64,
) -> Result<(), String> {
    *items += u64::from(inner.item);
    let mut result = Ok(());
    wire::message(out, number, |out| result = fields(out, inner, given, items));
    result
}

fn scalar(out: &mut Vec<u8>, number: u32, of: Type, value: &Value<'_>) -> Option<()> {
    match of {
        Type::String => wire::bytes(out, number, value.as_str()?.as_bytes()),
        Type::Id => wire::bytes(out, number, &span::hex(value.as_str()?)?),
        Type::Bytes => wire::bytes(out, number, &base64(value.as_str()?)?),
        Type::Bool => match value {
            Value::Bool(value) => wire::uint(out, number, u64::from(*value)),
            _ => return None,
        },
        Type::Double => wire::double(out, number, double(value)?),
        Type::Fixed64 => wire::fixed64(out, number, integer(value)?),
        Type::Sfixed64 => wire::fixed64(out, number, integer::<i64>(value)? as u64),
        Type::Int64 => wire::uint(out, number, integer::<i64>(value)? as u64),
        Type::Fixed32 => wire::fixed32(out, number, integer(value)?),
        Type::Uint32 => wire::uint(out, number, u64::from(integer::<u32>(value)?)),
        Type::Sint32 => wire::sint(out, number, integer(value)?),
        Type::Enum(by_name) => {
            let known = value.as_str().and_then(by_name).or_else(|| integer(value))?;
            wire::uint(out, number, i64::from(known) as u64);
        }
        _ => return None,
    }
    Some(())
}

fn packed(out: &mut Vec<u8>, number: u32, of: Type, values: &[Value<'_>]) -> Option<()> {
    let bits =
        |value| if matches!(of, Type::Doubles) { double(value).map(f64::to_bits) } else { integer(value) };
    let all = values.iter().map(bits).collect::<Option<Vec<u64>>>()?;
    match of {
        Type::Uint64s if !all.is_empty() => {
            wire::message(out, number, |out| all.iter().for_each(|value| wire::varint(out, *value)));
        }
        _ => wire::packed(out, number, &all, |bits| *bits),
    }
    Some(())
}

/// A whole number, written as such or, as 64 bits should be, in a string.
fn integer<N: TryFrom<i128> + std::str::FromStr>(value: &Value<'_>) -> Option<N> {
    match value {
        Value::I64(value) => N::try_from(i128::from(*value)).ok(),
        Value::U64(value) => N::try_from(i128::from(*value)).ok(),
        // 1.0 and 1e3 are whole, in JSON.
        Value::F64(value) if value.fract() == 0.0 && value.abs() < 1e15 => N::try_from(*value as i128).ok(),
        Value::Str(text) => text.parse().ok(),
        _ => None,
    }
}

fn double(value: &Value<'_>) -> Option<f64> {
    match value.as_str() {
        None => value.as_f64(),
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(text) => text.parse().ok().filter(|value: &f64| value.is_finite()),
    }
}

/// Base64 in the common or the URL alphabet, padded or not.
fn base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let (mut out, mut bits, mut have) = (Vec::with_capacity(digits.len() / 4 * 3 + 2), 0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    (have < 6).then_some(out)
}

fn describe(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::Bool(value) => value.to_string(),
        Value::I64(value) => value.to_string(),
        Value::U64(value) => value.to_string(),
        Value::Big(digits) => (*digits).into(),
        Value::F64(value) => value.to_string(),
        Value::Str(text) => format!("{:?}", text.chars().take(40).collect::<String>()),
        Value::Array(_) => "an array of something else".into(),
        Value::Map(_) | Value::Counts(_) => "an object".into(),
    }
}
