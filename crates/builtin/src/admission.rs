//! Upstream's admission plugins, one a file, in upstream's order.

mod certificates;
mod classes;
mod lifecycle;
mod limits;
mod node_restriction;
mod pod_security;
mod priority;
mod protection;
mod quota;
pub(crate) mod references;
mod resize;
mod runtime_class;
pub(crate) mod service_account;
mod taints;
mod tolerations;

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apiserver::admission::{Admission, AdmissionRequest};
use corten_apiserver::auth::Authorizer;
use corten_stdx::random::Random;

pub use certificates::{CertificateApproval, CertificateSigning, CertificateSubjectRestriction};
pub use classes::DefaultClass;
pub use lifecycle::NamespaceLifecycle;
pub use limits::LimitRanger;
pub use node_restriction::NodeRestriction;
pub use pod_security::PodSecurity;
pub use priority::Priority;
pub use protection::StorageObjectInUseProtection;
pub use quota::{Ledger, Quotas, ResourceQuota};
pub use resize::PersistentVolumeClaimResize;
pub use runtime_class::RuntimeClass;
pub use service_account::ServiceAccount;
pub use taints::TaintNodesByCondition;
pub use tolerations::DefaultTolerationSeconds;

use crate::lookup::{Lookup, Resource};
use crate::policy::Policies;
use crate::rbac::escalation::Escalation;
use crate::webhook::Webhooks;

/// The chain of every server. `authorizer` is asked about what no request's path names. What others configure comes after
/// what is built in, and quota last: only what all others let through is counted.
pub fn chain(
    lookup: &Arc<dyn Lookup>,
    authorizer: &Arc<dyn Authorizer>,
    escalation: Escalation,
    policies: &Policies,
    webhooks: &Webhooks,
    quotas: ResourceQuota,
    random: &Random,
) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(NamespaceLifecycle::new(lookup.clone())),
        Arc::new(LimitRanger::new(lookup.clone())),
        Arc::new(ServiceAccount::new(lookup.clone(), random.clone())),
        Arc::new(NodeRestriction::new(lookup.clone(), authorizer.clone())),
        Arc::new(TaintNodesByCondition),
        Arc::new(PodSecurity::new(lookup.clone())),
        Arc::new(Priority::new(lookup.clone())),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(DefaultClass::storage(lookup.clone())),
        Arc::new(StorageObjectInUseProtection),
        Arc::new(PersistentVolumeClaimResize::new(lookup.clone())),
        Arc::new(RuntimeClass::new(lookup.clone())),
        Arc::new(CertificateApproval::new(authorizer.clone())),
        Arc::new(CertificateSigning::new(authorizer.clone())),
        Arc::new(CertificateSubjectRestriction),
        Arc::new(DefaultClass::ingress(lookup.clone())),
        Arc::new(escalation),
        webhooks.mutating(),
        policies.validating(),
        webhooks.validating(),
        // What is charged is to be written: nobody refuses it afterwards.
        Arc::new(quotas),
    ]
}

fn is(request: &AdmissionRequest, resource: Resource) -> bool {
    request.kind.gvk.group == resource.group && request.kind.plural == resource.plural
}

/// Upstream's refusal by a plugin. Names the object by what it will be called, as far as that is known.
pub(crate) fn forbidden(request: &AdmissionRequest, why: &str) -> Status {
    let generated = request.object.str_at(&["metadata", "generateName"]);
    let name = match (request.name.as_str(), generated) {
        ("", "") => "Unknown",
        ("", prefix) => prefix,
        (name, _) => name,
    };
    Status::forbidden(&request.kind.gvk.group, &request.kind.plural, name, why)
}
