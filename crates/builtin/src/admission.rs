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

#[cfg(test)]
pub(crate) mod fixture {
    //! Requests and a cluster of a few objects, to try plugins on.

    use bytes::Bytes;
    use corten_apimachinery::field::{FieldErrors, FieldPath};
    use corten_apimachinery::json;
    use corten_apimachinery::kind::{GroupVersionKind, KindInfo, Scope, Strategy, Validation};
    use corten_apimachinery::schema::{ConformError, Conformed, Node, ObjectSchema};
    use corten_apimachinery::value::Value;
    use corten_apiserver::admission::Operation;
    use corten_apiserver::auth::User;
    use corten_apiserver::registry::{Head, Object};
    use futures_core::future::BoxFuture;

    use super::*;

    /// A schema that takes everything as it is.
    struct Open;

    impl ObjectSchema for Open {
        fn conform(&self, value: Value) -> Result<Conformed, ConformError> {
            Ok(Conformed { value, unknown: Vec::new() })
        }

        fn default(&self, _value: &mut Value) {}

        fn defaults_on_read(&self) -> bool {
            false
        }

        fn validate(&self, _validation: Validation<'_>, _path: &FieldPath, _errors: &mut FieldErrors) {}

        fn decode_protobuf(&self, _message: &[u8]) -> Option<Result<Value, ConformError>> {
            None
        }

        fn node(&self) -> Node<'_> {
            Node::Unknown
        }

        fn as_any(&self) -> &dyn std::any::Any {
            self
        }
    }

    pub(crate) fn request(
        resource: Resource,
        operation: Operation,
        namespace: &str,
        object: Value,
    ) -> AdmissionRequest {
        let scope = if namespace.is_empty() { Scope::Cluster } else { Scope::Namespaced };
        let kind = KindInfo {
            gvk: GroupVersionKind::new(resource.group, "v1", resource.plural),
            list_kind: "List".into(),
            plural: resource.plural.into(),
            singular: resource.plural.into(),
            short_names: Vec::new(),
            categories: Vec::new(),
            scope,
            verbs: Vec::new(),
            storage_prefix: "/registry".into(),
            convert: None,
            schema: Arc::new(Open),
            strategy: Strategy::default(),
            columns: Vec::new(),
            selectable_fields: Vec::new(),
            subresources: Vec::new(),
        };
        AdmissionRequest {
            user: Arc::new(User { name: "ann".into(), groups: vec!["staff".into()], ..User::default() }),
            kind: Arc::new(kind),
            subresource: String::new(),
            namespace: namespace.to_owned(),
            name: object.str_at(&["metadata", "name"]).to_owned(),
            operation,
            object,
            old: None,
            dry_run: false,
            warnings: Vec::new(),
        }
    }

    /// Objects by resource.
    #[derive(Default)]
    pub(crate) struct Cluster(pub(crate) Vec<(Resource, Value)>);

    impl Cluster {
        fn objects(&self, resource: Resource) -> impl Iterator<Item = Arc<Object>> {
            let own = self.0.iter().filter(move |(of, _)| *of == resource);
            own.map(|(_, value)| {
                let head = Head {
                    name: value.str_at(&["metadata", "name"]).into(),
                    deleting: value.at(&["metadata", "deletionTimestamp"]).is_some(),
                    ..Head::default()
                };
                Arc::new(Object { json: Bytes::from(json::to_vec(value)), splice: 0, revision: 1, head })
            })
        }
    }

    impl Lookup for Cluster {
        fn get<'a>(
            &'a self,
            resource: Resource,
            _namespace: &'a str,
            name: &'a str,
        ) -> BoxFuture<'a, Result<Option<Arc<Object>>, Status>> {
            let found = self.objects(resource).find(|object| object.head.name == name);
            Box::pin(std::future::ready(Ok(found)))
        }

        fn list(&self, resource: Resource) -> BoxFuture<'_, Result<Vec<Arc<Object>>, Status>> {
            Box::pin(std::future::ready(Ok(self.objects(resource).collect())))
        }
    }
}
