//! Seams to the outside that every crate shares: time, randomness, tasks; files that are never half written, and the printer of
//! error chains.

pub mod clock;
pub mod error;
pub mod file;
pub mod random;
pub mod task;
