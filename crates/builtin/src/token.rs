//! Tokens of service accounts: made on request, bound to what they are for, checked against what there still is
//! (`pkg/serviceaccount` of Kubernetes 1.36). Signed with ES256; none is ever stored.

mod authenticator;
mod claims;
mod jwt;
mod keys;
mod openid;
mod request;
mod review;

use std::sync::Arc;

use corten_apimachinery::value::Str;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;

pub use authenticator::BearerTokens;
pub(crate) use authenticator::bearer;
pub use keys::{Keys, KeysError};
pub use openid::routes;
pub use request::TokenRequests;
pub use review::TokenReviews;

use crate::lookup::{Lookup, Resource};

/// Who tokens say they are from; also the audience of a token that names none.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

pub(crate) const SERVICE_ACCOUNTS: Resource = Resource { group: "", plural: "serviceaccounts" };
pub(crate) const SECRETS: Resource = Resource { group: "", plural: "secrets" };
pub(crate) const NODES: Resource = Resource { group: "", plural: "nodes" };

/// What making and checking tokens needs. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    pub keys: Keys,
    pub lookup: Arc<dyn Lookup>,
    pub clock: Clock,
    pub random: Random,
}

/// The audiences of the API server itself.
fn own_audiences() -> Vec<Str> {
    vec![ISSUER.into()]
}

#[cfg(test)]
mod tests;
