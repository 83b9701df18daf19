//! The built-in types as one table: what Go's struct tags say of every type of `k8s.io/api`, as data. Decoding, defaults,
//! validation and protobuf are walks over this table, one file each below; [`TableSchema`] joins them for one kind.

mod bytes;
mod conform;
mod fault;
mod kind_schema;
mod node;
mod protobuf;
mod special;
mod walk;
mod zero;

pub use kind_schema::TableSchema;
pub use node::TableNode;

use std::collections::HashMap;
use std::sync::OnceLock;

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
    /// Named types that are no structs, by name (`core/v1.ResourceList`), and the Go type behind them (`{}Quantity`).
    pub aliases: HashMap<&'static str, &'static str, ahash::RandomState>,
}

/// One struct type.
#[derive(Default)]
pub struct TypeDef {
    /// Package path below the module and name: `core/v1.Pod`, `meta/v1.ObjectMeta`.
    pub name: &'static str,
    /// The fields of its JSON object in Go's order, after [`TypeTable::link`] those of inlined structs included.
    pub fields: Vec<Field>,
    /// Inlined structs: their fields stand in this one's JSON object, but in a message of their own in protobuf.
    pub inlined: Vec<Inlined>,
    /// Owned as a whole by server-side apply.
    pub atomic: bool,
    /// Fills in this struct's own fields; called before its children are visited.
    pub default: Option<fn(&mut Map)>,
    /// Checks this struct's own fields. The second value is the same struct in the stored object, where it can be
    /// found (same path; list items by merge key).
    pub validate: Option<ValidateFn>,
    links: Links,
}

/// What is derived from the whole table for one type; see [`TypeTable::link`].
#[derive(Default)]
struct Links {
    /// This type or one below it has a default hook.
    defaults: bool,
    /// This type or one below it has a validation hook.
    validates: bool,
    /// Fields that Go writes even when they are zero.
    always: Vec<u16>,
    /// Protobuf field numbers, sorted, and where the field stands.
    numbers: Vec<(u32, Slot)>,
    /// The zero value as Go writes it.
    zero: OnceLock<Map>,
}

/// Where a protobuf field stands in its [`TypeDef`].
#[derive(Clone, Copy)]
enum Slot {
    Field(u16),
    Inlined(u16),
}

/// A rule attached to a type: the struct, the stored one, its path.
pub type ValidateFn = fn(&Map, Option<&Map>, &FieldPath, &mut FieldErrors);

/// A struct that is inlined in another.
#[derive(Clone, Copy, Debug)]
pub struct Inlined {
    /// The embedded field's name in Go, which decoding errors print.
    pub go: &'static str,
    /// Protobuf field number; 0 where it has none (`TypeMeta`).
    pub number: u32,
    pub ty: TypeId,
    /// How many of the type's own fields stand before it.
    pub at: u16,
}

/// One field of a struct.
#[derive(Clone, Debug)]
pub struct Field {
    pub json: &'static str,
    /// Protobuf field number; 0 where the type has no protobuf form.
    pub number: u32,
    pub ty: FieldType,
    /// The Go type as the facts spell it: `*core/v1.Probe`, `[]string`, `{}Quantity`.
    pub spelled: &'static str,
    /// A Go pointer: absent and zero differ.
    pub pointer: bool,
    pub omit_empty: bool,
    /// `omitzero`: left out where the whole struct is zero.
    pub omit_zero: bool,
    /// Index into [`TypeDef::inlined`] where the field comes from there.
    pub inlined: Option<u16>,
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
    /// A list that is a message of its own in protobuf, with the items in field 1.
    WrappedList(Box<FieldType>),
    /// String keys.
    Map(Box<FieldType>),
    Special(Special),
}

/// Types with a JSON form of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Special {
    Time,
    MicroTime,
    /// As Go prints it: `1m30s`.
    Duration,
    Quantity,
    IntOrString,
    RawExtension,
    FieldsV1,
    /// apiextensions' free JSON.
    Json,
    /// One schema or several; of this type.
    SchemaOrArray(TypeId),
    SchemaOrBool(TypeId),
    SchemaOrStrings(TypeId),
}

impl TypeTable {
    /// A table of types whose ids are their positions. Rules may be attached until [`Self::link`].
    pub fn new(types: Vec<TypeDef>) -> Self {
        let by_name = types.iter().zip(0..).map(|(def, id)| (def.name, TypeId(id))).collect();
        Self { types, by_name, ..Self::default() }
    }

    /// # Panics
    /// If `ty` is not of this table.
    pub fn get(&self, ty: TypeId) -> &TypeDef {
        &self.types[ty.0 as usize]
    }

    pub fn lookup(&self, name: &str) -> Option<TypeId> {
        self.by_name.get(name).copied()
    }

    /// Flattens inlined structs and derives what the walks need. Must be called once, after the last hook is attached.
    pub fn link(&mut self) {
        let inlining = (0..self.types.len()).filter(|id| !self.types[*id].inlined.is_empty());
        let flat: Vec<_> = inlining.map(|id| (id, self.flattened(&self.types[id]))).collect();
        for (id, fields) in flat {
            self.types[id].fields = fields;
        }
        for id in 0..self.types.len() {
            let def = &self.types[id];
            let (numbers, always) = (def.numbers(), def.always());
            let (defaults, validates) = (def.default.is_some(), def.validate.is_some());
            self.types[id].links = Links { defaults, validates, always, numbers, zero: OnceLock::new() };
        }
        while self.spread_hooks() {}
    }

    fn flattened(&self, def: &TypeDef) -> Vec<Field> {
        let mut fields = Vec::with_capacity(def.fields.len());
        for at in 0..=def.fields.len() {
            let here = (0u16..).zip(&def.inlined).filter(|(_, inlined)| usize::from(inlined.at) == at);
            for (index, inlined) in here {
                let below = self.flattened(self.get(inlined.ty)).into_iter();
                fields.extend(below.map(|field| Field { inlined: Some(index), ..field }));
            }
            fields.extend(def.fields.get(at).cloned());
        }
        fields
    }

    /// Tells each type of the hooks one level below it; whether anything was new.
    fn spread_hooks(&mut self) -> bool {
        let mut changed = false;
        for id in 0..self.types.len() {
            let links = &self.types[id].links;
            let (mut defaults, mut validates) = (links.defaults, links.validates);
            for below in self.types[id].structs_below() {
                let links = &self.get(below).links;
                defaults |= links.defaults;
                validates |= links.validates;
            }
            let links = &mut self.types[id].links;
            changed |= links.defaults != defaults || links.validates != validates;
            (links.defaults, links.validates) = (defaults, validates);
        }
        changed
    }
}

impl TypeDef {
    /// A type with its own fields and the structs inlined in it; `atomic` as in [`Self::atomic`].
    pub fn new(name: &'static str, fields: Vec<Field>, inlined: Vec<Inlined>, atomic: bool) -> Self {
        Self { name, fields, inlined, atomic, ..Self::default() }
    }

    /// The position of a field. Looks from `guess` on, so that fields in canonical order are found at once.
    fn position(&self, json: &str, guess: usize) -> Option<usize> {
        let (before, after) = self.fields.split_at(guess.min(self.fields.len()));
        let found = after.iter().position(|field| field.json == json).map(|index| index + before.len());
        found.or_else(|| before.iter().position(|field| field.json == json))
    }

    /// The name as Go's errors print it: `DeploymentSpec`.
    fn short_name(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }

    fn structs_below(&self) -> impl Iterator<Item = TypeId> {
        let inlined = self.inlined.iter().map(|inlined| inlined.ty);
        inlined.chain(self.fields.iter().filter_map(|field| field.ty.structure()))
    }

    fn always(&self) -> Vec<u16> {
        (0..).zip(&self.fields).filter(|(_, field)| field.always()).map(|(index, _)| index).collect()
    }

    fn numbers(&self) -> Vec<(u32, Slot)> {
        let own = (0..).zip(&self.fields).filter(|(_, field)| field.inlined.is_none());
        let own = own.map(|(index, field)| (field.number, Slot::Field(index)));
        let inlined = (0..).zip(&self.inlined).map(|(index, inlined)| (inlined.number, Slot::Inlined(index)));
        let mut numbers: Vec<_> = own.chain(inlined).filter(|(number, _)| *number != 0).collect();
        numbers.sort_unstable_by_key(|(number, _)| *number);
        numbers
    }
}

impl Field {
    /// Whether Go writes the field even when it is zero: `omitempty` leaves out no struct.
    fn always(&self) -> bool {
        let empty_is_left_out = self.omit_empty && (self.pointer || !self.ty.is_go_struct());
        !self.omit_zero && !empty_is_left_out
    }
}

impl FieldType {
    /// Whether the Go type is a struct, which `omitempty` never leaves out.
    fn is_go_struct(&self) -> bool {
        matches!(self, Self::Struct(_) | Self::Special(_))
    }

    /// The struct type of the value, of its items, or of its map values.
    fn structure(&self) -> Option<TypeId> {
        match self {
            Self::Struct(id) => Some(*id),
            Self::List(inner) | Self::WrappedList(inner) | Self::Map(inner) => inner.structure(),
            Self::Special(Special::SchemaOrArray(id) | Special::SchemaOrBool(id) | Special::SchemaOrStrings(id)) => {
                Some(*id)
            }
            _ => None,
        }
    }
}
