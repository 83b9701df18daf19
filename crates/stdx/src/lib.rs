//! Seams to the outside that every crate shares: time, randomness, tasks; and the printer of error chains.

pub mod clock;
pub mod error;
pub mod random;
pub mod task;
