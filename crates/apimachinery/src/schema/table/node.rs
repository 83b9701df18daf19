//! Where a value stands in the table, as patches and field ownership ask for it.

use super::{Field, FieldType, ListTag, Special, TypeTable};
use crate::schema::{ListKind, Node, PatchTags};

/// A position in the table: a struct, or a field's value.
#[derive(Clone, Copy)]
pub struct TableNode<'a> {
    pub table: &'a TypeTable,
    pub ty: &'a FieldType,
    /// The field that holds the value here; its tags. `None` for the root and below lists and maps.
    pub field: Option<&'a Field>,
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
            FieldType::List(item) | FieldType::WrappedList(item) => {
                Node::Table(TableNode { table: self.table, ty: item, field: None })
            }
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
        let of_type = match self.ty {
            FieldType::Struct(id) => self.table.get(*id).atomic,
            FieldType::Special(Special::RawExtension) => true,
            _ => false,
        };
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
