//! What every part of this server stands on: what was asked for, where everything is kept, who this server is, and the
//! seams to the outside.

use std::net::{IpAddr, Ipv4Addr};

use crate::args;
use crate::datadir::DataDir;
use crate::ranges::Ranges;
use crate::seams::Seams;

pub struct Site<'a> {
    pub settings: &'a args::Node,
    /// The node's name.
    pub name: String,
    /// Where others reach this server.
    pub address: IpAddr,
    pub dir: &'a DataDir,
    pub ranges: Ranges,
    pub seams: Seams,
}

impl Site<'_> {
    /// Where others can reach this server, if they can.
    pub fn outside_address(&self) -> Option<Ipv4Addr> {
        match self.address {
            IpAddr::V4(address) if !address.is_loopback() && !address.is_unspecified() => Some(address),
            _ => None,
        }
    }
}

/// The name given, or the host's.
pub fn node_name(settings: &args::Node) -> String {
    let host = || rustix::system::uname().nodename().to_string_lossy().to_lowercase();
    settings.name.clone().unwrap_or_else(host)
}
