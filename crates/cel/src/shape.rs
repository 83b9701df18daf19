//! What the nodes of an object's tree mean: how the checker sees them, and which values they become.

use std::collections::BTreeMap;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use corten_apimachinery::value::Value as Tree;

use crate::environment::Environment;
use crate::library::conversion;
use crate::types::Type;
use crate::value::{List, Map, Value};

/// The meaning of one node.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Whatever is there.
    Dyn,
    Bool,
    Int,
    /// Whole numbers of the tree become doubles.
    Double,
    String,
    /// A string in Base64.
    Bytes,
    /// A string by RFC 3339.
    Timestamp,
    /// A string like `1h30m`.
    Duration,
    List(Box<Item>),
    Map(Box<Shape>),
    Object(Box<Object>),
    /// A shape inside a list that is not ordered.
    Item(Box<Shape>, ListKind),
}

/// The items of a list, and what the list is.
#[derive(Clone, Debug)]
pub struct Item {
    pub shape: Shape,
}

/// Which items of a list are the same, and whether their order counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListKind {
    #[default]
    Atomic,
    Set,
    /// Items are told apart by these fields.
    Map(Vec<String>),
}

/// An object with named fields.
#[derive(Clone, Debug)]
pub struct Object {
    pub type_name: Arc<str>,
    /// By the name that expressions use.
    pub fields: BTreeMap<String, Property>,
}

#[derive(Clone, Debug)]
pub struct Property {
    /// Its name in the tree.
    pub name: String,
    pub shape: Shape,
}

static DYN: Shape = Shape::Dyn;

impl Shape {
    /// The shape of everything that nobody described.
    pub fn any() -> &'static Self {
        &DYN
    }

    pub fn list(item: Self, kind: ListKind) -> Self {
        let shape = if kind == ListKind::Atomic { item } else { Self::Item(Box::new(item), kind) };
        Self::List(Box::new(Item { shape }))
    }

    /// The type that the checker sees. Types of objects have to be declared beside it (`declare`).
    pub fn declared(&self) -> Type {
        match self {
            Self::Dyn => Type::Dyn,
            Self::Bool => Type::Bool,
            Self::Int => Type::Int,
            Self::Double => Type::Double,
            Self::String => Type::String,
            Self::Bytes => Type::Bytes,
            Self::Timestamp => Type::Timestamp,
            Self::Duration => Type::Duration,
            Self::List(item) => Type::list(item.shape.declared()),
            Self::Map(value) => Type::map(Type::String, value.declared()),
            Self::Object(object) => Type::Object(object.type_name.clone()),
            Self::Item(shape, _) => shape.declared(),
        }
    }

    /// `environment` with all types of objects that this one is made of.
    pub fn declare(&self, environment: Environment) -> Environment {
        match self {
            Self::List(item) => item.shape.declare(environment),
            Self::Map(value) | Self::Item(value, _) => value.declare(environment),
            Self::Object(object) => {
                let fields = object.fields.iter().map(|(name, property)| (name.as_str(), property.shape.declared()));
                let environment = environment.with_object(&object.type_name, fields);
                object.fields.values().fold(environment, |environment, property| property.shape.declare(environment))
            }
            _ => environment,
        }
    }

    /// What a node means. What does not have this shape is read as what it is.
    pub fn read<'a>(&'a self, node: &'a Tree) -> Value<'a> {
        match (self, node) {
            (Self::Item(shape, _), _) => shape.read(node),
            (Self::Double, Tree::Int(number)) => Value::Double(*number as f64),
            (_, Tree::Null) => Value::Null,
            (_, Tree::Bool(flag)) => Value::Bool(*flag),
            (_, Tree::Int(number)) => Value::Int(*number),
            (_, Tree::Float(number)) => Value::Double(*number),
            (Self::Timestamp | Self::Duration | Self::Bytes, Tree::String(text)) => {
                self.read_text(text).unwrap_or(Value::borrowed(text))
            }
            (_, Tree::String(text)) => Value::borrowed(text),
            (Self::List(item), Tree::Array(items)) => Value::List(List::Tree(items, &item.shape)),
            (_, Tree::Array(items)) => Value::List(List::Tree(items, Self::any())),
            (Self::Map(_) | Self::Object(_), Tree::Object(map)) => Value::Map(Map::Tree(map, self)),
            (_, Tree::Object(map)) => Value::Map(Map::Tree(map, Self::any())),
        }
    }

    fn read_text<'a>(&self, text: &str) -> Option<Value<'a>> {
        match self {
            Self::Timestamp => conversion::timestamp(text)
                .or_else(|| conversion::timestamp(&format!("{text}T00:00:00Z")))
                .map(Value::Timestamp),
            Self::Duration => conversion::duration(text).map(Value::Duration),
            _ => STANDARD.decode(text).map(|bytes| Value::Bytes(bytes.into())).ok(),
        }
    }

    /// The shape of a field of this object, and its name in the tree where that is another.
    pub(crate) fn field(&self, name: &str) -> Option<(Option<&str>, &Self)> {
        match self {
            Self::Object(object) => {
                object.fields.get(name).map(|property| (Some(property.name.as_str()), &property.shape))
            }
            Self::Map(value) => Some((None, value)),
            _ => Some((None, Self::any())),
        }
    }

    pub(crate) fn has_named_fields(&self) -> bool {
        matches!(self, Self::Object(_))
    }

    /// How expressions spell a field of the tree; `None` where they cannot see it.
    pub(crate) fn spelled<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        match self {
            Self::Object(object) => match object.fields.get_key_value(name) {
                Some((spelled, property)) if property.name == name => Some(spelled),
                _ => object
                    .fields
                    .iter()
                    .find(|(_, property)| property.name == name)
                    .map(|(spelled, _)| spelled.as_str()),
            },
            _ => Some(name),
        }
    }

    pub(crate) fn list_kind(&self) -> &ListKind {
        match self {
            Self::Item(_, kind) => kind,
            _ => &ListKind::Atomic,
        }
    }
}
