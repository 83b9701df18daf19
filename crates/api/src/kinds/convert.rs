//! Conversions between a served version and the stored one, where they differ in more than their name. Each is a pair
//! of functions over trees; what they leave is conformed to the other version, which fills in and orders the fields.

pub(crate) mod autoscaler;
pub(crate) mod event;

use std::sync::Arc;

use corten_apimachinery::kind::Conversion;
use corten_apimachinery::schema::ObjectSchema as _;
use corten_apimachinery::value::Value;

type Change = fn(&mut Value) -> Result<(), String>;

/// A conversion of `kind` between the stored and another version.
fn between(
    kind: &'static str,
    (stored, to_storage): (&'static str, Change),
    (served, from_storage): (&'static str, Change),
) -> Conversion {
    Conversion {
        to_storage: Arc::new(move |object| convert(object, kind, stored, to_storage)),
        from_storage: Arc::new(move |object| convert(object, kind, served, from_storage)),
    }
}

fn convert(mut object: Value, kind: &str, api_version: &'static str, change: Change) -> Result<Value, String> {
    change(&mut object)?;
    if let Some(map) = object.as_object_mut() {
        map.insert("apiVersion", api_version);
    }
    conform(object, kind, api_version)
}

fn conform(value: Value, kind: &str, api_version: &str) -> Result<Value, String> {
    let schema = crate::schema(api_version, kind).ok_or_else(|| format!("no type for {api_version} {kind}"))?;
    schema.conform(value).map(|conformed| conformed.value).map_err(|error| error.to_string())
}

/// Takes out the value below a chain of fields.
fn take(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    value.at_mut(parents)?.as_object_mut()?.remove(last)
}

/// Sets the value below a chain of fields and makes the objects on the way.
fn put(value: &mut Value, path: &[&str], new: Value) {
    if let (Some((last, parents)), Value::Object(root)) = (path.split_last(), value) {
        let parent = parents.iter().fold(root, |map, key| map.object_entry(key));
        parent.insert(*last, new);
    }
}
