//! Checks a value against a structural schema's rules. Texts are those of kube-openapi's validator, which upstream's
//! API server prints for custom resources.

use super::number::{as_f64, go_float, is_integer};
use super::{Additional, Bound, Structural, format};
use crate::field::{FieldErrorKind, FieldErrors, FieldPath};
use crate::value::{Map, Value};

/// Checks a value. `path` is where it stands.
pub(super) fn check(value: &Value, schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) {
    if !right_type(value, schema, path, errors) {
        return;
    }
    combinations(value, schema, path, errors);
    enumeration(value, schema, path, errors);
    match value {
        Value::String(text) => string(text, schema, path, errors),
        Value::Int(_) | Value::Float(_) => number(value, schema, path, errors),
        Value::Array(items) => array(items, schema, path, errors),
        Value::Object(map) => object(map, schema, path, errors),
        Value::Null | Value::Bool(_) => {}
    }
}

/// Lists that are sets or maps hold each item once. Walks the whole value.
pub(super) fn check_lists(value: &Value, schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) {
    match value {
        Value::Object(map) => {
            for (name, value) in map.iter() {
                match (schema.properties.get(name), &schema.additional) {
                    (Some(property), _) => check_lists(value, property, &path.child(name), errors),
                    (None, Additional::Schema(additional)) => check_lists(value, additional, &path.key(name), errors),
                    (None, Additional::None | Additional::Any) => {}
                }
            }
        }
        Value::Array(items) => {
            match schema.list_type.as_str() {
                "set" => duplicates(items, path, errors, Clone::clone),
                "map" => duplicates(items, path, errors, |item| keys_of(item, schema)),
                _ => {}
            }
            let Some(item_schema) = &schema.items else { return };
            for (index, item) in items.iter().enumerate() {
                check_lists(item, item_schema, &path.index(index), errors);
            }
        }
        _ => {}
    }
}

/// Reports each duplicate once, at the place where it is met the second time.
fn duplicates(items: &[Value], path: &FieldPath, errors: &mut FieldErrors, identity: impl Fn(&Value) -> Value) {
    let mut seen: std::collections::HashMap<String, usize> = std::collections::HashMap::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let identity = identity(item);
        let times = seen.entry(crate::json::to_string(&identity)).or_default();
        *times += 1;
        if *times == 2 {
            errors.duplicate(&path.index(index), identity);
        }
    }
}

fn keys_of(item: &Value, schema: &Structural) -> Value {
    let key = |name: &crate::value::Str| Some((name.clone(), item.get(name)?.clone()));
    Value::Object(schema.list_keys.iter().filter_map(key).collect())
}

fn right_type(value: &Value, schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) -> bool {
    let expected = if schema.int_or_string { "integer,string" } else { schema.kind.as_str() };
    if value.is_null() {
        if schema.nullable || expected.is_empty() {
            return true;
        }
        type_error("null", expected, path, errors);
        return false;
    }
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Int(_) => "integer",
        Value::Float(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let fits = expected.is_empty()
        || expected.split(',').any(|kind| {
            kind == actual || (kind == "integer" && is_integer(value)) || (kind == "number" && actual == "integer")
        });
    if !fits {
        type_error(actual, expected, path, errors);
    }
    fits
}

fn type_error(actual: &str, expected: &str, path: &FieldPath, errors: &mut FieldErrors) {
    let detail = format!("{} in body must be of type {expected}: {actual:?}", path.as_str());
    errors.push(FieldErrorKind::TypeInvalid, path, actual, detail);
}

fn enumeration(value: &Value, schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(allowed) = &schema.rules.enumeration else { return };
    if value.is_null() && schema.nullable || allowed.contains(value) {
        return;
    }
    let texts: Vec<String> = allowed
        .iter()
        .map(|value| value.as_str().map_or_else(|| crate::json::to_string(value), str::to_owned))
        .collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    errors.not_supported(path, value.clone(), &texts);
}

fn string(text: &str, schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) {
    let rules = &schema.rules;
    let length = text.chars().count() as u64;
    let at = path.as_str();
    if let Some(max) = rules.length_max.filter(|max| length > *max) {
        errors.too_long(path, usize::try_from(max).unwrap_or(usize::MAX));
    }
    if let Some(min) = rules.length_min.filter(|min| length < *min) {
        errors.invalid(path, text, format!("{at} in body should be at least {min} chars long"));
    }
    if let Some(pattern) = rules.pattern.as_ref().filter(|pattern| !pattern.is_match(text)) {
        errors.invalid(path, text, format!("{at} in body should match '{pattern}'"));
    }
    if !format::matches(&rules.format, text) {
        let detail = format!("{at} in body must be of type {}: {}", rules.format, crate::field::go_quoted(text));
        errors.push(FieldErrorKind::TypeInvalid, path, text, detail);
    }
}

fn number(value: &Value, schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) {
    let Some(number) = as_f64(value) else { return };
    let rules = &schema.rules;
    let at = path.as_str();
    let mut outside = |bound: Bound, word: &str| {
        let than = if bound.exclusive { format!("{word} than") } else { format!("{word} than or equal to") };
        errors.invalid(path, value.clone(), format!("{at} in body should be {than} {}", go_float(bound.value)));
    };
    if let Some(max) = rules.maximum.filter(|max| number > max.value || (max.exclusive && number == max.value)) {
        outside(max, "less");
    }
    if let Some(min) = rules.minimum.filter(|min| number < min.value || (min.exclusive && number == min.value)) {
        outside(min, "greater");
    }
    if let Some(factor) = rules.multiple_of.filter(|factor| (number / factor).fract() != 0.0) {
        errors.invalid(path, value.clone(), format!("{at} in body should be a multiple of {}", go_float(factor)));
    }
}

fn array(items: &[Value], schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) {
    let rules = &schema.rules;
    if let Some(item_schema) = &schema.items {
        for (index, item) in items.iter().enumerate() {
            check(item, item_schema, &path.index(index), errors);
        }
    }
    let count = items.len() as u64;
    let at = path.as_str();
    if let Some(min) = rules.items_min.filter(|min| count < *min) {
        errors.invalid(path, as_int(count), format!("{at} in body should have at least {min} items"));
    }
    if let Some(max) = rules.items_max.filter(|max| count > *max) {
        errors.too_many(path, items.len(), usize::try_from(max).unwrap_or(usize::MAX));
    }
    if rules.unique_items && (1..items.len()).any(|index| items[..index].contains(&items[index])) {
        errors.invalid(path, "", format!("{at} in body shouldn't contain duplicates"));
    }
}

fn object(map: &Map, schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) {
    let rules = &schema.rules;
    let count = map.len() as u64;
    let at = path.as_str();
    if let Some(min) = rules.properties_min.filter(|min| count < *min) {
        errors.invalid(path, as_int(count), format!("{at} in body should have at least {min} properties"));
    }
    if let Some(max) = rules.properties_max.filter(|max| count > *max) {
        errors.too_many(path, map.len(), usize::try_from(max).unwrap_or(usize::MAX));
    }
    for (name, value) in map.iter() {
        if let Some(field) = schema.field(name) {
            check(value, field, &path.child(name), errors);
        }
    }
    for name in rules.required.iter().filter(|name| !map.contains_key(name)) {
        errors.required(&path.child(name), "");
    }
}

fn as_int(count: u64) -> Value {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn combinations(value: &Value, schema: &Structural, path: &FieldPath, errors: &mut FieldErrors) {
    let rules = &schema.rules;
    let at = crate::field::go_quoted(path.as_str());
    let mut refuse = |detail: String| errors.invalid(&FieldPath::root(), "", detail);
    if !rules.any_of.is_empty() {
        let results = each(&rules.any_of, value, path);
        if !results.iter().any(FieldErrors::is_empty) {
            refuse(format!("{at} must validate at least one schema (anyOf)"));
            errors.extend(closest(results));
        }
    }
    let mut refuse = |detail: String| errors.invalid(&FieldPath::root(), "", detail);
    if !rules.one_of.is_empty() {
        let results = each(&rules.one_of, value, path);
        match results.iter().filter(|result| result.is_empty()).count() {
            1 => {}
            0 => {
                refuse(format!("{at} must validate one and only one schema (oneOf). Found none valid"));
                errors.extend(closest(results));
            }
            many => {
                refuse(format!("{at} must validate one and only one schema (oneOf). Found {many} valid alternatives"))
            }
        }
    }
    if !rules.all_of.is_empty() {
        let results = each(&rules.all_of, value, path);
        let valid = results.iter().filter(|result| result.is_empty()).count();
        let all = results.len();
        results.into_iter().for_each(|result| errors.extend(result));
        if valid != all {
            let none = if valid == 0 { ". None validated" } else { "" };
            errors.invalid(&FieldPath::root(), "", format!("{at} must validate all the schemas (allOf){none}"));
        }
    }
    if rules.not.as_deref().is_some_and(|not| passes(value, not, path)) {
        errors.invalid(&FieldPath::root(), "", format!("{at} must not validate the schema (not)"));
    }
}

fn each(schemas: &[Structural], value: &Value, path: &FieldPath) -> Vec<FieldErrors> {
    let result = |schema| {
        let mut errors = FieldErrors::default();
        check(value, schema, path, &mut errors);
        errors
    };
    schemas.iter().map(result).collect()
}

fn passes(value: &Value, schema: &Structural, path: &FieldPath) -> bool {
    let mut errors = FieldErrors::default();
    check(value, schema, path, &mut errors);
    errors.is_empty()
}

/// The alternative that was missed by least; the first of equals.
fn closest(results: Vec<FieldErrors>) -> FieldErrors {
    results.into_iter().min_by_key(|errors| errors.iter().len()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    fn check_text(schema: Value, object: Value, expect: &str) {
        let schema = Structural::parse(&schema, &FieldPath::root()).unwrap();
        let mut errors = FieldErrors::default();
        check(&object, &schema, &FieldPath::root(), &mut errors);
        check_lists(&object, &schema, &FieldPath::root(), &mut errors);
        assert_eq!(if errors.is_empty() { String::new() } else { errors.to_string() }, expect);
    }

    fn field(rules: Value) -> Value {
        value!({"type": "object", "properties": {"f": rules}})
    }

    #[test]
    fn types() {
        let wrong = r#"f: Invalid value: "string": f in body must be of type integer: "string""#;
        check_text(field(value!({"type": "integer"})), value!({"f": "x"}), wrong);
        check_text(field(value!({"type": "number"})), value!({"f": 3}), "");
        check_text(field(value!({"type": "integer"})), value!({"f": (Value::Float(3.0))}), "");
        check_text(field(value!({"x-kubernetes-int-or-string": true})), value!({"f": "80%"}), "");
        let null = r#"f: Invalid value: "null": f in body must be of type string: "null""#;
        check_text(field(value!({"type": "string"})), value!({"f": null}), null);
        check_text(field(value!({"type": "string", "nullable": true})), value!({"f": null}), "");
    }

    #[test]
    fn ranges_and_lengths() {
        let table = [
            (value!({"type": "integer", "minimum": 1}), value!(0), "0: f in body should be greater than or equal to 1"),
            (
                value!({"type": "integer", "maximum": 5, "exclusiveMaximum": true}),
                value!(5),
                "5: f in body should be less than 5",
            ),
            (value!({"type": "integer", "multipleOf": 2}), value!(3), "3: f in body should be a multiple of 2"),
            (
                value!({"type": "string", "minLength": 3}),
                value!("ab"),
                r#""ab": f in body should be at least 3 chars long"#,
            ),
            (value!({"type": "string", "pattern": "^a$"}), value!("b"), r#""b": f in body should match '^a$'"#),
        ];
        for (rules, value, expect) in table {
            let object = Value::Object(Map::from_iter([("f".into(), value)]));
            check_text(field(rules), object, &format!("f: Invalid value: {expect}"));
        }
        check_text(
            field(value!({"type": "string", "maxLength": 1})),
            value!({"f": "ab"}),
            "f: Too long: may not be more than 1 byte",
        );
        check_text(
            field(value!({"type": "array", "maxItems": 1, "items": {"type": "string"}})),
            value!({"f": ["a", "b"]}),
            "f: Too many: 2: must have at most 1 item",
        );
        check_text(
            field(value!({"type": "string", "enum": ["a", "b"]})),
            value!({"f": "c"}),
            r#"f: Unsupported value: "c": supported values: "a", "b""#,
        );
    }

    #[test]
    fn required_and_lists() {
        check_text(value!({"type": "object", "required": ["spec"]}), value!({}), "spec: Required value");
        check_text(
            field(value!({"type": "array", "x-kubernetes-list-type": "set"})),
            value!({"f": ["a", "b", "a", "a"]}),
            r#"f[2]: Duplicate value: "a""#,
        );
        check_text(
            field(value!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]})),
            value!({"f": [{"name": "a", "v": 1}, {"name": "a", "v": 2}]}),
            r#"f[1]: Duplicate value: {"name":"a"}"#,
        );
    }

    #[test]
    fn combinations_say_which() {
        check_text(
            field(value!({"type": "integer", "oneOf": [{"minimum": 1}, {"minimum": 2}]})),
            value!({"f": 3}),
            r#"<nil>: Invalid value: "": "f" must validate one and only one schema (oneOf). Found 2 valid alternatives"#,
        );
        check_text(
            field(value!({"type": "integer", "not": {"minimum": 1}})),
            value!({"f": 3}),
            r#"<nil>: Invalid value: "": "f" must not validate the schema (not)"#,
        );
    }
}
