//! HTTP: from a socket or an in-process call to the registry and back.
//!
//! [`server`] accepts connections over [`tls`] and hands requests to a [`server::Handler`]; in-process callers hand
//! theirs to the same one, [`Api`] ([`pipeline`]). [`access`] tells who asks and whether they may, [`request`] what is
//! asked for, [`query`] reads options, [`negotiate`] picks the form of the answer, [`body`] reads and writes.

pub mod access;
pub mod body;
mod connect;
pub mod negotiate;
pub(crate) mod paths;
pub mod pipeline;
mod present;
mod protobuf;
pub mod query;
pub mod request;
mod resources;
pub mod server;
pub mod tls;
mod watch;
pub mod websocket;
mod write;

pub use access::Access;
pub use pipeline::{Api, ApiConfig, RequestLimits};
pub use server::{ConnectionLimits, Handler, Peer, Server};

#[cfg(test)]
mod tests;
