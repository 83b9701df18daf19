//! OpenAPI definitions of the built-in types, from the type table: names, types, formats and extensions as upstream
//! publishes them, without prose.

pub mod gnostic;

use std::collections::BTreeMap;

use crate::schema::table::{Field, FieldType, ListTag, Special, TypeDef, TypeId, TypeTable};
use crate::value;
use crate::value::{Map, Str, Value};

/// Definitions by name, as `components.schemas` (version 3) holds them.
#[derive(Clone, Debug, Default)]
pub struct Definitions(pub BTreeMap<String, Value>);

const REFERENCE: &str = "#/components/schemas/";
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.";

/// The definition's name of a type: `io.k8s.api.apps.v1.Deployment` for `apps/v1.Deployment`.
pub fn definition_name(type_name: &str) -> String {
    let (package, name) = type_name.rsplit_once('.').unwrap_or(("", type_name));
    let dotted = package.replace('/', ".");
    match package.split('/').next().unwrap_or_default() {
        "meta" => format!("io.k8s.apimachinery.pkg.apis.{dotted}.{name}"),
        "apiextensions" => format!("io.k8s.apiextensions-apiserver.pkg.apis.{dotted}.{name}"),
        "apiregistration" => format!("io.k8s.kube-aggregator.pkg.apis.{dotted}.{name}"),
        _ => format!("io.k8s.api.{dotted}.{name}"),
    }
}

/// A schema that refers to a definition.
pub fn reference(name: &str) -> Value {
    value!({"$ref": (format!("{REFERENCE}{name}"))})
}

/// A reference that can carry a default and extensions beside it.
fn wrapped(name: &str) -> Map {
    let mut schema = Map::new();
    schema.insert("allOf", vec![reference(name)]);
    schema
}

impl Definitions {
    /// Adds a type and everything that it refers to. Returns its name.
    pub fn add(&mut self, table: &TypeTable, ty: TypeId) -> String {
        let def = table.get(ty);
        let name = definition_name(def.name);
        if !self.0.contains_key(&name) {
            // Entered first: types may refer to themselves.
            self.0.insert(name.clone(), Value::Null);
            let schema = self.structure(table, def);
            self.0.insert(name.clone(), schema);
        }
        name
    }

    /// Marks a definition as that of a kind.
    pub fn mark(&mut self, name: &str, group: &str, version: &str, kind: &str) {
        let Some(Value::Object(schema)) = self.0.get_mut(name) else { return };
        let gvk = value!({"group": group, "kind": kind, "version": version});
        match schema.get_mut("x-kubernetes-group-version-kind") {
            Some(Value::Array(kinds)) if kinds.contains(&gvk) => {}
            Some(Value::Array(kinds)) => kinds.push(gvk),
            _ => {
                schema.insert("x-kubernetes-group-version-kind", vec![gvk]);
            }
        }
    }

    fn structure(&mut self, table: &TypeTable, def: &TypeDef) -> Value {
        let mut schema = value!({"type": "object"});
        let map = schema.as_object_mut().expect("made an object above");
        let mut required: Vec<Str> = Vec::new();
        let mut properties = Map::with_capacity(def.fields.len());
        for field in &def.fields {
            properties.insert(field.json, self.field(table, field));
            if field.required {
                required.push(field.json.into());
            }
        }
        properties.sort_keys();
        if !properties.is_empty() {
            map.insert("properties", properties);
        }
        if !required.is_empty() {
            map.insert("required", required);
        }
        if def.atomic {
            map.insert("x-kubernetes-map-type", "atomic");
        }
        schema
    }

    fn field(&mut self, table: &TypeTable, field: &Field) -> Value {
        let mut schema = self.of_type(table, &field.ty, !field.pointer);
        if field.required
            && !field.pointer
            && let Some(zero) = zero(&field.ty)
        {
            schema.insert("default", zero);
        }
        if !field.enumeration.is_empty() && matches!(field.ty, FieldType::String) {
            schema.insert("enum", field.enumeration.to_vec());
        }
        if field.atomic_map {
            schema.insert("x-kubernetes-map-type", "atomic");
        }
        if matches!(field.ty, FieldType::List(_) | FieldType::WrappedList(_)) {
            match &field.list {
                ListTag::Map(keys) => {
                    schema.insert("x-kubernetes-list-map-keys", keys.clone());
                    schema.insert("x-kubernetes-list-type", "map");
                }
                ListTag::Set => {
                    schema.insert("x-kubernetes-list-type", "set");
                }
                ListTag::Atomic => {
                    schema.insert("x-kubernetes-list-type", "atomic");
                }
            }
        }
        if let Some(key) = field.merge_key {
            schema.insert("x-kubernetes-patch-merge-key", key);
        }
        let strategies = [(field.patch_merge, "merge"), (field.patch_retain_keys, "retainKeys")];
        let strategies: Vec<&str> = strategies.iter().filter(|(set, _)| *set).map(|(_, name)| *name).collect();
        if !strategies.is_empty() {
            schema.insert("x-kubernetes-patch-strategy", strategies.join(","));
        }
        Value::Object(schema)
    }

    /// The schema of a value; `defaulted`: a struct that stands here by value shows that it defaults to `{}`.
    fn of_type(&mut self, table: &TypeTable, ty: &FieldType, defaulted: bool) -> Map {
        match ty {
            FieldType::Bool => scalar("boolean", ""),
            FieldType::Int32 => scalar("integer", "int32"),
            FieldType::Int64 => scalar("integer", "int64"),
            FieldType::Float64 => scalar("number", "double"),
            FieldType::String => scalar("string", ""),
            FieldType::Bytes => scalar("string", "byte"),
            FieldType::Struct(id) => {
                let mut schema = wrapped(&self.add(table, *id));
                if defaulted {
                    schema.insert("default", Value::object());
                }
                schema
            }
            FieldType::List(item) | FieldType::WrappedList(item) => {
                let mut schema = scalar("array", "");
                schema.insert("items", self.element(table, item));
                schema
            }
            FieldType::Map(value) => {
                let mut schema = scalar("object", "");
                schema.insert("additionalProperties", self.element(table, value));
                schema
            }
            FieldType::Special(special) => {
                let name = self.special(table, *special);
                match special {
                    // Types without a schema of their own are named bare.
                    Special::Json
                    | Special::SchemaOrArray(_)
                    | Special::SchemaOrBool(_)
                    | Special::SchemaOrStrings(_) => {
                        Map::from_iter([("$ref".into(), Value::from(format!("{REFERENCE}{name}")))])
                    }
                    _ => wrapped(&name),
                }
            }
        }
    }

    /// The schema of a list's items or a map's values.
    fn element(&mut self, table: &TypeTable, ty: &FieldType) -> Value {
        if let FieldType::Special(special) = ty {
            return reference(&self.special(table, *special));
        }
        let mut schema = self.of_type(table, ty, true);
        if let Some(zero) = zero(ty) {
            schema.insert("default", zero);
        }
        Value::Object(schema)
    }

    fn special(&mut self, table: &TypeTable, special: Special) -> String {
        let (name, schema) = match special {
            Special::Time => (format!("{META}Time"), scalar("string", "date-time")),
            Special::MicroTime => (format!("{META}MicroTime"), scalar("string", "date-time")),
            Special::Duration => (format!("{META}Duration"), scalar("string", "")),
            Special::FieldsV1 => (format!("{META}FieldsV1"), scalar("object", "")),
            Special::RawExtension => ("io.k8s.apimachinery.pkg.runtime.RawExtension".to_owned(), scalar("object", "")),
            Special::Quantity => {
                ("io.k8s.apimachinery.pkg.api.resource.Quantity".to_owned(), one_of("string", "number", ""))
            }
            Special::IntOrString => {
                let schema = one_of("integer", "string", "int-or-string");
                ("io.k8s.apimachinery.pkg.util.intstr.IntOrString".to_owned(), schema)
            }
            Special::Json => (format!("{EXTENSIONS}v1.JSON"), Map::new()),
            Special::SchemaOrArray(id) => (format!("{}OrArray", self.add(table, id)), Map::new()),
            Special::SchemaOrBool(id) => (format!("{}OrBool", self.add(table, id)), Map::new()),
            Special::SchemaOrStrings(id) => (format!("{}OrStringArray", self.add(table, id)), Map::new()),
        };
        self.0.entry(name.clone()).or_insert(Value::Object(schema));
        name
    }
}

fn scalar(kind: &str, format: &str) -> Map {
    let mut schema = Map::new();
    schema.insert("type", kind);
    if !format.is_empty() {
        schema.insert("format", format);
    }
    schema
}

fn one_of(first: &str, second: &str, format: &str) -> Map {
    let mut schema = Map::new();
    if !format.is_empty() {
        schema.insert("format", format);
    }
    schema.insert("oneOf", vec![Value::Object(scalar(first, "")), Value::Object(scalar(second, ""))]);
    schema
}

/// Go's zero of a scalar that is always written.
fn zero(ty: &FieldType) -> Option<Value> {
    match ty {
        FieldType::Bool => Some(Value::Bool(false)),
        FieldType::Int32 | FieldType::Int64 | FieldType::Float64 => Some(Value::Int(0)),
        FieldType::String => Some(Value::from("")),
        _ => None,
    }
}

/// A version 3 schema as version 2 can say it: references stand alone, alternatives become plain types. What may be null
/// or hold unknown fields is left without a type, because clients know neither in version 2.
pub fn to_v2(schema: &Value) -> Value {
    let Value::Object(map) = schema else { return schema.clone() };
    if let Some(Value::String(target)) = map.get("$ref") {
        return value!({"$ref": (target.replace(REFERENCE, "#/definitions/"))});
    }
    let has = |key| map.get(key).and_then(Value::as_bool) == Some(true);
    let nullable = has("nullable");
    let open = nullable || has("x-kubernetes-preserve-unknown-fields");
    let mut out = Map::with_capacity(map.len());
    for (key, value) in map.iter() {
        match (key.as_str(), value) {
            ("items" | "properties", _) if open => {}
            ("type", Value::String(kind)) if nullable || open && (kind == "object" || kind == "array") => {}
            ("allOf", Value::Array(all)) if all.len() == 1 && all[0].get("$ref").is_some() => {
                if let Value::Object(reference) = to_v2(&all[0]) {
                    out.extend(reference);
                }
            }
            ("oneOf", _) => {
                out.insert("type", "string");
            }
            ("allOf" | "anyOf" | "not" | "default" | "nullable", _) => {}
            ("properties", Value::Object(properties)) => {
                let properties = properties.iter().map(|(name, schema)| (name.clone(), to_v2(schema)));
                out.insert("properties", properties.collect::<Map>());
            }
            ("items" | "additionalProperties", schema) => {
                out.insert(key.clone(), to_v2(schema));
            }
            (_, value) => {
                out.insert(key.clone(), value.clone());
            }
        }
    }
    Value::Object(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let check = |name: &str, expect: &str| assert_eq!(definition_name(name), expect);
        check("core/v1.Example", "io.k8s.api.core.v1.Example");
        check("meta/v1.ObjectMeta", "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta");
        check("apiregistration/v1.Example", "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1.Example");
        check("apiextensions/v1.X", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.X");
    }

    #[test]
    fn version_two() {
        let schema = value!({"type": "object", "properties": {
            "a": {"allOf": [{"$ref": "#/components/schemas/x.Y"}], "default": {}, "x-kubernetes-patch-strategy": "merge"},
            "b": {"type": "array", "items": {"allOf": [{"$ref": "#/components/schemas/x.Y"}], "default": {}}},
            "c": {"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]},
        }});
        let expect = value!({"type": "object", "properties": {
            "a": {"$ref": "#/definitions/x.Y", "x-kubernetes-patch-strategy": "merge"},
            "b": {"type": "array", "items": {"$ref": "#/definitions/x.Y"}},
            "c": {"format": "int-or-string", "type": "string"},
        }});
        assert_eq!(to_v2(&schema), expect);
    }

    #[test]
    fn what_version_two_cannot_type_stays_open() {
        let check = |schema, expect| assert_eq!(to_v2(&schema), expect);
        let fields = value!({"a": {"type": "string"}});
        check(
            value!({"type": "object", "properties": (fields.clone()), "x-kubernetes-preserve-unknown-fields": true}),
            value!({"x-kubernetes-preserve-unknown-fields": true}),
        );
        check(value!({"type": "object", "properties": (fields.clone()), "nullable": true}), value!({}));
        check(value!({"type": "string", "nullable": true}), value!({}));
        let closed = value!({"type": "object", "properties": (fields)});
        check(closed.clone(), closed);
    }
}
