//! What expressions speak of: the request's head, its objects in the version that the policy sees, its namespace.

use std::sync::Arc;

use corten_apimachinery::kind::{GroupVersionKind, KindInfo};
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::admission::AdmissionRequest;

use crate::lookup::{Lookup, NAMESPACES, tree};
use crate::matching::is_namespace;

/// One request as one policy sees it.
pub(crate) struct Circumstances {
    pub(crate) request: Value,
    pub(crate) object: Value,
    pub(crate) old_object: Value,
    /// `Null` for requests without one, and for namespaces themselves.
    pub(crate) namespace: Value,
}

impl Circumstances {
    pub(super) async fn of(
        request: &AdmissionRequest,
        seen: &Arc<KindInfo>,
        lookup: &dyn Lookup,
    ) -> Result<Self, Status> {
        let namespace = if request.namespace.is_empty() || is_namespace(&request.kind) {
            Value::Null
        } else {
            match lookup.get(NAMESPACES, "", &request.namespace).await? {
                Some(namespace) => tree(&namespace)?,
                None => return Err(Status::not_found("", NAMESPACES.plural, &request.namespace)),
            }
        };
        let old_object = match &request.old {
            Some(old) => in_version(old, request, seen)?,
            None => Value::Null,
        };
        Ok(Self {
            request: head(request, seen),
            object: in_version(&request.object, request, seen)?,
            old_object,
            namespace,
        })
    }
}

/// An object of the request in the version that is seen.
fn in_version(object: &Value, request: &AdmissionRequest, seen: &Arc<KindInfo>) -> Result<Value, Status> {
    let same_body = request.kind.subresource(&request.subresource).is_some_and(|own| own.gvk != request.kind.gvk);
    if object.is_null() || seen.gvk == request.kind.gvk || same_body {
        return Ok(object.clone());
    }
    let mut object = object.clone();
    if let Some(convert) = &request.kind.convert {
        object = (convert.to_storage)(object).map_err(Status::internal)?;
    }
    match &seen.convert {
        Some(convert) => (convert.from_storage)(object).map_err(Status::internal),
        None => Ok(object),
    }
}

/// The variable `request`.
fn head(request: &AdmissionRequest, seen: &Arc<KindInfo>) -> Value {
    let kind = |gvk: &GroupVersionKind| value!({"group": (gvk.group.clone()), "version": (gvk.version.clone()), "kind": (gvk.kind.clone())});
    let resource = |of: &KindInfo| {
        let gvr = of.gvr();
        value!({"group": (gvr.group), "version": (gvr.version), "resource": (gvr.resource)})
    };
    let body = seen.subresource(&request.subresource).map_or(&seen.gvk, |own| &own.gvk);
    let mut map = Map::new();
    map.insert("uid", "");
    map.insert("kind", kind(body));
    map.insert("resource", resource(seen));
    map.insert("requestKind", kind(request.body()));
    map.insert("requestResource", resource(&request.kind));
    for key in ["subResource", "requestSubResource"] {
        if !request.subresource.is_empty() {
            map.insert(key, request.subresource.as_str());
        }
    }
    let namespace = if is_namespace(&request.kind) { &request.name } else { &request.namespace };
    for (key, text) in [("name", &request.name), ("namespace", namespace)] {
        if !text.is_empty() {
            map.insert(key, text.as_str());
        }
    }
    map.insert("operation", request.operation.as_str());
    map.insert("userInfo", user(request));
    map.insert("dryRun", request.dry_run);
    map.insert("options", request.options_object());
    Value::Object(map)
}

fn user(request: &AdmissionRequest) -> Value {
    let user = &request.user;
    let mut map = Map::new();
    for (key, text) in [("username", &user.name), ("uid", &user.uid)] {
        if !text.is_empty() {
            map.insert(key, text.clone());
        }
    }
    if !user.groups.is_empty() {
        map.insert("groups", user.groups.clone());
    }
    if !user.extra.is_empty() {
        let extra: Map = user.extra.iter().map(|(key, values)| (key.clone(), Value::from(values.clone()))).collect();
        map.insert("extra", extra);
    }
    Value::Object(map)
}
