//! Functions of lists.

use std::cmp::Ordering;

use super::{Row, Run, operators, unfit};
use crate::budget::{Budget, Error};
use crate::shape::{ListKind, Shape};
use crate::value::{List, Value};

pub(super) const ROWS: &[Row] = &[
    ("indexOf", "list_a_index_of_int", "list(A).(A) -> int", index_of),
    ("lastIndexOf", "list_a_last_index_of_int", "list(A).(A) -> int", last_index_of),
    ("slice", "list_slice", "list(T).(int, int) -> list(T)", slice),
    ("flatten", "list_flatten", "list(list(T)).() -> list(T)", flatten),
    ("flatten", "list_flatten_int", "list(dyn).(int) -> list(dyn)", flatten),
    ("lists.range", "lists_range", "(int) -> list(int)", range),
    ("reverse", "list_reverse", "list(T).() -> list(T)", reverse),
    ("distinct", "list_distinct", "list(T).() -> list(T)", distinct),
    ("first", "list_first", "list(T).() -> optional(T)", first),
    ("last", "list_last", "list(T).() -> optional(T)", last),
];

const COMPARABLE: [&str; 8] = ["int", "uint", "double", "bool", "duration", "timestamp", "string", "bytes"];

/// The functions that exist for each type of items.
pub(super) fn for_types() -> Vec<(&'static str, String, String, Run)> {
    let mut rows: Vec<(&'static str, String, String, Run)> = Vec::new();
    for its in COMPARABLE {
        rows.push(("isSorted", format!("list_{its}_is_sorted_bool"), format!("list({its}).() -> bool"), is_sorted));
        rows.push(("max", format!("list_{its}_max_{its}"), format!("list({its}).() -> {its}"), max));
        rows.push(("min", format!("list_{its}_min_{its}"), format!("list({its}).() -> {its}"), min));
        rows.push(("sort", format!("list_{its}_sort"), format!("list({its}).() -> list({its})"), sort));
        let signature = format!("list(T).(list({its})) -> list(T)");
        rows.push(("@sortByAssociatedKeys", format!("list_{its}_sortByAssociatedKeys"), signature, sort_by_keys));
    }
    let sums: [(&str, Run); 4] =
        [("int", sum_int), ("uint", sum_uint), ("double", sum_double), ("duration", sum_duration)];
    for (its, run) in sums {
        rows.push(("sum", format!("list_{its}_sum_{its}"), format!("list({its}).() -> {its}"), run));
    }
    rows
}

fn index_of<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list), item] = given.as_slice() else { return unfit() };
    for (index, each) in list.iter().enumerate() {
        if each.equals(item, budget)? {
            return Ok(Value::Int(index as i64));
        }
    }
    Ok(Value::Int(-1))
}

fn last_index_of<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list), item] = given.as_slice() else { return unfit() };
    for index in (0..list.len()).rev() {
        if list.get(index).expect("the index is below the length").equals(item, budget)? {
            return Ok(Value::Int(index as i64));
        }
    }
    Ok(Value::Int(-1))
}

fn slice<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = given.as_slice() else { return unfit() };
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return Err(Error::new(format!("cannot slice({start}, {end}), negative indexes not supported")));
    };
    if from > to {
        return Err(Error::new(format!(
            "cannot slice({start}, {end}), start index must be less than or equal to end index"
        )));
    }
    if to > list.len() {
        return Err(Error::new(format!("cannot slice({start}, {end}), list is length {}", list.len())));
    }
    budget.work(to - from)?;
    Ok(Value::List((from..to).filter_map(|index| list.get(index)).collect()))
}

fn flatten<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let (list, depth) = match given.as_slice() {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] if *depth >= 0 => (list, *depth),
        [Value::List(_), Value::Int(_)] => return Err(Error::new("level must be non-negative")),
        _ => return unfit(),
    };
    let mut flat = Vec::new();
    flatten_into(&mut flat, list, depth, budget)?;
    Ok(Value::list(flat))
}

fn flatten_into<'a>(flat: &mut Vec<Value<'a>>, list: &List<'a>, depth: i64, budget: &mut Budget) -> Result<(), Error> {
    budget.enter()?;
    for item in list.iter() {
        budget.work(1)?;
        match &item {
            Value::List(inner) if depth > 0 => flatten_into(flat, inner, depth - 1, budget)?,
            _ => flat.push(item),
        }
    }
    budget.leave();
    Ok(())
}

fn range<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::Int(length)] = given.as_slice() else { return unfit() };
    Ok(Value::List((0..*length).map(Value::Int).collect()))
}

fn reverse<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given.as_slice() else { return unfit() };
    budget.work(list.len())?;
    Ok(Value::List(list.iter().rev().collect()))
}

fn distinct<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given.as_slice() else { return unfit() };
    let mut unique: Vec<Value<'a>> = Vec::new();
    'items: for item in list.iter() {
        for each in &unique {
            if each.equals(&item, budget)? {
                continue 'items;
            }
        }
        unique.push(item);
    }
    Ok(Value::list(unique))
}

fn first<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given.as_slice() else { return unfit() };
    Ok(Value::Optional(list.get(0).map(Into::into)))
}

fn last<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given.as_slice() else { return unfit() };
    Ok(Value::Optional(list.len().checked_sub(1).and_then(|index| list.get(index)).map(Into::into)))
}

fn order(one: &Value<'_>, other: &Value<'_>) -> Result<Ordering, Error> {
    if one.is_nan() || other.is_nan() {
        return Err(Error::new("NaN values cannot be ordered"));
    }
    one.order(other).ok_or_else(Error::no_such_overload)
}

fn is_sorted<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given.as_slice() else { return unfit() };
    let mut former: Option<Value<'a>> = None;
    for item in list.iter() {
        budget.work(1)?;
        if let Some(former) = &former
            && order(former, &item)?.is_gt()
        {
            return Ok(Value::Bool(false));
        }
        former = Some(item);
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(name: &str, given: &[Value<'a>], replaces: Ordering) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given else { return unfit() };
    let mut found: Option<Value<'a>> = None;
    for item in list.iter() {
        match &found {
            Some(found) if order(&item, found)? != replaces => {}
            _ => found = Some(item),
        }
    }
    found.ok_or_else(|| Error::new(format!("{name} called on empty list")))
}

fn max<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    extreme("max", &given, Ordering::Greater)
}

fn min<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    extreme("min", &given, Ordering::Less)
}

fn sum<'a>(given: &[Value<'a>], zero: Value<'a>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given else { return unfit() };
    list.iter().try_fold(zero, |sum, item| operators::add(vec![sum, item], budget))
}

fn sum_int<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    sum(&given, Value::Int(0), budget)
}

fn sum_uint<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    sum(&given, Value::Uint(0), budget)
}

fn sum_double<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    sum(&given, Value::Double(0.0), budget)
}

fn sum_duration<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    sum(&given, Value::Duration(0), budget)
}

fn sort<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list)] = given.as_slice() else { return unfit() };
    sorted(list, list, budget)
}

fn sort_by_keys<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list), Value::List(keys)] = given.as_slice() else { return unfit() };
    sorted(list, keys, budget)
}

fn sorted<'a>(list: &List<'a>, keys: &List<'a>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let mut pairs: Vec<(Value<'a>, Value<'a>)> = keys.iter().zip(list.iter()).collect();
    budget.work(pairs.len().saturating_mul(8))?;
    if let Some((first, _)) = pairs.first() {
        if first.order(first).is_none() {
            return Err(Error::new("list elements must be comparable"));
        }
        if pairs.iter().any(|(key, _)| key.type_name() != first.type_name()) {
            return Err(Error::new("list elements must have the same type"));
        }
    }
    pairs.sort_by(|(one, _), (other, _)| one.order(other).unwrap_or(Ordering::Equal));
    Ok(Value::List(pairs.into_iter().map(|(_, item)| item).collect()))
}

impl List<'_> {
    /// What the list is where its order does not count.
    pub(super) fn unordered(&self) -> Option<&ListKind> {
        match self {
            Self::Tree(_, shape) => Some(Shape::list_kind(shape)).filter(|kind| **kind != ListKind::Atomic),
            _ => None,
        }
    }
}

impl ListKind {
    /// Whether two items of such a list are one.
    pub(super) fn same_item<'a>(&self, one: &Value<'a>, other: &Value<'a>, budget: &mut Budget) -> Result<bool, Error> {
        let (Self::Map(keys), Value::Map(first), Value::Map(second)) = (self, one, other) else {
            return one.equals(other, budget);
        };
        for key in keys {
            let same = match (first.field(key), second.field(key)) {
                (Some(first), Some(second)) => first.equals(&second, budget)?,
                (first, second) => first.is_none() && second.is_none(),
            };
            if !same {
                return Ok(false);
            }
        }
        Ok(true)
    }
}
