//! What the endpoints below a pod share: the pod as a target, its conditions, and how they answer.

use std::sync::Arc;

use corten_apimachinery::kind::KindInfo;
use corten_apimachinery::status::Status;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::{Str, Value};
use corten_apimachinery::{meta::Meta, value};
use corten_apiserver::connect::{Answer, Call};
use corten_apiserver::registry::{Context, Registry, Target};

/// An object of a core or policy kind in its stored version.
pub(crate) fn target(registry: &Registry, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Target> {
    let kind: Arc<KindInfo> = registry.kinds().resource(group, "v1", plural)?.clone();
    Some(Target { kind, namespace: namespace.into(), name: name.into(), subresource: Str::default() })
}

pub(crate) fn pod(registry: &Registry, namespace: &str, name: &str) -> Result<Target, Status> {
    target(registry, "", "pods", namespace, name).ok_or_else(Status::unknown_path)
}

/// In whose name a call writes. Upstream's endpoints own no fields.
pub(crate) fn context(call: &Call) -> Context {
    Context::new(call.user.clone(), Str::default())
}

/// Sets a condition of a status; its time is when its status last changed.
pub(crate) fn set_condition(pod: &mut Value, kind: &str, reason: &str, message: &str, now_s: i64) {
    let conditions = pod.object_entry("status").get("conditions").and_then(Value::as_array);
    let mut conditions = conditions.unwrap_or_default().to_vec();
    let known = conditions.iter().position(|condition| condition.str_at(&["type"]) == kind);
    let since = known.map(|known| &conditions[known]).filter(|known| known.str_at(&["status"]) == "True");
    let since = since.map(|known| Str::from(known.str_at(&["lastTransitionTime"])));
    let since = since.unwrap_or_else(|| Time::from_seconds(now_s).to_rfc3339());
    let mut condition = value!({"type": kind, "status": "True", "lastProbeTime": null, "lastTransitionTime": since});
    for (field, text) in [("reason", reason), ("message", message)] {
        if let Some(condition) = condition.as_object_mut().filter(|_| !text.is_empty()) {
            condition.insert(field, text);
        }
    }
    match known {
        Some(known) => conditions[known] = condition,
        None => conditions.push(condition),
    }
    pod.object_entry("status").insert("conditions", conditions);
}

/// What a create answers that has nothing to show.
pub(crate) fn done() -> Answer {
    let value = value!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201});
    Answer::Object { code: 201, value }
}

/// The body names what the path names.
pub(crate) fn check_name(call: &Call, object: &Value, kind: &str) -> Result<(), Status> {
    if call.target.name.as_str() == Meta::of(object).name() {
        return Ok(());
    }
    Err(Status::bad_request(format!("name in URL does not match name in {kind} object")))
}
