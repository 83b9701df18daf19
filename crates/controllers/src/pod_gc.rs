//! Deletes pods that nobody will ever end: those whose node is gone, those that were deleted before they had a node, and
//! the oldest of too many that have ended (`pkg/controller/podgc`).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Patch};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::node::{NODES, condition, taints};
use crate::pod::{PODS, seconds};

/// Ended pods that are kept.
const ENDED_MAX: usize = 12_500;
/// A node that is missing may come back for so long.
const QUARANTINE: Duration = Duration::from_secs(40);
const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// A pod that may have to be deleted.
struct Life {
    node: Str,
    ended: bool,
    created_s: i64,
}

impl View for Life {
    fn from_object(pod: &Value) -> Option<Self> {
        Some(Self {
            node: pod.str_at(&["spec", "nodeName"]).into(),
            ended: matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed"),
            created_s: seconds(Meta::of(pod).creation_timestamp()),
        })
    }

    fn keys(&self) -> Vec<Str> {
        let ended = self.ended.then(|| Str::const_new(ENDED));
        [Some(format!("on/{}", self.node).into()), ended].into_iter().flatten().collect()
    }
}

/// The key of all pods that have ended.
const ENDED: &str = "ended";

/// Whether a node takes nothing and its pods are known not to run.
struct Dead(bool);

impl View for Dead {
    fn from_object(node: &Value) -> Option<Self> {
        let tainted = taints(node).iter().any(|taint| taint.str_at(&["key"]) == OUT_OF_SERVICE);
        Some(Self(tainted && condition(node, "Ready") != "True"))
    }
}

struct Context {
    client: Client,
    clock: Clock,
    pods: Informer<Life>,
    nodes: Informer<Dead>,
    /// Since when nodes that pods name are missing, in milliseconds.
    missing: Mutex<HashMap<Str, i64>>,
}

pub fn controller(base: &Base) -> Controller {
    let pods = base.informers.of::<Life>(Scope::all(PODS));
    let nodes = base.informers.of::<Dead>(Scope::all(NODES));
    let context = Context {
        client: (base.client_of)("pod-garbage-collector"),
        clock: base.clock.clone(),
        pods: pods.clone(),
        nodes: nodes.clone(),
        missing: Mutex::default(),
    };
    let on = pods.clone();
    Controller::new("pod-gc", Arc::new(context), reconcile)
        .watches(&pods)
        .watches_for(&nodes, move |node| {
            on.cache().by_key(&format!("on/{}", node.head.name)).iter().map(|pod| pod.head.key()).collect()
        })
        .concurrency(1)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(pod) = ctx.pods.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let node = ctx.nodes.cache().get("", &pod.node);
    let missing_ms = ctx.missing_ms(&pod.node, node.is_none());
    match plan(&pod, node.as_ref().map(|node| &node.view), ctx.is_surplus(&pod)) {
        Verdict::Keep => Ok(Next::Change),
        Verdict::Delete => ctx.delete(&pod, None).await.map(|()| Next::Change),
        Verdict::Orphan => ctx.orphan(&pod, missing_ms).await,
    }
}

impl Context {
    /// Whether a pod is among the oldest of too many that have ended.
    fn is_surplus(&self, pod: &Held<Life>) -> bool {
        if !pod.ended {
            return false;
        }
        let ended = self.pods.cache().by_key(ENDED);
        let Some(surplus) = ended.len().checked_sub(ENDED_MAX).filter(|surplus| *surplus > 0) else { return false };
        let age = |pod: &Held<Life>| (pod.created_s, pod.head.name.clone());
        ended.iter().filter(|other| age(other) < age(pod)).count() < surplus
    }

    /// For how long a node has been missing, as far as this controller has seen it.
    fn missing_ms(&self, node: &Str, is_missing: bool) -> i64 {
        let mut missing = self.missing.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_missing || node.is_empty() {
            missing.remove(node);
            return 0;
        }
        let now_ms = self.clock.now_ms();
        now_ms - *missing.entry(node.clone()).or_insert(now_ms)
    }

    /// Deletes a pod whose node has been missing for long enough; asks the server whether it is.
    async fn orphan(&self, pod: &Held<Life>, missing_ms: i64) -> Result<Next, Error> {
        let missing = Duration::from_millis(u64::try_from(missing_ms).unwrap_or_default());
        if let Some(left) = QUARANTINE.checked_sub(missing).filter(|left| !left.is_zero()) {
            return Ok(Next::After(left));
        }
        if unless_gone(self.client.get(&NODES, "", &pod.node).await)?.is_some() {
            return Ok(Next::Change);
        }
        let condition = value!({
            "type": "DisruptionTarget", "status": "True", "reason": "DeletionByPodGC",
            "message": "PodGC: node no longer exists",
            "lastTransitionTime": (Time::from_seconds(self.clock.now_s()).to_rfc3339())
        });
        self.delete(pod, Some(condition)).await.map(|()| Next::Change)
    }

    /// Marks a pod that has not ended as failed, and takes it away at once.
    async fn delete(&self, pod: &Held<Life>, condition: Option<Value>) -> Result<(), Error> {
        let head = &pod.head;
        if !pod.ended {
            let mut status = value!({"phase": "Failed"});
            if let (Some(condition), Some(status)) = (condition, status.as_object_mut()) {
                status.insert("conditions", vec![condition]);
            }
            let patch = value!({"metadata": {"uid": (head.uid.clone())}, "status": status});
            let patch = Patch::Strategic(patch);
            unless_gone(self.client.patch(&PODS, &head.namespace, &head.name, "status", &patch).await)?;
        }
        let delete = Delete { grace_period_s: Some(0), ..Delete::of(&head.uid) };
        unless_gone(self.client.delete(&PODS, &head.namespace, &head.name, &delete).await).map(drop)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Keep,
    Delete,
    /// Its node is not known.
    Orphan,
}

fn plan(pod: &Held<Life>, node: Option<&Dead>, surplus: bool) -> Verdict {
    match node {
        _ if surplus => Verdict::Delete,
        _ if pod.node.is_empty() && pod.head.deleting => Verdict::Delete,
        _ if pod.node.is_empty() => Verdict::Keep,
        None => Verdict::Orphan,
        Some(Dead(true)) if pod.head.deleting => Verdict::Delete,
        Some(_) => Verdict::Keep,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(node: &str, deleting: bool, known: Option<bool>, surplus: bool, expect: Verdict) {
        let mut pod = value!({"metadata": {"name": "a", "uid": "a"}, "spec": {"nodeName": node}});
        if deleting {
            pod.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        let pod = Held::from_object(&pod).expect("held");
        assert_eq!(plan(&pod, known.map(Dead).as_ref(), surplus), expect);
    }

    #[test]
    fn what_nobody_ends_is_deleted() {
        check("", false, None, false, Verdict::Keep);
        check("", true, None, false, Verdict::Delete);
        check("n1", false, Some(false), false, Verdict::Keep);
        check("n1", true, Some(false), false, Verdict::Keep);
        check("n1", true, Some(true), false, Verdict::Delete);
        check("n1", false, Some(true), false, Verdict::Keep);
        check("gone", false, None, false, Verdict::Orphan);
        check("n1", false, Some(false), true, Verdict::Delete);
    }
}
