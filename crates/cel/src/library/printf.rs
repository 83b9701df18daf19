//! `"%s has %d".format(["a", 2])`, and how values are shown.

use std::fmt::Write;

use super::{Row, conversion, unfit};
use crate::budget::{Budget, Error};
use crate::value::{List, Value};

pub(super) const ROWS: &[Row] = &[("format", "string_format", "string.(list(dyn)) -> string", format)];

/// Digits behind the point that may be asked for.
const PRECISION_MAX: usize = 1_000;
/// Values inside one another that are shown.
const DEPTH_MAX: u32 = 100;

/// A value as messages show it.
pub(crate) fn format_value(value: &Value<'_>) -> String {
    let mut shown = String::new();
    write_value(&mut shown, value, DEPTH_MAX);
    shown
}

fn write_value(out: &mut String, value: &Value<'_>, depth: u32) {
    if depth == 0 {
        out.push_str("...");
        return;
    }
    let written = match value {
        Value::Null => write!(out, "null"),
        Value::Bool(flag) => write!(out, "{flag}"),
        Value::Int(number) => write!(out, "{number}"),
        Value::Uint(number) => write!(out, "{number}"),
        Value::Double(number) => write!(out, "{}", double(*number)),
        Value::String(text) => write!(out, "{}", &**text),
        Value::Bytes(bytes) => write!(out, "{}", String::from_utf8_lossy(bytes)),
        Value::Timestamp(time) => write!(out, "{time}"),
        Value::Duration(nanoseconds) => write!(out, "{}", conversion::duration_text(*nanoseconds)),
        Value::Type(name) => write!(out, "{name}"),
        Value::Optional(None) => write!(out, "optional.none()"),
        Value::Optional(Some(inner)) => write!(out, "optional({})", format_value(inner)),
        Value::Ip(ip) => write!(out, "{ip}"),
        Value::Cidr(cidr) => write!(out, "{cidr}"),
        Value::Quantity(quantity) => write!(out, "{quantity}"),
        Value::Url(url) => write!(out, "{url}"),
        Value::Semver(version) => write!(out, "{version}"),
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_value(out, &item, depth - 1);
            }
            write!(out, "]")
        }
        Value::Map(map) => {
            out.push('{');
            for (index, (key, value)) in map.entries().iter().enumerate() {
                out.push_str(if index > 0 { ", " } else { "" });
                write_value(out, &key.value(), depth - 1);
                out.push_str(": ");
                write_value(out, value, depth - 1);
            }
            write!(out, "}}")
        }
        other => write!(out, "{}", other.type_name()),
    };
    written.expect("strings can be written to");
}

/// A double as `%s` shows it.
fn double(number: f64) -> String {
    if number.is_nan() {
        "NaN".to_owned()
    } else if number.is_infinite() {
        if number > 0.0 { "Infinity" } else { "-Infinity" }.to_owned()
    } else {
        number.to_string()
    }
}

fn format<'a>(given: Vec<Value<'a>>, budget: &mut Budget) -> Result<Value<'a>, Error> {
    let [Value::String(text), Value::List(arguments)] = given.as_slice() else { return unfit() };
    let mut arguments = Arguments { list: arguments, next: 0 };
    let mut made = String::new();
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        if character != '%' {
            made.push(character);
            continue;
        }
        let mut precision = None;
        let mut clause = rest.next().ok_or_else(|| Error::new("unexpected end of string"))?;
        if clause == '%' {
            made.push('%');
            continue;
        }
        if clause == '.' {
            let mut digits = String::new();
            while let Some(digit) = rest.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let wanted: usize =
                digits.parse().map_err(|_| Error::new(format!("error while parsing precision: \"{digits}\"")))?;
            precision = Some(wanted.min(PRECISION_MAX));
            clause = rest.next().ok_or_else(|| Error::new("could not find end of precision specifier"))?;
        }
        let shown = shown(clause, &arguments.next()?, precision)
            .map_err(|error| Error::new(format!("error during formatting: {error}")))?;
        budget.work(shown.len() / 16)?;
        made.push_str(&shown);
    }
    if arguments.next < arguments.list.len() {
        let unused = arguments.list.len() - arguments.next;
        return Err(Error::new(format!("too many arguments supplied to string.format ({unused} unused)")));
    }
    Ok(Value::string(made))
}

struct Arguments<'l, 'a> {
    list: &'l List<'a>,
    next: usize,
}

impl<'a> Arguments<'_, 'a> {
    fn next(&mut self) -> Result<Value<'a>, Error> {
        let index = self.next;
        self.next += 1;
        self.list.get(index).ok_or_else(|| Error::new(format!("index {index} out of range")))
    }
}

/// One argument by its clause; the error is a text.
fn shown(clause: char, value: &Value<'_>, precision: Option<usize>) -> Result<String, String> {
    let wrong = |what: &str, may: &str| {
        Err(format!("{what} clause can only be used on {may}, was given {}", value.type_name()))
    };
    Ok(match (clause, value) {
        ('s', _) => format_value(value),
        ('d', Value::Int(number)) => number.to_string(),
        ('d', Value::Uint(number)) => number.to_string(),
        ('d', Value::Double(number)) if !number.is_finite() => double(*number),
        ('d', _) => return wrong("decimal", "integers"),
        ('f', Value::Double(number)) if !number.is_finite() => double(*number),
        ('f', Value::Double(number)) => format!("{number:.*}", precision.unwrap_or(6)),
        ('f', Value::Int(number)) => format!("{:.*}", precision.unwrap_or(6), *number as f64),
        ('f', Value::Uint(number)) => format!("{:.*}", precision.unwrap_or(6), *number as f64),
        ('f', _) => return wrong("fixed-point", "doubles"),
        ('e', Value::Double(number)) if !number.is_finite() => double(*number),
        ('e', Value::Double(number)) => scientific(*number, precision.unwrap_or(6)),
        ('e', Value::Int(number)) => scientific(*number as f64, precision.unwrap_or(6)),
        ('e', Value::Uint(number)) => scientific(*number as f64, precision.unwrap_or(6)),
        ('e', _) => return wrong("scientific", "doubles"),
        ('b', Value::Int(number)) => signed(*number, format!("{:b}", number.unsigned_abs())),
        ('b', Value::Uint(number)) => format!("{number:b}"),
        ('b', Value::Bool(flag)) => u8::from(*flag).to_string(),
        ('b', _) => return wrong("only integers and bools can be formatted as binary: binary", "integers and bools"),
        ('o', Value::Int(number)) => signed(*number, format!("{:o}", number.unsigned_abs())),
        ('o', Value::Uint(number)) => format!("{number:o}"),
        ('o', _) => return wrong("octal", "integers"),
        ('x', _) => return hexadecimal(value).map_or_else(|| wrong("hex", "integers, byte buffers, and strings"), Ok),
        ('X', _) => {
            return hexadecimal(value)
                .map_or_else(|| wrong("hex", "integers, byte buffers, and strings"), |hex| Ok(hex.to_uppercase()));
        }
        (other, _) => {
            return Err(format!("could not parse formatting clause: unrecognized formatting clause \"{other}\""));
        }
    })
}

fn signed(number: i64, digits: String) -> String {
    if number < 0 { format!("-{digits}") } else { digits }
}

fn hexadecimal(value: &Value<'_>) -> Option<String> {
    let hex = |bytes: &[u8]| bytes.iter().fold(String::new(), |hex, byte| hex + &format!("{byte:02x}"));
    Some(match value {
        Value::Int(number) => signed(*number, format!("{:x}", number.unsigned_abs())),
        Value::Uint(number) => format!("{number:x}"),
        Value::String(text) => hex(text.as_bytes()),
        Value::Bytes(bytes) => hex(bytes),
        _ => return None,
    })
}

fn scientific(number: f64, precision: usize) -> String {
    let shown = format!("{number:.precision$e}");
    let (mantissa, exponent) = shown.split_once('e').expect("the format has an exponent");
    let exponent: i32 = exponent.parse().expect("the exponent is a number");
    format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
}
