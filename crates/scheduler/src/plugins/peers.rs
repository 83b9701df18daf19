//! InterPodAffinity: pods that want to be near other pods or away from them, and other pods that want to be away from
//! this one.

use super::SCORE_MAX;
use crate::counts::Counts;
use crate::filter::Filter;
use crate::outcome::Reason;
use crate::snapshot::{Node, Snapshot};
use crate::view::{Labels, Peer, Pod, Term};

/// The weight of another pod's required affinity to this one.
const REQUIRED_WEIGHT: i64 = 1;

/// By topology, the pods that the required terms are about.
#[derive(Clone, Default)]
pub(crate) struct PeerState {
    /// Pods that want to be away from this one.
    repelled: Counts,
    /// Pods that match all of this one's affinity terms.
    attracting: Counts,
    /// Pods that match one of this one's anti-affinity terms.
    repelling: Counts,
    /// There is something to check.
    active: bool,
}

impl PeerState {
    pub(crate) fn new(filter: &Filter<'_>) -> Self {
        let (snapshot, pod) = (filter.snapshot, filter.pod);
        let mut state = Self::default();
        for (peer, places) in snapshot.classes.with_terms() {
            for (&node, present) in places {
                state.count_repelled(snapshot, pod, peer, node, present.all);
            }
        }
        let terms = &pod.peer.terms;
        let asks = !terms.affinity.is_empty() || !terms.anti.is_empty();
        if asks {
            for (peer, places) in snapshot.classes.all() {
                for (&node, present) in places {
                    state.count_incoming(snapshot, pod, peer, node, present.all);
                }
            }
        }
        state.active = asks || !state.repelled.is_untouched();
        state
    }

    pub(crate) fn check(&self, snapshot: &Snapshot, pod: &Pod, node: Node) -> Result<(), Reason> {
        if !self.active {
            return Ok(());
        }
        let terms = &pod.peer.terms;
        self.check_affinity(snapshot, pod, node)?;
        if terms.anti.iter().any(|term| self.repelling.at(snapshot, &term.topology_key, node) > 0) {
            return Err(Reason::AntiAffinity);
        }
        if self.repelled.sum_at(snapshot, node) > 0 {
            return Err(Reason::ExistingAntiAffinity);
        }
        Ok(())
    }

    /// The first pod of a group that wants to be together may go to any node that has the labels.
    fn check_affinity(&self, snapshot: &Snapshot, pod: &Pod, node: Node) -> Result<(), Reason> {
        let terms = &pod.peer.terms.affinity;
        if terms.iter().any(|term| !snapshot.has_label(node, &term.topology_key)) {
            return Err(Reason::Affinity);
        }
        let near = terms.iter().all(|term| self.attracting.at(snapshot, &term.topology_key, node) > 0);
        let first = || self.attracting.is_zero() && matches_all(terms, &pod.peer, snapshot.labels_of(&pod.peer));
        if near || first() { Ok(()) } else { Err(Reason::Affinity) }
    }

    /// Counts `amount` pods like `other` more at the node.
    pub(crate) fn count(&mut self, snapshot: &Snapshot, pod: &Pod, other: &Pod, node: Node, amount: i64) {
        self.count_repelled(snapshot, pod, &other.peer, node, amount);
        self.count_incoming(snapshot, pod, &other.peer, node, amount);
        self.active |= !self.repelled.is_untouched();
    }

    fn count_repelled(&mut self, snapshot: &Snapshot, pod: &Pod, other: &Peer, node: Node, amount: i64) {
        let labels = snapshot.labels_of(&pod.peer);
        for term in other.terms.anti.iter().filter(|term| term.matches(&pod.peer, labels)) {
            self.repelled.add(snapshot, &term.topology_key, node, amount);
        }
    }

    fn count_incoming(&mut self, snapshot: &Snapshot, pod: &Pod, other: &Peer, node: Node, amount: i64) {
        let labels = snapshot.labels_of(other);
        let terms = &pod.peer.terms;
        if matches_all(&terms.affinity, other, labels) {
            for term in &terms.affinity {
                self.attracting.add(snapshot, &term.topology_key, node, amount);
            }
        }
        for term in terms.anti.iter().filter(|term| term.matches(other, labels)) {
            self.repelling.add(snapshot, &term.topology_key, node, amount);
        }
    }
}

impl Snapshot {
    pub(crate) fn labels_of(&self, peer: &Peer) -> Option<&Labels> {
        self.namespace_labels(&peer.namespace)
    }

    fn has_label(&self, node: Node, key: &str) -> bool {
        super::spread::value(self, self.labels.column_of(key), node) != crate::counts::ABSENT
    }
}

/// Whether there are terms, and the pod matches all of them.
pub(crate) fn matches_all(terms: &[Term], peer: &Peer, labels: Option<&Labels>) -> bool {
    !terms.is_empty() && terms.iter().all(|term| term.matches(peer, labels))
}

/// Preferences of this pod and of the others; absent if nobody has any.
pub(crate) fn score(filter: &Filter<'_>, nodes: &[Node]) -> Option<Vec<i64>> {
    let (snapshot, pod) = (filter.snapshot, filter.pod);
    let mut counts = Counts::default();
    let terms = &pod.peer.terms;
    if !terms.prefers.is_empty() || !terms.avoids.is_empty() {
        for (peer, places) in snapshot.classes.all() {
            let labels = snapshot.labels_of(peer);
            let own = weighted(&terms.prefers, 1).chain(weighted(&terms.avoids, -1));
            for (weight, term) in own.filter(|(_, term)| term.matches(peer, labels)) {
                for (&node, present) in places {
                    counts.add(snapshot, &term.topology_key, node, weight * present.all);
                }
            }
        }
    }
    let labels = snapshot.labels_of(&pod.peer);
    for (peer, places) in snapshot.classes.with_terms() {
        let required = peer.terms.affinity.iter().map(|term| (REQUIRED_WEIGHT, term));
        let theirs = required.chain(weighted(&peer.terms.prefers, 1)).chain(weighted(&peer.terms.avoids, -1));
        for (weight, term) in theirs.filter(|(_, term)| term.matches(&pod.peer, labels)) {
            for (&node, present) in places {
                counts.add(snapshot, &term.topology_key, node, weight * present.all);
            }
        }
    }
    if counts.is_untouched() {
        return None;
    }
    Some(normalize(nodes.iter().map(|&node| counts.sum_at(snapshot, node)).collect()))
}

fn weighted(terms: &[(i32, Term)], sign: i64) -> impl Iterator<Item = (i64, &Term)> {
    terms.iter().map(move |(weight, term)| (sign * i64::from(*weight), term))
}

/// Stretches scores, which may be negative, over the whole range.
fn normalize(mut scores: Vec<i64>) -> Vec<i64> {
    let least = scores.iter().copied().min().unwrap_or(0);
    let range = scores.iter().copied().max().unwrap_or(0) - least;
    for score in &mut scores {
        let share = if range > 0 { (*score - least) as f64 / range as f64 } else { 0.0 };
        *score = (SCORE_MAX as f64 * share) as i64;
    }
    scores
}
