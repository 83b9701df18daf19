//! Walks over objects beside their schema: which fields an object has, how two differ, what one makes of another. Maps
//! are merged unless they are atomic, lists by their kind; what the schema leaves open is judged by the value.

use std::collections::{BTreeMap, BTreeSet};

use super::path::{PathElement, Scalar};
use super::set::FieldSet;
use crate::schema::{ListKind, Node, Shape};
use crate::value::{Map, Str, Value};

/// What two objects differ in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

/// How one position is walked; `Any` is an open position that holds null.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Map,
    List,
    Scalar,
    Any,
}

fn form(value: &Value, node: Node<'_>) -> Form {
    match (node.shape(), value) {
        (Some(Shape::Map), _) | (None, Value::Object(_)) => Form::Map,
        (Some(Shape::List), _) | (None, Value::Array(_)) => Form::List,
        (None, Value::Null) => Form::Any,
        (Some(Shape::Scalar), _) | (None, _) => Form::Scalar,
    }
}

/// The forms under which two values are walked: one if they agree, both if an open position changed its kind.
fn forms(left: Option<&Value>, right: Option<&Value>, node: Node<'_>) -> (Option<Form>, Form) {
    match (left, right) {
        (Some(left), None) => (None, form(left, node)),
        (None, Some(right)) => (None, form(right, node)),
        (Some(left), Some(right)) => {
            let (before, after) = (form(left, node), form(right, node));
            (Some(before).filter(|before| *before != after), after)
        }
        (None, None) => (None, Form::Any),
    }
}

/// What tells an item of a list apart. `None`: it lacks its keys, or is of a kind that has none; nobody can own it.
pub(super) fn element_of(item: &Value, kind: ListKind<'_>, node: Node<'_>) -> Option<PathElement> {
    match kind {
        ListKind::Atomic => None,
        ListKind::Set => Scalar::new(item).map(PathElement::Value),
        ListKind::Map(names) => {
            let fields = item.as_object()?;
            let mut keys: Vec<(Str, Scalar)> = Vec::with_capacity(names.len());
            for name in names {
                let value = fields.get(name).cloned().or_else(|| node.item().default_of(name));
                if let Some(value) = value {
                    keys.push((name.clone(), Scalar::new(&value)?));
                }
            }
            keys.sort();
            (!keys.is_empty()).then_some(PathElement::Key(keys))
        }
    }
}

fn is_empty_list(value: Option<&Value>) -> bool {
    value.and_then(Value::as_array).is_none_or(<[Value]>::is_empty)
}

fn is_empty_map(value: Option<&Value>) -> bool {
    value.and_then(Value::as_object).is_none_or(Map::is_empty)
}

/// The fields that an object has.
pub(super) fn fields_of(value: &Value, node: Node<'_>) -> FieldSet {
    let mut set = FieldSet::default();
    add_fields(value, node, &mut Vec::new(), &mut set);
    set
}

fn add_fields(value: &Value, node: Node<'_>, path: &mut Vec<PathElement>, set: &mut FieldSet) {
    match form(value, node) {
        Form::Scalar => set.insert(path),
        Form::Map | Form::Any if node.atomic_map() => set.insert(path),
        Form::List if node.list_kind() == ListKind::Atomic => set.insert(path),
        Form::Map | Form::Any => {
            for (key, field) in value.as_object().into_iter().flat_map(Map::iter) {
                path.push(PathElement::Field(key.clone()));
                add_fields(field, node.field(key), path, set);
                if field.is_null() || field.as_object().is_some_and(Map::is_empty) || !node.declares(key) {
                    set.insert(path);
                }
                path.pop();
            }
        }
        Form::List => {
            for (element, items) in group(value.as_array().unwrap_or_default(), node) {
                path.push(element);
                if let [item] = items.as_slice() {
                    add_fields(item, node.item(), path, set);
                }
                set.insert(path);
                path.pop();
            }
        }
    }
}

/// The items of a list by what tells them apart.
fn group<'a>(items: &'a [Value], node: Node<'_>) -> BTreeMap<PathElement, Vec<&'a Value>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    let kind = node.list_kind();
    for item in items {
        if let Some(element) = element_of(item, kind, node) {
            groups.entry(element).or_default().push(item);
        }
    }
    groups
}

/// What has to be added, modified and removed to get from one object to the other.
pub(super) fn compare(left: &Value, right: &Value, node: Node<'_>) -> Comparison {
    let mut comparison = Comparison::default();
    compare_at(Some(left), Some(right), node, &mut Vec::new(), &mut comparison);
    comparison
}

fn compare_at(
    left: Option<&Value>,
    right: Option<&Value>,
    node: Node<'_>,
    path: &mut Vec<PathElement>,
    comparison: &mut Comparison,
) {
    let (before, after) = forms(left, right, node);
    if let Some(before) = before {
        compare_as(before, left, right, node, path, comparison);
    }
    let leaf = compare_as(after, left, right, node, path, comparison);
    match (leaf, left, right) {
        (false, None, _) => comparison.added.insert(path),
        (false, _, None) => comparison.removed.insert(path),
        _ => {}
    }
}

/// Whether the position was compared as a whole.
fn compare_as(
    form: Form,
    left: Option<&Value>,
    right: Option<&Value>,
    node: Node<'_>,
    path: &mut Vec<PathElement>,
    comparison: &mut Comparison,
) -> bool {
    let whole = match form {
        Form::Scalar => true,
        Form::Map | Form::Any => node.atomic_map() || (is_empty_map(left) && is_empty_map(right)),
        Form::List => node.list_kind() == ListKind::Atomic || (is_empty_list(left) && is_empty_list(right)),
    };
    if whole {
        match (left, right) {
            (None, _) => comparison.added.insert(path),
            (_, None) => comparison.removed.insert(path),
            (Some(left), Some(right)) if left != right => comparison.modified.insert(path),
            _ => {}
        }
        return true;
    }
    if form == Form::List {
        compare_lists(left, right, node, path, comparison);
        return false;
    }
    let (left, right) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
    let new = right.into_iter().flat_map(Map::keys).filter(|key| !left.is_some_and(|map| map.contains_key(key)));
    for key in left.into_iter().flat_map(Map::keys).chain(new) {
        path.push(PathElement::Field(key.clone()));
        let (before, after) = (left.and_then(|map| map.get(key)), right.and_then(|map| map.get(key)));
        compare_at(before, after, node.field(key), path, comparison);
        path.pop();
    }
    false
}

/// Items that occur several times in a list are compared as one.
fn compare_lists(
    left: Option<&Value>,
    right: Option<&Value>,
    node: Node<'_>,
    path: &mut Vec<PathElement>,
    comparison: &mut Comparison,
) {
    let items = |value: Option<&Value>| value.and_then(Value::as_array).map(<[Value]>::to_vec).unwrap_or_default();
    let (left, right) = (items(left), items(right));
    let (before, mut after) = (group(&left, node), group(&right, node));
    let mut pairs: Vec<_> =
        before.into_iter().map(|(key, items)| (after.remove(&key).unwrap_or_default(), key, items)).collect();
    pairs.extend(after.into_iter().map(|(key, items)| (items, key, Vec::new())));
    for (after, element, before) in pairs {
        path.push(element);
        match (before.as_slice(), after.as_slice()) {
            ([], [new]) => compare_at(None, Some(new), node.item(), path, comparison),
            ([old], []) => compare_at(Some(old), None, node.item(), path, comparison),
            ([old], [new]) => compare_at(Some(old), Some(new), node.item(), path, comparison),
            ([_, _, ..], [_, _, ..]) => {
                if before != after {
                    comparison.modified.insert(path);
                }
            }
            ([_, _, ..], new) => {
                if let [new] = new {
                    compare_at(None, Some(new), node.item(), path, comparison);
                }
                comparison.removed.insert(path);
            }
            (old, _) => {
                if let [old] = old {
                    compare_at(Some(old), None, node.item(), path, comparison);
                }
                comparison.added.insert(path);
            }
        }
        path.pop();
    }
}

/// The object with a configuration merged in.
pub(super) fn merge(live: &Value, config: &Value, node: Node<'_>) -> Value {
    merge_at(Some(live), Some(config), node).unwrap_or_default()
}

fn merge_at(left: Option<&Value>, right: Option<&Value>, node: Node<'_>) -> Option<Value> {
    let (_, form) = forms(left, right, node);
    match form {
        Form::Scalar => right.or(left).cloned(),
        Form::Map | Form::Any if node.atomic_map() || (is_empty_map(left) && is_empty_map(right)) => {
            right.or(left).cloned()
        }
        Form::List if node.list_kind() == ListKind::Atomic || (is_empty_list(left) && is_empty_list(right)) => {
            right.or(left).cloned()
        }
        Form::List => merge_lists(left, right, node),
        Form::Map | Form::Any => {
            let (left, right) = (left.and_then(Value::as_object), right.and_then(Value::as_object));
            let new =
                right.into_iter().flat_map(Map::keys).filter(|key| !left.is_some_and(|map| map.contains_key(key)));
            let fields = left.into_iter().flat_map(Map::keys).chain(new).filter_map(|key| {
                let (before, after) = (left.and_then(|map| map.get(key)), right.and_then(|map| map.get(key)));
                Some((key.clone(), merge_at(before, after, node.field(key))?))
            });
            Some(fields.collect::<Map>()).filter(|map| !map.is_empty()).map(Value::Object)
        }
    }
}

/// Merges two lists: items of the object keep their places, those of the configuration its order.
fn merge_lists(left: Option<&Value>, right: Option<&Value>, node: Node<'_>) -> Option<Value> {
    let kind = node.list_kind();
    let keyed = |value: Option<&Value>| -> Vec<(PathElement, Value)> {
        let items = value.and_then(Value::as_array).unwrap_or_default();
        items.iter().filter_map(|item| Some((element_of(item, kind, node)?, item.clone()))).collect()
    };
    let (left, right) = (keyed(left), keyed(right));
    // An item that occurs several times in the object is not merged but replaced.
    let mut in_left: BTreeMap<&PathElement, Option<&Value>> = BTreeMap::new();
    for (element, item) in &left {
        in_left.entry(element).and_modify(|known| *known = None).or_insert(Some(item));
    }
    let in_right: BTreeMap<&PathElement, &Value> = right.iter().map(|(element, item)| (element, item)).collect();
    let mut shared =
        right.iter().map(|(element, _)| element).filter(|element| in_left.contains_key(element)).peekable();
    let mut out = Vec::with_capacity(left.len().max(right.len()));
    let (mut l, mut r) = (0, 0);
    let mut merged = BTreeSet::new();
    let join = |element: &PathElement| {
        merge_at(in_left.get(element).copied().flatten(), in_right.get(element).copied(), node.item())
    };
    while l < left.len() || r < right.len() {
        if let (Some((element, _)), Some((wanted, _))) = (left.get(l), right.get(r)) {
            if element == wanted {
                merged.insert(element);
                out.extend(join(element));
                (l, r) = (l + 1, r + 1);
                shared.next();
                continue;
            }
            if in_right.contains_key(element) && shared.peek().is_some_and(|next| *next != element) {
                // Shared, but another one comes first in the configuration.
                l += 1;
                continue;
            }
        }
        if let Some((element, item)) = left.get(l) {
            if !in_right.contains_key(element) {
                out.push(item.clone());
                l += 1;
                continue;
            }
            if merged.contains(element) {
                l += 1;
            }
        }
        if let Some((element, _)) = right.get(r) {
            merged.insert(element);
            out.extend(join(element));
            r += 1;
            if shared.peek() == Some(&element) {
                shared.next();
            }
        }
    }
    (!out.is_empty()).then_some(Value::Array(out))
}

/// The object without the members of a set. A list or map of which nothing is left becomes null.
pub(super) fn without(value: &Value, gone: &FieldSet, node: Node<'_>) -> Value {
    match form(value, node) {
        Form::Scalar => value.clone(),
        Form::Map | Form::Any => {
            if node.atomic_map() {
                return Value::Null;
            }
            let fields = value.as_object().into_iter().flat_map(Map::iter).filter_map(|(key, field)| {
                let element = PathElement::Field(key.clone());
                if gone.has_member(&element) {
                    return None;
                }
                let below = gone.below(&element);
                Some((key.clone(), below.map_or_else(|| field.clone(), |below| without(field, below, node.field(key)))))
            });
            Some(fields.collect::<Map>()).filter(|map| !map.is_empty()).map_or(Value::Null, Value::Object)
        }
        Form::List => {
            let kind = node.list_kind();
            if kind == ListKind::Atomic {
                return Value::Null;
            }
            let items = value.as_array().unwrap_or_default().iter().filter_map(|item| {
                let Some(element) = element_of(item, kind, node) else { return Some(item.clone()) };
                if gone.has_member(&element) {
                    return None;
                }
                let below = gone.below(&element);
                Some(below.map_or_else(|| item.clone(), |below| without(item, below, node.item())))
            });
            Some(items.collect::<Vec<_>>()).filter(|items| !items.is_empty()).map_or(Value::Null, Value::Array)
        }
    }
}

/// What makes a configuration no object of its kind, in upstream's words: `.spec.foo: field not declared in schema`.
pub(super) fn check(value: &Value, node: Node<'_>) -> Vec<String> {
    let mut errors = Vec::new();
    check_at(value, node, &mut Vec::new(), &mut errors);
    errors
}

fn check_at(value: &Value, node: Node<'_>, path: &mut Vec<PathElement>, errors: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    let error = |path: &[PathElement], text: String| format!("{}: {text}", super::print(path));
    match (node.shape(), value) {
        (None | Some(Shape::Map), Value::Object(map)) => {
            for (key, field) in map.iter() {
                path.push(PathElement::Field(key.clone()));
                if node.is_closed() && !node.declares(key) {
                    errors.push(error(path, "field not declared in schema".to_owned()));
                    path.pop();
                    return;
                }
                check_at(field, node.field(key), path, errors);
                path.pop();
            }
        }
        (None | Some(Shape::List), Value::Array(items)) => check_items(items, node, path, errors),
        (None, _) | (Some(Shape::Scalar), Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_)) => {
            if let Some(text) = node.wrong_scalar(value) {
                errors.push(error(path, text));
            }
        }
        (Some(Shape::Map), _) => {
            errors.push(error(path, format!("expected map, got {}", crate::json::to_string(value))));
        }
        (Some(Shape::List), _) => {
            errors.push(error(path, format!("expected list, got {}", crate::json::to_string(value))));
        }
        (Some(Shape::Scalar), _) => {
            errors.push(error(path, format!("expected any scalar, got {}", crate::json::to_string(value))));
        }
    }
}

fn check_items(items: &[Value], node: Node<'_>, path: &mut Vec<PathElement>, errors: &mut Vec<String>) {
    let kind = node.list_kind();
    let mut seen = BTreeSet::new();
    for (item, index) in items.iter().zip(0..) {
        let element = match (kind, element_of(item, kind, node)) {
            (ListKind::Atomic, _) => PathElement::Index(index),
            (_, Some(element)) => element,
            (ListKind::Map(keys), None) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("{key:?}")).collect();
                errors.push(format!(
                    "{}: element {index}: associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
                    super::print(path),
                    keys.join(" ")
                ));
                return;
            }
            (ListKind::Set, None) => {
                let text = "associative list without keys has an element that's a map type";
                errors.push(format!("{}: element {index}: {text}", super::print(path)));
                return;
            }
        };
        if !seen.insert(element.clone()) {
            errors.push(format!("{}: duplicate entries for key {element}", super::print(path)));
        }
        path.push(element);
        check_at(item, node.item(), path, errors);
        path.pop();
    }
}
