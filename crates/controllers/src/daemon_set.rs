//! Keeps a pod on every node that takes it, and brings a new template out node by node (`pkg/controller/daemon`). Which node
//! takes a pod is asked of the scheduler's reading of both.

mod plan;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::backoff::Backoff;
use corten_client::cache::{Held, Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Resource};
use corten_scheduler::{NodeView, decode};
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;

use self::plan::{Fleet, Plan};
use crate::Base;
use crate::node::NODES;
use crate::owned::{Claimed, Owner, selector};
use crate::pod::{PODS, Phase, PodView, from_template, orphans_of};
use crate::revision::{self, Keeper, POD_LABEL, REVISIONS};

const DAEMON_SETS: Resource = Resource::new("apps", "v1", "daemonsets");
const OWNER: Owner = Owner { api_version: "apps/v1", kind: "DaemonSet" };
const GENERATION: &str = "deprecated.daemonset.template.generation";
const GENERATION_LABEL: &str = "pod-template-generation";

/// Between a pod that has failed at a node and the next one there.
const PAUSES: Backoff = Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(900) };

/// Taints that daemons live with: trouble of a node is no reason to be without them.
const TOLERATED: [(&str, &str); 6] = [
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
];
const TOLERATED_BY_HOST_NETWORK: (&str, &str) = ("node.kubernetes.io/network-unavailable", "NoSchedule");

/// What daemons look at of a node.
#[derive(PartialEq)]
struct DaemonNode(NodeView);

impl View for DaemonNode {
    fn from_object(node: &Value) -> Option<Self> {
        // One that cannot be read takes no pods.
        let read = decode::node(node).ok()?;
        Some(Self(NodeView { allocatable: Vec::new(), images: Vec::new(), ..read }))
    }
}

struct Context {
    client: Client,
    clock: Clock,
    random: Random,
    recorder: Recorder,
    sets: Informer<Value>,
    pods: Informer<PodView>,
    nodes: Informer<DaemonNode>,
    revisions: Informer<Value>,
    /// By set and node: failures in a row, and until when the next pod waits, in Unix milliseconds.
    failures: Mutex<HashMap<(Str, Str), (u32, i64)>>,
}

type Pod = Arc<Held<PodView>>;

pub fn controller(base: &Base, random: &Random) -> Controller {
    let sets = base.informers.of::<Value>(Scope::all(DAEMON_SETS));
    let pods = base.informers.of::<PodView>(Scope::all(PODS));
    let nodes = base.informers.of::<DaemonNode>(Scope::all(NODES));
    let revisions = base.informers.of::<Value>(Scope::all(REVISIONS));
    let context = Context {
        client: (base.client_of)("daemon-set-controller"),
        clock: base.clock.clone(),
        random: random.clone(),
        recorder: (base.recorder_of)("daemon-set-controller", "daemonset-controller"),
        sets: sets.clone(),
        pods: pods.clone(),
        nodes: nodes.clone(),
        revisions: revisions.clone(),
        failures: Mutex::default(),
    };
    let (of, every) = (sets.clone(), sets.clone());
    Controller::new("daemon-set", Arc::new(context), reconcile)
        .watches(&sets)
        .watches_for(&pods, move |pod| OWNER.concerned(&of, &pod.head))
        .watches_view_for(&nodes, move |_| every.cache().all().iter().map(|set| set.head.key()).collect())
        .watches_for(&revisions, |revision| revision::concerned(&OWNER, revision))
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(set) = ctx.sets.cache().get(&key.namespace, &key.name) else {
        ctx.failures().retain(|(of, _), _| *of != key.to_string());
        return Ok(Next::Change);
    };
    if set.head.deleting {
        return Ok(Next::Change);
    }
    let mut pods = ctx.pods.cache().owned_by(&set.head.uid);
    pods.extend(ctx.pods.cache().by_key(orphans_of(&key.namespace)));
    let claimed = Claimed::sort(&set.head, &selector(&set.view)?, pods, |_| true);
    claimed.write(&ctx.client, &PODS, &OWNER, &set.view).await?;
    let keeper = ctx.keeper();
    let history = keeper.settle(&set).await?;
    let hash = history.newest().view.str_at(&["metadata", "labels", POD_LABEL]).to_owned();
    let nodes = ctx.nodes.cache().all();
    let nodes: Vec<&NodeView> = nodes.iter().map(|node| &node.view.0).collect();
    let fleet = Fleet::new(&set.view, &template(&set.view), &hash, &nodes, &claimed.own, ctx.clock.now_s())?;
    let plan = plan::plan(&fleet);
    let done = ctx.carry_out(&set, &hash, &plan).await;
    if let Some(status) = plan::status(&set.view, &fleet, history.collisions) {
        let mut set = set.view.clone();
        if let Some(object) = set.as_object_mut() {
            object.insert("status", status);
        }
        unless_gone(ctx.client.update(&DAEMON_SETS, "status", &set).await)?;
    }
    let newest = &history.newest().head.name;
    let used = |known: &Held<Value>| {
        let hash = known.view.str_at(&["metadata", "labels", POD_LABEL]);
        known.head.name == *newest || claimed.own.iter().any(|pod| plan::revision_of(pod) == hash)
    };
    keeper.truncate(&set.view, &history, used).await?;
    let next = done?;
    Ok(match (next, plan.next) {
        (Next::After(one), Next::After(other)) => Next::After(one.min(other)),
        (Next::Change, other) | (other, Next::Change) => other,
    })
}

/// The template with what every daemon tolerates.
fn template(set: &Value) -> Value {
    let mut template = set.at(&["spec", "template"]).cloned().unwrap_or_default();
    let on_host = template.at(&["spec", "hostNetwork"]).and_then(Value::as_bool) == Some(true);
    let taints = TOLERATED.into_iter().chain(on_host.then_some(TOLERATED_BY_HOST_NETWORK));
    let spec = template.object_entry("spec");
    let mut tolerations = spec.get("tolerations").and_then(Value::as_array).unwrap_or_default().to_vec();
    for (key, effect) in taints {
        let toleration = value!({"key": key, "operator": "Exists", "effect": effect});
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec.insert("tolerations", tolerations);
    template
}

/// The pod for a node, which the scheduler binds there and nowhere else.
fn pod(set: &Value, hash: &str, node: &str) -> Value {
    let meta = Meta::of(set);
    let mut pod = from_template(&template(set), OWNER.reference(set));
    let metadata = metadata_mut(&mut pod);
    metadata.insert("generateName", format!("{}-", meta.name()));
    let labels = metadata.object_entry("labels");
    labels.insert(POD_LABEL, hash);
    if let Some(generation) = meta.annotation(GENERATION) {
        labels.insert(GENERATION_LABEL, generation);
    }
    let name = value!({"key": "metadata.name", "operator": "In", "values": [node]});
    let affinity = pod.object_entry("spec").object_entry("affinity").object_entry("nodeAffinity");
    let required = affinity.object_entry("requiredDuringSchedulingIgnoredDuringExecution");
    required.insert("nodeSelectorTerms", vec![value!({"matchFields": [name]})]);
    pod
}

impl Context {
    fn keeper(&self) -> Keeper<'_> {
        Keeper { client: &self.client, revisions: &self.revisions, clock: &self.clock, owner: &OWNER, label: POD_LABEL }
    }

    fn failures(&self) -> std::sync::MutexGuard<'_, HashMap<(Str, Str), (u32, i64)>> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves when the cache shows what was done. The answer says when a failed pod's turn comes.
    async fn carry_out(&self, set: &Held<Value>, hash: &str, plan: &Plan) -> Result<Next, Error> {
        let about = Reference::of("apps/v1", "DaemonSet", &set.view);
        let (mut last, mut next) = (0, Next::Change);
        for pod in &plan.ended {
            match self.wait(set, pod) {
                Some(pause) => next = Next::After(pause),
                None => {
                    self.tell_ended(&about, pod);
                    last = last.max(self.delete(&about, pod).await?);
                }
            }
        }
        for pod in &plan.delete {
            last = last.max(self.delete(&about, pod).await?);
        }
        for node in &plan.create {
            let made = self.client.create(&PODS, &set.head.namespace, &pod(&set.view, hash, node)).await;
            match made {
                Ok(made) => {
                    let note = format!("Created pod: {}", Meta::of(&made).name());
                    self.recorder.normal(&about, "SuccessfulCreate", note);
                    last = last.max(Meta::of(&made).resource_version().parse().unwrap_or_default());
                }
                Err(error) if error.is_namespace_terminating() => return Ok(Next::Change),
                Err(error) => {
                    self.recorder.warning(&about, "FailedCreate", format!("Error creating: {error}"));
                    return Err(error);
                }
            }
        }
        if last > 0 {
            self.pods.caught_up(&last.to_string(), &self.clock).await?;
        }
        Ok(next)
    }

    async fn delete(&self, about: &Reference, pod: &Pod) -> Result<u64, Error> {
        let head = &pod.head;
        match unless_gone(self.client.delete(&PODS, &head.namespace, &head.name, &Delete::of(&head.uid)).await) {
            Ok(None) => Ok(0),
            Ok(Some(gone)) => {
                self.recorder.normal(about, "SuccessfulDelete", format!("Deleted pod: {}", head.name));
                Ok(Meta::of(&gone).resource_version().parse().unwrap_or_default())
            }
            Err(error) => {
                self.recorder.warning(about, "FailedDelete", format!("Error deleting: {error}"));
                Err(error)
            }
        }
    }

    /// How long a pod that has failed stays, so that a node which refuses it is not asked without end.
    fn wait(&self, set: &Held<Value>, pod: &Pod) -> Option<Duration> {
        if !pod.failed {
            return None;
        }
        let now_ms = self.clock.now_ms();
        let mut failures = self.failures();
        let (count, until_ms) = failures.entry((set.head.key().to_string().into(), pod.target.clone())).or_default();
        if now_ms < *until_ms {
            return Some(Duration::from_millis(u64::try_from(*until_ms - now_ms).unwrap_or_default()));
        }
        let longest_ms = i64::try_from(PAUSES.longest.as_millis()).unwrap_or(i64::MAX);
        // What went well for long enough begins anew.
        *count = if now_ms > *until_ms + 2 * longest_ms { 1 } else { *count + 1 };
        let pause = PAUSES.pause(*count, &self.random);
        *until_ms = now_ms + i64::try_from(pause.as_millis()).unwrap_or(longest_ms);
        None
    }

    fn tell_ended(&self, about: &Reference, pod: &Pod) {
        let (what, node) = (format!("{}/{}", pod.head.namespace, pod.head.name), &pod.target);
        if pod.failed {
            let note = format!("Found failed daemon pod {what} on node {node}, will try to kill it");
            self.recorder.warning(about, "FailedDaemonPod", note);
        } else {
            debug_assert_eq!(pod.phase, Phase::Over);
            let note = format!("Found succeeded daemon pod {what} on node {node}, will try to delete it");
            self.recorder.normal(about, "SucceededDaemonPod", note);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_heartbeat_is_no_change() {
        let node = |beat: &str, zone: &str| {
            let node = value!({
                "metadata": {"name": "n1", "resourceVersion": beat, "labels": {"zone": zone}},
                "status": {
                    "allocatable": {"cpu": "2"}, "images": [{"names": [beat]}],
                    "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": beat}]
                }
            });
            DaemonNode::from_object(&node)
        };
        assert!(node("1", "a").is_some() && node("1", "a") == node("2", "a"));
        assert!(node("1", "a") != node("1", "b"));
    }

    #[test]
    fn a_pod_is_meant_for_one_node_and_tolerates_its_trouble() {
        let set = value!({
            "metadata": {"name": "log", "namespace": "shop", "uid": "set", "annotations": {"deprecated.daemonset.template.generation": "3"}},
            "spec": {"template": {
                "metadata": {"labels": {"app": "log"}},
                "spec": {"hostNetwork": true, "containers": [], "affinity": {"nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                        {"matchExpressions": [{"key": "disk", "operator": "Exists"}]}
                    ]}
                }}}
            }}
        });
        let made = pod(&set, "h", "n1");
        let held: Held<PodView> = Held::from_object(&made).expect("held");
        assert_eq!((held.target.as_str(), held.node.as_str(), plan::revision_of(&held)), ("n1", "", "h"));
        assert_eq!(made.str_at(&["metadata", "labels", GENERATION_LABEL]), "3");
        let tolerations = made.at(&["spec", "tolerations"]).and_then(Value::as_array).expect("tolerations");
        assert_eq!(tolerations.len(), TOLERATED.len() + 1);
    }
}
