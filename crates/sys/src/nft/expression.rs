//! What a rule consists of: expressions that load packet fields into registers, compare, look up and decide. An expression
//! that does not match ends its rule.

use std::borrow::Cow;
use std::time::Duration;

use super::Family;
use crate::netlink::Attributes;

/// Four bytes of a packet's scratch space, or the verdict. A longer value takes the registers that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Register(u32);

impl Register {
    pub const VERDICT: Self = Self(0);

    /// One of sixteen.
    ///
    /// # Panics
    /// Above 15.
    pub const fn word(index: u32) -> Self {
        assert!(index < 16, "there are sixteen registers");
        Self(8 + index)
    }
}

/// What becomes of the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Return,
    Jump(String),
    Goto(String),
}

impl Verdict {
    pub(super) fn encode(&self, a: &mut Attributes<'_>) {
        let (code, chain) = match self {
            Self::Drop => (0, None),
            Self::Accept => (1, None),
            Self::Jump(chain) => (-3, Some(chain)),
            Self::Goto(chain) => (-4, Some(chain)),
            Self::Return => (-5_i32, None),
        };
        a.nest(2, |a| {
            a.be32(1, code.cast_unsigned());
            if let Some(chain) = chain {
                a.text(2, chain);
            }
        });
    }
}

/// How a packet is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    TcpReset,
    PortUnreachable,
}

/// One step of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expression {
    /// Bytes of the IP header.
    NetworkHeader {
        offset: u32,
        length: u32,
        into: Register,
    },
    /// Bytes of the header that follows.
    TransportHeader {
        offset: u32,
        length: u32,
        into: Register,
    },
    /// The protocol above IP, one byte.
    TransportProtocol {
        into: Register,
    },
    /// The name of the link that the packet came by, 16 bytes.
    InputLink {
        into: Register,
    },
    /// The name of the link that the packet leaves by, 16 bytes.
    OutputLink {
        into: Register,
    },
    /// Bits of the connection's state: 8 is new.
    ConnectionState {
        into: Register,
    },
    /// Bits of what was done to the connection: 32 is a translated destination.
    ConnectionStatus {
        into: Register,
    },
    /// The type of the route to the packet's source: 2 is an address of this host.
    SourceType {
        into: Register,
    },
    /// The type of the route to the packet's destination.
    DestinationType {
        into: Register,
    },
    /// The link that leads back to the packet's source, if the packet came by it; otherwise 0.
    ReverseLink {
        into: Register,
    },
    /// The link that leads to the packet's destination; 0 where none does, and for an address of this host.
    LinkAhead {
        into: Register,
    },
    Constant {
        bytes: Vec<u8>,
        into: Register,
    },
    /// Goes on if equal, or if not.
    Compare {
        register: Register,
        equal: bool,
        bytes: Vec<u8>,
    },
    Mask {
        register: Register,
        mask: Vec<u8>,
    },
    /// Goes on if the key is in the set, and loads what it maps to; or if it is not.
    Lookup {
        set: Cow<'static, str>,
        key: Register,
        into: Option<Register>,
        absent: bool,
    },
    /// A number from `offset`, below `offset + modulus`, by chance.
    Random {
        modulus: u32,
        offset: u32,
        into: Register,
    },
    /// Adds an element to a dynamic set, or lets an existing one live longer.
    Update {
        set: Cow<'static, str>,
        key: Register,
        value: Option<Register>,
        timeout: Duration,
    },
    /// Sends the connection to another address and port.
    TranslateDestination {
        address: Register,
        port: Register,
    },
    /// Gives the connection the address of the link by which it leaves.
    Masquerade,
    /// Lets the packet belong to no connection; of use before those are looked up, at -200.
    Untrack,
    Reject(Reject),
    Decide(Verdict),
}

impl Expression {
    pub(super) fn encode(&self, family: Family, a: &mut Attributes<'_>) {
        match self {
            Self::NetworkHeader { offset, length, into } => payload(a, 1, *offset, *length, *into),
            Self::TransportHeader { offset, length, into } => payload(a, 2, *offset, *length, *into),
            Self::TransportProtocol { into } => numbers(a, "meta", &[(1, into.0), (2, 16)]),
            Self::InputLink { into } => numbers(a, "meta", &[(1, into.0), (2, 6)]),
            Self::OutputLink { into } => numbers(a, "meta", &[(1, into.0), (2, 7)]),
            Self::ConnectionState { into } => numbers(a, "ct", &[(1, into.0), (2, 0)]),
            Self::ConnectionStatus { into } => numbers(a, "ct", &[(1, into.0), (2, 2)]),
            Self::SourceType { into } => numbers(a, "fib", &[(1, into.0), (2, 3), (3, 1)]),
            Self::DestinationType { into } => numbers(a, "fib", &[(1, into.0), (2, 3), (3, 2)]),
            Self::ReverseLink { into } => numbers(a, "fib", &[(1, into.0), (2, 1), (3, 1 | 8)]),
            Self::LinkAhead { into } => numbers(a, "fib", &[(1, into.0), (2, 1), (3, 2)]),
            Self::Constant { bytes, into } => expression(a, "immediate", |a| {
                a.be32(1, into.0).nest(2, |a| {
                    a.bytes(1, bytes);
                });
            }),
            Self::Compare { register, equal, bytes } => expression(a, "cmp", |a| {
                a.be32(1, register.0).be32(2, u32::from(!equal)).nest(3, |a| {
                    a.bytes(1, bytes);
                });
            }),
            Self::Mask { register, mask } => mask_with(a, *register, mask),
            Self::Lookup { set, key, into, absent } => expression(a, "lookup", |a| {
                a.text(1, set).be32(2, key.0);
                if let Some(into) = into {
                    a.be32(3, into.0);
                }
                if *absent {
                    a.be32(5, 1);
                }
            }),
            Self::Random { modulus, offset, into } => {
                numbers(a, "numgen", &[(1, into.0), (2, *modulus), (3, 1), (4, *offset)]);
            }
            Self::Update { set, key, value, timeout } => expression(a, "dynset", |a| {
                a.text(1, set).be32(3, 1).be32(4, key.0);
                if let Some(value) = value {
                    a.be32(5, value.0);
                }
                a.be64(6, u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX));
            }),
            Self::TranslateDestination { address, port } => {
                numbers(a, "nat", &[(1, 1), (2, family.number().into()), (3, address.0), (5, port.0)]);
            }
            Self::Masquerade => numbers(a, "masq", &[]),
            Self::Untrack => numbers(a, "notrack", &[]),
            // The code of an ICMP message is one byte; that of ports is 3 in IPv4, 4 in IPv6.
            Self::Reject(Reject::TcpReset) => numbers(a, "reject", &[(1, 1)]),
            Self::Reject(Reject::PortUnreachable) => expression(a, "reject", |a| {
                a.be32(1, 0).bytes(2, &[if family == Family::Ipv4 { 3 } else { 4 }]);
            }),
            Self::Decide(verdict) => expression(a, "immediate", |a| {
                a.be32(1, Register::VERDICT.0).nest(2, |a| verdict.encode(a));
            }),
        }
    }
}

fn payload(a: &mut Attributes<'_>, base: u32, offset: u32, length: u32, into: Register) {
    numbers(a, "payload", &[(1, into.0), (2, base), (3, offset), (4, length)]);
}

fn mask_with(a: &mut Attributes<'_>, register: Register, mask: &[u8]) {
    let length = u32::try_from(mask.len()).expect("a mask is as long as registers at most");
    expression(a, "bitwise", |a| {
        a.be32(1, register.0).be32(2, register.0).be32(3, length);
        a.nest(4, |a| {
            a.bytes(1, mask);
        });
        a.nest(5, |a| {
            a.bytes(1, &vec![0; mask.len()]);
        });
    });
}

/// An expression that has only numbers as attributes.
fn numbers(a: &mut Attributes<'_>, name: &str, attributes: &[(u16, u32)]) {
    expression(a, name, |a| {
        for (kind, value) in attributes {
            a.be32(*kind, *value);
        }
    });
}

fn expression(a: &mut Attributes<'_>, name: &str, fill: impl FnOnce(&mut Attributes<'_>)) {
    a.text(1, name).nest(2, fill);
}
