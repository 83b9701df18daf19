//! Netlink, the kernel's socket for links, routes, packet filters and tracked connections: one builder and one reader of its
//! messages, netlink(7). Numbers in headers are in the machine's byte order, those of netfilter's attributes in the network's.

mod message;
mod socket;

pub use message::{Attribute, Attributes, Messages, Reply, attributes};
pub use socket::{Protocol, Socket};

use rustix::io::Errno;

/// Why the kernel did not do what a message asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What was tried, with the kernel's reason.
    #[error("{what}, step {step}: {errno}")]
    Refused { what: &'static str, step: u32, errno: Errno },
    /// The socket itself failed.
    #[error("netlink socket, to {what}")]
    Socket { what: &'static str, source: std::io::Error },
    /// An answer that is shorter than it says.
    #[error("netlink answer cut short, to {what}")]
    Short { what: &'static str },
}

impl Error {
    /// The kernel's reason, where it gave one.
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket { source, .. } => Errno::from_io_error(source),
            Self::Short { .. } => None,
        }
    }
}
