//! The translator on the real kernel, fed by an API that says what a test tells it.

#![expect(clippy::unwrap_used, reason = "a failed step of a test is a panic")]

mod api;
mod peers;
