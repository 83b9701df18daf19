//! Gives every node a range of the cluster's pod addresses (`pkg/controller/nodeipam`). Which ranges are taken follows
//! from the nodes alone, so nothing is kept anywhere else; one node is looked at at a time.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use corten_apimachinery::value;
use corten_apimachinery::value::{Str, Value};
use corten_client::cache::{Key, View};
use corten_client::controller::{Controller, Next};
use corten_client::error::unless_gone;
use corten_client::events::{Recorder, Reference};
use corten_client::informer::{Informer, Scope};
use corten_client::{Client, Error, Patch};
use corten_stdx::clock::Clock;

use crate::Base;
use crate::node::NODES;

/// The longest prefix of a node's range, unless the cluster's is longer.
const NODE_PREFIX_MAX: u8 = 24;

/// The cluster's range of pod addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PodRange {
    pub network: Ipv4Addr,
    pub prefix: u8,
    /// Of the range of one node.
    pub node_prefix: u8,
}

/// The prefix length that gives a node twice as many addresses as it may have pods, so that one is free for a pod whose
/// forerunner is still ending.
pub fn node_prefix(pods_max: u16) -> u8 {
    let bits = (2 * u32::from(pods_max.max(1))).next_power_of_two().trailing_zeros();
    u8::try_from(32 - bits).expect("at least one bit, at most 17 of 32").min(NODE_PREFIX_MAX)
}

/// A node's range; empty for none.
struct Own(Str);

impl View for Own {
    fn from_object(node: &Value) -> Option<Self> {
        Some(Self(node.str_at(&["spec", "podCIDR"]).into()))
    }
}

struct Context {
    client: Client,
    clock: Clock,
    recorder: Recorder,
    range: PodRange,
    nodes: Informer<Own>,
}

pub fn controller(base: &Base, range: PodRange) -> Controller {
    let nodes = base.informers.of::<Own>(Scope::all(NODES));
    let context = Context {
        client: (base.client_of)("node-controller"),
        clock: base.clock.clone(),
        recorder: (base.recorder_of)("node-controller", "cidrAllocator"),
        range,
        nodes: nodes.clone(),
    };
    let all = nodes.clone();
    // A node that goes leaves its range to one that has none.
    let waiting = move || all.cache().all().into_iter().filter(|node| node.0.is_empty()).map(|node| node.head.key());
    Controller::new("node-ipam", Arc::new(context), reconcile)
        .watches_for(&nodes, move |node| waiting().chain([node.head.key()]).collect())
        .concurrency(1)
}

async fn reconcile(ctx: Arc<Context>, key: Key) -> Result<Next, Error> {
    let Some(node) = ctx.nodes.cache().get("", &key.name) else { return Ok(Next::Change) };
    if !node.0.is_empty() || node.head.deleting {
        return Ok(Next::Change);
    }
    let taken = ctx.nodes.cache().all().iter().filter_map(|node| bounds(&node.0)).collect();
    let Some(own) = plan(ctx.range, &taken) else {
        let note = format!("Node {} status is now: CIDRNotAvailable", key.name);
        ctx.recorder.normal(&Reference::of_head("v1", "Node", &node.head), "CIDRNotAvailable", note);
        return Ok(Next::Change);
    };
    let patch = value!({
        "metadata": {"uid": (node.head.uid.clone()), "resourceVersion": (node.head.revision.clone())},
        "spec": {"podCIDR": (own.as_str()), "podCIDRs": [(own.as_str())]}
    });
    let patched = unless_gone(ctx.client.patch(&NODES, "", &key.name, "", &Patch::Merge(patch)).await)?;
    if let Some(patched) = patched {
        // The next node must not get the same.
        ctx.nodes.caught_up(patched.str_at(&["metadata", "resourceVersion"]), &ctx.clock).await?;
    }
    Ok(Next::Change)
}

/// First and last address of a range; none where it is none of IPv4.
fn bounds(range: &str) -> Option<(u32, u32)> {
    let (network, prefix) = range.split_once('/')?;
    let (first, prefix) = (u32::from(network.parse::<Ipv4Addr>().ok()?), prefix.parse::<u32>().ok()?);
    Some((first, first | u32::MAX.checked_shr(prefix).unwrap_or_default()))
}

/// The first range that is free, given first and last addresses of those that are not, which may be of another size.
fn plan(range: PodRange, taken: &BTreeMap<u32, u32>) -> Option<String> {
    let prefix = range.node_prefix.max(range.prefix);
    let step = 1_u32.checked_shl(32 - u32::from(prefix))?;
    let count = 1_u32.checked_shl(u32::from(prefix - range.prefix))?;
    let first = u32::from(range.network);
    let mut ranges = (0..count).map(|number| first + number * step);
    let is_free = |own: &u32| taken.range(..=own + (step - 1)).next_back().is_none_or(|(_, last)| last < own);
    ranges.find(is_free).map(|own| format!("{}/{prefix}", Ipv4Addr::from(own)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(prefix: u8, taken: &[&str], expect: Option<&str>) {
        check_sized(prefix, 24, taken, expect);
    }

    fn check_sized(prefix: u8, node_prefix: u8, taken: &[&str], expect: Option<&str>) {
        let range = PodRange { network: Ipv4Addr::new(10, 244, 0, 0), prefix, node_prefix };
        let taken = taken.iter().filter_map(|own| bounds(own)).collect();
        assert_eq!(plan(range, &taken).as_deref(), expect);
    }

    #[test]
    fn ranges_of_another_size_are_not_given_twice() {
        check_sized(16, 22, &["10.244.0.0/24", "10.244.5.0/24"], Some("10.244.8.0/22"));
        check_sized(16, 24, &["10.244.0.0/22", "fd00::/64"], Some("10.244.4.0/24"));
        check_sized(22, 22, &["10.244.3.0/24"], None);
    }

    #[test]
    fn a_node_has_twice_the_addresses_of_its_pods() {
        assert_eq!([1, 110, 128, 129, 300, u16::MAX].map(node_prefix), [24, 24, 24, 23, 22, 15]);
    }

    #[test]
    fn the_first_free_range_is_taken() {
        check(16, &[], Some("10.244.0.0/24"));
        check(16, &["10.244.0.0/24", "10.244.2.0/24", ""], Some("10.244.1.0/24"));
        check(23, &["10.244.0.0/24", "10.244.1.0/24"], None);
        check(26, &[], Some("10.244.0.0/26"));
        check(26, &["10.244.0.0/26"], None);
    }
}
