//! The HTTP data path of a node. What comes from the network is read by one strict codec ([`codec`]) on both sides: a message
//! that two readers could read in two ways is refused, never passed on.
//!
//! Plain configuration comes in ([`config`]) and is put in force while requests go on ([`server::Edge`]); nothing here knows a
//! Kubernetes object. One thread a core, each with its own runtime, connections and counters. A request's way: `client` (one
//! connection) → `table` (its route) → `exchange` (a server, and back) with `relay` (bodies), `pool` and `backend`.

mod access;
pub mod backend;
mod client;
pub mod codec;
pub mod config;
mod core;
mod exchange;
mod fault;
mod link;
mod pool;
mod relay;
pub mod server;
pub mod snapshot;
pub mod stats;
pub mod table;
mod timer;
mod tls;
pub mod wire;

pub use core::{Settings, Timeouts};
pub use tls::CertificateError;
