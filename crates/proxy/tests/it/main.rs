//! Tests of the data path from outside.
#![allow(clippy::unwrap_used, reason = "a test that unwraps fails where it should")]

mod corpus;
mod stream;

mod requests;
mod splits;
