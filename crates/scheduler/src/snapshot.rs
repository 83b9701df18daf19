//! The cluster as the scheduler sees it: one column a property, one row a node, changed in place.
//!
//! A pod may be known before its node is, and stays known after its node has gone; such a row has pods but no node, and
//! placement does not see it.

mod classes;
mod labels;

use std::sync::Arc;

use ahash::AHashMap;
use corten_apimachinery::value::Str;

pub(crate) use classes::{Classes, Present};
pub(crate) use labels::LabelColumns;

use crate::pool::{Pool, Slot};
use crate::view::{HostPort, Labels, NodeView, Pod, Taint};

/// The number of a row.
pub(crate) type Node = usize;

pub(crate) const CPU: usize = 0;
pub(crate) const MEMORY: usize = 1;

/// What can happen to nodes and namespaces.
#[derive(Clone, Debug)]
pub enum NodeChange {
    /// A node is new or has changed.
    Set(NodeView),
    Removed(Str),
    /// What a node was seen to use: thousandths of a CPU, and bytes of memory.
    Used(Str, (i64, i64)),
    /// A namespace is new or has changed; selectors of namespaces look at its labels.
    Namespace(Str, Labels),
    NamespaceRemoved(Str),
}

/// A pod that the snapshot does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the snapshot holds no pod with uid {0:?}")]
pub struct UnknownPod(pub Str);

/// The cluster.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    rows: AHashMap<Str, Node>,
    free: Vec<Node>,
    /// Absent: the row has no node, perhaps still pods.
    pub(crate) nodes: Vec<Option<Arc<NodeView>>>,
    pub(crate) node_count: usize,
    /// A number of the name, for ties.
    pub(crate) name_hash: Vec<u64>,
    pub(crate) unschedulable: Vec<bool>,
    pub(crate) taints: Vec<Slot>,
    pub(crate) taint_sets: Pool<Vec<Taint>>,
    pub(crate) labels: LabelColumns,
    resources: AHashMap<Str, usize>,
    /// By resource and row.
    pub(crate) allocatable: Vec<Vec<i64>>,
    pub(crate) requested: Vec<Vec<i64>>,
    /// What pods ask for with a minimum for those that ask for nothing.
    usual_cpu: Vec<i64>,
    usual_memory: Vec<i64>,
    /// What a node was seen to use beyond what its pods had asked for at that time; for scores.
    beyond: Vec<(i64, i64)>,
    pub(crate) pods_max: Vec<i64>,
    pub(crate) ports: Vec<Vec<HostPort>>,
    /// Sizes by image and row.
    pub(crate) images: AHashMap<Str, AHashMap<Node, i64>>,
    pub(crate) pods: Vec<Vec<Arc<Pod>>>,
    pub(crate) classes: Classes,
    placed: AHashMap<Str, Placed>,
    pub(crate) namespaces: AHashMap<Str, Labels>,
    /// Pods that wait for room on a row.
    pub(crate) nominated: AHashMap<Node, Vec<Arc<Pod>>>,
}

#[derive(Clone, Debug)]
struct Placed {
    node: Node,
    class: Slot,
}

impl Snapshot {
    pub fn new() -> Self {
        let mut new = Self::default();
        assert_eq!((new.resource("cpu"), new.resource("memory")), (CPU, MEMORY), "resources are numbered in order");
        new
    }

    pub fn apply(&mut self, change: NodeChange) {
        match change {
            NodeChange::Set(node) => self.set_node(node),
            NodeChange::Removed(name) => {
                if let Some(&node) = self.rows.get(&name) {
                    self.clear_node(node);
                    self.beyond[node] = (0, 0);
                    self.drop_row(node, &name);
                }
            }
            NodeChange::Used(name, (cpu, memory)) => {
                if let Some(node) = self.find(&name) {
                    let beyond = |used: i64, asked: i64| used.saturating_sub(asked).max(0);
                    self.beyond[node] = (beyond(cpu, self.usual_cpu[node]), beyond(memory, self.usual_memory[node]));
                }
            }
            NodeChange::Namespace(name, labels) => {
                self.namespaces.insert(name, labels);
            }
            NodeChange::NamespaceRemoved(name) => {
                self.namespaces.remove(&name);
            }
        }
    }

    /// Counts a pod at a node, whether it is bound there already or will be. A pod that is known is moved or changed.
    pub fn assume(&mut self, pod: &Arc<Pod>, node: &str) {
        if let Some(placed) = self.placed.remove(&pod.uid) {
            self.take_out(&pod.uid, placed);
        }
        let row = self.row(node);
        let class = self.classes.add(&pod.peer, row, pod.terminating);
        self.charge(row, pod, 1);
        self.ports[row].extend(pod.ports.iter().cloned());
        self.pods[row].push(pod.clone());
        self.placed.insert(pod.uid.clone(), Placed { node: row, class });
        self.forget_nomination(&pod.uid);
    }

    /// Takes a pod out: it has ended, was deleted, or could not be bound.
    pub fn forget(&mut self, uid: &str) -> Result<(), UnknownPod> {
        let placed = self.placed.remove(uid).ok_or_else(|| UnknownPod(uid.into()))?;
        self.take_out(uid, placed);
        Ok(())
    }

    /// Keeps room for a pod on a node that victims are leaving.
    pub fn nominate(&mut self, pod: &Arc<Pod>, node: &str) {
        self.forget_nomination(&pod.uid);
        let row = self.row(node);
        self.nominated.entry(row).or_default().push(pod.clone());
    }

    /// Keeps no room any more. Unknown pods have none.
    pub fn forget_nomination(&mut self, uid: &str) {
        if self.nominated.is_empty() {
            return;
        }
        let found = self.nominated.iter_mut().find(|(_, pods)| pods.iter().any(|pod| pod.uid == uid));
        let Some((&row, pods)) = found else { return };
        pods.retain(|pod| pod.uid != uid);
        if pods.is_empty() {
            self.nominated.remove(&row);
            self.drop_empty_row(row);
        }
    }

    /// Pods of lower priority than another one that wait for room on the same node.
    pub fn outbid(&self, node: &str, by: &Pod) -> Vec<Arc<Pod>> {
        let waiting = self.rows.get(node).and_then(|row| self.nominated.get(row));
        let lower = waiting.into_iter().flatten().filter(|pod| pod.priority < by.priority && pod.uid != by.uid);
        lower.cloned().collect()
    }

    /// The names of the nodes, in no order.
    pub fn node_names(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().flatten().map(|node| node.name.as_str())
    }

    /// The pods that are counted at a node.
    pub fn pods_on(&self, node: &str) -> &[Arc<Pod>] {
        self.rows.get(node).map_or(&[], |row| &self.pods[*row])
    }

    pub(crate) fn find(&self, name: &str) -> Option<Node> {
        self.rows.get(name).copied().filter(|node| self.nodes[*node].is_some())
    }

    /// CPU and memory that scores take for used: what pods have asked for, and what else was seen.
    pub(crate) fn taken(&self, node: Node) -> (i64, i64) {
        let (cpu, memory) = self.beyond[node];
        (self.usual_cpu[node].wrapping_add(cpu), self.usual_memory[node].wrapping_add(memory))
    }

    pub(crate) fn live(&self) -> impl Iterator<Item = Node> + '_ {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].is_some())
    }

    pub(crate) fn name(&self, node: Node) -> &str {
        self.nodes[node].as_ref().map_or("", |node| &node.name)
    }

    pub(crate) fn resource_of(&self, name: &str) -> Option<usize> {
        self.resources.get(name).copied()
    }

    pub(crate) fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        self.namespaces.get(namespace)
    }

    fn set_node(&mut self, node: NodeView) {
        let row = self.row(&node.name);
        self.clear_node(row);
        self.labels.set(row, &node.labels);
        self.taints[row] = self.taint_sets.acquire(&node.taints);
        self.unschedulable[row] = node.unschedulable;
        for (name, amount) in &node.allocatable {
            if name == "pods" {
                self.pods_max[row] = *amount;
            } else {
                let resource = self.resource(name);
                self.allocatable[resource][row] = *amount;
            }
        }
        for image in &node.images {
            for name in &image.names {
                self.images.entry(name.clone()).or_default().insert(row, image.bytes);
            }
        }
        self.nodes[row] = Some(Arc::new(node));
        self.node_count += 1;
    }

    /// Empties the columns that tell of a node; those that tell of its pods stay.
    fn clear_node(&mut self, row: Node) {
        let Some(node) = self.nodes[row].take() else { return };
        self.node_count -= 1;
        self.labels.clear(row, &node.labels);
        self.taint_sets.release(self.taints[row]);
        self.pods_max[row] = 0;
        for column in &mut self.allocatable {
            column[row] = 0;
        }
        for name in node.images.iter().flat_map(|image| &image.names) {
            if let Some(sizes) = self.images.get_mut(name) {
                sizes.remove(&row);
                if sizes.is_empty() {
                    self.images.remove(name);
                }
            }
        }
    }

    fn drop_row(&mut self, row: Node, name: &str) {
        if self.pods[row].is_empty() && !self.nominated.contains_key(&row) {
            self.rows.remove(name);
            self.free.push(row);
        }
    }

    /// Gives up a row that has neither node nor pods.
    fn drop_empty_row(&mut self, row: Node) {
        if self.nodes[row].is_none() && self.pods[row].is_empty() && !self.nominated.contains_key(&row) {
            let name = self.rows.iter().find(|(_, known)| **known == row).map(|(name, _)| name.clone());
            self.drop_row(row, &name.expect("a row in use has a name"));
        }
    }

    /// The row of a node's name, made if there is none.
    fn row(&mut self, name: &str) -> Node {
        if let Some(&row) = self.rows.get(name) {
            return row;
        }
        let row = self.free.pop().unwrap_or_else(|| self.grow());
        self.rows.insert(name.into(), row);
        self.name_hash[row] = hash(name);
        row
    }

    fn grow(&mut self) -> Node {
        self.nodes.push(None);
        self.name_hash.push(0);
        self.unschedulable.push(false);
        self.taints.push(0);
        self.usual_cpu.push(0);
        self.usual_memory.push(0);
        self.beyond.push((0, 0));
        self.pods_max.push(0);
        self.ports.push(Vec::new());
        self.pods.push(Vec::new());
        for column in self.allocatable.iter_mut().chain(&mut self.requested) {
            column.push(0);
        }
        self.nodes.len() - 1
    }

    /// The number of a resource, made if there is none.
    fn resource(&mut self, name: &str) -> usize {
        if let Some(&known) = self.resources.get(name) {
            return known;
        }
        let next = self.allocatable.len();
        self.resources.insert(name.into(), next);
        self.allocatable.push(vec![0; self.nodes.len()]);
        self.requested.push(vec![0; self.nodes.len()]);
        next
    }

    fn charge(&mut self, row: Node, pod: &Pod, sign: i64) {
        for (name, amount) in &pod.requests {
            let resource = self.resource(name);
            add(&mut self.requested[resource][row], sign, *amount);
        }
        add(&mut self.usual_cpu[row], sign, pod.usual_held.0);
        add(&mut self.usual_memory[row], sign, pod.usual_held.1);
    }

    fn take_out(&mut self, uid: &str, Placed { node, class }: Placed) {
        let at = self.pods[node].iter().position(|pod| pod.uid == uid).expect("a placed pod is at its node");
        let pod = self.pods[node].swap_remove(at);
        self.classes.remove(class, node, pod.terminating);
        self.charge(node, &pod, -1);
        for port in &pod.ports {
            let at = self.ports[node].iter().position(|taken| taken == port).expect("a pod's ports are taken");
            self.ports[node].swap_remove(at);
        }
        self.drop_empty_row(node);
    }
}

/// Sums wrap, as upstream's do: what was added can always be taken out again.
fn add(sum: &mut i64, sign: i64, amount: i64) {
    *sum = sum.wrapping_add(sign.wrapping_mul(amount));
}

/// FNV-1a: the same on every machine and in every run.
fn hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
