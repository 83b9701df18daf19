//! One type of the table as the schema of a kind.

use std::any::Any;

use super::conform::Pass;
use super::{FieldType, TableNode, TypeId, TypeTable};
use crate::field::{FieldErrors, FieldPath};
use crate::kind::Validation;
use crate::schema::{ConformError, Conformed, Node, ObjectSchema};
use crate::value::Value;

/// The schema of a built-in type.
pub struct TableSchema {
    table: &'static TypeTable,
    ty: TypeId,
    root: FieldType,
}

impl TableSchema {
    pub fn new(table: &'static TypeTable, ty: TypeId) -> Self {
        Self { table, ty, root: FieldType::Struct(ty) }
    }

    pub fn table(&self) -> &'static TypeTable {
        self.table
    }

    pub fn ty(&self) -> TypeId {
        self.ty
    }
}

impl ObjectSchema for TableSchema {
    fn conform(&self, mut value: Value) -> Result<Conformed, ConformError> {
        let mut pass = Pass { table: self.table, unknown: Vec::new() };
        if value.is_null() {
            value = Value::object();
        }
        let outcome = pass.value(&self.root, &mut value);
        outcome.map_err(|fault| ConformError(fault.message(self.table.get(self.ty).name)))?;
        let unknown = pass.unknown.iter().map(|path| format!("unknown field \"{path}\"")).collect();
        Ok(Conformed { value, unknown })
    }

    fn default(&self, value: &mut Value) {
        if let Value::Object(map) = value
            && self.table.defaults_below(self.ty)
        {
            self.table.fill_struct(self.ty, map);
            self.table.sort_struct(self.ty, map);
        }
    }

    /// Objects are stored with their defaults; a release that adds one rewrites what is stored.
    fn defaults_on_read(&self) -> bool {
        false
    }

    fn validate(&self, validation: Validation<'_>, path: &FieldPath, errors: &mut FieldErrors) {
        if let Value::Object(map) = validation.object {
            let old = validation.old.and_then(Value::as_object);
            self.table.check_struct(self.ty, map, old, path, errors);
        }
    }

    fn decode_protobuf(&self, message: &[u8]) -> Option<Result<Value, ConformError>> {
        Some(self.table.decode_message(self.ty, message).map_err(|error| ConformError(error.to_string())))
    }

    fn encode_protobuf(&self, object: &Value) -> Option<Result<Vec<u8>, ConformError>> {
        let Value::Object(map) = object else {
            return Some(Err(ConformError("an object is expected".to_owned())));
        };
        Some(self.table.encode_message(self.ty, map).map_err(|error| ConformError(error.to_string())))
    }

    fn node(&self) -> Node<'_> {
        Node::Table(TableNode { table: self.table, ty: &self.root, field: None })
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
