//! Why a request was not answered by a server.

use crate::codec::Malformed;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("the client went away")]
    ClientGone,
    #[error("the client was too slow")]
    ClientSlow,
    #[error("the body is larger than allowed")]
    BodyTooLarge,
    #[error("no route for this host and path")]
    NoRoute,
    #[error("nobody is there to answer")]
    NoEndpoint,
    #[error("the server could not be reached")]
    Unreachable,
    #[error("the server closed the connection")]
    ServerGone,
    #[error("the server's answer is not well-formed")]
    ServerMalformed,
    #[error("the server did not answer in time")]
    ServerSlow,
}

impl Fault {
    pub(crate) const fn status(self) -> u16 {
        match self {
            Self::Malformed(malformed) => malformed.status(),
            Self::ClientGone => 499,
            Self::ClientSlow => 408,
            Self::BodyTooLarge => 413,
            Self::NoRoute => 404,
            Self::NoEndpoint => 503,
            Self::Unreachable | Self::ServerGone | Self::ServerMalformed => 502,
            Self::ServerSlow => 504,
        }
    }

    /// Whether the request itself is at an end with it, so that nothing after it on the connection can be read.
    pub(crate) const fn ends_connection(self) -> bool {
        matches!(self, Self::Malformed(_) | Self::ClientGone | Self::ClientSlow | Self::BodyTooLarge)
    }
}
