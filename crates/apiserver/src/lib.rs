//! The generic Kubernetes API server. It serves whatever kinds it is given as records ([`corten_apimachinery::kind`]):
//! HTTP and TLS, authentication, authorization and admission as traits, the registry with its watch cache, discovery,
//! OpenAPI, streaming. It names no kind and has no unconditional write.

pub mod admission;
pub mod around;
pub mod auth;
mod cache;
pub mod connect;
pub mod discovery;
pub mod health;
pub mod http;
pub mod metrics;
pub mod openapi;
pub mod registry;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
