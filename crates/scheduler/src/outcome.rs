//! Why a pod runs nowhere, in upstream's words.

use std::collections::{BTreeMap, BTreeSet};

use corten_apimachinery::value::Str;

use crate::snapshot::Node;
use crate::view::Pod;

/// The parts that a decision is made of, by upstream's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Plugin {
    SchedulingGates,
    NodeUnschedulable,
    NodeName,
    TaintToleration,
    NodeAffinity,
    NodePorts,
    NodeResourcesFit,
    VolumeBinding,
    PodTopologySpread,
    InterPodAffinity,
    NodeResourcesBalancedAllocation,
    ImageLocality,
}

/// Why one node will not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    Unschedulable,
    NodeName,
    Taints,
    NodeAffinity,
    /// The pod's node affinity lists nodes by name, and this is none of them.
    NotListed,
    Ports,
    /// Bit 0: the number of pods; bit n: the n-th of the pod's requests (all beyond the 62nd share the last bit).
    Resources {
        lacking: u64,
        /// The node could not hold the pod even if it were empty.
        hopeless: bool,
    },
    /// A claim is bound to a volume that is not there.
    VolumeMissing,
    /// A volume of the pod is somewhere else.
    VolumeElsewhere,
    /// No volume is free here, and none is made.
    NoVolume,
    SpreadSkew,
    SpreadLabel,
    Affinity,
    AntiAffinity,
    ExistingAntiAffinity,
}

impl Reason {
    pub fn plugin(self) -> Plugin {
        match self {
            Self::Unschedulable => Plugin::NodeUnschedulable,
            Self::NodeName => Plugin::NodeName,
            Self::Taints => Plugin::TaintToleration,
            Self::NodeAffinity | Self::NotListed => Plugin::NodeAffinity,
            Self::Ports => Plugin::NodePorts,
            Self::Resources { .. } => Plugin::NodeResourcesFit,
            Self::VolumeMissing | Self::VolumeElsewhere | Self::NoVolume => Plugin::VolumeBinding,
            Self::SpreadSkew | Self::SpreadLabel => Plugin::PodTopologySpread,
            Self::Affinity | Self::AntiAffinity | Self::ExistingAntiAffinity => Plugin::InterPodAffinity,
        }
    }

    /// Whether the removal of pods from the node may help.
    pub fn preemption_may_help(self) -> bool {
        match self {
            Self::Ports | Self::SpreadSkew | Self::AntiAffinity | Self::ExistingAntiAffinity => true,
            Self::Resources { hopeless, .. } => !hopeless,
            _ => false,
        }
    }

    /// Upstream's texts; several where a node lacks several resources.
    pub fn texts(self, pod: &Pod) -> Vec<String> {
        let text = match self {
            Self::Unschedulable => "node(s) were unschedulable",
            Self::NodeName => "node(s) didn't match the requested node name",
            Self::Taints => "node(s) had untolerated taint(s)",
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Self::NotListed => "node(s) didn't satisfy plugin(s) [NodeAffinity]",
            Self::Ports => "node(s) didn't have free ports for the requested pod ports",
            Self::Resources { lacking, .. } => return lacking_texts(lacking, pod),
            Self::VolumeMissing => "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
            Self::VolumeElsewhere => "node(s) didn't match PersistentVolume's node affinity",
            Self::NoVolume => "node(s) didn't find available persistent volumes to bind",
            Self::SpreadSkew => "node(s) didn't match pod topology spread constraints",
            Self::SpreadLabel => "node(s) didn't match pod topology spread constraints (missing required label)",
            Self::Affinity => "node(s) didn't match pod affinity rules",
            Self::AntiAffinity => "node(s) didn't match pod anti-affinity rules",
            Self::ExistingAntiAffinity => "node(s) didn't satisfy existing pods anti-affinity rules",
        };
        vec![text.to_owned()]
    }
}

fn lacking_texts(lacking: u64, pod: &Pod) -> Vec<String> {
    let pods = (lacking & 1 != 0).then(|| "Too many pods".to_owned());
    let resources = pod.requests.iter().take(63).zip(1..).filter(|(_, bit)| lacking >> bit & 1 != 0);
    pods.into_iter().chain(resources.map(|((name, _), _)| format!("Insufficient {name}"))).collect()
}

/// A pod that runs nowhere now.
#[derive(Clone, Debug, PartialEq)]
pub struct Unschedulable {
    pub(crate) why: Why,
    pub(crate) node_count: usize,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Why {
    Gated(Vec<Str>),
    NoNodes,
    /// The pod alone says so, whatever the nodes are.
    Pod(Plugin, String),
    Nodes {
        rejected: Vec<(Node, Reason)>,
        texts: BTreeMap<String, usize>,
    },
}

impl Unschedulable {
    pub(crate) fn new(node_count: usize, why: Why) -> Self {
        Self { why, node_count }
    }

    pub(crate) fn of_nodes(pod: &Pod, node_count: usize, rejected: Vec<(Node, Reason)>) -> Self {
        let mut texts = BTreeMap::new();
        for text in rejected.iter().flat_map(|(_, reason)| reason.texts(pod)) {
            *texts.entry(text).or_default() += 1;
        }
        Self { why: Why::Nodes { rejected, texts }, node_count }
    }

    /// How many nodes gave each reason.
    pub fn counts(&self) -> impl Iterator<Item = (&str, usize)> {
        let texts = if let Why::Nodes { texts, .. } = &self.why { Some(texts) } else { None };
        texts.into_iter().flatten().map(|(text, count)| (text.as_str(), *count))
    }

    /// The plugins that rejected the pod: an event helps only if it changes the mind of one of them.
    pub fn plugins(&self) -> BTreeSet<Plugin> {
        match &self.why {
            Why::Gated(_) => BTreeSet::from([Plugin::SchedulingGates]),
            Why::NoNodes => BTreeSet::new(),
            Why::Pod(plugin, _) => BTreeSet::from([*plugin]),
            Why::Nodes { rejected, .. } => rejected.iter().map(|(_, reason)| reason.plugin()).collect(),
        }
    }

    /// The text of the event and of the condition.
    pub fn text(&self) -> String {
        let nodes = self.node_count;
        match &self.why {
            Why::Gated(gates) => format!("waiting for scheduling gates: [{}]", gates.join(" ")),
            Why::NoNodes => "no nodes available to schedule pods".to_owned(),
            Why::Pod(_, text) => format!("0/{nodes} nodes are available: {text}."),
            Why::Nodes { texts, .. } => histogram(nodes, texts),
        }
    }

    /// The text with the outcome of preemption, which was tried in vain.
    pub fn text_with(&self, preemption: &crate::preempt::NoPreemption) -> String {
        match &self.why {
            Why::Gated(_) | Why::NoNodes => self.text(),
            Why::Pod(..) | Why::Nodes { .. } => format!("{} preemption: {preemption}", self.text()),
        }
    }
}

/// `0/3 nodes are available: 1 this, 2 that.`
pub(crate) fn histogram(nodes: usize, texts: &BTreeMap<String, usize>) -> String {
    let mut parts: Vec<String> = texts.iter().map(|(text, count)| format!("{count} {text}")).collect();
    parts.sort();
    match parts.is_empty() {
        true => format!("0/{nodes} nodes are available:"),
        false => format!("0/{nodes} nodes are available: {}.", parts.join(", ")),
    }
}

/// What became of one node in a decision.
#[derive(Clone, Debug, PartialEq)]
pub struct Verdict {
    pub node: Str,
    /// Upstream's texts, or the weighted scores by plugin.
    pub outcome: Result<Vec<(Plugin, i64)>, Vec<String>>,
}
