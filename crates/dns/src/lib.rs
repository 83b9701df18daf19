//! Cluster DNS, by the specification "Kubernetes DNS-Based Service Discovery" 1.1.0: [`Zones`] in, answers out.
//!
//! [`Zones`] is what a cluster has, in plain structs; a [`Table`] is made of it, whole, whenever it changes, and never changed.
//! [`answer`] is pure: it answers from the table or says that somebody else has to be asked. [`Server`] does the rest: sockets,
//! which come as arguments, and [`Forwarder`], which asks the servers of the world and remembers what they said.
//!
//! Search paths cost one step: a name below a search domain that is not there is looked for where the client would look
//! next, and the answer is an alias, so that nobody waits for a row of refusals.

pub mod answer;
mod cache;
mod forward;
mod server;
mod table;
mod zones;

pub use forward::Forwarder;
pub use server::{Server, Sockets};
pub use table::Table;
pub use zones::{Endpoint, Port, Service, Zones};
