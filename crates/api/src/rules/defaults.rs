//! What the API server fills in where a client said nothing: one small function a schema type, so that a pod's defaults
//! hold wherever a pod template stands. The values are upstream's (`SetDefaults_*` and `+default` of Kubernetes 1.36,
//! with the feature gates that are on by default there), and so are the few normalisations that upstream hides in its
//! conversions: deprecated aliases, `stringData`, singular and plural forms of one fact.
//!
//! A parent's function runs before its children are visited, as upstream's order is. Every function is idempotent.

pub(super) mod admission;
pub(super) mod amount;
pub(super) mod apps;
pub(super) mod autoscaling;
pub(super) mod batch;
pub(super) mod cluster;
pub(super) mod container;
pub(super) mod extension;
pub(super) mod networking;
pub(super) mod pod;
pub(super) mod resource;
pub(super) mod service;
pub(super) mod storage;
pub(super) mod volume;

use corten_apimachinery::value::{Map, Value};

use super::TypeRules;

const fn fills(hook: fn(&mut Map)) -> TypeRules {
    TypeRules::new().default(hook)
}

/// Sets a field that is a pointer in Go: only where nothing was said, so that an explicit zero stays.
fn absent(map: &mut Map, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key, value);
    }
}

/// Sets a field that is a plain value in Go: where it is absent or zero.
fn zero(map: &mut Map, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(is_zero) {
        map.insert(key, value);
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::Int(number) => *number == 0,
        Value::Float(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
    }
}

fn text<'a>(map: &'a Map, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn given(map: &Map, key: &str) -> bool {
    map.get(key).is_some_and(|value| !value.is_null())
}

fn flag(map: &Map, key: &str) -> bool {
    map.get(key).and_then(Value::as_bool).unwrap_or_default()
}

/// The objects of a list field.
fn objects_mut<'a>(map: &'a mut Map, key: &str) -> impl Iterator<Item = &'a mut Map> {
    map.get_mut(key).and_then(Value::as_array_mut).into_iter().flatten().filter_map(Value::as_object_mut)
}

/// An object field that is there.
fn object_mut<'a>(map: &'a mut Map, key: &str) -> Option<&'a mut Map> {
    map.get_mut(key)?.as_object_mut()
}

/// Copies every entry of `from` into the field `to` that has none under that key; makes the field where needed.
fn inherit(map: &mut Map, from: &str, to: &str) {
    let Some(entries) = map.get(from).and_then(Value::as_object).cloned() else { return };
    let target = map.object_entry(to);
    for (key, value) in entries {
        target.insert_if_absent(&key, || value);
    }
}

#[cfg(test)]
mod testing {
    use corten_apimachinery::value::Value;

    /// Runs the default of one type and compares; then once more, as defaults have to be idempotent.
    pub(super) fn check(name: &str, mut input: Value, expect: &Value) {
        let mut rules = crate::rules::ALL.iter().copied().flatten().filter(|(of, _)| *of == name);
        let fill = rules.find_map(|(_, rules)| rules.default).expect("a type with defaults");
        assert!(rules.all(|(_, rules)| rules.default.is_none()), "{name} has one hook");
        for _ in 0..2 {
            fill(input.as_object_mut().expect("an object"));
            assert_eq!(&input, expect, "{name}");
        }
    }
}
