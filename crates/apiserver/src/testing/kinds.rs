//! Two hand-made kinds that differ in nothing but scope and what strategies make of it.

use std::any::Any;
use std::sync::Arc;

use corten_apimachinery::field::{FieldErrors, FieldPath};
use corten_apimachinery::kind::{
    FieldValue, GroupVersionKind, KindInfo, Propagation, ScalePaths, Scope, SelectableField, Serve, Strategy,
    Subresource, Validation,
};
use corten_apimachinery::schema::structural::CustomSchema;
use corten_apimachinery::schema::{ConformError, Conformed, Node, ObjectSchema};
use corten_apimachinery::value;
use corten_apimachinery::value::Value;

/// A namespaced kind with status, scale and generation.
pub fn widget() -> KindInfo {
    kind("Widget", "widgets", Scope::Namespaced)
}

/// The same as a cluster-scoped kind.
pub fn gadget() -> KindInfo {
    kind("Gadget", "gadgets", Scope::Cluster)
}

/// A kind that is read and never stored.
pub fn gauge() -> KindInfo {
    let mut gauge = kind("Gauge", "gauges", Scope::Namespaced);
    gauge.verbs = vec!["get".into(), "list".into()];
    gauge.storage_prefix = "".into();
    gauge.subresources = Vec::new();
    gauge
}

/// The body of scale subresources.
pub fn scale() -> KindInfo {
    let mut scale = kind("Scale", "", Scope::Namespaced);
    scale.gvk = GroupVersionKind::new("autoscaling", "v1", "Scale");
    scale.storage_prefix = "/registry/scales".into();
    scale.verbs = Vec::new();
    scale.subresources = Vec::new();
    scale
}

fn kind(name: &str, plural: &str, scope: Scope) -> KindInfo {
    let gvk = GroupVersionKind::new("test.corten.dev", "v1", name);
    let verbs = ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let subresource = |name: &str, gvk: &GroupVersionKind, serve| Subresource {
        name: name.into(),
        verbs: vec!["get".into(), "patch".into(), "update".into()],
        gvk: gvk.clone(),
        serve,
    };
    let scale = ScalePaths {
        spec_replicas: vec!["spec".into(), "replicas".into()],
        status_replicas: vec!["status".into(), "replicas".into()],
        selector: None,
    };
    KindInfo {
        subresources: vec![
            subresource("status", &gvk, Serve::Status),
            subresource("scale", &GroupVersionKind::new("autoscaling", "v1", "Scale"), Serve::Scale(scale)),
        ],
        list_kind: format!("{name}List").into(),
        plural: plural.into(),
        singular: name.to_lowercase().into(),
        short_names: Vec::new(),
        categories: Vec::new(),
        scope,
        verbs: verbs.map(Into::into).to_vec(),
        storage_prefix: format!("/registry/test.corten.dev/{plural}").into(),
        convert: None,
        schema: Arc::new(schema()),
        strategy: Strategy {
            generation: true,
            status: true,
            default_propagation: Propagation::Background,
            ..Strategy::default()
        },
        columns: Vec::new(),
        selectable_fields: vec![SelectableField {
            name: "spec.color".into(),
            value: FieldValue::Path(vec!["spec".into(), "color".into()]),
        }],
        gvk,
    }
}

fn schema() -> CustomSchema {
    let declared = value!({
        "type": "object",
        "properties": {
            "spec": {
                "type": "object",
                "properties": {
                    "color": {"type": "string"},
                    "replicas": {"type": "integer", "minimum": (Value::Float(0.0))},
                    "tags": {"type": "array", "items": {"type": "string"}}
                }
            },
            "status": {
                "type": "object",
                "properties": {"phase": {"type": "string"}, "replicas": {"type": "integer"}}
            }
        }
    });
    CustomSchema::new(declared, Arc::new(OpenMetadata), &FieldPath::root()).expect("the declaration is valid")
}

/// Metadata whose fields are taken as they come: what a test writes is well-formed.
struct OpenMetadata;

impl ObjectSchema for OpenMetadata {
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

    fn as_any(&self) -> &dyn Any {
        self
    }
}
