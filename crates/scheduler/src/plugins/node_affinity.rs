//! NodeAffinity: labels and names of nodes that a pod requires or prefers.

use corten_apimachinery::selector::label::{Operator, Requirement};
use corten_apimachinery::value::Str;

use super::normalize;
use crate::counts::ABSENT;
use crate::pool::Slot;
use crate::snapshot::{Node, Snapshot};
use crate::view::{NodeSelector, NodeTerm, Pod};

/// A pod's `nodeSelector` and required terms, with the snapshot's numbers in place of texts.
pub(crate) struct Required<'a> {
    selector: Vec<Condition<'a>>,
    /// Absent: no term is required.
    terms: Option<Vec<Compiled<'a>>>,
}

/// A term that can match; invalid and empty terms match nothing.
struct Compiled<'a> {
    labels: Vec<Condition<'a>>,
    names: &'a [(bool, Vec<Str>)],
}

struct Condition<'a> {
    column: Option<usize>,
    requirement: &'a Requirement,
    /// The numbers of the listed values that some node has.
    values: Vec<Slot>,
}

/// What the names in a pod's terms leave of the nodes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    All,
    /// Every term asks for two names at once.
    Conflict,
    Only(Vec<Node>),
}

impl<'a> Required<'a> {
    pub(crate) fn new(snapshot: &Snapshot, pod: &'a Pod, selector: &'a [Requirement]) -> Self {
        let compile = |required: &'a NodeSelector| compile_all(snapshot, required.terms.iter());
        Self {
            selector: selector.iter().map(|requirement| Condition::new(snapshot, requirement)).collect(),
            terms: pod.node_required.as_ref().map(compile),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.selector.is_empty() && self.terms.is_none()
    }

    pub(crate) fn matches(&self, snapshot: &Snapshot, node: Node) -> bool {
        self.selector.iter().all(|condition| condition.matches(snapshot, node))
            && self.terms.as_ref().is_none_or(|terms| terms.iter().any(|term| term.matches(snapshot, node)))
    }
}

/// The pod's `nodeSelector` as conditions.
pub(crate) fn selector_of(pod: &Pod) -> Vec<Requirement> {
    let equals = |(key, value): &(Str, Str)| Requirement {
        key: key.clone(),
        operator: Operator::Equals,
        values: vec![value.clone()],
    };
    pod.node_selector.iter().map(equals).collect()
}

/// Pods of a daemon set name their node in every term; then no other node needs to be looked at.
pub(crate) fn listed(snapshot: &Snapshot, pod: &Pod) -> Listed {
    let Some(required) = &pod.node_required else { return Listed::All };
    if required.terms.is_empty() {
        return Listed::All;
    }
    let mut names: Vec<&Str> = Vec::new();
    for term in &required.terms {
        let mut of_term = term.names.iter().filter(|(among, _)| *among).map(|(_, names)| names);
        let Some(first) = of_term.next() else { return Listed::All };
        let rest: Vec<&Vec<Str>> = of_term.collect();
        names.extend(first.iter().filter(|name| rest.iter().all(|names| names.contains(*name))));
    }
    if names.is_empty() {
        return Listed::Conflict;
    }
    let mut nodes: Vec<Node> = names.iter().filter_map(|name| snapshot.find(name)).collect();
    nodes.sort_unstable();
    nodes.dedup();
    Listed::Only(nodes)
}

/// The weights of the preferred terms that match; absent if nothing is preferred.
pub(crate) fn score(snapshot: &Snapshot, pod: &Pod, nodes: &[Node]) -> Option<Vec<i64>> {
    if pod.node_preferred.is_empty() {
        return None;
    }
    let mut scores = vec![0; nodes.len()];
    for (weight, term) in &pod.node_preferred {
        for compiled in compile_all(snapshot, std::iter::once(term)) {
            for (score, &node) in scores.iter_mut().zip(nodes) {
                *score += if compiled.matches(snapshot, node) { i64::from(*weight) } else { 0 };
            }
        }
    }
    normalize(&mut scores, false);
    Some(scores)
}

fn compile_all<'a>(snapshot: &Snapshot, terms: impl Iterator<Item = &'a NodeTerm>) -> Vec<Compiled<'a>> {
    let usable = terms.filter(|term| !(term.invalid || term.labels.is_empty() && term.names.is_empty()));
    let compile = |term: &'a NodeTerm| Compiled {
        labels: term.labels.iter().map(|requirement| Condition::new(snapshot, requirement)).collect(),
        names: &term.names,
    };
    usable.map(compile).collect()
}

impl Compiled<'_> {
    fn matches(&self, snapshot: &Snapshot, node: Node) -> bool {
        self.labels.iter().all(|condition| condition.matches(snapshot, node))
            && self.names.iter().all(|(among, names)| *among == names.iter().any(|name| name == snapshot.name(node)))
    }
}

impl<'a> Condition<'a> {
    fn new(snapshot: &Snapshot, requirement: &'a Requirement) -> Self {
        Self {
            column: snapshot.labels.column_of(&requirement.key),
            requirement,
            values: requirement.values.iter().filter_map(|text| snapshot.labels.value_of(text)).collect(),
        }
    }

    fn matches(&self, snapshot: &Snapshot, node: Node) -> bool {
        let value = self.column.map_or(ABSENT, |column| snapshot.labels.value(column, node));
        match self.requirement.operator {
            Operator::In | Operator::Equals | Operator::DoubleEquals => self.values.contains(&value),
            Operator::NotIn | Operator::NotEquals => !self.values.contains(&value),
            Operator::Exists => value != ABSENT,
            Operator::DoesNotExist => value == ABSENT,
            Operator::GreaterThan | Operator::LessThan => self.requirement.matches(snapshot.labels.text(value)),
        }
    }
}
