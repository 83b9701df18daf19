//! Requests, kinds and a cluster of a few objects, to try plugins on. For tests alone.

use std::sync::Arc;

use bytes::Bytes;
use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::json;
use corten_apimachinery::kind::{GroupVersionKind, KindInfo, NameRule, Scope, Strategy, Validation};
use corten_apimachinery::schema::{ConformError, Conformed, Node, ObjectSchema};
use corten_apimachinery::status::Status;
use corten_apimachinery::value::Value;
use corten_apiserver::admission::{AdmissionRequest, Operation};
use corten_apiserver::auth::User;
use corten_apiserver::registry::{Head, Object};
use futures_core::future::BoxFuture;

use crate::lookup::{Lookup, Resource};

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

pub(crate) fn request(resource: Resource, operation: Operation, namespace: &str, object: Value) -> AdmissionRequest {
    let kind = kind(resource, resource.plural, !namespace.is_empty());
    let user = Arc::new(User { name: "ann".into(), groups: vec!["staff".into()], ..User::default() });
    AdmissionRequest {
        namespace: namespace.to_owned(),
        name: object.str_at(&["metadata", "name"]).to_owned(),
        object,
        ..AdmissionRequest::new(user, Arc::new(kind), operation)
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
                namespace: value.str_at(&["metadata", "namespace"]).into(),
                name: value.str_at(&["metadata", "name"]).into(),
                uid: value.str_at(&["metadata", "uid"]).into(),
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

/// A kind that takes every object.
pub(crate) fn kind(resource: Resource, kind: &str, namespaced: bool) -> KindInfo {
    KindInfo {
        gvk: GroupVersionKind::new(resource.group, "v1", kind),
        list_kind: format!("{kind}List").into(),
        plural: resource.plural.into(),
        singular: kind.to_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope: if namespaced { Scope::Namespaced } else { Scope::Cluster },
        verbs: vec!["get".into()],
        storage_prefix: format!("/registry/{}/{}", resource.group, resource.plural).into(),
        convert: None,
        schema: Arc::new(Open),
        strategy: Strategy { name: NameRule::PathSegment, ..Strategy::default() },
        columns: Vec::new(),
        selectable_fields: Vec::new(),
        subresources: Vec::new(),
    }
}
