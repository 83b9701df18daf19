//! Patterns, by the syntax of RE2. They are matched in time linear in the text.

use regex::{Regex, RegexBuilder};

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("matches", "matches", "(string, string) -> bool", dynamic_matches),
    ("matches", "matches_string", "string.(string) -> bool", dynamic_matches),
    ("find", "string_find_string", "string.(string) -> string", dynamic_find),
    ("findAll", "string_find_all_string", "string.(string) -> list(string)", dynamic_find_all),
    ("findAll", "string_find_all_string_int", "string.(string, int) -> list(string)", dynamic_find_all),
];

/// Of a compiled pattern.
const PATTERN_BYTES_MAX: usize = 1 << 20;

pub(crate) fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).nest_limit(100).build()
}

/// Calls the function with a pattern that is compiled already.
pub(crate) fn run<'a>(function: &str, pattern: &Regex, given: &[Value<'a>]) -> Result<Value<'a>, Error> {
    let Some(Value::String(text)) = given.first() else { return unfit() };
    Ok(match function {
        "matches" => Value::Bool(pattern.is_match(text)),
        "find" => Value::string(pattern.find(text).map(|found| found.as_str().to_owned()).unwrap_or_default()),
        _ => {
            let limit = match given.get(2) {
                Some(Value::Int(limit)) => usize::try_from(*limit).unwrap_or(usize::MAX),
                _ => usize::MAX,
            };
            Value::List(
                pattern.find_iter(text).take(limit).map(|found| Value::string(found.as_str().to_owned())).collect(),
            )
        }
    })
}

fn dynamic<'a>(function: &str, given: &[Value<'a>], budget: &mut Budget) -> Result<Value<'a>, Error> {
    let Some(Value::String(pattern)) = given.get(1) else { return unfit() };
    // Compiling takes far longer than matching.
    budget.work(1_000 + pattern.len().saturating_mul(100))?;
    let compiled = compile(pattern).map_err(|error| Error::new(format!("Illegal regex: {error}")))?;
    run(function, &compiled, given)
}

fn dynamic_matches<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    dynamic("matches", &given, budget)
}

fn dynamic_find<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    dynamic("find", &given, budget)
}

fn dynamic_find_all<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    dynamic("findAll", &given, budget)
}
