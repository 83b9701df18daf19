//! Preemption: which pods of lower priority leave which node, so that a pod that runs nowhere can run there.
//!
//! Every node that may help is tried, where upstream stops at a tenth of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Str;

use crate::filter::{Filter, State, Trial};
use crate::outcome::{Reason, Unschedulable, Why, histogram};
use crate::plugins::node_affinity;
use crate::schedule::mix;
use crate::snapshot::{Node, Snapshot};
use crate::view::Pod;

/// A PodDisruptionBudget.
#[derive(Clone, Debug)]
pub struct Budget {
    pub namespace: Str,
    pub selector: LabelSelector,
    pub disruptions_allowed: i64,
    /// Names of pods whose eviction was granted already.
    pub disrupted: Vec<Str>,
}

/// Who leaves where.
#[derive(Clone, Debug, PartialEq)]
pub struct Preemption {
    pub node: Str,
    /// The most important first.
    pub victims: Vec<Arc<Pod>>,
    /// How many of them a budget would have kept.
    pub violations: usize,
}

/// Why nobody has to leave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoPreemption {
    /// The pod never preempts.
    Policy,
    /// Victims of an earlier preemption for this pod have not gone yet.
    Waiting,
    /// No node would have room.
    Unhelpful { nodes: usize, texts: BTreeMap<String, usize> },
}

impl fmt::Display for NoPreemption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Policy => f.write_str("not eligible due to preemptionPolicy=Never."),
            Self::Waiting => f.write_str("not eligible due to a terminating pod on the nominated node."),
            Self::Unhelpful { nodes, texts } => f.write_str(&histogram(*nodes, texts)),
        }
    }
}

/// Chooses the node where the fewest and least important pods have to leave. `failure` is what [`crate::schedule()`] said of
/// the same pod and snapshot.
pub fn preempt(
    snapshot: &Snapshot,
    pod: &Pod,
    failure: &Unschedulable,
    budgets: &[Budget],
    seed: u64,
) -> Result<Preemption, NoPreemption> {
    let rejected: &[(Node, Reason)] = if let Why::Nodes { rejected, .. } = &failure.why { rejected } else { &[] };
    eligible(snapshot, pod, rejected)?;
    let selector = node_affinity::selector_of(pod);
    let filter = Filter::new(snapshot, pod, &selector);
    let state = filter.state();
    let mut texts = BTreeMap::new();
    let mut best: Option<(Cost, Candidate)> = None;
    for &(node, _) in rejected.iter().filter(|(_, reason)| reason.preemption_may_help()) {
        match victims(&filter, &state, node, budgets) {
            Ok(candidate) => {
                let cost = candidate.cost(mix(seed ^ snapshot.name_hash[node]));
                if best.as_ref().is_none_or(|(least, _)| cost < *least) {
                    best = Some((cost, candidate));
                }
            }
            Err(reasons) => reasons.into_iter().for_each(|text| *texts.entry(text).or_default() += 1),
        }
    }
    if let Some((_, Candidate { node, victims, violations })) = best {
        return Ok(Preemption { node: snapshot.name(node).into(), victims, violations });
    }
    let hopeless = snapshot.node_count - rejected.iter().filter(|(_, reason)| reason.preemption_may_help()).count();
    if hopeless > 0 {
        texts.insert("Preemption is not helpful for scheduling".to_owned(), hopeless);
    }
    Err(NoPreemption::Unhelpful { nodes: snapshot.node_count, texts })
}

fn eligible(snapshot: &Snapshot, pod: &Pod, rejected: &[(Node, Reason)]) -> Result<(), NoPreemption> {
    if pod.preempts_never {
        return Err(NoPreemption::Policy);
    }
    let Some(node) = snapshot.find(&pod.nominated) else { return Ok(()) };
    let hopeless = rejected.iter().any(|(other, reason)| *other == node && !reason.preemption_may_help());
    let leaving = |other: &Arc<Pod>| other.priority < pod.priority && other.terminating && other.preempted;
    if !hopeless && snapshot.pods[node].iter().any(leaving) { Err(NoPreemption::Waiting) } else { Ok(()) }
}

struct Candidate {
    node: Node,
    victims: Vec<Arc<Pod>>,
    violations: usize,
}

/// What is compared, in this order: violated budgets, the highest priority, the sum of priorities, the number of
/// victims, how long the most important ones have run; then chance.
type Cost = (usize, i32, i64, usize, Reverse<Time>, u64);

impl Candidate {
    fn cost(&self, chance: u64) -> Cost {
        let highest = self.victims.iter().map(|victim| victim.priority).max().unwrap_or(i32::MIN);
        // Made positive, so that several pods of negative priority do not count less than one.
        let positive = |victim: &Arc<Pod>| i64::from(victim.priority) + i64::from(i32::MAX) + 1;
        let sum = self.victims.iter().map(positive).sum();
        let of_highest = self.victims.iter().filter(|victim| victim.priority == highest);
        let earliest = of_highest.map(|victim| victim.started_or_last()).min().unwrap_or_default();
        (self.violations, highest, sum, self.victims.len(), Reverse(earliest), chance)
    }
}

/// The smallest set that upstream's greedy order finds: all that may leave, less those that can stay after all.
fn victims(filter: &Filter<'_>, state: &State<'_>, node: Node, budgets: &[Budget]) -> Result<Candidate, Vec<String>> {
    let (snapshot, pod) = (filter.snapshot, filter.pod);
    let lower = snapshot.pods[node].iter().filter(|other| other.priority < pod.priority);
    let mut lower: Vec<Arc<Pod>> = lower.cloned().collect();
    if lower.is_empty() {
        return Err(vec!["No preemption victims found for incoming pod".to_owned()]);
    }
    lower.sort_by(|left, right| importance(left).cmp(&importance(right)));
    let mut trial = Trial::new(filter, node, state);
    let nominated = snapshot.nominated.get(&node).into_iter().flatten();
    for other in nominated.filter(|other| other.uid != pod.uid && other.priority >= pod.priority) {
        trial.count(other, 1);
    }
    for other in &lower {
        trial.count(other, -1);
    }
    trial.check().map_err(|reason| reason.texts(pod))?;
    let (violating, harmless) = split(&lower, budgets);
    let mut victims = Vec::new();
    let mut reprieve = |others: Vec<Arc<Pod>>| {
        let before = victims.len();
        for other in others {
            trial.count(&other, 1);
            if trial.check().is_err() {
                trial.count(&other, -1);
                victims.push(other);
            }
        }
        victims.len() - before
    };
    let violations = reprieve(violating);
    reprieve(harmless);
    victims.sort_by(|left, right| importance(left).cmp(&importance(right)));
    Ok(Candidate { node, victims, violations })
}

/// The most important first: by priority, then those that have run longest; the uid settles the rest.
fn importance(pod: &Pod) -> (Reverse<i32>, Time, &str) {
    (Reverse(pod.priority), pod.started_or_last(), &pod.uid)
}

/// Those whose eviction a budget would not allow, and the others; each in the order given.
fn split(pods: &[Arc<Pod>], budgets: &[Budget]) -> (Vec<Arc<Pod>>, Vec<Arc<Pod>>) {
    let mut allowed: Vec<i64> = budgets.iter().map(|budget| budget.disruptions_allowed).collect();
    let mut violates = |pod: &Arc<Pod>| {
        let mut violated = false;
        for (allowed, budget) in allowed.iter_mut().zip(budgets) {
            if budget.covers(pod) {
                *allowed -= 1;
                violated |= *allowed < 0;
            }
        }
        violated
    };
    pods.iter().cloned().partition(|pod| violates(pod))
}

impl Budget {
    fn covers(&self, pod: &Pod) -> bool {
        let peer = &pod.peer;
        !peer.labels.is_empty()
            && self.namespace == peer.namespace
            && !self.selector.is_empty()
            && self.selector.matches(&peer.labels)
            && !self.disrupted.contains(&pod.name)
    }
}
