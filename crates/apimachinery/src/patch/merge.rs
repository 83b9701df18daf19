//! JSON merge patch (RFC 7386), with upstream's one habit beside it: nulls in what replaces a whole value are left out,
//! but null items of lists stay.

use super::{PatchError, json_type};
use crate::value::{Map, Value};

/// Applies a patch to an object.
pub fn apply(object: &mut Value, patch: Value) -> Result<(), PatchError> {
    let fields = match patch {
        Value::Object(fields) => fields,
        Value::Null => return Err(PatchError::Malformed("Invalid JSON Patch".to_owned())),
        other => {
            let text = format!(
                "error decoding patch: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
                json_type(&other)
            );
            return Err(PatchError::Malformed(text));
        }
    };
    if !matches!(object, Value::Object(_)) {
        *object = Value::object();
    }
    if let Value::Object(map) = object {
        merge(map, fields);
    }
    Ok(())
}

fn merge(map: &mut Map, patch: Map) {
    for (key, mut value) in patch {
        if value.is_null() {
            map.remove(&key);
            continue;
        }
        match (map.get_mut(&key), value) {
            (Some(Value::Object(current)), Value::Object(fields)) => merge(current, fields),
            (Some(current @ Value::Object(_)), other) => *current = other,
            (_, other) => {
                value = other;
                prune_nulls(&mut value);
                map.insert(key, value);
            }
        }
    }
}

fn prune_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, field| !field.is_null());
            map.iter_mut().for_each(|(_, field)| prune_nulls(field));
        }
        Value::Array(items) => items.iter_mut().for_each(prune_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn check(object: &str, patch: &str, expect: &str) {
        let mut value = json::parse(object.as_bytes()).unwrap().value;
        apply(&mut value, json::parse(patch.as_bytes()).unwrap().value).unwrap();
        assert_eq!(json::to_string(&value), expect, "{object} {patch}");
    }

    #[test]
    fn merges() {
        check(r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#);
        check(r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#);
        check(r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#);
        check(r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#);
        check(r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#);
        check(r#"{"a":{"b":"c"}}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#);
        check(r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#);
        check(r#"{"a":"foo"}"#, r#"{"a":{"b":{"c":null},"d":[null,{"e":null}]}}"#, r#"{"a":{"b":{},"d":[null,{}]}}"#);
        check(r"{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#);
    }

    #[test]
    fn refuses_other_bodies() {
        let refusal = |patch| apply(&mut Value::object(), patch).unwrap_err();
        assert_eq!(refusal(Value::Null), PatchError::Malformed("Invalid JSON Patch".to_owned()));
        assert_eq!(
            refusal(Value::Array(Vec::new())).to_string(),
            "error decoding patch: json: cannot unmarshal array into Go value of type map[string]interface {}"
        );
    }
}
