//! Cells of server-side tables: ages, absent values, and the values of custom resources' columns
//! (`apiextensions-apiserver`'s table convertor).

use crate::duration;
use crate::json;
use crate::time::Time;
use crate::value::{Str, Value};

/// What stands for an absent value.
pub const NONE: &str = "<none>";
/// What stands for the age of what has no time.
pub const UNKNOWN: &str = "<unknown>";
/// What stands for the age of what is no time.
pub const INVALID: &str = "<invalid>";

/// The age of a timestamp as `5d`; `now_s` is Unix time.
pub fn age(timestamp: Option<&str>, now_s: i64) -> Str {
    match timestamp.filter(|text| !text.is_empty()).map(Time::parse) {
        None => UNKNOWN.into(),
        Some(Err(_)) => INVALID.into(),
        Some(Ok(time)) if time.is_zero() => UNKNOWN.into(),
        Some(Ok(time)) => duration::human(now_s - time.seconds),
    }
}

/// The cell of a column with an OpenAPI type, from what its path found: null where the value is not of that type.
pub fn custom(kind: &str, found: Option<&Value>, now_s: i64) -> Value {
    let Some(value) = found else { return Value::Null };
    match (kind, value) {
        ("string", value) => text(value).into(),
        ("integer", Value::Int(number)) => Value::Int(*number),
        #[expect(clippy::cast_possible_truncation, reason = "an integer column shows the whole part")]
        ("integer", Value::Float(number)) => Value::Int(*number as i64),
        #[expect(clippy::cast_precision_loss, reason = "a number column shows a float")]
        ("number", Value::Int(number)) => Value::Float(*number as f64),
        ("number", Value::Float(number)) => Value::Float(*number),
        ("boolean", Value::Bool(flag)) => Value::Bool(*flag),
        ("date", Value::String(timestamp)) => age(Some(timestamp), now_s).into(),
        _ => Value::Null,
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.to_string(),
        other => json::to_string(other),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::value;

    const NOW: i64 = 1_800_000_000;

    #[test]
    fn ages() {
        let then = |seconds: i64| Time::from_seconds(NOW - seconds).to_rfc3339();
        for (timestamp, expect) in [
            (Some(then(0)), "0s"),
            (Some(then(125)), "2m5s"),
            (Some(then(5 * 86_400)), "5d"),
            (Some(then(-60)), "<invalid>"),
            (Some("soon".into()), "<invalid>"),
            (Some("".into()), "<unknown>"),
            (Some("0001-01-01T00:00:00Z".into()), "<unknown>"),
            (None, "<unknown>"),
        ] {
            assert_eq!(age(timestamp.as_deref(), NOW), expect, "{timestamp:?}");
        }
    }

    #[test]
    fn columns_of_custom_resources() {
        let date = Time::from_seconds(NOW - 60).to_rfc3339();
        for (kind, value, expect) in [
            ("string", value!("a"), value!("a")),
            ("string", value!(5), value!("5")),
            ("string", value!({"a": [1, true]}), value!("{\"a\":[1,true]}")),
            ("string", Value::Null, value!("<no value>")),
            ("integer", value!(5), value!(5)),
            ("integer", Value::Float(5.9), value!(5)),
            ("integer", value!("5"), Value::Null),
            ("number", value!(5), Value::Float(5.0)),
            ("boolean", value!(true), value!(true)),
            ("boolean", value!("true"), Value::Null),
            ("date", Value::from(date), value!("60s")),
            ("date", value!("x"), value!("<invalid>")),
            ("bogus", value!("x"), Value::Null),
        ] {
            assert_eq!(custom(kind, Some(&value), NOW), expect, "{kind} {value:?}");
        }
        assert_eq!(custom("string", None, NOW), Value::Null);
    }
}
