//! Writes OTLP values as JSON, in the form that the type of a column asks for.

use std::borrow::Cow;
use std::io::Write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};

use super::super::types::bare;
use crate::common::time::Timestamp;

/// How values are written for a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Numbers and times as integers.
    Number,
    /// Objects in a string.
    Text,
    /// Objects with values as they are.
    Json,
    /// Objects with strings as values; all else as it is.
    Plain,
}

impl Form {
    /// The form for a type. In an array or a `Nested`, that of the values inside.
    pub fn of(sql_type: &str) -> Self {
        let inner = sql_type.strip_prefix("Array(").and_then(|inner| inner.strip_suffix(')'));
        match bare(inner.unwrap_or(sql_type)) {
            "JSON" => Self::Json,
            "String" => Self::Text,
            kind if kind.starts_with("Int") || kind.starts_with("UInt") => Self::Number,
            kind if ["JSON(", "Object("].iter().any(|start| kind.starts_with(start)) => Self::Json,
            kind if kind.contains("Attributes JSON") => Self::Json,
            _ => Self::Plain,
        }
    }
}

/// Writes values.
pub trait Out {
    /// A string.
    fn text(&mut self, text: &str);
    /// An integer.
    fn number(&mut self, number: impl std::fmt::Display);
    /// A number.
    fn double(&mut self, number: f64);
    /// A number or null.
    fn optional(&mut self, number: Option<f64>) {
        match number {
            Some(number) => self.double(number),
            None => self.null(),
        }
    }
    /// Null, for which a column that has no null stores its default.
    fn null(&mut self);
    /// A time in nanoseconds since the epoch.
    fn time(&mut self, form: Form, nanos: u64);
    /// An id in hexadecimal; empty if it is absent or zero.
    fn id(&mut self, id: &[u8]);
    /// An array.
    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T));
    /// Attributes.
    fn attributes(&mut self, form: Form, attributes: &[KeyValue]);
    /// The paths of attributes, sorted.
    fn keys(&mut self, attributes: &[KeyValue]);
    /// The body of a log record.
    fn body(&mut self, form: Form, body: Option<&AnyValue>);
}

impl Out for Vec<u8> {
    fn text(&mut self, text: &str) {
        // Writing to a Vec cannot fail, here and below.
        let _ = serde_json::to_writer(self, text);
    }

    fn number(&mut self, number: impl std::fmt::Display) {
        let _ = write!(self, "{number}");
    }

    fn double(&mut self, number: f64) {
        let _ = match number {
            number if number.is_finite() => write!(self, "{number:?}"),
            number if number.is_nan() => write!(self, "\"nan\""),
            number => write!(self, "\"{}inf\"", if number < 0.0 { "-" } else { "" }),
        };
    }

    fn null(&mut self) {
        self.extend_from_slice(b"null");
    }

    fn time(&mut self, form: Form, nanos: u64) {
        if form == Form::Number {
            return self.number(nanos);
        }
        self.push(b'"');
        Timestamp(nanos).write(self);
        self.push(b'"');
    }

    fn id(&mut self, id: &[u8]) {
        self.push(b'"');
        if id.iter().any(|byte| *byte != 0) {
            for byte in id {
                let _ = write!(self, "{byte:02x}");
            }
        }
        self.push(b'"');
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        self.push(b'[');
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.push(b',');
            }
            write(self, item);
        }
        self.push(b']');
    }

    fn attributes(&mut self, form: Form, attributes: &[KeyValue]) {
        match form {
            Form::Json => object(self, attributes),
            Form::Text => {
                let mut json = Vec::new();
                object(&mut json, attributes);
                self.text(&String::from_utf8_lossy(&json));
            }
            Form::Plain | Form::Number => {
                self.push(b'{');
                for (index, attribute) in attributes.iter().enumerate() {
                    if index > 0 {
                        self.push(b',');
                    }
                    self.text(&attribute.key);
                    self.push(b':');
                    self.text(&text(attribute.value.as_ref()));
                }
                self.push(b'}');
            }
        }
    }

    fn keys(&mut self, attributes: &[KeyValue]) {
        let mut paths = Vec::new();
        gather(&mut paths, "", attributes);
        paths.sort_unstable();
        paths.dedup();
        self.list(&paths, |out, path| out.text(path));
    }

    fn body(&mut self, form: Form, body: Option<&AnyValue>) {
        match form {
            Form::Json => json(self, body),
            _ => self.text(&text(body)),
        }
    }
}

fn gather(paths: &mut Vec<String>, start: &str, attributes: &[KeyValue]) {
    for attribute in attributes {
        let path =
            if start.is_empty() { attribute.key.clone() } else { format!("{start}.{}", attribute.key) };
        match attribute.value.as_ref().and_then(|value| value.value.as_ref()) {
            Some(Value::KvlistValue(list)) => gather(paths, &path, &list.values),
            _ => paths.push(path),
        }
    }
}

/// A value as a string, as the Collector writes it: nothing for an empty value, arrays and maps as JSON.
pub fn text(value: Option<&AnyValue>) -> Cow<'_, str> {
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(Value::StringValueStrindex(_)) => "".into(),
        Some(Value::StringValue(text)) => text.as_str().into(),
        Some(Value::BoolValue(value)) => if *value { "true" } else { "false" }.into(),
        Some(Value::IntValue(value)) => value.to_string().into(),
        Some(Value::DoubleValue(value)) => double(*value).into(),
        Some(Value::BytesValue(bytes)) => STANDARD.encode(bytes).into(),
        Some(Value::ArrayValue(_) | Value::KvlistValue(_)) => {
            let mut out = Vec::new();
            json(&mut out, value);
            String::from_utf8_lossy(&out).into_owned().into()
        }
    }
}

/// The shortest form, with an exponent only for very large and very small numbers, as in JavaScript.
fn double(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !value.is_finite() || (1e-6..1e21).contains(&size) {
        return value.to_string();
    }
    let text = format!("{value:e}");
    if size >= 1e21 { text.replace('e', "e+") } else { text }
}

fn object(out: &mut Vec<u8>, attributes: &[KeyValue]) {
    out.push(b'{');
    for (index, attribute) in attributes.iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        out.text(&attribute.key);
        out.push(b':');
        json(out, attribute.value.as_ref());
    }
    out.push(b'}');
}

fn json(out: &mut Vec<u8>, value: Option<&AnyValue>) {
    match value.and_then(|value| value.value.as_ref()) {
        None | Some(Value::StringValueStrindex(_)) => out.null(),
        Some(Value::BoolValue(_) | Value::IntValue(_)) => out.extend_from_slice(text(value).as_bytes()),
        // JSON has no other numbers.
        Some(Value::DoubleValue(value)) if value.is_finite() => {
            out.extend_from_slice(double(*value).as_bytes())
        }
        Some(Value::StringValue(_) | Value::DoubleValue(_) | Value::BytesValue(_)) => out.text(&text(value)),
        Some(Value::ArrayValue(array)) => out.list(&array.values, |out, value| json(out, Some(value))),
        Some(Value::KvlistValue(list)) => object(out, &list.values),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_types() {
        for (sql_type, form) in [
            ("DateTime64(9)", Form::Plain),
            ("Map(LowCardinality(String), String)", Form::Plain),
            ("Array(Map(LowCardinality(String), String))", Form::Plain),
            ("JSON", Form::Json),
            ("JSON(max_dynamic_paths=8)", Form::Json),
            ("Array(JSON)", Form::Json),
            ("Nested(Timestamp DateTime64(9), Name String, Attributes JSON)", Form::Json),
            ("LowCardinality(String)", Form::Text),
            ("Nullable(String)", Form::Text),
            ("Array(UInt64)", Form::Number),
            ("Int64", Form::Number),
        ] {
            assert_eq!(Form::of(sql_type), form, "{sql_type}");
        }
    }

    #[test]
    fn doubles_as_in_javascript() {
        for (value, expected) in [
            (1.0, "1"),
            (-0.1, "-0.1"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            (1.5e-7, "1.5e-7"),
            (0.000001, "0.000001"),
            (0.0, "0"),
        ] {
            assert_eq!(double(value), expected);
        }
    }
}
