//! What a cluster is made of: namespaces, nodes, secrets, limits, roles, priorities, tokens and flow control.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::value::{Map, Value};

use super::{absent, fills, given, inherit, object_mut, text, zero};
use crate::rules::RuleTable;

const RBAC: &str = "rbac.authorization.k8s.io";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

pub(in crate::rules) const RULES: RuleTable = &[
    ("core/v1.Namespace", fills(namespace)),
    ("core/v1.NodeSpec", fills(pod_cidr)),
    (
        "core/v1.NodeStatus",
        fills(|status| {
            super::amount::round(status, &["capacity", "allocatable"]);
            if !given(status, "allocatable")
                && let Some(capacity) = status.get("capacity").cloned()
            {
                status.insert("allocatable", capacity);
            }
        }),
    ),
    ("core/v1.Secret", fills(secret)),
    ("core/v1.LimitRangeItem", fills(limit_range_item)),
    ("rbac/v1.RoleBinding", fills(role_ref)),
    ("rbac/v1.ClusterRoleBinding", fills(role_ref)),
    (
        "rbac/v1.Subject",
        fills(|subject| {
            if matches!(text(subject, "kind"), "User" | "Group") {
                zero(subject, "apiGroup", RBAC);
            }
        }),
    ),
    ("scheduling/v1.PriorityClass", fills(|class| absent(class, "preemptionPolicy", "PreemptLowerPriority"))),
    ("authentication/v1.TokenRequestSpec", fills(|token| absent(token, "expirationSeconds", 3600))),
    ("flowcontrol/v1.FlowSchemaSpec", fills(|schema| zero(schema, "matchingPrecedence", 1000))),
    (
        "flowcontrol/v1.ExemptPriorityLevelConfiguration",
        fills(|level| {
            absent(level, "nominalConcurrencyShares", 0);
            absent(level, "lendablePercent", 0);
        }),
    ),
    (
        "flowcontrol/v1.LimitedPriorityLevelConfiguration",
        fills(|level| {
            absent(level, "nominalConcurrencyShares", 30);
            absent(level, "lendablePercent", 0);
        }),
    ),
    (
        "flowcontrol/v1.QueuingConfiguration",
        fills(|queues| {
            zero(queues, "handSize", 8);
            zero(queues, "queues", 64);
            zero(queues, "queueLengthLimit", 50);
        }),
    ),
];

/// Every namespace carries its name as a label, so that selectors can name it.
fn namespace(namespace: &mut Map) {
    let metadata = namespace.object_entry("metadata");
    let name = text(metadata, "name").to_owned();
    if !name.is_empty() {
        metadata.object_entry("labels").insert(NAME_LABEL, name);
    }
    zero(namespace.object_entry("status"), "phase", "Active");
}

/// `podCIDR` and the first of `podCIDRs` are one fact; the singular wins where they differ.
fn pod_cidr(spec: &mut Map) {
    let first = spec.get("podCIDRs").and_then(Value::as_array).and_then(<[Value]>::first);
    let plural = first.and_then(Value::as_str).unwrap_or_default().to_owned();
    let single = text(spec, "podCIDR").to_owned();
    if single.is_empty() && !plural.is_empty() {
        spec.insert("podCIDR", plural);
    } else if single != plural {
        spec.insert("podCIDRs", vec![single]);
    }
}

/// `stringData` is for writing alone: it overwrites `data` and is never stored.
fn secret(secret: &mut Map) {
    zero(secret, "type", "Opaque");
    let Some(Value::Object(plain)) = secret.remove("stringData") else { return };
    for (key, value) in plain {
        let encoded = STANDARD.encode(value.as_str().unwrap_or_default());
        secret.object_entry("data").insert(key, encoded);
    }
}

/// For containers the default limit is the maximum, the default request the default limit, and else the minimum.
fn limit_range_item(item: &mut Map) {
    super::amount::round(item, &["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"]);
    if text(item, "type") != "Container" {
        return;
    }
    inherit(item, "max", "default");
    inherit(item, "default", "defaultRequest");
    inherit(item, "min", "defaultRequest");
}

fn role_ref(binding: &mut Map) {
    if let Some(role) = object_mut(binding, "roleRef") {
        zero(role, "apiGroup", RBAC);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn namespaces() {
        check(
            "core/v1.Namespace",
            value!({"metadata": {"name": "a"}}),
            &value!({
                "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}}, "status": {"phase": "Active"}
            }),
        );
        check(
            "core/v1.Namespace",
            value!({"metadata": {"generateName": "a"}}),
            &value!({"metadata": {"generateName": "a"}, "status": {"phase": "Active"}}),
        );
    }

    #[test]
    fn nodes() {
        check("core/v1.NodeSpec", value!({"podCIDR": "a"}), &value!({"podCIDR": "a", "podCIDRs": ["a"]}));
        check("core/v1.NodeSpec", value!({"podCIDRs": ["b", "c"]}), &value!({"podCIDRs": ["b", "c"], "podCIDR": "b"}));
        check(
            "core/v1.NodeStatus",
            value!({"capacity": {"cpu": "1"}}),
            &value!({"capacity": {"cpu": "1"}, "allocatable": {"cpu": "1"}}),
        );
    }

    #[test]
    fn secrets() {
        check(
            "core/v1.Secret",
            value!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"b": "hi", "c": ""}}),
            &value!({"data": {"a": "eA==", "b": "aGk=", "c": ""}, "type": "Opaque"}),
        );
        check("core/v1.Secret", value!({"type": "a/b"}), &value!({"type": "a/b"}));
    }

    #[test]
    fn limits() {
        check(
            "core/v1.LimitRangeItem",
            value!({"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"}}),
            &value!({
                "type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "1", "memory": "1Gi"},
                "default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Gi"}
            }),
        );
        check("core/v1.LimitRangeItem", value!({"type": "Pod", "max": {}}), &value!({"type": "Pod", "max": {}}));
    }

    #[test]
    fn roles() {
        check(
            "rbac/v1.RoleBinding",
            value!({"roleRef": {"kind": "Role", "name": "a"}}),
            &value!({"roleRef": {"kind": "Role", "name": "a", "apiGroup": "rbac.authorization.k8s.io"}}),
        );
        check(
            "rbac/v1.Subject",
            value!({"kind": "User"}),
            &value!({"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}),
        );
        check("rbac/v1.Subject", value!({"kind": "ServiceAccount"}), &value!({"kind": "ServiceAccount"}));
    }
}
