//! What is seen of the cluster: slim views of its objects, and pure functions from those to sights.

pub(crate) mod certificates;
pub(crate) mod figures;
pub(crate) mod nodes;
pub(crate) mod pods;
pub(crate) mod rollouts;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::Value;
use corten_client::cache::View;

use crate::kind::{SILENCE, seconds};

/// Until when nobody wants to hear of an object, in Unix seconds; 0 where nothing is said.
fn silent_until_s(object: &Value) -> i64 {
    Meta::of(object).annotation(SILENCE).map_or(0, seconds)
}

/// An object that nobody wants to hear of until some time; others are not held.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Silent {
    pub(crate) until_s: i64,
}

impl View for Silent {
    fn from_object(object: &Value) -> Option<Self> {
        Some(Self { until_s: silent_until_s(object) }).filter(|silent| silent.until_s > 0)
    }
}

/// The condition of a name.
fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    conditions.iter().find(|condition| condition.str_at(&["type"]) == name)
}
