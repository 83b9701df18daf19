//! Connections that the kernel tracks, by ctnetlink: found, and forgotten.
//!
//! A translated flow keeps its translation for as long as packets come. For TCP that ends with the connection, if both sides
//! live to end it; a client of UDP would go on sending to an endpoint that is gone.

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
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;

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
    /// As it is answered: from elsewhere than it was sent to, if it is translated.
    pub answer: Tuple,
    /// Nobody has begun to end it. A connection of TCP that is ending ends by itself, and a new one from the same port may stand in
    /// its place at any moment; other protocols have no end.
    pub is_under_way: bool,
    id: u32,
}

impl Flow {
    fn decode(reply: &Reply) -> Option<Self> {
        let id = reply.attributes(FIXED).find(|a| a.kind == ID)?.be32()?;
        let (first, answer) = (tuple(reply, ORIGINAL)?, tuple(reply, REPLY)?);
        Some(Self { first, answer, is_under_way: is_under_way(reply), id })
    }
}

/// States of TCP in which nobody has said yet that it ends: from the first packet on (nf_conntrack_tcp.h).
const TCP_UNDER_WAY: std::ops::RangeInclusive<u8> = 1..=3;

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

    /// Those that are wanted. The kernel goes through its whole table, tens of milliseconds for an ordinary one, whatever is wanted:
    /// ask for everything at once.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn list(&mut self, is_wanted: impl Fn(&Flow) -> bool) -> Result<Vec<Flow>, Error> {
        let mut messages = Messages::new();
        messages.add(GET, DUMP, &[IPV4, 0, 0, 0], |_| {});
        let is_wanted = |reply: &Reply| Flow::decode(reply).is_some_and(|flow| is_wanted(&flow));
        let replies = self.0.dump_only("list tracked connections", &messages, is_wanted)?;
        Ok(replies.iter().filter_map(Flow::decode).collect())
    }

    /// Forgets this very flow; neither one that has taken its place, nor one that is gone already, is an error.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn forget(&mut self, flow: &Flow) -> Result<(), Error> {
        let mut messages = Messages::new();
        messages.add(DELETE, 0, &[IPV4, 0, 0, 0], |a| {
            a.nest(ORIGINAL, |a| flow.first.encode(a)).be32(ID, flow.id);
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
