//! The JSON Schema of a kind's fields, from which the man page, the SQL columns and the metrics'
//! descriptions are derived.

use std::collections::HashMap;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value};

use super::table::Kind;

/// Returns the schema of a kind's body, without references.
pub fn body_schema(kind: &Kind) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings.for_serialize());
    let mut schema = (kind.schema)(&mut generator).to_value();
    for property in schema["properties"].as_object_mut().into_iter().flat_map(Map::values_mut) {
        remove_null(property);
    }
    schema
}

/// Removes null from the types of a property: a field without a value is absent.
fn remove_null(property: &mut Value) {
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

/// Returns the first type of a property that is not null: `integer`, `number`, `string` …
pub fn json_type(property: &Value) -> &str {
    let types = &property["type"];
    types
        .as_str()
        .or_else(|| types.as_array()?.iter().filter_map(Value::as_str).find(|name| *name != "null"))
        .unwrap_or(if property["enum"].is_array() || property["oneOf"].is_array() { "string" } else { "any" })
}

/// Returns the schema of the values, if the property is a map.
pub fn map_value(property: &Value) -> Option<&Value> {
    let by_pattern = || property["patternProperties"].as_object()?.values().next();
    Some(&property["additionalProperties"]).filter(|value| value.is_object()).or_else(by_pattern)
}

/// What the schema declares about one field.
pub struct FieldSchema {
    /// The field's documentation, on one line.
    pub description: String,
    /// True if the field, or each value of a map, is a number that need not be an integer.
    pub is_double: bool,
}

/// Returns the fields of a kind's body by name.
pub fn field_schemas(kind: &Kind) -> HashMap<String, FieldSchema> {
    let mut schema = body_schema(kind);
    let Value::Object(properties) = schema["properties"].take() else { return HashMap::new() };
    let field = |(name, property): (String, Value)| {
        let is_double = json_type(map_value(&property).unwrap_or(&property)) == "number";
        let words = property["description"].as_str().unwrap_or_default().split_whitespace();
        (name, FieldSchema { description: words.collect::<Vec<_>>().join(" "), is_double })
    };
    properties.into_iter().map(field).collect()
}
