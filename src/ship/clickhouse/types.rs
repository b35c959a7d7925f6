//! Which type of ClickHouse stores the values of a field.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::record::{KINDS, Kind, body_schema, json_type, map_value};
use crate::ship::line::Value;

/// Strings of our kinds that differ in every record, or nearly. All others repeat.
const UNIQUE: [&str; 11] = [
    "address",
    "body",
    "cmdline",
    "description",
    "detail",
    "error",
    "message",
    "parent_span_id",
    "span_id",
    "status_message",
    "trace_id",
];

/// The values that a field has had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Only null.
    Nothing,
    /// `true`, `false`
    Bool,
    /// Integers, from the least to the greatest.
    Whole(i128, i128),
    /// Numbers.
    Double,
    /// Strings, or values of several types.
    Text,
    /// Arrays of these.
    Array(Box<Shape>),
    /// Objects of these.
    Map(Box<Shape>),
}

impl Shape {
    /// The shape of one value.
    pub fn of(value: &Value<'_>) -> Self {
        match value {
            Value::Null => Self::Nothing,
            Value::Bool(_) => Self::Bool,
            Value::I64(value) => Self::Whole((*value).into(), (*value).into()),
            Value::U64(value) => Self::Whole((*value).into(), (*value).into()),
            Value::Big(digits) => {
                let value =
                    digits.parse().unwrap_or(if digits.starts_with('-') { i128::MIN } else { i128::MAX });
                Self::Whole(value, value)
            }
            Value::F64(_) => Self::Double,
            Value::Str(_) => Self::Text,
            Value::Array(values) => Self::Array(Box::new(Self::all(values))),
            Value::Map(fields) => Self::Map(Box::new(Self::all(fields.iter().map(|(_, value)| value)))),
            Value::Counts(counts) => {
                let counts = counts.iter().map(|(_, count)| Self::Whole((*count).into(), (*count).into()));
                Self::Map(Box::new(counts.fold(Self::Nothing, Self::and)))
            }
        }
    }

    fn all<'v, 'a: 'v>(values: impl IntoIterator<Item = &'v Value<'a>>) -> Self {
        values.into_iter().map(Self::of).fold(Self::Nothing, Self::and)
    }

    /// The shape of both.
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Nothing, shape) | (shape, Self::Nothing) => shape,
            (Self::Whole(a, b), Self::Whole(c, d)) => Self::Whole(a.min(c), b.max(d)),
            (Self::Whole(..) | Self::Double, Self::Whole(..) | Self::Double) => Self::Double,
            (Self::Array(a), Self::Array(b)) => Self::Array(Box::new(a.and(*b))),
            (Self::Map(a), Self::Map(b)) => Self::Map(Box::new(a.and(*b))),
            (a, b) if a == b => a,
            _ => Self::Text,
        }
    }

    /// The type of a new column; `None` as long as only null is known. A column of strings takes everything.
    pub fn sql(&self) -> Option<String> {
        let inner = |shape: &Self| match shape {
            Self::Nothing | Self::Array(_) | Self::Map(_) => "Nullable(String)".to_owned(),
            shape => shape.sql().unwrap_or_default(),
        };
        let is_nested = |shape: &Self| matches!(shape, Self::Array(_) | Self::Map(_));
        Some(match self {
            Self::Nothing => return None,
            Self::Bool => "Nullable(Bool)".into(),
            Self::Whole(min, max) if fits((*min, *max), "Int64") => "Nullable(Int64)".into(),
            Self::Whole(min, max) if fits((*min, *max), "UInt64") => "Nullable(UInt64)".into(),
            Self::Double => "Nullable(Float64)".into(),
            Self::Array(shape) if !is_nested(shape) => format!("Array({})", inner(shape)),
            Self::Map(shape) if !is_nested(shape) => format!("Map(LowCardinality(String), {})", inner(shape)),
            Self::Whole(..) | Self::Text | Self::Array(_) | Self::Map(_) => "Nullable(String)".into(),
        })
    }

    /// The integer that a column of this type cannot store. ClickHouse would store another one without an error.
    pub fn misfit(&self, sql_type: &str) -> Option<i128> {
        let sql_type = bare(sql_type);
        match self {
            Self::Whole(min, max) if sql_type.contains("Int") && !fits((*min, *max), sql_type) => {
                Some(if fits((*min, *min), sql_type) { *max } else { *min })
            }
            Self::Array(shape) => shape.misfit(sql_type.strip_prefix("Array(")?.strip_suffix(')')?),
            Self::Map(shape) => {
                let (_, value) = sql_type.strip_prefix("Map(")?.strip_suffix(')')?.split_once(", ")?;
                shape.misfit(value)
            }
            _ => None,
        }
    }
}

/// A type without `Nullable` and `LowCardinality`.
pub fn bare(sql_type: &str) -> &str {
    let inner = |name| sql_type.strip_prefix(name)?.strip_suffix(')');
    inner("Nullable(").or_else(|| inner("LowCardinality(")).map_or(sql_type, bare)
}

/// Whether integers from the first to the second fit a type of integers.
fn fits((min, max): (i128, i128), sql_type: &str) -> bool {
    let bits = |name| sql_type.strip_prefix(name)?.parse::<u32>().ok();
    match (bits("UInt"), bits("Int")) {
        (Some(bits), _) => min >= 0 && (bits > 64 || max < 1 << bits),
        (_, Some(bits)) => bits > 64 || (min >= -(1 << (bits - 1)) && max < 1 << (bits - 1)),
        _ => true,
    }
}

/// A column of a table that is created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewColumn {
    /// The field.
    pub name: String,
    /// The type.
    pub sql_type: String,
}

impl NewColumn {
    /// A column.
    pub fn new(name: &str, sql_type: &str) -> Self {
        Self { name: name.to_owned(), sql_type: sql_type.to_owned() }
    }

    /// The column in a statement, with its codec.
    ///
    /// Measured by `scripts/bench clickhouse` on 17 MB of `scrape` lines (0.34 MB; 0.59 MB with the server's default):
    /// Delta makes integers 10 % smaller than ZSTD alone, and `ts` 44 %. With DoubleDelta and T64, integers are 24 %
    /// larger than with Delta; with Gorilla, doubles are 72 % larger than with ZSTD alone.
    pub fn definition(&self) -> String {
        let codec = match bare(&self.sql_type) {
            sql_type if sql_type.starts_with("DateTime64") => "Delta(8), ZSTD(1)",
            "Int64" | "UInt64" => "Delta(8), ZSTD(1)",
            _ => "ZSTD(1)",
        };
        format!("{} {} CODEC({codec})", super::server::quoted(&self.name), self.sql_type)
    }
}

/// The columns of a kind's fields.
pub fn declared(kind: &str) -> &'static [NewColumn] {
    static ALL: LazyLock<HashMap<&'static str, Vec<NewColumn>>> =
        LazyLock::new(|| KINDS.iter().map(|kind| (kind.name, columns(kind))).collect());
    ALL.get(kind).map_or(&[], Vec::as_slice)
}

/// The columns of the fields of all kinds: where two kinds differ, of the type that stores both.
pub fn declared_by_any() -> &'static [NewColumn] {
    static ALL: LazyLock<Vec<NewColumn>> = LazyLock::new(|| {
        let mut columns: Vec<NewColumn> = Vec::new();
        for column in KINDS.iter().flat_map(|kind| declared(kind.name)) {
            match columns.iter_mut().find(|known| known.name == column.name) {
                Some(known) if known.sql_type != column.sql_type => {
                    known.sql_type = both(&known.sql_type, &column.sql_type);
                }
                Some(_) => {}
                None => columns.push(column.clone()),
            }
        }
        columns
    });
    &ALL
}

fn both(a: &str, b: &str) -> String {
    let all = |types: &[&str]| types.contains(&bare(a)) && types.contains(&bare(b));
    match () {
        () if all(&["Int64", "UInt64"]) => "Nullable(Int64)".into(),
        () if all(&["Int64", "UInt64", "Float64"]) => "Nullable(Float64)".into(),
        () => "Nullable(String)".into(),
    }
}

fn columns(kind: &Kind) -> Vec<NewColumn> {
    let schema = body_schema(kind);
    let properties = schema["properties"].as_object().into_iter().flatten();
    properties.map(|(name, property)| NewColumn::new(name, &declared_type(name, property))).collect()
}

fn declared_type(name: &str, property: &serde_json::Value) -> String {
    // A string takes every value.
    let text = || "Nullable(String)".to_owned();
    // An optional field of a type with documented choices.
    let property = property["anyOf"].get(0).unwrap_or(property);
    let whole = |property: &serde_json::Value| if property["minimum"] == 0 { "UInt64" } else { "Int64" };
    let inner = |property: &serde_json::Value| match json_type(property) {
        "integer" => Some(whole(property)),
        "number" => Some("Float64"),
        "boolean" => Some("Bool"),
        "string" => Some("String"),
        _ => None,
    };
    match json_type(property) {
        "string" if property["format"] == "date-time" => "Nullable(DateTime64(9))".into(),
        "string" if UNIQUE.contains(&name) => text(),
        "string" => "LowCardinality(Nullable(String))".into(),
        "array" => inner(&property["items"]).map_or(text(), |inner| format!("Array({inner})")),
        "object" if name.ends_with("buckets") => "Map(Int32, UInt64)".into(),
        "object" => {
            let mut types =
                property["properties"].as_object().into_iter().flatten().map(|(_, field)| inner(field));
            let first = map_value(property).map(inner).or_else(|| types.next());
            match first {
                Some(Some(inner)) if types.all(|other| other == Some(inner)) => {
                    format!("Map(LowCardinality(String), {inner})")
                }
                // Values of any type, such as attributes.
                None => "Map(LowCardinality(String), String)".into(),
                Some(_) => text(),
            }
        }
        _ => inner(property).map_or(text(), |inner| format!("Nullable({inner})")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ship::line::Line;

    fn shape(json: &str) -> Shape {
        let line = format!("{{\"a\":{json}}}");
        Shape::of(&Line::parse(line.as_bytes()).unwrap().fields[0].1)
    }

    #[test]
    fn types_of_values() {
        for (json, expected) in [
            ("null", None),
            ("true", Some("Nullable(Bool)")),
            ("-1", Some("Nullable(Int64)")),
            ("18446744073709551615", Some("Nullable(UInt64)")),
            ("18446744073709551616", Some("Nullable(String)")),
            ("1.5", Some("Nullable(Float64)")),
            ("\"x\"", Some("Nullable(String)")),
            ("[]", Some("Array(Nullable(String))")),
            ("[1,null]", Some("Array(Nullable(Int64))")),
            ("[1,2.5]", Some("Array(Nullable(Float64))")),
            ("[1,\"x\"]", Some("Array(Nullable(String))")),
            ("[[1]]", Some("Nullable(String)")),
            ("{}", Some("Map(LowCardinality(String), Nullable(String))")),
            ("{\"1\":5,\"2\":6}", Some("Map(LowCardinality(String), Nullable(Int64))")),
            ("{\"k\":{\"l\":1}}", Some("Nullable(String)")),
        ] {
            assert_eq!(shape(json).sql().as_deref(), expected, "{json}");
        }
        let both = |a, b| shape(a).and(shape(b)).sql().unwrap();
        assert_eq!(both("1", "18446744073709551615"), "Nullable(UInt64)");
        assert_eq!(both("-1", "18446744073709551615"), "Nullable(String)");
        assert_eq!(both("1", "2.5"), "Nullable(Float64)");
        assert_eq!(both("1", "\"x\""), "Nullable(String)");
        assert_eq!(both("null", "true"), "Nullable(Bool)");
    }

    #[test]
    fn integers_that_would_be_stored_as_others() {
        for (json, sql_type, misfit) in [
            ("255", "UInt8", None),
            ("256", "Nullable(UInt8)", Some(256)),
            ("-1", "LowCardinality(UInt64)", Some(-1)),
            ("9223372036854775808", "Int64", Some(1 << 63)),
            ("9223372036854775808", "UInt64", None),
            ("9223372036854775808", "Nullable(String)", None),
            ("9223372036854775808", "Float64", None),
            ("[1,300]", "Array(Nullable(UInt8))", Some(300)),
            ("{\"k\":-129}", "Map(LowCardinality(String), Int8)", Some(-129)),
            ("{\"k\":1}", "JSON", None),
            ("1", "UInt256", None),
        ] {
            assert_eq!(shape(json).misfit(sql_type), misfit, "{json} in {sql_type}");
        }
    }

    #[test]
    fn every_declared_field_has_a_type() {
        for kind in KINDS {
            let schema = body_schema(kind);
            let columns = declared(kind.name);
            for (name, property) in schema["properties"].as_object().unwrap() {
                assert!(
                    columns.iter().any(|column| column.name == *name),
                    "{}: {name}: {property}",
                    kind.name
                );
            }
        }
    }
}
