//! Nodes as the servers that this node's kernel leads to ([`corten_network::overlay`]).
//!
//! All nodes but this one are told at once, whether they are ready or not: a server that is cut off keeps its pods. One without an
//! address or a range yet is none. What is told is the same for the same nodes in whatever order they came, so of two that claim
//! the same range it is always the same one that is refused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use corten_client::cache::{Held, Key};
use corten_client::controller::{Controller, Next};
use corten_client::informer::{Informer, Scope};
use corten_client::{Error, Informers};
use corten_network::NetworkError;
use corten_network::overlay::{Overlay, Peer};

use crate::view::{NODES, Node};

/// How often the kernel is compared with what it should have. Changes do not wait for that: it tells what they missed.
const CHECK_PERIOD: Duration = Duration::from_secs(600);

struct Context {
    /// This node's name.
    own: String,
    nodes: Informer<Node>,
    told: Mutex<Told>,
    /// Feeds the cache for as long as it is held.
    _informers: Informers,
}

struct Told {
    overlay: Overlay,
    /// What it was told, if it could do all of that.
    peers: Option<Vec<Peer>>,
}

/// Leads this node's kernel to all nodes but the one of this name, which is this one. Whoever `informers` read as must be allowed
/// to list and watch nodes, as the role of nodes' data paths is. It is to run on each node, whoever else leads, as soon as this
/// node has a range: the overlay is opened with it. Nothing of it must be waited for.
pub fn controller(informers: &Informers, own: String, overlay: Overlay) -> Controller {
    let nodes = informers.of::<Node>(Scope::all(NODES));
    let told = Mutex::new(Told { overlay, peers: None });
    let context = Arc::new(Context { own, nodes, told, _informers: informers.clone() });
    Controller::new("servers", context.clone(), reconcile)
        .watches_for(&context.nodes, |_| vec![change()])
        // Those of an earlier process go, even if there is no node any more.
        .begins(|mark| mark.now(check()))
        .concurrency(1)
}

fn change() -> Key {
    Key::new("", "change")
}

fn check() -> Key {
    Key::new("", "check")
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let is_check = key == check();
    let wanted = peers(&ctx.own, &ctx.nodes.cache().all());
    // The kernel is compared with what it is to have by every change.
    let mut told = ctx.told.lock().unwrap_or_else(PoisonError::into_inner);
    let done = told.lead(wanted).and_then(|()| if is_check { told.check() } else { Ok(()) });
    let next = if is_check { Next::After(CHECK_PERIOD) } else { Next::Change };
    done.map(|()| next).map_err(|error| Error::Outside(Box::new(error)))
}

impl Told {
    fn lead(&mut self, wanted: Vec<Peer>) -> Result<(), NetworkError> {
        // Nodes say often that they are well.
        if self.peers.as_ref() == Some(&wanted) {
            return Ok(());
        }
        let had_any = self.peers.take().is_some_and(|before| !before.is_empty());
        self.overlay.set(&wanted)?;
        // A server that is alone has nothing to tell.
        if had_any || !wanted.is_empty() {
            tracing::info!(servers = wanted.len(), "the other servers that are led to");
        }
        self.peers = Some(wanted);
        Ok(())
    }

    fn check(&mut self) -> Result<(), NetworkError> {
        let differences = self.overlay.check()?;
        if !differences.is_empty() {
            tracing::warn!(?differences, "the way to other servers was not as it was left; put right");
        }
        Ok(())
    }
}

/// The oldest first.
fn peers(own: &str, nodes: &[Arc<Held<Node>>]) -> Vec<Peer> {
    let mut others: Vec<_> = nodes.iter().filter(|node| node.head.name != own).collect();
    others.sort_by_key(|node| (&node.created, &node.head.name));
    others.iter().filter_map(|node| Some(Peer { range: node.range?, address: node.address? })).collect()
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;
    use corten_apimachinery::value::Value;

    use super::*;

    fn node(name: &str, created: &str, ranges: Value, addresses: Value) -> Value {
        value!({"metadata": {"name": (name), "creationTimestamp": (created)}, "spec": {"podCIDRs": (ranges)},
            "status": {"addresses": (addresses)}})
    }

    fn internal(address: &str) -> Value {
        value!([{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": (address)}])
    }

    fn check(nodes: &[Value], expect: &[(&str, &str)]) {
        let held: Vec<_> = nodes.iter().map(|node| Arc::new(Held::from_object(node).expect("of interest"))).collect();
        let peers = peers("own", &held);
        let shown: Vec<_> = peers.iter().map(|peer| (peer.range.to_string(), peer.address.to_string())).collect();
        let expect: Vec<_> = expect.iter().map(|(range, address)| (range.to_string(), address.to_string())).collect();
        assert_eq!(shown, expect);
    }

    #[test]
    fn all_others_that_can_be_reached() {
        let ranges = |range: &str| value!([(range)]);
        check(
            &[
                node("b", "2026-01-02T00:00:00Z", ranges("10.244.2.0/24"), internal("192.0.2.2")),
                node("a", "2026-01-03T00:00:00Z", ranges("10.244.3.0/24"), internal("192.0.2.3")),
                node("own", "2026-01-01T00:00:00Z", ranges("10.244.1.0/24"), internal("192.0.2.1")),
                node("new", "2026-01-04T00:00:00Z", Value::Null, internal("192.0.2.4")),
                node("dumb", "2026-01-04T00:00:00Z", ranges("10.244.5.0/24"), value!([])),
            ],
            &[("10.244.2.0/24", "192.0.2.2"), ("10.244.3.0/24", "192.0.2.3")],
        );
    }

    #[test]
    fn the_first_of_this_family_counts() {
        let both = value!([{"type": "InternalIP", "address": "fd00::2"}, {"type": "ExternalIP", "address": "203.0.113.2"},
            {"type": "InternalIP", "address": "192.0.2.2"}, {"type": "InternalIP", "address": "192.0.2.3"}]);
        check(&[node("a", "", value!(["fd00:1::/64", "10.244.2.0/24"]), both)], &[("10.244.2.0/24", "192.0.2.2")]);
        let single = value!({"metadata": {"name": "a"}, "spec": {"podCIDR": "10.244.2.0/24"},
            "status": {"addresses": (internal("192.0.2.2"))}});
        check(&[single], &[("10.244.2.0/24", "192.0.2.2")]);
        check(&[node("a", "", value!(["fd00:1::/64"]), internal("192.0.2.2"))], &[]);
    }
}
