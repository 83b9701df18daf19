//! Kubernetes' quantities: `quantity("1.5Gi").isGreaterThan(quantity("1G"))`.

use std::cmp::Ordering;
use std::sync::Arc;

use corten_apimachinery::quantity::{Format, Quantity};

use super::{Row, semver, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("quantity", "string_to_quantity", "(string) -> kubernetes.Quantity", quantity),
    ("isQuantity", "is_quantity_string", "(string) -> bool", is_quantity),
    // Upstream declares it so: as a function, not on its quantity.
    ("sign", "quantity_sign", "(kubernetes.Quantity) -> int", sign),
    ("isGreaterThan", "quantity_is_greater_than", "kubernetes.Quantity.(kubernetes.Quantity) -> bool", is_greater),
    ("isGreaterThan", "semver_is_greater_than", "kubernetes.Semver.(kubernetes.Semver) -> bool", is_greater),
    ("isLessThan", "quantity_is_less_than", "kubernetes.Quantity.(kubernetes.Quantity) -> bool", is_less),
    ("isLessThan", "semver_is_less_than", "kubernetes.Semver.(kubernetes.Semver) -> bool", is_less),
    ("compareTo", "quantity_compare_to", "kubernetes.Quantity.(kubernetes.Quantity) -> int", compare_to),
    ("compareTo", "semver_compare_to", "kubernetes.Semver.(kubernetes.Semver) -> int", compare_to),
    ("asApproximateFloat", "quantity_get_float", "kubernetes.Quantity.() -> double", as_float),
    ("asInteger", "quantity_get_int", "kubernetes.Quantity.() -> int", as_integer),
    ("isInteger", "quantity_is_integer", "kubernetes.Quantity.() -> bool", is_integer),
    ("add", "quantity_add", "kubernetes.Quantity.(kubernetes.Quantity) -> kubernetes.Quantity", add),
    ("add", "quantity_add_int", "kubernetes.Quantity.(int) -> kubernetes.Quantity", add),
    ("sub", "quantity_sub", "kubernetes.Quantity.(kubernetes.Quantity) -> kubernetes.Quantity", sub),
    ("sub", "quantity_sub_int", "kubernetes.Quantity.(int) -> kubernetes.Quantity", sub),
];

fn quantity<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let Some(text) = given[0].as_str() else { return unfit() };
    Quantity::parse(text)
        .map(|quantity| Value::Quantity(Arc::new(quantity)))
        .map_err(|error| Error::new(error.to_string()))
}

fn is_quantity<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| Ok(Value::Bool(Quantity::parse(text).is_ok())))
}

fn sign<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Quantity(quantity)] => Ok(Value::Int(quantity.signum().into())),
        _ => unfit(),
    }
}

/// The order of two quantities, or of two versions.
fn order(given: &[Value<'_>]) -> Result<Ordering, Error> {
    match given {
        [Value::Quantity(one), Value::Quantity(other)] => Ok(one.cmp(other)),
        [Value::Semver(one), Value::Semver(other)] => Ok(semver::Semver::order(one, other)),
        _ => Err(Error::no_such_overload()),
    }
}

fn is_greater<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    order(&given).map(|order| Value::Bool(order.is_gt()))
}

fn is_less<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    order(&given).map(|order| Value::Bool(order.is_lt()))
}

fn compare_to<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    order(&given).map(|order| Value::Int(order as i64))
}

fn as_float<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Quantity(quantity)] => Ok(Value::Double(quantity.as_f64())),
        _ => unfit(),
    }
}

/// The whole number that it is, if it is one.
fn whole(quantity: &Quantity) -> Option<i64> {
    let value = quantity.value();
    (Quantity::new(value, Format::DecimalSi) == *quantity).then_some(value)
}

fn as_integer<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Quantity(quantity)] => {
            whole(quantity).map(Value::Int).ok_or_else(|| Error::new("cannot convert value to integer"))
        }
        _ => unfit(),
    }
}

fn is_integer<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Quantity(quantity)] => Ok(Value::Bool(whole(quantity).is_some())),
        _ => unfit(),
    }
}

fn changed<'a>(given: &[Value<'a>], change: fn(&mut Quantity, &Quantity)) -> Result<Value<'a>, Error> {
    let (quantity, other) = match given {
        [Value::Quantity(quantity), Value::Quantity(other)] => (quantity, Quantity::clone(other)),
        [Value::Quantity(quantity), Value::Int(number)] => (quantity, Quantity::new(*number, Format::DecimalExponent)),
        _ => return unfit(),
    };
    let mut result = Quantity::clone(quantity);
    change(&mut result, &other);
    Ok(Value::Quantity(Arc::new(result)))
}

fn add<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    changed(&given, Quantity::add)
}

fn sub<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    changed(&given, Quantity::sub)
}
