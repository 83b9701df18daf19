//! Placement, preemption and hints over small clusters that are written as JSON.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

mod changes;
mod cluster;
mod filters;
mod hints;
mod preemption;
mod requests;
mod scores;
mod upstream;
