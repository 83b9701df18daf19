//! The tests of the store: one conformance suite for every engine, and what only the embedded one can suffer.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

mod against_model;
mod conformance;
mod copies;
mod crashes;
mod damages;
mod faults;
mod golden;
mod kills;
mod linear;
mod reader;
mod restarts;
mod sim_disk;
mod small_mount;
mod workload;
