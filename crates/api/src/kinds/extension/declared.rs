//! The rules of a declared schema: it has to be structural, so that pruning, defaults and field ownership know every
//! field's type (KEP-1693, upstream's `apiserver/schema`).

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::schema::structural::Structural;
use corten_apimachinery::value::Value;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Item,
    Field,
}

pub(super) fn validate(schema: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    if flag(schema, "nullable") {
        errors
            .forbidden(&FieldPath::new(&format!("{}.nullable", path.as_str())), "nullable cannot be true at the root");
    }
    check(schema, Level::Root, path, errors);
    if let Err(refused) = Structural::parse(schema, path) {
        errors.extend(refused);
    }
}

fn check(schema: &Value, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    kind(schema, level, path, errors);
    lists(schema, path, errors);
    if flag(schema, "uniqueItems") {
        errors.forbidden(
            &path.child("uniqueItems"),
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        );
    }
    additional(schema, level, path, errors);
    if let Some(items) = present(schema, "items") {
        check(items, Level::Item, &path.child("items"), errors);
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|map| map.iter()) {
        // Metadata is what every object's is; a schema may only narrow its name.
        if !(level == Level::Root && name == "metadata") {
            check(property, Level::Field, &path.child("properties").key(name), errors);
        }
    }
    for junctor in ["allOf", "anyOf", "oneOf"] {
        let nested = schema.get(junctor).and_then(Value::as_array).unwrap_or_default();
        for (index, nested_schema) in nested.iter().enumerate() {
            if !int_or_string(schema) {
                nested_rules(nested_schema, &path.child(junctor).index(index), errors);
            }
        }
    }
    if let Some(not) = present(schema, "not") {
        nested_rules(not, &path.child("not"), errors);
    }
}

fn kind(schema: &Value, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let kind = schema.str_at(&["type"]);
    let path = path.child("type");
    let free = int_or_string(schema) || flag(schema, "x-kubernetes-preserve-unknown-fields");
    if flag(schema, "x-kubernetes-embedded-resource") && kind != "object" {
        let detail = "must be object if x-kubernetes-embedded-resource is true";
        if kind.is_empty() {
            errors.required(&path, detail)
        } else {
            errors.invalid(&path, kind, detail)
        }
        return;
    }
    match (kind, level) {
        ("", _) if free => {}
        ("", Level::Root) => errors.required(&path, "must not be empty at the root"),
        ("", Level::Item) => errors.required(&path, "must not be empty for specified array items"),
        ("", Level::Field) => errors.required(&path, "must not be empty for specified object fields"),
        ("object", _) => {}
        (_, Level::Root) => errors.invalid(&path, kind, "must be object at the root"),
        ("array" | "boolean" | "integer" | "number" | "string", _) => {}
        _ => errors.not_supported(&path, kind, &["array", "boolean", "integer", "number", "object", "string"]),
    }
}

fn lists(schema: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    let (kind, list_type) = (schema.str_at(&["type"]), schema.str_at(&["x-kubernetes-list-type"]));
    if kind == "array" && present(schema, "items").is_none() {
        errors.required(&path.child("items"), "must be specified");
    }
    let type_path = path.child("x-kubernetes-list-type");
    if !list_type.is_empty() && !["atomic", "set", "map"].contains(&list_type) {
        errors.not_supported(&type_path, list_type, &["atomic", "set", "map"]);
    } else if !list_type.is_empty() && kind != "array" {
        let detail = "must be array if x-kubernetes-list-type is specified";
        let path = path.child("type");
        if kind.is_empty() { errors.required(&path, detail) } else { errors.invalid(&path, kind, detail) }
    }
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).unwrap_or_default();
    let keys_path = path.child("x-kubernetes-list-map-keys");
    if list_type == "map" && keys.is_empty() {
        errors.required(&keys_path, "must not be empty if x-kubernetes-list-type is map");
    }
    if list_type != "map" && !keys.is_empty() {
        let detail = "must be map if x-kubernetes-list-map-keys is non-empty";
        if list_type.is_empty() {
            errors.required(&type_path, detail);
        } else {
            errors.invalid(&type_path, list_type, detail);
        }
    }
}

fn additional(schema: &Value, level: Level, path: &FieldPath, errors: &mut FieldErrors) {
    let path = path.child("additionalProperties");
    let Some(additional) = schema.get("additionalProperties").filter(|additional| !additional.is_null()) else {
        return;
    };
    let properties = schema.get("properties").and_then(Value::as_object).is_some_and(|map| !map.is_empty());
    if properties && *additional != Value::Bool(true) {
        errors.forbidden(&path, "additionalProperties and properties are mutual exclusive");
    }
    if level == Level::Root {
        errors.forbidden(&path, "must not be used at the root");
    }
    if additional.as_object().is_some() {
        check(additional, Level::Field, &path, errors);
    }
}

/// Below `allOf` and its like stand rules of values alone; what shapes an object stands outside.
fn nested_rules(schema: &Value, path: &FieldPath, errors: &mut FieldErrors) {
    for key in ["type", "additionalProperties", "title", "description", "default", "nullable"] {
        let silent = match schema.get(key) {
            None | Some(Value::Null | Value::Bool(false)) => true,
            Some(value) => value.as_str() == Some(""),
        };
        if !silent {
            let rule = if key == "additionalProperties" { "undefined" } else { "empty" };
            errors.forbidden(&path.child(key), format!("must be {rule} to be structural"));
        }
    }
    if let Some(items) = present(schema, "items") {
        nested_rules(items, &path.child("items"), errors);
    }
    for (name, property) in schema.get("properties").and_then(Value::as_object).into_iter().flat_map(|map| map.iter()) {
        nested_rules(property, &path.child("properties").key(name), errors);
    }
}

fn int_or_string(schema: &Value) -> bool {
    flag(schema, "x-kubernetes-int-or-string")
}

fn present<'a>(schema: &'a Value, key: &str) -> Option<&'a Value> {
    schema.get(key).filter(|value| value.as_object().is_some())
}

fn flag(schema: &Value, key: &str) -> bool {
    schema.get(key).and_then(Value::as_bool).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;

    fn check_text(schema: Value, expect: &str) {
        let mut errors = FieldErrors::default();
        validate(&schema, &FieldPath::new("s"), &mut errors);
        assert_eq!(if errors.is_empty() { String::new() } else { errors.to_string() }, expect);
    }

    #[test]
    fn structural_schemas() {
        check_text(value!({"type": "object", "properties": {"a": {"type": "string"}}}), "");
        check_text(value!({"properties": {}}), "s.type: Required value: must not be empty at the root");
        check_text(
            value!({"type": "object", "properties": {"a": {}}}),
            "s.properties[a].type: Required value: must not be empty for specified object fields",
        );
        check_text(
            value!({"type": "object", "properties": {"a": {"type": "array"}}}),
            "s.properties[a].items: Required value: must be specified",
        );
        check_text(
            value!({"type": "object", "properties": {"a": {"x-kubernetes-int-or-string": true,
                "anyOf": [{"type": "integer"}, {"type": "string"}]}}}),
            "",
        );
        check_text(
            value!({"type": "object", "anyOf": [{"type": "integer"}]}),
            "s.anyOf[0].type: Forbidden: must be empty to be structural",
        );
        check_text(
            value!({"type": "object", "properties": {"a": {"type": "string", "pattern": "["}}}),
            "s.properties[a].pattern: Invalid value: \"[\": must be a valid regular expression, but isn't: regex parse \
             error:\n    [\n    ^\nerror: unclosed character class",
        );
        check_text(
            value!({"type": "object", "properties": {"a": {"type": "array", "x-kubernetes-list-type": "map",
                "items": {"type": "object"}}}}),
            "s.properties[a].x-kubernetes-list-map-keys: Required value: must not be empty if x-kubernetes-list-type is \
             map",
        );
    }
}
