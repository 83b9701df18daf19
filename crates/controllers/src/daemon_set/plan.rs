//! Which nodes get a pod, and which pods go: pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use corten_apimachinery::meta::Meta;
use corten_apimachinery::value::{Str, Value};
use corten_client::Error;
use corten_client::cache::Held;
use corten_client::controller::Next;
use corten_scheduler::{Effect, NodeView, decode};

use super::{GENERATION, GENERATION_LABEL, Pod};
use crate::owned::{count_or_share, label};
use crate::pod::{Phase, PodView};
use crate::revision::POD_LABEL;

/// A set with its nodes and pods.
pub(super) struct Fleet {
    /// By the name of a node: whether a pod is to be there, and whether one may stay.
    nodes: BTreeMap<Str, Verdict>,
    /// By the node that they are meant for, the oldest first.
    pods: BTreeMap<Str, Vec<Pod>>,
    hash: String,
    /// The deprecated number of the template, where the set has one.
    generation: Option<String>,
    rolls: bool,
    max_surge: usize,
    max_unavailable: usize,
    min_ready_s: i64,
    now_s: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    runs: bool,
    stays: bool,
}

/// What is to be done now.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Names of nodes.
    pub(super) create: Vec<Str>,
    pub(super) delete: Vec<Pod>,
    /// Pods that have ended where one is to run.
    pub(super) ended: Vec<Pod>,
    pub(super) next: Next,
}

/// The hash of the template that a pod was made of.
pub(super) fn revision_of(pod: &Held<PodView>) -> &str {
    label(&pod.head, POD_LABEL)
}

impl Fleet {
    /// `template` has what the set's pods tolerate.
    ///
    /// # Errors
    /// When the template cannot be read.
    pub(super) fn new(
        set: &Value,
        template: &Value,
        hash: &str,
        nodes: &[&NodeView],
        pods: &[Pod],
        now_s: i64,
    ) -> Result<Self, Error> {
        let named = template.str_at(&["spec", "nodeName"]).to_owned();
        let pod = decode::pod(template).map_err(|error| Error::Shape(format!("the template of a pod: {error}")))?;
        let verdict = |node: &NodeView| {
            let there = (named.is_empty() || named == node.name.as_str()) && pod.accepts(&node.name, &node.labels);
            let stays = there && pod.tolerates(&node.taints, &[Effect::NoExecute]);
            Verdict { runs: stays && pod.tolerates(&node.taints, &[Effect::NoSchedule]), stays }
        };
        let nodes: BTreeMap<Str, Verdict> = nodes.iter().map(|node| (node.name.clone(), verdict(node))).collect();
        let mut by_node: BTreeMap<Str, Vec<Pod>> = BTreeMap::new();
        for pod in pods {
            by_node.entry(pod.target.clone()).or_default().push(pod.clone());
        }
        for pods in by_node.values_mut() {
            pods.sort_by_key(|pod| (pod.node.is_empty(), pod.created_s, pod.head.name.clone()));
        }
        let desired = nodes.values().filter(|verdict| verdict.runs).count();
        let rolls = set.str_at(&["spec", "updateStrategy", "type"]) != "OnDelete";
        let bound = |field| if rolls { bound(set, field, desired) } else { 0 };
        let (max_surge, max_unavailable) = (bound("maxSurge"), bound("maxUnavailable"));
        Ok(Self {
            nodes,
            pods: by_node,
            hash: hash.to_owned(),
            generation: Meta::of(set)
                .annotation(GENERATION)
                .filter(|text| text.parse::<i64>().is_ok())
                .map(str::to_owned),
            rolls,
            max_surge,
            // With neither, nothing could ever move.
            max_unavailable: if max_surge == 0 { max_unavailable.max(1) } else { max_unavailable },
            min_ready_s: set.i64_at(&["spec", "minReadySeconds"]).unwrap_or_default(),
            now_s,
        })
    }

    fn runs(&self, node: &Str) -> bool {
        self.nodes.get(node).is_some_and(|verdict| verdict.runs)
    }

    fn desired(&self) -> usize {
        self.nodes.values().filter(|verdict| verdict.runs).count()
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        let generation = self.generation.as_deref();
        revision_of(pod) == self.hash || generation.is_some_and(|own| label(&pod.head, GENERATION_LABEL) == own)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        pod.is_available(self.min_ready_s, self.now_s)
    }

    /// The new and the old pod of a node that are not being deleted; `None` where there are more of a sort.
    fn pair<'a>(&self, pods: &'a [Pod]) -> Option<(Option<&'a Pod>, Option<&'a Pod>)> {
        let living = || pods.iter().filter(|pod| !pod.head.deleting);
        let (mut new, mut old) =
            (living().filter(|pod| self.is_updated(pod)), living().filter(|pod| !self.is_updated(pod)));
        let pair = (new.next(), old.next());
        (new.next().is_none() && old.next().is_none()).then_some(pair)
    }
}

/// A bound of a rollout, of which a share counts the nodes.
fn bound(set: &Value, field: &str, nodes: usize) -> usize {
    let given = set.at(&["spec", "updateStrategy", "rollingUpdate", field]);
    usize::try_from(count_or_share(given, i64::try_from(nodes).unwrap_or(i64::MAX), true)).unwrap_or_default()
}

pub(super) fn plan(fleet: &Fleet) -> Plan {
    let mut plan = Plan { next: next(fleet), ..Plan::default() };
    let none = Vec::new();
    for (node, verdict) in &fleet.nodes {
        let pods = fleet.pods.get(node).unwrap_or(&none);
        if verdict.runs && pods.is_empty() {
            plan.create.push(node.clone());
        } else if verdict.stays {
            settle(fleet, node, pods, &mut plan);
        } else {
            plan.delete.extend(pods.iter().filter(|pod| !pod.head.deleting).cloned());
        }
    }
    // Nobody else deletes a pod that waits for a node which is gone.
    let lost = fleet.pods.iter().filter(|(node, _)| !fleet.nodes.contains_key(*node)).flat_map(|(_, pods)| pods);
    plan.delete.extend(lost.filter(|pod| pod.node.is_empty() && !pod.head.deleting).cloned());
    if fleet.rolls && plan.create.is_empty() && plan.delete.is_empty() && plan.ended.is_empty() {
        match fleet.max_surge {
            0 => replace(fleet, &mut plan),
            _ => surge(fleet, &mut plan),
        }
    }
    plan
}

/// One pod on a node where one is or may be; two while one takes over from the other.
fn settle(fleet: &Fleet, node: &Str, pods: &[Pod], plan: &mut Plan) {
    let (over, running): (Vec<&Pod>, Vec<&Pod>) =
        pods.iter().filter(|pod| !pod.head.deleting).partition(|pod| pod.phase == Phase::Over);
    plan.ended.extend(over.into_iter().cloned());
    if fleet.max_surge == 0 {
        plan.delete.extend(running.into_iter().skip(1).cloned());
        return;
    }
    if running.is_empty() && fleet.runs(node) {
        plan.create.push(node.clone());
        return;
    }
    let (new, old): (Vec<&Pod>, Vec<&Pod>) = running.into_iter().partition(|pod| revision_of(pod) == fleet.hash);
    let surplus = new.iter().skip(1).chain(old.iter().skip(1));
    plan.delete.extend(surplus.map(|pod| Pod::clone(pod)));
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (old.ready_s.is_none() || fleet.is_available(new))
    {
        plan.delete.push(Pod::clone(old));
    }
}

/// Deletes old pods, as many as may be away at once; those that serve nobody go in any case.
fn replace(fleet: &Fleet, plan: &mut Plan) {
    let mut unavailable = 0;
    let mut candidates = Vec::new();
    let none = Vec::new();
    for node in all_nodes(fleet) {
        match fleet.pair(fleet.pods.get(node).unwrap_or(&none)) {
            Some((None, Some(old))) if fleet.is_available(old) => candidates.push(old.clone()),
            Some((None, Some(old))) => {
                unavailable += 1;
                plan.delete.push(old.clone());
            }
            Some((Some(new), None)) => unavailable += usize::from(!fleet.is_available(new)),
            _ => unavailable += 1,
        }
    }
    candidates.truncate(fleet.max_unavailable.saturating_sub(unavailable));
    plan.delete.extend(candidates);
}

/// Makes new pods beside old ones, as many as may be too many at once.
fn surge(fleet: &Fleet, plan: &mut Plan) {
    let (mut surging, mut available) = (0, 0);
    let (mut candidates, mut leaving) = (Vec::new(), Vec::new());
    for (node, pods) in &fleet.pods {
        let Some((new, old)) = fleet.pair(pods) else {
            surging += 1;
            continue;
        };
        available += usize::from(old.or(new).is_some_and(|pod| fleet.is_available(pod)));
        match (new, old) {
            (_, None) => {}
            (Some(new), Some(_)) if !fleet.is_available(new) => surging += 1,
            (Some(_), Some(old)) => plan.delete.push(old.clone()),
            (None, Some(old)) => match (fleet.is_available(old), fleet.runs(node)) {
                (false, false) => plan.delete.push(old.clone()),
                (false, true) => plan.create.push(node.clone()),
                (true, false) => leaving.push(old.clone()),
                (true, true) => candidates.push(node.clone()),
            },
        }
    }
    // A node that the set leaves keeps its pod until enough others serve.
    leaving.truncate(available.saturating_sub(fleet.desired()));
    plan.delete.extend(leaving);
    candidates.truncate(fleet.max_surge.saturating_sub(surging));
    plan.create.extend(candidates);
}

/// The nodes that have pods, and those that are to.
fn all_nodes(fleet: &Fleet) -> BTreeSet<&Str> {
    fleet.pods.keys().chain(fleet.nodes.keys().filter(|node| fleet.runs(node))).collect()
}

/// When the next ready pod has been ready for long enough.
fn next(fleet: &Fleet) -> Next {
    let waiting = fleet.pods.values().flatten().filter(|pod| !fleet.is_available(pod)).filter_map(|pod| pod.ready_s);
    let left_s = waiting.map(|since_s| since_s + fleet.min_ready_s - fleet.now_s).min();
    left_s.map_or(Next::Change, |left_s| Next::After(Duration::from_secs(u64::try_from(left_s).unwrap_or(1).max(1))))
}

/// The set's new status; `None` where it is as it was.
pub(super) fn status(set: &Value, fleet: &Fleet, collisions: i64) -> Option<Value> {
    let first = |node: &Str| fleet.pods.get(node).and_then(|pods| pods.first());
    let daemons: Vec<&Pod> = fleet.nodes.keys().filter(|node| fleet.runs(node)).filter_map(first).collect();
    let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
    let count = |counts: &dyn Fn(&Pod) -> bool| number(daemons.iter().filter(|pod| counts(pod)).count());
    let misplaced = fleet.nodes.keys().filter(|node| !fleet.runs(node) && first(node).is_some()).count();
    let desired = number(fleet.desired());
    let available = count(&|pod| fleet.is_available(pod));
    let old = set.get("status").cloned().unwrap_or_default();
    let mut new = if old.is_null() { Value::object() } else { old.clone() };
    let numbers = [
        ("currentNumberScheduled", number(daemons.len())),
        ("numberMisscheduled", number(misplaced)),
        ("desiredNumberScheduled", desired),
        ("numberReady", count(&|pod| pod.ready_s.is_some())),
        ("observedGeneration", Meta::of(set).generation()),
        ("updatedNumberScheduled", count(&|pod| fleet.is_updated(pod))),
        ("numberAvailable", available),
        ("numberUnavailable", desired - available),
        ("collisionCount", collisions),
    ];
    if numbers.iter().all(|(field, number)| old.i64_at(&[field]).unwrap_or_default() == *number) {
        return None;
    }
    let map = new.as_object_mut()?;
    for (field, number) in numbers {
        // Upstream leaves these out where they are zero.
        let optional =
            matches!(field, "updatedNumberScheduled" | "numberAvailable" | "numberUnavailable" | "collisionCount");
        if optional && number == 0 {
            map.remove(field);
        } else {
            map.insert(field, number);
        }
    }
    Some(new)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use corten_apimachinery::time::Time;
    use corten_apimachinery::value;

    use super::*;

    /// `name effect-of-a-taint label`; `-` for none.
    fn node(text: &str) -> NodeView {
        let words: Vec<&str> = text.split(' ').collect();
        let mut node = value!({"metadata": {"name": (words[0])}});
        if words[1] != "-" {
            let taint = value!({"key": "trouble", "effect": (words[1])});
            node.object_entry("spec").insert("taints", vec![taint]);
        }
        if words[2] != "-" {
            node.object_entry("metadata").object_entry("labels").insert(words[2], "");
        }
        decode::node(&node).expect("a node")
    }

    /// `name node hash phase ready-since`; `!` after the name: being deleted.
    fn pod(text: &str) -> Pod {
        let words: Vec<&str> = text.split(' ').collect();
        let name = words[0].trim_end_matches('!');
        let mut pod = value!({
            "metadata": {"name": name, "uid": name, "labels": {"controller-revision-hash": (words[2])}},
            "spec": {"nodeName": (words[1])}, "status": {"phase": (words[3])}
        });
        if name != words[0] {
            pod.object_entry("metadata").insert("deletionTimestamp", "1970-01-01T00:00:00Z");
        }
        if let Some(since_s) = words.get(4).and_then(|since| since.parse().ok()) {
            let since = Time::from_seconds(since_s).to_rfc3339();
            let ready = value!({"type": "Ready", "status": "True", "lastTransitionTime": since});
            pod.object_entry("status").insert("conditions", vec![ready]);
        }
        Arc::new(Held::from_object(&pod).expect("held"))
    }

    fn fleet(strategy: &Value, spec: &Value, nodes: &[&str], pods: &[&str]) -> Fleet {
        let set = value!({
            "metadata": {"name": "log", "generation": 1},
            "spec": {"updateStrategy": (strategy.clone()), "minReadySeconds": 10}
        });
        let template = value!({"metadata": {"labels": {"app": "log"}}, "spec": (spec.clone())});
        let nodes: Vec<NodeView> = nodes.iter().map(|text| node(text)).collect();
        let nodes: Vec<&NodeView> = nodes.iter().collect();
        let pods: Vec<Pod> = pods.iter().map(|text| pod(text)).collect();
        Fleet::new(&set, &template, "new", &nodes, &pods, 100).expect("a fleet")
    }

    #[track_caller]
    fn check(strategy: &Value, spec: &Value, nodes: &[&str], pods: &[&str], expect: &str) {
        let plan = plan(&fleet(strategy, spec, nodes, pods));
        let names = |pods: &[Pod]| pods.iter().map(|pod| pod.head.name.as_str()).collect::<Vec<_>>().join(",");
        let create: Vec<&str> = plan.create.iter().map(Str::as_str).collect();
        let seen =
            format!("create [{}] delete [{}] ended [{}]", create.join(","), names(&plan.delete), names(&plan.ended));
        assert_eq!(seen, expect);
    }

    fn rolling(unavailable: i64, surge: i64) -> Value {
        value!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": unavailable, "maxSurge": surge}})
    }

    const NODES: [&str; 3] = ["n1 - disk", "n2 - -", "n3 - disk"];

    #[test]
    fn every_node_that_takes_it_has_one() {
        let (roll, any) = (rolling(1, 0), Value::object());
        check(&roll, &any, &NODES, &[], "create [n1,n2,n3] delete [] ended []");
        check(&roll, &any, &NODES, &["a n1 new Running 50"], "create [n2,n3] delete [] ended []");
        check(
            &roll,
            &value!({"nodeSelector": {"disk": ""}}),
            &NODES,
            &["a n2 new Running 50"],
            "create [n1,n3] delete [a] ended []",
        );
        check(&roll, &value!({"nodeName": "n2"}), &NODES, &[], "create [n2] delete [] ended []");
        check(&roll, &any, &["n1 NoSchedule -", "n2 NoExecute -"], &[], "create [] delete [] ended []");
        let both = ["a n1 new Running 50", "b n2 new Running 50"];
        check(&roll, &any, &["n1 NoSchedule -", "n2 NoExecute -"], &both, "create [] delete [b] ended []");
        check(&roll, &any, &["n1 - -"], &["a n1 new Failed"], "create [] delete [] ended [a]");
        check(
            &roll,
            &any,
            &["n1 - -"],
            &["a n1 new Running 50", "b n1 new Running 50"],
            "create [] delete [b] ended []",
        );
        check(&roll, &any, &["n1 - -"], &["a! n1 new Running 50"], "create [] delete [] ended []");
        let terms = value!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["n1"]}]}]
        }}}});
        check(&roll, &terms, &NODES, &[], "create [n2,n3] delete [] ended []");
    }

    #[test]
    fn a_new_template_replaces_as_many_as_may_be_away() {
        let any = Value::object();
        let old = ["a n1 old Running 50", "b n2 old Running 50", "c n3 old Running 50"];
        check(&rolling(1, 0), &any, &NODES, &old, "create [] delete [a] ended []");
        check(&rolling(2, 0), &any, &NODES, &old, "create [] delete [a,b] ended []");
        check(&value!({"type": "OnDelete"}), &any, &NODES, &old, "create [] delete [] ended []");
        let waits = ["a n1 new Running 95", "b n2 old Running 50", "c n3 old Running 50"];
        check(&rolling(1, 0), &any, &NODES, &waits, "create [] delete [] ended []");
        let broken = ["a n1 old Pending", "b n2 old Running 50", "c n3 old Running 50"];
        check(&rolling(1, 0), &any, &NODES, &broken, "create [] delete [a] ended []");
    }

    #[test]
    fn a_surge_makes_the_new_one_first() {
        let any = Value::object();
        let old = ["a n1 old Running 50", "b n2 old Running 50", "c n3 old Running 50"];
        check(&rolling(0, 1), &any, &NODES, &old, "create [n1] delete [] ended []");
        let beside = ["a n1 old Running 50", "d n1 new Running 95", "b n2 old Running 50", "c n3 old Running 50"];
        check(&rolling(0, 1), &any, &NODES, &beside, "create [] delete [] ended []");
        let served = ["a n1 old Running 50", "d n1 new Running 50", "b n2 old Running 50", "c n3 old Running 50"];
        check(&rolling(0, 1), &any, &NODES, &served, "create [] delete [a] ended []");
    }

    #[test]
    fn the_status_counts_nodes() {
        let set = value!({"metadata": {"generation": 1}});
        let nodes = ["n1 - -", "n2 - -", "n3 - -", "n4 NoSchedule -"];
        let pods = ["a n1 new Running 50", "b n2 old Running 95", "c n4 old Running 50"];
        let fleet = fleet(&rolling(1, 0), &Value::object(), &nodes, &pods);
        let status = status(&set, &fleet, 0).expect("it is new");
        let fields = [
            "desiredNumberScheduled",
            "currentNumberScheduled",
            "numberReady",
            "numberAvailable",
            "numberUnavailable",
            "updatedNumberScheduled",
            "numberMisscheduled",
        ];
        assert_eq!(fields.map(|field| status.i64_at(&[field]).unwrap_or_default()), [3, 2, 2, 1, 2, 1, 1]);
        assert_eq!(plan(&fleet).next, Next::After(Duration::from_secs(5)));
    }
}
