//! Who asks, and whether they may: the traits that the binary fills.

use std::collections::BTreeMap;
use std::fmt;

use corten_apimachinery::value::Str;
use futures_core::future::BoxFuture;
use rustls::pki_types::CertificateDer;

/// The name and groups of an unauthenticated request.
pub const ANONYMOUS: &str = "system:anonymous";
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
pub const AUTHENTICATED: &str = "system:authenticated";

/// An authenticated identity (`authentication.k8s.io/v1` `UserInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    pub name: Str,
    pub uid: Str,
    pub groups: Vec<Str>,
    pub extra: BTreeMap<Str, Vec<Str>>,
}

/// What a connection and a request bring to prove an identity.
pub struct Credentials<'a> {
    /// The client's certificate chain, leaf first, as the TLS layer verified it against the client CAs; else empty.
    pub certificates: &'a [CertificateDer<'static>],
    pub headers: &'a http::HeaderMap,
}

/// One way to tell who asks. `Ok(None)`: these credentials are not for this authenticator.
pub trait Authenticator: Send + Sync {
    fn authenticate<'a>(&'a self, credentials: &'a Credentials<'a>) -> BoxFuture<'a, Result<Option<User>, AuthnError>>;
}

/// Credentials that are refused; answered 401, the text goes to the log alone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AuthnError(pub String);

/// What is to be done, as authorizers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attributes<'a> {
    pub user: &'a User,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, or a lower-case HTTP method.
    pub verb: &'a str,
    pub target: AuthzTarget<'a>,
}

/// What it is to be done to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthzTarget<'a> {
    Resource {
        group: &'a str,
        version: &'a str,
        resource: &'a str,
        /// Empty for the object itself.
        subresource: &'a str,
        /// Empty for cluster-scoped objects and requests over all namespaces.
        namespace: &'a str,
        /// Empty where the request names none.
        name: &'a str,
    },
    /// A path that is no resource: `/healthz`.
    Path(&'a str),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    Allow,
    /// Refused whatever other authorizers say.
    Deny(String),
    /// Not this authorizer's to allow; the text joins the refusal if nobody allows.
    NoOpinion(String),
}

/// May it be done?
pub trait Authorizer: Send + Sync {
    fn authorize<'a>(&'a self, attributes: &'a Attributes<'a>) -> BoxFuture<'a, Decision>;
}

impl User {
    /// The identity of a request without credentials.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.into(), groups: vec![UNAUTHENTICATED.into()], ..Self::default() }
    }

    pub fn in_group(&self, group: &str) -> bool {
        self.groups.iter().any(|own| own == group)
    }
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}
