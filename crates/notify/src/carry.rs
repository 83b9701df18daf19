//! Carries a message to its target. What does the work outside is behind a trait, so that everything else is tested without.

mod email;
mod tls;
mod webhook;

use std::time::Duration;

use corten_apimachinery::value::Str;
use futures_core::future::BoxFuture;

use crate::kind::Security;
use crate::letter::Letter;

/// How long one attempt may take.
const ATTEMPT_MAX: Duration = Duration::from_secs(8);

/// Where a message goes, with its secrets.
#[derive(Clone, PartialEq, Eq)]
pub enum Address {
    Webhook {
        url: String,
        authorization: Option<String>,
        authorities_pem: Str,
    },
    Email {
        host: Str,
        port: u16,
        security: Security,
        from: Str,
        to: Vec<Str>,
        /// Name and password.
        credentials: Option<(String, String)>,
        authorities_pem: Str,
    },
}

/// Why a message was not taken. What it says is shown to people: no secret is in it.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    #[error("the target does not answer within {} s", ATTEMPT_MAX.as_secs())]
    Silent,
    #[error("{0}")]
    Setting(String),
    #[error("the webhook is not reached")]
    Connect(#[source] std::io::Error),
    #[error("the webhook's certificate is not trusted, or it speaks no TLS")]
    Tls(#[source] std::io::Error),
    #[error("the webhook breaks off")]
    Http(#[from] hyper::Error),
    #[error("the webhook answers {0}")]
    Refused(http::StatusCode),
    #[error("the mail server does not take it")]
    Smtp(#[from] lettre::transport::smtp::Error),
}

/// Takes messages where they are to go.
pub trait Carry: Send + Sync + 'static {
    /// Done when the target has taken it.
    fn carry<'a>(&'a self, address: &'a Address, letter: &'a Letter) -> BoxFuture<'a, Result<(), CarryError>>;
}

/// By HTTP and SMTP.
#[derive(Clone, Copy, Debug, Default)]
pub struct Post;

impl Carry for Post {
    fn carry<'a>(&'a self, address: &'a Address, letter: &'a Letter) -> BoxFuture<'a, Result<(), CarryError>> {
        Box::pin(async move {
            let attempt = async {
                match address {
                    Address::Webhook { url, authorization, authorities_pem } => {
                        webhook::post(url, authorization.as_deref(), authorities_pem, letter).await
                    }
                    Address::Email { .. } => email::send(address, letter).await,
                }
            };
            tokio::time::timeout(ATTEMPT_MAX, attempt).await.unwrap_or(Err(CarryError::Silent))
        })
    }
}
