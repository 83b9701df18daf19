//! What a request can fail with, and what to do about it.

use corten_apimachinery::json::JsonError;
use corten_apimachinery::status::Status;

use crate::transport::TransportError;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's refusal.
    #[error("{0}")]
    Status(Box<Status>),
    #[error(transparent)]
    Transport(#[from] TransportError),
    #[error("the server's answer is no JSON")]
    Json(#[from] JsonError),
    /// An object, a path or an answer that is not what it has to be.
    #[error("{0}")]
    Shape(String),
    /// What a controller does outside of the API.
    #[error(transparent)]
    Outside(Box<dyn std::error::Error + Send + Sync>),
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Status(Box::new(status))
    }
}

impl Error {
    /// The code of the server's refusal, or 0.
    pub fn code(&self) -> u16 {
        match self {
            Self::Status(status) => status.code,
            _ => 0,
        }
    }

    pub fn reason(&self) -> &'static str {
        match self {
            Self::Status(status) => status.reason,
            _ => "",
        }
    }

    pub fn is_not_found(&self) -> bool {
        self.code() == 404
    }

    /// The server does not know who asks.
    pub fn is_unauthorized(&self) -> bool {
        self.code() == 401
    }

    /// Somebody else was faster: look again.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// The revision is no longer kept: list again.
    pub fn is_expired(&self) -> bool {
        self.code() == 410
    }

    /// Nothing more can be made in this namespace.
    pub fn is_namespace_terminating(&self) -> bool {
        let Self::Status(status) = self else { return false };
        let causes = status.details.as_ref().map(|details| details.causes.as_slice()).unwrap_or_default();
        causes.iter().any(|cause| cause.reason == "NamespaceTerminating")
    }
}

/// A success for a request whose object may be gone already.
pub fn unless_gone<T>(done: Result<T, Error>) -> Result<Option<T>, Error> {
    match done {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
