//! What expressions speak of: the request's head, its objects in the version that the policy sees, its namespace.

use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::AdmissionRequest;

use crate::lookup::{Lookup, NAMESPACES, tree};
use crate::matching::{SeenAs, is_namespace};

/// One request as one policy sees it.
pub(crate) struct Circumstances {
    pub(crate) request: Value,
    pub(crate) object: Value,
    pub(crate) old_object: Value,
    /// `Null` for requests without one, and for namespaces themselves.
    pub(crate) namespace: Value,
}

impl Circumstances {
    pub(super) async fn of(request: &AdmissionRequest, seen: &SeenAs, lookup: &dyn Lookup) -> Result<Self, Status> {
        let namespace = if request.namespace.is_empty() || is_namespace(&request.kind) {
            Value::Null
        } else {
            match lookup.get(NAMESPACES, "", &request.namespace).await? {
                Some(namespace) => tree(&namespace)?,
                None => return Err(Status::not_found("", NAMESPACES.plural, &request.namespace)),
            }
        };
        Ok(Self { namespace, ..Self::without_namespace(request, seen)? })
    }

    /// What can be said without asking for anything.
    pub(crate) fn without_namespace(request: &AdmissionRequest, seen: &SeenAs) -> Result<Self, Status> {
        Ok(Self {
            request: seen.head(request, ""),
            object: seen.object(&request.object, request)?,
            old_object: seen.old_object(request)?,
            namespace: Value::Null,
        })
    }
}
