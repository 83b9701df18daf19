//! Pods that are the same to other pods' rules, counted by node.

use std::sync::Arc;

use ahash::AHashMap;
use corten_apimachinery::value::Str;

use super::Node;
use crate::pool::{Pool, Slot};
use crate::view::Peer;

/// How many pods of one class a node has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) all: i64,
    pub(crate) terminating: i64,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Classes {
    peers: Pool<Arc<Peer>>,
    /// By class.
    places: Vec<AHashMap<Node, Present>>,
    by_namespace: AHashMap<Str, Vec<Slot>>,
    /// Classes with rules about other pods.
    with_terms: Vec<Slot>,
}

impl Classes {
    pub(super) fn add(&mut self, peer: &Arc<Peer>, node: Node, terminating: bool) -> Slot {
        let class = self.peers.acquire(peer);
        let at = class as usize;
        if self.places.len() <= at {
            self.places.resize_with(at + 1, AHashMap::new);
        }
        if self.places[at].is_empty() {
            self.by_namespace.entry(peer.namespace.clone()).or_default().push(class);
            if !peer.terms.is_empty() {
                self.with_terms.push(class);
            }
        }
        let present = self.places[at].entry(node).or_default();
        present.all += 1;
        present.terminating += i64::from(terminating);
        class
    }

    pub(super) fn remove(&mut self, class: Slot, node: Node, terminating: bool) {
        let places = &mut self.places[class as usize];
        let present = places.get_mut(&node).expect("a pod that is removed was added");
        present.all -= 1;
        present.terminating -= i64::from(terminating);
        if present.all == 0 {
            places.remove(&node);
        }
        if places.is_empty() {
            let namespace = self.peers.get(class).namespace.clone();
            let others = self.by_namespace.get_mut(&namespace).expect("a class is under its namespace");
            others.retain(|other| *other != class);
            if others.is_empty() {
                self.by_namespace.remove(&namespace);
            }
            self.with_terms.retain(|other| *other != class);
        }
        self.peers.release(class);
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (&Peer, &AHashMap<Node, Present>)> {
        self.peers.iter().map(|(class, peer)| (&**peer, &self.places[class as usize]))
    }

    pub(crate) fn in_namespace(&self, namespace: &str) -> impl Iterator<Item = (&Peer, &AHashMap<Node, Present>)> {
        self.by_namespace.get(namespace).into_iter().flatten().map(|class| self.get(*class))
    }

    pub(crate) fn with_terms(&self) -> impl Iterator<Item = (&Peer, &AHashMap<Node, Present>)> {
        self.with_terms.iter().map(|class| self.get(*class))
    }

    fn get(&self, class: Slot) -> (&Peer, &AHashMap<Node, Present>) {
        (self.peers.get(class), &self.places[class as usize])
    }
}
