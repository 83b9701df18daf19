//! The binder's view of the cluster and what it has decided: pure, fed with what informers tell.

use std::collections::HashMap;
use std::sync::Arc;

use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value::Str;
use corten_client::cache::{Held, Key};

use super::storage;
use super::views::{NodeSeen, PodSeen};
use super::waiting::Waiting;
use crate::hints::Event;
use crate::preempt::{Budget, NoPreemption, preempt};
use crate::schedule::schedule;
use crate::snapshot::{NodeChange, Snapshot};
use crate::view::{Labels, Pod};
use crate::volumes::{Choice, PodVolumes};

/// Pods that name another one are another scheduler's.
pub(super) const NAME: &str = "default-scheduler";
/// The kind of the keys under which decisions are carried out.
pub(super) const POD: &str = "pod";

pub(super) const UNSCHEDULABLE: &str = "Unschedulable";
pub(super) const ERROR: &str = "SchedulerError";

type Seen = Arc<Held<PodSeen>>;

/// What was decided about a pod.
pub(super) struct Decision {
    pub(super) seen: Seen,
    pub(super) what: What,
}

pub(super) enum What {
    /// To this node, once its claims are bound in this way.
    Bind(Str, Vec<Choice>),
    Reject(Rejection),
}

/// A pod that runs nowhere now.
pub(super) struct Rejection {
    pub(super) reason: &'static str,
    pub(super) text: String,
    /// The new `nominatedNodeName`, where it is to be changed.
    pub(super) nominate: Option<Str>,
    pub(super) victims: Vec<Arc<Pod>>,
    /// Pods of lower priority that counted on the same room.
    pub(super) outbid: Vec<Arc<Pod>>,
}

/// What a decision needs besides the snapshot.
pub(super) trait Surroundings {
    /// The selector of the pod's siblings.
    fn siblings(&self, pod: &Held<PodSeen>, decoded: &Pod) -> Option<LabelSelector>;
    fn budgets(&self) -> Vec<Budget>;
    /// What the pod's claims ask of nodes.
    fn volumes(&self, pod: &Pod, promised: &Promised) -> PodVolumes;
}

/// Volumes that decisions have given to claims, by name, with the claim's UID, until that is seen.
pub(super) type Promised = HashMap<Str, Str, ahash::RandomState>;

#[derive(Default)]
pub(super) struct State {
    pub(super) snapshot: Snapshot,
    waiting: Waiting,
    pub(super) promised: Promised,
    decisions: HashMap<Key, Arc<Decision>, ahash::RandomState>,
}

impl State {
    pub(super) fn new() -> Self {
        Self { snapshot: Snapshot::new(), ..Self::default() }
    }

    pub(super) fn node_changed(&mut self, old: Option<&NodeSeen>, new: Option<&NodeSeen>, now_ms: i64) {
        let readable =
            |seen: &NodeSeen| seen.0.as_ref().map_err(|error| tracing::warn!(%error, "a node")).ok().cloned();
        let [old, new] = [old, new].map(|seen| seen.and_then(readable));
        if old == new {
            return;
        }
        match new {
            None => {
                if let Some(old) = old {
                    self.snapshot.apply(NodeChange::Removed(old.name));
                }
            }
            Some(new) => {
                self.snapshot.apply(NodeChange::Set(new.clone()));
                self.waiting.happened(Event::Node { old: old.as_ref(), new: &new }, now_ms);
            }
        }
    }

    pub(super) fn namespace_changed(&mut self, name: &Str, labels: Option<Labels>) {
        self.snapshot.apply(match labels {
            Some(labels) => NodeChange::Namespace(name.clone(), labels),
            None => NodeChange::NamespaceRemoved(name.clone()),
        });
    }

    pub(super) fn pod_changed(&mut self, old: Option<&Seen>, new: Option<&Seen>, now_ms: i64) {
        let Some(seen) = new.or(old) else { return };
        let pod = match &seen.pod {
            Ok(pod) => pod,
            Err(error) => return tracing::warn!(pod = %seen.head.key(), %error, "a pod cannot be read"),
        };
        if new.is_none() || seen.over {
            self.gone(pod, now_ms);
        } else if pod.node_name.is_empty() {
            self.waits(old, seen, pod, now_ms);
        } else {
            self.placed(old, pod, now_ms);
        }
    }

    fn gone(&mut self, pod: &Arc<Pod>, now_ms: i64) {
        self.waiting.remove(&pod.uid);
        self.snapshot.forget_nomination(&pod.uid);
        if self.snapshot.forget(&pod.uid).is_ok() {
            self.waiting.happened(Event::PodGone(pod), now_ms);
        }
    }

    fn placed(&mut self, old: Option<&Seen>, pod: &Arc<Pod>, now_ms: i64) {
        self.waiting.remove(&pod.uid);
        let old = old.and_then(|old| old.pod.as_ref().ok()).filter(|old| !old.node_name.is_empty());
        if old.is_some_and(|old| old == pod) {
            return;
        }
        self.snapshot.assume(pod, &pod.node_name);
        let event = match old {
            Some(old) => Event::PodChanged { old, new: pod },
            None => Event::PodPlaced(pod),
        };
        self.waiting.happened(event, now_ms);
    }

    fn waits(&mut self, old: Option<&Seen>, seen: &Seen, pod: &Arc<Pod>, now_ms: i64) {
        if pod.scheduler != NAME {
            return;
        }
        if pod.terminating {
            self.waiting.remove(&pod.uid);
            self.snapshot.forget_nomination(&pod.uid);
            return;
        }
        let nominated = |seen: &Seen| seen.pod.as_ref().is_ok_and(|pod| !pod.nominated.is_empty());
        if !pod.nominated.is_empty() {
            self.snapshot.nominate(pod, &pod.nominated);
        } else if old.is_some_and(nominated) {
            self.snapshot.forget_nomination(&pod.uid);
        }
        self.waiting.put(pod, seen, now_ms);
    }

    /// Decides about the next pod; gives the key under which that is carried out.
    pub(super) fn decide(&mut self, around: &dyn Surroundings, seed: u64, now_ms: i64) -> Option<Key> {
        let entry = self.waiting.next(now_ms)?;
        let seen = entry.seen.clone();
        let mut pod = entry.pod.clone();
        if let Some(siblings) = around.siblings(&seen, &pod) {
            Arc::make_mut(&mut pod).siblings = Some(siblings);
        }
        if !pod.claims.is_empty() {
            let volumes = around.volumes(&pod, &self.promised);
            Arc::make_mut(&mut pod).volumes = volumes;
        }
        let what = match schedule(&self.snapshot, &pod, seed) {
            Ok(placement) => {
                self.snapshot.assume(&pod, &placement.node);
                self.promised.extend(storage::promised(&placement.volumes));
                What::Bind(placement.node, placement.volumes)
            }
            Err(failure) => {
                self.waiting.rejected(&pod.uid, failure.plugins(), now_ms);
                let preempted = preempt(&self.snapshot, &pod, &failure, &around.budgets(), seed);
                What::Reject(match preempted {
                    Ok(preemption) => {
                        let outbid = self.snapshot.outbid(&preemption.node, &pod);
                        self.snapshot.nominate(&pod, &preemption.node);
                        Rejection {
                            reason: UNSCHEDULABLE,
                            text: failure.text(),
                            nominate: Some(preemption.node),
                            victims: preemption.victims,
                            outbid,
                        }
                    }
                    Err(no) => {
                        let clear = matches!(no, NoPreemption::Unhelpful { .. }) && !pod.nominated.is_empty();
                        let nominate = clear.then(Str::default);
                        let text = failure.text_with(&no);
                        Rejection { reason: UNSCHEDULABLE, text, nominate, victims: vec![], outbid: vec![] }
                    }
                })
            }
        };
        Some(self.note(Decision { seen, what }))
    }

    fn note(&mut self, decision: Decision) -> Key {
        let key = Key { kind: POD.into(), ..decision.seen.head.key() };
        self.decisions.insert(key.clone(), Arc::new(decision));
        key
    }

    pub(super) fn decision(&self, key: &Key) -> Option<Arc<Decision>> {
        self.decisions.get(key).cloned()
    }

    /// A decision is carried out, unless a newer one has taken its place.
    pub(super) fn done(&mut self, key: &Key, decision: &Arc<Decision>) {
        if self.decisions.get(key).is_some_and(|known| Arc::ptr_eq(known, decision)) {
            self.decisions.remove(key);
        }
    }

    /// A pod could not be bound; the room that it had is free again.
    pub(super) fn not_bound(&mut self, seen: &Seen, text: String, now_ms: i64) -> Option<Key> {
        let pod = seen.pod.as_ref().ok()?;
        self.waiting.get(&pod.uid)?;
        if self.snapshot.forget(&pod.uid).is_ok() {
            self.waiting.happened(Event::PodGone(pod), now_ms);
        }
        self.waiting.failed(&pod.uid, now_ms);
        let rejection = Rejection { reason: ERROR, text, nominate: None, victims: vec![], outbid: vec![] };
        Some(self.note(Decision { seen: seen.clone(), what: What::Reject(rejection) }))
    }

    /// A claim, a volume or a class has changed.
    pub(super) fn happened(&mut self, event: Event<'_>, now_ms: i64) {
        self.waiting.happened(event, now_ms);
    }

    /// What was promised to these claims may go to others.
    pub(super) fn take_back(&mut self, choices: &[Choice]) {
        self.promised.retain(|_, claim| !choices.iter().any(|choice| choice.claim_uid == *claim));
    }

    /// When there may be something to decide without any event.
    pub(super) fn next_ms(&self) -> Option<i64> {
        self.waiting.next_ms()
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    struct Alone;

    impl Surroundings for Alone {
        fn volumes(&self, _: &Pod, _: &Promised) -> PodVolumes {
            PodVolumes::default()
        }

        fn siblings(&self, _: &Held<PodSeen>, _: &Pod) -> Option<LabelSelector> {
            None
        }

        fn budgets(&self) -> Vec<Budget> {
            Vec::new()
        }
    }

    fn node(state: &mut State, name: &str, cpu: &str) {
        let object = value!({"metadata": {"name": name}, "status": {"allocatable": {"cpu": cpu, "pods": "10"}}});
        let seen = <NodeSeen as corten_client::cache::View>::from_object(&object);
        state.node_changed(None, seen.as_ref(), 0);
    }

    fn pod(name: &str, priority: i64, cpu: &str, node: &str) -> Seen {
        let container = value!({"name": "c", "resources": {"requests": {"cpu": cpu}}});
        let mut object = value!({"metadata": {"name": name, "namespace": "default", "uid": name},
            "spec": {"priority": priority, "schedulerName": NAME, "containers": [container]}});
        if !node.is_empty() {
            object.object_entry("spec").insert("nodeName", node);
        }
        Arc::new(Held::from_object(&Value::clone(&object)).expect("a view"))
    }

    fn decide(state: &mut State, now_ms: i64) -> String {
        let Some(key) = state.decide(&Alone, 1, now_ms) else { return "nothing".to_owned() };
        let decision = state.decision(&key).expect("it was just taken");
        let text = match &decision.what {
            What::Bind(node, _) => format!("{} to {node}", key.name),
            What::Reject(rejection) => {
                let names: Vec<&str> = rejection.victims.iter().map(|victim| victim.name.as_str()).collect();
                let nominated = rejection.nominate.as_deref().unwrap_or("-");
                format!("{}: {} [{nominated} {}]", key.name, rejection.text, names.join(","))
            }
        };
        state.done(&key, &decision);
        text
    }

    #[test]
    fn pods_are_assumed_rejected_and_helped() {
        let mut state = State::new();
        state.pod_changed(None, Some(&pod("a", 0, "2", "")), 0);
        assert_eq!(decide(&mut state, 0), "a: no nodes available to schedule pods [- ]");
        node(&mut state, "n1", "3");
        assert_eq!(decide(&mut state, 0), "a to n1");
        state.pod_changed(None, Some(&pod("b", 0, "2", "")), 0);
        let why = "b: 0/1 nodes are available: 1 Insufficient cpu. preemption: 0/1 nodes are available: \
                   1 No preemption victims found for incoming pod. [- ]";
        assert_eq!(decide(&mut state, 0), why);
        assert_eq!(decide(&mut state, 0), "nothing");
        // The first one goes before it is bound.
        state.pod_changed(Some(&pod("a", 0, "2", "")), None, 0);
        assert_eq!(decide(&mut state, 0), "b to n1");
        assert_eq!(decide(&mut state, 1_000_000), "nothing");
    }

    #[test]
    fn what_is_measured_counts_until_it_is_measured_no_more() {
        let mut state = State::new();
        node(&mut state, "n1", "8");
        node(&mut state, "n2", "8");
        let mut uids = 0;
        let mut placed = |state: &mut State, expected: &str| {
            uids += 1;
            let name = format!("p{uids}");
            state.pod_changed(None, Some(&pod(&name, 0, "100m", "")), 0);
            assert_eq!(decide(state, 0), format!("{name} to {expected}"));
            state.pod_changed(Some(&pod(&name, 0, "100m", expected)), None, 0);
        };
        let of = |name: &str, cpu| HashMap::from([(name.into(), (cpu, 0))]);
        for busy in ["n1", "n2", "n1"] {
            state.measured(&of(busy, 4000));
            placed(&mut state, if busy == "n1" { "n2" } else { "n1" });
        }
        // What pods have asked for is not counted twice.
        state.pod_changed(None, Some(&pod("asks", 0, "2", "n2")), 0);
        state.measured(&of("n2", 2000));
        state.pod_changed(None, Some(&pod("asks-less", 0, "1500m", "n1")), 0);
        placed(&mut state, "n1");
    }

    #[test]
    fn a_binding_that_fails_frees_the_room() {
        let mut state = State::new();
        node(&mut state, "n1", "3");
        let a = pod("a", 0, "2", "");
        state.pod_changed(None, Some(&a), 0);
        assert_eq!(decide(&mut state, 0), "a to n1");
        assert!(state.not_bound(&a, "no".to_owned(), 0).is_some());
        state.pod_changed(None, Some(&pod("b", 0, "2", "")), 0);
        assert_eq!((decide(&mut state, 0), decide(&mut state, 0)), ("b to n1".to_owned(), "nothing".to_owned()));
        state.pod_changed(Some(&a), None, 0);
        assert_eq!(state.next_ms(), None);
    }

    #[test]
    fn the_important_preempt() {
        let mut state = State::new();
        node(&mut state, "n1", "3");
        let victim = pod("low", 0, "2", "n1");
        state.pod_changed(None, Some(&victim), 0);
        state.pod_changed(None, Some(&pod("high", 5, "2", "")), 0);
        assert_eq!(decide(&mut state, 0), "high: 0/1 nodes are available: 1 Insufficient cpu. [n1 low]");
        // The room is kept from others.
        state.pod_changed(Some(&victim), None, 0);
        state.pod_changed(None, Some(&pod("other", 0, "2", "")), 0);
        assert!(decide(&mut state, 0).starts_with("other: 0/1"));
        assert_eq!(decide(&mut state, 0), "high to n1");
    }

    #[test]
    fn other_schedulers_pods_count_once_they_are_placed() {
        let mut state = State::new();
        node(&mut state, "n1", "3");
        let mut other = Pod::clone(pod("a", 0, "2", "").pod.as_ref().expect("readable"));
        other.scheduler = "mine".into();
        let seen = PodSeen { pod: Ok(Arc::new(other)), over: false, generation: 1, scheduled: None };
        state.pod_changed(None, Some(&Arc::new(Held { head: Default::default(), view: seen })), 0);
        assert_eq!(decide(&mut state, 0), "nothing");
        state.pod_changed(None, Some(&pod("a", 0, "2", "n1")), 0);
        state.pod_changed(None, Some(&pod("b", 0, "2", "")), 0);
        assert!(decide(&mut state, 0).starts_with("b: 0/1"));
    }
}
