//! Operators: logic, comparisons, arithmetic, membership, sizes.

use std::cmp::Ordering;

use jiff::{SignedDuration, Timestamp};

use super::{Row, Run, conversion, unfit};
use crate::budget::{Budget, Error};
use crate::value::{Key, List, Value};

pub(super) const ROWS: &[Row] = &[
    // The evaluator itself does what may pass over errors or leaves arguments out.
    ("_&&_", "logical_and", "(bool, bool) -> bool", special),
    ("_||_", "logical_or", "(bool, bool) -> bool", special),
    ("_?_:_", "conditional", "(bool, A, A) -> A", special),
    ("@not_strictly_false", "not_strictly_false", "(bool) -> bool", special),
    ("_[_]", "index_list", "(list(A), int) -> A", special),
    ("_[_]", "index_map", "(map(A, B), A) -> B", special),
    ("_[_]", "optional_list_index_int", "(optional(list(V)), int) -> optional(V)", special),
    ("_[_]", "optional_map_index_value", "(optional(map(K, V)), K) -> optional(V)", special),
    ("_[?_]", "list_optindex_optional_int", "(list(V), int) -> optional(V)", special),
    ("_[?_]", "optional_list_optindex_optional_int", "(optional(list(V)), int) -> optional(V)", special),
    ("_[?_]", "map_optindex_optional_value", "(map(K, V), K) -> optional(V)", special),
    ("_[?_]", "optional_map_optindex_optional_value", "(optional(map(K, V)), K) -> optional(V)", special),
    ("!_", "logical_not", "(bool) -> bool", not),
    ("_==_", "equals", "(A, A) -> bool", equals),
    ("_!=_", "not_equals", "(A, A) -> bool", differs),
    ("-_", "negate_double", "(double) -> double", negate),
    ("-_", "negate_int64", "(int) -> int", negate),
    ("_+_", "add_bytes", "(bytes, bytes) -> bytes", add),
    ("_+_", "add_double", "(double, double) -> double", add),
    ("_+_", "add_duration_duration", "(duration, duration) -> duration", add),
    ("_+_", "add_duration_timestamp", "(duration, timestamp) -> timestamp", add),
    ("_+_", "add_timestamp_duration", "(timestamp, duration) -> timestamp", add),
    ("_+_", "add_int64", "(int, int) -> int", add),
    ("_+_", "add_list", "(list(A), list(A)) -> list(A)", add),
    ("_+_", "add_string", "(string, string) -> string", add),
    ("_+_", "add_uint64", "(uint, uint) -> uint", add),
    ("_-_", "subtract_double", "(double, double) -> double", subtract),
    ("_-_", "subtract_duration_duration", "(duration, duration) -> duration", subtract),
    ("_-_", "subtract_int64", "(int, int) -> int", subtract),
    ("_-_", "subtract_timestamp_duration", "(timestamp, duration) -> timestamp", subtract),
    ("_-_", "subtract_timestamp_timestamp", "(timestamp, timestamp) -> duration", subtract),
    ("_-_", "subtract_uint64", "(uint, uint) -> uint", subtract),
    ("_*_", "multiply_double", "(double, double) -> double", multiply),
    ("_*_", "multiply_int64", "(int, int) -> int", multiply),
    ("_*_", "multiply_uint64", "(uint, uint) -> uint", multiply),
    ("_/_", "divide_double", "(double, double) -> double", divide),
    ("_/_", "divide_int64", "(int, int) -> int", divide),
    ("_/_", "divide_uint64", "(uint, uint) -> uint", divide),
    ("_%_", "modulo_int64", "(int, int) -> int", modulo),
    ("_%_", "modulo_uint64", "(uint, uint) -> uint", modulo),
    ("@in", "in_list", "(A, list(A)) -> bool", contained),
    ("@in", "in_map", "(A, map(A, B)) -> bool", contained),
    ("size", "size_bytes", "(bytes) -> int", size),
    ("size", "bytes_size", "bytes.() -> int", size),
    ("size", "size_list", "(list(A)) -> int", size),
    ("size", "list_size", "list(A).() -> int", size),
    ("size", "size_map", "(map(A, B)) -> int", size),
    ("size", "map_size", "map(A, B).() -> int", size),
    ("size", "size_string", "(string) -> int", size),
    ("size", "string_size", "string.() -> int", size),
];

/// `<`, `<=`, `>` and `>=` for every two types that have an order.
pub(super) fn comparisons() -> Vec<(&'static str, String, String, Run)> {
    let operators: [(&str, &str, Run); 4] = [
        ("_<_", "less", less),
        ("_<=_", "less_equals", less_equals),
        ("_>_", "greater", greater),
        ("_>=_", "greater_equals", greater_equals),
    ];
    let same = ["bool", "int", "uint", "double", "string", "bytes", "timestamp", "duration"];
    let numbers = ["int", "uint", "double"];
    let across = numbers
        .iter()
        .flat_map(|one| numbers.iter().filter(move |other| *other != one).map(move |other| (*one, *other)));
    let pairs: Vec<(&str, &str)> = same.iter().map(|each| (*each, *each)).chain(across).collect();
    let mut rows = Vec::new();
    for (name, id, run) in operators {
        for (one, other) in &pairs {
            let id = if one == other { format!("{id}_{one}") } else { format!("{id}_{one}_{other}") };
            rows.push((name, id, format!("({one}, {other}) -> bool"), run));
        }
    }
    rows
}

fn special<'a>(_given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    unfit()
}

fn not<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Bool(flag)] => Ok(Value::Bool(!flag)),
        _ => unfit(),
    }
}

fn equals<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].equals(&given[1], budget).map(Value::Bool)
}

fn differs<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].equals(&given[1], budget).map(|same| Value::Bool(!same))
}

fn compare<'a>(given: &[Value<'a>], holds: fn(Ordering) -> bool) -> Result<Value<'a>, Error> {
    if given.iter().any(Value::is_nan) {
        return Err(Error::new("NaN values cannot be ordered"));
    }
    given[0].order(&given[1]).map_or_else(unfit, |order| Ok(Value::Bool(holds(order))))
}

fn less<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    compare(&given, Ordering::is_lt)
}

fn less_equals<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    compare(&given, Ordering::is_le)
}

fn greater<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    compare(&given, Ordering::is_gt)
}

fn greater_equals<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    compare(&given, Ordering::is_ge)
}

const INT_OVERFLOW: &str = "integer overflow";
const UINT_OVERFLOW: &str = "unsigned integer overflow";
const DURATION_OVERFLOW: &str = "duration overflow";
const TIMESTAMP_OVERFLOW: &str = "timestamp overflow";

/// A value, or the error `otherwise`.
fn checked<'a, T>(value: Option<T>, make: fn(T) -> Value<'a>, otherwise: &str) -> Result<Value<'a>, Error> {
    value.map(make).ok_or_else(|| Error::new(otherwise))
}

fn negate<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Int(number)] => checked(number.checked_neg(), Value::Int, INT_OVERFLOW),
        [Value::Double(number)] => Ok(Value::Double(-number)),
        _ => unfit(),
    }
}

/// The time `nanoseconds` later, within the years that timestamps have.
fn later(time: Timestamp, nanoseconds: i64) -> Option<Timestamp> {
    time.checked_add(SignedDuration::from_nanos(nanoseconds)).ok().filter(|time| conversion::in_range(*time))
}

pub(super) fn add<'a>(mut given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    if let [Value::List(_), Value::List(_)] = given.as_slice() {
        let (Some(Value::List(second)), Some(Value::List(first))) = (given.pop(), given.pop()) else { return unfit() };
        return add_lists(first, second, budget);
    }
    match given.as_slice() {
        [Value::Int(one), Value::Int(other)] => checked(one.checked_add(*other), Value::Int, INT_OVERFLOW),
        [Value::Uint(one), Value::Uint(other)] => checked(one.checked_add(*other), Value::Uint, UINT_OVERFLOW),
        [Value::Double(one), Value::Double(other)] => Ok(Value::Double(one + other)),
        [Value::String(one), Value::String(other)] => Ok(Value::string(format!("{}{}", &**one, &**other))),
        [Value::Bytes(one), Value::Bytes(other)] => Ok(Value::Bytes([&**one, &**other].concat().into())),
        [Value::Duration(one), Value::Duration(other)] => {
            checked(one.checked_add(*other), Value::Duration, DURATION_OVERFLOW)
        }
        [Value::Timestamp(time), Value::Duration(by)] | [Value::Duration(by), Value::Timestamp(time)] => {
            checked(later(*time, *by), Value::Timestamp, TIMESTAMP_OVERFLOW)
        }
        _ => unfit(),
    }
}

/// Lists of an object that are sets or maps by their schema are united; others follow one another.
fn add_lists<'a>(first: List<'a>, second: List<'a>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let Some(kind) = first.unordered().cloned() else { return Ok(Value::List(first.joined(second))) };
    let mut items: Vec<Value<'a>> = first.iter().collect();
    for item in second.iter() {
        let mut place = None;
        for (index, each) in items.iter().enumerate() {
            if kind.same_item(each, &item, budget)? {
                place = Some(index);
                break;
            }
        }
        match place {
            Some(index) => items[index] = item,
            None => items.push(item),
        }
    }
    Ok(Value::list(items))
}

fn subtract<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Int(one), Value::Int(other)] => checked(one.checked_sub(*other), Value::Int, INT_OVERFLOW),
        [Value::Uint(one), Value::Uint(other)] => checked(one.checked_sub(*other), Value::Uint, UINT_OVERFLOW),
        [Value::Double(one), Value::Double(other)] => Ok(Value::Double(one - other)),
        [Value::Duration(one), Value::Duration(other)] => {
            checked(one.checked_sub(*other), Value::Duration, DURATION_OVERFLOW)
        }
        [Value::Timestamp(time), Value::Duration(by)] => {
            checked(by.checked_neg().and_then(|by| later(*time, by)), Value::Timestamp, TIMESTAMP_OVERFLOW)
        }
        [Value::Timestamp(one), Value::Timestamp(other)] => {
            let between = i64::try_from(one.as_nanosecond() - other.as_nanosecond());
            checked(between.ok(), Value::Duration, DURATION_OVERFLOW)
        }
        _ => unfit(),
    }
}

fn multiply<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Int(one), Value::Int(other)] => checked(one.checked_mul(*other), Value::Int, INT_OVERFLOW),
        [Value::Uint(one), Value::Uint(other)] => checked(one.checked_mul(*other), Value::Uint, UINT_OVERFLOW),
        [Value::Double(one), Value::Double(other)] => Ok(Value::Double(one * other)),
        _ => unfit(),
    }
}

fn divide<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(Error::new("division by zero")),
        [Value::Int(one), Value::Int(other)] => checked(one.checked_div(*other), Value::Int, INT_OVERFLOW),
        [Value::Uint(one), Value::Uint(other)] => Ok(Value::Uint(one / other)),
        [Value::Double(one), Value::Double(other)] => Ok(Value::Double(one / other)),
        _ => unfit(),
    }
}

fn modulo<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => Err(Error::new("modulus by zero")),
        [Value::Int(one), Value::Int(other)] => checked(one.checked_rem(*other), Value::Int, INT_OVERFLOW),
        [Value::Uint(one), Value::Uint(other)] => Ok(Value::Uint(one % other)),
        _ => unfit(),
    }
}

fn contained<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given.as_slice() {
        [item, Value::List(list)] => list.contains(item, budget).map(Value::Bool),
        [key, Value::Map(map)] => Ok(Value::Bool(Key::of(key).is_some_and(|key| map.get(&key).is_some()))),
        _ => unfit(),
    }
}

fn size<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    Ok(Value::Int(given[0].size() as i64))
}
