//! Links of pods: one pair of links a pod, routed, without a bridge.
//!
//! The node's end is named `c<instance><n>`, n being the offset of the pod's address in the node's range; it carries the pod's
//! id as its alias, the node's own address in that range, and the route to the pod. So the kernel is the record of who has
//! which address: it survives whatever happens to this process, and no file can disagree with it. The pod's end is `eth0`.
//!
//! The rest of the cluster's range is unreachable (`vacant`): what is sent to a pod that is gone must not leave the server, where
//! somebody else could answer it.

mod forwarding;
mod leftover;
mod rules;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use corten_sys::namespace::NetNs;
use corten_sys::netlink;
use corten_sys::nft::Filter;
use corten_sys::route::{Address, Change, Link, Route, Routing};
use futures_core::future::BoxFuture;

use crate::links::{self, offset_of};
use crate::range::{GATEWAY, Range, Taken};
use crate::{HostPort, NetworkError, PodNetwork, could_not, vacant};
use leftover::Leftovers;
use rules::Rules;

/// The name of a pod's link inside the pod.
const POD_LINK: &str = "eth0";

/// What the pod network of a node needs to know.
#[derive(Debug)]
pub struct Settings {
    /// Tells the links of instances on one server apart: six hexadecimal digits.
    pub instance: String,
    /// The addresses of this node's pods.
    pub node_range: Range,
    /// The addresses of all pods; what goes elsewhere leaves with the node's address.
    pub cluster_range: Range,
    /// Bytes of a pod's longest packet; by default what fits into the node's own links on the way to another server.
    pub mtu: Option<u32>,
    /// Where the node's ends of the links are.
    pub host: NetNs,
    /// A folder for what several instances of this server share, until it is started anew.
    pub records: PathBuf,
}

/// The links of this node's pods.
#[derive(Clone, Debug)]
pub struct Pods(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    instance: String,
    range: Range,
    cluster: Range,
    gateway: Ipv4Addr,
    mtu: u32,
    state: Mutex<State>,
    leftovers: Leftovers,
}

#[derive(Debug)]
struct State {
    taken: Taken,
    host: Routing,
    rules: Rules,
    /// What is left of the cluster's range is unreachable.
    is_closed: bool,
}

impl Pods {
    /// Takes over the links that there are, and removes those that were made by halves.
    ///
    /// # Errors
    /// When the range clashes with somebody else's routes, or the kernel refuses.
    pub fn open(settings: Settings) -> Result<Self, NetworkError> {
        let Settings { instance, node_range: range, cluster_range, mtu, host, records } = settings;
        let failed = |error| failed("open the pod network", &error);
        let too_small = || NetworkError::NoAddress { range: range.to_string() };
        let gateway = range.at(GATEWAY).ok_or_else(too_small)?;
        let mut routing = Routing::open(&host).map_err(failed)?;
        let links = routing.links().map_err(failed)?;
        links::clash(range, &instance, &links, &routing.routes().map_err(failed)?)?;
        let mtu = mtu.unwrap_or_else(|| links::mtu_of(&links));
        let taken = adopt(&instance, range, &links, &mut routing).map_err(failed)?;
        let addresses: BTreeSet<_> = taken.offsets().filter_map(|offset| range.at(offset)).collect();
        let filter = Filter::open(&host).map_err(failed)?;
        let rules = Rules::open(filter, &instance, range, cluster_range, &addresses).map_err(failed)?;
        let leftovers = Leftovers::open(&host).map_err(failed)?;
        let mut state = State { taken, host: routing, rules, is_closed: false };
        if !addresses.is_empty() {
            state.close(&instance, cluster_range).map_err(failed)?;
        }
        forwarding::need(&instance, &host, &records)
            .map_err(|error| could_not("switch forwarding of packets on", &error))?;
        let state = Mutex::new(state);
        let inner = Inner { range, cluster: cluster_range, gateway, mtu, state, leftovers, instance };
        Ok(Self(Arc::new(inner)))
    }

    async fn on_own_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Inner) -> Result<T, NetworkError> + Send + 'static,
    ) -> Result<T, NetworkError> {
        let inner = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.unwrap_or_else(|error| Err(could_not("work on a link", &error)))
    }
}

impl PodNetwork for Pods {
    fn attach<'a>(&'a self, pod: &'a str, pid: u32) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>> {
        let id = pod.to_owned();
        Box::pin(self.on_own_thread(move |inner| {
            let inside =
                NetNs::of_process(pid).map_err(|error| could_not("open the pod's network namespace", &error))?;
            inner.attach(&id, &inside).map(|address| vec![address.into()])
        }))
    }

    fn publish<'a>(&'a self, pod: &'a str, ports: &'a [HostPort]) -> BoxFuture<'a, Result<(), NetworkError>> {
        let (id, ports) = (pod.to_owned(), ports.to_vec());
        Box::pin(self.on_own_thread(move |inner| inner.publish(&id, &ports)))
    }

    fn detach<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        let id = pod.to_owned();
        Box::pin(self.on_own_thread(move |inner| inner.detach(&id)))
    }

    fn attached(&self) -> Vec<String> {
        self.0.state().taken.pods().cloned().collect()
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // Every step of an attachment can be repeated, so a panic in the middle leaves nothing that must not be seen.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One pod at a time: the kernel takes changes of links one at a time anyway.
    fn attach(&self, pod: &str, inside: &NetNs) -> Result<Ipv4Addr, NetworkError> {
        let mut state = self.state();
        let none = || NetworkError::NoAddress { range: self.range.to_string() };
        let offset = state.taken.take(pod).ok_or_else(none)?;
        let address = self.range.at(offset).ok_or_else(none)?;
        let name = links::of_pod(&self.instance, offset);
        let ready = state.rules.ensure().and_then(|()| state.close(&self.instance, self.cluster));
        let linked = ready.and_then(|()| self.link(&mut state.host, pod, &name, address, inside));
        if linked.is_err() {
            state.taken.free(pod);
            if let Err(error) = remove(&mut state.host, &name) {
                tracing::warn!(link = name, %error, "a link made by halves is left");
            }
        }
        linked.map(|()| address).map_err(|error| failed("link the pod", &error))
    }

    fn link(
        &self,
        host: &mut Routing,
        pod: &str,
        name: &str,
        address: Ipv4Addr,
        inside: &NetNs,
    ) -> Result<(), netlink::Error> {
        let mut within = Routing::open(inside)?;
        if let Some(link) = host.link(name)? {
            let stands = within.addresses()?.iter().any(|found| found.address == IpAddr::V4(address));
            if stands {
                return Ok(());
            }
            host.apply("remove the pod's former link", &[Change::DeleteLink(link.index)])?;
        }
        let pair = Change::AddVeth { name, peer: POD_LINK, peer_in: inside, mtu: self.mtu };
        host.apply("make a pair of links", &[pair])?;
        self.route_within(&mut within, address)?;
        let link = host.link(name)?.ok_or(netlink::Error::Short { what: "look the new link up" })?;
        let gateway = IpAddr::V4(self.gateway);
        let to_pod = Route {
            destination: address.into(),
            prefix: 32,
            link: link.index,
            gateway: None,
            on_link: false,
            source: Some(gateway),
        };
        let changes = [
            Change::AddAddress(Address { link: link.index, address: gateway, prefix: 32 }),
            Change::SetRoute(to_pod),
            Change::PassLoopback(link.index),
            // Last, because a link without alias is one that is not ready.
            Change::SetAlias(link.index, pod),
        ];
        host.apply("route to the pod", &changes)
    }

    fn route_within(&self, within: &mut Routing, address: Ipv4Addr) -> Result<(), netlink::Error> {
        let missing = netlink::Error::Short { what: "look the pod's links up" };
        let link = within.link(POD_LINK)?.ok_or(missing)?.index;
        let loopback = within.links()?.into_iter().find(|link| link.loopback);
        let gateway = IpAddr::V4(self.gateway);
        let to_gateway = Route { destination: gateway, prefix: 32, link, gateway: None, on_link: false, source: None };
        let anywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
        let rest =
            Route { destination: anywhere, prefix: 0, link, gateway: Some(gateway), on_link: false, source: None };
        let mut changes = vec![Change::AddAddress(Address { link, address: address.into(), prefix: 32 })];
        changes.extend(loopback.map(|loopback| Change::SetUp(loopback.index)));
        changes.push(Change::SetUp(link));
        changes.extend([Change::SetRoute(to_gateway), Change::SetRoute(rest)]);
        within.apply("route from the pod", &changes)
    }

    fn publish(&self, pod: &str, ports: &[HostPort]) -> Result<(), NetworkError> {
        let mut state = self.state();
        let address = state.taken.of(pod).and_then(|offset| self.range.at(offset));
        let address = address.ok_or_else(|| NetworkError::Unlinked { pod: pod.to_owned() })?;
        state.rules.publish(address, ports).map_err(|error| failed("publish the pod's ports", &error))
    }

    /// The address is somebody else's only when nothing is left of this pod's connections; others come and go meanwhile.
    fn detach(&self, pod: &str) -> Result<(), NetworkError> {
        let Some(address) = self.unlink(pod).map_err(|error| failed("unlink the pod", &error))? else { return Ok(()) };
        if let Err(error) = self.leftovers.end(address) {
            tracing::warn!(pod, %error, "clients of a pod that is gone may wait for it");
        }
        self.state().taken.free(pod);
        Ok(())
    }

    /// Gives the pod's address, if it had one.
    fn unlink(&self, pod: &str) -> Result<Option<Ipv4Addr>, netlink::Error> {
        let mut state = self.state();
        let Some(offset) = state.taken.of(pod) else { return Ok(None) };
        let Some(address) = self.range.at(offset) else { return Ok(None) };
        state.rules.publish(address, &[])?;
        remove(&mut state.host, &links::of_pod(&self.instance, offset))?;
        Ok(Some(address))
    }
}

impl State {
    fn close(&mut self, instance: &str, range: Range) -> Result<(), netlink::Error> {
        if !self.is_closed {
            vacant::set(instance, Some(range), &mut self.host)?;
            self.is_closed = true;
        }
        Ok(())
    }
}

/// Takes over complete links, and removes the others.
fn adopt(instance: &str, range: Range, links: &[Link], host: &mut Routing) -> Result<Taken, netlink::Error> {
    let mut taken = Taken::new(range);
    for link in links {
        let Some(offset) = offset_of(instance, &link.name) else { continue };
        if link.alias.is_empty() || !taken.adopt(&link.alias, offset) {
            host.apply("remove a link made by halves", &[Change::DeleteLink(link.index)])?;
        }
    }
    Ok(taken)
}

/// Removes all links of an instance, and its rules for pods; puts back what was switched for it.
///
/// # Errors
/// When the kernel refuses.
pub fn purge(instance: &str, host: &NetNs, records: &Path) -> Result<(), NetworkError> {
    let failed = |error| failed("remove the pods' links", &error);
    let mut routing = Routing::open(host).map_err(failed)?;
    for link in routing.links().map_err(failed)? {
        if offset_of(instance, &link.name).is_some() {
            remove(&mut routing, &link.name).map_err(failed)?;
        }
    }
    vacant::set(instance, None, &mut routing).map_err(failed)?;
    Filter::open(host).and_then(|filter| rules::purge(filter, instance)).map_err(failed)?;
    forwarding::done(instance, host, records).map_err(|error| could_not("put forwarding of packets back", &error))
}

/// A link may go by itself at any moment: with the namespace of its other end.
fn remove(host: &mut Routing, name: &str) -> Result<(), netlink::Error> {
    let Some(link) = host.link(name)? else { return Ok(()) };
    match host.apply("remove a link", &[Change::DeleteLink(link.index)]) {
        Err(error) if error.errno() == Some(rustix::io::Errno::NODEV) => Ok(()),
        other => other,
    }
}

fn failed(what: &str, error: &netlink::Error) -> NetworkError {
    could_not(what, error)
}
