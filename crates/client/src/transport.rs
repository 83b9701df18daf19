//! How a request gets to an API server: a seam with one implementation inside the process, one over HTTPS, and fakes.

use bytes::Bytes;
use futures_core::future::BoxFuture;
use http_body_util::combinators::UnsyncBoxBody;

pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// An answer's body, as it arrives.
pub type StreamBody = UnsyncBoxBody<Bytes, BoxError>;

/// Sends whole requests and gives answers whose bodies stream. The URI of a request has a path and a query alone.
pub trait Transport: Send + Sync {
    fn send(&self, request: http::Request<Bytes>) -> BoxFuture<'_, Result<http::Response<StreamBody>, TransportError>>;
}

/// No answer, or one that broke off. Whether a write was done is not known.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct TransportError {
    pub what: &'static str,
    pub source: BoxError,
}

impl TransportError {
    pub fn new(what: &'static str, source: impl Into<BoxError>) -> Self {
        Self { what, source: source.into() }
    }
}
