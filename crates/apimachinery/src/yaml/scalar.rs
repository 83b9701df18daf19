//! What a YAML scalar means: the resolution of YAML 1.1 as go-yaml 2 has it, then through JSON, where a float without a
//! fraction becomes an integer. Timestamps and base-60 numbers stay strings.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_saphyr::granit_parser::Tag;

use crate::value::{Str, Value};

const TRUE: [&str; 11] = ["y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"];
const FALSE: [&str; 11] = ["n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"];
const NULL: [&str; 5] = ["", "~", "null", "Null", "NULL"];
const NOT_FINITE: [&str; 12] =
    [".nan", ".NaN", ".NAN", ".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF", "-.inf", "-.Inf", "-.INF"];
/// Floats at least this large are written with an exponent by Go's JSON and stay floats.
const EXPONENT_FROM: f64 = 1e21;

/// The value of a scalar; `plain`: neither quoted nor a block.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<&Tag>) -> Result<Value, String> {
    let Some(tag) = tag else {
        return if plain { untagged(text) } else { Ok(text.into()) };
    };
    let Some(name) = tag.suffix_in_namespace("tag:yaml.org,2002:") else { return Ok(text.into()) };
    let mismatch = || format!("cannot decode `{text}` as a !!{name}");
    match (&*name, untagged(text)) {
        ("str", _) => Ok(text.into()),
        ("binary", _) => binary(text),
        ("bool", Ok(value @ Value::Bool(_)))
        | ("null", Ok(value @ Value::Null))
        | ("int", Ok(value @ Value::Int(_)))
        | ("float", Ok(value @ (Value::Int(_) | Value::Float(_)))) => Ok(value),
        ("bool" | "null" | "int" | "float", _) => Err(mismatch()),
        _ => Ok(text.into()),
    }
}

/// A scalar's text as a key: what is no string is written out.
pub(super) fn key(value: &Value) -> Result<Str, String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => Ok(crate::json::to_string(value).into()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(format!("invalid map key: {}", crate::json::to_string(value)))
        }
    }
}

fn binary(text: &str) -> Result<Value, String> {
    let packed: String = text.split_ascii_whitespace().collect();
    let bytes =
        STANDARD.decode(packed).map_err(|error| format!("!!binary value contains invalid base64 data: {error}"))?;
    String::from_utf8(bytes).map(Value::from).map_err(|error| format!("!!binary value is no text: {error}"))
}

fn untagged(text: &str) -> Result<Value, String> {
    if TRUE.contains(&text) {
        return Ok(Value::Bool(true));
    }
    if FALSE.contains(&text) {
        return Ok(Value::Bool(false));
    }
    if NULL.contains(&text) {
        return Ok(Value::Null);
    }
    if NOT_FINITE.contains(&text) {
        return Err(format!("unsupported value: {text}"));
    }
    let number = match text.as_bytes()[0] {
        b'.' => float(text),
        b'0'..=b'9' | b'+' | b'-' => {
            let bare = text.replace('_', "");
            integer(&bare).or_else(|| if is_float(&bare) { float(&bare) } else { None })
        }
        _ => None,
    };
    Ok(number.unwrap_or_else(|| text.into()))
}

/// An integer in base 2, 8 (`0o17`, `017`), 10 or 16. Beyond 64 signed bits it is a float, as in Go's objects.
fn integer(text: &str) -> Option<Value> {
    let (sign, digits) = match text.as_bytes()[0] {
        b'-' => ("-", &text[1..]),
        b'+' => ("", &text[1..]),
        _ => ("", text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, &lower[2..]),
        [b'0', b'o', ..] => (8, &lower[2..]),
        [b'0', b'b', ..] => (2, &lower[2..]),
        [b'0', _, ..] => (8, &lower[1..]),
        _ => (10, lower.as_str()),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    if let Ok(number) = i64::from_str_radix(&format!("{sign}{digits}"), radix) {
        return Some(Value::Int(number));
    }
    let beyond = u64::from_str_radix(digits, radix).ok().filter(|_| text.as_bytes()[0].is_ascii_digit());
    beyond.map(|number| Value::Float(number as f64))
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn is_float(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (number, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent.strip_prefix(['-', '+']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let mantissa = match number.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(number),
    };
    mantissa && exponent.is_none_or(digits)
}

fn float(text: &str) -> Option<Value> {
    let number: f64 = text.parse().ok().filter(|number: &f64| number.is_finite())?;
    if number.fract() != 0.0 || number.abs() >= EXPONENT_FROM {
        return Some(Value::Float(number));
    }
    // Written without a fraction, so that JSON's reader sees an integer where it fits.
    Some(format!("{number:.0}").parse().map_or(Value::Float(number), Value::Int))
}
