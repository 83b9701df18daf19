//! Keeps so many pods of a template: makes what is missing, deletes what is too many, adopts what matches and lets go of
//! what no longer does (`pkg/controller/replicaset`). Replication controllers, which are older and select by labels alone, are
//! kept by the same rules.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::meta::{Meta, metadata_mut};
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Delete, Error, Resource};
use corten_stdx::clock::Clock;
use futures_util::future::join_all;

use crate::Base;
use crate::owned::{Owner, patch_owner, selector};
use crate::pod::{PODS, Phase, PodView, from_template, is_active, orphans_of};

pub(crate) const REPLICA_SETS: Resource = Resource::new("apps", "v1", "replicasets");
pub(crate) const REPLICATION_CONTROLLERS: Resource = Resource::new("", "v1", "replicationcontrollers");

/// A kind whose objects are kept so.
struct Kind {
    resource: Resource,
    owner: Owner,
    /// The service account, and the component that events come from.
    account: &'static str,
    component: &'static str,
    /// Whether its status tells of pods that are being deleted.
    tells_terminating: bool,
}

static REPLICA_SET: Kind = Kind {
    resource: REPLICA_SETS,
    owner: Owner { api_version: "apps/v1", kind: "ReplicaSet" },
    account: "replicaset-controller",
    component: "replicaset-controller",
    tells_terminating: true,
};

static REPLICATION_CONTROLLER: Kind = Kind {
    resource: REPLICATION_CONTROLLERS,
    owner: Owner { api_version: "v1", kind: "ReplicationController" },
    account: "replication-controller",
    component: "replication-controller",
    tells_terminating: false,
};

/// Pods made or deleted by one look.
const BURST: usize = 500;

struct Context {
    kind: &'static Kind,
    client: Client,
    clock: Clock,
    recorder: Recorder,
    sets: Informer<Value>,
    pods: Informer<PodView>,
}

type Pod = Arc<Held<PodView>>;

pub fn controller(base: &Base) -> Controller {
    keeping("replica-set", &REPLICA_SET, base)
}

/// Keeps replication controllers.
pub fn replication_controller(base: &Base) -> Controller {
    keeping("replication-controller", &REPLICATION_CONTROLLER, base)
}

fn keeping(name: &'static str, kind: &'static Kind, base: &Base) -> Controller {
    let sets = base.informers.of::<Value>(Scope::all(kind.resource.clone()));
    let pods = base.informers.of::<PodView>(Scope::all(PODS));
    let context = Context {
        kind,
        client: (base.client_of)(kind.account),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)(kind.account, kind.component),
        sets: sets.clone(),
        pods: pods.clone(),
    };
    let of = sets.clone();
    Controller::new(name, Arc::new(context), reconcile)
        .watches(&sets)
        .watches_for(&pods, move |pod| kind.owner.concerned(&of, &pod.head))
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(set) = ctx.sets.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let mut pods = ctx.pods.cache().owned_by(&set.head.uid);
    pods.extend(ctx.pods.cache().by_key(orphans_of(&key.namespace)));
    let now_s = ctx.clock.now_s();
    let plan = plan(&set, pods, now_s)?;
    let done = ctx.carry_out(&set.view, &plan).await;
    let status = status(ctx.kind, &set.view, &plan, done.as_ref().err(), now_s);
    if let Some(status) = status {
        let mut set = set.view.clone();
        set.object_entry("status");
        if let Some(object) = set.as_object_mut() {
            object.insert("status", status);
        }
        unless_gone(ctx.client.update(&ctx.kind.resource, "status", &set).await)?;
    }
    done.map(|()| plan.next)
}

impl Context {
    async fn carry_out(&self, set: &Value, plan: &Plan) -> Result<(), Error> {
        for pod in &plan.adopt {
            patch_owner(&self.client, &PODS, &pod.head, self.kind.owner.reference(set)).await?;
        }
        for pod in &plan.release {
            let gone = value!({"$patch": "delete", "uid": (Meta::of(set).uid())});
            patch_owner(&self.client, &PODS, &pod.head, gone).await?;
        }
        let about = self.kind.owner.told_of(set);
        let deletes = plan.delete.iter().map(|pod| self.delete(&about, pod));
        let mut written = Vec::new();
        for deleted in join_all(deletes).await {
            written.extend(deleted?);
        }
        let made = self.create(set, plan.create, &mut written).await;
        let revisions = written.iter().filter_map(|pod| Meta::of(pod).resource_version().parse::<u64>().ok());
        if let Some(last) = revisions.max() {
            self.pods.caught_up(&last.to_string(), &self.clock).await?;
        }
        made
    }

    /// Makes pods in rounds that double, so that what cannot be made is tried once and not many times.
    async fn create(&self, set: &Value, wanted: usize, written: &mut Vec<Value>) -> Result<(), Error> {
        let (pod, namespace) = (new_pod(&self.kind.owner, set), Meta::of(set).namespace());
        let about = self.kind.owner.told_of(set);
        let (mut left, mut round) = (wanted, 1);
        while left > 0 {
            let now = left.min(round);
            let made = join_all((0..now).map(|_| async { self.client.create(&PODS, namespace, &pod).await })).await;
            let mut failed = None;
            for made in made {
                match made {
                    Ok(pod) => {
                        let note = format!("Created pod: {}", Meta::of(&pod).name());
                        self.recorder.normal(&about, "SuccessfulCreate", note);
                        written.push(pod);
                    }
                    Err(error) => {
                        if !error.is_namespace_terminating() {
                            self.recorder.warning(&about, "FailedCreate", format!("Error creating: {error}"));
                        }
                        failed = Some(error);
                    }
                }
            }
            match failed {
                // Everything in it is going; so is the set.
                Some(error) if error.is_namespace_terminating() => return Ok(()),
                Some(error) => return Err(error),
                None => {}
            }
            left -= now;
            round *= 2;
        }
        Ok(())
    }

    async fn delete(&self, about: &Reference, pod: &Pod) -> Result<Option<Value>, Error> {
        let head = &pod.head;
        let deleted = self.client.delete(&PODS, &head.namespace, &head.name, &Delete::of(&head.uid)).await;
        let deleted = unless_gone(deleted);
        match &deleted {
            Ok(Some(_)) => self.recorder.normal(about, "SuccessfulDelete", format!("Deleted pod: {}", head.name)),
            Ok(None) => {}
            Err(error) => self.recorder.warning(about, "FailedDelete", format!("Error deleting: {error}")),
        }
        deleted
    }
}

#[derive(Debug, Default)]
struct Plan {
    create: usize,
    delete: Vec<Pod>,
    adopt: Vec<Pod>,
    release: Vec<Pod>,
    /// What counts now.
    active: Vec<Pod>,
    terminating: usize,
    next: Next,
}

/// Decides what becomes of a set's pods and of those that nobody controls.
fn plan(set: &Held<Value>, pods: Vec<Pod>, now_s: i64) -> Result<Plan, Error> {
    let selector = selector(&set.view)?;
    let mut plan = Plan::default();
    for pod in pods {
        let owned = pod.head.controller().is_some_and(|owner| owner.uid == set.head.uid);
        let matches = selector.matches(&pod.head.labels);
        plan.terminating += usize::from(owned && pod.head.deleting && pod.phase != Phase::Over);
        if !is_active(&pod) {
            continue;
        }
        match (owned, matches) {
            (true, true) => plan.active.push(pod),
            (true, false) if !set.head.deleting => plan.release.push(pod),
            (false, true) if !set.head.deleting && pod.head.controller().is_none() => {
                plan.adopt.push(pod.clone());
                plan.active.push(pod);
            }
            _ => {}
        }
    }
    plan.next = next(&set.view, &plan.active, now_s);
    if set.head.deleting {
        return Ok(plan);
    }
    let wanted = usize::try_from(set.view.i64_at(&["spec", "replicas"]).unwrap_or(1)).unwrap_or_default();
    plan.create = wanted.saturating_sub(plan.active.len()).min(BURST);
    let surplus = plan.active.len().saturating_sub(wanted).min(BURST);
    if surplus > 0 {
        let mut by_worth = plan.active.clone();
        sort_by_worth(&mut by_worth, now_s);
        by_worth.truncate(surplus);
        plan.delete = by_worth;
    }
    Ok(plan)
}

/// When the next ready pod has been ready for long enough.
fn next(set: &Value, active: &[Pod], now_s: i64) -> Next {
    let min_ready_s = min_ready_s(set);
    let waits = active.iter().filter(|pod| !pod.is_available(min_ready_s, now_s)).filter_map(|pod| pod.ready_s);
    let left_s = waits.map(|since_s| since_s + min_ready_s - now_s).min();
    left_s.map_or(Next::Change, |left_s| Next::After(Duration::from_secs(u64::try_from(left_s).unwrap_or(1).max(1))))
}

fn min_ready_s(set: &Value) -> i64 {
    set.i64_at(&["spec", "minReadySeconds"]).unwrap_or_default()
}

/// Those first whose loss matters least.
fn sort_by_worth(pods: &mut [Pod], now_s: i64) {
    let mut ready_on: HashMap<Str, usize> = HashMap::new();
    for pod in pods.iter().filter(|pod| pod.ready_s.is_some() && !pod.node.is_empty()) {
        *ready_on.entry(pod.node.clone()).or_default() += 1;
    }
    let crowd = |pod: &Pod| ready_on.get(&pod.node).copied().unwrap_or_default();
    pods.sort_by(|a, b| {
        let assigned = (!a.node.is_empty()).cmp(&!b.node.is_empty());
        assigned
            .then(a.phase.cmp(&b.phase))
            .then(a.ready_s.is_some().cmp(&b.ready_s.is_some()))
            .then(a.cost.cmp(&b.cost))
            .then(crowd(b).cmp(&crowd(a)))
            .then_with(|| match (a.ready_s, b.ready_s) {
                (Some(a), Some(b)) => age(a, now_s).cmp(&age(b, now_s)),
                _ => Ordering::Equal,
            })
            .then(b.restarts.cmp(&a.restarts))
            .then(age(a.created_s, now_s).cmp(&age(b.created_s, now_s)))
            .then_with(|| a.head.uid.cmp(&b.head.uid))
    });
}

/// Ages on a logarithmic scale: what is about as old is equal, and chance decides.
fn age(since_s: i64, now_s: i64) -> u32 {
    let nanoseconds = u64::try_from(now_s - since_s).unwrap_or_default().saturating_mul(1_000_000_000);
    nanoseconds.checked_ilog2().map_or(0, |log| log + 1)
}

/// A pod of the set's template, without a name.
fn new_pod(owner: &Owner, set: &Value) -> Value {
    let template = set.at(&["spec", "template"]).cloned().unwrap_or_default();
    let mut pod = from_template(&template, owner.reference(set));
    metadata_mut(&mut pod).insert("generateName", format!("{}-", Meta::of(set).name()));
    pod
}

/// The set's new status; `None` where it is as it was.
fn status(kind: &Kind, set: &Value, plan: &Plan, failed: Option<&Error>, now_s: i64) -> Option<Value> {
    let labels = set.at(&["spec", "template", "metadata", "labels"]).and_then(Value::as_object);
    let labels: Vec<(&str, &str)> = labels
        .into_iter()
        .flat_map(Map::iter)
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    let template = LabelSelector::from_labels(labels);
    let count = |counts: &dyn Fn(&Pod) -> bool| {
        i64::try_from(plan.active.iter().filter(|pod| counts(pod)).count()).unwrap_or(i64::MAX)
    };
    let min_ready_s = min_ready_s(set);
    let old = set.get("status").cloned().unwrap_or_default();
    let mut new = if old.is_null() { Value::object() } else { old.clone() };
    let mut counts = vec![
        ("replicas", count(&|_| true)),
        ("fullyLabeledReplicas", count(&|pod| template.matches(&pod.head.labels))),
        ("readyReplicas", count(&|pod| pod.ready_s.is_some())),
        ("availableReplicas", count(&|pod| pod.is_available(min_ready_s, now_s))),
        ("observedGeneration", Meta::of(set).generation()),
    ];
    if kind.tells_terminating {
        counts.push(("terminatingReplicas", i64::try_from(plan.terminating).unwrap_or(i64::MAX)));
    }
    let conditions = old.get("conditions").and_then(Value::as_array).unwrap_or_default().to_vec();
    let (conditions, changed) = failure_condition(conditions, plan, failed, now_s);
    let same = counts.iter().all(|(field, count)| old.i64_at(&[field]).unwrap_or_default() == *count);
    if same && !changed {
        return None;
    }
    let map = new.as_object_mut()?;
    for (field, count) in counts {
        map.insert(field, count);
    }
    map.insert("conditions", conditions);
    Some(new)
}

fn failure_condition(
    mut conditions: Vec<Value>,
    plan: &Plan,
    failed: Option<&Error>,
    now_s: i64,
) -> (Vec<Value>, bool) {
    let known = conditions.iter().position(|condition| condition.str_at(&["type"]) == "ReplicaFailure");
    match (failed, known) {
        (Some(error), None) => {
            let reason = if plan.create > 0 { "FailedCreate" } else { "FailedDelete" };
            let now = Time::from_seconds(now_s).to_rfc3339();
            conditions.push(value!({
                "type": "ReplicaFailure", "status": "True", "lastTransitionTime": now, "reason": reason,
                "message": (error.to_string())
            }));
            (conditions, true)
        }
        (None, Some(known)) => {
            conditions.remove(known);
            (conditions, true)
        }
        _ => (conditions, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(replicas: i64) -> Held<Value> {
        let set = value!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "set", "generation": 2},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}}, "minReadySeconds": 10,
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}
        });
        Held::from_object(&set).expect("held")
    }

    /// `name owner app node ready-since`, with `-` for what is not there; `!` after the name: being deleted.
    fn pod(text: &str) -> Pod {
        let words: Vec<&str> = text.split(' ').collect();
        let name = words[0].trim_end_matches('!');
        let mut pod = value!({
            "metadata": {"name": name, "namespace": "shop", "uid": name, "labels": {"app": (words[2])}},
            "status": {"phase": "Running"}
        });
        if words[1] != "-" {
            let owner = value!({"uid": (words[1]), "kind": "ReplicaSet", "controller": true});
            pod.object_entry("metadata").insert("ownerReferences", vec![owner]);
        }
        if name != words[0] {
            pod.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        if words[3] != "-" {
            pod.object_entry("spec").insert("nodeName", words[3]);
        }
        if let Ok(since_s) = words[4].parse() {
            let ready = value!({
                "type": "Ready", "status": "True", "lastTransitionTime": (Time::from_seconds(since_s).to_rfc3339())
            });
            pod.object_entry("status").insert("conditions", vec![ready]);
        }
        Arc::new(Held::from_object(&pod).expect("held"))
    }

    fn names(pods: &[Pod]) -> String {
        pods.iter().map(|pod| pod.head.name.as_str()).collect::<Vec<_>>().join(",")
    }

    fn check(replicas: i64, pods: &[&str], expect: &str) {
        let plan = plan(&set(replicas), pods.iter().map(|text| pod(text)).collect(), 100).expect("a plan");
        let lists = [&plan.delete, &plan.adopt, &plan.release].map(|pods| names(pods));
        let [delete, adopt, release] = lists;
        let seen = format!("create {} delete [{delete}] adopt [{adopt}] release [{release}]", plan.create);
        assert_eq!(seen, expect);
    }

    #[test]
    fn pods_are_made_deleted_adopted_and_released() {
        check(2, &[], "create 2 delete [] adopt [] release []");
        check(2, &["a set web n1 50", "b! set web n1 50"], "create 1 delete [] adopt [] release []");
        check(2, &["a set web n1 50", "b - web n1 50"], "create 0 delete [] adopt [b] release []");
        check(1, &["a set db n1 50", "b other web n1 50"], "create 1 delete [] adopt [] release [a]");
        check(1, &["a set web n1 50", "b set web - -"], "create 0 delete [b] adopt [] release []");
        check(0, &["a set web n1 50", "b set web n1 -"], "create 0 delete [b,a] adopt [] release []");
        check(2, &["a set web n1 1", "b set web n2 90", "c set web n1 2"], "create 0 delete [a] adopt [] release []");
    }

    #[test]
    fn status_counts_and_is_written_once() {
        let pods = vec![pod("a set web n1 50"), pod("b set web n1 95"), pod("c set web - -"), pod("d! set web n1 -")];
        let held = set(3);
        let plan = plan(&held, pods, 100).expect("a plan");
        assert_eq!(plan.next, Next::After(Duration::from_secs(5)));
        let new = status(&REPLICA_SET, &held.view, &plan, None, 100).expect("it is new");
        let fields = ["replicas", "fullyLabeledReplicas", "readyReplicas", "availableReplicas", "terminatingReplicas"];
        assert_eq!(fields.map(|field| new.i64_at(&[field])), [3, 3, 2, 1, 1].map(Some));
        let mut written = held.view.clone();
        written.as_object_mut().expect("an object").insert("status", new);
        assert_eq!(status(&REPLICA_SET, &written, &plan, None, 100), None);
        let failed =
            status(&REPLICA_SET, &written, &plan, Some(&Error::Shape("no".to_owned())), 100).expect("it is new");
        assert_eq!(failed.get("conditions").and_then(Value::as_array).map(<[Value]>::len), Some(1));
    }

    #[test]
    fn a_replication_controller_selects_by_labels_and_tells_less() {
        let controller = value!({
            "metadata": {"name": "web", "namespace": "shop", "uid": "set"},
            "spec": {"replicas": 2, "selector": {"app": "web"}, "template": {"metadata": {"labels": {"app": "web"}}}}
        });
        let held = Held::from_object(&controller).expect("held");
        let pods = vec![pod("a set web n1 50"), pod("b - web n1 -"), pod("c set db n1 -"), pod("d! set web n1 -")];
        let plan = plan(&held, pods, 100).expect("a plan");
        assert_eq!((plan.create, names(&plan.adopt), names(&plan.release)), (0, "b".to_owned(), "c".to_owned()));
        let new = status(&REPLICATION_CONTROLLER, &held.view, &plan, None, 100).expect("it is new");
        assert_eq!((new.i64_at(&["replicas"]), new.get("terminatingReplicas")), (Some(2), None));
        let made = new_pod(&REPLICATION_CONTROLLER.owner, &held.view);
        let reference = &made.at(&["metadata", "ownerReferences"]).and_then(Value::as_array).expect("owned")[0];
        assert_eq!((reference.str_at(&["apiVersion"]), reference.str_at(&["kind"])), ("v1", "ReplicationController"));
    }
}
