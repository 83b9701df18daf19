//! The vocabulary of printer columns: constructors, and how upstream writes the facts that many kinds show.

use corten_apimachinery::duration;
use corten_apimachinery::kind::{Cell, Column};
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Map, Value};

pub(crate) const NONE: &str = "<none>";
pub(crate) const UNSET: &str = "<unset>";
pub(crate) const UNKNOWN: &str = "<unknown>";

/// Computes a cell from the object and the time in Unix seconds.
pub(crate) type CellFn = fn(&Value, i64) -> Value;

pub(crate) fn name() -> Column {
    Column { format: "name".into(), ..column("Name", "string", Cell::Field(&["metadata", "name"])) }
}

/// The object's name, decorated.
pub(crate) fn decorated_name(cell: CellFn) -> Column {
    named("Name", cell)
}

/// A name, though perhaps not the object's.
pub(crate) fn named(name: &'static str, cell: CellFn) -> Column {
    Column { format: "name".into(), ..text(name, cell) }
}

pub(crate) fn age() -> Column {
    column("Age", "string", Cell::Age(&["metadata", "creationTimestamp"]))
}

pub(crate) fn text(name: &'static str, cell: CellFn) -> Column {
    column(name, "string", Cell::Computed(cell))
}

pub(crate) fn integer(name: &'static str, cell: CellFn) -> Column {
    column(name, "integer", Cell::Computed(cell))
}

pub(crate) fn boolean(name: &'static str, cell: CellFn) -> Column {
    column(name, "boolean", Cell::Computed(cell))
}

/// Shown by `-o wide` alone.
pub(crate) fn wide(column: Column) -> Column {
    Column { priority: 1, ..column }
}

fn column(name: &'static str, kind: &'static str, cell: Cell) -> Column {
    Column { name: name.into(), kind: kind.into(), format: "".into(), description: "".into(), priority: 0, cell }
}

/// The string at a path, or `""`.
pub(crate) fn at(object: &Value, path: &[&str]) -> Value {
    object.str_at(path).into()
}

/// The string at a path, or `otherwise` where there is none or an empty one.
pub(crate) fn at_or(object: &Value, path: &[&str], otherwise: &str) -> Value {
    match object.str_at(path) {
        "" => otherwise.into(),
        text => text.into(),
    }
}

/// The integer at a path, or 0.
pub(crate) fn int(object: &Value, path: &[&str]) -> Value {
    object.i64_at(path).unwrap_or_default().into()
}

pub(crate) fn flag(object: &Value, path: &[&str]) -> bool {
    object.at(path).and_then(Value::as_bool).unwrap_or_default()
}

/// How many entries a list or map has.
pub(crate) fn count(object: &Value, path: &[&str]) -> i64 {
    let length = match object.at(path) {
        Some(Value::Array(items)) => items.len(),
        Some(Value::Object(fields)) => fields.len(),
        _ => 0,
    };
    i64::try_from(length).expect("a length fits 63 bits")
}

/// The items of a list; none where it is absent.
pub(crate) fn list<'a>(object: &'a Value, path: &[&str]) -> &'a [Value] {
    object.at(path).and_then(Value::as_array).unwrap_or_default()
}

/// A number or a string as text.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        other => corten_apimachinery::json::to_string(other),
    }
}

/// Unix seconds of the timestamp at a path.
pub(crate) fn seconds(object: &Value, path: &[&str]) -> Option<i64> {
    parse_time(object.str_at(path))
}

/// Timestamps of either precision. The schema lets only timestamps through; anything else counts as unset.
fn parse_time(text: &str) -> Option<i64> {
    match Time::parse(text) {
        Ok(time) if !time.is_zero() => Some(time.seconds),
        Ok(_) | Err(_) => None,
    }
}

/// The age of the timestamp at a path.
pub(crate) fn since(object: &Value, path: &[&str], now: i64) -> String {
    seconds(object, path).map_or_else(|| UNKNOWN.to_owned(), |time| duration::human(now - time).into())
}

/// `a=b,c=d` by key.
pub(crate) fn labels(map: Option<&Map>) -> String {
    let mut pairs: Vec<(&str, &str)> =
        map.into_iter().flat_map(Map::iter).map(|(key, value)| (&**key, value.as_str().unwrap_or_default())).collect();
    pairs.sort_unstable();
    match pairs.as_slice() {
        [] => NONE.to_owned(),
        pairs => pairs.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(","),
    }
}

/// A label selector as one writes it on a command line.
pub(crate) fn selector(selector: Option<&Value>) -> String {
    match selector_text(selector) {
        Some(text) if text.is_empty() => NONE.to_owned(),
        Some(text) => text,
        None => "<error>".to_owned(),
    }
}

/// As [`selector`], but empty where it selects everything; `None` for an operator that does not exist.
pub(crate) fn selector_text(selector: Option<&Value>) -> Option<String> {
    let Some(selector) = selector else { return Some(String::new()) };
    let labels = selector.get("matchLabels").and_then(Value::as_object);
    let mut parts: Vec<(String, String)> = labels
        .into_iter()
        .flat_map(Map::iter)
        .map(|(key, value)| (key.to_string(), format!("{key}={}", value.as_str().unwrap_or_default())))
        .collect();
    for expression in list(selector, &["matchExpressions"]) {
        parts.push((expression.str_at(&["key"]).to_owned(), requirement(expression)?));
    }
    parts.sort_by(|a, b| a.0.cmp(&b.0));
    Some(parts.into_iter().map(|(_, text)| text).collect::<Vec<_>>().join(","))
}

fn requirement(expression: &Value) -> Option<String> {
    let key = expression.str_at(&["key"]);
    let mut values: Vec<&str> = list(expression, &["values"]).iter().filter_map(Value::as_str).collect();
    values.sort_unstable();
    let values = values.join(",");
    match expression.str_at(&["operator"]) {
        "In" => Some(format!("{key} in ({values})")),
        "NotIn" => Some(format!("{key} notin ({values})")),
        "Exists" => Some(key.to_owned()),
        "DoesNotExist" => Some(format!("!{key}")),
        _ => None,
    }
}

/// One field of every container, joined by commas.
pub(crate) fn containers(spec: Option<&Value>, field: &str) -> Value {
    let containers = spec.map(|spec| list(spec, &["containers"])).unwrap_or_default();
    containers.iter().map(|container| container.str_at(&[field])).collect::<Vec<_>>().join(",").into()
}

/// The first three of many, and how many there are besides.
pub(crate) fn first_three(items: &[String]) -> String {
    match items.split_at_checked(3) {
        Some((first, rest)) if !rest.is_empty() => format!("{} + {} more...", first.join(","), rest.len()),
        _ => items.join(","),
    }
}

/// The condition of a type.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    list(object, &["status", "conditions"]).iter().find(|condition| condition.str_at(&["type"]) == kind)
}

pub(crate) fn condition_is_true(object: &Value, kind: &str) -> bool {
    condition(object, kind).is_some_and(|condition| condition.str_at(&["status"]) == "True")
}

pub(crate) fn deleting(object: &Value) -> bool {
    !object.str_at(&["metadata", "deletionTimestamp"]).is_empty()
}

#[cfg(test)]
pub(crate) mod testing {
    use corten_apimachinery::kind::Cell;
    use corten_apimachinery::value::Value;

    /// 2026-01-01T01:00:00Z: an hour after the timestamps in the tests.
    pub(crate) const NOW: i64 = 1_767_229_200;

    /// Compares the cells between name and age that a kind computes for an object.
    pub(crate) fn check(group: &str, kind: &str, object: &Value, expect: &[&str]) {
        let mut entries = crate::kinds::ALL.iter().copied().flatten();
        let rules = entries.find(|rules| rules.group == group && rules.kind == kind).expect("a kind with rules");
        let cells: Vec<String> = (rules.columns)()
            .iter()
            .filter_map(|column| match &column.cell {
                Cell::Computed(cell) => Some(super::plain(&cell(object, NOW))),
                _ => None,
            })
            .collect();
        assert_eq!(cells, expect, "{kind}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use corten_apimachinery::value;

    #[test]
    fn selectors() {
        let both = value!({
            "matchLabels": {"b": "1", "a": "2"},
            "matchExpressions": [
                {"key": "c", "operator": "NotIn", "values": ["y", "x"]},
                {"key": "aa", "operator": "Exists"},
                {"key": "d", "operator": "DoesNotExist"}
            ]
        });
        assert_eq!(selector(Some(&both)), "a=2,aa,b=1,c notin (x,y),!d");
        assert_eq!(selector(Some(&value!({}))), NONE);
        assert_eq!(selector(None), NONE);
        assert_eq!(selector(Some(&value!({"matchExpressions": [{"key": "a", "operator": "Near"}]}))), "<error>");
    }

    #[test]
    fn long_lists_are_cut() {
        let items: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
        assert_eq!(first_three(&items), "a,b,c + 2 more...");
        assert_eq!(first_three(&items[..3]), "a,b,c");
        assert_eq!(first_three(&[]), "");
    }

    #[test]
    fn ages() {
        let object = value!({"a": "2026-01-01T00:00:00Z", "b": "2026-01-01T00:30:00.000000Z"});
        assert_eq!(since(&object, &["a"], testing::NOW), "60m");
        assert_eq!(since(&object, &["b"], testing::NOW), "30m");
        assert_eq!(since(&object, &["c"], testing::NOW), UNKNOWN);
    }
}
