//! The zero value of each type as Go writes it: a non-pointer struct appears as `{}`, a list, map or pointer without
//! `omitempty` as `null`.

use super::{Field, FieldType, Special, TypeId, TypeTable};
use crate::value::{Map, Str, Value};

impl TypeTable {
    /// What Go writes for a struct nobody has set a field of.
    pub(super) fn zero(&self, ty: TypeId) -> &Map {
        let def = self.get(ty);
        def.links.zero.get_or_init(|| {
            let fields = def.links.always.iter().map(|index| &def.fields[usize::from(*index)]);
            fields.map(|field| (Str::const_new(field.json), self.zero_field(field))).collect()
        })
    }

    pub(super) fn zero_field(&self, field: &Field) -> Value {
        if field.pointer {
            return Value::Null;
        }
        match &field.ty {
            FieldType::List(_) | FieldType::WrappedList(_) | FieldType::Map(_) | FieldType::Bytes => Value::Null,
            other => self.zero_value(other),
        }
    }

    /// The zero value as an item of a list or map, where nothing can be left out.
    pub(in crate::schema) fn zero_value(&self, ty: &FieldType) -> Value {
        match ty {
            FieldType::Bool => Value::Bool(false),
            FieldType::Int32 | FieldType::Int64 | FieldType::Float64 => Value::Int(0),
            FieldType::String | FieldType::Bytes => Value::String(Str::const_new("")),
            FieldType::Struct(id) => Value::Object(self.zero(*id).clone()),
            FieldType::List(_) | FieldType::WrappedList(_) => Value::Array(Vec::new()),
            FieldType::Map(_) => Value::object(),
            FieldType::Special(Special::Quantity) => Value::String(Str::const_new("0")),
            FieldType::Special(Special::Duration) => Value::String(Str::const_new("0s")),
            FieldType::Special(Special::IntOrString) => Value::Int(0),
            FieldType::Special(Special::SchemaOrBool(_)) => Value::Bool(false),
            FieldType::Special(_) => Value::Null,
        }
    }
}
