//! Optional values.

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("optional.of", "optional_of", "(V) -> optional(V)", of),
    ("optional.ofNonZeroValue", "optional_ofNonZeroValue", "(V) -> optional(V)", of_non_zero),
    ("optional.none", "optional_none", "() -> optional(V)", none),
    ("value", "optional_value", "optional(V).() -> V", value),
    ("hasValue", "optional_hasValue", "optional(V).() -> bool", has_value),
    // The evaluator does these, as it looks at the alternative only where there is no value.
    ("or", "optional_or_optional", "optional(V).(optional(V)) -> optional(V)", special),
    ("orValue", "optional_orValue_value", "optional(V).(V) -> V", special),
    ("optional.unwrap", "optional_unwrap", "(list(optional(V))) -> list(V)", unwrap),
    ("unwrapOpt", "optional_unwrapOpt", "list(optional(V)).() -> list(V)", unwrap),
];

fn special<'a>(_given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    unfit()
}

fn of<'a>(mut given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given.pop().map_or_else(unfit, |value| Ok(Value::some(value)))
}

fn of_non_zero<'a>(mut given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.pop() {
        Some(value) if value.is_zero() => Ok(Value::Optional(None)),
        Some(value) => Ok(Value::some(value)),
        None => unfit(),
    }
}

fn none<'a>(_given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    Ok(Value::Optional(None))
}

fn value<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Optional(Some(inner))] => Ok((**inner).clone()),
        [Value::Optional(None)] => Err(Error::new("optional.none() dereference")),
        _ => unfit(),
    }
}

fn has_value<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Optional(inner)] => Ok(Value::Bool(inner.is_some())),
        _ => unfit(),
    }
}

fn unwrap<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given.as_slice() else { return unfit() };
    budget.work(list.len())?;
    let mut values = Vec::new();
    for item in list.iter() {
        match item {
            Value::Optional(inner) => values.extend(inner.map(|inner| (*inner).clone())),
            other => return Err(Error::new(format!("value {} is not optional", super::format_value(&other)))),
        }
    }
    Ok(Value::list(values))
}
