//! JSON patch (RFC 6902) as `evanphx/json-patch` 4 applies it: indexes may be negative, `replace` also adds, null and
//! absent are one for `test`.

use super::{PatchError, json_type};
use crate::json;
use crate::value::{Map, Str, Value};

/// Operations of one patch.
pub const OPERATIONS_MAX: usize = 10_000;
/// Bytes of JSON that the `copy` operations of one patch may add.
pub const COPIED_BYTES_MAX: usize = 3 * 1024 * 1024;

/// A decoded patch.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPatch {
    operations: Vec<Operation>,
    /// Fields that no operation has, as upstream's strict decoder names them: `unknown field "[0].foo"`.
    pub unknown: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
struct Operation {
    op: Str,
    path: Option<Str>,
    from: Option<Str>,
    value: Option<Value>,
}

impl JsonPatch {
    /// Takes a body apart; the operations themselves are checked when they are applied.
    pub fn decode(body: Value) -> Result<Self, PatchError> {
        let items = match body {
            Value::Array(items) => items,
            Value::Null => Vec::new(),
            other => return Err(mismatch(&other, "Go value of type []handlers.jsonPatchOp")),
        };
        if items.len() > OPERATIONS_MAX {
            return Err(PatchError::TooManyOperations(items.len()));
        }
        let mut patch = Self { operations: Vec::with_capacity(items.len()), unknown: Vec::new() };
        for (index, item) in items.into_iter().enumerate() {
            let Value::Object(fields) = item else {
                return Err(mismatch(&item, "Go value of type handlers.jsonPatchOp"));
            };
            let operation = Operation::decode(fields, index, &mut patch.unknown)?;
            patch.operations.push(operation);
        }
        Ok(patch)
    }

    /// Applies all operations, or none of them if one fails.
    pub fn apply(&self, object: &Value) -> Result<Value, PatchError> {
        let mut document = object.clone();
        let mut copied = 0;
        for operation in &self.operations {
            operation.apply(&mut document, &mut copied).map_err(PatchError::Unprocessable)?;
        }
        Ok(document)
    }
}

fn mismatch(value: &Value, wanted: &str) -> PatchError {
    PatchError::Malformed(format!("error decoding patch: json: cannot unmarshal {} into {wanted}", json_type(value)))
}

impl Operation {
    fn decode(fields: Map, index: usize, unknown: &mut Vec<String>) -> Result<Self, PatchError> {
        let mut operation = Self { op: "unknown".into(), path: None, from: None, value: None };
        for (key, value) in fields {
            let text = |value: Value| match value {
                Value::String(text) => Ok(Some(text)),
                Value::Null => Ok(None),
                other => Err(mismatch(&other, &format!("Go struct field jsonPatchOp.{key} of type string"))),
            };
            match key.as_str() {
                "op" => operation.op = text(value)?.unwrap_or_else(|| "unknown".into()),
                "path" => operation.path = text(value)?,
                "from" => operation.from = text(value)?,
                "value" => operation.value = Some(value),
                _ => unknown.push(format!("unknown field \"[{index}].{key}\"")),
            }
        }
        Ok(operation)
    }

    fn apply(&self, document: &mut Value, copied: &mut usize) -> Result<(), String> {
        let path = self.path.as_deref().ok_or_else(|| format!("{} operation failed to decode path", self.op));
        let from = self.from.as_deref().ok_or_else(|| format!("{} operation failed to decode from", self.op));
        match self.op.as_str() {
            "add" => add(document, path?, self.value()),
            "remove" => remove(document, path?).map(|_| ()),
            "replace" => replace(document, path?, self.value()),
            "move" => {
                let value = remove(document, from?)?;
                add(document, path?, value)
            }
            "test" => self.test(document, path?),
            "copy" => copy(document, from?, path?, copied),
            other => Err(format!("Unexpected kind: {other}")),
        }
    }

    fn value(&self) -> Value {
        self.value.clone().unwrap_or_default()
    }

    fn test(&self, document: &mut Value, path: &str) -> Result<(), String> {
        let wanted = self.value.as_ref().unwrap_or(&Value::Null);
        let found = if path.is_empty() { document.clone() } else { get(document, path)? };
        if found == *wanted { Ok(()) } else { Err(format!("testing value {path} failed: test failed")) }
    }
}

fn add(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let (container, key) = container(document, path)?;
    match container {
        Container::Map(map) => {
            map.insert(key, value);
        }
        Container::List(items) if key == "-" => items.push(value),
        Container::List(items) => {
            let at = position(&key, items.len() + 1)?;
            items.insert(at, value);
        }
    }
    Ok(())
}

fn remove(document: &mut Value, path: &str) -> Result<Value, String> {
    let (container, key) = container(document, path)?;
    match container {
        Container::Map(map) => map.remove(&key).ok_or_else(|| format!("Unable to remove nonexistent key: {key}")),
        Container::List(items) => {
            let at = position(&key, items.len())?;
            Ok(items.remove(at))
        }
    }
}

fn replace(document: &mut Value, path: &str, value: Value) -> Result<(), String> {
    if path.is_empty() {
        if !matches!(value, Value::Object(_) | Value::Array(_)) {
            return Err("replace operation value must be object or array".to_owned());
        }
        *document = value;
        return Ok(());
    }
    let (container, key) = container(document, path)?;
    match container {
        Container::Map(map) => {
            map.insert(key, value);
        }
        Container::List(items) => {
            let at = position(&key, items.len())?;
            items[at] = value;
        }
    }
    Ok(())
}

fn copy(document: &mut Value, from: &str, path: &str, copied: &mut usize) -> Result<(), String> {
    let value = get(document, from)?;
    *copied += json::to_vec(&value).len();
    if *copied > COPIED_BYTES_MAX {
        return Err(format!(
            "Unable to complete the copy, the accumulated size increase of copy is {copied}, exceeding the limit {COPIED_BYTES_MAX}"
        ));
    }
    add(document, path, value)
}

/// The value at a path; null where an object has no such field.
fn get(document: &mut Value, path: &str) -> Result<Value, String> {
    let (container, key) = container(document, path)?;
    match container {
        Container::Map(map) => Ok(map.get(&key).cloned().unwrap_or_default()),
        Container::List(items) => Ok(items[position(&key, items.len())?].clone()),
    }
}

enum Container<'a> {
    Map(&'a mut Map),
    List(&'a mut Vec<Value>),
}

/// What holds the value that a path names, and the value's key in it.
fn container<'a>(document: &'a mut Value, path: &str) -> Result<(Container<'a>, String), String> {
    let missing = || format!("doc is missing path: {path:?}: missing value");
    let mut tokens: Vec<String> = path.split('/').skip(1).map(unescape).collect();
    let key = tokens.pop().ok_or_else(missing)?;
    let mut value = document;
    for token in tokens {
        value = match value {
            Value::Object(map) => map.get_mut(&token).ok_or_else(missing)?,
            Value::Array(items) => {
                let at = position(&token, items.len()).map_err(|_| missing())?;
                &mut items[at]
            }
            _ => return Err(missing()),
        };
    }
    match value {
        Value::Object(map) => Ok((Container::Map(map), key)),
        Value::Array(items) => Ok((Container::List(items), key)),
        _ => Err(missing()),
    }
}

fn unescape(token: &str) -> String {
    token.replace("~1", "/").replace("~0", "~")
}

/// An index below `length`; negative ones count from the end.
fn position(key: &str, length: usize) -> Result<usize, String> {
    let index: i64 = key.parse().map_err(|_| format!("value was not a proper array index: '{key}'"))?;
    let invalid = || format!("Unable to access invalid index: {index}: invalid index referenced");
    let at =
        if index < 0 { i64::try_from(length).ok().and_then(|length| index.checked_add(length)) } else { Some(index) };
    at.and_then(|at| usize::try_from(at).ok()).filter(|at| *at < length).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apply(object: &str, patch: &str) -> Result<String, PatchError> {
        let object = json::parse(object.as_bytes()).unwrap().value;
        let patch = JsonPatch::decode(json::parse(patch.as_bytes()).unwrap().value)?;
        Ok(json::to_string(&patch.apply(&object)?))
    }

    #[test]
    fn applies() {
        for (object, patch, expect) in [
            (r#"{"a":1}"#, r#"[{"op":"add","path":"/b","value":2}]"#, r#"{"a":1,"b":2}"#),
            (
                r#"{"a":[1,3]}"#,
                r#"[{"op":"add","path":"/a/1","value":2},{"op":"add","path":"/a/-","value":4}]"#,
                r#"{"a":[1,2,3,4]}"#,
            ),
            (r#"{"a":[1,2,3]}"#, r#"[{"op":"remove","path":"/a/-1"}]"#, r#"{"a":[1,2]}"#),
            (r#"{"a":[1]}"#, r#"[{"op":"add","path":"/a/-1","value":2}]"#, r#"{"a":[1,2]}"#),
            (r#"{"a~b":{"c/d":1}}"#, r#"[{"op":"replace","path":"/a~0b/c~1d","value":2}]"#, r#"{"a~b":{"c/d":2}}"#),
            (r#"{"a":1}"#, r#"[{"op":"replace","path":"/new","value":2}]"#, r#"{"a":1,"new":2}"#),
            (r#"{"a":{"b":1},"c":{}}"#, r#"[{"op":"move","from":"/a/b","path":"/c/d"}]"#, r#"{"a":{},"c":{"d":1}}"#),
            (
                r#"{"a":[1,2]}"#,
                r#"[{"op":"copy","from":"/a","path":"/b"},{"op":"remove","path":"/a/0"}]"#,
                r#"{"a":[2],"b":[1,2]}"#,
            ),
            (
                r#"{"a":{"x":[1,{"y":null}]}}"#,
                r#"[{"op":"test","path":"/a","value":{"x":[1,{"y":null}]}},{"op":"test","path":"/none","value":null}]"#,
                r#"{"a":{"x":[1,{"y":null}]}}"#,
            ),
            (r#"{"a":1}"#, r#"[{"op":"replace","path":"","value":{"b":1}}]"#, r#"{"b":1}"#),
            (
                r#"{"a":1}"#,
                r#"[{"op":"test","path":"","value":{"a":1}},{"op":"copy","from":"/none","path":"/b"}]"#,
                r#"{"a":1,"b":null}"#,
            ),
            (r#"{"a":1}"#, "[]", r#"{"a":1}"#),
        ] {
            assert_eq!(apply(object, patch).unwrap(), expect, "{patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_422() {
        for patch in [
            r#"[{"op":"test","path":"/a","value":2}]"#,
            r#"[{"op":"test","path":"/l/0","value":1.0}]"#,
            r#"[{"op":"remove","path":"/none"}]"#,
            r#"[{"op":"add","path":"/none/b","value":1}]"#,
            r#"[{"op":"add","path":"/a/b","value":1}]"#,
            r#"[{"op":"add","path":"/l/3","value":1}]"#,
            r#"[{"op":"replace","path":"/l/2","value":1}]"#,
            r#"[{"op":"remove","path":"/l/x"}]"#,
            r#"[{"op":"remove","path":"/l/-3"}]"#,
            r#"[{"op":"move","from":"/none","path":"/b"}]"#,
            r#"[{"op":"copy","from":"/l/9","path":"/b"}]"#,
            r#"[{"op":"add","path":"","value":{}}]"#,
            r#"[{"op":"add","value":{}}]"#,
            r#"[{"op":"move","path":"/b"}]"#,
            r#"[{"op":"swap","path":"/a"}]"#,
            r#"[{"path":"/a"}]"#,
        ] {
            let error = apply(r#"{"a":1,"l":[1,2]}"#, patch).unwrap_err();
            assert!(matches!(error, PatchError::Unprocessable(_)), "{patch}: {error:?}");
            let status = error.to_status();
            assert_eq!((status.code, status.reason), (422, "Invalid"));
            assert_eq!(status.message, "the server rejected our request due to an error in our request");
        }
    }

    #[test]
    fn limits_and_malformed_bodies() {
        let many = Value::Array(vec![Value::object(); OPERATIONS_MAX + 1]);
        let status = JsonPatch::decode(many).unwrap_err().to_status();
        assert_eq!(status.message, "The allowed maximum operations in a JSON patch is 10000, got 10001");
        assert_eq!(status.code, 413);
        let doubling = format!("[{}]", vec![r#"{"op":"copy","from":"/a","path":"/a/-"}"#; 30].join(","));
        let error = apply(r#"{"a":["0123456789"]}"#, &doubling).unwrap_err();
        assert!(error.to_string().contains("exceeding the limit 3145728"), "{error}");
        assert_eq!(
            apply("{}", "{}").unwrap_err().to_status().message,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp"
        );
        assert!(matches!(apply("{}", "[1]"), Err(PatchError::Malformed(_))));
        assert!(matches!(apply("{}", r#"[{"op":1}]"#), Err(PatchError::Malformed(_))));
        let patch = JsonPatch::decode(json::parse(br#"[{"op":"test","path":"","vlaue":1}]"#).unwrap().value).unwrap();
        assert_eq!(patch.unknown, ["unknown field \"[0].vlaue\""]);
    }
}
