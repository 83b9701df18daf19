//! The one way to an API server, for everything that is not the API server: requests ([`Client`]) over a [`Transport`]
//! inside the process or over HTTPS, caches of slim views that follow a kind ([`informer`]), and the driver of every
//! controller ([`controller`]).
//!
//! Nothing here knows a kind. Time and randomness come as arguments, so that tests drive everything with a manual clock.

pub mod backoff;
pub mod cache;
pub mod client;
pub mod controller;
pub mod discovery;
pub mod error;
pub mod events;
pub mod finalizer;
pub mod https;
pub mod informer;
mod line;
pub mod resource;
pub mod transport;
pub mod trust;

pub use client::{Client, Delete, Listed, Patch, Select, Watching};
pub use error::Error;
pub use informer::Informers;
pub use resource::Resource;
pub use transport::{StreamBody, Transport, TransportError};
