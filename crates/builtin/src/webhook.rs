//! Admission webhooks: somebody else's server is asked whether a request may go on, and what is to be changed of it
//! (`k8s.io/apiserver/pkg/admission/plugin/webhook`).
//!
//! [`feed`] keeps the configurations as they are stored, [`hook`] is one webhook read out of them, [`sight`] tells
//! which requests it sees, [`review`] is what is said over the wire, [`caller`] the way there. The two plugins,
//! [`mutating`] and [`validating`], stand at the end of the chain. A webhook that hangs holds the requests that it was
//! asked about, no more than [`caller::CALLS_MAX`] of them, and each no longer than its time-out.

mod caller;
mod feed;
mod hook;
mod mutating;
mod resolve;
mod review;
mod sight;
#[cfg(test)]
mod tests;
mod tls;
mod validating;
mod verdict;

use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use corten_apimachinery::status::Status;
use corten_apiserver::admission::Admission;
use corten_apiserver::metrics::Metrics;
use corten_apiserver::registry::Registry;
use corten_stdx::clock::Clock;
use corten_stdx::random::Random;
use corten_stdx::task::Tasks;

use crate::lookup::Lookup;
use crate::rbac::Rbac;
use feed::Feed;
use hook::Hook;
use mutating::Mutating;
use validating::Validating;

/// What webhooks are called by.
pub struct Ground {
    pub lookup: Arc<dyn Lookup>,
    /// Tells the variable `authorizer` of match conditions who may do what.
    pub rbac: Rbac,
    pub metrics: Arc<Metrics>,
    pub clock: Clock,
    pub random: Random,
    pub tasks: Tasks,
}

/// Both plugins and the webhooks that they call. There are none until [`Webhooks::start`].
#[derive(Clone)]
pub struct Webhooks(Arc<Shared>);

struct Shared {
    ground: Ground,
    trust: tls::Trust,
    /// Where the kinds are that objects are converted to.
    registry: OnceLock<Registry>,
    mutating: Set,
    validating: Set,
}

/// The webhooks of one kind of configuration, in the order in which they are called.
#[derive(Default)]
struct Set(RwLock<Arc<[Arc<Hook>]>>);

impl Set {
    fn get(&self) -> Arc<[Arc<Hook>]> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, hooks: Vec<Arc<Hook>>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = hooks.into();
    }
}

impl Webhooks {
    pub fn new(ground: Ground) -> Self {
        let trust = tls::Trust::new(ground.clock.clone());
        let (mutating, validating) = (Set::default(), Set::default());
        Self(Arc::new(Shared { ground, trust, registry: OnceLock::new(), mutating, validating }))
    }

    /// The plugin that changes objects; behind all others that do.
    pub fn mutating(&self) -> Arc<dyn Admission> {
        Arc::new(Mutating(self.0.clone()))
    }

    /// The plugin that only refuses.
    pub fn validating(&self) -> Arc<dyn Admission> {
        Arc::new(Validating(self.0.clone()))
    }

    /// Follows the configurations; returns when those that are stored are in effect. Once.
    ///
    /// # Errors
    /// When the kinds are not served, or the tasks end before.
    pub async fn start(&self, registry: &Registry) -> Result<(), Status> {
        assert!(self.0.registry.set(registry.clone()).is_ok(), "webhooks are started once");
        Feed::start(&self.0, registry).await
    }
}
