//! Links, addresses and routes of one network namespace, rtnetlink(7). Changes are data; [`Routing::apply`] carries them out.

mod neighbour;
mod vxlan;

pub use neighbour::{Forwarding, Mac, Neighbour};
pub use vxlan::{Found, Vxlan};

use std::net::IpAddr;

use rustix::io::Errno;

use crate::namespace::NetNs;
use crate::netlink::{Attribute, Attributes, Error, Messages, Protocol, Reply, Socket};

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const GET_LINK: u16 = 18;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const GET_ADDRESS: u16 = 22;
const NEW_ROUTE: u16 = 24;
const DELETE_ROUTE: u16 = 25;
const GET_ROUTE: u16 = 26;

const LINK_NAME: u16 = 3;
const LINK_MTU: u16 = 4;
const LINK_INFO: u16 = 18;
const LINK_ALIAS: u16 = 20;
const LINK_FAMILIES: u16 = 26;
const LINK_NAMESPACE_FD: u16 = 28;
const OF_IPV4: u16 = 2;
const IPV4_SWITCHES: u16 = 1;
const SWITCH_LOOPBACK: u16 = 26;
const INFO_KIND: u16 = 1;
const INFO_DATA: u16 = 2;
const VETH_PEER: u16 = 1;

const ADDRESS_ADDRESS: u16 = 1;
const ADDRESS_LOCAL: u16 = 2;

const ROUTE_DESTINATION: u16 = 1;
const ROUTE_LINK: u16 = 4;
const ROUTE_GATEWAY: u16 = 5;
const ROUTE_METRIC: u16 = 6;
const ROUTE_SOURCE: u16 = 7;
const ROUTE_TABLE: u16 = 15;

const DUMP: u16 = 0x300;
const REPLACE: u16 = 0x100;
const EXCLUSIVE: u16 = 0x200;
const CREATE: u16 = 0x400;

const UP: u32 = 1;
const LOOPBACK: u32 = 8;

const TABLE_MAIN: u8 = 254;
const SCOPE_GLOBAL: u8 = 0;
const SCOPE_LINK: u8 = 253;
/// A route's gateway is on its link, though no route says so.
const ON_LINK: u32 = 4;
const TYPE_UNICAST: u8 = 1;
const TYPE_UNREACHABLE: u8 = 7;
/// As ip(8) marks the routes that it makes.
const MADE_BY_BOOT: u8 = 3;

const LINK_FIXED: usize = 16;
const ADDRESS_FIXED: usize = 8;
const ROUTE_FIXED: usize = 12;

/// The longest name that the kernel takes.
pub const LINK_NAME_MAX: usize = 15;

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// A text that whoever made the link has put on it.
    pub alias: String,
    pub mtu: u32,
    pub up: bool,
    pub loopback: bool,
}

/// An address on a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Address {
    pub link: u32,
    pub address: IpAddr,
    pub prefix: u8,
}

/// A route of the main table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    pub destination: IpAddr,
    pub prefix: u8,
    pub link: u32,
    pub gateway: Option<IpAddr>,
    /// The gateway is taken to be on the link, though no route leads to it.
    pub on_link: bool,
    /// The address that connections from here get.
    pub source: Option<IpAddr>,
}

/// A route of the main table that leads nowhere: who sends there is told so, unless a longer prefix leads somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreachable {
    pub destination: IpAddr,
    pub prefix: u8,
    /// Routes with a smaller one come first; each may be there once.
    pub metric: u32,
}

/// What is to be changed.
#[derive(Debug)]
pub enum Change<'a> {
    /// Two links that are joined: `name` here, up, and `peer` in another namespace, which is down.
    AddVeth {
        name: &'a str,
        peer: &'a str,
        peer_in: &'a NetNs,
        mtu: u32,
    },
    /// A link to other servers, up.
    AddVxlan(Vxlan),
    SetUp(u32),
    /// Bytes of the longest packet of a link.
    SetMtu(u32, u32),
    SetAlias(u32, &'a str),
    /// Lets addresses of the loopback be used across this link (`route_localnet`).
    PassLoopback(u32),
    DeleteLink(u32),
    /// An address that is there already is no error.
    AddAddress(Address),
    DeleteAddress(Address),
    /// Takes the place of one with the same destination.
    SetRoute(Route),
    DeleteRoute(Route),
    /// One that is there already is no error.
    AddUnreachable(Unreachable),
    DeleteUnreachable(Unreachable),
    /// Takes the place of the one with the same address.
    SetNeighbour(Neighbour),
    DeleteNeighbour(Neighbour),
    /// Takes the place of the one with the same hardware address.
    SetForwarding(Forwarding),
    DeleteForwarding(Forwarding),
}

/// The links and routes of one namespace.
#[derive(Debug)]
pub struct Routing(Socket);

impl Routing {
    /// # Errors
    /// When the namespace may not be entered.
    pub fn open(namespace: &NetNs) -> Result<Self, Error> {
        Socket::open(Protocol::Route, namespace).map(Self)
    }

    /// Carries changes out in their order, as one request.
    ///
    /// # Errors
    /// The first refusal; what came before and after it may have been done.
    pub fn apply(&mut self, what: &'static str, changes: &[Change<'_>]) -> Result<(), Error> {
        let mut messages = Messages::new();
        for change in changes {
            change.encode(&mut messages);
        }
        self.0.request(what, messages)
    }

    /// # Errors
    /// When the kernel does not tell.
    pub fn links(&mut self) -> Result<Vec<Link>, Error> {
        let mut messages = Messages::new();
        messages.add(GET_LINK, DUMP, &[0; LINK_FIXED], |_| {});
        let replies = self.0.dump("list links", &messages)?;
        replies.iter().map(|reply| link(reply).ok_or(Error::Short { what: "list links" })).collect()
    }

    /// The link of this name, if there is one.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, Error> {
        let mut messages = Messages::new();
        messages.add(GET_LINK, 0, &[0; LINK_FIXED], |a| {
            a.text(LINK_NAME, name);
        });
        absent(self.0.dump("look a link up", &messages).map(|replies| replies.iter().find_map(link)))
    }

    /// # Errors
    /// When the kernel does not tell.
    pub fn addresses(&mut self) -> Result<Vec<Address>, Error> {
        let mut messages = Messages::new();
        messages.add(GET_ADDRESS, DUMP, &[0; ADDRESS_FIXED], |_| {});
        Ok(self.0.dump("list addresses", &messages)?.iter().filter_map(address).collect())
    }

    /// Routes of the main table that lead to a link.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn routes(&mut self) -> Result<Vec<Route>, Error> {
        let mut messages = Messages::new();
        messages.add(GET_ROUTE, DUMP, &[0; ROUTE_FIXED], |_| {});
        Ok(self.0.dump("list routes", &messages)?.iter().filter_map(route).collect())
    }

    /// Routes of the main table that lead nowhere.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn unreachable(&mut self) -> Result<Vec<Unreachable>, Error> {
        let mut messages = Messages::new();
        messages.add(GET_ROUTE, DUMP, &[0; ROUTE_FIXED], |_| {});
        Ok(self.0.dump("list unreachable routes", &messages)?.iter().filter_map(unreachable).collect())
    }
}

impl Change<'_> {
    fn encode(&self, out: &mut Messages) {
        match self {
            Self::AddVeth { name, peer, peer_in, mtu } => out.add(NEW_LINK, CREATE | EXCLUSIVE, &link_up(0), |a| {
                a.text(LINK_NAME, name).u32(LINK_MTU, *mtu);
                a.nest(LINK_INFO, |a| {
                    a.text(INFO_KIND, "veth").nest(INFO_DATA, |a| {
                        a.nest(VETH_PEER, |a| {
                            a.raw(&[0; LINK_FIXED]).text(LINK_NAME, peer).u32(LINK_MTU, *mtu);
                            a.u32(LINK_NAMESPACE_FD, peer_in.raw_number());
                        });
                    });
                });
            }),
            Self::AddVxlan(vxlan) => vxlan.add(out),
            Self::SetMtu(index, mtu) => out.add(NEW_LINK, 0, &link_fixed(*index, 0, 0), |a| {
                a.u32(LINK_MTU, *mtu);
            }),
            Self::SetUp(index) => out.add(NEW_LINK, 0, &link_up(*index), |_| {}),
            Self::SetAlias(index, alias) => out.add(NEW_LINK, 0, &link_fixed(*index, 0, 0), |a| {
                a.bytes(LINK_ALIAS, alias.as_bytes());
            }),
            Self::PassLoopback(index) => out.add(NEW_LINK, 0, &link_fixed(*index, 0, 0), |a| {
                a.nest(LINK_FAMILIES, |a| {
                    a.nest(OF_IPV4, |a| {
                        a.nest(IPV4_SWITCHES, |a| {
                            a.u32(SWITCH_LOOPBACK, 1);
                        });
                    });
                });
            }),
            Self::DeleteLink(index) => out.add(DELETE_LINK, 0, &link_fixed(*index, 0, 0), |_| {}),
            Self::AddAddress(address) => address.encode(out, NEW_ADDRESS, CREATE | REPLACE),
            Self::DeleteAddress(address) => address.encode(out, DELETE_ADDRESS, 0),
            Self::SetRoute(route) => route.encode(out, NEW_ROUTE, CREATE | REPLACE),
            Self::DeleteRoute(route) => route.encode(out, DELETE_ROUTE, 0),
            Self::AddUnreachable(route) => route.encode(out, NEW_ROUTE, CREATE | REPLACE),
            Self::DeleteUnreachable(route) => route.encode(out, DELETE_ROUTE, 0),
            Self::SetNeighbour(neighbour) => neighbour.set(out),
            Self::DeleteNeighbour(neighbour) => neighbour.delete(out),
            Self::SetForwarding(forwarding) => forwarding.set(out),
            Self::DeleteForwarding(forwarding) => forwarding.delete(out),
        }
    }
}

fn link_up(index: u32) -> [u8; LINK_FIXED] {
    link_fixed(index, UP, UP)
}

fn link_fixed(index: u32, flags: u32, change: u32) -> [u8; LINK_FIXED] {
    let mut fixed = [0; LINK_FIXED];
    fixed[4..8].copy_from_slice(&index.to_ne_bytes());
    fixed[8..12].copy_from_slice(&flags.to_ne_bytes());
    fixed[12..].copy_from_slice(&change.to_ne_bytes());
    fixed
}

impl Address {
    fn encode(&self, out: &mut Messages, kind: u16, flags: u16) {
        let mut fixed = [0; ADDRESS_FIXED];
        fixed[0] = family(self.address);
        fixed[1] = self.prefix;
        fixed[4..].copy_from_slice(&self.link.to_ne_bytes());
        out.add(kind, flags, &fixed, |a| {
            ip(ip(a, ADDRESS_LOCAL, self.address), ADDRESS_ADDRESS, self.address);
        });
    }
}

impl Route {
    fn encode(&self, out: &mut Messages, kind: u16, flags: u16) {
        let scope = if self.gateway.is_some() { SCOPE_GLOBAL } else { SCOPE_LINK };
        let (family, table) = (family(self.destination), TABLE_MAIN);
        let mut fixed = [family, self.prefix, 0, 0, table, MADE_BY_BOOT, scope, TYPE_UNICAST, 0, 0, 0, 0];
        let on_link = if self.on_link { ON_LINK } else { 0 };
        fixed[8..].copy_from_slice(&on_link.to_ne_bytes());
        out.add(kind, flags, &fixed, |a| {
            if self.prefix > 0 {
                ip(a, ROUTE_DESTINATION, self.destination);
            }
            a.u32(ROUTE_LINK, self.link);
            if let Some(gateway) = self.gateway {
                ip(a, ROUTE_GATEWAY, gateway);
            }
            if let Some(source) = self.source {
                ip(a, ROUTE_SOURCE, source);
            }
        });
    }
}

impl Unreachable {
    fn encode(&self, out: &mut Messages, kind: u16, flags: u16) {
        let family = family(self.destination);
        let fixed = [family, self.prefix, 0, 0, TABLE_MAIN, MADE_BY_BOOT, SCOPE_GLOBAL, TYPE_UNREACHABLE, 0, 0, 0, 0];
        out.add(kind, flags, &fixed, |a| {
            if self.prefix > 0 {
                ip(a, ROUTE_DESTINATION, self.destination);
            }
            a.u32(ROUTE_METRIC, self.metric);
        });
    }
}

fn family(address: IpAddr) -> u8 {
    // AF_INET and AF_INET6, address_families(7).
    if address.is_ipv4() { 2 } else { 10 }
}

fn ip<'a, 'b>(out: &'a mut Attributes<'b>, kind: u16, address: IpAddr) -> &'a mut Attributes<'b> {
    match address {
        IpAddr::V4(address) => out.bytes(kind, &address.octets()),
        IpAddr::V6(address) => out.bytes(kind, &address.octets()),
    }
}

fn ip_of(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

/// A link that is asked for by name may not be there.
fn absent<T>(found: Result<Option<T>, Error>) -> Result<Option<T>, Error> {
    match found {
        Err(error) if error.errno() == Some(Errno::NODEV) => Ok(None),
        other => other,
    }
}

fn word(reply: &Reply, at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(reply.body.get(at..at + 4)?.try_into().ok()?))
}

fn link(reply: &Reply) -> Option<Link> {
    let (index, flags) = (word(reply, 4)?, word(reply, 8)?);
    let mut found = Link { index, up: flags & UP != 0, loopback: flags & LOOPBACK != 0, ..Link::default() };
    for attribute in reply.attributes(LINK_FIXED) {
        match attribute.kind {
            LINK_NAME => found.name = attribute.text(),
            LINK_ALIAS => found.alias = attribute.text(),
            LINK_MTU => found.mtu = attribute.u32()?,
            _ => {}
        }
    }
    Some(found)
}

fn address(reply: &Reply) -> Option<Address> {
    let attributes: Vec<_> = reply.attributes(ADDRESS_FIXED).collect();
    let of = |kind| attributes.iter().find(|a| a.kind == kind).and_then(|a| ip_of(a.value));
    let address = of(ADDRESS_LOCAL).or_else(|| of(ADDRESS_ADDRESS))?;
    Some(Address { link: word(reply, 4)?, address, prefix: *reply.body.get(1)? })
}

fn route(reply: &Reply) -> Option<Route> {
    let main = MainRoute::of(reply)?;
    Some(Route {
        destination: main.destination,
        prefix: main.prefix,
        link: main.attribute(ROUTE_LINK)?.u32()?,
        gateway: main.attribute(ROUTE_GATEWAY).and_then(|a| ip_of(a.value)),
        on_link: word(reply, 8)? & ON_LINK != 0,
        source: main.attribute(ROUTE_SOURCE).and_then(|a| ip_of(a.value)),
    })
}

fn unreachable(reply: &Reply) -> Option<Unreachable> {
    let main = MainRoute::of(reply)?;
    let metric = main.attribute(ROUTE_METRIC).map_or(Some(0), |a| a.u32())?;
    let leads_nowhere = *reply.body.get(7)? == TYPE_UNREACHABLE;
    leads_nowhere.then_some(Unreachable { destination: main.destination, prefix: main.prefix, metric })
}

/// What all routes of the main table have.
struct MainRoute<'a> {
    destination: IpAddr,
    prefix: u8,
    attributes: Vec<Attribute<'a>>,
}

impl<'a> MainRoute<'a> {
    fn of(reply: &'a Reply) -> Option<Self> {
        let mut route = Self {
            destination: if *reply.body.first()? == 2 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) },
            prefix: *reply.body.get(1)?,
            attributes: reply.attributes(ROUTE_FIXED).collect(),
        };
        if let Some(destination) = route.attribute(ROUTE_DESTINATION).and_then(|a| ip_of(a.value)) {
            route.destination = destination;
        }
        (route.attribute(ROUTE_TABLE)?.u32()? == u32::from(TABLE_MAIN)).then_some(route)
    }

    fn attribute(&self, kind: u16) -> Option<&Attribute<'a>> {
        self.attributes.iter().find(|a| a.kind == kind)
    }
}
