//! Whether a node can take a pod: everything that is the same for all nodes is worked out once, then each node is asked
//! in upstream's order, and the first plugin that says no gives the reason.

use corten_apimachinery::selector::label::Requirement;

use crate::outcome::Reason;
use crate::plugins::node_affinity::{self, Listed, Required};
use crate::plugins::peers::PeerState;
use crate::plugins::resources::{self, Want};
use crate::plugins::spread::SpreadState;
use crate::plugins::taints;
use crate::snapshot::{Node, Snapshot};
use crate::view::{HostPort, Labels, Pod, Spread};
use crate::volumes::Choice;

/// A pod's questions to every node.
pub(crate) struct Filter<'a> {
    pub(crate) snapshot: &'a Snapshot,
    pub(crate) pod: &'a Pod,
    pub(crate) wants: Vec<Want>,
    tolerated: Vec<bool>,
    tolerates_unschedulable: bool,
    required: Required<'a>,
}

/// What depends on the pods of the whole cluster.
#[derive(Clone, Default)]
pub(crate) struct State<'a> {
    pub(crate) spread: SpreadState<'a>,
    pub(crate) peers: PeerState,
}

/// What a node bears, where that differs from the snapshot or is cheaper to hand over.
pub(crate) struct Load<'a> {
    pub(crate) pods: i64,
    pub(crate) ports: &'a [HostPort],
    /// More (or, negative, less) than the snapshot says, by want; empty: nothing.
    pub(crate) requested: &'a [i64],
}

impl<'a> Filter<'a> {
    /// `selector` is what [`node_affinity::selector_of`] gives for the pod.
    pub(crate) fn new(snapshot: &'a Snapshot, pod: &'a Pod, selector: &'a [Requirement]) -> Self {
        Self {
            snapshot,
            pod,
            wants: resources::wants(snapshot, pod),
            tolerated: taints::tolerated_sets(snapshot, pod),
            tolerates_unschedulable: taints::tolerates_unschedulable(pod),
            required: Required::new(snapshot, pod, selector),
        }
    }

    pub(crate) fn state(&self) -> State<'a> {
        State { spread: SpreadState::new(self), peers: PeerState::new(self) }
    }

    /// The nodes that are worth asking.
    pub(crate) fn listed(&self) -> Listed {
        node_affinity::listed(self.snapshot, self.pod)
    }

    /// Asks a node as it is, and with the pods that wait for room on it.
    pub(crate) fn check(&self, node: Node, state: &State<'a>) -> Result<(), Reason> {
        self.check_node(node)?;
        let snapshot = self.snapshot;
        if !snapshot.nominated.is_empty() {
            self.check_with_nominated(node, state)?;
        }
        let pods = i64::try_from(snapshot.pods[node].len()).expect("a length fits");
        self.check_load(node, state, &Load { pods, ports: &snapshot.ports[node], requested: &[] })
    }

    /// The plugins that do not look at pods.
    pub(crate) fn check_node(&self, node: Node) -> Result<(), Reason> {
        let snapshot = self.snapshot;
        if snapshot.unschedulable[node] && !self.tolerates_unschedulable {
            return Err(Reason::Unschedulable);
        }
        if !self.pod.node_name.is_empty() && self.pod.node_name != snapshot.name(node) {
            return Err(Reason::NodeName);
        }
        if !self.tolerated[snapshot.taints[node] as usize] {
            return Err(Reason::Taints);
        }
        if !self.required.is_empty() && !self.required.matches(snapshot, node) {
            return Err(Reason::NodeAffinity);
        }
        Ok(())
    }

    /// The plugins that look at pods, and volumes, which upstream asks between them.
    pub(crate) fn check_load(&self, node: Node, state: &State<'a>, load: &Load<'_>) -> Result<(), Reason> {
        let taken = |port: &HostPort| load.ports.iter().any(|used| used.conflicts(port));
        if self.pod.ports.iter().any(taken) {
            return Err(Reason::Ports);
        }
        resources::check(self.snapshot, &self.wants, node, load)?;
        if !self.pod.volumes.is_empty() {
            self.choose_volumes(node)?;
        }
        state.spread.check(self.snapshot, node)?;
        state.peers.check(self.snapshot, self.pod, node)
    }

    /// What becomes of the pod's claims on a node.
    pub(crate) fn choose_volumes(&self, node: Node) -> Result<Vec<Choice>, Reason> {
        let view = self.snapshot.nodes[node].as_ref();
        let labels = view.map(|view| &view.labels);
        self.pod.volumes.choose(self.snapshot.name(node), labels.unwrap_or(&Labels::new()))
    }

    fn check_with_nominated(&self, node: Node, state: &State<'a>) -> Result<(), Reason> {
        let before = |other: &&std::sync::Arc<Pod>| other.uid != self.pod.uid && other.priority >= self.pod.priority;
        let nominated = self.snapshot.nominated.get(&node).into_iter().flatten();
        let mut trial: Option<Trial<'_, 'a>> = None;
        for other in nominated.filter(before) {
            trial.get_or_insert_with(|| Trial::new(self, node, state)).count(other, 1);
        }
        trial.map_or(Ok(()), |trial| trial.check())
    }

    /// Whether a spread constraint counts the pods of this node.
    pub(crate) fn includes(&self, spread: &Spread, node: Node) -> bool {
        (!spread.honors_affinity || self.required.matches(self.snapshot, node))
            && (!spread.honors_taints || self.tolerated[self.snapshot.taints[node] as usize])
    }
}

/// One node with some pods more or fewer than there are.
pub(crate) struct Trial<'f, 'a> {
    filter: &'f Filter<'a>,
    node: Node,
    state: State<'a>,
    pods: i64,
    ports: Vec<HostPort>,
    requested: Vec<i64>,
}

impl<'f, 'a> Trial<'f, 'a> {
    pub(crate) fn new(filter: &'f Filter<'a>, node: Node, state: &State<'a>) -> Self {
        Self {
            filter,
            node,
            state: state.clone(),
            pods: i64::try_from(filter.snapshot.pods[node].len()).expect("a length fits"),
            ports: filter.snapshot.ports[node].clone(),
            requested: vec![0; filter.wants.len()],
        }
    }

    /// Puts a pod there (1) or takes it away (-1).
    pub(crate) fn count(&mut self, other: &Pod, sign: i64) {
        let snapshot = self.filter.snapshot;
        self.pods += sign;
        for (sum, held) in self.requested.iter_mut().zip(resources::held(snapshot, &self.filter.wants, other)) {
            *sum = sum.wrapping_add(sign.wrapping_mul(held));
        }
        for port in &other.ports {
            match self.ports.iter().position(|used| sign < 0 && used == port) {
                Some(at) => {
                    self.ports.swap_remove(at);
                }
                None => self.ports.push(port.clone()),
            }
        }
        self.state.spread.count(snapshot, self.filter.pod, other, self.node, sign);
        self.state.peers.count(snapshot, self.filter.pod, other, self.node, sign);
    }

    pub(crate) fn check(&self) -> Result<(), Reason> {
        let load = Load { pods: self.pods, ports: &self.ports, requested: &self.requested };
        self.filter.check_load(self.node, &self.state, &load)
    }
}
