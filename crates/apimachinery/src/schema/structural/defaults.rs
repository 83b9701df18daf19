//! Fills in the declared defaults of a structural schema.

use super::{Additional, Structural};
use crate::value::Value;

/// Sets absent fields that have a default, and nulls where none may stand, from the outside in.
pub(super) fn fill(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(map) => {
            for (name, property) in &schema.properties {
                let Some(default) = &property.default else { continue };
                if map.get(name).is_none_or(|there| refused_null(there, property)) {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, value) in map.iter_mut() {
                if let Some(property) = schema.properties.get(name) {
                    fill(value, property);
                } else if let Additional::Schema(additional) = &schema.additional {
                    fill_element(value, additional);
                }
            }
        }
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            items.iter_mut().for_each(|item| fill_element(item, schema));
        }
        _ => {}
    }
}

/// Removes nulls of fields that may not be null and have no default: upstream treats them as absent.
pub(super) fn drop_refused_nulls(value: &mut Value, schema: &Structural) {
    match value {
        Value::Object(map) => map.retain(|name, value| match schema.field(name) {
            Some(field) if refused_null(value, field) && field.default.is_none() => false,
            Some(field) => {
                drop_refused_nulls(value, field);
                true
            }
            None => true,
        }),
        Value::Array(items) => {
            let Some(schema) = &schema.items else { return };
            items.iter_mut().for_each(|item| drop_refused_nulls(item, schema));
        }
        _ => {}
    }
}

/// Whether the schema or anything below it has a default.
pub(super) fn any(schema: &Structural) -> bool {
    schema.default.is_some()
        || schema.properties.values().any(any)
        || schema.items.as_deref().is_some_and(any)
        || matches!(&schema.additional, Additional::Schema(additional) if any(additional))
}

fn fill_element(value: &mut Value, schema: &Structural) {
    if refused_null(value, schema) {
        *value = schema.default.clone().unwrap_or_default();
    }
    fill(value, schema);
}

fn refused_null(value: &Value, schema: &Structural) -> bool {
    value.is_null() && !schema.nullable
}
