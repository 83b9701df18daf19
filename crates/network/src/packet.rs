//! Questions about an IPv4 packet that rules of several tables ask, as expressions. The first register is free to be used.

use std::net::Ipv4Addr;

use corten_sys::nft::{Expression, Register, Set};

use crate::Range;

pub(crate) const FIRST: Register = Register::word(0);

/// Offsets in the IPv4 header.
pub(crate) const SOURCE: u32 = 12;
pub(crate) const DESTINATION: u32 = 16;

/// The type of routes to addresses of this host.
pub(crate) const LOCAL_TYPE: [u8; 4] = 2_u32.to_ne_bytes();
const STATUS_TRANSLATED: [u8; 4] = 32_u32.to_ne_bytes();
pub(crate) const NONE: [u8; 4] = [0; 4];
const LOOPBACK: u8 = 127;
/// The one address of the loopback at which ports of the node are offered: others may be other servers'.
const LOCALHOST: Ipv4Addr = Ipv4Addr::LOCALHOST;

/// Goes on if the source or the destination is in the range, or if it is not.
pub(crate) fn within(offset: u32, range: Range, inside: bool) -> Vec<Expression> {
    vec![
        Expression::NetworkHeader { offset, length: 4, into: FIRST },
        Expression::Mask { register: FIRST, mask: range.mask().octets().to_vec() },
        Expression::Compare { register: FIRST, equal: inside, bytes: range.first().octets().to_vec() },
    ]
}

/// Goes on if the connection's destination was translated.
pub(crate) fn translated() -> Vec<Expression> {
    vec![
        Expression::ConnectionStatus { into: FIRST },
        Expression::Mask { register: FIRST, mask: STATUS_TRANSLATED.to_vec() },
        Expression::Compare { register: FIRST, equal: false, bytes: NONE.to_vec() },
    ]
}

/// Goes on if the packet is for an address of this host, but not for the loopback's.
pub(crate) fn to_this_host() -> Vec<Expression> {
    vec![
        Expression::NetworkHeader { offset: DESTINATION, length: 1, into: FIRST },
        Expression::Compare { register: FIRST, equal: false, bytes: vec![LOOPBACK] },
        Expression::DestinationType { into: FIRST },
        Expression::Compare { register: FIRST, equal: true, bytes: LOCAL_TYPE.to_vec() },
    ]
}

/// Goes on if a program of this host has sent the packet to its own 127.0.0.1; of use where packets leave this host.
pub(crate) fn to_localhost() -> Vec<Expression> {
    vec![
        Expression::NetworkHeader { offset: DESTINATION, length: 4, into: FIRST },
        Expression::Compare { register: FIRST, equal: true, bytes: LOCALHOST.octets().to_vec() },
    ]
}

/// Goes on if an address of the loopback stands there.
pub(crate) fn is_loopback(offset: u32) -> Vec<Expression> {
    vec![
        Expression::NetworkHeader { offset, length: 1, into: FIRST },
        Expression::Compare { register: FIRST, equal: true, bytes: vec![LOOPBACK] },
    ]
}

/// Gives a translated connection from 127.0.0.1 an address that an endpoint can answer.
pub(crate) fn from_localhost() -> Vec<Expression> {
    let mut rule = translated();
    rule.extend(is_loopback(SOURCE));
    rule.push(Expression::Masquerade);
    rule
}

/// Masquerades a translated connection of somebody in the set with itself: its answers must come back this way.
pub(crate) fn hairpin(set: &Set) -> Vec<Expression> {
    let mut rule = translated();
    rule.extend([
        source(),
        Expression::NetworkHeader { offset: DESTINATION, length: 4, into: Register::word(1) },
        contains(set),
        Expression::Masquerade,
    ]);
    rule
}

/// Loads address, protocol and port of the destination into the first three registers.
pub(crate) fn frontend() -> Vec<Expression> {
    let mut parts = vec![Expression::NetworkHeader { offset: DESTINATION, length: 4, into: FIRST }];
    parts.extend(protocol_and_port(1));
    parts
}

/// Loads protocol and port of the destination into the first two registers.
pub(crate) fn port() -> Vec<Expression> {
    protocol_and_port(0).to_vec()
}

fn protocol_and_port(first: u32) -> [Expression; 2] {
    let port = Expression::TransportHeader { offset: 2, length: 2, into: Register::word(first + 1) };
    [Expression::TransportProtocol { into: Register::word(first) }, port]
}

/// Loads the source's address into the first register.
pub(crate) fn source() -> Expression {
    Expression::NetworkHeader { offset: SOURCE, length: 4, into: FIRST }
}

/// Goes where the map leads.
pub(crate) fn verdict(set: &Set) -> Expression {
    lookup(set, Register::VERDICT)
}

pub(crate) fn lookup(set: &Set, into: Register) -> Expression {
    Expression::Lookup { set: set.name.clone(), key: FIRST, into: Some(into), absent: false }
}

pub(crate) fn contains(set: &Set) -> Expression {
    Expression::Lookup { set: set.name.clone(), key: FIRST, into: None, absent: false }
}

/// To the address in this register, and the port in the next.
pub(crate) fn translate(address: u32) -> Expression {
    Expression::TranslateDestination { address: Register::word(address), port: Register::word(address + 1) }
}
