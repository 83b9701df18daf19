//! The client and the driver against a server that fails: everything is drawn from a seed, time is advanced by hand.

mod events;
mod server;
mod simulation;
