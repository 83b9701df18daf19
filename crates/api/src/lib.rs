//! The kinds of the Kubernetes API as data. What upstream publishes as facts (types, fields, verbs, names) stands in
//! generated tables under `facts/`; what it writes as code (defaults, validation, columns, strategies) is written by
//! hand as small rules that are attached to a type ([`rules`]) or to a kind ([`kinds`]). [`catalog`] joins them.

pub mod catalog;
mod facts;
pub mod kinds;
pub mod rules;

pub use catalog::{kinds, measured, metadata_schema, schema, table};
