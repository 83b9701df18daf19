//! The HTTP data path of a node. What comes from the network is read by one strict codec ([`codec`]) on both sides: a message
//! that two readers could read in two ways is refused, never passed on.
//!
//! Plain configuration comes in; nothing here knows a Kubernetes object.

pub mod codec;
