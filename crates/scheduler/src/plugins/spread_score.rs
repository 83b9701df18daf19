//! PodTopologySpread, the constraints that should hold: those of the pod, or else, for the pods of a service or of an
//! owner, upstream's defaults of hostname and zone.

use std::borrow::Cow;

use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::value::Str;

use super::SCORE_MAX;
use super::spread::value;
use crate::counts::ABSENT;
use crate::filter::Filter;
use crate::snapshot::{Node, Snapshot};
use crate::view::{Pod, Spread, Unsatisfiable};

const HOSTNAME: &str = "kubernetes.io/hostname";
/// Upstream's system defaults: label and skew.
const DEFAULTS: [(&str, i64); 2] = [(HOSTNAME, 3), ("topology.kubernetes.io/zone", 5)];
const NOT_A_CANDIDATE: i64 = -1;

/// Absent if the pod has no soft constraint.
pub(crate) fn score(filter: &Filter<'_>, nodes: &[Node]) -> Option<Vec<i64>> {
    let constraints = constraints(filter.pod);
    if constraints.is_empty() {
        return None;
    }
    let snapshot = filter.snapshot;
    let columns: Vec<Option<usize>> =
        constraints.iter().map(|spread| snapshot.labels.column_of(&spread.topology_key)).collect();
    let needs_all = !filter.pod.spread.is_empty();
    let complete = |node| !needs_all || columns.iter().all(|column| value(snapshot, *column, node) != ABSENT);
    let ignored: Vec<bool> = nodes.iter().map(|&node| !complete(node)).collect();
    let scored: Vec<Node> =
        nodes.iter().zip(&ignored).filter(|(_, ignored)| !**ignored).map(|(node, _)| *node).collect();

    let mut sums = vec![0.0; nodes.len()];
    let (mut pods, mut counted): (Vec<i64>, Option<&LabelSelector>) = (Vec::new(), None);
    for (spread, column) in constraints.iter().zip(&columns) {
        // Constraints of one pod mostly count the same pods.
        if counted != Some(&spread.selector) {
            pods = matching_by_node(snapshot, filter.pod, spread);
            counted = Some(&spread.selector);
        }
        let topology = Topology::new(filter, spread, *column, &scored, &pods, complete);
        for ((sum, &node), _) in sums.iter_mut().zip(nodes).zip(&ignored).filter(|(_, ignored)| !**ignored) {
            let value = value(snapshot, *column, node);
            if value != ABSENT {
                let here = if topology.per_node { pods[node] } else { topology.matching[value as usize] };
                *sum += here as f64 * topology.weight + (spread.max_skew - 1) as f64;
            }
        }
    }
    Some(normalize(&sums, &ignored))
}

/// Matching pods by value of one label.
struct Topology {
    matching: Vec<i64>,
    /// Every node is a domain of its own, and the counts by node will do.
    per_node: bool,
    /// The logarithm of the number of domains, so that many small ones count as much as few large ones.
    weight: f64,
}

impl Topology {
    fn new(
        filter: &Filter<'_>,
        spread: &Spread,
        column: Option<usize>,
        scored: &[Node],
        pods: &[i64],
        complete: impl Fn(Node) -> bool,
    ) -> Self {
        let per_node = spread.topology_key == HOSTNAME;
        let weight = |domains: usize| ((domains + 2) as f64).ln();
        if per_node {
            return Self { matching: Vec::new(), per_node, weight: weight(scored.len()) };
        }
        let snapshot = filter.snapshot;
        let mut matching = vec![NOT_A_CANDIDATE; snapshot.labels.values_bound()];
        let mut domains = 0;
        for &node in scored {
            // A candidate without the label is a domain too, as upstream counts them.
            let count = &mut matching[value(snapshot, column, node) as usize];
            domains += usize::from(*count == NOT_A_CANDIDATE);
            *count = 0;
        }
        for node in snapshot.live().filter(|node| pods[*node] > 0) {
            let value = value(snapshot, column, node) as usize;
            if matching[value] != NOT_A_CANDIDATE && complete(node) && filter.includes(spread, node) {
                matching[value] += pods[node];
            }
        }
        Self { matching, per_node, weight: weight(domains) }
    }
}

fn constraints(pod: &Pod) -> Vec<Cow<'_, Spread>> {
    if !pod.spread.is_empty() {
        let soft = pod.spread.iter().filter(|spread| spread.unsatisfiable == Unsatisfiable::ScheduleAnyway);
        return soft.map(Cow::Borrowed).collect();
    }
    let Some(siblings) = pod.siblings.as_ref().filter(|selector| !selector.is_empty()) else { return Vec::new() };
    let default = |(key, max_skew)| {
        Cow::Owned(Spread {
            max_skew,
            topology_key: Str::const_new(key),
            unsatisfiable: Unsatisfiable::ScheduleAnyway,
            selector: siblings.clone(),
            min_domains: 1,
            honors_affinity: true,
            honors_taints: false,
        })
    };
    DEFAULTS.into_iter().map(default).collect()
}

fn matching_by_node(snapshot: &Snapshot, pod: &Pod, spread: &Spread) -> Vec<i64> {
    let mut pods = vec![0; snapshot.nodes.len()];
    for (peer, places) in snapshot.classes.in_namespace(&pod.peer.namespace) {
        if spread.counts(&peer.labels) {
            for (&node, present) in places {
                pods[node] += present.all - present.terminating;
            }
        }
    }
    pods
}

fn normalize(sums: &[f64], ignored: &[bool]) -> Vec<i64> {
    let rounded: Vec<i64> = sums.iter().map(|sum| sum.round() as i64).collect();
    let scored = || rounded.iter().zip(ignored).filter(|(_, ignored)| !**ignored).map(|(score, _)| *score);
    let (least, most) = (scored().min().unwrap_or(0), scored().max().unwrap_or(0));
    let scale = |(score, ignored): (&i64, &bool)| match (*ignored, most) {
        (true, _) => 0,
        (false, 0) => SCORE_MAX,
        (false, most) => SCORE_MAX * (most + least - score) / most,
    };
    rounded.iter().zip(ignored).map(scale).collect()
}
