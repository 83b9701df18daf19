//! HTTP: from a socket or an in-process call to the registry and back.
//!
//! [`server`] accepts connections over [`tls`] and hands requests to a [`server::Handler`]; in-process callers hand
//! theirs to the same one. [`request`] tells what is asked for, [`query`] reads options, [`negotiate`] picks the form of
//! the answer, [`body`] reads and writes.

pub mod body;
pub mod negotiate;
pub mod query;
pub mod request;
pub mod server;
pub mod tls;
