//! The way to pods of other servers: one link a node, `c<instance>x`, that wraps their packets into UDP datagrams (VXLAN).
//!
//! Nothing is learned from packets and nothing is asked on the network: hardware addresses follow from the nodes' ranges (`plan`),
//! so a list of ranges and addresses is all that a node must be told. For each other server there are a route with that server's
//! own pod address as gateway, a neighbour entry, and a forwarding entry. The kernel is the record: [`Overlay::open`] goes on with
//! what an earlier process left, [`Overlay::set`] changes what differs and nothing else, and [`Overlay::check`] puts right what
//! somebody has meddled with. The link is there while there are other servers, so a server that is alone opens no port.
//!
//! What leaves by the link has an address of the cluster, if need be this node's own, and what comes in must have a sender whose
//! route leads back (`rules`). Datagrams are taken from the other servers alone. What is sent to a server that is one no more is
//! unreachable.

mod plan;
mod rules;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use corten_sys::namespace::NetNs;
use corten_sys::netlink;
use corten_sys::nft::Filter;
use corten_sys::route::{Change, Found, Link, Route, Routing, Vxlan};
use rustix::io::Errno;

use crate::range::{GATEWAY, Range};
use crate::{NetworkError, could_not, links, vacant};
use plan::Ways;
use rules::Rules;

/// The port that is registered for this (RFC 7348).
pub const PORT: u16 = 4789;

/// What a node needs to know to reach the others.
#[derive(Debug)]
pub struct Settings {
    /// Tells the links of instances on one server apart: six hexadecimal digits.
    pub instance: String,
    /// The addresses of this node's pods.
    pub node_range: Range,
    /// The addresses of all pods.
    pub cluster_range: Range,
    /// This server's, where the others reach it.
    pub address: Ipv4Addr,
    /// Bytes of the longest packet, as for [`crate::pods::Settings::mtu`].
    pub mtu: Option<u32>,
    /// The UDP port of all servers of the cluster.
    pub port: u16,
    /// Below 2²⁴, the same on all servers of the cluster and another one than that of every other network at this port.
    pub number: u32,
    /// Where the link is.
    pub host: NetNs,
}

/// Another server of the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Peer {
    /// The addresses of its pods.
    pub range: Range,
    /// Its own, where this server reaches it.
    pub address: Ipv4Addr,
}

/// The way to the other servers.
#[derive(Debug)]
pub struct Overlay {
    instance: String,
    node_range: Range,
    cluster_range: Range,
    gateway: Ipv4Addr,
    /// As the link is to be.
    link: Vxlan,
    peers: Vec<Peer>,
    routing: Routing,
    rules: Rules,
}

/// What was put right, and who could not be.
#[derive(Debug, Default)]
struct Outcome {
    differences: Vec<String>,
    refused: Option<NetworkError>,
}

impl Overlay {
    /// Goes on with what there is; the servers that an earlier process was told of stay until the first [`Self::set`].
    ///
    /// # Errors
    /// When the range is too small, or the kernel refuses.
    pub fn open(settings: Settings) -> Result<Self, NetworkError> {
        let failed = |error: netlink::Error| could_not("open the way to other servers", &error);
        let gateway = settings.node_range.at(GATEWAY);
        let gateway = gateway.ok_or_else(|| NetworkError::NoAddress { range: settings.node_range.to_string() })?;
        let mut routing = Routing::open(&settings.host).map_err(failed)?;
        let filter = Filter::open(&settings.host).map_err(failed)?;
        let mtu = match settings.mtu {
            Some(mtu) => mtu,
            None => links::mtu_of(&routing.links().map_err(failed)?),
        };
        let link = Vxlan {
            name: links::overlay(&settings.instance),
            mac: plan::mac(settings.node_range),
            mtu,
            number: settings.number,
            port: settings.port,
            local: settings.address,
            learns: false,
        };
        let rules = Rules::new(filter, &settings, &link);
        let Settings { instance, node_range, cluster_range, .. } = settings;
        let mut overlay =
            Self { instance, node_range, cluster_range, gateway, link, peers: Vec::new(), routing, rules };
        overlay.adopt()?;
        Ok(overlay)
    }

    /// Leads to these servers and to no others.
    ///
    /// # Errors
    /// When the kernel refuses, or when one of the servers cannot be as it is said to be; all others are led to nevertheless.
    pub fn set(&mut self, peers: &[Peer]) -> Result<(), NetworkError> {
        self.peers = peers.to_vec();
        let outcome = self.converge()?;
        outcome.refused.map_or(Ok(()), Err)
    }

    /// Compares what the kernel has with what it should have, and says what differed; that is put right.
    ///
    /// # Errors
    /// As [`Self::set`].
    pub fn check(&mut self) -> Result<Vec<String>, NetworkError> {
        let outcome = self.converge()?;
        outcome.refused.map_or(Ok(outcome.differences), Err)
    }

    /// The packet filter is written anew: a later version of this program may have other rules.
    fn adopt(&mut self) -> Result<(), NetworkError> {
        let failed = |error| could_not("look at the way to other servers", &error);
        let Some(found) = self.routing.vxlan(&self.link.name).map_err(failed)? else { return Ok(()) };
        let ways = self.ways(&found).map_err(failed)?;
        self.peers = ways.peers();
        self.rules.forget();
        if let Some(refused) = self.converge()?.refused {
            tracing::warn!(%refused, "another server is not led to any more");
        }
        Ok(())
    }

    /// What is no more is closed before anything that led there goes.
    fn converge(&mut self) -> Result<Outcome, NetworkError> {
        let failed = |error| could_not("lead to other servers", &error);
        let links = self.routing.links().map_err(failed)?;
        let (peers, refused) = self.admit(&links).map_err(failed)?;
        let mut outcome = Outcome { differences: Vec::new(), refused };
        if peers.is_empty() {
            self.leave().map_err(failed)?;
            return Ok(outcome);
        }
        vacant::set(&self.instance, Some(self.cluster_range), &mut self.routing).map_err(failed)?;
        let addresses: BTreeSet<_> = peers.iter().map(|peer| peer.address).collect();
        outcome.differences.extend(self.rules.set(&addresses).map_err(failed)?);
        let link = self.ready(&mut outcome.differences)?;
        let found = self.ways(&link).map_err(failed)?;
        let (changes, differences) = found.to(&Ways::of(self.gateway, &peers), link.index);
        if !changes.is_empty() {
            self.routing.apply("lead to other servers", &changes).map_err(failed)?;
        }
        outcome.differences.extend(differences);
        Ok(outcome)
    }

    /// Those that can be led to, and why the first of the others cannot.
    fn admit(&mut self, links: &[Link]) -> Result<(Vec<Peer>, Option<NetworkError>), netlink::Error> {
        let routes: Vec<Route> = self.routing.routes()?;
        let (mut admitted, mut refused) = (Vec::<Peer>::new(), None);
        for peer in &self.peers {
            let possible = plan::possible(peer, self, &admitted)
                .and_then(|()| links::clash(peer.range, &self.instance, links, &routes));
            match possible {
                Ok(()) => admitted.push(*peer),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        Ok((admitted, refused))
    }

    /// The link, made anew where it is another one than it should be.
    fn ready(&mut self, differences: &mut Vec<String>) -> Result<Found, NetworkError> {
        let Vxlan { number, port, .. } = self.link;
        let failed = |error: netlink::Error| match error.errno() {
            Some(Errno::EXIST) => NetworkError::NumberTaken { number, port },
            _ => could_not("make the link to other servers", &error),
        };
        let found = self.routing.vxlan(&self.link.name).map_err(failed)?;
        if let Some(found) = &found
            && (Vxlan { mtu: self.link.mtu, ..found.vxlan.clone() }) == self.link
        {
            self.mend(found, differences).map_err(failed)?;
            return Ok(found.clone());
        }
        differences.push(format!("the link {}", self.link.name));
        remove(&mut self.routing, &self.link.name).map_err(failed)?;
        self.routing.apply("make the link", &[Change::AddVxlan(self.link.clone())]).map_err(failed)?;
        let made = self.routing.vxlan(&self.link.name).map_err(failed)?;
        let made = made.ok_or_else(|| failed(netlink::Error::Short { what: "look the new link up" }))?;
        self.routing.apply("let the loopback use it", &[Change::PassLoopback(made.index)]).map_err(failed)?;
        Ok(made)
    }

    fn mend(&mut self, found: &Found, differences: &mut Vec<String>) -> Result<(), netlink::Error> {
        let mut changes = Vec::new();
        if found.vxlan.mtu != self.link.mtu {
            differences.push(format!("the longest packet of {}", self.link.name));
            changes.push(Change::SetMtu(found.index, self.link.mtu));
        }
        if !found.up {
            differences.push(format!("{} is down", self.link.name));
            changes.push(Change::SetUp(found.index));
        }
        if changes.is_empty() { Ok(()) } else { self.routing.apply("mend the link", &changes) }
    }

    fn ways(&mut self, link: &Found) -> Result<Ways, netlink::Error> {
        let routing = &mut self.routing;
        let (addresses, routes) = (routing.addresses()?, routing.routes()?);
        Ok(Ways::found(link.index, &addresses, &routes, &routing.neighbours()?, &routing.forwardings()?))
    }

    /// There are no other servers.
    fn leave(&mut self) -> Result<(), netlink::Error> {
        remove(&mut self.routing, &self.link.name)?;
        self.rules.remove()
    }
}

/// Removes what an instance has for reaching other servers.
///
/// # Errors
/// When the kernel refuses.
pub fn purge(instance: &str, host: &NetNs) -> Result<(), NetworkError> {
    let failed = |error| could_not("remove the way to other servers", &error);
    let mut routing = Routing::open(host).map_err(failed)?;
    remove(&mut routing, &links::overlay(instance)).map_err(failed)?;
    vacant::set(instance, None, &mut routing).map_err(failed)?;
    Filter::open(host).and_then(|filter| rules::purge(filter, instance)).map_err(failed)
}

fn remove(routing: &mut Routing, name: &str) -> Result<(), netlink::Error> {
    let Some(link) = routing.link(name)? else { return Ok(()) };
    routing.apply("remove the link to other servers", &[Change::DeleteLink(link.index)])
}
