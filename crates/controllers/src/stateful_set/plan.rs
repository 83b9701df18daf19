//! Which replicas are made, deleted and labelled next: pure.

use std::collections::BTreeMap;
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::Held;
use corten_client::controller::Next;

use super::Pod;
use super::replica::{self, Ordinals};
use crate::owned::label;
use crate::pod::{Phase, is_active};
use crate::revision::{History, POD_LABEL};

/// What a set wants.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) ordinals: Ordinals,
    /// The revisions' names: that of the pods so far, and that of the template.
    pub(super) current: Str,
    pub(super) update: Str,
    name: Str,
    in_turn: bool,
    min_ready_s: i64,
    /// Numbers below it stay at the current revision; `None` where the strategy names none.
    partition: Option<i64>,
    on_delete: bool,
    /// As the status has it.
    current_replicas: i64,
    deleting: bool,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) create: Vec<i64>,
    pub(super) delete: Vec<Pod>,
    /// Pods that lack the labels of their name.
    pub(super) label: Vec<Pod>,
    /// Pods that are not running yet: their claims may be missing.
    pub(super) claims: Vec<i64>,
    pub(super) counts: Counts,
    pub(super) next: Next,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    replicas: i64,
    ready: i64,
    available: i64,
    current: i64,
    updated: i64,
}

impl Order {
    pub(super) fn of(set: &Held<Value>, history: &History) -> Self {
        let view = &set.view;
        let update = history.newest().head.name.clone();
        let told = view.str_at(&["status", "currentRevision"]);
        let rolling = view.at(&["spec", "updateStrategy", "rollingUpdate"]).filter(|given| !given.is_null());
        Self {
            ordinals: Ordinals::of(view),
            current: history.named(told).map_or_else(|| update.clone(), |known| known.head.name.clone()),
            update,
            name: set.head.name.clone(),
            in_turn: view.str_at(&["spec", "podManagementPolicy"]) != "Parallel",
            min_ready_s: view.i64_at(&["spec", "minReadySeconds"]).unwrap_or_default(),
            partition: rolling.map(|rolling| rolling.i64_at(&["partition"]).unwrap_or_default()),
            on_delete: view.str_at(&["spec", "updateStrategy", "type"]) == "OnDelete",
            current_replicas: view.i64_at(&["status", "currentReplicas"]).unwrap_or_default(),
            deleting: set.head.deleting,
        }
    }

    /// The revision that a replica is made in.
    pub(super) fn revision_of(&self, ordinal: i64) -> &Str {
        let old = match self.partition {
            _ if self.on_delete => false,
            None => ordinal < self.ordinals.start + self.current_replicas,
            // Compared as it stands, without the first number, as upstream does.
            Some(partition) => ordinal < self.ordinals.start + partition,
        };
        if old { &self.current } else { &self.update }
    }

    fn is_available(&self, pod: &Pod, now_s: i64) -> bool {
        pod.phase == Phase::Running && pod.is_available(self.min_ready_s, now_s)
    }
}

/// One step. `waits` tells of a number whose claims are an earlier pod's still.
pub(super) fn plan(order: &Order, pods: &[Pod], waits: impl Fn(i64) -> bool, now_s: i64) -> Plan {
    let mut plan = Plan { counts: counts(order, pods, now_s), next: next(order, pods, now_s), ..Plan::default() };
    if order.deleting {
        return plan;
    }
    let numbered = pods.iter().filter_map(|pod| Some((replica::ordinal(&order.name, &pod.head.name)?, pod)));
    let numbered: BTreeMap<i64, &Pod> = numbered.collect();
    let replicas: Vec<(i64, Option<&Pod>)> =
        order.ordinals.all().map(|ordinal| (ordinal, numbered.get(&ordinal).copied())).collect();
    let condemned: Vec<(i64, &Pod)> =
        numbered.iter().filter(|(at, _)| !order.ordinals.all().contains(at)).map(|(at, pod)| (*at, *pod)).collect();
    if fill(order, &replicas, &waits, now_s, &mut plan) && shrink(order, &replicas, &condemned, now_s, &mut plan) {
        roll(order, &replicas, now_s, &mut plan);
    }
    plan
}

/// Makes what is missing and replaces what has ended. Whether the step may go on.
fn fill(
    order: &Order,
    replicas: &[(i64, Option<&Pod>)],
    waits: &impl Fn(i64) -> bool,
    now_s: i64,
    plan: &mut Plan,
) -> bool {
    for (ordinal, pod) in replicas {
        let blocks = match pod {
            None if waits(*ordinal) => true,
            None => {
                plan.create.push(*ordinal);
                true
            }
            Some(pod) if pod.phase == Phase::Over => {
                plan.delete.extend((!pod.head.deleting).then(|| Pod::clone(pod)));
                true
            }
            Some(pod) => {
                plan.claims.extend((pod.phase == Phase::Pending).then_some(*ordinal));
                plan.label.extend((!replica::is_identified(&pod.head)).then(|| Pod::clone(pod)));
                pod.head.deleting || !order.is_available(pod, now_s)
            }
        };
        if blocks && order.in_turn {
            return false;
        }
    }
    true
}

/// Deletes what is too many, from the end. Whether the step may go on.
fn shrink(
    order: &Order,
    replicas: &[(i64, Option<&Pod>)],
    condemned: &[(i64, &Pod)],
    now_s: i64,
    plan: &mut Plan,
) -> bool {
    let is_unavailable = |pod: &Pod| pod.head.deleting || !order.is_available(pod, now_s);
    let whole = replicas.iter().all(|(_, pod)| pod.is_some_and(|pod| !is_unavailable(pod)));
    let first = condemned.iter().find(|(_, pod)| whole && is_unavailable(pod)).map(|(ordinal, _)| *ordinal);
    for (ordinal, pod) in condemned.iter().rev() {
        if pod.head.deleting {
            if order.in_turn {
                return false;
            }
            continue;
        }
        if order.in_turn && is_unavailable(pod) && first != Some(*ordinal) {
            return false;
        }
        plan.delete.push(Pod::clone(pod));
        if order.in_turn {
            return false;
        }
    }
    true
}

/// Replaces the last replica that is not in the form of now, once those behind it are available.
fn roll(order: &Order, replicas: &[(i64, Option<&Pod>)], now_s: i64, plan: &mut Plan) {
    if order.on_delete {
        return;
    }
    let from = usize::try_from(order.partition.unwrap_or_default()).unwrap_or(usize::MAX);
    for (_, pod) in replicas.iter().skip(from).rev() {
        let Some(pod) = pod else { return };
        if label(&pod.head, POD_LABEL) != order.update.as_str() && !pod.head.deleting {
            plan.delete.push(Pod::clone(pod));
            plan.counts.current -= 1;
            return;
        }
        if pod.head.deleting || !order.is_available(pod, now_s) {
            return;
        }
    }
}

fn counts(order: &Order, pods: &[Pod], now_s: i64) -> Counts {
    let count = |counts: &dyn Fn(&Pod) -> bool| {
        i64::try_from(pods.iter().filter(|pod| counts(pod)).count()).unwrap_or(i64::MAX)
    };
    let made_in = |pod: &Pod, revision: &Str| !pod.head.deleting && label(&pod.head, POD_LABEL) == revision.as_str();
    let ready = |pod: &Pod| pod.phase == Phase::Running && pod.ready_s.is_some();
    Counts {
        replicas: count(&|_| true),
        ready: count(&ready),
        available: count(&|pod| ready(pod) && order.is_available(pod, now_s)),
        current: count(&|pod| made_in(pod, &order.current)),
        updated: count(&|pod| made_in(pod, &order.update)),
    }
}

/// When the next ready pod has been ready for long enough.
fn next(order: &Order, pods: &[Pod], now_s: i64) -> Next {
    let waiting = pods.iter().filter(|pod| is_active(pod) && !order.is_available(pod, now_s));
    let left_s = waiting.filter_map(|pod| pod.ready_s).map(|since_s| since_s + order.min_ready_s - now_s).min();
    left_s.map_or(Next::Change, |left_s| Next::After(Duration::from_secs(u64::try_from(left_s).unwrap_or(1).max(1))))
}

/// The set's new status; `None` where it is as it was.
pub(super) fn status(set: &Value, order: &Order, plan: &Plan, collisions: i64) -> Option<Value> {
    let mut counts = plan.counts;
    let mut current = &order.current;
    let wanted = order.ordinals.count;
    if !order.on_delete && counts.updated == wanted && counts.ready == wanted && counts.replicas == wanted {
        counts.current = counts.updated;
        current = &order.update;
    }
    let old = set.get("status").cloned().unwrap_or_default();
    let mut new = if old.is_null() { Value::object() } else { old.clone() };
    let numbers = [
        ("observedGeneration", Meta::of(set).generation()),
        ("replicas", counts.replicas),
        ("readyReplicas", counts.ready),
        ("availableReplicas", counts.available),
        ("currentReplicas", counts.current.max(0)),
        ("updatedReplicas", counts.updated),
        ("collisionCount", collisions),
    ];
    let names = [("currentRevision", current), ("updateRevision", &order.update)];
    let same = numbers.iter().all(|(field, number)| old.i64_at(&[field]).unwrap_or_default() == *number)
        && names.iter().all(|(field, name)| old.str_at(&[field]) == name.as_str());
    if same {
        return None;
    }
    let map = new.as_object_mut()?;
    for (field, number) in numbers {
        // Upstream leaves these out where they are zero.
        let optional = matches!(field, "readyReplicas" | "currentReplicas" | "updatedReplicas");
        if optional && number == 0 {
            map.remove(field);
        } else {
            map.insert(field, number);
        }
    }
    for (field, name) in names {
        map.insert(field, name.clone());
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_apimachinery::time::Time;
    use corten_apimachinery::value;

    use super::*;

    fn order(policy: &str, strategy: &Value) -> Order {
        let set = value!({
            "metadata": {"name": "db", "namespace": "shop", "uid": "set", "generation": 2},
            "spec": {"replicas": 3, "minReadySeconds": 10, "podManagementPolicy": policy, "updateStrategy": (strategy.clone())},
            "status": {"currentRevision": "old", "currentReplicas": 3}
        });
        let revision = |name: &str, number: i64| {
            Arc::new(Held::from_object(&value!({"metadata": {"name": name}, "revision": number})).expect("held"))
        };
        let history = History { all: vec![revision("old", 1), revision("new", 2)], collisions: 0 };
        Order::of(&Held::from_object(&set).expect("held"), &history)
    }

    /// `ordinal revision phase ready-since`; `!` after the ordinal: being deleted.
    fn pod(text: &str) -> Pod {
        let words: Vec<&str> = text.split(' ').collect();
        let ordinal = words[0].trim_end_matches('!');
        let name = format!("db-{ordinal}");
        let mut labels = replica::identity(&name);
        labels.insert(POD_LABEL, words[1]);
        let mut pod = value!({
            "metadata": {"name": (name.clone()), "namespace": "shop", "uid": name, "labels": labels},
            "status": {"phase": (words[2])}
        });
        if ordinal != words[0] {
            pod.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        if let Some(since_s) = words.get(3).and_then(|since| since.parse().ok()) {
            let since = Time::from_seconds(since_s).to_rfc3339();
            let ready = value!({"type": "Ready", "status": "True", "lastTransitionTime": since});
            pod.object_entry("status").insert("conditions", vec![ready]);
        }
        Arc::new(Held::from_object(&pod).expect("held"))
    }

    #[track_caller]
    fn check_with(policy: &str, strategy: &Value, pods: &[&str], expect: &str) {
        let pods: Vec<Pod> = pods.iter().map(|text| pod(text)).collect();
        let plan = plan(&order(policy, strategy), &pods, |ordinal| ordinal == 9, 100);
        let delete: Vec<&str> = plan.delete.iter().map(|pod| pod.head.name.as_str()).collect();
        assert_eq!(format!("create {:?} delete [{}]", plan.create, delete.join(",")), expect);
    }

    #[track_caller]
    fn check(policy: &str, pods: &[&str], expect: &str) {
        check_with(policy, &value!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}), pods, expect);
    }

    const WELL: [&str; 3] = ["0 new Running 50", "1 new Running 50", "2 new Running 50"];

    #[test]
    fn one_is_made_after_the_other() {
        check("OrderedReady", &[], "create [0] delete []");
        check("OrderedReady", &["0 new Pending"], "create [] delete []");
        check("OrderedReady", &["0 new Running 95"], "create [] delete []");
        check("OrderedReady", &["0 new Running 50"], "create [1] delete []");
        check("OrderedReady", &["0 new Running 50", "2 new Running 50"], "create [1] delete []");
        check("OrderedReady", &["0! new Running 50"], "create [] delete []");
        check("OrderedReady", &["0 new Failed"], "create [] delete [db-0]");
        check("Parallel", &["1 new Pending"], "create [0, 2] delete []");
        check("OrderedReady", &WELL, "create [] delete []");
    }

    #[test]
    fn the_last_goes_first() {
        let with = |more: &[&'static str]| WELL.iter().copied().chain(more.iter().copied()).collect::<Vec<_>>();
        check("OrderedReady", &with(&["3 new Running 50", "4 new Running 50"]), "create [] delete [db-4]");
        check("OrderedReady", &with(&["3 new Running 50", "4! new Running 50"]), "create [] delete []");
        check("OrderedReady", &with(&["3 new Pending", "4 new Pending"]), "create [] delete []");
        check("OrderedReady", &with(&["3 new Running 50", "4 new Pending"]), "create [] delete [db-4]");
        check("Parallel", &with(&["3 new Pending", "4 new Pending"]), "create [] delete [db-4,db-3]");
        check("OrderedReady", &["0 new Running 50", "1 new Pending", "3 new Running 50"], "create [] delete []");
    }

    #[test]
    fn a_new_template_comes_from_the_end() {
        let old = ["0 old Running 50", "1 old Running 50", "2 old Running 50"];
        check("OrderedReady", &old, "create [] delete [db-2]");
        check("OrderedReady", &["0 old Running 50", "1 old Running 50", "2 new Pending"], "create [] delete []");
        check("OrderedReady", &["0 old Running 50", "1 old Running 50", "2 new Running 50"], "create [] delete [db-1]");
        let partition = value!({"type": "RollingUpdate", "rollingUpdate": {"partition": 2}});
        check_with(
            "OrderedReady",
            &partition,
            &["0 old Running 50", "1 old Running 50", "2 new Running 50"],
            "create [] delete []",
        );
        check_with("OrderedReady", &value!({"type": "OnDelete"}), &old, "create [] delete []");
        let order = order("OrderedReady", &partition);
        assert_eq!([0, 1, 2].map(|ordinal| order.revision_of(ordinal).as_str()), ["old", "old", "new"]);
    }

    #[test]
    fn the_status_counts_and_ends_the_rollout() {
        let order = order("OrderedReady", &value!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}}));
        let set = value!({"metadata": {"name": "db", "generation": 2}, "status": {"currentRevision": "old"}});
        let pods: Vec<Pod> = ["0 old Running 50", "1 old Running 95", "2 new Pending"].map(pod).into();
        let under_way = plan(&order, &pods, |_| false, 100);
        let status_of = |plan: &Plan| status(&set, &order, plan, 0).expect("it is new");
        let fields = ["replicas", "readyReplicas", "availableReplicas", "currentReplicas", "updatedReplicas"];
        let new = status_of(&under_way);
        assert_eq!(fields.map(|field| new.i64_at(&[field])), [3, 2, 1, 2, 1].map(Some));
        assert_eq!(new.str_at(&["currentRevision"]), "old");
        assert_eq!(under_way.next, Next::After(Duration::from_secs(5)));
        let done = status_of(&plan(&order, &WELL.map(pod), |_| false, 100));
        assert_eq!(fields.map(|field| done.i64_at(&[field])), [3, 3, 3, 3, 3].map(Some));
        assert_eq!(done.str_at(&["currentRevision"]), "new");
        let mut written = set.clone();
        written.as_object_mut().expect("an object").insert("status", done);
        assert_eq!(status(&written, &order, &plan(&order, &WELL.map(pod), |_| false, 100), 0), None);
    }

    #[test]
    fn a_number_waits_for_its_earlier_claims() {
        let order = Order { ordinals: Ordinals { start: 9, count: 1 }, ..order("OrderedReady", &Value::object()) };
        assert!(plan(&order, &[], |ordinal| ordinal == 9, 100).create.is_empty());
        assert_eq!(plan(&order, &[], |_| false, 100).create, [9]);
    }
}
