//! What an object of a kind may look like. Two implementations: the generated table of the built-in types
//! ([`table`]) and a custom resource's structural schema ([`structural`]). The generic path knows the trait alone.

mod ownership;
pub mod structural;
pub mod table;

pub use ownership::Shape;

use std::any::Any;

use crate::field::{FieldErrors, FieldPath};
use crate::kind::Validation;
use crate::value::{Str, Value};

/// The schema of one kind in one version.
pub trait ObjectSchema: Send + Sync + Any {
    /// Makes a decoded tree an object of this kind: refuses wrong types, drops what is not in the schema (its paths are
    /// returned, upstream's strict decoding errors), brings fields into canonical order and drops empty ones as Go's
    /// `omitempty` would. Idempotent.
    fn conform(&self, value: Value) -> Result<Conformed, ConformError>;

    /// Fills in defaults. Idempotent; also applied to stored objects when they are read.
    fn default(&self, value: &mut Value);

    /// Whether `default` may change a stored object, so that reads must apply it.
    fn defaults_on_read(&self) -> bool;

    /// The rules that are attached to the schema's types.
    fn validate(&self, validation: Validation<'_>, path: &FieldPath, errors: &mut FieldErrors);

    /// Decodes the protobuf message of this kind (without the envelope); the result still has to be conformed.
    /// `None`: this kind has no protobuf form, and the request is answered 415.
    fn decode_protobuf(&self, message: &[u8]) -> Option<Result<Value, ConformError>>;

    /// The protobuf message of a conformed object (without the envelope). `None`: this kind has no protobuf form, and the
    /// answer is JSON or 406.
    fn encode_protobuf(&self, _object: &Value) -> Option<Result<Vec<u8>, ConformError>> {
        None
    }

    /// The root of the tree of merge facts.
    fn node(&self) -> Node<'_>;

    /// The OpenAPI v3 schema of the kind under its definition name, or a reference to it.
    fn as_any(&self) -> &dyn Any;
}

/// A conformed object and what had to be dropped.
#[derive(Clone, Debug, PartialEq)]
pub struct Conformed {
    pub value: Value,
    /// Upstream's strict decoding errors in its order: `unknown field "spec.foo"`.
    pub unknown: Vec<String>,
}

/// A body that is no object of the kind at all; answered 400.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct ConformError(pub String);

/// A position in a schema, as patches and field ownership ask for it. Cheap to copy.
#[derive(Clone, Copy)]
pub enum Node<'a> {
    Table(table::TableNode<'a>),
    Structural(structural::StructuralNode<'a>),
    /// Below a field that the schema leaves open: maps are merged, lists replaced.
    Unknown,
}

/// How a list is merged (KEP-2332).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ListKind<'a> {
    Atomic,
    Set,
    /// Items are told apart by these fields.
    Map(&'a [Str]),
}

/// Strategic merge patch's tags on one field (`patchStrategy`, `patchMergeKey`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PatchTags<'a> {
    pub merge: bool,
    pub retain_keys: bool,
    pub merge_key: Option<&'a str>,
}

impl<'a> Node<'a> {
    /// The node of a field, or of a map's value.
    pub fn field(self, name: &str) -> Node<'a> {
        match self {
            Node::Table(node) => node.field(name),
            Node::Structural(node) => node.field(name),
            Node::Unknown => Node::Unknown,
        }
    }

    /// The node of a list's items.
    pub fn item(self) -> Node<'a> {
        match self {
            Node::Table(node) => node.item(),
            Node::Structural(node) => node.item(),
            Node::Unknown => Node::Unknown,
        }
    }

    /// How the list that stands here is merged by server-side apply.
    pub fn list_kind(self) -> ListKind<'a> {
        match self {
            Node::Table(node) => node.list_kind(),
            Node::Structural(node) => node.list_kind(),
            Node::Unknown => ListKind::Atomic,
        }
    }

    /// Whether the map or struct that stands here is owned as a whole (`x-kubernetes-map-type: atomic`).
    pub fn atomic_map(self) -> bool {
        match self {
            Node::Table(node) => node.atomic_map(),
            Node::Structural(node) => node.atomic_map(),
            Node::Unknown => false,
        }
    }

    /// Strategic merge patch's tags; custom resources have none.
    pub fn patch_tags(self) -> PatchTags<'a> {
        match self {
            Node::Table(node) => node.patch_tags(),
            Node::Structural(_) | Node::Unknown => PatchTags::default(),
        }
    }
}
