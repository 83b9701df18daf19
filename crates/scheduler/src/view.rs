//! Pods and nodes, as far as placement looks at them.

use std::sync::Arc;

use corten_apimachinery::selector::LabelSelector;
use corten_apimachinery::selector::label::Requirement;
use corten_apimachinery::time::Time;
use corten_apimachinery::value::Str;

use crate::volumes::{PodClaim, PodVolumes};

/// Labels, sorted by key.
pub type Labels = Vec<(Str, Str)>;

/// A pod: what it asks for, and where it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pod {
    pub uid: Str,
    pub name: Str,
    pub peer: Arc<Peer>,
    /// The node that the pod runs on, or must run on.
    pub node_name: Str,
    /// The node that an earlier preemption makes room on.
    pub nominated: Str,
    pub scheduler: Str,
    pub priority: i32,
    pub preempts_never: bool,
    pub gates: Vec<Str>,
    /// By resource, sorted by name: thousandths of a CPU, bytes, or a number.
    pub requests: Vec<(Str, i64)>,
    /// CPU (in thousandths) and memory (in bytes), with a minimum for containers that ask for nothing; for scores.
    pub usual: (i64, i64),
    /// The same once the pod is at a node, where upstream supposes less of pods with requests of their own level.
    pub usual_held: (i64, i64),
    pub tolerations: Vec<Toleration>,
    pub node_selector: Labels,
    /// `requiredDuringSchedulingIgnoredDuringExecution` of the affinity to nodes.
    pub node_required: Option<NodeSelector>,
    pub node_preferred: Vec<(i32, NodeTerm)>,
    pub ports: Vec<HostPort>,
    pub spread: Vec<Spread>,
    /// The pods of the same services and the same owner, for the spreading of pods that ask for none.
    pub siblings: Option<LabelSelector>,
    /// The persistent volumes that it names, and what those ask of a node, as far as somebody has gathered that.
    pub claims: Vec<PodClaim>,
    pub volumes: PodVolumes,
    /// Images of containers and of volumes, with a tag, once for each use.
    pub images: Vec<Str>,
    /// Containers and init containers.
    pub containers: i64,
    pub terminating: bool,
    /// Terminating because a scheduler chose it as a victim.
    pub preempted: bool,
    pub started: Option<Time>,
}

impl Pod {
    /// When the pod started; later than any other if it has not.
    pub(crate) fn started_or_last(&self) -> Time {
        self.started.unwrap_or(Time { seconds: i64::MAX, nanoseconds: 0 })
    }
}

impl Pod {
    /// Whether the pod's `nodeSelector` and its required affinity take a node of that name with those labels.
    pub fn accepts(&self, node: &str, labels: &Labels) -> bool {
        let selected = self.node_selector.iter().all(|(key, value)| label(labels, key) == Some(value));
        let terms = self.node_required.as_ref().map(|required| &required.terms);
        selected && terms.is_none_or(|terms| terms.iter().any(|term| term.matches(node, labels)))
    }

    /// Whether the pod tolerates all of the taints that have one of the effects.
    pub fn tolerates(&self, taints: &[Taint], effects: &[Effect]) -> bool {
        let tolerated = |taint: &Taint| self.tolerations.iter().any(|toleration| toleration.tolerates(taint));
        taints.iter().filter(|taint| effects.contains(&taint.effect)).all(tolerated)
    }
}

/// What other pods' rules see of a pod, and its own rules about other pods. Equal peers are counted together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Peer {
    pub namespace: Str,
    pub labels: Labels,
    pub terms: Terms,
}

/// A pod's affinity and anti-affinity to pods.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Terms {
    pub affinity: Vec<Term>,
    pub anti: Vec<Term>,
    pub prefers: Vec<(i32, Term)>,
    pub avoids: Vec<(i32, Term)>,
}

impl Terms {
    pub fn is_empty(&self) -> bool {
        self.affinity.is_empty() && self.anti.is_empty() && self.prefers.is_empty() && self.avoids.is_empty()
    }
}

/// Pods that match, within one value of a node label.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Term {
    pub topology_key: Str,
    pub selector: LabelSelector,
    pub namespaces: Vec<Str>,
    pub namespace_selector: LabelSelector,
}

impl Term {
    /// Whether the term means this pod. The labels of its namespace are absent if the namespace is not known.
    pub fn matches(&self, peer: &Peer, namespace_labels: Option<&Labels>) -> bool {
        (self.namespaces.contains(&peer.namespace) || self.matches_namespace(namespace_labels))
            && self.selector.matches(&peer.labels)
    }

    fn matches_namespace(&self, labels: Option<&Labels>) -> bool {
        self.namespace_selector.is_empty() || labels.is_some_and(|labels| self.namespace_selector.matches(labels))
    }
}

/// Terms of which one must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeSelector {
    pub terms: Vec<NodeTerm>,
}

/// Conditions on a node that must all hold. An empty term, or one that cannot be read, matches no node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeTerm {
    pub labels: Vec<Requirement>,
    /// Names (`matchFields` on `metadata.name`); true: the node must be one of them; false: none of them.
    pub names: Vec<(bool, Vec<Str>)>,
    pub invalid: bool,
}

impl NodeTerm {
    pub(crate) fn matches(&self, node: &str, labels: &Labels) -> bool {
        let empty = self.labels.is_empty() && self.names.is_empty();
        !empty
            && !self.invalid
            && self.labels.iter().all(|of| of.matches(label(labels, &of.key).map(Str::as_str)))
            && self.names.iter().all(|(one_of, names)| names.iter().any(|name| name == node) == *one_of)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Taint {
    pub key: Str,
    pub value: Str,
    pub effect: Effect,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TolerationOperator {
    Equal,
    Exists,
    /// An operator that is not enabled: it tolerates nothing.
    Unknown,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Toleration {
    /// Empty: every key.
    pub key: Str,
    pub operator: TolerationOperator,
    pub value: Str,
    /// Absent: every effect.
    pub effect: Option<Effect>,
}

impl Toleration {
    pub fn tolerates(&self, taint: &Taint) -> bool {
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator {
                TolerationOperator::Equal => self.value == taint.value,
                TolerationOperator::Exists => true,
                TolerationOperator::Unknown => false,
            }
    }
}

/// A port that a pod takes on its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// `0.0.0.0`: every address.
    pub ip: Str,
    pub protocol: Str,
    pub port: i64,
}

impl HostPort {
    pub fn conflicts(&self, other: &Self) -> bool {
        const ALL: &str = "0.0.0.0";
        self.port == other.port
            && self.protocol == other.protocol
            && (self.ip == other.ip || self.ip == ALL || other.ip == ALL)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsatisfiable {
    DoNotSchedule,
    ScheduleAnyway,
}

/// One topology spread constraint.
#[derive(Clone, Debug, PartialEq)]
pub struct Spread {
    pub max_skew: i64,
    pub topology_key: Str,
    pub unsatisfiable: Unsatisfiable,
    /// With the pod's values of `matchLabelKeys`.
    pub selector: LabelSelector,
    pub min_domains: i64,
    /// Whether nodes that the pod's node affinity excludes stay out of the count.
    pub honors_affinity: bool,
    /// Whether nodes with taints that the pod does not tolerate stay out of the count.
    pub honors_taints: bool,
}

/// A node.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeView {
    pub name: Str,
    pub labels: Labels,
    pub unschedulable: bool,
    pub taints: Vec<Taint>,
    /// By resource, sorted by name: thousandths of a CPU, bytes, or a number.
    pub allocatable: Vec<(Str, i64)>,
    pub images: Vec<Image>,
}

/// An image that a node has.
#[derive(Clone, Debug, PartialEq)]
pub struct Image {
    pub names: Vec<Str>,
    pub bytes: i64,
}

/// The value of one label.
pub fn label<'a>(labels: &'a Labels, key: &str) -> Option<&'a Str> {
    labels.binary_search_by(|(name, _)| name.as_str().cmp(key)).ok().map(|at| &labels[at].1)
}
