//! What server-side apply asks of a schema beside the kinds of lists and maps.

use super::Node;
use super::structural::{Additional, StructuralNode};
use super::table::{FieldType, Special};
use crate::value::{Map, Value};

/// What may stand at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Map,
    List,
    Scalar,
}

/// Which scalars may stand at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ScalarKind {
    Boolean,
    Numeric,
    String,
    Any,
}

impl Node<'_> {
    /// What may stand here; `None` where the schema leaves it open.
    pub fn shape(self) -> Option<Shape> {
        match self {
            Node::Table(node) => match node.ty {
                FieldType::Struct(_) | FieldType::Map(_) => Some(Shape::Map),
                FieldType::List(_) | FieldType::WrappedList(_) => Some(Shape::List),
                FieldType::Special(
                    Special::RawExtension
                    | Special::FieldsV1
                    | Special::Json
                    | Special::SchemaOrArray(_)
                    | Special::SchemaOrBool(_)
                    | Special::SchemaOrStrings(_),
                ) => None,
                _ => Some(Shape::Scalar),
            },
            Node::Structural(node) => match node.schema.kind.as_str() {
                "object" => Some(Shape::Map),
                "array" => Some(Shape::List),
                "string" | "integer" | "number" | "boolean" => Some(Shape::Scalar),
                _ => None,
            },
            Node::Unknown => None,
        }
    }

    /// Whether this is a struct that names the field; the keys of a map are not declared.
    pub fn declares(self, name: &str) -> bool {
        match self {
            Node::Table(node) => matches!(node.ty, FieldType::Struct(_)) && !matches!(node.field(name), Node::Unknown),
            Node::Structural(node) => node.schema.properties.contains_key(name) || carries(node, name),
            Node::Unknown => false,
        }
    }

    /// Whether fields that are not declared may not stand here.
    pub fn is_closed(self) -> bool {
        match self {
            Node::Table(node) => matches!(node.ty, FieldType::Struct(_)),
            Node::Structural(node) => {
                let schema = node.schema;
                schema.kind == "object"
                    && !schema.preserve_unknown
                    && matches!(schema.additional, Additional::None)
                    && !schema.properties.is_empty()
            }
            Node::Unknown => false,
        }
    }

    /// The default of a field of the struct that stands here.
    pub fn default_of(self, name: &str) -> Option<Value> {
        match self {
            Node::Table(node) => {
                let FieldType::Struct(id) = node.ty else { return None };
                let default = node.table.get(*id).default?;
                let mut fields = Map::new();
                default(&mut fields);
                fields.remove(name)
            }
            Node::Structural(node) => node.schema.properties.get(name)?.default.clone(),
            Node::Unknown => None,
        }
    }

    /// The object that nobody has set a field of, as Go writes it: structs are there, a custom resource is empty.
    pub fn zero(self) -> Value {
        match self {
            Node::Table(node) => node.table.zero_value(node.ty),
            Node::Structural(_) | Node::Unknown => Value::object(),
        }
    }

    /// What is wrong with a scalar here, as `expected string, got …`; `got` prints a value.
    pub(crate) fn wrong_scalar(self, value: &Value) -> Option<String> {
        let (kind, got) = (self.scalar_kind(), go_print(value));
        match (kind, value) {
            (ScalarKind::Boolean, Value::Bool(_))
            | (ScalarKind::Numeric, Value::Int(_) | Value::Float(_))
            | (ScalarKind::String, Value::String(_))
            | (ScalarKind::Any, _) => None,
            (ScalarKind::Boolean, _) => Some(format!("expected boolean, got &{{{got}}}")),
            (ScalarKind::Numeric, _) => Some(format!("expected numeric (int or float), got {}", go_type(value))),
            (ScalarKind::String, _) => Some(format!("expected string, got &value.valueUnstructured{{Value:{got}}}")),
        }
    }

    fn scalar_kind(self) -> ScalarKind {
        match self {
            Node::Table(node) => match node.ty {
                FieldType::Bool => ScalarKind::Boolean,
                FieldType::Int32 | FieldType::Int64 | FieldType::Float64 => ScalarKind::Numeric,
                FieldType::String | FieldType::Bytes => ScalarKind::String,
                _ => ScalarKind::Any,
            },
            Node::Structural(node) if !node.schema.int_or_string => match node.schema.kind.as_str() {
                "boolean" => ScalarKind::Boolean,
                "integer" | "number" => ScalarKind::Numeric,
                "string" => ScalarKind::String,
                _ => ScalarKind::Any,
            },
            Node::Structural(_) | Node::Unknown => ScalarKind::Any,
        }
    }
}

/// The fields of every object, which a custom resource's schema need not name.
fn carries(node: StructuralNode<'_>, name: &str) -> bool {
    let object = node.metadata.is_some() || node.schema.embedded_resource;
    object && matches!(name, "apiVersion" | "kind" | "metadata")
}

fn go_print(value: &Value) -> String {
    match value {
        Value::String(text) => text.to_string(),
        other => crate::json::to_string(other),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int64",
        Value::Float(_) => "float64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
