//! Keeps the status of every disruption budget: how many of its pods are healthy, how many have to be, and how many may
//! go now (`pkg/controller/disruption`). Evictions ask this status alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::time::Time;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Str, Value};
use corten_client::cache::{Held, Key, Owner, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Resource};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::pod::{PODS, Phase, PodView, seconds};
use crate::replica_set::REPLICA_SETS;

const BUDGETS: Resource = Resource::new("policy", "v1", "poddisruptionbudgets");
const DEPLOYMENTS: Resource = Resource::new("apps", "v1", "deployments");
const STATEFUL_SETS: Resource = Resource::new("apps", "v1", "statefulsets");
const CONTROLLERS: Resource = Resource::new("", "v1", "replicationcontrollers");

/// An eviction that was granted is expected to happen within this.
const CONFIRM_S: i64 = 120;

type Pod = Arc<Held<PodView>>;

/// How many pods a controller wants.
struct Scale(i64);

impl View for Scale {
    fn from_object(object: &Value) -> Option<Self> {
        Some(Self(object.i64_at(&["spec", "replicas"]).unwrap_or(1)))
    }
}

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    budgets: Informer<Value>,
    pods: Informer<PodView>,
    /// By kind.
    scales: [(&'static str, Informer<Scale>); 4],
}

pub fn controller(base: &Base) -> Controller {
    let of = &base.informers;
    let budgets = of.of::<Value>(Scope::all(BUDGETS));
    let pods = of.of::<PodView>(Scope::all(PODS));
    let scales = [
        ("ReplicaSet", of.of::<Scale>(Scope::all(REPLICA_SETS))),
        ("Deployment", of.of::<Scale>(Scope::all(DEPLOYMENTS))),
        ("StatefulSet", of.of::<Scale>(Scope::all(STATEFUL_SETS))),
        ("ReplicationController", of.of::<Scale>(Scope::all(CONTROLLERS))),
    ];
    let context = Context {
        client: (base.client_of)("disruption-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("disruption-controller", "controllermanager"),
        budgets: budgets.clone(),
        pods: pods.clone(),
        scales: scales.clone(),
    };
    let of_pod = budgets.clone();
    let mut controller = Controller::new("disruption", Arc::new(context), reconcile)
        .watches(&budgets)
        .watches_for(&pods, move |pod| concerned(&of_pod, &pod.head.namespace, Some(&pod.head.labels)));
    for (_, scale) in &scales {
        let of = budgets.clone();
        controller = controller.watches_for(scale, move |owner| concerned(&of, &owner.head.namespace, None));
    }
    controller
}

/// The budgets of a namespace that select some labels, or all of them.
fn concerned(budgets: &Informer<Value>, namespace: &str, labels: Option<&[(Str, Str)]>) -> Vec<Key> {
    let all = budgets.cache().in_namespace(namespace);
    let selects = |budget: &Held<Value>| {
        labels.is_none_or(|labels| selector(&budget.view).is_ok_and(|selector| selector.matches(labels)))
    };
    all.iter().filter(|budget| selects(budget)).map(|budget| budget.head.key()).collect()
}

fn selector(budget: &Value) -> Result<LabelSelector, Error> {
    let selector = LabelSelector::from_object(budget.at(&["spec", "selector"]));
    selector.map_err(|error| Error::Shape(format!("the selector of {}: {error}", Meta::of(budget).name())))
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(budget) = ctx.budgets.cache().get(&key.namespace, &key.name) else { return Ok(Next::Change) };
    let now_s = ctx.clock.now_s();
    let about = Reference::of("policy/v1", "PodDisruptionBudget", &budget.view);
    let pods = ctx.pods.cache().selected(&key.namespace, &selector(&budget.view)?);
    if pods.is_empty() {
        ctx.recorder.normal(&about, "NoPods", "No matching pods found");
    }
    let (status, next) = match ctx.expected(&budget.view, &pods) {
        Ok((expected, desired)) => plan(&budget.view, &pods, expected, desired, now_s),
        Err(why) => {
            let note = format!("Failed to calculate the number of expected pods: {why}");
            ctx.recorder.warning(&about, "CalculateExpectedPodCountFailed", note);
            (fail_safe(&budget.view, &why, now_s), Next::Change)
        }
    };
    if budget.view.get("status") != Some(&status) {
        let mut new = budget.view.clone();
        if let Some(new) = new.as_object_mut() {
            new.insert("status", status);
        }
        unless_gone(ctx.client.update(&BUDGETS, "status", &new).await)?;
    }
    Ok(next)
}

impl Context {
    /// How many pods there should be, and how many of them healthy.
    fn expected(&self, budget: &Value, pods: &[Pod]) -> Result<(i64, i64), String> {
        let count = i64::try_from(pods.len()).unwrap_or(i64::MAX);
        let bound = |field| budget.at(&["spec", field]).filter(|bound| !bound.is_null());
        match (bound("maxUnavailable"), bound("minAvailable")) {
            (Some(most), _) => {
                let expected = self.scale_of(pods)?;
                Ok((expected, (expected - scaled(most, expected)).max(0)))
            }
            (None, Some(Value::Int(least))) => Ok((count, *least)),
            (None, Some(least)) => {
                let expected = self.scale_of(pods)?;
                Ok((expected, scaled(least, expected)))
            }
            (None, None) => Ok((0, 0)),
        }
    }

    /// The sum of what the controllers of the pods want; pods without one do not count.
    fn scale_of(&self, pods: &[Pod]) -> Result<i64, String> {
        let mut scales: BTreeMap<Str, i64> = BTreeMap::new();
        for pod in pods {
            let Some(owner) = pod.head.controller() else { continue };
            let (uid, scale) = self
                .find(&pod.head.namespace, owner)
                .ok_or_else(|| format!("found no controllers for pod {:?}", pod.head.name.as_str()))?;
            scales.insert(uid, scale);
        }
        Ok(scales.values().sum())
    }

    /// The controller behind an owner, a deployment for its replica sets, and how many pods it wants.
    fn find(&self, namespace: &str, owner: &Owner) -> Option<(Str, i64)> {
        let (_, scales) = self.scales.iter().find(|(kind, _)| *kind == owner.kind)?;
        let found = scales.cache().get(namespace, &owner.name).filter(|found| found.head.uid == owner.uid)?;
        let above = found.head.controller().filter(|above| above.kind == "Deployment");
        above.and_then(|above| self.find(namespace, above)).or_else(|| Some((found.head.uid.clone(), found.0)))
    }
}

/// A number, or a share of a count in percent, rounded up.
fn scaled(bound: &Value, of: i64) -> i64 {
    match bound {
        Value::Int(number) => *number,
        other => {
            let percent: i64 = other.as_str().and_then(|text| text.trim_end_matches('%').parse().ok()).unwrap_or(0);
            (percent * of + 99) / 100
        }
    }
}

/// The status of a budget, and when it is to be looked at again.
fn plan(budget: &Value, pods: &[Pod], expected: i64, desired: i64, now_s: i64) -> (Value, Next) {
    let granted = budget.at(&["status", "disruptedPods"]).and_then(Value::as_object);
    let mut disrupted = Map::new();
    let mut next_s: Option<i64> = None;
    for pod in pods.iter().filter(|pod| !pod.head.deleting) {
        let Some(since) = granted.and_then(|granted| granted.get(&pod.head.name)) else { continue };
        let until_s = seconds(since.as_str().unwrap_or_default()) + CONFIRM_S;
        if until_s >= now_s {
            disrupted.insert(pod.head.name.clone(), since.clone());
            next_s = Some(next_s.map_or(until_s, |next_s| next_s.min(until_s)));
        }
    }
    let counts = |pod: &&Pod| {
        let granted = disrupted.contains_key(&pod.head.name);
        !pod.head.deleting && !granted && pod.ready_s.is_some() && pod.phase != Phase::Over
    };
    let healthy = i64::try_from(pods.iter().filter(counts).count()).unwrap_or(i64::MAX);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let generation = Meta::of(budget).generation();
    let (status, reason) = if allowed > 0 { ("True", "SufficientPods") } else { ("False", "InsufficientPods") };
    let mut new = Map::new();
    new.insert("observedGeneration", generation);
    if !disrupted.is_empty() {
        new.insert("disruptedPods", disrupted);
    }
    let counts = [
        ("disruptionsAllowed", allowed),
        ("currentHealthy", healthy),
        ("desiredHealthy", desired),
        ("expectedPods", expected),
    ];
    for (field, count) in counts {
        new.insert(field, count);
    }
    new.insert("conditions", conditions(budget, status, reason, "", generation, now_s));
    let left_s = next_s.map(|next_s| u64::try_from(next_s - now_s + 1).unwrap_or(1));
    (Value::Object(new), left_s.map_or(Next::Change, |left_s| Next::After(Duration::from_secs(left_s))))
}

/// What cannot be counted allows nothing.
fn fail_safe(budget: &Value, why: &str, now_s: i64) -> Value {
    let mut status = budget.get("status").cloned().filter(|status| !status.is_null()).unwrap_or_else(Value::object);
    let observed = status.i64_at(&["observedGeneration"]).unwrap_or_default();
    if let Some(status) = status.as_object_mut() {
        status.insert("disruptionsAllowed", 0);
        status.insert("conditions", conditions(budget, "False", "SyncFailed", why, observed, now_s));
        for field in ["currentHealthy", "desiredHealthy", "expectedPods"] {
            status.insert_if_absent(field, || 0.into());
        }
    }
    status
}

fn conditions(budget: &Value, status: &str, reason: &str, message: &str, generation: i64, now_s: i64) -> Vec<Value> {
    let known = budget.at(&["status", "conditions"]).and_then(Value::as_array).unwrap_or_default();
    let is_own = |condition: &&Value| condition.str_at(&["type"]) == "DisruptionAllowed";
    let same = known.iter().find(is_own).filter(|own| own.str_at(&["status"]) == status);
    let since =
        same.map_or_else(|| Time::from_seconds(now_s).to_rfc3339(), |same| same.str_at(&["lastTransitionTime"]).into());
    let mut all: Vec<Value> = known.iter().filter(|condition| !is_own(condition)).cloned().collect();
    all.push(value!({
        "type": "DisruptionAllowed", "status": status, "observedGeneration": generation, "lastTransitionTime": since,
        "reason": reason, "message": message
    }));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `name ready`; `!` after the name: being deleted.
    fn pod(text: &str) -> Pod {
        let (name, ready) = text.split_once(' ').expect("two words");
        let mut pod = value!({
            "metadata": {"name": (name.trim_end_matches('!')), "uid": name},
            "status": {"phase": "Running", "conditions": [
                {"type": "Ready", "status": ready, "lastTransitionTime": "1970-01-01T00:00:00Z"}]}
        });
        if name.ends_with('!') {
            pod.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        Arc::new(Held::from_object(&pod).expect("held"))
    }

    fn check(budget: &Value, pods: &[&str], expected: i64, desired: i64, expect: (i64, i64, &str)) -> Value {
        let pods: Vec<Pod> = pods.iter().map(|text| pod(text)).collect();
        let (status, _) = plan(budget, &pods, expected, desired, 100);
        let count = |field| status.i64_at(&[field]).expect("a count");
        let condition = &status.get("conditions").and_then(Value::as_array).expect("conditions")[0];
        let seen = (count("currentHealthy"), count("disruptionsAllowed"), condition.str_at(&["reason"]));
        assert_eq!(seen, expect);
        status
    }

    #[test]
    fn what_is_more_than_healthy_enough_may_go() {
        let budget = value!({"metadata": {"name": "b", "generation": 3}, "spec": {}});
        check(&budget, &["a True", "b True", "c False"], 3, 1, (2, 1, "SufficientPods"));
        check(&budget, &["a True", "b! True", "c False"], 3, 1, (1, 0, "InsufficientPods"));
        check(&budget, &[], 0, 0, (0, 0, "InsufficientPods"));
        let mut granted = budget.clone();
        let pods = value!({"a": "1970-01-01T00:00:50Z", "gone": "1970-01-01T00:00:50Z"});
        granted.object_entry("status").insert("disruptedPods", pods);
        let status = check(&granted, &["a True", "b True"], 2, 0, (1, 1, "SufficientPods"));
        assert_eq!(status.get("disruptedPods"), Some(&value!({"a": "1970-01-01T00:00:50Z"})));
        let (_, next) = plan(&granted, &[pod("a True")], 1, 0, 100);
        assert_eq!(next, Next::After(Duration::from_secs(71)));
    }

    #[test]
    fn the_same_counts_are_the_same_status() {
        let mut budget = value!({"metadata": {"name": "b", "generation": 1}, "spec": {}});
        let (status, _) = plan(&budget, &[pod("a True")], 1, 0, 100);
        budget.as_object_mut().expect("an object").insert("status", status.clone());
        assert_eq!(plan(&budget, &[pod("a True")], 1, 0, 200).0, status);
        let failed = fail_safe(&budget, "no", 200);
        assert_eq!((failed.i64_at(&["disruptionsAllowed"]), failed.i64_at(&["currentHealthy"])), (Some(0), Some(1)));
    }

    #[test]
    fn shares_are_rounded_up() {
        assert_eq!([value!("50%"), value!("34%"), value!(2)].map(|bound| scaled(&bound, 3)), [2, 2, 2]);
    }
}
