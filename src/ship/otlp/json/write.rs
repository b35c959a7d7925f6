//! Protobuf to OTLP/JSON.

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::encoding::decode_varint;

use super::schema::{Field, Message, Type, request};
use crate::ship::line::Signal;

/// Appends the body of a request as a line of the Collector's file format, without the newline.
/// Returns `None` and appends nothing if the bytes are not a request of that signal.
pub fn write(out: &mut Vec<u8>, signal: Signal, body: &[u8]) -> Option<()> {
    let start = out.len();
    let written = object(out, request(signal), body);
    if written.is_none() {
        out.truncate(start);
    }
    written
}

/// A field on the wire: its number, and its bits or bytes.
#[derive(Clone, Copy)]
struct Raw<'b> {
    field: u32,
    bits: u64,
    bytes: &'b [u8],
}

/// Consumes the next field.
fn next<'b>(bytes: &mut &'b [u8]) -> Option<Raw<'b>> {
    let key = decode_varint(bytes).ok()?;
    let field = u32::try_from(key >> 3).ok()?;
    let raw = |bits, bytes| Some(Raw { field, bits, bytes });
    match key & 7 {
        0 => raw(decode_varint(bytes).ok()?, &[]),
        1 => raw(u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?), &[]),
        2 => {
            let len = usize::try_from(decode_varint(bytes).ok()?).ok()?;
            raw(0, bytes.split_off(..len)?)
        }
        5 => raw(u64::from(u32::from_le_bytes(*bytes.split_off(..4)?.first_chunk()?)), &[]),
        _ => None,
    }
}

/// Writes a message field by field, so that the elements of a repeated field come together even if
/// other fields are between them.
fn object(out: &mut Vec<u8>, message: &Message, bytes: &[u8]) -> Option<()> {
    out.push(b'{');
    let mut separator: &[u8] = b"";
    for Field(name, number, of) in message.fields {
        let many = matches!(of, Type::Many(_) | Type::Strings);
        let mut rest = bytes;
        let mut last = None;
        while !rest.is_empty() {
            let raw = next(&mut rest)?;
            if raw.field != *number {
                continue;
            }
            if many {
                out.extend_from_slice(if last.is_some() { b"," } else { separator });
                if last.is_none() {
                    write!(out, "\"{name}\":[").ok()?;
                }
                value(out, *of, raw)?;
            }
            last = Some(raw);
        }
        match last {
            None => continue,
            Some(_) if many => out.push(b']'),
            Some(raw) => {
                out.extend_from_slice(separator);
                write!(out, "\"{name}\":").ok()?;
                value(out, *of, raw)?;
            }
        }
        separator = b",";
    }
    out.push(b'}');
    Some(())
}

fn value(out: &mut Vec<u8>, of: Type, Raw { bits, bytes, .. }: Raw<'_>) -> Option<()> {
    match of {
        Type::One(message) | Type::Many(message) => return object(out, message, bytes),
        Type::String | Type::Strings => {
            serde_json::to_writer(&mut *out, std::str::from_utf8(bytes).ok()?).ok()?
        }
        Type::Id(_) => {
            out.push(b'"');
            bytes.iter().try_for_each(|byte| write!(out, "{byte:02x}")).ok()?;
            out.push(b'"');
        }
        Type::Bytes => write!(out, "\"{}\"", STANDARD.encode(bytes)).ok()?,
        Type::Bool => write!(out, "{}", bits != 0).ok()?,
        Type::Double => double(out, bits)?,
        Type::Fixed64 => write!(out, "\"{bits}\"").ok()?,
        Type::Sfixed64 | Type::Int64 => write!(out, "\"{}\"", bits as i64).ok()?,
        Type::Fixed32 | Type::Uint32 => write!(out, "{bits}").ok()?,
        Type::Sint32 => write!(out, "{}", (bits as u32 >> 1) as i32 ^ -((bits & 1) as i32)).ok()?,
        Type::Enum(_) => write!(out, "{}", bits as i32).ok()?,
        Type::Doubles | Type::Fixed64s | Type::Uint64s => return array(out, of, bytes),
    }
    Some(())
}

fn array(out: &mut Vec<u8>, of: Type, mut bytes: &[u8]) -> Option<()> {
    out.push(b'[');
    let mut separator: &[u8] = b"";
    while !bytes.is_empty() {
        out.extend_from_slice(separator);
        separator = b",";
        if let Type::Uint64s = of {
            write!(out, "\"{}\"", decode_varint(&mut bytes).ok()?).ok()?;
            continue;
        }
        let bits = u64::from_le_bytes(*bytes.split_off(..8)?.first_chunk()?);
        match of {
            Type::Doubles => double(out, bits)?,
            _ => write!(out, "\"{bits}\"").ok()?,
        }
    }
    out.push(b']');
    Some(())
}

fn double(out: &mut Vec<u8>, bits: u64) -> Option<()> {
    let value = f64::from_bits(bits);
    match value {
        _ if value.is_nan() => out.extend_from_slice(b"\"NaN\""),
        f64::INFINITY => out.extend_from_slice(b"\"Infinity\""),
        f64::NEG_INFINITY => out.extend_from_slice(b"\"-Infinity\""),
        _ => serde_json::to_writer(out, &value).ok()?,
    }
    Some(())
}
