//! The pod process on the real kernel: as root, with busybox as the container's files.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

mod container;
mod engine;
mod holder;
mod inside;
mod kills;
mod lives;
mod node;
mod runc;
mod shapes;
mod streams;
