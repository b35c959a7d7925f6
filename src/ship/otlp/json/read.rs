//! OTLP/JSON to protobuf.
//!
//! The mapping is that of proto3 JSON, except that ids are hexadecimal. Field names may be
//! lowerCamelCase or as in the .proto file, 64-bit integers strings or numbers, enums names or
//! numbers. Null is the same as absent, and unknown fields are ignored.

use std::borrow::Cow;

use base64::Engine as _;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::schema::{Field, Message, Type, request};
use crate::ship::line::{Fields, Line, Signal, Value};
use crate::ship::otlp::accessors::hex;
use crate::ship::otlp::wire;

/// Appends the contents of a line to the request of their signal. Returns the signal, and the
/// number of points, log records or spans; 0 if the line is valid but empty.
///
/// # Errors
/// Which field is invalid, or why nothing can be sent; nothing is appended then.
pub fn read(ready: &mut [Vec<u8>; 3], line: &Line<'_>) -> Result<(Signal, u64), String> {
    let starts = ready.each_ref().map(Vec::len);
    let mut reader = Reader::default();
    let result = reader.signals(ready, line);
    if !matches!(result, Ok((_, 1..))) {
        ready.iter_mut().zip(starts).for_each(|(out, start)| out.truncate(start));
    }
    result.map_err(|reason| format!("OTLP/JSON: {reason}"))
}

#[derive(Default)]
struct Reader {
    items: u64,
    unknown: Option<String>,
}

impl Reader {
    fn signals(&mut self, ready: &mut [Vec<u8>; 3], line: &Line<'_>) -> Result<(Signal, u64), String> {
        let mut found = None;
        for signal in Signal::ALL {
            self.items = 0;
            self.fields(&mut ready[signal as usize], request(signal), &only(line, signal))?;
            match found {
                _ if self.items == 0 => {}
                None => found = Some((signal, self.items)),
                Some((first, _)) => {
                    let [first, second] = [first, signal].map(|signal| signal.fields()[0]);
                    return Err(format!("{first} and {second} in one line; write one line for each"));
                }
            }
        }
        match (found, self.unknown.take()) {
            (Some(found), _) => Ok(found),
            (None, Some(name)) => Err(format!("nothing to send; the field {name} is unknown")),
            (None, None) => Ok((line.signals().next().unwrap_or(Signal::Metrics), 0)),
        }
    }

    fn fields(&mut self, out: &mut Vec<u8>, message: &Message, given: &Fields<'_>) -> Result<(), String> {
        let mut seen = 0u32;
        for (name, value) in given {
            let Some(index) = message.fields.iter().position(|Field(known, ..)| is_name(known, name)) else {
                self.unknown.get_or_insert_with(|| name.to_string());
                continue;
            };
            if seen & 1 << index != 0 {
                return Err(format!("{} is given twice", message.fields[index].0));
            }
            seen |= 1 << index;
            if *value != Value::Null {
                self.field(out, &message.fields[index], value)?;
            }
        }
        Ok(())
    }

    fn field(
        &mut self,
        out: &mut Vec<u8>,
        Field(name, number, of): &Field,
        value: &Value<'_>,
    ) -> Result<(), String> {
        let wrong = || format!("{name} is {}", describe(value));
        match *of {
            Type::One(inner) => self.message(out, *number, inner, &*value.as_map().ok_or_else(wrong)?),
            Type::Many(inner) => {
                for value in value.as_array().ok_or_else(wrong)? {
                    self.message(out, *number, inner, &*value.as_map().ok_or_else(wrong)?)?;
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
        &mut self,
        out: &mut Vec<u8>,
        number: u32,
        inner: &Message,
        given: &Fields<'_>,
    ) -> Result<(), String> {
        self.items += u64::from(inner.item);
        let mut result = Ok(());
        wire::message(out, number, |out| result = self.fields(out, inner, given));
        result
    }
}

/// The field of that signal, and the fields of no signal.
fn only<'l, 'a>(line: &'l Line<'a>, signal: Signal) -> Cow<'l, Fields<'a>> {
    let other =
        |name: &str| Signal::ALL.into_iter().any(|other| other != signal && other.fields().contains(&name));
    if !line.fields.iter().any(|(name, _)| other(name)) {
        return Cow::Borrowed(&line.fields);
    }
    Cow::Owned(line.fields.iter().filter(|(name, _)| !other(name)).cloned().collect())
}

/// True if `given` is the lowerCamelCase name, or the same in snake_case.
fn is_name(camel: &str, given: &str) -> bool {
    if camel == given {
        return true;
    }
    let mut given = given.bytes();
    let same = camel.bytes().all(|byte| match byte {
        b'A'..=b'Z' => given.next() == Some(b'_') && given.next() == Some(byte.to_ascii_lowercase()),
        _ => given.next() == Some(byte),
    });
    same && given.next().is_none()
}

fn scalar(out: &mut Vec<u8>, number: u32, of: Type, value: &Value<'_>) -> Option<()> {
    match of {
        Type::String => wire::bytes(out, number, value.as_str()?.as_bytes()),
        Type::Id(len) => wire::bytes(out, number, &id(value.as_str()?, len)?),
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

/// Reads an integer: a number, or a string as 64-bit integers should be. `1.0` and `1e3` are
/// integers too.
fn integer<N: TryFrom<i128>>(value: &Value<'_>) -> Option<N> {
    let integer = match value {
        Value::I64(value) => i128::from(*value),
        Value::U64(value) => i128::from(*value),
        // The conversion saturates, and no field can hold what saturates.
        Value::F64(value) if value.fract() == 0.0 => *value as i128,
        Value::Str(text) => decimal(text)?,
        _ => return None,
    };
    N::try_from(integer).ok()
}

/// Reads an integer in decimal notation, such as `-12`, `1.50e2` or `1e3`, exactly.
fn decimal(text: &str) -> Option<i128> {
    if let Ok(integer) = text.parse() {
        return Some(integer);
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let sound = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.trim_start_matches('-').is_empty() || !sound(fraction) {
        return None;
    }
    let fraction = fraction.trim_end_matches('0');
    let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
    match i32::from(exponent) - i32::try_from(fraction.len()).ok()? {
        _ if digits == 0 => Some(0),
        shift @ 0.. => digits.checked_mul(10i128.checked_pow(shift.unsigned_abs())?),
        shift => {
            let divisor = 10i128.checked_pow(shift.unsigned_abs())?;
            (digits % divisor == 0).then_some(digits / divisor)
        }
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

/// Decodes an id: hexadecimal, or base64 as protobuf libraries write it. Empty is no id. The
/// Collector refuses a request for an id of any other length.
fn id(text: &str, len: usize) -> Option<Vec<u8>> {
    let bytes = hex(text).filter(|bytes| bytes.len() == len || bytes.is_empty());
    bytes.or_else(|| base64(text).filter(|bytes| bytes.len() == len))
}

/// Decodes base64 of either alphabet, with or without padding.
fn base64(text: &str) -> Option<Vec<u8>> {
    const LENIENT: GeneralPurposeConfig =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let alphabet = if text.contains(['-', '_']) { URL_SAFE } else { STANDARD };
    GeneralPurpose::new(&alphabet, LENIENT.with_decode_allow_trailing_bits(true)).decode(text).ok()
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
        Value::Array(_) => "an array with other elements than expected".into(),
        Value::Map(_) | Value::Counts(_) => "an object".into(),
    }
}
