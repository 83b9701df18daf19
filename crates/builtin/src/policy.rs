//! ValidatingAdmissionPolicy: administrators' expressions decide which requests go on
//! (`k8s.io/apiserver/pkg/admission/plugin/policy/validating`).
//!
//! [`feed`] keeps policies and bindings as they are stored, [`compiled`] is a policy with its expressions made ready, [`params`]
//! finds the objects that a binding hands to its policy, [`circumstances`] is what expressions speak of, [`validate`] evaluates
//! them, [`verdict`] says what that means for the request.

mod circumstances;
mod compiled;
mod feed;
mod params;
mod validate;
mod verdict;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use corten_apimachinery::status::Status;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use corten_apiserver::registry::Registry;
use corten_stdx::task::Tasks;
use futures_core::future::BoxFuture;

use crate::lookup::Lookup;
use crate::matching::is_exempt;
use crate::rbac::authorizer::Rbac;
pub(crate) use circumstances::Circumstances;
pub(crate) use compiled::Ready;
use compiled::{Binding, Policy};
pub(crate) use validate::hold;
use verdict::Denials;

pub(crate) const GROUP: &str = "admissionregistration.k8s.io";

/// The plugin and the policies in force. There are none until [`Policies::start`].
#[derive(Clone)]
pub struct Policies(Arc<Shared>);

struct Shared {
    lookup: Arc<dyn Lookup>,
    rbac: Rbac,
    /// Where the kinds are that parameters are of.
    registry: OnceLock<Registry>,
    stored: RwLock<Stored>,
}

/// What is in force.
#[derive(Clone, Default)]
struct Stored {
    policies: Arc<BTreeMap<String, Arc<Policy>>>,
    /// By their own names.
    bindings: Arc<BTreeMap<String, Arc<Binding>>>,
}

impl Policies {
    pub fn new(lookup: Arc<dyn Lookup>, rbac: Rbac) -> Self {
        Self(Arc::new(Shared { lookup, rbac, registry: OnceLock::new(), stored: RwLock::default() }))
    }

    /// The plugin.
    pub fn validating(&self) -> Arc<dyn Admission> {
        Arc::new(Validating(self.0.clone()))
    }

    /// Follows policies and bindings; returns when those that are stored are in force. Once.
    ///
    /// # Errors
    /// When the kinds are not served, or the tasks end before.
    pub async fn start(&self, registry: &Registry, tasks: &Tasks) -> Result<(), Status> {
        assert!(self.0.registry.set(registry.clone()).is_ok(), "policies are started once");
        feed::start(&self.0, registry, tasks).await
    }
}

impl Shared {
    fn stored(&self) -> Stored {
        self.stored.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn registry(&self) -> Result<&Registry, Status> {
        self.registry.get().ok_or_else(|| Status::unavailable("the server is starting"))
    }
}

struct Validating(Arc<Shared>);

impl Admission for Validating {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, _operation: Operation) -> bool {
        true
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        let stored = self.0.stored();
        if stored.policies.is_empty() || stored.bindings.is_empty() || is_exempt(request) {
            return Box::pin(std::future::ready(Ok(())));
        }
        Box::pin(async move { self.0.decide(&stored, request).await })
    }
}

impl Shared {
    async fn decide(&self, stored: &Stored, request: &mut AdmissionRequest) -> Result<(), Status> {
        let kinds = self.registry()?.kinds();
        let mut denials = Denials::default();
        for policy in stored.policies.values() {
            let bindings: Vec<&Arc<Binding>> =
                stored.bindings.values().filter(|binding| binding.policy == policy.name).collect();
            if bindings.is_empty() {
                continue;
            }
            let seen = match policy.constraints.seen(request, &kinds, &*self.lookup).await {
                Ok(None) => continue,
                Ok(Some(kind)) => kind,
                Err(status) => {
                    denials.misconfigured(policy, None, &status.message);
                    continue;
                }
            };
            let mut circumstances = None;
            let mut notes = Vec::new();
            for binding in bindings {
                let matches = match &binding.constraints {
                    Some(constraints) => {
                        constraints.seen(request, &kinds, &*self.lookup).await.map(|seen| seen.is_some())
                    }
                    None => Ok(true),
                };
                let params = match matches {
                    Ok(false) => continue,
                    Ok(true) => self.params(policy, binding, request).await,
                    Err(status) => Err(status.message),
                };
                let params = match params {
                    Ok(params) => params,
                    Err(why) => {
                        denials.misconfigured(policy, Some(binding), &why);
                        continue;
                    }
                };
                if circumstances.is_none() {
                    circumstances = Some(Circumstances::of(request, &seen, &*self.lookup).await?);
                }
                let surroundings = circumstances.as_ref().expect("made above");
                for param in &params {
                    let results = validate::validate(policy, surroundings, param, &self.rbac, request);
                    denials.take(policy, binding, results, request, &mut notes);
                }
            }
            verdict::publish(policy, notes, request);
        }
        denials.settle(request)
    }
}
