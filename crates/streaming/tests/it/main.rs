//! Sessions against a client of our own, over a connection in memory; and hostile bytes.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

mod client;
mod forward;
mod frames;
mod reader;
mod remote;
