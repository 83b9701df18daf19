//! Upstream's admission plugins, one a file, in upstream's order.

mod lifecycle;
mod priority;
mod tolerations;

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apiserver::admission::{Admission, AdmissionRequest};

pub use lifecycle::NamespaceLifecycle;
pub use priority::Priority;
pub use tolerations::DefaultTolerationSeconds;

use crate::lookup::{Lookup, Resource};
use crate::rbac::escalation::Escalation;

/// The chain of every server.
pub fn chain(lookup: &Arc<dyn Lookup>, escalation: Escalation) -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(NamespaceLifecycle::new(lookup.clone())),
        Arc::new(Priority::new(lookup.clone())),
        Arc::new(DefaultTolerationSeconds),
        Arc::new(escalation),
    ]
}

fn is(request: &AdmissionRequest, resource: Resource) -> bool {
    request.kind.gvk.group == resource.group && request.kind.plural == resource.plural
}

/// Upstream's refusal by a plugin. Names the object by what it will be called, as far as that is known.
fn forbidden(request: &AdmissionRequest, why: &str) -> Status {
    let generated = request.object.str_at(&["metadata", "generateName"]);
    let name = match (request.name.as_str(), generated) {
        ("", "") => "Unknown",
        ("", prefix) => prefix,
        (name, _) => name,
    };
    Status::forbidden(&request.kind.gvk.group, &request.kind.plural, name, why)
}
