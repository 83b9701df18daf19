//! Strategic merge patch (`k8s.io/apimachinery/pkg/util/strategicpatch`): maps merge, lists merge where the schema says
//! so, by key or as sets, and the patch carries directives: `$patch`, `$retainKeys`, `$deleteFromPrimitiveList/x`,
//! `$setElementOrder/x`.

mod order;

use std::collections::HashMap;

use super::{PatchError, json_type};
use crate::json;
use crate::schema::Node;
use crate::schema::table::FieldType;
use crate::value::{Map, Str, Value};

const DIRECTIVE: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const DELETE_FROM_LIST: &str = "$deleteFromPrimitiveList";
const SET_ORDER: &str = "$setElementOrder";

/// Applies a patch to an object whose schema starts at `node`.
pub fn apply(object: &Value, patch: Value, node: Node<'_>) -> Result<Value, PatchError> {
    let fields = match patch {
        Value::Object(fields) => fields,
        Value::Null => Map::new(),
        other => {
            let text =
                format!("json: cannot unmarshal {} into Go value of type map[string]interface {{}}", json_type(&other));
            return Err(PatchError::Malformed(text));
        }
    };
    let original = object.as_object().cloned().unwrap_or_default();
    merge_map(original, fields, node).map(Value::Object)
}

fn merge_map(mut original: Map, mut patch: Map, node: Node<'_>) -> Result<Map, PatchError> {
    if let Some(directive) = patch.get(DIRECTIVE) {
        return match directive.as_str() {
            Some("replace") => {
                patch.remove(DIRECTIVE);
                Ok(patch)
            }
            Some("delete") => Ok(Map::new()),
            _ => Err(unknown_directive(directive, &patch)),
        };
    }
    retain_keys(&mut original, &mut patch)?;
    order::merge_ordered(&mut original, &mut patch, node)?;
    for (key, value) in patch {
        let (key, delete_list) = match key.strip_prefix(DELETE_FROM_LIST) {
            None => (key, false),
            Some(rest) => match rest.strip_prefix('/') {
                Some(name) => (name.into(), true),
                None => return Err(PatchError::Malformed("invalid patch format of primitive list".to_owned())),
            },
        };
        merge_field(&mut original, key, value, delete_list, node)?;
    }
    Ok(original)
}

fn merge_field(
    original: &mut Map,
    key: Str,
    value: Value,
    delete_list: bool,
    node: Node<'_>,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(&key);
        return Ok(());
    }
    let Some(current) = original.get_mut(&key) else {
        if !delete_list {
            set_new(original, key, value);
        }
        return Ok(());
    };
    match (current, value) {
        (Value::Object(current), Value::Object(fields)) => {
            let child = field_node(node, &key)?;
            let current = std::mem::take(current);
            original.insert(key, merge_map(current, fields, child)?);
        }
        (Value::Array(current), Value::Array(items)) => {
            let child = field_node(node, &key)?;
            if child.patch_tags().merge || delete_list {
                let current = std::mem::take(current);
                original.insert(key, merge_list(current, items, child, delete_list)?);
            } else {
                *current = items;
            }
        }
        (_, value) if !delete_list => set_new(original, key, value),
        _ => {}
    }
    Ok(())
}

/// Takes a value over as a whole: without its nulls and without what is only a directive.
fn set_new(original: &mut Map, key: Str, mut value: Value) {
    discard_nulls(&mut value);
    match without_directives(value) {
        Some(value) => {
            original.insert(key, value);
        }
        None => {
            original.remove(&key);
        }
    }
}

/// The node of a field that both sides have. A struct of the table that has no such field is upstream's error.
fn field_node<'a>(node: Node<'a>, key: &str) -> Result<Node<'a>, PatchError> {
    let child = node.field(key);
    if let (Node::Table(table), Node::Unknown) = (node, child)
        && let FieldType::Struct(id) = table.ty
    {
        let name = table.table.get(*id).name.rsplit('.').next().unwrap_or_default();
        return Err(PatchError::Failed(format!(
            "unable to find api field in struct {name} for the json field {key:?}"
        )));
    }
    Ok(child)
}

/// `$retainKeys`: only the fields that it lists survive in the object.
fn retain_keys(original: &mut Map, patch: &mut Map) -> Result<(), PatchError> {
    let Some(directive) = patch.remove(RETAIN_KEYS) else { return Ok(()) };
    let malformed = || PatchError::Malformed("invalid patch format of retainKeys".to_owned());
    let Value::Array(keys) = directive else { return Err(malformed()) };
    let keys: Vec<&str> = keys.iter().filter_map(Value::as_str).collect();
    for (key, value) in patch.iter() {
        let directive = key.starts_with(DELETE_FROM_LIST) || key.starts_with(SET_ORDER);
        if !value.is_null() && !directive && !keys.contains(&key.as_str()) {
            return Err(malformed());
        }
    }
    original.retain(|key, _| keys.contains(&key.as_str()));
    Ok(())
}

/// Merges two lists of a field whose strategy is merge, or deletes the patch's scalars from the list.
fn merge_list(
    original: Vec<Value>,
    patch: Vec<Value>,
    node: Node<'_>,
    delete_list: bool,
) -> Result<Vec<Value>, PatchError> {
    if original.is_empty() && patch.is_empty() {
        return Ok(original);
    }
    if !of_maps(&original, &patch)? {
        if delete_list {
            let gone = keys_of(&patch, None);
            return Ok(original.into_iter().filter(|item| !gone.contains_key(&item_key(item, None))).collect());
        }
        let mut merged = Vec::with_capacity(original.len() + patch.len());
        let mut seen = HashMap::new();
        for item in original.iter().chain(&patch) {
            if seen.insert(item_key(item, None), ()).is_none() {
                merged.push(item.clone());
            }
        }
        return Ok(order::arrange(merged, &patch, &original, None));
    }
    let Some(merge_key) = node.patch_tags().merge_key else {
        return Err(PatchError::Failed("cannot merge lists without merge key for struct".to_owned()));
    };
    let (original, patch) = apply_item_directives(original, patch, merge_key)?;
    let server_order = key_order(&original, merge_key)?;
    let patch_order = key_order(&patch, merge_key)?;
    let merged = merge_items(original, patch, merge_key, node.item())?;
    Ok(order::arrange_by(merged, &patch_order, &server_order, Some(merge_key)))
}

/// `$patch` in list items: `delete` takes away the items with its key, `replace` puts the patch in the list's place.
fn apply_item_directives(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
    let mut plain = Vec::with_capacity(patch.len());
    let mut replace = false;
    for item in patch {
        let Some(directive) = item.get(DIRECTIVE) else {
            plain.push(item);
            continue;
        };
        match directive.as_str() {
            Some("delete") => {
                let Some(key) = item.get(merge_key) else { return Err(no_merge_key(&item, merge_key)) };
                original.retain(|other| other.get(merge_key) != Some(key));
            }
            Some("replace") => replace = true,
            Some("merge") => {
                return Err(PatchError::Failed("merging lists cannot yet be specified in the patch".to_owned()));
            }
            _ => return Err(unknown_directive(directive, item.as_object().unwrap_or(&Map::new()))),
        }
    }
    Ok(if replace { (plain, Vec::new()) } else { (original, plain) })
}

fn merge_items(
    mut original: Vec<Value>,
    patch: Vec<Value>,
    merge_key: &str,
    node: Node<'_>,
) -> Result<Vec<Value>, PatchError> {
    let mut positions = keys_of(&original, Some(merge_key));
    for item in patch {
        let key = item_key(&item, Some(merge_key));
        let Value::Object(fields) = item else { unreachable!("a list of maps was checked before") };
        match positions.get(&key) {
            Some(at) => {
                let Value::Object(current) = std::mem::take(&mut original[*at]) else {
                    unreachable!("a list of maps was checked before")
                };
                original[*at] = Value::Object(merge_map(current, fields, node)?);
            }
            None => {
                positions.insert(key, original.len());
                original.push(Value::Object(fields));
            }
        }
    }
    Ok(original)
}

/// Whether the items of both lists are maps; lists with items of several types, or of lists, are refused.
fn of_maps(left: &[Value], right: &[Value]) -> Result<bool, PatchError> {
    let mut items = left.iter().chain(right);
    let Some(first) = items.next() else {
        return Err(PatchError::Failed("no elements in any of the given slices".to_owned()));
    };
    if matches!(first, Value::Array(_)) {
        return Err(PatchError::Unprocessable("lists of lists are not supported".to_owned()));
    }
    if items.any(|item| std::mem::discriminant(item) != std::mem::discriminant(first)) {
        let lists = format!("[{} {}]", go_list(left), go_list(right));
        return Err(PatchError::Failed(format!("list element types are not identical: {lists}")));
    }
    Ok(matches!(first, Value::Object(_)))
}

/// What tells an item apart: its merge key's value, or itself.
fn item_key(item: &Value, merge_key: Option<&str>) -> String {
    match merge_key {
        Some(name) => item.get(name).map(json::to_string).unwrap_or_default(),
        None => json::to_string(item),
    }
}

/// The first position of each item.
fn keys_of(items: &[Value], merge_key: Option<&str>) -> HashMap<String, usize> {
    let mut keys = HashMap::with_capacity(items.len());
    for (at, item) in items.iter().enumerate() {
        keys.entry(item_key(item, merge_key)).or_insert(at);
    }
    keys
}

/// Like [`keys_of`], for maps that must all have the merge key.
fn key_order(items: &[Value], merge_key: &str) -> Result<HashMap<String, usize>, PatchError> {
    match items.iter().find(|item| item.get(merge_key).is_none()) {
        Some(item) => Err(no_merge_key(item, merge_key)),
        None => Ok(keys_of(items, Some(merge_key))),
    }
}

fn no_merge_key(item: &Value, merge_key: &str) -> PatchError {
    PatchError::Failed(format!("map: {} does not contain declared merge key: {merge_key}", go_value(item)))
}

fn unknown_directive(directive: &Value, map: &Map) -> PatchError {
    PatchError::Failed(format!("unknown patch type: {} in map: {}", go_value(directive), go_map(map)))
}

fn discard_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, field| !field.is_null());
            map.iter_mut().for_each(|(_, field)| discard_nulls(field));
        }
        Value::Array(items) => items.iter_mut().for_each(discard_nulls),
        _ => {}
    }
}

/// A value without the maps in it that are directives; `None` if it is one itself.
fn without_directives(value: Value) -> Option<Value> {
    match value {
        Value::Object(map) if map.contains_key(DIRECTIVE) => None,
        Value::Object(map) => {
            let fields = map.into_iter().filter_map(|(key, field)| Some((key, without_directives(field)?)));
            Some(Value::Object(fields.collect()))
        }
        Value::Array(items) => Some(Value::Array(items.into_iter().filter_map(without_directives).collect())),
        other => Some(other),
    }
}

/// A value as Go's `%v` prints it.
fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.to_string(),
        Value::Array(items) => go_list(items),
        Value::Object(map) => go_map(map),
        other => json::to_string(other),
    }
}

fn go_list(items: &[Value]) -> String {
    format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" "))
}

fn go_map(map: &Map) -> String {
    let mut fields: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{}", go_value(value))).collect();
    fields.sort_unstable();
    format!("map[{}]", fields.join(" "))
}

#[cfg(test)]
mod tests;
