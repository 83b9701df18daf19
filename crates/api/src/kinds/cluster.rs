//! Namespaces, nodes, and the health of components.

use std::collections::BTreeSet;

use corten_apimachinery::kind::{Column, NameRule, Serve, Strategy};
use corten_apimachinery::value::Value;

use super::change::keep;
use super::column::{NONE, UNKNOWN, age, at, at_or, condition, flag, list, name, plain, text, wide};
use super::{KindRules, boolean_text, computed, field, warning};
use crate::rules::validation::node;

const ROLE_PREFIX: &str = "node-role.kubernetes.io/";
const ROLE_LABEL: &str = "kubernetes.io/role";
/// The finalizer that holds a namespace until everything in it is gone.
const FINALIZER: &str = "kubernetes";

pub(crate) const KINDS: &[KindRules] = &[
    KindRules {
        strategy: |base| Strategy {
            name: NameRule::DnsLabel,
            delete_returns_object: true,
            prepare: Some(prepare_namespace),
            hold: Some(|namespace| !list(namespace, &["spec", "finalizers"]).is_empty()),
            begin_delete: Some(|namespace, _| {
                namespace.object_entry("status").insert("phase", "Terminating");
            }),
            validate: Some(node::namespace),
            ..base
        },
        columns: || vec![name(), text("Status", |namespace, _| at(namespace, &["status", "phase"])), age()],
        selectable_fields: || vec![field("status.phase"), super::field_as("name", "metadata.name")],
        // Finalizers of the specification, which the object itself cannot change.
        serve: |subresource| {
            (subresource == "finalize").then_some(Serve::Part(|new, stored| keep(new, stored, "status")))
        },
        ..KindRules::new("", "Namespace")
    },
    KindRules {
        strategy: |base| Strategy {
            status_on_create: true,
            validate: Some(node::validate),
            warn: Some(warning::node),
            ..base
        },
        columns: node_columns,
        selectable_fields: || {
            vec![computed("spec.unschedulable", |node| boolean_text(node, &["spec", "unschedulable"]))]
        },
        ..KindRules::new("", "Node")
    },
    KindRules {
        strategy: |base| Strategy { deprecated: Some("v1 ComponentStatus is deprecated in v1.19+".into()), ..base },
        columns: component_columns,
        ..KindRules::new("", "ComponentStatus")
    },
];

fn prepare_namespace(namespace: &mut Value, stored: Option<&Value>) {
    if let Some(stored) = stored {
        let finalizers = stored.at(&["spec", "finalizers"]).cloned();
        let spec = namespace.object_entry("spec");
        match finalizers {
            Some(finalizers) => {
                spec.insert("finalizers", finalizers);
            }
            None => {
                spec.remove("finalizers");
            }
        }
    } else {
        let mut finalizers = list(namespace, &["spec", "finalizers"]).to_vec();
        if !finalizers.iter().any(|finalizer| finalizer.as_str() == Some(FINALIZER)) {
            finalizers.push(FINALIZER.into());
        }
        namespace.object_entry("spec").insert("finalizers", finalizers);
        namespace.object_entry("status").insert("phase", "Active");
    }
    // Names are generated after defaults, so that the label may still be missing.
    let name = namespace.str_at(&["metadata", "name"]).to_owned();
    if let Some(fields) = namespace.as_object_mut() {
        fields.object_entry("metadata").object_entry("labels").insert("kubernetes.io/metadata.name", name);
    }
}

fn node_columns() -> Vec<Column> {
    vec![
        name(),
        text("Status", |node, _| node_status(node).into()),
        text("Roles", |node, _| roles(node).into()),
        age(),
        text("Version", |node, _| at(node, &["status", "nodeInfo", "kubeletVersion"])),
        wide(text("Internal-IP", |node, _| address(node, "InternalIP"))),
        wide(text("External-IP", |node, _| address(node, "ExternalIP"))),
        wide(text("OS-Image", |node, _| at_or(node, &["status", "nodeInfo", "osImage"], UNKNOWN))),
        wide(text("Kernel-Version", |node, _| {
            let kernel = plain(&at_or(node, &["status", "nodeInfo", "kernelVersion"], UNKNOWN));
            match node.str_at(&["status", "nodeInfo", "architecture"]) {
                "" => kernel.into(),
                architecture => format!("{kernel} ({architecture})").into(),
            }
        })),
        wide(text("Container-Runtime", |node, _| {
            at_or(node, &["status", "nodeInfo", "containerRuntimeVersion"], UNKNOWN)
        })),
    ]
}

fn node_status(node: &Value) -> String {
    let ready = match condition(node, "Ready").map(|ready| ready.str_at(&["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let closed = if flag(node, &["spec", "unschedulable"]) { ",SchedulingDisabled" } else { "" };
    format!("{ready}{closed}")
}

/// From labels `node-role.kubernetes.io/ROLE` and `kubernetes.io/role=ROLE`.
fn roles(node: &Value) -> String {
    let labels = node.at(&["metadata", "labels"]).and_then(Value::as_object);
    let role = |(key, value): (&corten_apimachinery::value::Str, &Value)| match key.strip_prefix(ROLE_PREFIX) {
        Some(role) => role.to_owned(),
        None if key == ROLE_LABEL => value.as_str().unwrap_or_default().to_owned(),
        None => String::new(),
    };
    let roles: BTreeSet<String> =
        labels.into_iter().flat_map(|labels| labels.iter()).map(role).filter(|role| !role.is_empty()).collect();
    if roles.is_empty() { NONE.to_owned() } else { roles.into_iter().collect::<Vec<_>>().join(",") }
}

fn address(node: &Value, kind: &str) -> Value {
    let addresses = list(node, &["status", "addresses"]);
    let of_kind = addresses.iter().find(|address| address.str_at(&["type"]) == kind);
    of_kind.map_or_else(|| NONE.into(), |address| at(address, &["address"]))
}

fn component_columns() -> Vec<Column> {
    fn health(component: &Value) -> Option<&Value> {
        list(component, &["conditions"]).iter().find(|condition| condition.str_at(&["type"]) == "Healthy")
    }
    fn said(component: &Value, field: &str) -> Value {
        health(component).map(|health| health.str_at(&[field])).unwrap_or_default().into()
    }
    vec![
        name(),
        text("Status", |component, _| match health(component).map(|health| health.str_at(&["status"])) {
            Some("True") => "Healthy".into(),
            Some(_) => "Unhealthy".into(),
            None => "Unknown".into(),
        }),
        text("Message", |component, _| said(component, "message")),
        text("Error", |component, _| said(component, "error")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::column::testing::check;
    use corten_apimachinery::value;

    #[test]
    fn nodes() {
        let node = value!({
            "metadata": {"labels": {
                "node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "edge"
            }},
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "Unknown"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1", "kernelVersion": "6.1", "architecture": "amd64"}
            }
        });
        check(
            "",
            "Node",
            &node,
            &[
                "NotReady,SchedulingDisabled",
                "control-plane,edge,worker",
                "v1",
                "10.0.0.1",
                "<none>",
                "<unknown>",
                "6.1 (amd64)",
                "<unknown>",
            ],
        );
        check(
            "",
            "Node",
            &value!({}),
            &["Unknown", "<none>", "", "<none>", "<none>", "<unknown>", "<unknown>", "<unknown>"],
        );
    }

    #[test]
    fn namespaces() {
        let mut namespace = value!({"metadata": {"name": "a"}, "spec": {"finalizers": ["x"]}});
        prepare_namespace(&mut namespace, None);
        let expect = value!({
            "metadata": {"name": "a", "labels": {"kubernetes.io/metadata.name": "a"}},
            "spec": {"finalizers": ["x", "kubernetes"]}, "status": {"phase": "Active"}
        });
        assert_eq!(namespace, expect);
        let mut update = value!({"metadata": {"name": "a"}, "spec": {}, "status": {"phase": "Active"}});
        prepare_namespace(&mut update, Some(&namespace));
        assert_eq!(update, expect);
        check("", "Namespace", &namespace, &["Active"]);
    }

    #[test]
    fn components() {
        let component = value!({"conditions": [{"type": "Healthy", "status": "False", "message": "m", "error": "e"}]});
        check("", "ComponentStatus", &component, &["Unhealthy", "m", "e"]);
        check("", "ComponentStatus", &value!({}), &["Unknown", "", ""]);
    }
}
