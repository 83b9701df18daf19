//! The built-in types as one table: what Go's struct tags say of every type of `k8s.io/api`, as data.

use std::collections::HashMap;

use super::{ListKind, Node, PatchTags};
use crate::field::{FieldErrors, FieldPath};
use crate::value::{Map, Str};

/// Index of a type in its [`TypeTable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TypeId(pub u32);

/// All built-in types.
#[derive(Default)]
pub struct TypeTable {
    pub types: Vec<TypeDef>,
    pub by_name: HashMap<&'static str, TypeId, ahash::RandomState>,
}

/// One struct type.
pub struct TypeDef {
    /// Package path below the module and name: `core/v1.Pod`, `meta/v1.ObjectMeta`.
    pub name: &'static str,
    /// In Go's order, inlined structs flattened for JSON (see [`Field::inline`] for protobuf).
    pub fields: Vec<Field>,
    /// Owned as a whole by server-side apply.
    pub atomic: bool,
    /// Fills in this struct's own fields; called before its children are visited.
    pub default: Option<fn(&mut Map)>,
    /// Checks this struct's own fields. The second value is the same struct in the stored object, where it can be
    /// found (same path; list items by merge key).
    pub validate: Option<ValidateFn>,
}

/// A rule attached to a type: the struct, the stored one, its path.
pub type ValidateFn = fn(&Map, Option<&Map>, &FieldPath, &mut FieldErrors);

/// One field of a struct.
pub struct Field {
    pub json: &'static str,
    /// Protobuf field number; 0 where the type has no protobuf form.
    pub number: u32,
    pub ty: FieldType,
    /// A Go pointer: absent and zero differ.
    pub pointer: bool,
    pub omit_empty: bool,
    /// The struct's fields stand in the parent's JSON object, but in a message of their own in protobuf.
    pub inline: bool,
    pub list: ListTag,
    pub atomic_map: bool,
    pub patch_merge: bool,
    pub patch_retain_keys: bool,
    pub merge_key: Option<&'static str>,
    /// `+required`, or neither optional nor omitempty.
    pub required: bool,
    /// The values of a `+enum` type; empty for any.
    pub enumeration: &'static [&'static str],
}

/// `+listType` and its keys.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListTag {
    #[default]
    Atomic,
    Set,
    Map(Vec<Str>),
}

/// The type of a field's value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldType {
    Bool,
    Int32,
    Int64,
    Float64,
    String,
    /// Base64 in JSON.
    Bytes,
    Struct(TypeId),
    List(Box<FieldType>),
    /// String keys.
    Map(Box<FieldType>),
    Special(Special),
}

/// Types with a JSON form of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Time,
    MicroTime,
    Duration,
    Quantity,
    IntOrString,
    RawExtension,
    FieldsV1,
    /// apiextensions' free JSON.
    Json,
    JsonSchemaPropsOrArray,
    JsonSchemaPropsOrBool,
    JsonSchemaPropsOrStringArray,
}

/// A position in the table: a struct, or a field's value.
#[derive(Clone, Copy)]
pub struct TableNode<'a> {
    pub table: &'a TypeTable,
    pub ty: &'a FieldType,
    /// The field that holds the value here; its tags. `None` for the root and below lists and maps.
    pub field: Option<&'a Field>,
}

impl TypeTable {
    /// The root node of a type.
    ///
    /// # Panics
    /// If `ty` is not of this table.
    pub fn get(&self, ty: TypeId) -> &TypeDef {
        &self.types[ty.0 as usize]
    }

    pub fn lookup(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }
}

impl<'a> TableNode<'a> {
    pub fn field(self, name: &str) -> Node<'a> {
        match self.ty {
            FieldType::Struct(id) => match self.table.get(*id).fields.iter().find(|field| field.json == name) {
                Some(field) => Node::Table(TableNode { table: self.table, ty: &field.ty, field: Some(field) }),
                None => Node::Unknown,
            },
            FieldType::Map(value) => Node::Table(TableNode { table: self.table, ty: value, field: None }),
            _ => Node::Unknown,
        }
    }

    pub fn item(self) -> Node<'a> {
        match self.ty {
            FieldType::List(item) => Node::Table(TableNode { table: self.table, ty: item, field: None }),
            _ => Node::Unknown,
        }
    }

    pub fn list_kind(self) -> ListKind<'a> {
        match self.field.map(|field| &field.list) {
            Some(ListTag::Set) => ListKind::Set,
            Some(ListTag::Map(keys)) => ListKind::Map(keys),
            Some(ListTag::Atomic) | None => ListKind::Atomic,
        }
    }

    pub fn atomic_map(self) -> bool {
        let of_type = matches!(self.ty, FieldType::Struct(id) if self.table.get(*id).atomic);
        of_type || self.field.is_some_and(|field| field.atomic_map)
    }

    pub fn patch_tags(self) -> PatchTags<'a> {
        self.field.map_or_else(PatchTags::default, |field| PatchTags {
            merge: field.patch_merge,
            retain_keys: field.patch_retain_keys,
            merge_key: field.merge_key,
        })
    }
}
