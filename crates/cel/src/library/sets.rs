//! Lists as sets.

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::{List, Value};

pub(super) const ROWS: &[Row] = &[
    ("sets.contains", "list_sets_contains_list", "(list(T), list(T)) -> bool", contains),
    ("sets.equivalent", "list_sets_equivalent_list", "(list(T), list(T)) -> bool", equivalent),
    ("sets.intersects", "list_sets_intersects_list", "(list(T), list(T)) -> bool", intersects),
];

fn all_in<'a>(items: &List<'a>, list: &List<'a>, budget: &mut Budget) -> Result<bool, Error> {
    for item in items.iter() {
        if !list.contains(&item, budget)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn contains<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(list), Value::List(items)] = given.as_slice() else { return unfit() };
    all_in(items, list, budget).map(Value::Bool)
}

fn equivalent<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(one), Value::List(other)] = given.as_slice() else { return unfit() };
    Ok(Value::Bool(all_in(other, one, budget)? && all_in(one, other, budget)?))
}

fn intersects<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::List(one), Value::List(other)] = given.as_slice() else { return unfit() };
    for item in one.iter() {
        if other.contains(&item, budget)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
