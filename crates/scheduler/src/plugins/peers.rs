//! InterPodAffinity: pods that want to be near other pods or away from them, and other pods that want to be away from
//! this one.

use std::iter;

use ahash::AHashMap;

use super::SCORE_MAX;
use crate::counts::{ABSENT, Counts};
use crate::filter::Filter;
use crate::outcome::Reason;
use crate::snapshot::{Node, Present, Snapshot};
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
    /// The columns of the topologies of this one's terms.
    affinity: Vec<Option<usize>>,
    anti: Vec<Option<usize>>,
    /// There is something to check.
    active: bool,
}

impl PeerState {
    pub(crate) fn new(filter: &Filter<'_>) -> Self {
        let (snapshot, pod) = (filter.snapshot, filter.pod);
        let terms = &pod.peer.terms;
        let columns = |terms: &[Term]| terms.iter().map(|term| snapshot.labels.column_of(&term.topology_key)).collect();
        let mut state = Self { affinity: columns(&terms.affinity), anti: columns(&terms.anti), ..Self::default() };
        for (peer, places) in snapshot.classes.with_terms() {
            state.count_repelled(snapshot, pod, peer, all(places));
        }
        let asks = !terms.affinity.is_empty() || !terms.anti.is_empty();
        if asks {
            for (peer, places) in snapshot.classes.all() {
                state.count_incoming(snapshot, pod, peer, all(places));
            }
        }
        state.active = asks || !state.repelled.is_untouched();
        state
    }

    pub(crate) fn check(&self, snapshot: &Snapshot, pod: &Pod, node: Node) -> Result<(), Reason> {
        if !self.active {
            return Ok(());
        }
        self.check_affinity(snapshot, pod, node)?;
        if self.anti.iter().any(|column| self.repelling.at(snapshot, *column, node) > 0) {
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
        if self.affinity.iter().any(|column| super::spread::value(snapshot, *column, node) == ABSENT) {
            return Err(Reason::Affinity);
        }
        let near = self.affinity.iter().all(|column| self.attracting.at(snapshot, *column, node) > 0);
        let first = || self.attracting.is_zero() && matches_all(terms, &pod.peer, snapshot.labels_of(&pod.peer));
        if near || first() { Ok(()) } else { Err(Reason::Affinity) }
    }

    /// Counts `amount` pods like `other` more at the node.
    pub(crate) fn count(&mut self, snapshot: &Snapshot, pod: &Pod, other: &Pod, node: Node, amount: i64) {
        self.count_repelled(snapshot, pod, &other.peer, iter::once((node, amount)));
        self.count_incoming(snapshot, pod, &other.peer, iter::once((node, amount)));
        self.active |= !self.repelled.is_untouched();
    }

    /// `other` stands for all pods like it, so many at each node: terms are asked once.
    fn count_repelled(&mut self, snapshot: &Snapshot, pod: &Pod, other: &Peer, at: impl Amounts) {
        let labels = snapshot.labels_of(&pod.peer);
        for term in other.terms.anti.iter().filter(|term| term.matches(&pod.peer, labels)) {
            self.repelled.add(snapshot, &term.topology_key, at.clone());
        }
    }

    fn count_incoming(&mut self, snapshot: &Snapshot, pod: &Pod, other: &Peer, at: impl Amounts) {
        let labels = snapshot.labels_of(other);
        let terms = &pod.peer.terms;
        if matches_all(&terms.affinity, other, labels) {
            for term in &terms.affinity {
                self.attracting.add(snapshot, &term.topology_key, at.clone());
            }
        }
        for term in terms.anti.iter().filter(|term| term.matches(other, labels)) {
            self.repelling.add(snapshot, &term.topology_key, at.clone());
        }
    }
}

/// Numbers of pods by node.
trait Amounts: Iterator<Item = (Node, i64)> + Clone {}

impl<T: Iterator<Item = (Node, i64)> + Clone> Amounts for T {}

fn all(places: &AHashMap<Node, Present>) -> impl Amounts {
    places.iter().map(|(&node, present)| (node, present.all))
}

impl Snapshot {
    pub(crate) fn labels_of(&self, peer: &Peer) -> Option<&Labels> {
        self.namespace_labels(&peer.namespace)
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
                counts.add(snapshot, &term.topology_key, all(places).map(|(node, pods)| (node, weight * pods)));
            }
        }
    }
    let labels = snapshot.labels_of(&pod.peer);
    for (peer, places) in snapshot.classes.with_terms() {
        let required = peer.terms.affinity.iter().map(|term| (REQUIRED_WEIGHT, term));
        let theirs = required.chain(weighted(&peer.terms.prefers, 1)).chain(weighted(&peer.terms.avoids, -1));
        for (weight, term) in theirs.filter(|(_, term)| term.matches(&pod.peer, labels)) {
            counts.add(snapshot, &term.topology_key, all(places).map(|(node, pods)| (node, weight * pods)));
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
