//! Which events may let a pod run that ran nowhere before. A plugin that rejected the pod is asked whether the event can
//! change its mind; if none says so, the pod stays where it is and costs nothing.

use std::collections::BTreeSet;

use crate::outcome::Plugin;
use crate::plugins::peers::matches_all;
use crate::plugins::taints;
use crate::snapshot::{NodeChange, Snapshot};
use crate::view::{NodeView, Peer, Pod, Term, label};

/// Something that happened.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    Node {
        old: Option<&'a NodeView>,
        new: &'a NodeView,
    },
    /// A pod was bound, or seen bound for the first time.
    PodPlaced(&'a Pod),
    PodChanged {
        old: &'a Pod,
        new: &'a Pod,
    },
    /// A pod that was on a node, or had room kept there, is gone.
    PodGone(&'a Pod),
    /// A claim is new or has changed: its namespace and its name.
    Claim(&'a str, &'a str),
    /// A volume or a class is new or has changed.
    Storage,
}

/// Whether a pod that these plugins rejected should be tried again. A change of the pod itself always is a reason to, if
/// it touches what placement looks at. With no plugin known (there was no node, or an error), every event is.
pub fn may_help(pod: &Pod, rejected_by: &BTreeSet<Plugin>, event: Event<'_>) -> bool {
    if let Event::PodChanged { old, new } = event
        && new.uid == pod.uid
    {
        return old != new;
    }
    rejected_by.is_empty() || rejected_by.iter().any(|plugin| helps(*plugin, pod, event))
}

fn helps(plugin: Plugin, pod: &Pod, event: Event<'_>) -> bool {
    match plugin {
        Plugin::SchedulingGates => false,
        Plugin::NodeUnschedulable => {
            node_turns(event, |node| !node.unschedulable || taints::tolerates_unschedulable(pod))
        }
        Plugin::NodeName => matches!(event, Event::Node { old: None, new } if new.name == pod.node_name),
        Plugin::TaintToleration => node_turns(event, |node| taints::tolerates(pod, &node.taints)),
        Plugin::NodeAffinity => node_turns(event, |node| required(pod, node)),
        Plugin::NodePorts => ports(pod, event),
        Plugin::NodeResourcesFit => resources(pod, event),
        Plugin::VolumeBinding => volumes(pod, event),
        Plugin::PodTopologySpread => spread(pod, event),
        Plugin::InterPodAffinity => peers(pod, event),
        Plugin::NodeResourcesBalancedAllocation | Plugin::ImageLocality => false,
    }
}

/// A node that is new and fulfils the condition, or did not fulfil it before.
fn node_turns(event: Event<'_>, holds: impl Fn(&NodeView) -> bool) -> bool {
    matches!(event, Event::Node { old, new } if holds(new) && !old.is_some_and(holds))
}

/// Whether the node has what the pod's node affinity requires.
fn required(pod: &Pod, node: &NodeView) -> bool {
    let mut alone = Snapshot::new();
    alone.apply(NodeChange::Set(node.clone()));
    let selector = crate::plugins::node_affinity::selector_of(pod);
    let matches = |row| crate::plugins::node_affinity::Required::new(&alone, pod, &selector).matches(&alone, row);
    alone.find(&node.name).is_some_and(matches)
}

fn ports(pod: &Pod, event: Event<'_>) -> bool {
    match event {
        Event::Node { old, .. } => old.is_none(),
        Event::PodGone(gone) => gone.ports.iter().any(|port| pod.ports.iter().any(|wanted| wanted.conflicts(port))),
        Event::PodPlaced(_) | Event::PodChanged { .. } | Event::Claim(..) | Event::Storage => false,
    }
}

fn volumes(pod: &Pod, event: Event<'_>) -> bool {
    match event {
        Event::Claim(namespace, name) => {
            pod.peer.namespace == namespace && pod.claims.iter().any(|claim| claim.name == name)
        }
        Event::Storage => true,
        Event::Node { old, new } => old.is_none_or(|old| old.labels != new.labels),
        Event::PodPlaced(_) | Event::PodChanged { .. } | Event::PodGone(_) => false,
    }
}

fn resources(pod: &Pod, event: Event<'_>) -> bool {
    match event {
        Event::PodGone(_) => true,
        Event::PodPlaced(_) | Event::Claim(..) | Event::Storage => false,
        Event::PodChanged { old, new } => {
            pod.requests.iter().any(|(name, amount)| *amount > 0 && of(&new.requests, name) < of(&old.requests, name))
        }
        Event::Node { old, new } => {
            let fits = pod.requests.iter().all(|(name, amount)| *amount <= of(&new.allocatable, name));
            let grew = |old: &NodeView| {
                let wanted = pod.requests.iter().filter(|(_, amount)| *amount > 0).map(|(name, _)| name.as_str());
                wanted.chain(["pods"]).any(|name| of(&new.allocatable, name) > of(&old.allocatable, name))
            };
            fits && of(&new.allocatable, "pods") > 0 && old.is_none_or(grew)
        }
    }
}

fn of(amounts: &[(corten_apimachinery::value::Str, i64)], name: &str) -> i64 {
    amounts.iter().find(|(known, _)| known == name).map_or(0, |(_, amount)| *amount)
}

fn spread(pod: &Pod, event: Event<'_>) -> bool {
    let counted = |other: &Pod| {
        other.peer.namespace == pod.peer.namespace
            && pod.spread.iter().any(|spread| spread.selector.matches(&other.peer.labels))
    };
    match event {
        Event::PodPlaced(other) | Event::PodGone(other) => counted(other),
        Event::Claim(..) | Event::Storage => false,
        Event::PodChanged { old, new } => {
            counted(old) != counted(new) || counted(new) && old.terminating != new.terminating
        }
        Event::Node { old, new } => {
            let keys = || pod.spread.iter().map(|spread| spread.topology_key.as_str());
            let has_all = |node: &NodeView| keys().all(|key| label(&node.labels, key).is_some());
            let moved = |old: &NodeView| keys().any(|key| label(&old.labels, key) != label(&new.labels, key));
            match old {
                None => has_all(new),
                Some(old) => (has_all(old) || has_all(new)) && (moved(old) || old.taints != new.taints),
            }
        }
    }
}

/// Namespaces' labels are not at hand here: a term with a selector of namespaces counts as meaning every namespace.
fn peers(pod: &Pod, event: Event<'_>) -> bool {
    let terms = &pod.peer.terms;
    let attracts = |other: &Pod| all(&terms.affinity, &other.peer);
    let repels = |other: &Pod| terms.anti.iter().any(|term| one(term, &other.peer));
    let is_repelled = |other: &Pod| other.peer.terms.anti.iter().any(|term| one(term, &pod.peer));
    match event {
        Event::PodPlaced(other) => attracts(other),
        Event::Claim(..) | Event::Storage => false,
        Event::PodGone(other) => repels(other) || is_repelled(other),
        Event::PodChanged { old, new } => !attracts(old) && attracts(new) || repels(old) && !repels(new),
        Event::Node { old: None, new } => {
            !terms.anti.is_empty() || terms.affinity.iter().any(|term| label(&new.labels, &term.topology_key).is_some())
        }
        Event::Node { old: Some(old), new } => {
            let before = |term: &Term| label(&old.labels, &term.topology_key);
            let after = |term: &Term| label(&new.labels, &term.topology_key);
            terms.affinity.iter().any(|term| after(term).is_some() && before(term) != after(term))
                || terms.anti.iter().any(|term| before(term).is_some() && before(term) != after(term))
        }
    }
}

fn one(term: &Term, peer: &Peer) -> bool {
    let anywhere = !term.namespace_selector.requirements().is_empty();
    term.matches(peer, None) || anywhere && term.selector.matches(&peer.labels)
}

fn all(terms: &[Term], peer: &Peer) -> bool {
    matches_all(terms, peer, None) || !terms.is_empty() && terms.iter().all(|term| one(term, peer))
}
