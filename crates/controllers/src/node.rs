//! What controllers want to know of nodes, and how taints and tolerations meet.

use corten_apimachinery::value::Value;
use corten_client::Resource;

pub(crate) const NODES: Resource = Resource::new("", "v1", "nodes");

pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub(crate) const NO_EXECUTE: &str = "NoExecute";
pub(crate) const NO_SCHEDULE: &str = "NoSchedule";

pub(crate) fn taints(node: &Value) -> &[Value] {
    node.at(&["spec", "taints"]).and_then(Value::as_array).unwrap_or_default()
}

/// Key and effect say which taint it is.
pub(crate) fn is_taint(taint: &Value, key: &str, effect: &str) -> bool {
    taint.str_at(&["key"]) == key && taint.str_at(&["effect"]) == effect
}

pub(crate) fn tolerates(toleration: &Value, taint: &Value) -> bool {
    let text = |field| toleration.str_at(&[field]);
    let same = |field| text(field).is_empty() || text(field) == taint.str_at(&[field]);
    same("effect")
        && same("key")
        && match text("operator") {
            "" | "Equal" => text("value") == taint.str_at(&["value"]),
            "Exists" => true,
            _ => false,
        }
}

/// The status of a condition; empty where there is none.
pub(crate) fn condition<'a>(object: &'a Value, kind: &str) -> &'a str {
    let conditions = object.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let own = conditions.iter().find(|condition| condition.str_at(&["type"]) == kind);
    own.map_or("", |own| own.str_at(&["status"]))
}
