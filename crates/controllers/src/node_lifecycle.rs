//! Tells from a node's conditions and from the age of its lease whether it takes pods and keeps them: as conditions where
//! nobody reports any more, and as taints (`pkg/controller/nodelifecycle`).
//!
//! Ages are counted from when this controller saw the last sign of life, not from the node's own clock; so a restart of
//! the control plane loses no node.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Patch, Resource};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::node::{NO_EXECUTE, NO_SCHEDULE, NODES, NOT_READY, UNREACHABLE, condition, is_taint, taints};
use crate::pod::{PODS, PodView};

const LEASES: Resource = Resource::new("coordination.k8s.io", "v1", "leases");
const LEASE_NAMESPACE: &str = "kube-node-lease";

/// A node that has never reported has this long to begin.
const STARTUP: Duration = Duration::from_secs(60);

/// Conditions that a kubelet reports, and become unknown with it.
const REPORTED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Taints that follow from a condition with a status. All keep pods from being scheduled.
const BY_CONDITION: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
];
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// When a node's lease was renewed.
struct Renewed(Str);

impl View for Renewed {
    fn from_object(lease: &Value) -> Option<Self> {
        Some(Self(lease.str_at(&["spec", "renewTime"]).into()))
    }
}

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    grace: Duration,
    nodes: Informer<Value>,
    leases: Informer<Renewed>,
    pods: Informer<PodView>,
    /// The last sign of life of each node, and when it was seen.
    signs: Mutex<HashMap<Str, (String, i64)>>,
}

pub fn controller(base: &Base, grace: Duration) -> Controller {
    let nodes = base.informers.of::<Value>(Scope::all(NODES));
    let leases = base.informers.of::<Renewed>(Scope { namespace: LEASE_NAMESPACE.into(), ..Scope::all(LEASES) });
    let context = Context {
        client: (base.client_of)("node-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("node-controller", "node-controller"),
        grace,
        nodes: nodes.clone(),
        leases: leases.clone(),
        pods: base.informers.of::<PodView>(Scope::all(PODS)),
        signs: Mutex::default(),
    };
    let pods = context.pods.clone();
    Controller::new("node-lifecycle", Arc::new(context), reconcile)
        .watches(&nodes)
        .watches_for(&leases, |lease| vec![Key::new("", lease.head.name.clone())])
        .watches_for(&pods, |_| Vec::new())
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(node) = ctx.nodes.cache().get("", &key.name) else {
        ctx.forget(&key.name);
        return Ok(Next::Change);
    };
    let now_ms = ctx.clock.now_ms();
    if ctx.is_new(&key.name) {
        let note = format!("Node {0} event: Registered Node {0} in Controller", key.name);
        ctx.recorder.normal(&Reference::of_head("v1", "Node", &node.head), "RegisteredNode", note);
    }
    let silent_ms = ctx.silent_ms(&node.view, now_ms);
    let plan = plan(&node.view, silent_ms, ctx.grace, now_ms);
    if let Some(conditions) = &plan.conditions {
        let patch = value!({
            "metadata": {"resourceVersion": (node.head.revision.clone())}, "status": {"conditions": (conditions.clone())}
        });
        unless_gone(ctx.client.patch(&NODES, "", &key.name, "status", &Patch::Strategic(patch)).await)?;
        let note = format!("Node {} status is now: NodeNotReady", key.name);
        ctx.recorder.normal(&Reference::of_head("v1", "Node", &node.head), "NodeNotReady", note);
        // The next look has the new conditions, and sets taints by them.
        return Ok(Next::Change);
    }
    if let Some(taints) = &plan.taints {
        let patch = value!({
            "metadata": {"resourceVersion": (node.head.revision.clone())}, "spec": {"taints": (taints.clone())}
        });
        unless_gone(ctx.client.patch(&NODES, "", &key.name, "", &Patch::Merge(patch)).await)?;
        return Ok(Next::Change);
    }
    if condition(&node.view, "Ready") != "True" {
        ctx.pods_not_ready(&key.name).await?;
    }
    Ok(plan.next)
}

impl Context {
    fn forget(&self, name: &str) {
        self.signs.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// Whether a node has given no sign of life yet that was looked at.
    fn is_new(&self, name: &str) -> bool {
        !self.signs.lock().unwrap_or_else(PoisonError::into_inner).contains_key(name)
    }

    /// For how long a node has given no sign of life; `None` where it never gave one and may still begin.
    fn silent_ms(&self, node: &Value, now_ms: i64) -> i64 {
        let name = Meta::of(node).name();
        let lease = self.leases.cache().get(LEASE_NAMESPACE, name);
        let renewed = lease.as_ref().map_or("", |lease| lease.0.as_str());
        let conditions = node.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition.str_at(&["type"]) == "Ready");
        let beat = ready.map_or("", |ready| ready.str_at(&["lastHeartbeatTime"]));
        let sign = format!("{renewed} {beat}");
        let mut signs = self.signs.lock().unwrap_or_else(PoisonError::into_inner);
        match signs.get(name) {
            Some((known, since_ms)) if *known == sign => now_ms - since_ms,
            _ => {
                signs.insert(name.into(), (sign, now_ms));
                0
            }
        }
    }

    /// Takes the pods of a node that is not ready out of service.
    async fn pods_not_ready(&self, node: &str) -> Result<(), Error> {
        let now = Time::from_seconds(self.clock.now_s()).to_rfc3339();
        for pod in self.pods.cache().all().iter().filter(|pod| pod.node == node && pod.ready_s.is_some()) {
            let condition = value!({"type": "Ready", "status": "False", "lastTransitionTime": (now.clone())});
            let patch = value!({
                "metadata": {"uid": (pod.head.uid.clone())}, "status": {"conditions": [condition]}
            });
            let (namespace, name) = (&pod.head.namespace, &pod.head.name);
            let patched = self.client.patch(&PODS, namespace, name, "status", &Patch::Strategic(patch)).await;
            if unless_gone(patched)?.is_some() {
                let reference = Reference::of_head("v1", "Pod", &pod.head);
                self.recorder.warning(&reference, "NodeNotReady", "Node is not ready");
            }
        }
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Plan {
    /// Conditions that change.
    conditions: Option<Vec<Value>>,
    /// All taints, where they change.
    taints: Option<Vec<Value>>,
    next: Next,
}

/// Decides what a node's conditions and taints are after a silence.
fn plan(node: &Value, silent_ms: i64, grace: Duration, now_ms: i64) -> Plan {
    let never = condition(node, "Ready").is_empty();
    let limit_ms = i64::try_from(if never { STARTUP.max(grace) } else { grace }.as_millis()).unwrap_or(i64::MAX);
    let mut plan = Plan::default();
    if silent_ms >= limit_ms {
        let unknown = unknown(node, now_ms);
        if !unknown.is_empty() {
            plan.conditions = Some(unknown);
            return plan;
        }
    } else {
        let left_ms = u64::try_from(limit_ms - silent_ms).unwrap_or(1).max(1);
        plan.next = Next::After(Duration::from_millis(left_ms));
    }
    let wanted = wanted_taints(node, now_ms);
    plan.taints = (wanted != taints(node)).then_some(wanted);
    plan
}

/// The conditions of a node that nobody reports of, as far as they say something else yet.
fn unknown(node: &Value, now_ms: i64) -> Vec<Value> {
    let now = Time::from_millis(now_ms).to_rfc3339();
    let wanted = REPORTED.into_iter().filter(|kind| condition(node, kind) != "Unknown");
    let unknown = wanted.map(|kind| {
        if condition(node, kind).is_empty() {
            let created = Meta::of(node).creation_timestamp();
            return value!({
                "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
                "message": "Kubelet never posted node status.", "lastHeartbeatTime": created,
                "lastTransitionTime": (now.clone())
            });
        }
        value!({
            "type": kind, "status": "Unknown", "reason": "NodeStatusUnknown",
            "message": "Kubelet stopped posting node status.", "lastTransitionTime": (now.clone())
        })
    });
    unknown.collect()
}

/// The taints that are this controller's follow from the conditions; those of others stay, and so do times.
fn wanted_taints(node: &Value, now_ms: i64) -> Vec<Value> {
    let mut own = Vec::new();
    for (kind, status, key) in BY_CONDITION {
        let holds = condition(node, kind) == status;
        own.push((key, NO_SCHEDULE, holds));
        if kind == "Ready" {
            own.push((key, NO_EXECUTE, holds));
        }
    }
    let cordoned = node.at(&["spec", "unschedulable"]).and_then(Value::as_bool).unwrap_or_default();
    own.push((UNSCHEDULABLE, NO_SCHEDULE, cordoned));
    // Nothing is known of a node that has not reported yet: what it began with stays.
    if condition(node, "Ready").is_empty() {
        own.retain(|(key, ..)| *key == UNSCHEDULABLE);
    }
    let mut wanted: Vec<Value> = taints(node).to_vec();
    wanted.retain(|taint| !own.iter().any(|(key, effect, holds)| !holds && is_taint(taint, key, effect)));
    for (key, effect, _) in own.iter().filter(|(.., holds)| *holds) {
        if !wanted.iter().any(|taint| is_taint(taint, key, effect)) {
            let now = Time::from_millis(now_ms).to_rfc3339();
            wanted.push(value!({"key": (*key), "effect": (*effect), "timeAdded": now}));
        }
    }
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRACE: Duration = Duration::from_secs(20);

    fn node(conditions: &[(&str, &str)], taints: &[&str]) -> Value {
        let conditions: Vec<Value> =
            conditions.iter().map(|(kind, status)| value!({"type": (*kind), "status": (*status)})).collect();
        let taint = |text: &&str| {
            let (key, effect) = text.split_once(':').expect("key:effect");
            value!({"key": key, "effect": effect})
        };
        let taints: Vec<Value> = taints.iter().map(taint).collect();
        value!({"metadata": {"name": "n1"}, "spec": {"taints": taints}, "status": {"conditions": conditions}})
    }

    fn check(node: &Value, silent_ms: i64, expect: &str) {
        let plan = plan(node, silent_ms, GRACE, 0);
        let kinds = |list: &[Value]| {
            let one =
                |of: &Value| format!("{}{}:{}", of.str_at(&["type"]), of.str_at(&["key"]), of.str_at(&["effect"]));
            list.iter().map(one).collect::<Vec<_>>().join(" ").replace("node.kubernetes.io/", "")
        };
        let seen = match (&plan.conditions, &plan.taints) {
            (Some(conditions), _) => format!("conditions {}", kinds(conditions)),
            (_, Some(taints)) => format!("taints {}", kinds(taints)),
            _ => format!("{:?}", plan.next),
        };
        assert_eq!(seen, expect);
    }

    #[test]
    fn taints_follow_conditions() {
        let initial = format!("{NOT_READY}:NoSchedule");
        check(&node(&[], &[&initial]), 0, "After(60s)");
        check(&node(&[("Ready", "False")], &[&initial]), 0, "taints not-ready:NoSchedule not-ready:NoExecute");
        check(&node(&[("Ready", "True")], &[&initial]), 0, "taints ");
        check(&node(&[("Ready", "True")], &["mine:NoExecute"]), 5_000, "After(15s)");
        check(
            &node(&[("Ready", "True"), ("DiskPressure", "True")], &["mine:NoExecute", &initial]),
            0,
            "taints mine:NoExecute disk-pressure:NoSchedule",
        );
        check(
            &node(&[("Ready", "Unknown")], &["node.kubernetes.io/not-ready:NoExecute"]),
            0,
            "taints unreachable:NoSchedule unreachable:NoExecute",
        );
        let mut cordoned = node(&[("Ready", "True")], &[]);
        cordoned.object_entry("spec").insert("unschedulable", true);
        check(&cordoned, 0, "taints unschedulable:NoSchedule");
    }

    #[test]
    fn a_silent_node_becomes_unknown_once() {
        let all = "conditions Ready: MemoryPressure: DiskPressure: PIDPressure:";
        check(&node(&[("Ready", "True")], &[]), 20_000, all);
        check(&node(&[], &[]), 59_000, "After(1s)");
        check(&node(&[], &[]), 60_000, all);
        let gone = [("Ready", "Unknown"), ("MemoryPressure", "Unknown"), ("DiskPressure", "Unknown")];
        check(&node(&gone, &[]), 30_000, "conditions PIDPressure:");
        let gone = [gone[0], gone[1], gone[2], ("PIDPressure", "Unknown")];
        let tainted =
            node(&gone, &["node.kubernetes.io/unreachable:NoSchedule", "node.kubernetes.io/unreachable:NoExecute"]);
        check(&tainted, 30_000, "Change");
    }
}
