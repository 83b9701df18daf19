//! The node's network on the real kernel: every test has network namespaces of its own, so nothing of the machine is touched.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

mod overlay;
mod partition;
mod pods;
mod rig;
mod sequence;
mod servers;
mod services;
