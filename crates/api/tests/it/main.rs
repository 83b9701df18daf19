//! The tables against what upstream publishes, and properties that hold for every kind.

#![expect(clippy::unwrap_used, reason = "a test ends by panicking")]

mod conform;
mod facts;
mod golden;
mod hostile;
mod kinds;
mod validation;
