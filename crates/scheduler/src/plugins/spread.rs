//! PodTopologySpread, the constraints that must hold.

use crate::counts::ABSENT;
use crate::filter::Filter;
use crate::outcome::Reason;
use crate::snapshot::{Node, Snapshot};
use crate::view::{Pod, Spread, Unsatisfiable};

/// The pod's hard constraints with the counts they need.
#[derive(Clone, Default)]
pub(crate) struct SpreadState<'a> {
    constraints: Vec<Constraint<'a>>,
}

#[derive(Clone)]
struct Constraint<'a> {
    spread: &'a Spread,
    /// The column of the topology key; absent if no node has the label.
    column: Option<usize>,
    /// Nodes that take part.
    counted: Vec<bool>,
    /// Matching pods by value of the label; `NO_DOMAIN` where no node that takes part has the value.
    matching: Vec<i64>,
    least: i64,
    /// 1 if the pod itself matches.
    own: i64,
}

const NO_DOMAIN: i64 = -1;

impl<'a> SpreadState<'a> {
    pub(crate) fn new(filter: &Filter<'a>) -> Self {
        let pod = filter.pod;
        let hard = |spread: &&Spread| spread.unsatisfiable == Unsatisfiable::DoNotSchedule;
        let hard: Vec<&Spread> = pod.spread.iter().filter(hard).collect();
        if hard.is_empty() {
            return Self::default();
        }
        let snapshot = filter.snapshot;
        let columns: Vec<Option<usize>> =
            hard.iter().map(|spread| snapshot.labels.column_of(&spread.topology_key)).collect();
        let has_all = |node| columns.iter().all(|column| value(snapshot, *column, node) != ABSENT);
        let mut complete = vec![false; snapshot.nodes.len()];
        for node in snapshot.live() {
            complete[node] = has_all(node);
        }
        let constraint =
            |(spread, column): (&&'a Spread, &Option<usize>)| Constraint::new(filter, spread, *column, &complete);
        Self { constraints: hard.iter().zip(&columns).map(constraint).collect() }
    }

    pub(crate) fn check(&self, snapshot: &Snapshot, node: Node) -> Result<(), Reason> {
        for constraint in &self.constraints {
            let value = value(snapshot, constraint.column, node);
            if value == ABSENT {
                return Err(Reason::SpreadLabel);
            }
            let here = constraint.matching[value as usize].max(0);
            if here + constraint.own - constraint.least > constraint.spread.max_skew {
                return Err(Reason::SpreadSkew);
            }
        }
        Ok(())
    }

    /// Counts `amount` pods like `other` more at the node.
    pub(crate) fn count(&mut self, snapshot: &Snapshot, pod: &Pod, other: &Pod, node: Node, amount: i64) {
        if other.peer.namespace != pod.peer.namespace || other.terminating {
            return;
        }
        for constraint in &mut self.constraints {
            if constraint.counted[node] && constraint.spread.counts(&other.peer.labels) {
                constraint.matching[value(snapshot, constraint.column, node) as usize] += amount;
                constraint.find_least();
            }
        }
    }
}

impl<'a> Constraint<'a> {
    fn new(filter: &Filter<'a>, spread: &'a Spread, column: Option<usize>, complete: &[bool]) -> Self {
        let (snapshot, pod) = (filter.snapshot, filter.pod);
        let mut matching = vec![NO_DOMAIN; snapshot.labels.values_bound()];
        let mut counted = vec![false; complete.len()];
        for node in snapshot.live().filter(|node| complete[*node] && filter.includes(spread, *node)) {
            counted[node] = true;
            matching[value(snapshot, column, node) as usize] = 0;
        }
        for (peer, places) in snapshot.classes.in_namespace(&pod.peer.namespace) {
            if spread.counts(&peer.labels) {
                for (&node, present) in places.iter().filter(|(node, _)| counted[**node]) {
                    matching[value(snapshot, column, node) as usize] += present.all - present.terminating;
                }
            }
        }
        let own = i64::from(spread.selector.matches(&pod.peer.labels));
        let mut new = Self { spread, column, counted, matching, least: 0, own };
        new.find_least();
        new
    }

    fn find_least(&mut self) {
        let domains = self.matching.iter().filter(|count| **count != NO_DOMAIN);
        let (least, number) =
            domains.fold((i64::from(i32::MAX), 0), |(least, number), count| (least.min(*count), number + 1));
        self.least = if number < self.spread.min_domains { 0 } else { least };
    }
}

impl Spread {
    /// Whether a pod with these labels is counted. An empty selector matches every pod and counts none.
    pub(crate) fn counts(&self, labels: &crate::view::Labels) -> bool {
        !self.selector.is_empty() && self.selector.matches(labels)
    }
}

pub(crate) fn value(snapshot: &Snapshot, column: Option<usize>, node: Node) -> u32 {
    column.map_or(ABSENT, |column| snapshot.labels.value(column, node))
}
