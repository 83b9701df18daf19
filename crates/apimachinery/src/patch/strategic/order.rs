//! The order of merged lists. `$setElementOrder` comes first, then the order of the patch, then that of the object; items
//! that only the object has keep their place among those that both have.

use std::collections::HashMap;

use super::{
    DIRECTIVE, SET_ORDER, field_node, go_list, item_key, key_order, keys_of, merge_list, no_merge_key, of_maps,
    without_directives,
};
use crate::patch::PatchError;
use crate::schema::Node;
use crate::value::{Map, Str, Value};

/// Merges the lists that the patch gives an order for, and takes them out of the patch.
pub(super) fn merge_ordered(original: &mut Map, patch: &mut Map, node: Node<'_>) -> Result<(), PatchError> {
    let directives: Vec<Str> = patch.keys().filter(|key| key.starts_with(SET_ORDER)).cloned().collect();
    for directive in directives {
        let order = list(patch.remove(&directive).unwrap_or_default())?;
        let Some(key) = directive.strip_prefix(SET_ORDER).and_then(|rest| rest.strip_prefix('/')) else {
            return Err(PatchError::Malformed("invalid patch format of setElementOrder list".to_owned()));
        };
        let live = original.get(key).cloned().map(list).transpose()?;
        let change = patch.get(key).cloned().map(list).transpose()?;
        let child = field_node(node, key)?;
        let merge_key = child.patch_tags().merge_key;
        check_order(change.as_deref().unwrap_or_default(), &order, merge_key)?;
        let merged = match (&live, &change) {
            (None, None) => continue,
            (Some(live), None) => live.clone(),
            (None, Some(change)) => change.iter().cloned().filter_map(without_directives).collect(),
            (Some(live), Some(change)) if child.patch_tags().merge => {
                merge_list(live.clone(), change.clone(), child, false)?
            }
            (Some(_), Some(change)) => change.clone(),
        };
        of_maps(live.as_deref().unwrap_or_default(), change.as_deref().unwrap_or_default())?;
        let change = change.unwrap_or_default();
        let server = server_order(live.unwrap_or_default(), &change, &merged, merge_key);
        let arranged = arrange_checked(merged, &order, &server, merge_key)?;
        original.insert(key, Value::Array(arranged));
        patch.remove(key);
    }
    Ok(())
}

/// The object's order that the merged list is held against. Upstream deletes and appends in the list's own memory, so
/// that what the patch adds stands at the end of this order, as far as deletions made room.
fn server_order(live: Vec<Value>, change: &[Value], merged: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    if merge_key.is_none() {
        return live;
    }
    let (room, known, kept) = (live.len(), keys_of(&live, merge_key), keys_of(merged, merge_key));
    let mut order: Vec<Value> = live.into_iter().filter(|item| kept.contains_key(&item_key(item, merge_key))).collect();
    let added = change.iter().filter(|item| item.get(DIRECTIVE).is_none());
    let added = added.filter(|item| !known.contains_key(&item_key(item, merge_key)));
    order.extend(added.take(room - order.len()).cloned());
    order
}

fn list(value: Value) -> Result<Vec<Value>, PatchError> {
    let name = match &value {
        Value::Array(_) => "",
        Value::Null => "%!s(<nil>)",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::Object(_) => "map[string]interface {}",
    };
    match value {
        Value::Array(items) => Ok(items),
        _ => Err(PatchError::Failed(format!("expected a []interface {{}}, but received a {name}"))),
    }
}

/// The patch's items must stand in the order list, in the same order; deletions need not.
fn check_order(patch: &[Value], order: &[Value], merge_key: Option<&str>) -> Result<(), PatchError> {
    if patch.is_empty() || order.is_empty() {
        return Ok(());
    }
    let deleted = |item: &&Value| merge_key.is_some() && item.get(DIRECTIVE).and_then(Value::as_str) == Some("delete");
    let mut wanted = patch.iter().filter(|item| !deleted(item)).peekable();
    let mut places = order.iter();
    while let (Some(item), false) = (wanted.peek(), places.as_slice().is_empty()) {
        if item.get(DIRECTIVE).is_some() {
            wanted.next();
            continue;
        }
        let Some(place) = places.next() else { break };
        if let Some(name) = merge_key {
            for side in [*item, place] {
                if side.get(name).is_none() {
                    return Err(no_merge_key(side, name));
                }
            }
        }
        if item_key(item, merge_key) == item_key(place, merge_key) {
            wanted.next();
        }
    }
    if wanted.peek().is_none() {
        return Ok(());
    }
    Err(PatchError::Failed(format!(
        "The order in patch list:\n{}\n doesn't match {SET_ORDER} list:\n{}\n",
        go_list(patch),
        go_list(order)
    )))
}

fn arrange_checked(
    merged: Vec<Value>,
    order: &[Value],
    server: &[Value],
    merge_key: Option<&str>,
) -> Result<Vec<Value>, PatchError> {
    match merge_key {
        None => Ok(arrange(merged, order, server, None)),
        Some(name) => {
            key_order(&merged, name)?;
            Ok(arrange_by(merged, &key_order(order, name)?, &key_order(server, name)?, merge_key))
        }
    }
}

/// Puts the items of a merged list into the order of `patch`, those that are not in it into the order of `server`.
pub(super) fn arrange(merged: Vec<Value>, patch: &[Value], server: &[Value], merge_key: Option<&str>) -> Vec<Value> {
    arrange_by(merged, &keys_of(patch, merge_key), &keys_of(server, merge_key), merge_key)
}

pub(super) fn arrange_by(
    merged: Vec<Value>,
    patch: &HashMap<String, usize>,
    server: &HashMap<String, usize>,
    merge_key: Option<&str>,
) -> Vec<Value> {
    let keyed = merged.into_iter().map(|item| (item_key(&item, merge_key), item));
    let (mut ours, mut theirs): (Vec<_>, Vec<_>) = keyed.partition(|(key, _)| patch.contains_key(key));
    ours.sort_by_key(|(key, _)| patch.get(key).copied());
    theirs.sort_by_key(|(key, _)| server.get(key).copied().unwrap_or(usize::MAX));
    let mut arranged = Vec::with_capacity(ours.len() + theirs.len());
    let mut theirs = theirs.into_iter().peekable();
    for (key, item) in ours {
        // An item of the object alone goes before the first of the patch's that stands behind it in the object.
        while let (Some(left), Some(right)) = (theirs.peek().and_then(|(key, _)| server.get(key)), server.get(&key)) {
            if left >= right {
                break;
            }
            arranged.extend(theirs.next().map(|(_, item)| item));
        }
        arranged.push(item);
    }
    arranged.extend(theirs.map(|(_, item)| item));
    arranged
}
