//! The JSON Schema of a kind's fields, from which the man page, the SQL columns and the tests are made.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::table::Kind;

/// The schema of a kind's body, with everything inlined.
pub fn body_schema(kind: &Kind) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings.for_serialize());
    let mut schema = (kind.schema)(&mut generator).to_value();
    for property in schema["properties"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        never_null(property);
    }
    schema
}

/// A field that has no value is absent, never null.
fn never_null(property: &mut Value) {
    let only = property.get_mut("type").and_then(Value::as_array_mut).and_then(|types| {
        types.retain(|name| name != "null");
        if types.len() == 1 { types.pop() } else { None }
    });
    if let Some(only) = only {
        property["type"] = only;
    }
    if let Some(choices) = property.get_mut("enum").and_then(Value::as_array_mut) {
        choices.retain(|choice| !choice.is_null());
    }
    if let Some(choices) = property.get_mut("anyOf").and_then(Value::as_array_mut) {
        choices.retain(|choice| choice["type"] != "null");
    }
}

/// `integer`, `number`, `string` …: the first type that is not null.
pub fn json_type(property: &Value) -> &str {
    let types = &property["type"];
    types
        .as_str()
        .or_else(|| types.as_array()?.iter().filter_map(Value::as_str).find(|name| *name != "null"))
        .unwrap_or(if property["enum"].is_array() || property["oneOf"].is_array() { "string" } else { "any" })
}
