//! What is said of others on a link so that nobody has to be asked: the hardware address that an IP address has
//! ([`Neighbour`]), and the server that a hardware address is at ([`Forwarding`], for links of [`super::Vxlan`]).

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use super::{CREATE, DUMP, LINK_FIXED, REPLACE, Routing, family, ip, ip_of, word};
use crate::netlink::{Error, Messages, Reply};

const NEW_NEIGHBOUR: u16 = 28;
const DELETE_NEIGHBOUR: u16 = 29;
const GET_NEIGHBOUR: u16 = 30;

const FIXED: usize = 12;
const DESTINATION: u16 = 1;
const HARDWARE: u16 = 2;

const NO_ARP: u16 = 0x40;
const PERMANENT: u16 = 0x80;
/// The entry is the link's own, not that of a bridge above it.
const OF_LINK: u8 = 2;
/// AF_BRIDGE, the family of forwarding entries.
const BRIDGE: u8 = 7;

/// A hardware address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// A permanent entry of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    pub link: u32,
    pub address: IpAddr,
    pub mac: Mac,
}

/// Frames for a hardware address are sent to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forwarding {
    pub link: u32,
    pub mac: Mac,
    pub to: Ipv4Addr,
}

impl Neighbour {
    pub(super) fn set(&self, out: &mut Messages) {
        self.encode(out, NEW_NEIGHBOUR, CREATE | REPLACE);
    }

    pub(super) fn delete(&self, out: &mut Messages) {
        self.encode(out, DELETE_NEIGHBOUR, 0);
    }

    fn encode(&self, out: &mut Messages, kind: u16, flags: u16) {
        out.add(kind, flags, &fixed(family(self.address), self.link, PERMANENT, 0), |a| {
            ip(a, DESTINATION, self.address).bytes(HARDWARE, &self.mac.0);
        });
    }
}

impl Forwarding {
    pub(super) fn set(&self, out: &mut Messages) {
        self.encode(out, NEW_NEIGHBOUR, CREATE | REPLACE);
    }

    pub(super) fn delete(&self, out: &mut Messages) {
        self.encode(out, DELETE_NEIGHBOUR, 0);
    }

    fn encode(&self, out: &mut Messages, kind: u16, flags: u16) {
        out.add(kind, flags, &fixed(BRIDGE, self.link, NO_ARP | PERMANENT, OF_LINK), |a| {
            a.bytes(HARDWARE, &self.mac.0).bytes(DESTINATION, &self.to.octets());
        });
    }
}

impl Routing {
    /// Permanent neighbours by IPv4.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>, Error> {
        let mut messages = Messages::new();
        messages.add(GET_NEIGHBOUR, DUMP, &fixed(family(Ipv4Addr::UNSPECIFIED.into()), 0, 0, 0), |_| {});
        Ok(self.0.dump("list neighbours", &messages)?.iter().filter_map(neighbour).collect())
    }

    /// Where frames are sent on links to other servers.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn forwardings(&mut self) -> Result<Vec<Forwarding>, Error> {
        let mut messages = Messages::new();
        // The kernel tells this list from others by the longer fixed part, that of a link.
        let mut of_bridge = [0; LINK_FIXED];
        of_bridge[0] = BRIDGE;
        messages.add(GET_NEIGHBOUR, DUMP, &of_bridge, |_| {});
        Ok(self.0.dump("list where frames are sent", &messages)?.iter().filter_map(forwarding).collect())
    }
}

fn fixed(family: u8, link: u32, state: u16, flags: u8) -> [u8; FIXED] {
    let mut fixed = [0; FIXED];
    fixed[0] = family;
    fixed[4..8].copy_from_slice(&link.to_ne_bytes());
    fixed[8..10].copy_from_slice(&state.to_ne_bytes());
    fixed[10] = flags;
    fixed
}

fn neighbour(reply: &Reply) -> Option<Neighbour> {
    let state = u16::from_ne_bytes(reply.body.get(8..10)?.try_into().ok()?);
    let address = attribute(reply, DESTINATION).and_then(ip_of)?;
    (state & PERMANENT != 0).then_some(Neighbour { link: word(reply, 4)?, address, mac: mac(reply)? })
}

fn forwarding(reply: &Reply) -> Option<Forwarding> {
    let to = <[u8; 4]>::try_from(attribute(reply, DESTINATION)?).ok()?;
    Some(Forwarding { link: word(reply, 4)?, mac: mac(reply)?, to: to.into() })
}

fn mac(reply: &Reply) -> Option<Mac> {
    attribute(reply, HARDWARE)?.try_into().ok().map(Mac)
}

fn attribute(reply: &Reply, kind: u16) -> Option<&[u8]> {
    reply.attributes(FIXED).find(|a| a.kind == kind).map(|a| a.value)
}
