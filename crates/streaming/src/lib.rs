//! Several byte streams over one connection, as Kubernetes' clients speak them: the server's side of `exec`, `attach` and
//! `port-forward`.
//!
//! There are two carriers. A WebSocket ([`websocket`]) gives every message a first byte that names its channel. SPDY/3.1
//! ([`spdy`]) has streams with headers; it comes over a bare upgraded connection, or inside the binary messages of a WebSocket.
//! Both end in the same two types: [`Incoming`] and [`Outgoing`]. What a session consists of is one level above: [`remote`] for
//! a program's streams, [`forward`] for pairs of streams that lead to a port.
//!
//! Nothing here runs by itself: opening a session gives its streams and a [`Driver`], the future that moves the bytes. The
//! driver ends when the client has gone, or when everything was sent and every sending end was dropped.
//!
//! Both directions have bounded queues; a stream that is not read stops the connection, as in upstream's implementation,
//! whose clients do not obey windows.

pub mod forward;
pub mod handshake;
pub mod reader;
pub mod remote;
pub mod spdy;
mod stream;
pub mod websocket;

use std::time::Duration;

use futures_core::future::BoxFuture;

pub use stream::{Gone, Incoming, Outgoing};

/// Moves a connection's bytes.
pub type Driver = BoxFuture<'static, ()>;

/// Bytes that are handed on in one piece.
pub const CHUNK_BYTES_MAX: usize = 32 * 1024;

/// Pieces that wait in one stream, in either direction of a connection.
pub const CHUNKS_WAITING_MAX: usize = 16;

/// How long a client may take to open the streams that it announced (upstream: 30 s).
pub const STREAMS_OPEN_LIMIT: Duration = Duration::from_secs(30);

/// How long a connection stays after everything was sent, so that the client can take it before an unread byte of its own
/// makes the kernel reset the connection.
pub const LINGER_LIMIT: Duration = Duration::from_secs(2);

/// Why a session could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the connection was not upgraded")]
    Upgrade(#[from] hyper::Error),
    #[error("the client did not open its streams in time")]
    TimedOut,
    #[error("the connection ended before its streams were open")]
    Ended,
    #[error("the client opened a stream of unknown type {0:?}")]
    UnknownStream(String),
}
