//! What the workload controllers want to know of a pod.

use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::Resource;
use corten_client::cache::{Held, View};

pub(crate) const PODS: Resource = Resource::new("", "v1", "pods");

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    #[default]
    Pending,
    Unknown,
    Running,
    /// It has ended, well or not.
    Over,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct PodView {
    pub(crate) phase: Phase,
    /// It has ended badly.
    pub(crate) failed: bool,
    /// Empty until it is assigned.
    pub(crate) node: Str,
    /// The node that it is meant for by name, assigned or not.
    pub(crate) target: Str,
    /// Since when it is ready, in Unix seconds; `None` where it is not.
    pub(crate) ready_s: Option<i64>,
    pub(crate) created_s: i64,
    pub(crate) restarts: i64,
    /// What the annotation says that its deletion costs.
    pub(crate) cost: i32,
    /// Nobody controls it: it can be adopted. The namespace, as the key that finds it.
    orphan_in: Option<Str>,
}

/// The key under which a cache has the pods of a namespace that nobody controls.
pub(crate) fn orphans_of(namespace: &str) -> &str {
    namespace
}

impl View for PodView {
    fn from_object(pod: &Value) -> Option<Self> {
        let meta = Meta::of(pod);
        let list = |path: &[&str]| pod.at(path).and_then(Value::as_array).unwrap_or_default().to_vec();
        let ready = list(&["status", "conditions"])
            .into_iter()
            .find(|condition| condition.str_at(&["type"]) == "Ready" && condition.str_at(&["status"]) == "True");
        let restarts =
            list(&["status", "containerStatuses"]).iter().filter_map(|of| of.i64_at(&["restartCount"])).max();
        let controlled = meta.owner_references().any(|owner| owner.controller());
        let cost = meta.annotation("controller.kubernetes.io/pod-deletion-cost").unwrap_or("0");
        Some(Self {
            phase: match pod.str_at(&["status", "phase"]) {
                "Running" => Phase::Running,
                "Unknown" => Phase::Unknown,
                "Succeeded" | "Failed" => Phase::Over,
                _ => Phase::Pending,
            },
            failed: pod.str_at(&["status", "phase"]) == "Failed",
            node: pod.str_at(&["spec", "nodeName"]).into(),
            target: target(pod).into(),
            ready_s: ready.map(|ready| seconds(ready.str_at(&["lastTransitionTime"]))),
            created_s: seconds(meta.creation_timestamp()),
            restarts: restarts.unwrap_or_default(),
            // Validation has seen to it that it is a number.
            cost: cost.parse().unwrap_or_default(),
            orphan_in: (!controlled).then(|| meta.namespace().into()),
        })
    }

    fn keys(&self) -> Vec<Str> {
        self.orphan_in.iter().cloned().collect()
    }
}

impl PodView {
    /// Ready for at least so long.
    pub(crate) fn is_available(&self, min_ready_s: i64, now_s: i64) -> bool {
        self.ready_s.is_some_and(|since_s| min_ready_s == 0 || since_s + min_ready_s <= now_s)
    }
}

/// The node of a pod, or the one that its required affinity names alone.
fn target(pod: &Value) -> &str {
    let node = pod.str_at(&["spec", "nodeName"]);
    if !node.is_empty() {
        return node;
    }
    let required =
        ["spec", "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution", "nodeSelectorTerms"];
    fn list(of: Option<&Value>) -> &[Value] {
        of.and_then(Value::as_array).unwrap_or_default()
    }
    let fields = list(pod.at(&required)).iter().flat_map(|term| list(term.get("matchFields")));
    let mut named =
        fields.filter(|field| field.str_at(&["key"]) == "metadata.name" && field.str_at(&["operator"]) == "In");
    named.next().and_then(|field| list(field.get("values")).first()?.as_str()).unwrap_or_default()
}

/// Counts towards what is wanted: neither over nor being deleted.
pub(crate) fn is_active(pod: &Held<PodView>) -> bool {
    pod.phase != Phase::Over && !pod.head.deleting
}

/// A pod of a template, without a name.
pub(crate) fn from_template(template: &Value, owner: Value) -> Value {
    let mut metadata = Map::new();
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template.at(&["metadata", field]) {
            metadata.insert(field, value.clone());
        }
    }
    metadata.insert("ownerReferences", vec![owner]);
    let spec = template.get("spec").cloned().unwrap_or_default();
    value!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata, "spec": spec})
}

/// Unix seconds of a timestamp that the server has written; 0 for none.
pub(crate) fn seconds(text: &str) -> i64 {
    Time::parse(text).map_or(0, |time| time.seconds)
}
