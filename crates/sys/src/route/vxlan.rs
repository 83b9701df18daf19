//! Links that carry packets to other servers inside UDP datagrams, VXLAN (RFC 7348). Such a link learns nothing from what it
//! receives: it sends to where [`super::Forwarding`] says, and drops the rest.

use std::net::Ipv4Addr;

use super::neighbour::Mac;
use super::{
    CREATE, EXCLUSIVE, GET_LINK, INFO_DATA, INFO_KIND, LINK_FIXED, LINK_INFO, LINK_MTU, LINK_NAME, NEW_LINK, Routing,
    UP, absent, link_up, word,
};
use crate::netlink::{Error, Messages, Reply};

const KIND: &str = "vxlan";

const LINK_ADDRESS: u16 = 1;
const NUMBER: u16 = 1;
const LOCAL: u16 = 4;
const LEARNING: u16 = 7;
const PORT: u16 = 15;

/// A link of this kind, as it is or as it is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vxlan {
    pub name: String,
    pub mac: Mac,
    pub mtu: u32,
    /// Tells networks that use the same port apart; below 2²⁴.
    pub number: u32,
    /// The UDP port, here and at the others.
    pub port: u16,
    /// The address that datagrams are sent from.
    pub local: Ipv4Addr,
    /// Whether it takes over from packets where others are.
    pub learns: bool,
}

/// Such a link as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    pub index: u32,
    pub up: bool,
    pub vxlan: Vxlan,
}

impl Vxlan {
    /// Makes the link and sets it up.
    pub(super) fn add(&self, out: &mut Messages) {
        out.add(NEW_LINK, CREATE | EXCLUSIVE, &link_up(0), |a| {
            a.text(LINK_NAME, &self.name).u32(LINK_MTU, self.mtu).bytes(LINK_ADDRESS, &self.mac.0);
            a.nest(LINK_INFO, |a| {
                a.text(INFO_KIND, KIND).nest(INFO_DATA, |a| {
                    a.u32(NUMBER, self.number).bytes(LOCAL, &self.local.octets());
                    a.bytes(LEARNING, &[self.learns.into()]).bytes(PORT, &self.port.to_be_bytes());
                });
            });
        });
    }
}

impl Routing {
    /// The link of this name, if there is one and it is of this kind.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub fn vxlan(&mut self, name: &str) -> Result<Option<Found>, Error> {
        let mut messages = Messages::new();
        messages.add(GET_LINK, 0, &[0; LINK_FIXED], |a| {
            a.text(LINK_NAME, name);
        });
        absent(self.0.dump("look a link between servers up", &messages).map(|replies| replies.iter().find_map(found)))
    }
}

fn found(reply: &Reply) -> Option<Found> {
    let of = |kind| reply.attributes(LINK_FIXED).find(|a| a.kind == kind);
    let info = of(LINK_INFO)?;
    let of_info = |kind| info.nested().find(|a| a.kind == kind);
    if of_info(INFO_KIND)?.text() != KIND {
        return None;
    }
    let data = of_info(INFO_DATA)?;
    let of_data = |kind| data.nested().find(|a| a.kind == kind);
    // One without an address of its own takes any.
    let local = of_data(LOCAL).and_then(|a| <[u8; 4]>::try_from(a.value).ok()).unwrap_or_default();
    let vxlan = Vxlan {
        name: of(LINK_NAME)?.text(),
        mac: Mac(of(LINK_ADDRESS)?.value.try_into().ok()?),
        mtu: of(LINK_MTU)?.u32()?,
        number: of_data(NUMBER)?.u32()?,
        port: u16::from_be_bytes(of_data(PORT)?.value.try_into().ok()?),
        local: local.into(),
        learns: of_data(LEARNING)?.value.first().is_some_and(|&on| on != 0),
    };
    Some(Found { index: word(reply, 4)?, up: word(reply, 8)? & UP != 0, vxlan })
}
