//! The node's loop between a real API server in memory and an engine that only remembers.

mod eviction;
mod fakes;
mod kills;
mod node;
mod pods;
mod registration;
