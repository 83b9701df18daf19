//! What the server decides about a pod, and what its subresources may change.

use corten_apimachinery::kind::Write;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

use super::quality;
use crate::kinds::change::{keep, keep_in_metadata, keep_metadata};
use crate::kinds::column::list;

/// A new pod is pending, has its quality-of-service class, and its scheduling constraints select by its own labels
/// where they say so.
pub(super) fn prepare(pod: &mut Value, stored: Option<&Value>) {
    if stored.is_some() {
        return;
    }
    let class = quality::class(pod.get("spec").unwrap_or(&Value::Null));
    let mut status = value!({"phase": "Pending", "qosClass": class});
    if !list(pod, &["spec", "schedulingGates"]).is_empty()
        && let Some(fields) = status.as_object_mut()
    {
        fields.insert("conditions", vec![gated(pod.str_at(&["metadata", "creationTimestamp"]))]);
    }
    if let Some(fields) = pod.as_object_mut() {
        fields.insert("status", status);
    }
    select_by_own_labels(pod);
}

/// A write of the status changes neither owners nor the quality-of-service class, and forgets no generation that was
/// observed: kubelets leave these out.
pub(super) fn settle(pod: &mut Value, write: &Write<'_>) {
    let Some(stored) = write.old.filter(|_| write.subresource == "status") else { return };
    keep_in_metadata(pod, stored, "ownerReferences");
    let Some(old) = stored.get("status") else { return };
    let status = pod.object_entry("status");
    for field in ["qosClass", "observedGeneration"] {
        keep_if_unset(status, old, field);
    }
    let Some(conditions) = status.get_mut("conditions").and_then(Value::as_array_mut) else { return };
    for condition in conditions.iter_mut() {
        let same = |other: &&Value| other.str_at(&["type"]) == condition.str_at(&["type"]);
        let Some(old) = list(old, &["conditions"]).iter().find(same) else { continue };
        if let Some(condition) = condition.as_object_mut() {
            keep_if_unset(condition, old, "observedGeneration");
        }
    }
}

fn keep_if_unset(fields: &mut Map, stored: &Value, field: &str) {
    let unset = |value: &Value| matches!(value, Value::Null | Value::Int(0)) || value.as_str() == Some("");
    if let Some(value) = stored.get(field).filter(|_| fields.get(field).is_none_or(unset)) {
        fields.insert(field, value.clone());
    }
}

fn gated(since: &str) -> Value {
    value!({
        "type": "PodScheduled", "status": "False", "lastProbeTime": null, "lastTransitionTime": since,
        "reason": "SchedulingGated", "message": "Scheduling is blocked due to non-empty scheduling gates"
    })
}

fn select_by_own_labels(pod: &mut Value) {
    let labels = pod.at(&["metadata", "labels"]).and_then(Value::as_object).cloned().unwrap_or_default();
    for side in ["podAffinity", "podAntiAffinity"] {
        let Some(affinity) = pod.at_mut(&["spec", "affinity", side]) else { continue };
        for term in items_mut(affinity, "requiredDuringSchedulingIgnoredDuringExecution") {
            extend_selector(term, &labels);
        }
        for weighted in items_mut(affinity, "preferredDuringSchedulingIgnoredDuringExecution") {
            if let Some(term) = weighted.get_mut("podAffinityTerm") {
                extend_selector(term, &labels);
            }
        }
    }
    if let Some(spec) = pod.get_mut("spec") {
        for constraint in items_mut(spec, "topologySpreadConstraints") {
            extend_selector(constraint, &labels);
        }
    }
}

/// Spells `matchLabelKeys` and `mismatchLabelKeys` out as requirements of the selector; without a selector nothing is
/// selected, and nothing is added.
fn extend_selector(term: &mut Value, labels: &Map) {
    let mut added = Vec::new();
    for (keys, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        for key in list(term, &[keys]).iter().filter_map(Value::as_str) {
            if let Some(label) = labels.get(key).cloned() {
                added.push(value!({"key": key, "operator": operator, "values": [label]}));
            }
        }
    }
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else { return };
    if added.is_empty() {
        return;
    }
    match selector.get_mut("matchExpressions") {
        Some(Value::Array(expressions)) => expressions.extend(added),
        _ => {
            selector.insert("matchExpressions", Value::Array(added));
        }
    }
}

fn items_mut<'a>(parent: &'a mut Value, field: &str) -> impl Iterator<Item = &'a mut Value> {
    parent.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten()
}

/// `ephemeralcontainers`: that list alone.
pub(super) fn ephemeral_containers(new: &mut Value, stored: &Value) {
    let asked = new.at(&["spec", "ephemeralContainers"]).cloned();
    restore(new, stored);
    let spec = new.object_entry("spec");
    match asked {
        Some(containers) => {
            spec.insert("ephemeralContainers", containers);
        }
        None => {
            spec.remove("ephemeralContainers");
        }
    }
}

/// `resize`: resources and resize policies. Where containers were added, removed, moved or renamed, the specification
/// stays as it was sent, for validation to refuse it.
pub(super) fn resize(new: &mut Value, stored: &Value) {
    let lists = ["containers", "initContainers"];
    if lists.iter().any(|list| names(new, list) != names(stored, list)) {
        return;
    }
    let asked = new.get("spec").cloned().unwrap_or_default();
    restore(new, stored);
    let Some(spec) = new.get_mut("spec") else { return };
    take(spec, &asked, "resources");
    for field in lists {
        for (container, asked) in items_mut(spec, field).zip(list(&asked, &[field])) {
            take(container, asked, "resources");
            take(container, asked, "resizePolicy");
        }
    }
}

fn take(target: &mut Value, asked: &Value, field: &str) {
    keep(target, asked, field);
}

fn names<'a>(pod: &'a Value, field: &str) -> Vec<&'a str> {
    list(pod, &["spec", field]).iter().map(|container| container.str_at(&["name"])).collect()
}

fn restore(new: &mut Value, stored: &Value) {
    keep(new, stored, "spec");
    keep(new, stored, "status");
    keep_metadata(new, stored);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_pods_are_pending() {
        let mut pod = value!({
            "metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"},
            "spec": {"containers": [{"name": "a"}], "schedulingGates": [{"name": "g"}]}
        });
        prepare(&mut pod, None);
        assert_eq!(
            pod.get("status"),
            Some(
                &value!({"phase": "Pending", "qosClass": "BestEffort", "conditions": [(gated("2026-01-01T00:00:00Z"))]})
            )
        );
    }

    #[test]
    fn a_status_leaves_what_kubelets_do_not_know() {
        let stored = value!({
            "metadata": {"name": "a", "ownerReferences": [{"uid": "o"}]},
            "status": {"qosClass": "Burstable", "conditions": [{"type": "Ready", "observedGeneration": 2}]}
        });
        let mut pod = value!({
            "metadata": {"name": "a", "labels": {"b": "c"}},
            "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        });
        let extra = std::collections::BTreeMap::new();
        let user = corten_apimachinery::kind::Writer { name: "n", uid: "", groups: &[], extra: &extra };
        let write = |subresource| Write { subresource, old: Some(&stored), now_s: 0, user };
        let before = pod.clone();
        settle(&mut pod, &write(""));
        assert_eq!(pod, before);
        settle(&mut pod, &write("status"));
        assert_eq!(
            pod,
            value!({
                "metadata": {"name": "a", "labels": {"b": "c"}, "ownerReferences": [{"uid": "o"}]},
                "status": {"phase": "Running", "qosClass": "Burstable",
                    "conditions": [{"type": "Ready", "status": "True", "observedGeneration": 2}]}
            })
        );
    }

    #[test]
    fn constraints_select_by_own_labels() {
        let mut pod = value!({
            "metadata": {"labels": {"hash": "1"}},
            "spec": {"topologySpreadConstraints": [
                {"labelSelector": {"matchLabels": {"a": "b"}}, "matchLabelKeys": ["hash", "other"]}, {"matchLabelKeys": ["hash"]}
            ]}
        });
        prepare(&mut pod, None);
        assert_eq!(
            pod.at(&["spec", "topologySpreadConstraints"]),
            Some(&value!([
                {
                    "labelSelector": {
                        "matchLabels": {"a": "b"},
                        "matchExpressions": [{"key": "hash", "operator": "In", "values": ["1"]}]
                    },
                    "matchLabelKeys": ["hash", "other"]
                },
                {"matchLabelKeys": ["hash"]}
            ]))
        );
    }

    #[test]
    fn subresources_change_their_part() {
        let stored = value!({"metadata": {"labels": {"a": "b"}}, "spec": {
            "nodeName": "n", "containers": [{"name": "a", "image": "x", "resources": {}}]
        }});
        let sent = || {
            value!({"metadata": {}, "spec": {
                "nodeName": "m",
                "containers": [{"name": "a", "image": "y", "resources": {"limits": {"cpu": "1"}}}],
                "ephemeralContainers": [{"name": "debug"}]
            }})
        };
        let mut new = sent();
        ephemeral_containers(&mut new, &stored);
        assert_eq!(
            new,
            value!({"metadata": {"labels": {"a": "b"}}, "spec": {
                "nodeName": "n", "containers": [{"name": "a", "image": "x", "resources": {}}],
                "ephemeralContainers": [{"name": "debug"}]
            }})
        );
        let mut new = sent();
        resize(&mut new, &stored);
        assert_eq!(
            new,
            value!({"metadata": {"labels": {"a": "b"}}, "spec": {
                "nodeName": "n", "containers": [{"name": "a", "image": "x", "resources": {"limits": {"cpu": "1"}}}]
            }})
        );
    }
}
