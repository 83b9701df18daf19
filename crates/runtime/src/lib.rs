//! Pod processes, from control's side: the program ([`Program`]), starting and adopting one, and the connection to it.
//!
//! A pod process outlives the control that started it. What is needed to find it again is its socket's path alone: connecting
//! and [`Request::Hello`](corten_podspec::Request::Hello) tell everything that it knows.

mod connection;
pub mod datagram;
pub mod engine;
mod holder;
pub mod own;
mod plan;
mod program;
mod seccomp;
mod socket;
mod spawn;
pub mod spec;

pub use connection::{Answer, Connection, Error};
pub use holder::Holder;
pub use program::Program;
pub use spawn::{adopt, spawn};
