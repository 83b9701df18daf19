//! The schema of a custom resource: metadata as every object has it, the rest by its structural schema.

use std::any::Any;
use std::sync::Arc;

use super::{Structural, StructuralNode, check, defaults, prune};
use crate::field::{FieldErrors, FieldPath};
use crate::kind::Validation;
use crate::schema::{ConformError, Conformed, Node, ObjectSchema};
use crate::value::{Map, Value};

/// A custom resource's schema in one version.
pub struct CustomSchema {
    structural: Structural,
    /// The declaration, for publishing.
    declared: Value,
    /// The schema of `metadata` alone.
    metadata: Arc<dyn ObjectSchema>,
    defaults: bool,
}

impl CustomSchema {
    /// `declared` is `openAPIV3Schema`, or `Null` for a version without a schema (everything is kept then);
    /// `metadata` is the schema of an `ObjectMeta`.
    pub fn new(declared: Value, metadata: Arc<dyn ObjectSchema>, path: &FieldPath) -> Result<Self, FieldErrors> {
        let structural = if declared.is_null() {
            Structural { preserve_unknown: true, ..Structural::default() }
        } else {
            Structural::parse(&declared, path)?
        };
        let defaults = defaults::any(&structural);
        Ok(Self { structural, declared, metadata, defaults })
    }

    pub fn structural(&self) -> &Structural {
        &self.structural
    }

    /// `openAPIV3Schema` as declared; `Null` where there is none.
    pub fn declared(&self) -> &Value {
        &self.declared
    }

    fn conform_metadata(&self, metadata: Value) -> Result<Conformed, ConformError> {
        let mut conformed = self.metadata.conform(metadata)?;
        for unknown in &mut conformed.unknown {
            if let Some(rest) = unknown.strip_prefix("unknown field \"") {
                *unknown = format!("unknown field \"metadata.{rest}");
            }
        }
        Ok(conformed)
    }
}

impl ObjectSchema for CustomSchema {
    fn conform(&self, value: Value) -> Result<Conformed, ConformError> {
        let Value::Object(mut map) = value else {
            return Err(ConformError("the body of a custom resource must be an object".to_owned()));
        };
        let mut unknown = Vec::new();
        let mut object = Map::with_capacity(map.len());
        for key in ["kind", "apiVersion"] {
            if let Some(value) = map.remove(key) {
                object.insert(key, value);
            }
        }
        let metadata = self.conform_metadata(map.remove("metadata").unwrap_or_else(Value::object))?;
        unknown.extend(metadata.unknown);
        object.insert("metadata", metadata.value);
        map.sort_keys();
        object.extend(map);
        let dropped = prune::prune_object(&mut object, &self.structural);
        unknown.extend(dropped.iter().map(|path| format!("unknown field {path:?}")));
        let mut value = Value::Object(object);
        defaults::drop_refused_nulls(&mut value, &self.structural);
        Ok(Conformed { value, unknown })
    }

    fn default(&self, value: &mut Value) {
        if self.defaults {
            defaults::fill(value, &self.structural);
        }
    }

    fn defaults_on_read(&self) -> bool {
        self.defaults
    }

    fn validate(&self, validation: Validation<'_>, path: &FieldPath, errors: &mut FieldErrors) {
        check::check(validation.object, &self.structural, path, errors);
        check::check_lists(validation.object, &self.structural, path, errors);
    }

    fn decode_protobuf(&self, _message: &[u8]) -> Option<Result<Value, ConformError>> {
        None
    }

    fn node(&self) -> Node<'_> {
        Node::Structural(StructuralNode { schema: &self.structural, metadata: Some(&*self.metadata) })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
