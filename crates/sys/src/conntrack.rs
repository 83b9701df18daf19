//! Connections that the kernel tracks, by ctnetlink: found by where their answers come from, and forgotten.
//!
//! A translated flow keeps its translation for as long as packets come. For TCP that ends with the connection, if both sides
//! live to end it; a client of UDP would go on sending to an endpoint that is gone.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use rustix::io::Errno;

use crate::namespace::NetNs;
use crate::netlink::{Attribute, Attributes, Error, Messages, Protocol, Reply, Socket};

const SUBSYSTEM: u16 = 1;
const GET: u16 = SUBSYSTEM << 8 | 1;
const DELETE: u16 = SUBSYSTEM << 8 | 2;
const DUMP: u16 = 0x300;

const FIXED: usize = 4;
const IPV4: u8 = 2;

const ORIGINAL: u16 = 1;
const REPLY: u16 = 2;
const PROTOCOL_INFO: u16 = 4;
const INFO_TCP: u16 = 1;
const INFO_TCP_STATE: u16 = 1;
const ID: u16 = 12;
const FILTER: u16 = 25;
const FILTER_REPLY_FLAGS: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;

/// Which parts of the tuple the kernel compares: the source address, the protocol's number, the source port.
const BY_ADDRESS: u32 = 1;
const BY_PROTOCOL_AND_PORT: u32 = 1 << 3 | 1 << 4;

const ANY: (Ipv4Addr, u16) = (Ipv4Addr::UNSPECIFIED, 0);

/// One direction of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    pub source: (Ipv4Addr, u16),
    pub destination: (Ipv4Addr, u16),
    /// As in the IP header.
    pub protocol: u8,
}

/// One flow, told from any that comes after it with the same addresses and ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// As it began.
    pub first: Tuple,
    id: u32,
}

impl Flow {
    fn decode(reply: &Reply) -> Option<Self> {
        let id = reply.attributes(FIXED).find(|a| a.kind == ID)?.be32()?;
        Some(Self { first: tuple(reply, ORIGINAL)?, id })
    }
}

/// States of TCP in which nobody has said yet that it ends: from the first packet on (nf_conntrack_tcp.h).
const TCP_UNDER_WAY: std::ops::RangeInclusive<u8> = 1..=3;

/// Whether nobody has begun to end it; other protocols than TCP have no end.
fn is_under_way(reply: &Reply) -> bool {
    let info = reply.attributes(FIXED).find(|a| a.kind == PROTOCOL_INFO);
    let Some(tcp) = info.and_then(|info| info.nested().find(|a| a.kind == INFO_TCP)) else { return true };
    let state = tcp.nested().find(|a| a.kind == INFO_TCP_STATE).and_then(|a| a.value.first().copied());
    state.is_some_and(|state| TCP_UNDER_WAY.contains(&state))
}

/// The connections of a network namespace.
#[derive(Debug)]
pub struct Tracking(Socket);

impl Tracking {
    /// # Errors
    /// When the namespace may not be entered.
    pub fn open(namespace: &NetNs) -> Result<Self, Error> {
        Socket::open(Protocol::Netfilter, namespace).map(Self)
    }

    /// The first direction of every flow that is answered from this port, and from this address unless any will do.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn answered_from(&mut self, protocol: u8, address: Option<Ipv4Addr>, port: u16) -> Result<Vec<Tuple>, Error> {
        let reply = Tuple { source: (address.unwrap_or(ANY.0), port), destination: ANY, protocol };
        self.list(&reply, BY_PROTOCOL_AND_PORT | address.map_or(0, |_| BY_ADDRESS))
    }

    /// Flows under way that somebody at one of these addresses began or answers. A connection of TCP that is ending is not told: it
    /// ends by itself, and a new one from the same port may stand in its place at any moment. The kernel goes through its whole
    /// table, tens of milliseconds for an ordinary one, however many the addresses are: ask for all at once.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn of(&mut self, addresses: &BTreeSet<Ipv4Addr>) -> Result<Vec<Flow>, Error> {
        let mut messages = Messages::new();
        messages.add(GET, DUMP, &[IPV4, 0, 0, 0], |_| {});
        let is_of =
            |reply: &Reply, direction| tuple(reply, direction).is_some_and(|tuple| addresses.contains(&tuple.source.0));
        let is_wanted = |reply: &Reply| (is_of(reply, ORIGINAL) || is_of(reply, REPLY)) && is_under_way(reply);
        let replies = self.0.dump_only("list tracked connections", &messages, is_wanted)?;
        Ok(replies.iter().filter_map(Flow::decode).collect())
    }

    /// The first direction of the flows whose answers are as the tuple says, as far as the flags compare it.
    fn list(&mut self, answer: &Tuple, flags: u32) -> Result<Vec<Tuple>, Error> {
        let mut messages = Messages::new();
        messages.add(GET, DUMP, &[IPV4, 0, 0, 0], |a| {
            a.nest(REPLY, |a| answer.encode(a));
            a.nest(FILTER, |a| {
                a.u32(FILTER_REPLY_FLAGS, flags);
            });
        });
        // A kernel that does not know filters tells everything; nobody else's flow is to be forgotten for that.
        let is_wanted = |reply: &Reply| tuple(reply, REPLY).is_some_and(|found| found.is_as(answer, flags));
        let replies = self.0.dump_only("list tracked connections", &messages, is_wanted)?;
        Ok(replies.iter().filter_map(|reply| tuple(reply, ORIGINAL)).collect())
    }

    /// Forgets this very flow; neither one that has taken its place, nor one that is gone already, is an error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget_flow(&mut self, flow: &Flow) -> Result<(), Error> {
        self.delete(&flow.first, Some(flow.id))
    }

    /// Forgets a flow; one that is gone already is no error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&mut self, flow: &Tuple) -> Result<(), Error> {
        self.delete(flow, None)
    }

    fn delete(&mut self, flow: &Tuple, id: Option<u32>) -> Result<(), Error> {
        let mut messages = Messages::new();
        messages.add(DELETE, 0, &[IPV4, 0, 0, 0], |a| {
            a.nest(ORIGINAL, |a| flow.encode(a));
            if let Some(id) = id {
                a.be32(ID, id);
            }
        });
        match self.0.request("forget a tracked connection", messages) {
            Err(error) if error.errno() == Some(Errno::NOENT) => Ok(()),
            other => other,
        }
    }
}

impl Tuple {
    fn encode(&self, a: &mut Attributes<'_>) {
        a.nest(TUPLE_IP, |a| {
            a.bytes(1, &self.source.0.octets()).bytes(2, &self.destination.0.octets());
        });
        a.nest(TUPLE_PROTOCOL, |a| {
            a.bytes(1, &[self.protocol]);
            a.bytes(2, &self.source.1.to_be_bytes()).bytes(3, &self.destination.1.to_be_bytes());
        });
    }

    /// Whether the parts that the flags name are the same.
    fn is_as(&self, wanted: &Self, flags: u32) -> bool {
        let address = flags & BY_ADDRESS == 0 || self.source.0 == wanted.source.0;
        let port =
            flags & BY_PROTOCOL_AND_PORT == 0 || (self.protocol, self.source.1) == (wanted.protocol, wanted.source.1);
        address && port
    }

    fn decode(tuple: &Attribute<'_>) -> Option<Self> {
        let part = |kind| tuple.nested().find(|a| a.kind == kind);
        let (ip, protocol) = (part(TUPLE_IP)?, part(TUPLE_PROTOCOL)?);
        let address = |kind| {
            let value: [u8; 4] = ip.nested().find(|a| a.kind == kind)?.value.try_into().ok()?;
            Some(Ipv4Addr::from(value))
        };
        let port = |kind| {
            let value: [u8; 2] = protocol.nested().find(|a| a.kind == kind)?.value.try_into().ok()?;
            Some(u16::from_be_bytes(value))
        };
        let number = *protocol.nested().find(|a| a.kind == 1)?.value.first()?;
        Some(Self { source: (address(1)?, port(2)?), destination: (address(2)?, port(3)?), protocol: number })
    }
}

fn tuple(reply: &Reply, direction: u16) -> Option<Tuple> {
    Tuple::decode(&reply.attributes(FIXED).find(|a| a.kind == direction)?)
}
