//! The decision: filter every node, score those that can take the pod, and take the best.

use std::collections::BTreeMap;

use corten_apimachinery::value::Str;

use crate::filter::{Filter, State};
use crate::outcome::{Plugin, Reason, Unschedulable, Verdict, Why};
use crate::plugins::node_affinity::{self, Listed};
use crate::plugins::{images, peers, resources, spread_score, taints};
use crate::snapshot::{Node, Snapshot};
use crate::view::Pod;
use crate::volumes::Choice;

/// A plugin's share of a node's score, with its weight.
pub type NodeScore = (Plugin, i64);

/// Where a pod goes, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Placement {
    pub node: Str,
    /// Empty if this was the only node that could take the pod.
    pub scores: Vec<NodeScore>,
    /// How many nodes could take the pod.
    pub feasible: usize,
    /// What becomes there of claims that wait for the pod.
    pub volumes: Vec<Choice>,
}

/// The best node for a pod. Among equals, `seed` decides.
pub fn schedule(snapshot: &Snapshot, pod: &Pod, seed: u64) -> Result<Placement, Unschedulable> {
    let selector = node_affinity::selector_of(pod);
    let filter = Filter::new(snapshot, pod, &selector);
    let (feasible, rejected) = sift(&filter)?;
    if feasible.is_empty() {
        return Err(Unschedulable::of_nodes(pod, snapshot.node_count, rejected));
    }
    if let [only] = feasible[..] {
        return Ok(placement(&filter, only, Vec::new(), 1));
    }
    let columns = scores(&filter, &feasible);
    let best = best(snapshot, &columns, &feasible, seed);
    let scores = columns.iter().map(|(plugin, column)| (*plugin, column[best])).collect();
    Ok(placement(&filter, feasible[best], scores, feasible.len()))
}

fn placement(filter: &Filter<'_>, node: Node, scores: Vec<NodeScore>, feasible: usize) -> Placement {
    let volumes = filter.choose_volumes(node).expect("a node that cannot take the pod's volumes is not feasible");
    Placement { node: filter.snapshot.name(node).into(), scores, feasible, volumes }
}

/// What every node says, ordered by name.
pub fn explain(snapshot: &Snapshot, pod: &Pod) -> Result<Vec<Verdict>, Unschedulable> {
    let selector = node_affinity::selector_of(pod);
    let filter = Filter::new(snapshot, pod, &selector);
    let (feasible, rejected) = sift(&filter)?;
    let columns = if feasible.is_empty() { Vec::new() } else { scores(&filter, &feasible) };
    let mut verdicts = BTreeMap::new();
    for (at, &node) in feasible.iter().enumerate() {
        verdicts.insert(node, Ok(columns.iter().map(|(plugin, column)| (*plugin, column[at])).collect()));
    }
    verdicts.extend(rejected.into_iter().map(|(node, reason)| (node, Err(reason.texts(pod)))));
    let verdict = |(node, outcome)| Verdict { node: snapshot.name(node).into(), outcome };
    let mut verdicts: Vec<Verdict> = verdicts.into_iter().map(verdict).collect();
    verdicts.sort_by(|left, right| left.node.cmp(&right.node));
    Ok(verdicts)
}

type Sifted = (Vec<Node>, Vec<(Node, Reason)>);

/// The nodes that can take the pod, and the reasons of the others.
fn sift(filter: &Filter<'_>) -> Result<Sifted, Unschedulable> {
    let (snapshot, pod) = (filter.snapshot, filter.pod);
    let nowhere = |why| Unschedulable::new(snapshot.node_count, why);
    if !pod.gates.is_empty() {
        return Err(nowhere(Why::Gated(pod.gates.clone())));
    }
    if snapshot.node_count == 0 {
        return Err(nowhere(Why::NoNodes));
    }
    let listed = filter.listed();
    if let (Some(text), false) = (&pod.volumes.refused, listed == Listed::Conflict) {
        return Err(nowhere(Why::Pod(Plugin::VolumeBinding, text.clone())));
    }
    let mut rejected = Vec::new();
    let asked: Vec<Node> = match listed {
        Listed::Conflict => {
            return Err(nowhere(Why::Pod(Plugin::NodeAffinity, "pod affinity terms conflict".to_owned())));
        }
        Listed::All => snapshot.live().collect(),
        Listed::Only(nodes) => {
            let others = snapshot.live().filter(|node| nodes.binary_search(node).is_err());
            rejected.extend(others.map(|node| (node, Reason::NotListed)));
            nodes
        }
    };
    let state: State<'_> = filter.state();
    let mut feasible = Vec::with_capacity(asked.len());
    for node in asked {
        match filter.check(node, &state) {
            Ok(()) => feasible.push(node),
            Err(reason) => rejected.push((node, reason)),
        }
    }
    Ok((feasible, rejected))
}

/// Weighted scores by plugin and feasible node, with upstream's default weights.
fn scores(filter: &Filter<'_>, nodes: &[Node]) -> Vec<(Plugin, Vec<i64>)> {
    let (snapshot, pod) = (filter.snapshot, filter.pod);
    let all = [
        (Plugin::TaintToleration, 3, Some(taints::score(snapshot, pod, nodes))),
        (Plugin::NodeAffinity, 2, node_affinity::score(snapshot, pod, nodes)),
        (Plugin::NodeResourcesFit, 1, Some(resources::score_fit(snapshot, pod, nodes))),
        (Plugin::PodTopologySpread, 2, spread_score::score(filter, nodes)),
        (Plugin::InterPodAffinity, 2, peers::score(filter, nodes)),
        (Plugin::NodeResourcesBalancedAllocation, 1, resources::score_balance(snapshot, pod, nodes)),
        (Plugin::ImageLocality, 1, images::score(snapshot, pod, nodes)),
    ];
    let weighted = |(plugin, weight, scores): (Plugin, i64, Option<Vec<i64>>)| {
        let mut scores = scores?;
        scores.iter_mut().for_each(|score| *score *= weight);
        Some((plugin, scores))
    };
    all.into_iter().filter_map(weighted).collect()
}

/// The place in `nodes` of the best one. Ties depend on the seed and the node's name alone.
fn best(snapshot: &Snapshot, columns: &[(Plugin, Vec<i64>)], nodes: &[Node], seed: u64) -> usize {
    let mut totals = vec![0_i64; nodes.len()];
    for (_, column) in columns {
        for (total, score) in totals.iter_mut().zip(column) {
            *total += score;
        }
    }
    let most = totals.iter().copied().max().unwrap_or(0);
    let equals = (0..nodes.len()).filter(|at| totals[*at] == most);
    let draw = |at: &usize| (mix(seed ^ snapshot.name_hash[nodes[*at]]), snapshot.name(nodes[*at]));
    equals.min_by(|left, right| draw(left).cmp(&draw(right))).unwrap_or(0)
}

/// splitmix64's finisher.
pub(crate) fn mix(number: u64) -> u64 {
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}
