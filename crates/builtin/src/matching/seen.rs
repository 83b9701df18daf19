//! A request as a rule of admission sees it: as one for a kind that the rule names, with its objects in that kind's form.

use std::sync::Arc;

use corten_apimachinery::kind::{GroupVersionKind, KindInfo};
use corten_apimachinery::status::Status;
use corten_apimachinery::value;
use corten_apimachinery::value::{Map, Value};
use corten_apiserver::admission::AdmissionRequest;

use super::namespace_of;

#[derive(Clone)]
pub(crate) struct SeenAs {
    /// The kind that the path names, or one that is stored as the same.
    pub(crate) kind: Arc<KindInfo>,
    /// The kind of the objects, which a subresource may have of its own.
    pub(crate) body: GroupVersionKind,
}

impl SeenAs {
    pub(super) fn new(kind: Arc<KindInfo>, request: &AdmissionRequest) -> Self {
        let body = kind.subresource(&request.subresource).map_or(&kind.gvk, |own| &own.gvk).clone();
        Self { kind, body }
    }

    /// An object of the request in the form that is seen.
    pub(crate) fn object(&self, object: &Value, request: &AdmissionRequest) -> Result<Value, Status> {
        if object.is_null() || self.body == *request.body() {
            return Ok(object.clone());
        }
        convert(object.clone(), &request.kind, &self.kind)
    }

    /// The stored object likewise; `Null` where there is none.
    pub(crate) fn old_object(&self, request: &AdmissionRequest) -> Result<Value, Status> {
        request.old.as_ref().map_or(Ok(Value::Null), |old| self.object(old, request))
    }

    /// The request without its objects (`admission.k8s.io/v1` `AdmissionRequest`).
    pub(crate) fn head(&self, request: &AdmissionRequest, uid: &str) -> Value {
        let kind = |gvk: &GroupVersionKind| value!({"group": (gvk.group.clone()), "version": (gvk.version.clone()), "kind": (gvk.kind.clone())});
        let resource = |of: &KindInfo| {
            let gvr = of.gvr();
            value!({"group": (gvr.group), "version": (gvr.version), "resource": (gvr.resource)})
        };
        let mut map = Map::new();
        map.insert("uid", uid);
        map.insert("kind", kind(&self.body));
        map.insert("resource", resource(&self.kind));
        map.insert("requestKind", kind(request.body()));
        map.insert("requestResource", resource(&request.kind));
        let texts = [
            ("subResource", request.subresource.as_str()),
            ("requestSubResource", &request.subresource),
            ("name", &request.name),
            ("namespace", namespace_of(request)),
        ];
        for (key, text) in texts {
            if !text.is_empty() {
                map.insert(key, text);
            }
        }
        map.insert("operation", request.operation.as_str());
        map.insert("userInfo", user(request));
        map.insert("dryRun", request.dry_run);
        map.insert("options", request.options_object());
        Value::Object(map)
    }
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

/// One kind's form of an object as another's that is stored as the same.
pub(crate) fn convert(mut object: Value, from: &KindInfo, to: &KindInfo) -> Result<Value, Status> {
    if let Some(convert) = &from.convert {
        object = (convert.to_storage)(object).map_err(Status::internal)?;
    }
    if let Some(convert) = &to.convert {
        object = (convert.from_storage)(object).map_err(Status::internal)?;
    }
    Ok(object)
}
