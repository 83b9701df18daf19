//! PersistentVolumeClaimResize: a claim grows when it is bound and its class allows it.

use std::sync::Arc;

use corten_apimachinery::quantity::Quantity;
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use futures_core::future::BoxFuture;

use super::{forbidden, is};
use crate::lookup::{Lookup, Resource, tree};

const CLAIMS: Resource = Resource { group: "", plural: "persistentvolumeclaims" };
const CLASSES: Resource = Resource { group: "storage.k8s.io", plural: "storageclasses" };
const CLASS_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";

pub struct PersistentVolumeClaimResize {
    lookup: Arc<dyn Lookup>,
}

impl PersistentVolumeClaimResize {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<(), Status> {
        let Some(old) = request.old.as_ref().filter(|_| is(request, CLAIMS) && request.subresource.is_empty()) else {
            return Ok(());
        };
        if size(&request.object) <= size(old) {
            return Ok(());
        }
        if old.str_at(&["status", "phase"]) != "Bound" {
            return Err(forbidden(request, "Only bound persistent volume claims can be expanded"));
        }
        let (class, before) = (class(&request.object), class(old));
        if !class.is_empty() && class == before && self.grows(class).await? {
            return Ok(());
        }
        let why = "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must \
                   support resize";
        Err(forbidden(request, why))
    }

    async fn grows(&self, class: &str) -> Result<bool, Status> {
        let Some(class) = self.lookup.get(CLASSES, "", class).await? else { return Ok(false) };
        Ok(tree(&class)?.get("allowVolumeExpansion").and_then(Value::as_bool).unwrap_or(false))
    }
}

/// What it asks for; nothing where that is no quantity, which validation refuses.
fn size(claim: &Value) -> Option<Quantity> {
    claim.at(&["spec", "resources", "requests", "storage"]).and_then(|size| Quantity::from_value(size).ok())
}

fn class(claim: &Value) -> &str {
    match claim.str_at(&["metadata", "annotations", CLASS_ANNOTATION]) {
        "" => claim.str_at(&["spec", "storageClassName"]),
        annotated => annotated,
    }
}

impl Admission for PersistentVolumeClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation == Operation::Update
    }

    fn validate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::{Cluster, request};

    async fn resize(to: &str, phase: &str, class: &str) -> Result<(), String> {
        let grows = value!({"metadata": {"name": "grows"}, "allowVolumeExpansion": true});
        let fixed = value!({"metadata": {"name": "fixed"}});
        let plugin = PersistentVolumeClaimResize::new(Arc::new(Cluster(vec![(CLASSES, grows), (CLASSES, fixed)])));
        let claim = |size: &str| {
            value!({
                "metadata": {"name": "c"}, "status": {"phase": phase},
                "spec": {"storageClassName": class, "resources": {"requests": {"storage": size}}}
            })
        };
        let mut request = request(CLAIMS, Operation::Update, "ns", claim(to));
        request.old = Some(Arc::new(claim("1Gi")));
        plugin.validate(&mut request).await.map_err(|status| status.message)
    }

    #[tokio::test]
    async fn only_bound_claims_of_a_class_that_allows_it_grow() {
        assert_eq!(resize("2Gi", "Bound", "grows").await, Ok(()));
        assert_eq!(resize("1Gi", "Pending", "fixed").await, Ok(()));
        let pending = resize("2Gi", "Pending", "grows").await.expect_err("refused");
        assert!(pending.ends_with("Only bound persistent volume claims can be expanded"), "{pending}");
        for class in ["fixed", "none", ""] {
            let refused = resize("2Gi", "Bound", class).await.expect_err("refused");
            assert!(refused.ends_with("that provisions the pvc must support resize"), "{refused}");
        }
    }
}
