//! NamespaceLifecycle: nothing is made in a namespace that is not there or is being deleted, and the system's
//! namespaces stay.

use std::sync::Arc;

use corten_apimachinery::status::Status;
use corten_apiserver::admission::{Admission, AdmissionRequest, Operation};
use futures_core::future::BoxFuture;

use super::{forbidden, is};
use crate::lookup::{Lookup, NAMESPACES, Resource};

/// They may not be deleted.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];

/// Answering whether its namespace exists would tell what the asker may not know.
const LOCAL_ACCESS_REVIEWS: Resource = Resource { group: "authorization.k8s.io", plural: "localsubjectaccessreviews" };

pub struct NamespaceLifecycle {
    lookup: Arc<dyn Lookup>,
}

impl NamespaceLifecycle {
    pub fn new(lookup: Arc<dyn Lookup>) -> Self {
        Self { lookup }
    }

    async fn check(&self, request: &AdmissionRequest) -> Result<(), Status> {
        let deletes = request.operation == Operation::Delete;
        if is(request, NAMESPACES) {
            let immortal = deletes && IMMORTAL.contains(&request.name.as_str());
            return if immortal { Err(forbidden(request, "this namespace may not be deleted")) } else { Ok(()) };
        }
        if request.namespace.is_empty() || deletes || is(request, LOCAL_ACCESS_REVIEWS) {
            return Ok(());
        }
        let namespace = self.lookup.get(NAMESPACES, "", &request.namespace).await?;
        let Some(namespace) = namespace else { return Err(Status::not_found("", "namespaces", &request.namespace)) };
        if request.operation == Operation::Create && namespace.head.deleting {
            let name = &request.namespace;
            let why = format!("unable to create new content in namespace {name} because it is being terminated");
            let cause = format!("namespace {name} is being terminated");
            return Err(forbidden(request, &why).with_cause("NamespaceTerminating", cause, "metadata.namespace"));
        }
        Ok(())
    }
}

impl Admission for NamespaceLifecycle {
    fn name(&self) -> &'static str {
        "NamespaceLifecycle"
    }

    fn handles(&self, operation: Operation) -> bool {
        operation != Operation::Connect
    }

    fn mutate<'a>(&'a self, request: &'a mut AdmissionRequest) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.check(request))
    }
}

#[cfg(test)]
mod tests {
    use corten_apimachinery::value;

    use super::*;
    use crate::fixture::{Cluster, request};
    use crate::lookup::PODS;

    async fn ask(resource: Resource, operation: Operation, namespace: &str, name: &str) -> Result<(), Status> {
        let going = value!({"metadata": {"name": "going", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let there = value!({"metadata": {"name": "there"}});
        let cluster = Cluster(vec![(NAMESPACES, going), (NAMESPACES, there)]);
        let plugin = NamespaceLifecycle::new(Arc::new(cluster));
        plugin.mutate(&mut request(resource, operation, namespace, value!({"metadata": {"name": name}}))).await
    }

    #[tokio::test]
    async fn creation_needs_a_living_namespace() {
        use Operation::{Create, Delete, Update};
        assert_eq!(ask(PODS, Create, "there", "a").await, Ok(()));
        let absent = ask(PODS, Create, "absent", "a").await.expect_err("refused");
        assert_eq!((absent.code, absent.message.as_str()), (404, "namespaces \"absent\" not found"));
        let going = ask(PODS, Create, "going", "a").await.expect_err("refused");
        let text =
            "pods \"a\" is forbidden: unable to create new content in namespace going because it is being terminated";
        assert_eq!((going.code, going.message.as_str()), (403, text));
        let causes = going.details.expect("details").causes;
        assert_eq!(
            (causes[0].reason.as_str(), causes[0].field.as_str()),
            ("NamespaceTerminating", "metadata.namespace")
        );
        assert_eq!(ask(PODS, Update, "going", "a").await, Ok(()));
        assert_eq!(ask(PODS, Delete, "absent", "a").await, Ok(()));
        assert_eq!(ask(LOCAL_ACCESS_REVIEWS, Create, "absent", "").await, Ok(()));
    }

    #[tokio::test]
    async fn the_systems_namespaces_stay() {
        let refused = ask(NAMESPACES, Operation::Delete, "", "kube-system").await.expect_err("refused");
        assert_eq!(refused.message, "namespaces \"kube-system\" is forbidden: this namespace may not be deleted");
        assert_eq!(ask(NAMESPACES, Operation::Delete, "", "shop").await, Ok(()));
    }
}
