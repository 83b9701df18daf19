//! TaintToleration and NodeUnschedulable: nodes that keep pods away unless they are tolerated. Many nodes have the same
//! taints, so a set of taints is judged once.

use corten_apimachinery::value::Str;

use super::normalize;
use crate::snapshot::{Node, Snapshot};
use crate::view::{Effect, Pod, Taint};

/// Whether the pod tolerates all taints that would keep it from being placed.
pub(crate) fn tolerates(pod: &Pod, taints: &[Taint]) -> bool {
    taints.iter().filter(|taint| taint.effect != Effect::PreferNoSchedule).all(|taint| tolerated(pod, taint))
}

/// Whether the pod may go to a node that was cordoned.
pub(crate) fn tolerates_unschedulable(pod: &Pod) -> bool {
    let key = Str::const_new("node.kubernetes.io/unschedulable");
    tolerated(pod, &Taint { key, value: Str::default(), effect: Effect::NoSchedule })
}

/// By set of taints: whether the pod tolerates it.
pub(crate) fn tolerated_sets(snapshot: &Snapshot, pod: &Pod) -> Vec<bool> {
    let mut sets = vec![false; snapshot.taint_sets.bound()];
    for (set, taints) in snapshot.taint_sets.iter() {
        sets[set as usize] = tolerates(pod, taints);
    }
    sets
}

/// Fewer untolerated taints of the preferring kind are better.
pub(crate) fn score(snapshot: &Snapshot, pod: &Pod, nodes: &[Node]) -> Vec<i64> {
    let mut sets = vec![0; snapshot.taint_sets.bound()];
    for (set, taints) in snapshot.taint_sets.iter() {
        let prefers = taints.iter().filter(|taint| taint.effect == Effect::PreferNoSchedule);
        sets[set as usize] = prefers.map(|taint| i64::from(!tolerated(pod, taint))).sum();
    }
    let mut scores: Vec<i64> = nodes.iter().map(|&node| sets[snapshot.taints[node] as usize]).collect();
    normalize(&mut scores, true);
    scores
}

fn tolerated(pod: &Pod, taint: &Taint) -> bool {
    pod.tolerations.iter().any(|toleration| toleration.tolerates(taint))
}
