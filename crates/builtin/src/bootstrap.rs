//! What a cluster begins with, besides the default roles: the system's namespaces, priority classes, and the mandatory
//! objects of flow control. Figures are upstream's.

mod authorities;
pub mod joining;
mod network;

use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};

pub use authorities::Authorities;
pub(crate) use authorities::keep;
pub use joining::Joining;
pub use network::Network;
pub(crate) use network::follow;

use crate::lookup::{NAMESPACES, PRIORITY_CLASSES, Resource};

const INGRESS_CLASSES: Resource = Resource { group: "networking.k8s.io", plural: "ingressclasses" };
const STORAGE_CLASSES: Resource = Resource { group: "storage.k8s.io", plural: "storageclasses" };
const FLOW_SCHEMAS: Resource = Resource { group: "flowcontrol.apiserver.k8s.io", plural: "flowschemas" };
const PRIORITY_LEVELS: Resource =
    Resource { group: "flowcontrol.apiserver.k8s.io", plural: "prioritylevelconfigurations" };

/// Above every value that users may give to a class.
const SYSTEM_CRITICAL: i64 = 2_000_000_000;

/// The namespaces that everything else stands in.
pub fn namespaces() -> Vec<(Resource, Value)> {
    let names = ["default", "kube-system", "kube-public", "kube-node-lease"];
    names.map(|name| (NAMESPACES, object("v1", "Namespace", name, []))).into()
}

/// Objects that are made where they are missing.
pub fn objects() -> Vec<(Resource, Value)> {
    let class = |name: &str, priority: i64, description: &str| {
        let fields = [("value", priority.into()), ("description", description.into())];
        (PRIORITY_CLASSES, object("scheduling.k8s.io/v1", "PriorityClass", name, fields))
    };
    let node = "Used for system critical pods that must not be moved from their current node.";
    let cluster =
        "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.";
    let exempt = value!({
        "type": "Exempt",
        "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}
    });
    let catch_all = value!({
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}, "lendablePercent": 0}
    });
    vec![
        class("system-node-critical", SYSTEM_CRITICAL + 1000, node),
        class("system-cluster-critical", SYSTEM_CRITICAL, cluster),
        ingress_class(),
        storage_class(),
        priority_level("exempt", exempt),
        priority_level("catch-all", catch_all),
        flow_schema("exempt", 1, None, &["system:masters"]),
        flow_schema("catch-all", 10_000, Some("ByUser"), &["system:unauthenticated", "system:authenticated"]),
    ]
}

/// The class of Ingresses that the edge serves, also of those that name none.
fn ingress_class() -> (Resource, Value) {
    let mut class =
        object("networking.k8s.io/v1", "IngressClass", "corten", [("spec", value!({"controller": "corten.dev/edge"}))]);
    let annotations = value!({"ingressclass.kubernetes.io/is-default-class": "true"});
    let metadata = class.as_object_mut().and_then(|class| class.get_mut("metadata")).and_then(Value::as_object_mut);
    metadata.expect("every object has metadata").insert("annotations", annotations);
    (INGRESS_CLASSES, class)
}

/// The class of claims that name none: a disk of the size that is asked for, on the node that their first pod goes to.
fn storage_class() -> (Resource, Value) {
    let fields = [
        ("provisioner", "local.corten.dev".into()),
        ("reclaimPolicy", "Delete".into()),
        ("volumeBindingMode", "WaitForFirstConsumer".into()),
        ("allowVolumeExpansion", true.into()),
    ];
    let mut class = object("storage.k8s.io/v1", "StorageClass", "local", fields);
    let annotations = value!({"storageclass.kubernetes.io/is-default-class": "true"});
    class.object_entry("metadata").insert("annotations", annotations);
    (STORAGE_CLASSES, class)
}

fn object<const N: usize>(version: &str, kind: &str, name: &str, fields: [(&str, Value); N]) -> Value {
    let mut object = Map::new();
    object.insert("kind", kind);
    object.insert("apiVersion", version);
    object.insert("metadata", value!({"name": name}));
    for (field, value) in fields {
        object.insert(field, value);
    }
    Value::Object(object)
}

fn flow_control(kind: &str, name: &str, spec: Value) -> Value {
    let mut object = object("flowcontrol.apiserver.k8s.io/v1", kind, name, [("spec", spec)]);
    let keep_spec = value!({"apf.kubernetes.io/autoupdate-spec": "true"});
    object.object_entry("metadata").insert("annotations", keep_spec);
    object
}

fn priority_level(name: &str, spec: Value) -> (Resource, Value) {
    (PRIORITY_LEVELS, flow_control("PriorityLevelConfiguration", name, spec))
}

/// A schema that takes all requests of some groups to the level of its own name.
fn flow_schema(name: &str, precedence: i64, distinguisher: Option<&str>, groups: &[&str]) -> (Resource, Value) {
    let subjects: Vec<Value> =
        groups.iter().map(|group| value!({"kind": "Group", "group": {"name": (*group)}})).collect();
    let mut spec = value!({
        "priorityLevelConfiguration": {"name": name},
        "matchingPrecedence": precedence
    });
    if let Some(method) = distinguisher {
        spec.object_entry("distinguisherMethod").insert("type", method);
    }
    let rules = value!([{
        "subjects": subjects,
        "resourceRules": [{
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true, "namespaces": ["*"]
        }],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    }]);
    spec.as_object_mut().map(|spec| spec.insert("rules", rules));
    (FLOW_SCHEMAS, flow_control("FlowSchema", name, spec))
}
