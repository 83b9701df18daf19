//! Cuts an update back to what it may change.

use corten_apimachinery::value::{Map, Value};

/// Gives a top-level field the stored value again.
pub(crate) fn keep(new: &mut Value, stored: &Value, field: &str) {
    if let Some(object) = new.as_object_mut() {
        keep_in(object, stored.as_object(), field);
    }
}

/// What of metadata stays as stored when a subresource is written; the rest (revision, managed fields) is bookkeeping.
pub(crate) fn keep_metadata(new: &mut Value, stored: &Value) {
    let metadata = new.object_entry("metadata");
    let stored = stored.get("metadata").and_then(Value::as_object);
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
    ] {
        keep_in(metadata, stored, field);
    }
}

/// Gives one field of metadata the stored value again.
pub(crate) fn keep_in_metadata(new: &mut Value, stored: &Value, field: &str) {
    keep_in(new.object_entry("metadata"), stored.get("metadata").and_then(Value::as_object), field);
}

fn keep_in(object: &mut Map, stored: Option<&Map>, field: &str) {
    match stored.and_then(|stored| stored.get(field)) {
        Some(value) => {
            object.insert(field, value.clone());
        }
        None => {
            object.remove(field);
        }
    }
}

/// Whether a field differs; nothing, null and empty are one.
pub(crate) fn differs(new: &Value, stored: &Value, path: &[&str]) -> bool {
    let filled = |value: &&Value| match value {
        Value::Null => false,
        Value::Object(map) => !map.is_empty(),
        Value::Array(items) => !items.is_empty(),
        _ => true,
    };
    new.at(path).filter(filled) != stored.at(path).filter(filled)
}

/// Raises the generation above the stored one, where that has not happened yet.
pub(crate) fn raise_generation(new: &mut Value, stored: &Value) {
    let generation = stored.i64_at(&["metadata", "generation"]).unwrap_or_default();
    new.object_entry("metadata").insert("generation", generation + 1);
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    #[test]
    fn stored_values_stay() {
        let stored =
            value!({"metadata": {"name": "a", "labels": {"a": "b"}, "resourceVersion": "1"}, "spec": {"a": 1}});
        let mut new = value!({"metadata": {"name": "a", "finalizers": ["x"], "resourceVersion": "2"}, "spec": {"a": 2}, "data": 1});
        keep(&mut new, &stored, "spec");
        keep(&mut new, &stored, "data");
        keep_metadata(&mut new, &stored);
        let expect =
            value!({"metadata": {"name": "a", "labels": {"a": "b"}, "resourceVersion": "2"}, "spec": {"a": 1}});
        assert_eq!(new, expect);
    }

    #[test]
    fn nothing_is_nothing() {
        assert!(!differs(&value!({"a": {}}), &value!({}), &["a"]));
        assert!(differs(&value!({"a": {"b": 1}}), &value!({}), &["a"]));
    }
}
