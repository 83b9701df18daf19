//! Conversions between types: `int("5")`, `string(1.5)`, `timestamp("2025-01-01T00:00:00Z")`.

use jiff::Timestamp;

use super::{Row, unfit};
use crate::budget::{Budget, Error};
use crate::value::Value;

pub(super) const ROWS: &[Row] = &[
    ("type", "type", "(A) -> type(A)", type_of),
    ("dyn", "to_dyn", "(A) -> dyn", same),
    ("bool", "bool_to_bool", "(bool) -> bool", same),
    ("bool", "string_to_bool", "(string) -> bool", string_to_bool),
    ("bytes", "bytes_to_bytes", "(bytes) -> bytes", same),
    ("bytes", "string_to_bytes", "(string) -> bytes", string_to_bytes),
    ("double", "double_to_double", "(double) -> double", same),
    ("double", "int64_to_double", "(int) -> double", to_double),
    ("double", "string_to_double", "(string) -> double", to_double),
    ("double", "uint64_to_double", "(uint) -> double", to_double),
    ("duration", "duration_to_duration", "(duration) -> duration", same),
    ("duration", "int64_to_duration", "(int) -> duration", to_duration),
    ("duration", "string_to_duration", "(string) -> duration", to_duration),
    ("int", "int64_to_int64", "(int) -> int", same),
    ("int", "double_to_int64", "(double) -> int", to_int),
    ("int", "duration_to_int64", "(duration) -> int", to_int),
    ("int", "string_to_int64", "(string) -> int", to_int),
    ("int", "timestamp_to_int64", "(timestamp) -> int", to_int),
    ("int", "uint64_to_int64", "(uint) -> int", to_int),
    ("string", "string_to_string", "(string) -> string", same),
    ("string", "bool_to_string", "(bool) -> string", to_string),
    ("string", "bytes_to_string", "(bytes) -> string", to_string),
    ("string", "double_to_string", "(double) -> string", to_string),
    ("string", "duration_to_string", "(duration) -> string", to_string),
    ("string", "int64_to_string", "(int) -> string", to_string),
    ("string", "timestamp_to_string", "(timestamp) -> string", to_string),
    ("string", "uint64_to_string", "(uint) -> string", to_string),
    ("timestamp", "timestamp_to_timestamp", "(timestamp) -> timestamp", same),
    ("timestamp", "int64_to_timestamp", "(int) -> timestamp", to_timestamp),
    ("timestamp", "string_to_timestamp", "(string) -> timestamp", to_timestamp),
    ("uint", "uint64_to_uint64", "(uint) -> uint", same),
    ("uint", "double_to_uint64", "(double) -> uint", to_uint),
    ("uint", "int64_to_uint64", "(int) -> uint", to_uint),
    ("uint", "string_to_uint64", "(string) -> uint", to_uint),
];

/// Seconds of the first and the last moment of the years 1 to 9999.
const SECONDS: std::ops::RangeInclusive<i64> = -62_135_596_800..=253_402_300_799;

pub(crate) fn in_range(time: Timestamp) -> bool {
    SECONDS.contains(&time.as_nanosecond().div_euclid(1_000_000_000).try_into().unwrap_or(i64::MAX))
}

/// Reads a time by RFC 3339.
pub(crate) fn timestamp(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let shaped =
        bytes.len() >= 20 && bytes[10] == b'T' && bytes[4] == b'-' && matches!(bytes.last(), Some(b'Z' | b'0'..=b'9'));
    text.parse().ok().filter(|time| shaped && in_range(*time))
}

/// Reads a duration like `1h30m`, in nanoseconds.
pub(crate) fn duration(text: &str) -> Option<i64> {
    corten_apimachinery::duration::parse(text)
}

fn type_of<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    Ok(Value::Type(given[0].type_name().into()))
}

fn same<'a>(mut given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given.pop().map_or_else(unfit, Ok)
}

fn string_to_bool<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match given[0].as_str() {
        Some("1" | "t" | "T" | "TRUE" | "true" | "True") => Ok(Value::Bool(true)),
        Some("0" | "f" | "F" | "FALSE" | "false" | "False") => Ok(Value::Bool(false)),
        _ => Err(Error::new("type conversion error from 'string' to 'bool'")),
    }
}

fn string_to_bytes<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    given[0].as_str().map_or_else(unfit, |text| Ok(Value::Bytes(text.as_bytes().into())))
}

fn to_double<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match &given[0] {
        Value::Int(number) => Ok(Value::Double(*number as f64)),
        Value::Uint(number) => Ok(Value::Double(*number as f64)),
        Value::String(text) => {
            let parsed = text
                .parse()
                .map_err(|_| Error::new(format!("strconv.ParseFloat: parsing \"{}\": invalid syntax", &**text)));
            parsed.map(Value::Double)
        }
        _ => unfit(),
    }
}

fn to_duration<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match &given[0] {
        Value::Int(nanoseconds) => Ok(Value::Duration(*nanoseconds)),
        Value::String(text) => duration(text)
            .map(Value::Duration)
            .ok_or_else(|| Error::new(format!("time: invalid duration \"{}\"", &**text))),
        _ => unfit(),
    }
}

fn to_int<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let overflow = || Error::new("integer overflow");
    match &given[0] {
        Value::Double(number) if number.is_finite() && *number > i64::MIN as f64 && *number < i64::MAX as f64 => {
            Ok(Value::Int(*number as i64))
        }
        Value::Double(_) => Err(overflow()),
        Value::Duration(nanoseconds) => Ok(Value::Int(*nanoseconds)),
        Value::Timestamp(time) => Ok(Value::Int(time.as_nanosecond().div_euclid(1_000_000_000) as i64)),
        Value::Uint(number) => i64::try_from(*number).map(Value::Int).map_err(|_| overflow()),
        Value::String(text) => whole(text).map(Value::Int),
        _ => unfit(),
    }
}

fn to_uint<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    let overflow = || Error::new("unsigned integer overflow");
    match &given[0] {
        Value::Double(number) if *number >= 0.0 && *number < u64::MAX as f64 => Ok(Value::Uint(*number as u64)),
        Value::Double(_) => Err(overflow()),
        Value::Int(number) => u64::try_from(*number).map(Value::Uint).map_err(|_| overflow()),
        Value::String(text) if !text.starts_with('+') => whole(text).map(Value::Uint),
        Value::String(text) => Err(unreadable(text)),
        _ => unfit(),
    }
}

fn unreadable(text: &str) -> Error {
    Error::new(format!("strconv.ParseInt: parsing \"{text}\": invalid syntax"))
}

fn whole<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| unreadable(text))
}

fn to_string<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    Ok(Value::string(match &given[0] {
        Value::Bool(flag) => flag.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Uint(number) => number.to_string(),
        Value::Double(number) => double_text(*number),
        Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => text.to_owned(),
            Err(_) => return Err(Error::new("invalid UTF-8 in bytes, cannot convert to string")),
        },
        Value::Duration(nanoseconds) => duration_text(*nanoseconds),
        Value::Timestamp(time) => time.to_string(),
        _ => return unfit(),
    }))
}

pub(super) fn duration_text(nanoseconds: i64) -> String {
    format!("{}s", nanoseconds as f64 / 1e9)
}

/// A double as Go shows it: shortest, with an exponent where that is below -4 or above 5.
pub(super) fn double_text(number: f64) -> String {
    if number.is_nan() {
        return "NaN".to_owned();
    }
    if number.is_infinite() {
        return if number > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{number:e}");
    let (mantissa, exponent) = scientific.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    if number != 0.0 && !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.abs());
    }
    number.to_string()
}

fn to_timestamp<'a>(given: Vec<Value<'a>>, _budget: &mut Budget) -> Result<Value<'a>, Error> {
    match &given[0] {
        Value::Int(seconds) if SECONDS.contains(seconds) => {
            Timestamp::from_second(*seconds).map(Value::Timestamp).map_err(|_| Error::new("timestamp overflow"))
        }
        Value::Int(_) => Err(Error::new("timestamp overflow")),
        Value::String(text) => timestamp(text)
            .map(Value::Timestamp)
            .ok_or_else(|| Error::new(format!("parsing time \"{}\" as RFC 3339 fails", &**text))),
        _ => unfit(),
    }
}
