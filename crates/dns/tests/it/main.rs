//! Zones in, answers out: pure tables, then real sockets with a server of the world that the test plays.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

mod answers;
mod sockets;
mod zones;
