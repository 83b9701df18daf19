//! The network of a node: links and addresses of pods ([`PodNetwork`]), what leads to them ([`Services`]), and the way to those of
//! other servers ([`Overlay`]).

mod links;
pub mod overlay;
mod packet;
pub mod pods;
pub mod range;
pub mod services;
mod vacant;

pub use overlay::Overlay;
pub use pods::Pods;
pub use range::Range;
pub use services::Services;

use std::net::{IpAddr, Ipv4Addr};

use corten_stdx::error::Chain;
use futures_core::future::BoxFuture;

/// Why the kernel's state is not as wanted. The text says what was tried.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum NetworkError {
    /// No address is left in the node's range.
    #[error("no free pod address is left in {range}")]
    NoAddress { range: String },
    /// Somebody else's route leads into the node's range.
    #[error("the pod addresses {range} clash with the route {route} of link {link:?}; choose others with --pod-cidr")]
    Clash { range: String, route: String, link: String },
    /// What another server is said to be cannot be true.
    #[error("the server {address} cannot have the pod addresses {range}: {why}")]
    Peer { address: Ipv4Addr, range: String, why: String },
    /// Somebody else's link has the overlay's number and port.
    #[error("another network on this server has the number {number} at UDP port {port}")]
    NumberTaken { number: u32, port: u16 },
    #[error("the pod {pod} has no address")]
    Unlinked { pod: String },
    #[error("{what}: {detail}")]
    Failed { what: String, detail: String },
}

pub(crate) fn could_not(what: &str, error: &dyn std::error::Error) -> NetworkError {
    NetworkError::Failed { what: what.to_owned(), detail: Chain(error).to_string() }
}

/// What is above IP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    #[default]
    Tcp,
    Udp,
    Sctp,
}

impl Protocol {
    /// As in the IP header.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }
}

/// A port of the node that leads to a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HostPort {
    /// Of one address of the node alone.
    pub address: Option<Ipv4Addr>,
    pub protocol: Protocol,
    pub port: u16,
    /// The pod's port.
    pub to: u16,
}

/// Gives pods their links and addresses.
pub trait PodNetwork: Send + Sync {
    /// Links the network namespace of the process `pid` to the node's and resolves with the pod's addresses, the first one
    /// being the pod's main address. A pod that is linked keeps its addresses, also after a restart of the caller.
    fn attach<'a>(&'a self, pod: &'a str, pid: u32) -> BoxFuture<'a, Result<Vec<IpAddr>, NetworkError>>;

    /// Lets these ports of the node, and no others, lead to a pod that has addresses.
    fn publish<'a>(&'a self, pod: &'a str, ports: &'a [HostPort]) -> BoxFuture<'a, Result<(), NetworkError>>;

    /// Takes the link and frees the addresses; does nothing for a pod that has none.
    fn detach<'a>(&'a self, pod: &'a str) -> BoxFuture<'a, Result<(), NetworkError>>;

    /// Ids of the pods that have addresses, so that what belongs to no pod any more can be detached.
    fn attached(&self) -> Vec<String>;
}
