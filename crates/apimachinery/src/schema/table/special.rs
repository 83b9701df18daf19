//! Types with a JSON form of their own.

use super::conform::Pass;
use super::fault::Fault;
use super::{FieldType, Special};
use crate::duration;
use crate::quantity::Quantity;
use crate::time::Time;
use crate::value::{Str, Value};

/// Conforms a value that is not null.
pub(super) fn conform(pass: &mut Pass<'_>, special: Special, value: &mut Value) -> Result<(), Fault> {
    match special {
        Special::Time => time(value, Time::parse, Time::to_rfc3339),
        Special::MicroTime => time(value, Time::parse_micro, Time::to_rfc3339_micro),
        Special::Duration => go_duration(value),
        Special::Quantity => quantity(value),
        Special::IntOrString => int_or_string(value),
        Special::RawExtension | Special::FieldsV1 | Special::Json => Ok(()),
        Special::SchemaOrArray(id) => match value {
            Value::Object(_) => inner(pass, &FieldType::Struct(id), value),
            Value::Array(_) => inner(pass, &FieldType::List(Box::new(FieldType::Struct(id))), value),
            _ => null(value),
        },
        Special::SchemaOrBool(id) => match value {
            Value::Bool(_) => Ok(()),
            Value::Object(_) => inner(pass, &FieldType::Struct(id), value),
            _ => Err(Fault::Text("boolean or JSON schema expected".to_owned())),
        },
        Special::SchemaOrStrings(id) => match value {
            Value::Object(_) => inner(pass, &FieldType::Struct(id), value),
            Value::Array(_) => inner(pass, &FieldType::List(Box::new(FieldType::String)), value),
            _ => null(value),
        },
    }
}

/// Upstream decodes below these types without looking for unknown fields: they are dropped silently.
fn inner(pass: &mut Pass<'_>, ty: &FieldType, value: &mut Value) -> Result<(), Fault> {
    let known = pass.unknown.len();
    pass.value(ty, value)?;
    pass.unknown.truncate(known);
    Ok(())
}

/// What upstream's decoder of the type reads as nothing.
#[expect(clippy::unnecessary_wraps, reason = "an arm of conform")]
fn null(value: &mut Value) -> Result<(), Fault> {
    *value = Value::Null;
    Ok(())
}

fn time<E: std::fmt::Display>(
    value: &mut Value,
    parse: fn(&str) -> Result<Time, E>,
    print: fn(Time) -> Str,
) -> Result<(), Fault> {
    let Value::String(text) = &*value else { return Err(Fault::expecting(value, "string")) };
    let time = parse(text).map_err(|error| Fault::Text(error.to_string()))?;
    *value = if time.is_zero() { Value::Null } else { Value::String(print(time)) };
    Ok(())
}

fn go_duration(value: &mut Value) -> Result<(), Fault> {
    let Value::String(text) = &*value else { return Err(Fault::expecting(value, "string")) };
    let read = duration::parse(text).ok_or_else(|| Fault::Text(format!("time: invalid duration {text:?}")))?;
    *value = Value::String(duration::print(read));
    Ok(())
}

fn quantity(value: &mut Value) -> Result<(), Fault> {
    let quantity = Quantity::from_value(value).map_err(|error| Fault::Text(error.to_string()))?;
    *value = Value::from(quantity.to_string());
    Ok(())
}

fn int_or_string(value: &Value) -> Result<(), Fault> {
    match value {
        Value::String(_) => Ok(()),
        Value::Int(number) if i32::try_from(*number).is_ok() => Ok(()),
        other => Err(Fault::number(other, "int32")),
    }
}
