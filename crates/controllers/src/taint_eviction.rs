//! Deletes pods from nodes with taints that they do not tolerate, or no longer (`pkg/controller/tainteviction`). How long
//! a pod tolerates a taint counts from when the taint was set, so a restart begins nothing anew.

use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Patch};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::node::{NO_EXECUTE, NODES, taints, tolerates};
use crate::pod::{PODS, seconds};

/// The taints of a node that make pods go.
struct Expelling(Vec<Value>);

impl View for Expelling {
    fn from_object(node: &Value) -> Option<Self> {
        let own = taints(node).iter().filter(|taint| taint.str_at(&["effect"]) == NO_EXECUTE);
        Some(Self(own.cloned().collect()))
    }
}

/// A pod on a node, with what it tolerates.
struct Tolerating {
    node: Str,
    tolerations: Vec<Value>,
    created_s: i64,
}

impl View for Tolerating {
    fn from_object(pod: &Value) -> Option<Self> {
        let node = Str::from(pod.str_at(&["spec", "nodeName"]));
        let over = matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed");
        let tolerations = pod.at(&["spec", "tolerations"]).and_then(Value::as_array).unwrap_or_default();
        let matter = tolerations.iter().filter(|of| matches!(of.str_at(&["effect"]), "" | NO_EXECUTE));
        let created_s = seconds(pod.str_at(&["metadata", "creationTimestamp"]));
        (!node.is_empty() && !over).then(|| Self { node, tolerations: matter.cloned().collect(), created_s })
    }

    fn keys(&self) -> Vec<Str> {
        vec![self.node.clone()]
    }
}

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    nodes: Informer<Expelling>,
    pods: Informer<Tolerating>,
}

pub fn controller(base: &Base) -> Controller {
    let nodes = base.informers.of::<Expelling>(Scope::all(NODES));
    let pods = base.informers.of::<Tolerating>(Scope::all(PODS));
    let context = Context {
        client: (base.client_of)("node-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("node-controller", "taint-eviction-controller"),
        nodes: nodes.clone(),
        pods: pods.clone(),
    };
    let on = pods.clone();
    Controller::new("taint-eviction", Arc::new(context), reconcile)
        .watches(&pods)
        .watches_for(&nodes, move |node| on.cache().by_key(&node.head.name).iter().map(|pod| pod.head.key()).collect())
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(pod) = ctx.pods.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let Some(node) = ctx.nodes.cache().get("", &pod.node) else { return Ok(Next::Change) };
    match plan(&pod, &node.0, ctx.clock.now_s()) {
        Stay::Always => Ok(Next::Change),
        Stay::For(left_s) => Ok(Next::After(Duration::from_secs(left_s))),
        Stay::No if pod.head.deleting => Ok(Next::Change),
        Stay::No => ctx.expel(&pod).await.map(|()| Next::Change),
    }
}

impl Context {
    async fn expel(&self, pod: &Held<Tolerating>) -> Result<(), Error> {
        let head = &pod.head;
        let condition = value!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
            "message": "Taint manager: deleting due to NoExecute taint",
            "lastTransitionTime": (Time::from_seconds(self.clock.now_s()).to_rfc3339())
        });
        let patch = value!({"metadata": {"uid": (head.uid.clone())}, "status": {"conditions": [condition]}});
        let patched = self.client.patch(&PODS, &head.namespace, &head.name, "status", &Patch::Strategic(patch)).await;
        if unless_gone(patched)?.is_none() {
            return Ok(());
        }
        let note = format!("Marking for deletion Pod {}/{}", head.namespace, head.name);
        self.recorder.normal(&Reference::of_head("v1", "Pod", head), "TaintManagerEviction", note);
        unless_gone(self.client.delete(&PODS, &head.namespace, &head.name, &Delete::of(&head.uid)).await).map(drop)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stay {
    Always,
    /// Seconds.
    For(u64),
    No,
}

/// How long a pod stays on a node with these taints.
fn plan(pod: &Tolerating, taints: &[Value], now_s: i64) -> Stay {
    let mut until_s: Option<i64> = None;
    for taint in taints {
        let mut tolerations = pod.tolerations.iter().filter(|toleration| tolerates(toleration, taint)).peekable();
        if tolerations.peek().is_none() {
            return Stay::No;
        }
        // The shortest of those that have an end.
        let Some(shortest_s) = tolerations.filter_map(|of| of.i64_at(&["tolerationSeconds"])).min() else { continue };
        let since_s = seconds(taint.str_at(&["timeAdded"])).max(pod.created_s);
        let end_s = since_s.saturating_add(shortest_s.max(0));
        until_s = Some(until_s.map_or(end_s, |known| known.min(end_s)));
    }
    match until_s {
        None => Stay::Always,
        Some(until_s) if until_s <= now_s => Stay::No,
        Some(until_s) => Stay::For(u64::try_from(until_s - now_s).unwrap_or(1)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(tolerations: Value, taints: Value, expect: Stay) {
        let list = |value: &Value| value.as_array().unwrap_or_default().to_vec();
        let pod = Tolerating { node: "n1".into(), tolerations: list(&tolerations), created_s: 0 };
        assert_eq!(plan(&pod, &list(&taints), 100), expect);
    }

    #[test]
    fn pods_stay_as_long_as_they_tolerate_every_taint() {
        let taint = || value!({"key": "gone", "effect": NO_EXECUTE, "timeAdded": "1970-01-01T00:01:00Z"});
        let other = || value!({"key": "other", "value": "x", "effect": NO_EXECUTE});
        let for_s = |seconds: i64| value!({"key": "gone", "operator": "Exists", "tolerationSeconds": seconds});
        let always = || value!({"key": "gone", "operator": "Exists"});
        check(value!([]), value!([]), Stay::Always);
        check(value!([]), value!([(taint())]), Stay::No);
        check(value!([(always())]), value!([(taint())]), Stay::Always);
        check(value!([(for_s(50))]), value!([(taint())]), Stay::For(10));
        check(value!([(for_s(50)), (always())]), value!([(taint())]), Stay::For(10));
        check(value!([(for_s(40))]), value!([(taint())]), Stay::No);
        check(value!([(always())]), value!([(taint()), (other())]), Stay::No);
        check(value!([(always()), {"key": "other", "value": "x"}]), value!([(taint()), (other())]), Stay::Always);
        check(value!([{"operator": "Exists"}]), value!([(taint()), (other())]), Stay::Always);
    }
}
