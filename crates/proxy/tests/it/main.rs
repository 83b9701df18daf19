//! Tests of the data path from outside.

#![expect(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "a step that fails ends a test; tests measure time"
)]

mod corpus;
mod edge;
mod origin;
mod stream;

mod forwarding;
mod requests;
mod secure;
mod splits;
