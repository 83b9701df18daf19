//! The annotation in which `kubectl apply` keeps its last configuration, for those who move from client-side to
//! server-side apply: what it says and the object still has may be taken over without a conflict, and a server-side
//! apply by kubectl keeps it in step.

use super::{Conflict, FieldSet, Manager, typed};
use crate::json;
use crate::meta::{ANNOTATIONS_BYTES_MAX, Meta};
use crate::schema::Node;
use crate::value::Value;

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The field manager of kubectl's server-side apply; others opt out by their name.
const KUBECTL: &str = "kubectl";

/// Whether all conflicts are about fields that the annotation accounts for.
pub(super) fn allows(manager: &Manager<'_>, live: &Value, node: Node<'_>, conflicts: &[Conflict]) -> bool {
    allowed(manager, live, node).is_some_and(|set| conflicts.iter().all(|conflict| set.has(&conflict.path)))
}

/// The conflicts that the annotation does not account for.
pub(super) fn remaining(
    manager: &Manager<'_>,
    live: &Value,
    node: Node<'_>,
    mut conflicts: Vec<Conflict>,
) -> Vec<Conflict> {
    if let Some(set) = allowed(manager, live, node) {
        conflicts.retain(|conflict| !set.has(&conflict.path));
    }
    conflicts
}

/// The fields of the last configuration that the object has unchanged; `None` without a usable annotation.
fn allowed(manager: &Manager<'_>, live: &Value, node: Node<'_>) -> Option<FieldSet> {
    if manager.name != KUBECTL {
        return None;
    }
    let text = Meta::of(live).annotation(ANNOTATION)?;
    // What is no configuration of this version accounts for nothing; the conflicts stand.
    let last = json::parse(text.as_bytes()).ok()?.value;
    if last.str_at(&["apiVersion"]) != manager.gvk.api_version() || !typed::check(&last, node).is_empty() {
        return None;
    }
    let changed = typed::compare(&last, live, node);
    let fields = typed::fields_of(&last, node);
    Some(fields.difference(&changed.modified).difference(&changed.added).difference(&changed.removed))
}

/// Writes the configuration into the annotation, where the object has one.
pub(super) fn refresh(manager: &Manager<'_>, config: &Value, object: &mut Value) {
    if manager.name != KUBECTL || Meta::of(object).annotation(ANNOTATION).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(Value::Object(annotations)) = config.at_mut(&["metadata", "annotations"]) {
        annotations.remove(ANNOTATION);
        if annotations.is_empty() {
            config.object_entry("metadata").remove("annotations");
        }
    }
    sort(&mut config);
    let text = json::to_string(&config) + "\n";
    let annotations = object.object_entry("metadata").object_entry("annotations");
    annotations.insert(ANNOTATION, text);
    let bytes: usize = Meta::of(object).annotations().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > ANNOTATIONS_BYTES_MAX {
        object.object_entry("metadata").object_entry("annotations").remove(ANNOTATION);
    }
}

/// Go writes the keys of a free-form object sorted.
fn sort(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.sort_keys();
            map.iter_mut().for_each(|(_, field)| sort(field));
        }
        Value::Array(items) => items.iter_mut().for_each(sort),
        _ => {}
    }
}
