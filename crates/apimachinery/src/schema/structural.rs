//! A custom resource's structural schema (`apiextensions.k8s.io/v1` `JSONSchemaProps`).

use super::{ListKind, Node};
use crate::value::{Map, Str};

/// One schema of the tree.
#[derive(Clone, Debug, Default)]
pub struct Structural {
    pub properties: Vec<(Str, Structural)>,
    pub additional: Option<Box<Structural>>,
    pub items: Option<Box<Structural>>,
    pub list_type: Str,
    pub list_keys: Vec<Str>,
    pub map_atomic: bool,
    pub preserve_unknown: bool,
    /// The other keywords, as declared.
    pub keywords: Map,
}

/// A position in a structural schema.
#[derive(Clone, Copy)]
pub struct StructuralNode<'a>(pub &'a Structural);

impl<'a> StructuralNode<'a> {
    pub fn field(self, name: &str) -> Node<'a> {
        let property = self.0.properties.iter().find(|(key, _)| key == name).map(|(_, schema)| schema);
        match property.or(self.0.additional.as_deref()) {
            Some(schema) => Node::Structural(StructuralNode(schema)),
            None => Node::Unknown,
        }
    }

    pub fn item(self) -> Node<'a> {
        self.0.items.as_deref().map_or(Node::Unknown, |schema| Node::Structural(StructuralNode(schema)))
    }

    pub fn list_kind(self) -> ListKind<'a> {
        match self.0.list_type.as_str() {
            "set" => ListKind::Set,
            "map" => ListKind::Map(&self.0.list_keys),
            _ => ListKind::Atomic,
        }
    }

    pub fn atomic_map(self) -> bool {
        self.0.map_atomic
    }
}
